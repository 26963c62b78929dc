//! `wa_process_batch`.

use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};

use super::{check_writable, required};
use crate::caller::Caller;
use crate::error::{Error, Kind, Result};
use crate::worker::batch;
use crate::worker::drain::Tally;

/// One pass over the queue.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "it is the SQL function's result")]
fn wa_process_batch(
    batch_size: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (name!(processed, i32), name!(sent, i32), name!(failed, i32), name!(rescheduled, i32), name!(unknown, i32)),
    >,
    ErrorReport,
> {
    let tally = process(batch_size)?;
    let count = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
    Ok(TableIterator::once((
        count(tally.processed()),
        count(tally.sent),
        count(tally.failed),
        count(tally.rescheduled),
        count(tally.unknown),
    )))
}

fn process(batch_size: Option<i32>) -> Result<Tally> {
    let batch_size = required(batch_size, "batch_size")?;
    let rows = u32::try_from(batch_size).ok().filter(|rows| (1..=100_000).contains(rows)).ok_or_else(|| {
        Error::new(Kind::InvalidParameter, "batch_size must be between 1 and 100000")
            .detail(format!("It is {batch_size}."))
            .hint("100 is the default; a larger batch makes a longer pass.")
    })?;
    Caller::current()?.check_is_operator("process the queue of all organizers")?;
    check_writable("send messages")?;
    batch::run(rows)
}
