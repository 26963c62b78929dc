//! Postgres' clock: microseconds since 2000-01-01 UTC, as `timestamptz` stores them.

use pgrx::{FromDatum, IntoDatum, pg_sys};

/// A moment; converts to and from `timestamptz` without loss, infinities included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before everything.
    pub const MIN: Self = Self(i64::MIN);
    /// The end of time, `infinity` in SQL.
    pub const INFINITY: Self = Self(i64::MAX);

    /// The wall clock now.
    pub fn now() -> Self {
        // SAFETY: reads the clock; no preconditions.
        Self(unsafe { pg_sys::GetCurrentTimestamp() })
    }

    /// This moment by a clock that was set by so many microseconds; the ends of time stay.
    pub fn moved(self, by_us: i64) -> Self {
        if matches!(self.0, i64::MIN | i64::MAX) { self } else { Self(self.0.saturating_add(by_us)) }
    }

    /// This moment and so much later.
    pub fn plus(self, span: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment and so much earlier.
    pub fn minus(self, span: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// How far the wall clock is ahead of the clock that counts from the start of the machine and that nobody can set, in
/// microseconds. It changes only when the wall clock is set.
pub fn clock_offset() -> i64 {
    // SAFETY: a plain call on a local structure; CLOCK_BOOTTIME exists on every Linux that Postgres runs on.
    let since_boot = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time);
        time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
    };
    Timestamp::now().0.saturating_sub(since_boot)
}

/// Clocks are read one after the other, and adjusted a little all the time: less than this is no setting of the clock.
pub const CLOCK_TOLERANCE_US: i64 = 1_000_000;

impl std::fmt::Display for Timestamp {
    /// As Postgres prints it, in the session's time zone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: timestamptz_to_str answers a static, NUL-terminated buffer.
        let text = unsafe { std::ffi::CStr::from_ptr(pg_sys::timestamptz_to_str(self.0)) };
        f.write_str(&text.to_string_lossy())
    }
}

impl IntoDatum for Timestamp {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(pg_sys::Datum::from(self.0))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TIMESTAMPTZOID
    }
}

impl FromDatum for Timestamp {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        (!is_null).then(|| Self(datum.value().cast_signed() as i64))
    }
}
