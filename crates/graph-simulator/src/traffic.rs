//! What goes through: requests in flight, connections, and per phone number the arrivals and breaches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::clock::Micros;
use crate::graph::error::GraphError;
use crate::limits::{DailyRecipients, Limits, PairBuckets, SlidingSecond};
use crate::stats::NumberStats;
use crate::violations::{NumberViolations, PortfolioViolations, Violations};
use crate::windows::ServiceWindows;

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

type Portfolio = Arc<Mutex<Daily>>;

/// Unique recipients of a portfolio, with what exceeded their limit.
#[derive(Debug, Default)]
pub(crate) struct Daily {
    recipients: DailyRecipients,
    report: PortfolioViolations,
}

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

    pub(crate) fn violations(&self) -> Violations {
        let numbers = self.numbers.read();
        let numbers: BTreeMap<_, _> =
            numbers.iter().map(|(id, number)| (id.to_string(), number.violations())).collect();
        let portfolios = self.portfolios.lock();
        let portfolios = portfolios
            .iter()
            .map(|(key, daily)| (key.trim_start_matches('/').to_owned(), daily.lock().report))
            .collect();
        Violations { total: numbers.values().map(NumberViolations::total).sum(), numbers, portfolios }
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
    windows: ServiceWindows,
    /// The limits of the last request.
    limits: Limits,
    arrivals: VecDeque<Micros>,
    stats: NumberStats,
}

impl Number {
    /// Counts an arrival; whether it is above the messages per second.
    pub(crate) fn arrive(&self, at: Micros, limits: Limits, keep: usize) -> bool {
        let mut inner = self.inner.lock();
        let count = inner.second.arrive(at);
        inner.limits = limits;
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

    /// Counts a message from a user, written `ago` before it came.
    pub(crate) fn receive(&self, user: u64, at: Micros, ago: Micros, limits: Limits) {
        let mut inner = self.inner.lock();
        let count = inner.second.arrive(at);
        inner.limits = limits;
        let over = limits.messages_per_second.is_some_and(|limit| count > limit as usize);
        inner.stats.inbound += 1;
        inner.stats.inbound_over_rate += u64::from(over);
        inner.windows.open(user, at, ago);
    }

    /// Counts an acceptance under the limits that concern the recipient, or refuses it. Returns whether the
    /// recipient's service window is open: then no daily limit applies (Meta: "Messaging limits").
    pub(crate) fn admit(
        &self,
        recipient: u64,
        at: Micros,
        limits: Limits,
        daily: Option<&Portfolio>,
        daily_code: i64,
    ) -> Result<bool, GraphError> {
        let enforce = !limits.count_only;
        // One lock for all three steps, the portfolio's after the number's: check and count are one act.
        let mut inner = self.inner.lock();
        let in_window = inner.windows.is_open(recipient, at);
        let mut daily = daily.filter(|_| !in_window).map(|portfolio| portfolio.lock());
        if inner.pairs.exceeds(recipient, at) {
            inner.stats.over_pair += 1;
            if enforce && limits.pair {
                return Err(GraphError::of(131056));
            }
        }
        if let (Some(daily), Some(limit)) = (&mut daily, limits.daily_recipients) {
            daily.report.daily_recipients = Some(limit);
            if daily.recipients.exceeds(recipient, limit, at) {
                inner.stats.over_daily += 1;
                daily.report.over_daily += 1;
                if enforce {
                    return Err(GraphError::of(daily_code));
                }
            }
            daily.recipients.record(recipient, at);
            let count = daily.recipients.len() as u64;
            daily.report.most_recipients = daily.report.most_recipients.max(count);
            inner.stats.daily_recipients = count;
        }
        inner.pairs.record(recipient, at);
        inner.stats.accepted += 1;
        Ok(in_window)
    }

    fn stats(&self) -> NumberStats {
        let inner = self.inner.lock();
        NumberStats { worst_second: inner.second.worst() as u64, ..inner.stats }
    }

    fn violations(&self) -> NumberViolations {
        let inner = self.inner.lock();
        NumberViolations {
            messages_per_second: inner.limits.messages_per_second,
            worst_second: inner.second.worst() as u64,
            worst_second_at_us: inner.second.worst_at(),
            over_rate: inner.stats.over_rate,
            inbound_over_rate: inner.stats.inbound_over_rate,
            over_pair: inner.stats.over_pair,
            over_daily: inner.stats.over_daily,
        }
    }
}
