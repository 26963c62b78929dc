//! Time since the simulator started, in microseconds: what arrivals, windows and buckets are measured in.
//!
//! One monotonic origin keeps the pure arithmetic in [`crate::limits`] free of clocks; the wall-clock
//! origin lets a test put an arrival beside a timestamp that a database wrote.

use std::time::{Duration, Instant, SystemTime};

/// Microseconds since the start of the simulator.
pub(crate) type Micros = u64;

/// One second.
pub(crate) const SECOND: Micros = 1_000_000;

/// 24 hours.
pub(crate) const DAY: Micros = 24 * 60 * 60 * SECOND;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    pub(crate) started_at: SystemTime,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now(), started_at: SystemTime::now() }
    }

    pub(crate) fn now(&self) -> Micros {
        micros(self.origin.elapsed())
    }

    /// The wall clock at a moment since the start, in whole seconds since 1970.
    pub(crate) fn unix_seconds(&self, at: Micros) -> u64 {
        let moment = self.started_at + Duration::from_micros(at);
        moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// A duration in microseconds; saturates after half a million years.
pub(crate) fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
