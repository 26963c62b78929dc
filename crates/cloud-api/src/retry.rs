//! When to try again: exponential back-off for plain transient errors, and Meta's own formula for the pair limit.
//!
//! Pure arithmetic. The jitter comes from the caller, so that a test can say what it is. Which errors deserve
//! another try at all is the business of [`crate::errors`].

use std::time::Duration;

/// No wait is longer than this, whatever the settings say.
const LONGEST: Duration = Duration::from_secs(6 * 60 * 60);

/// How far jitter may move a wait, as a share of it: 10 % to either side.
const JITTER: f64 = 0.1;

/// The back-off of one message: doubling waits with jitter, and a last try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the first retry.
    pub base: Duration,
    /// The longest wait. Never more than six hours, whatever is written here.
    pub cap: Duration,
    /// How many retries follow the first attempt. Zero means a message is tried once.
    pub max_retries: u32,
}

impl Default for Backoff {
    /// Five minutes, doubling to at most six hours, three retries (four attempts in all).
    fn default() -> Self {
        Self { base: Duration::from_secs(5 * 60), cap: LONGEST, max_retries: 3 }
    }
}

impl Backoff {
    /// How long to wait before retry number `retry_no` (1 is the first one; 0 counts as 1).
    ///
    /// `jitter` is a random number from 0 to 1: 0 shortens the wait by a tenth, 1 lengthens it by a tenth, 0.5 leaves it.
    /// Anything else, NaN included, counts as 0.5. The result never exceeds the cap.
    #[must_use]
    pub fn delay(&self, retry_no: u32, jitter: f64) -> Duration {
        let cap = self.cap.min(LONGEST);
        let doublings = retry_no.saturating_sub(1).min(31);
        let plain = self.base.saturating_mul(1 << doublings).min(cap);
        let jitter = if (0.0..=1.0).contains(&jitter) { jitter } else { 0.5 };
        plain.mul_f64(1.0 + JITTER * (2.0 * jitter - 1.0)).min(cap)
    }

    /// Whether retry number `retry_no` (1 is the first) may still happen.
    #[must_use]
    pub fn allows(&self, retry_no: u32) -> bool {
        retry_no <= self.max_retries
    }
}

/// How long one recipient must be left alone after the `failures`-th answer 131056 in a row (1 is the first).
///
/// Meta: error code 131056, "wait 4^X seconds, X starting at 0 and growing with each failure". Capped at six hours.
#[must_use]
pub fn pair_delay(failures: u32) -> Duration {
    let exponent = failures.saturating_sub(1).min(15);
    Duration::from_secs(4_u64.pow(exponent)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_retry_waits_the_base_and_each_further_one_twice_as_long() {
        let backoff = Backoff::default();
        let minutes: Vec<u64> = (1..=9).map(|n| backoff.delay(n, 0.5).as_secs() / 60).collect();
        assert_eq!(minutes, [5, 10, 20, 40, 80, 160, 320, 360, 360]);
    }

    #[test]
    fn jitter_moves_the_wait_by_a_tenth_to_either_side() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(1, 0.0).as_secs(), 270);
        assert_eq!(backoff.delay(1, 1.0).as_secs(), 330);
        assert_eq!(backoff.delay(1, f64::NAN), backoff.delay(1, 0.5));
    }

    #[test]
    fn three_retries_are_allowed_and_a_fourth_is_not() {
        let backoff = Backoff::default();
        assert!(backoff.allows(3));
        assert!(!backoff.allows(4));
    }

    #[test]
    fn pair_waits_are_powers_of_four_seconds_up_to_six_hours() {
        let seconds: Vec<u64> = (0..=10).map(|n| pair_delay(n).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 4, 16, 64, 256, 1024, 4096, 16384, 21600, 21600]);
    }

    proptest! {
        #[test]
        fn no_settings_make_a_wait_overflow_or_pass_the_cap(
            base in any::<u64>(), cap in any::<u64>(), retry_no in any::<u32>(), jitter in any::<f64>()
        ) {
            let cap = Duration::from_secs(cap);
            let backoff = Backoff { base: Duration::from_secs(base), cap, max_retries: 3 };
            let delay = backoff.delay(retry_no, jitter);
            prop_assert!(delay <= cap && delay <= LONGEST);
        }

        #[test]
        fn a_later_retry_never_waits_less(retry_no in 1_u32..100, jitter in 0.0..=1.0_f64) {
            let backoff = Backoff::default();
            prop_assert!(backoff.delay(retry_no + 1, jitter) >= backoff.delay(retry_no, jitter));
            prop_assert!(pair_delay(retry_no + 1) >= pair_delay(retry_no));
        }
    }
}
