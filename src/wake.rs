//! Wakes the worker once per transaction, when the commit has really happened: a statement trigger on the queue marks
//! the transaction; its commit sets one latch; a rollback forgets the mark.
//! (After PREPARE TRANSACTION nobody wakes: the worker's poll finds the rows.)

use std::cell::Cell;

use pgrx::{PgXactCallbackEvent, pg_sys, register_xact_callback};

use crate::shared;

thread_local! {
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

/// Wakes this database's drainer when the current transaction commits.
pub fn drainer_at_commit() {
    if shared::is_preloaded() && !MARKED.replace(true) {
        register_xact_callback(PgXactCallbackEvent::Commit, || {
            MARKED.set(false);
            shared::wake_drainer(own_database());
        });
        register_xact_callback(PgXactCallbackEvent::Abort, || MARKED.set(false));
        register_xact_callback(PgXactCallbackEvent::Prepare, || MARKED.set(false));
    }
}

/// Tells the launcher, when the current transaction commits, that this database has the extension.
pub fn launcher_at_commit() {
    let database = own_database();
    register_xact_callback(PgXactCallbackEvent::Commit, move || shared::announce(database));
}

/// The database of this process.
pub fn own_database() -> u32 {
    // SAFETY: a plain read of a process-wide variable that is set before any of our code runs.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}
