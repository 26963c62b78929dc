//! Meta's sending limits as plain arithmetic over a clock that is passed in.
//!
//! Three limits (Meta: pages "Throughput", "Messaging limits", and the pair rate limit described with
//! error 131056): messages per second of a number, unique recipients in a moving 24 hours, and one
//! sender and one recipient. Each answers the same question, "is this one above the limit?", and
//! [`crate::traffic`] decides what a breach leads to: a count, a refusal, or both.

use std::collections::{BTreeSet, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::clock::{DAY, Micros, SECOND};

/// Limits of one account. Breaches are counted always and refused unless `count_only`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Messages that one number may send in any one second; Meta: 80, or 1,000 after an upgrade.
    /// Above it: 130429.
    pub messages_per_second: Option<u32>,
    /// Unique recipients in any 24 hours, shared by all numbers of a portfolio.
    pub daily_recipients: Option<u32>,
    /// Refuse (131056) what exceeds one message per 6 seconds to one recipient after a burst of 45.
    /// Breaches are counted also without it.
    pub pair: bool,
    /// Count breaches without refusing anything.
    pub count_only: bool,
}

/// Arrivals of the last second.
///
/// Messages in both directions fill it (Meta: "Throughput"), refused ones too: who hammers on stays above the
/// limit, and the number of refusals equals the number of breaches.
#[derive(Debug, Default)]
pub(crate) struct SlidingSecond {
    arrivals: VecDeque<Micros>,
    worst: usize,
    worst_at: Micros,
}

impl SlidingSecond {
    /// Adds an arrival; returns how many the second that ends with it holds.
    pub(crate) fn arrive(&mut self, at: Micros) -> usize {
        // Two threads may stamp in one order and get here in the other.
        let at = self.arrivals.back().map_or(at, |last| at.max(*last));
        while self.arrivals.front().is_some_and(|first| at.saturating_sub(*first) >= SECOND) {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(at);
        if self.arrivals.len() > self.worst {
            self.worst = self.arrivals.len();
            self.worst_at = at;
        }
        self.arrivals.len()
    }

    /// The most arrivals that any one second has held.
    pub(crate) fn worst(&self) -> usize {
        self.worst
    }

    /// When that second ended.
    pub(crate) fn worst_at(&self) -> Micros {
        self.worst_at
    }
}

/// Distinct recipients of the last 24 hours.
#[derive(Debug, Default)]
pub(crate) struct DailyRecipients {
    last_sent: HashMap<u64, Micros>,
    by_time: BTreeSet<(Micros, u64)>,
}

impl DailyRecipients {
    /// Whether a message to `recipient` now would bring in one recipient more than `limit`.
    pub(crate) fn exceeds(&mut self, recipient: u64, limit: u32, now: Micros) -> bool {
        self.forget_before(now);
        !self.last_sent.contains_key(&recipient) && self.len() >= limit as usize
    }

    /// Records a message to `recipient`.
    pub(crate) fn record(&mut self, recipient: u64, now: Micros) {
        if let Some(before) = self.last_sent.insert(recipient, now) {
            self.by_time.remove(&(before, recipient));
        }
        self.by_time.insert((now, recipient));
    }

    pub(crate) fn len(&self) -> usize {
        self.last_sent.len()
    }

    fn forget_before(&mut self, now: Micros) {
        while let Some(&(sent, recipient)) = self.by_time.first() {
            if now.saturating_sub(sent) < DAY {
                break;
            }
            self.by_time.pop_first();
            self.last_sent.remove(&recipient);
        }
    }
}

/// Token buckets per recipient: 45 messages at once, one more every 6 seconds.
///
/// Kept as the generic cell rate algorithm: one number per recipient, the time at which its bucket
/// would be full again.
#[derive(Debug, Default)]
pub(crate) struct PairBuckets {
    full_at: HashMap<u64, Micros>,
    prune_above: usize,
}

impl PairBuckets {
    const CAPACITY: u64 = 45;
    const REFILL: Micros = 6 * SECOND;

    /// Whether a message to `recipient` now finds its bucket empty.
    pub(crate) fn exceeds(&self, recipient: u64, now: Micros) -> bool {
        let full_at = self.full_at.get(&recipient).copied().unwrap_or(0);
        full_at.saturating_sub(now) > (Self::CAPACITY - 1) * Self::REFILL
    }

    /// Takes a token. An empty bucket stays empty: no debt beyond the burst that Meta lends.
    pub(crate) fn record(&mut self, recipient: u64, now: Micros) {
        if self.full_at.len() > self.prune_above.max(1_024) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.prune_above = self.full_at.len() * 2;
        }
        let full_at = self.full_at.entry(recipient).or_insert(0);
        *full_at =
            (*full_at).max(now).saturating_add(Self::REFILL).min(now.saturating_add(Self::CAPACITY * Self::REFILL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_exactly_the_arrivals_of_one_second() {
        let mut window = SlidingSecond::default();
        assert_eq!(window.arrive(0), 1);
        assert_eq!(window.arrive(999_999), 2);
        assert_eq!(window.arrive(1_000_000), 2, "the arrival one second ago has left");
        assert_eq!(window.arrive(3_000_000), 1);
        assert_eq!(window.worst(), 2);
    }

    #[test]
    fn a_window_takes_stamps_that_come_in_the_wrong_order() {
        let mut window = SlidingSecond::default();
        window.arrive(500);
        assert_eq!(window.arrive(100), 2);
        assert_eq!(window.arrive(1_000_499), 3);
        assert_eq!(window.arrive(1_000_500), 2);
    }

    #[test]
    fn a_known_recipient_never_exceeds_the_daily_limit_and_a_new_one_does() {
        let mut day = DailyRecipients::default();
        for recipient in [1, 2] {
            assert!(!day.exceeds(recipient, 2, 0));
            day.record(recipient, 0);
        }
        assert!(!day.exceeds(1, 2, 10));
        assert!(day.exceeds(3, 2, 10));
    }

    #[test]
    fn a_recipient_leaves_the_day_24_hours_after_the_last_message() {
        let mut day = DailyRecipients::default();
        day.record(1, 0);
        day.record(1, SECOND);
        assert!(day.exceeds(2, 1, DAY), "message two keeps recipient one in");
        assert!(!day.exceeds(2, 1, DAY + SECOND));
        assert_eq!(day.len(), 0);
    }

    #[test]
    fn a_pair_may_burst_45_and_then_one_every_six_seconds() {
        let mut pairs = PairBuckets::default();
        for _ in 0..45 {
            assert!(!pairs.exceeds(7, 0));
            pairs.record(7, 0);
        }
        assert!(pairs.exceeds(7, 0));
        assert!(!pairs.exceeds(8, 0), "another recipient has its own bucket");
        assert!(pairs.exceeds(7, 6 * SECOND - 1));
        assert!(!pairs.exceeds(7, 6 * SECOND));
        pairs.record(7, 6 * SECOND);
        assert!(pairs.exceeds(7, 6 * SECOND));
    }

    #[test]
    fn messages_above_the_pair_limit_make_no_debt() {
        let mut pairs = PairBuckets::default();
        for _ in 0..1_000 {
            pairs.record(7, 0);
        }
        assert!(!pairs.exceeds(7, 6 * SECOND));
    }

    #[test]
    fn pair_buckets_that_are_full_again_are_forgotten() {
        let mut pairs = PairBuckets::default();
        for recipient in 0..10_000 {
            pairs.record(recipient, recipient * 6 * SECOND);
        }
        assert!(pairs.full_at.len() < 2_000, "{}", pairs.full_at.len());
    }
}
