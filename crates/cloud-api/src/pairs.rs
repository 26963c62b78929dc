//! Meta's pair limit: how often one phone number may write to the same person.
//!
//! A token bucket for each recipient: one message per six seconds, with a burst of 45 borrowed from the time to come; beyond
//! that Meta answers 131056, and [`crate::retry::pair_delay`] says how long to wait then. Here it is the generic cell rate
//! algorithm, whose state is one number for each recipient: when its bucket will be full again. Times are microseconds
//! since an epoch of the caller's choice. Source: Meta, "Throughput", section "Pair rate limits".

use crate::pacing::FARTHEST_US;
use crate::recipients::Recipient;
use hashbrown::HashMap;

/// Meta gives one message per six seconds. A thousandth is left to the difference between two clocks, which a day of
/// steady writing would otherwise add up.
pub const INTERVAL_US: i64 = 6_006_000;

/// How many messages may leave at once: one less than Meta's 45. Messages that left [`MARGIN_US`] apart may arrive together,
/// and the one held back is worth more than that: six seconds.
pub const BURST: u32 = 44;

/// How much later than its slot a message may reach Meta, one more and another less.
pub const MARGIN_US: i64 = 1_000_000;

/// How long an empty bucket takes to fill up.
const FILL_US: i64 = BURST as i64 * INTERVAL_US;

/// How far back messages matter to somebody who starts anew, see [`Pairs::new`].
pub const SPAN_US: i64 = FILL_US + INTERVAL_US + MARGIN_US;

/// Slots lie at most [`FARTHEST_US`] ahead, so no bucket is full later than this. If one is, the clock was set back.
const LATEST_FULL_US: i64 = FILL_US + FARTHEST_US;

/// With fewer buckets than this it does not matter how many of them are full.
const FEW: usize = 1_024;

/// The buckets of one phone number.
///
/// While every slot taken is one that [`Pairs::earliest`] allowed, in whatever order they are taken, and lies at most
/// [`FARTHEST_US`] ahead, Meta's bucket is never overdrawn.
#[derive(Debug, Clone)]
pub struct Pairs {
    full_at: HashMap<Recipient, i64>,
    /// Before this nothing is known, and every bucket may have been empty.
    known_since_us: i64,
    sweep_at_len: usize,
    swept_us: i64,
    seen_us: i64,
}

impl Pairs {
    /// Buckets of which nothing is known before `known_since_us`: each may have been empty then, as after long steady writing.
    ///
    /// To start anew, give [`SPAN_US`] before now and [`Pairs::take`] what left or was given a slot since. Who got nothing in
    /// that span has a full bucket, and who got up to 44 may at least get another.
    #[must_use]
    pub fn new(known_since_us: i64) -> Self {
        Self { full_at: HashMap::new(), known_since_us, sweep_at_len: FEW, swept_us: i64::MIN, seen_us: i64::MIN }
    }

    /// The first instant from `now_us` on at which this recipient may get a message.
    #[must_use]
    pub fn earliest(&self, recipient: Recipient, now_us: i64) -> i64 {
        self.full_at_us(recipient).saturating_sub(FILL_US - INTERVAL_US).max(now_us)
    }

    /// A message to this recipient leaves at `at_us`, or left then.
    pub fn take(&mut self, recipient: Recipient, at_us: i64) {
        let full_at = self.full_at_us(recipient).max(at_us).saturating_add(INTERVAL_US);
        self.full_at.insert(recipient, full_at);
    }

    /// Drops buckets that are full at `now_us`: no slot before it must be taken afterwards. Cheap enough for every claim: it
    /// looks through them when they have doubled, when [`SPAN_US`] has passed, and when the clock was set back. Then no
    /// recipient waits for the old time to come round.
    pub fn forget(&mut self, now_us: i64) {
        let due = self.full_at.len() >= self.sweep_at_len
            || now_us >= self.swept_us.saturating_add(SPAN_US)
            || now_us < self.seen_us;
        self.seen_us = now_us;
        if !due {
            return;
        }
        self.swept_us = now_us;
        self.known_since_us = self.known_since_us.min(now_us);
        let latest = now_us.saturating_add(LATEST_FULL_US);
        self.full_at.retain(|_, full_at| {
            *full_at = latest.min(*full_at);
            *full_at > now_us
        });
        self.sweep_at_len = FEW.max(2 * self.full_at.len());
        self.full_at.shrink_to(self.sweep_at_len);
    }

