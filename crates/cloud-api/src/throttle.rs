//! How fast a phone number goes after Meta called it too fast (130429).
//!
//! Meta counts what comes in together with what goes out, and other senders may use the number too, so its configured rate can be
//! too much. Each such answer halves the rate; then it comes back step by step, as congestion control does. State is a
//! [`Throttle`], kept by the caller next to the number; [`crate::pacing`] makes slots of the result. Times are
//! microseconds since an epoch of the caller's choice. Source: Meta, "Throughput", and error code 130429.

use crate::pacing::Pace;

/// Requests that were under way when the first answer came get the same one: answers within this time of a halving belong to it.
pub const BURST_US: i64 = 5_000_000;

/// How long a rate holds before it rises by one step.
pub const STEP_US: i64 = 10_000_000;

/// A step is this part of the full rate: from one half back to all of it in 50 s, from nearly nothing in 100 s.
pub const STEPS: u32 = 10;

/// No recovery takes longer. One that began further ahead than this was not written by this clock.
const LONGEST_US: i64 = STEPS as i64 * STEP_US;

/// The last halving of a phone number's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Messages per second right after it.
    pub per_second: u32,
    /// When it was.
    pub since_us: i64,
}

/// What to store after an answer 130429: half of the rate in effect, at least 1, or what was stored when the answer belongs to
/// the same burst. `full` is the number's configured rate.
#[must_use]
pub fn halved(before: Option<Throttle>, full: u32, now_us: i64) -> Throttle {
    match before {
        Some(throttle) if from_this_clock(throttle, now_us) && age_us(throttle, now_us) < BURST_US => {
            Throttle { since_us: throttle.since_us.min(now_us), ..throttle }
        }
        _ => Throttle { per_second: (effective(before, full, now_us).per_second / 2).max(1), since_us: now_us },
    }
}

/// The rate in effect: never above `full`, and zero only when `full` is.
///
/// Once it is `full`, the throttle may be forgotten. A throttle from the near future counts as of now, one from beyond any
/// recovery does not count: the clock was set back, and at worst one more answer halves the rate again.
#[must_use]
pub fn effective(stored: Option<Throttle>, full: u32, now_us: i64) -> Pace {
    let per_second = match stored {
        Some(throttle) if from_this_clock(throttle, now_us) => {
            let steps = u32::try_from(age_us(throttle, now_us) / STEP_US).unwrap_or(u32::MAX);
            throttle.per_second.max(1).saturating_add(steps.saturating_mul(step(full))).min(full)
        }
        _ => full,
    };
    Pace { per_second }
}

/// When the rate is `full` again, if nothing else happens.
#[must_use]
pub fn recovered_at(stored: Throttle, full: u32) -> i64 {
    let missing = full.saturating_sub(stored.per_second.max(1));
    let steps = missing.div_ceil(step(full));
    stored.since_us.saturating_add(i64::from(steps).saturating_mul(STEP_US))
}

fn step(full: u32) -> u32 {
    full.div_ceil(STEPS).max(1)
}

fn age_us(throttle: Throttle, now_us: i64) -> i64 {
    now_us.saturating_sub(throttle.since_us).max(0)
}

