//! `wa_process_batch`: a dynamic background worker makes one pass over the queue with the same loop as the drainer.
//! A worker, because there must be real commits between claim and call: the caller's rollback must not undo the claim
//! of a message that has left. The counts come back through shared memory, since a row would be invisible to a caller
//! under REPEATABLE READ. Works without shared_preload_libraries.

use std::sync::atomic::{AtomicI32, Ordering, fence};
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{PgSqlErrorCode, ereport, pg_guard, pg_sys};

use crate::error::{Error, Kind, Result};
use crate::settings::Settings;
use crate::time::Timestamp;
use crate::worker::clock::Clock;
use crate::worker::drain::{Drain, Tally};
use crate::worker::{rescue, session, signals};
use crate::{store, tx};

/// After so long, a pass takes only what may leave at once.
const PATIENCE: Duration = Duration::from_secs(3);
/// Running calls get this long when the worker is told to stop.
const GRACE: Duration = Duration::from_millis(500);
const SETTINGS_BYTES: usize = 16 * 1024;
const MESSAGE_BYTES: usize = 2 * 1024;

/// What caller and worker share.
#[repr(C)]
struct Share {
    database: u32,
    batch_size: u32,
    settings_length: u32,
    settings: [u8; SETTINGS_BYTES],
    state: AtomicI32,
    counts: [u64; 5],
    message_length: u32,
    message: [u8; MESSAGE_BYTES],
}

// 0: still running, or ended without a result.
const DONE: i32 = 1;
const FAILED: i32 = 2;

/// Runs one pass and waits for it.
pub fn run(batch_size: u32) -> Result<Tally> {
    let settings =
        serde_json::to_vec(&Settings::current()).ok().filter(|bytes| bytes.len() <= SETTINGS_BYTES).ok_or_else(
            || Error::new(Kind::ConfigurationLimit, "whatsapp_pg.only_to is too long for wa_process_batch()"),
        )?;
    // SAFETY: the segment is as large as what is put in it, lives until the end of the transaction, and is written
    // before the worker starts; afterwards the worker alone writes, and it is read when the worker has ended.
    unsafe {
        let segment = pg_sys::dsm_create(std::mem::size_of::<Share>(), 0);
        let share = pg_sys::dsm_segment_address(segment).cast::<Share>();
        std::ptr::write_bytes(share, 0, 1);
        (*share).database = crate::wake::own_database();
        (*share).batch_size = batch_size;
        (*share).settings_length = u32::try_from(settings.len()).unwrap_or(0);
        std::ptr::copy_nonoverlapping(settings.as_ptr(), (&raw mut (*share).settings).cast(), settings.len());
        fence(Ordering::SeqCst);
        let worker = BackgroundWorkerBuilder::new("whatsapp_pg batch")
            .set_type("whatsapp_pg batch")
            .set_library("whatsapp_pg")
            .set_function("whatsapp_pg_batch_main")
            .set_argument(Some(pg_sys::Datum::from(pg_sys::dsm_segment_handle(segment))))
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .set_notify_pid(pg_sys::MyProcPid)
            .load_dynamic()
            .map_err(|_| {
                Error::new(Kind::ConfigurationLimit, "no background worker slot is free")
                    .detail("wa_process_batch() makes its pass in a background worker, and max_worker_processes of them exist already.")
                    .hint("Raise max_worker_processes and restart the server, or try again when other workers have ended.")
            })?;
        if worker.wait_for_shutdown().is_err() {
            return Err(Error::new(Kind::NotReady, "the server is shutting down"));
        }
        fence(Ordering::SeqCst);
        let result = match (*share).state.load(Ordering::SeqCst) {
            DONE => {
                let [claimed, sent, failed, rescheduled, unknown] = (*share).counts;
                Ok(Tally { claimed, sent, failed, rescheduled, unknown })
            }
            FAILED => {
                let length = ((*share).message_length as usize).min(MESSAGE_BYTES);
                let bytes = std::slice::from_raw_parts((&raw const (*share).message).cast::<u8>(), length);
                let text = String::from_utf8_lossy(bytes);
                let mut parts = text.split('\u{1f}').map(str::to_owned);
                let mut error = Error::new(Kind::NotReady, parts.next().unwrap_or_default());
                if let Some(detail) = parts.next().filter(|text| !text.is_empty()) {
                    error = error.detail(detail);
                }
                if let Some(hint) = parts.next().filter(|text| !text.is_empty()) {
                    error = error.hint(hint);
                }
                Err(error)
            }
            _ => Err(Error::new(Kind::NotReady, "the batch worker ended without a result")
                .detail("It was terminated, or could not connect to the database.")
                .hint(
                    "See the server's log. Messages it had claimed are recorded or become unknown; nothing is lost.",
                )),
        };
        pg_sys::dsm_detach(segment);
        result
    }
}

