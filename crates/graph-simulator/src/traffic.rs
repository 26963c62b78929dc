//! What goes through: requests in flight, connections, and per phone number the arrivals and breaches.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::clock::Micros;
use crate::graph::error::GraphError;
use crate::limits::{DailyRecipients, Limits, PairBuckets, SlidingSecond};
use crate::stats::NumberStats;

/// A count of things that are now, have been at most at one time, and have ever been.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    most: AtomicU64,
    ever: AtomicU64,
}

impl Gauge {
    /// One more; the guard's drop makes it one less.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    pub(crate) fn ever(&self) -> u64 {
        self.ever.load(Ordering::Relaxed)
    }

    /// Forgets the past; what is now stays.
    pub(crate) fn reset(&self) {
        let now = self.now();
        self.most.store(now, Ordering::Relaxed);
        self.ever.store(now, Ordering::Relaxed);
    }
}

/// Something that a [`Gauge`] counts as being there.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Gauge>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Traffic of every number, and the daily recipients that numbers of a portfolio share.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    numbers: RwLock<HashMap<Box<str>, Arc<Number>>>,
    portfolios: Mutex<HashMap<Box<str>, Portfolio>>,
}

type Portfolio = Arc<Mutex<DailyRecipients>>;

impl Traffic {
    /// The traffic of a number; begins with its first request.
    pub(crate) fn number(&self, phone_number_id: &str) -> Arc<Number> {
        if let Some(number) = self.numbers.read().get(phone_number_id) {
            return Arc::clone(number);
        }
        let mut numbers = self.numbers.write();
        Arc::clone(numbers.entry(phone_number_id.into()).or_default())
    }

    /// The daily recipients of a portfolio, or of a number that is in none.
    pub(crate) fn daily(&self, portfolio_id: Option<&str>, phone_number_id: &str) -> Portfolio {
        // A slash keeps a number apart from a portfolio of the same id.
        let key = match portfolio_id {
            Some(id) => id.into(),
            None => format!("/{phone_number_id}").into_boxed_str(),
        };
        Arc::clone(self.portfolios.lock().entry(key).or_default())
    }

    pub(crate) fn arrivals(&self, phone_number_id: &str) -> Vec<Micros> {
        let numbers = self.numbers.read();
        numbers
            .get(phone_number_id)
            .map_or_else(Vec::new, |number| number.inner.lock().arrivals.iter().copied().collect())
    }

    pub(crate) fn stats(&self) -> Vec<(String, NumberStats)> {
        let numbers = self.numbers.read();
        let mut stats: Vec<_> = numbers.iter().map(|(id, number)| (id.to_string(), number.stats())).collect();
        stats.sort_by(|a, b| a.0.cmp(&b.0));
        stats
    }

    pub(crate) fn reset(&self) {
        self.numbers.write().clear();
        self.portfolios.lock().clear();
    }
}

/// Traffic of one phone number.
#[derive(Debug, Default)]
pub(crate) struct Number {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    second: SlidingSecond,
    pairs: PairBuckets,
    arrivals: VecDeque<Micros>,
    stats: NumberStats,
}

impl Number {
    /// Counts an arrival; whether it is above the messages per second.
    pub(crate) fn arrive(&self, at: Micros, limits: Limits, keep: usize) -> bool {
        let mut inner = self.inner.lock();
        let count = inner.second.arrive(at);
        inner.stats.arrivals += 1;
        if keep > 0 {
            if inner.arrivals.len() >= keep {
                inner.arrivals.pop_front();
            }
            inner.arrivals.push_back(at);
        }
        let over = limits.messages_per_second.is_some_and(|limit| count > limit as usize);
        inner.stats.over_rate += u64::from(over);
        over
    }

    /// Counts an acceptance under the limits that concern the recipient, or refuses it.
    pub(crate) fn admit(
        &self,
        recipient: u64,
        at: Micros,
        limits: Limits,
        daily: Option<&Portfolio>,
        daily_code: i64,
    ) -> Result<(), GraphError> {
        let enforce = !limits.count_only;
        // One lock for all three steps, the portfolio's after the number's: check and count are one act.
        let mut inner = self.inner.lock();
        let mut daily = daily.map(|portfolio| portfolio.lock());
        if inner.pairs.exceeds(recipient, at) {
            inner.stats.over_pair += 1;
            if enforce && limits.pair {
                return Err(GraphError::of(131056));
            }
        }
        if let (Some(daily), Some(limit)) = (&mut daily, limits.daily_recipients) {
            if daily.exceeds(recipient, limit, at) {
                inner.stats.over_daily += 1;
                if enforce {
                    return Err(GraphError::of(daily_code));
                }
            }
            daily.record(recipient, at);
            inner.stats.daily_recipients = daily.len() as u64;
        }
        inner.pairs.record(recipient, at);
        inner.stats.accepted += 1;
        Ok(())
    }

    fn stats(&self) -> NumberStats {
        let inner = self.inner.lock();
        NumberStats { worst_second: inner.second.worst() as u64, ..inner.stats }
    }
}