fn from_this_clock(throttle: Throttle, now_us: i64) -> bool {
    throttle.since_us <= now_us.saturating_add(LONGEST_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000_000;
    const SECOND_US: i64 = 1_000_000;
    const DAY_US: i64 = 86_400 * SECOND_US;

    fn rate_after(throttle: Throttle, full: u32, seconds: i64) -> u32 {
        effective(Some(throttle), full, NOW + seconds * SECOND_US).per_second
    }

    #[test]
    fn the_first_answer_halves_the_full_rate() {
        assert_eq!(halved(None, 80, NOW), Throttle { per_second: 40, since_us: NOW });
        assert_eq!(effective(None, 80, NOW), Pace { per_second: 80 });
    }

    #[test]
    fn a_halved_rate_holds_ten_seconds_and_comes_back_by_tenths() {
        let throttle = halved(None, 80, NOW);
        let rates: Vec<u32> = [0, 9, 10, 19, 20, 30, 40, 49, 50, 1000].map(|s| rate_after(throttle, 80, s)).to_vec();
        assert_eq!(rates, [40, 40, 48, 48, 56, 64, 72, 72, 80, 80]);
        assert_eq!(recovered_at(throttle, 80), NOW + 50 * SECOND_US);
    }

    #[test]
    fn answers_of_one_burst_halve_once_and_later_ones_again() {
        let first = halved(None, 80, NOW);
        assert_eq!(halved(Some(first), 80, NOW + BURST_US - 1), first);
        let second = halved(Some(first), 80, NOW + BURST_US);
        assert_eq!(second, Throttle { per_second: 20, since_us: NOW + BURST_US });
        // Half of the rate in effect, which had risen to 56 by then.
        assert_eq!(halved(Some(first), 80, NOW + 20 * SECOND_US).per_second, 28);
    }

    #[test]
    fn however_many_answers_come_one_message_per_second_remains() {
        let mut throttle = None;
        for n in 0..20 {
            throttle = Some(halved(throttle, 80, NOW + n * BURST_US));
        }
        assert_eq!(throttle.map(|throttle| throttle.per_second), Some(1));
    }

    #[test]
    fn a_lowered_full_rate_applies_at_once_and_zero_stays_zero() {
        let throttle = Throttle { per_second: 40, since_us: NOW };
        assert_eq!(rate_after(throttle, 20, 0), 20);
        assert_eq!(rate_after(throttle, 0, 0), 0);
        assert_eq!(recovered_at(throttle, 20), NOW);
    }

    #[test]
    fn a_clock_set_back_by_a_day_ends_the_throttle_and_a_new_answer_begins_one() {
        let before = halved(None, 80, NOW + DAY_US);
        assert_eq!(rate_after(before, 80, 0), 80);
        assert_eq!(halved(Some(before), 80, NOW), Throttle { per_second: 40, since_us: NOW });
    }

    #[test]
    fn a_clock_set_back_a_little_counts_the_throttle_as_of_now() {
        let before = halved(None, 80, NOW + 30 * SECOND_US);
        assert_eq!(rate_after(before, 80, 0), 40);
        assert_eq!(halved(Some(before), 80, NOW), Throttle { per_second: 40, since_us: NOW });
    }

    fn throttle() -> impl Strategy<Value = Throttle> {
        (any::<u32>(), prop_oneof![any::<i64>(), NOW - DAY_US..NOW + DAY_US])
            .prop_map(|(per_second, since_us)| Throttle { per_second, since_us })
    }

    proptest! {
        #[test]
        fn the_rate_is_never_zero_and_never_above_full(
            stored in prop::option::of(throttle()), full in 1_u32.., now in any::<i64>()
        ) {
            let rate = effective(stored, full, now).per_second;
            prop_assert!((1..=full).contains(&rate));
            let next = halved(stored, full, now);
            prop_assert!((1..=full).contains(&effective(Some(next), full, now).per_second));
            prop_assert!(next.since_us <= now);
        }

        #[test]
        fn recovery_is_monotone_and_over_when_it_says(
            full in 1..100_000_u32, before in 1..100_000_u32, one in 0..200_i64, more in 0..200_i64
        ) {
            let throttle = Throttle { per_second: before, since_us: NOW };
            prop_assert!(rate_after(throttle, full, one) <= rate_after(throttle, full, one + more));
            let over = recovered_at(throttle, full);
            prop_assert!(over - NOW <= LONGEST_US);
            prop_assert_eq!(effective(Some(throttle), full, over).per_second, full);
            prop_assert!(over == NOW || effective(Some(throttle), full, over - 1).per_second < full);
        }

        #[test]
        fn an_answer_beyond_the_burst_lowers_the_rate(full in 2..100_000_u32, age in BURST_US..DAY_US) {
            let before = halved(None, full, NOW);
            let now = NOW + age;
            let rate = effective(Some(before), full, now).per_second;
            prop_assert_eq!(halved(Some(before), full, now).per_second, (rate / 2).max(1));
        }

        #[test]
        fn a_clock_set_back_never_holds_it_longer_than_two_recoveries(stored in throttle(), full in 1_u32.., back in 0..DAY_US) {
            let throttle = Throttle { since_us: NOW, ..stored };
            let set_back = NOW - back;
            let rate = |at: i64| effective(Some(throttle), full, at).per_second;
            // What happens to a caller who forgets a throttle that no longer slows.
            prop_assert!((0..=20).map(|step| set_back + step * STEP_US).any(|at| rate(at) == full));
        }

        #[test]
        fn no_time_overflows(stored in throttle(), full in any::<u32>()) {
            prop_assert!(recovered_at(stored, full) >= stored.since_us);
        }
    }
}