/// Entry point of the background worker; the argument is the handle of the shared segment.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn whatsapp_pg_batch_main(argument: pg_sys::Datum) {
    signals::install();
    // SAFETY: the segment was made by `run` for this worker and lives as long as either of us is attached.
    let share = unsafe {
        let segment = pg_sys::dsm_attach(u32::try_from(argument.value()).unwrap_or(0));
        if segment.is_null() {
            return;
        }
        &mut *pg_sys::dsm_segment_address(segment).cast::<Share>()
    };
    session::connect(pg_sys::Oid::from(share.database), "whatsapp_pg wa_process_batch");
    session::report_activity(Some("wa_process_batch()"));
    match pass(share) {
        Ok(tally) => {
            share.counts = [tally.claimed, tally.sent, tally.failed, tally.rescheduled, tally.unknown];
            share.state.store(DONE, Ordering::SeqCst);
        }
        Err(error) => {
            let text = error.parts().join("\u{1f}");
            let bytes = text.as_bytes();
            let length = bytes.len().min(MESSAGE_BYTES);
            if let (Some(to), Some(from)) = (share.message.get_mut(..length), bytes.get(..length)) {
                to.copy_from_slice(from);
                share.message_length = u32::try_from(length).unwrap_or(0);
            }
            share.state.store(FAILED, Ordering::SeqCst);
        }
    }
    session::report_statistics();
}

/// One pass: claims at most the batch, sends it, records it.
fn pass(share: &Share) -> Result<Tally> {
    let text = share.settings.get(..share.settings_length as usize).unwrap_or_default();
    let settings: Settings = serde_json::from_slice(text)
        .map_err(|error| Error::new(Kind::Internal, format!("the settings did not arrive whole: {error}")))?;
    let deadline = Instant::now() + PATIENCE + settings.connect_timeout + settings.request_timeout;
    let installed = tx::transaction(store::installed)?;
    if !installed.is_current() {
        return Err(Error::new(Kind::NotReady, "the extension's catalog is older than its library")
            .detail(format!("The library is version {}, the catalog {}.", env!("CARGO_PKG_VERSION"), installed.version))
            .hint("Run ALTER EXTENSION whatsapp_pg UPDATE."));
    }
    let run = rescue::begin_run()?;
    Clock::default().look()?;
    rescue::settle(&settings)?;
    rescue::tidy()?;
    let mut drain = Drain::new(settings, run)?.limited(share.batch_size);
    drain.look_again();
    let mut failures = 0;
    let started = Instant::now();
    loop {
        let patience = PATIENCE.saturating_sub(started.elapsed());
        drain.look_ahead(patience);
        if signals::stop_requested() || Instant::now() >= deadline {
            drain.stop(GRACE)?;
            break;
        }
        match drain.turn() {
            Ok(true) => failures = 0,
            Ok(false) if drain.is_finished(Timestamp::now(), patience) => break,
            Ok(false) => {
                let wait = drain.idle_for(Timestamp::now(), Duration::from_millis(200));
                signals::wait(wait, Some(drain.event_fd()));
            }
            Err(error) => {
                failures += 1;
                ereport!(WARNING, PgSqlErrorCode::ERRCODE_WARNING, "wa_process_batch() failed once", error.one_line());
                if failures >= 3 {
                    drain.stop(GRACE)?;
                    return Err(error);
                }
            }
        }
    }
    Ok(drain.tally())
}
