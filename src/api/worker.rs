//! What operators see of the worker, and what the install script tells it.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};

use crate::caller::Caller;
use crate::error::Result;
use crate::shared::{self, Entry, State};
use crate::wake;

/// Tells the launcher, when CREATE EXTENSION commits, that this database has the extension.
#[pg_extern(sql = false)]
fn wa_announce() {
    wake::launcher_at_commit();
}

/// One row per database the launcher knows.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "it is the SQL function's result")]
fn wa_worker_states() -> Result<
    TableIterator<
        'static,
        (
            name!(database_id, pgrx::pg_sys::Oid),
            name!(pid, Option<i32>),
            name!(state, &'static str),
            name!(started_at, Option<TimestampWithTimeZone>),
            name!(last_pass_at, Option<TimestampWithTimeZone>),
            name!(claimed, i64),
            name!(sent, i64),
            name!(failed, i64),
            name!(rescheduled, i64),
            name!(unknown, i64),
            name!(in_flight, i32),
            name!(note, Option<String>),
        ),
    >,
    ErrorReport,
> {
    Caller::current()?.check_is_operator("see the worker's state")?;
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let at = |micros: i64| (micros != 0).then(|| TimestampWithTimeZone::try_from(micros).ok()).flatten();
    Ok(TableIterator::new(shared::entries().into_iter().map(move |entry| {
        (
            pgrx::pg_sys::Oid::from(entry.database),
            (entry.pid != 0).then_some(entry.pid),
            state(&entry),
            at(entry.started_at),
            at(entry.last_pass_at),
            count(entry.claimed),
            count(entry.sent),
            count(entry.failed),
            count(entry.rescheduled),
            count(entry.unknown),
            i32::try_from(entry.in_flight).unwrap_or(i32::MAX),
            Some(entry.note().to_owned()).filter(|note| !note.is_empty()),
        )
    })))
}

fn state(entry: &Entry) -> &'static str {
    match entry.state {
        State::Unknown => "not looked at yet",
        State::Probing => "starting",
        State::Serving => "serving",
        State::Absent => "no extension",
        State::Down => "down",
    }
}
