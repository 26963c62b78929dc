//! What SQL can call, by noun. Functions here turn arguments into values, check who is calling, and leave the work to
//! `store` and `worker`. Their SQL declarations, with defaults, comments and rights, are in `sql/`.
//!
//! Arguments are `Option`s everywhere: a NULL must reach the code to be refused, never turn into a NULL answer.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use crate::error::{Error, Kind};

pub mod accounts;
pub mod batch;
pub mod cancel;
pub mod copies;
pub mod enqueue;
pub mod fan_out;
pub mod keys;
pub mod pause;
pub mod policies;
pub mod rates;
pub mod reports;
pub mod retry;
pub mod roles;
pub mod triggers;
pub mod webhooks;
pub mod worker;

/// What SQL-facing functions return: an error with SQLSTATE, detail and hint.
type Answer<T> = Result<T, ErrorReport>;

/// Refuses where nothing can be written.
fn check_writable(what: &str) -> crate::error::Result<()> {
    // SAFETY: reads process-wide state.
    if unsafe { pg_sys::RecoveryInProgress() || pg_sys::XactReadOnly } {
        return Err(Error::new(Kind::ReadOnly, format!("cannot {what} in a read-only transaction"))
            .detail("This server is a standby, or the transaction is read-only.")
            .hint("Connect to the primary, in a normal transaction."));
    }
    Ok(())
}

/// A required argument.
fn required<T>(value: Option<T>, name: &str) -> crate::error::Result<T> {
    value.ok_or_else(|| Error::null(name))
}
