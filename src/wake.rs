//! Wakes the worker once per transaction, when the commit has really happened: a statement trigger on the queue marks
//! the transaction; its commit sets one latch; a rollback forgets the mark.
//! (After PREPARE TRANSACTION nobody wakes: the worker's poll finds the rows.)

use std::cell::Cell;

use pgrx::{PgXactCallbackEvent, pg_sys, register_xact_callback};

use crate::shared;

/// What a transaction has to tell the worker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Nothing.
    None,
    /// There may be something to send.
    Queue,
    /// Accounts or templates are not what they were.
    Accounts,
}

thread_local! {
    static NEWS: Cell<News> = const { Cell::new(News::None) };
}

/// Wakes this database's drainer with these news when the current transaction commits.
pub fn drainer_at_commit(news: News) {
    if !shared::is_preloaded() {
        return;
    }
    let before = NEWS.replace(news.max(NEWS.get()));
    if before == News::None {
        register_xact_callback(PgXactCallbackEvent::Commit, || {
            let news = NEWS.replace(News::None);
            shared::wake_drainer(own_database(), news == News::Accounts);
        });
        register_xact_callback(PgXactCallbackEvent::Abort, || NEWS.set(News::None));
        register_xact_callback(PgXactCallbackEvent::Prepare, || NEWS.set(News::None));
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
