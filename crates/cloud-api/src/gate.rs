//! The last yard before the wire: requests of one phone number leave one after the other, never more in a second than its
//! rate.
//!
//! Slots ([`crate::pacing`]) say when a message should leave. On a busy machine a thread may get its processor late, and then
//! write together with the messages of later slots. So what really left is counted where the first byte goes out: the last
//! request and the one a rate before it lie at least a second, and most of the jitter allowed for, apart.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::pacing::Pace;

/// One phone number's way out, shared by all threads that send for it.
#[derive(Debug, Default)]
pub struct Gate {
    /// When requests left, in order, as far as a second looks back on them.
    left: Mutex<VecDeque<Instant>>,
}

impl Gate {
    /// Waits until a request may leave, then lets `leave` go. What it answers says whether it left; if not, nobody has to
    /// wait for it.
    pub fn pass(&self, pace: Pace, leave: impl FnOnce() -> bool) -> bool {
        // Nothing is half done when another thread panicked in here.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let window = pace.window();
        while left.front().is_some_and(|first| first.checked_add(window).is_some_and(|over| over <= now)) {
            left.pop_front();
        }
        let a_rate_before = left.len().checked_sub(pace.per_second as usize).and_then(|n| left.get(n));
        let after_window = a_rate_before.and_then(|before| before.checked_add(window));
        let after_last = left.back().and_then(|last| last.checked_add(pace.hurried_gap()));
        let due = after_window.into_iter().chain(after_last).max().map_or(now, |due| due.max(now));
        std::thread::sleep(due - now);
        let has_left = leave();
        if has_left {
            left.push_back(Instant::now());
        }
        has_left
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::time::Duration;

    #[test]
    fn of_threads_that_come_together_no_more_leave_in_a_second_than_the_rate() {
        let gate = Gate::default();
        let left = Mutex::new(Vec::new());
        let pace = Pace { per_second: 40 };
        std::thread::scope(|scope| {
            for _ in 0..60 {
                scope.spawn(|| {
                    gate.pass(pace, || {
                        left.lock().unwrap().push(Instant::now());
                        true
                    })
                });
            }
        });
        let left = left.into_inner().unwrap();
        assert_eq!(left.len(), 60);
        for (one, later) in left.iter().zip(left.iter().skip(40)) {
            assert!(*later - *one >= Duration::from_secs(1), "41 in {:?}", *later - *one);
        }
        assert!(left.windows(2).all(|two| two[1] - two[0] >= pace.hurried_gap()), "in a bunch: {left:?}");
    }

    #[test]
    fn who_does_not_leave_makes_nobody_wait() {
        let gate = Gate::default();
        let pace = Pace { per_second: 1 };
        assert!(!gate.pass(pace, || false));
        let begun = Instant::now();
        assert!(gate.pass(pace, || true));
        assert!(begun.elapsed() < Duration::from_millis(900));
    }
}
