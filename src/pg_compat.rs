//! What differs between the versions of Postgres that we support, 15 to 18. No other file asks for which of them it is
//! compiled.

/// Installs a signal handler. In 18 the server's function has a name of its own: libpq exports a `pqsignal` too.
#[cfg(not(feature = "pg18"))]
pub use pgrx::pg_sys::pqsignal;
#[cfg(feature = "pg18")]
pub use pgrx::pg_sys::pqsignal_be as pqsignal;

/// Settings that hold in every worker beside those that all versions have. `transaction_timeout` came with 17 and,
/// unlike `statement_timeout`, ends background workers too.
pub const PINNED: &[(&str, &str)] =
    if cfg!(any(feature = "pg15", feature = "pg16")) { &[] } else { &[("transaction_timeout", "0")] };