    fn full_at_us(&self, recipient: Recipient) -> i64 {
        let unknown = || self.known_since_us.saturating_add(FILL_US);
        self.full_at.get(&recipient).copied().unwrap_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000_000;
    const SECOND_US: i64 = 1_000_000;
    const DAY_US: i64 = 86_400 * SECOND_US;
    /// Meta's figures.
    const META_INTERVAL_US: i64 = 6 * SECOND_US;
    const META_BURST: i64 = 45;

    fn recipient(number: i64) -> Recipient {
        Recipient::from_i64(number).unwrap()
    }

    /// As after a start from nothing sent.
    fn fresh() -> Pairs {
        Pairs::new(NOW - SPAN_US)
    }

    #[test]
    fn a_burst_of_44_leaves_at_once_and_the_next_six_seconds_later() {
        let mut pairs = fresh();
        for _ in 0..44 {
            assert_eq!(pairs.earliest(recipient(1), NOW), NOW);
            pairs.take(recipient(1), NOW);
        }
        assert_eq!(pairs.earliest(recipient(1), NOW), NOW + INTERVAL_US);
        assert_eq!(pairs.earliest(recipient(2), NOW), NOW);
    }

    #[test]
    fn steady_writing_uses_at_least_99_percent_of_what_meta_gives() {
        let (mut pairs, mut now, messages) = (fresh(), NOW, 10_000);
        for _ in 0..messages {
            now = pairs.earliest(recipient(1), now);
            pairs.take(recipient(1), now);
            pairs.forget(now);
        }
        let given = META_BURST + (now - NOW) / META_INTERVAL_US;
        assert!(messages * 100 >= given * 99, "{messages} of {given}");
    }

    #[test]
    fn full_buckets_are_dropped_and_others_are_not() {
        let mut pairs = fresh();
        pairs.forget(NOW);
        for number in 0..10_000 {
            pairs.take(recipient(number), NOW + number * 1_000);
            pairs.forget(NOW + number * 1_000);
        }
        let now = NOW + 10_000 * 1_000;
        assert!(pairs.full_at.len() <= 2 * 6_007, "{} buckets", pairs.full_at.len());
        assert_eq!(pairs.full_at_us(recipient(9_999)), NOW + 9_999_000 + INTERVAL_US);
        pairs.forget(now + SPAN_US);
        assert!(pairs.full_at.is_empty());
    }

    #[test]
    fn a_start_that_knows_nothing_begins_with_one_message_per_interval() {
        let mut pairs = Pairs::new(NOW);
        for n in 1..=3 {
            assert_eq!(pairs.earliest(recipient(1), NOW), NOW + n * INTERVAL_US);
            pairs.take(recipient(1), NOW + n * INTERVAL_US);
        }
    }

    #[test]
    fn a_clock_set_back_by_a_day_does_not_hold_anybody_for_a_day() {
        let mut pairs = fresh();
        pairs.forget(NOW);
        for _ in 0..44 {
            pairs.take(recipient(1), NOW);
        }
        let now = NOW - DAY_US;
        pairs.forget(now);
        for number in [1, 2] {
            let wait = pairs.earliest(recipient(number), now) - now;
            assert!(wait <= FARTHEST_US + INTERVAL_US, "{wait}");
        }
        // The same for one that started after the clock was set back.
        let mut pairs = Pairs::new(now - SPAN_US);
        pairs.take(recipient(1), NOW);
        pairs.forget(now);
        assert!(pairs.earliest(recipient(1), now) - now <= FARTHEST_US + INTERVAL_US);
    }

    /// What happens next in a simulated life of one pair.
    #[derive(Debug, Clone)]
    enum Event {
        Pass(i64),
        /// Messages want to leave, none before so long from now; how late each will be.
        Send {
            ahead_us: i64,
            delays: Vec<i64>,
        },
        /// The sender starts anew from what is stored.
        Restart,
        SetBack(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let delay = prop_oneof![3 => Just(0), 3 => Just(MARGIN_US), 1 => 0..=MARGIN_US];
        prop_oneof![
            4 => prop_oneof![0..SECOND_US, 0..20 * SECOND_US, 0..400 * SECOND_US].prop_map(Event::Pass),
            8 => (prop_oneof![2 => Just(0), 1 => 0..FARTHEST_US], prop::collection::vec(delay, 0..50))
                .prop_map(|(ahead_us, delays)| Event::Send { ahead_us, delays }),
            2 => Just(Event::Restart),
            1 => prop_oneof![0..2 * SECOND_US, 0..DAY_US].prop_map(Event::SetBack),
        ]
    }

    /// When, in real time, messages reach Meta.
    fn arrivals(events: Vec<Event>) -> Vec<i64> {
        let (mut real, mut clock) = (0, NOW);
        let (mut pairs, mut stored, mut arrivals) = (fresh(), Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Pass(time) => {
                    real += time;
                    clock += time;
                }
                Event::SetBack(time) => clock -= time,
                Event::Restart => {
                    pairs = Pairs::new(clock - SPAN_US);
                    stored.sort_unstable();
                    for at in stored.iter().filter(|at| **at >= clock - SPAN_US) {
                        pairs.take(recipient(1), *at);
                    }
                }
                Event::Send { ahead_us, delays } => {
                    pairs.forget(clock);
                    for delay in delays {
                        let at = pairs.earliest(recipient(1), clock + ahead_us);
                        if at > clock + FARTHEST_US {
                            break;
                        }
                        pairs.take(recipient(1), at);
                        stored.push(at);
                        arrivals.push(real + at - clock + delay);
                    }
                }
            }
        }
        arrivals.sort_unstable();
        arrivals
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_bucket_at_meta_is_never_overdrawn(events in prop::collection::vec(event(), 1..60)) {
            let full = META_BURST * META_INTERVAL_US;
            let (mut level, mut last) = (full, i64::MIN);
            for at in arrivals(events) {
                level = full.min(level.saturating_add(at.saturating_sub(last)));
                prop_assert!(level >= META_INTERVAL_US, "overdrawn at {at}");
                level -= META_INTERVAL_US;
                last = at;
            }
        }

        #[test]
        fn no_time_overflows(
            since in any::<i64>(), events in prop::collection::vec((any::<i64>(), 0..3_i64, any::<bool>()), 1..60)
        ) {
            let mut pairs = Pairs::new(since);
            for (at, number, forget) in events {
                prop_assert!(pairs.earliest(recipient(number), at) >= at);
                pairs.take(recipient(number), at);
                if forget {
                    pairs.forget(at);
                }
            }
        }
    }
}
