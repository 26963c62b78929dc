//! Transactions and subtransactions that really roll back. Catching an error in pgrx undoes nothing by itself: what ran
//! before the error would be committed with leaked snapshots, so both wrappers end what they began.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};

use crate::caller;
use crate::error::{Error, Kind, Result};

/// Runs the code in a transaction of its own with the rights of the extension's owner (for workers; backends have a
/// transaction already). Commits when it succeeds; any error or panic rolls back and comes back as a value.
pub fn transaction<R>(run: impl FnOnce() -> Result<R>) -> Result<R> {
    catch(|| {
        // SAFETY: the worker is connected to a database and not in a transaction; every path below ends this one.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let result = run();
        if result.is_ok() {
            // SAFETY: pops what was pushed above; the commit may raise an error, which is caught below.
            unsafe {
                pg_sys::PopActiveSnapshot();
                pg_sys::CommitTransactionCommand();
            }
        }
        result
    })
    .inspect_err(|_| {
        // SAFETY: aborting is allowed in any state, also outside a transaction; it releases everything.
        unsafe { pg_sys::AbortCurrentTransaction() };
    })
}

/// [`transaction`] with the owner's rights.
pub fn owner_transaction<R>(run: impl FnOnce() -> Result<R>) -> Result<R> {
    transaction(|| caller::as_owner(run))
}

/// Runs the code in a subtransaction: an error undoes what it did and comes back as a value.
pub fn subtransaction<R>(run: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: remembers where to return to; both are valid for the whole call.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    // SAFETY: we are in a transaction; the subtransaction is ended on every path below.
    unsafe {
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
    }
    let result = catch(run);
    // SAFETY: ends the subtransaction begun above and restores context and owner, as PL/pgSQL does for EXCEPTION.
    unsafe {
        match &result {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    result
}

fn catch<R>(run: impl FnOnce() -> Result<R>) -> Result<R> {
    let mut run = Some(AssertUnwindSafe(run));
    PgTryBuilder::new(AssertUnwindSafe(move || match run.take() {
        Some(AssertUnwindSafe(run)) => run(),
        None => Err(Error::new(Kind::Internal, "a transaction body ran twice")),
    }))
    .catch_others(|error| Err(Error::from(error)))
    .catch_rust_panic(|error| Err(Error::from(error)))
    .execute()
}

impl From<CaughtError> for Error {
    fn from(error: CaughtError) -> Self {
        let report = match &error {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
            CaughtError::RustPanic { ereport, .. } => ereport,
        };
        let error = Self::new(Kind::Internal, report.message());
        match report.detail() {
            Some(detail) => error.detail(detail),
            None => error,
        }
    }
}
