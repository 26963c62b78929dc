//! What SQL can call, by noun. Functions here turn arguments into values, check who is calling, and leave the work to
//! `store` and `worker`. Their SQL declarations, with defaults, comments and rights, are in `sql/`.
//!
//! Arguments are `Option`s everywhere: a NULL must reach the code to be refused, never turn into a NULL answer.

use pgrx::pg_sys::panic::ErrorReport;

use crate::error::Error;

pub mod accounts;
pub mod batch;
pub mod cancel;
pub mod copies;
pub mod enqueue;
pub mod fan_out;
pub mod keys;
pub mod rates;
pub mod roles;
pub mod triggers;
pub mod worker;

/// What SQL-facing functions return: an error with SQLSTATE, detail and hint.
type Answer<T> = Result<T, ErrorReport>;

/// A required argument.
fn required<T>(value: Option<T>, name: &str) -> crate::error::Result<T> {
    value.ok_or_else(|| Error::null(name))
}
