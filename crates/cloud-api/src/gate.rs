//! The last yard before the wire: requests of one phone number leave one after the other, never closer than a gap.
//!
//! Slots ([`crate::pacing`]) say when a message should leave. On a busy machine a thread may get its processor late, and then
//! write just before the message of the next slot. So the gap is kept where the first byte goes out: whoever comes too
//! early waits, and whoever was late makes the next one wait.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests leave by a timetable of gaps; so far a request may be behind it before the timetable waits for it. Threads wake a
/// little late all the time, and without this every message would delay all after it. Little of what the gap has to spare in
/// a second ([`crate::pacing::Pace::least_gap_us`]: 4 ms), because the way to Meta wants its share of that.
const BEHIND: Duration = Duration::from_micros(300);

/// One phone number's way out, shared by all threads that send for it.
#[derive(Debug, Default)]
pub struct Gate {
    next: Mutex<Option<Instant>>,
}

impl Gate {
    /// Waits until the gap since the last request that left is over, then lets `leave` go. What it answers says whether it
    /// left; if not, the next one need not wait for it.
    ///
    /// Of any N + 1 requests the last leaves at least N gaps less 0.3 ms after the first.
    pub fn pass(&self, gap: Duration, leave: impl FnOnce() -> bool) -> bool {
        // Nothing is half done when another thread panicked in here.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = next.map_or(now, |next| next.max(now));
        std::thread::sleep(due - now);
        let has_left = leave();
        if has_left {
            let left = Instant::now();
            *next = due.max(left.checked_sub(BEHIND).unwrap_or(left)).checked_add(gap);
        }
        has_left
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn threads_that_come_together_leave_gaps_apart() {
        let gate = Gate::default();
        let left = Mutex::new(Vec::new());
        let gap = Duration::from_millis(3);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    gate.pass(gap, || {
                        left.lock().unwrap().push(Instant::now());
                        true
                    })
                });
            }
        });
        let left = left.into_inner().unwrap();
        assert_eq!(left.len(), 20);
        for first in 0..20 {
            for last in first..20 {
                let gaps = u32::try_from(last - first).unwrap();
                assert!(left[last] - left[first] + BEHIND >= gap * gaps, "{first} to {last}: {left:?}");
            }
        }
    }

    #[test]
    fn who_does_not_leave_makes_nobody_wait() {
        let gate = Gate::default();
        assert!(!gate.pass(Duration::from_secs(3600), || false));
        let begun = Instant::now();
        assert!(gate.pass(Duration::from_secs(3600), || true));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
