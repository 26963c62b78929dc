//! Postgres' clock: microseconds since 2000-01-01 UTC, as `timestamptz` stores them.

use pgrx::{FromDatum, IntoDatum, pg_sys};

/// A moment; converts to and from `timestamptz` without loss, infinities included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before everything.
    pub const MIN: Self = Self(i64::MIN);

    /// The wall clock now.
    pub fn now() -> Self {
        // SAFETY: reads the clock; no preconditions.
        Self(unsafe { pg_sys::GetCurrentTimestamp() })
    }

    /// This moment and so much later.
    pub fn plus(self, span: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
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
