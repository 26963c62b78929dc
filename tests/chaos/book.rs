//! What the clients know of the messages they queued: which calls were committed, which were not, and which ended with a
//! broken connection, so that only the database can say.

use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// How a call of `wa_enqueue()` ended, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The server said that it is committed.
    Committed,
    /// It was rolled back, or its connection broke before the client asked to commit.
    RolledBack,
    /// The connection broke between question and answer: all of it is there, or none.
    InDoubt,
}

/// One call of `wa_enqueue()`.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its `event_id`, which no other call has.
    pub tag: Uuid,
    /// How many messages it asked for.
    pub size: usize,
    /// The ids it was told, if it was.
    pub ids: Vec<Uuid>,
    /// How it ended.
    pub ending: Ending,
}

/// All calls of a round.
#[derive(Debug, Default)]
pub struct Book {
    calls: Mutex<Vec<Call>>,
}

impl Book {
    /// Writes a call down.
    pub fn write(&self, call: Call) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// What was written down.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
