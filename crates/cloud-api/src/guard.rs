//! What one call is doing: how far it got, until when it may go on, and whether its first byte may still be written.
//!
//! ureq hands connections from call to call, so a connection cannot know whose call it serves. But a blocking call stays on
//! its thread from start to end: its state lives in the thread, and the connection ([`crate::transport`]) and the resolver
//! ([`crate::resolver`]) ask here.

use crate::gate::Gate;
use crate::pacing::Pace;
use scoped_tls::scoped_thread_local;
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ureq::unversioned::transport::{NextTimeout, time};

/// How far a call got. Everything before [`Stage::Written`] has sent no byte of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing done yet.
    Prepare,
    /// Looking up the address.
    Resolve,
    /// Opening the connection.
    Connect,
    /// Agreeing on TLS.
    Tls,
    /// Another thread took the call back.
    Revoked,
    /// The first byte may have gone out.
    Written,
    /// The request was passed on and its answer is awaited.
    Read,
}

impl Stage {
    /// Whether a byte of the request may have left.
    pub(crate) fn is_written(self) -> bool {
        matches!(self, Self::Written | Self::Read)
    }
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Until there is a connection.
    pub(crate) connect: Duration,
    /// From start to end.
    pub(crate) total: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    stage: Stage,
    connect_by: Instant,
    end_by: Instant,
    /// How fast requests may leave.
    pace: Pace,
}

scoped_thread_local!(static WRITTEN: AtomicBool);
scoped_thread_local!(static GATE: Gate);

thread_local! {
    static PROGRESS: Cell<Option<Progress>> = const { Cell::new(None) };
}

/// Runs one call under its limits and tells how far it got.
pub(crate) fn supervise<R>(
    written: &AtomicBool,
    gate: Option<(&Gate, Pace)>,
    limits: Limits,
    call: impl FnOnce() -> R,
) -> (R, Stage) {
    let now = Instant::now();
    PROGRESS.set(Some(Progress {
        stage: Stage::Prepare,
        connect_by: now + limits.connect.min(limits.total),
        end_by: now + limits.total,
        pace: gate.map_or(Pace { per_second: 0 }, |(_, pace)| pace),
    }));
    let result = WRITTEN.set(written, || match gate {
        Some((gate, _)) => GATE.set(gate, call),
        None => call(),
    });
    let stage = PROGRESS.take().map_or(Stage::Prepare, |progress| progress.stage);
    (result, stage)
}

/// The call has come to a stage. It never goes back behind its first byte.
pub(crate) fn enter(stage: Stage) {
    if let Some(progress) = PROGRESS.get()
        && (!progress.stage.is_written() || stage.is_written())
    {
        PROGRESS.set(Some(Progress { stage, ..progress }));
    }
}

/// Asks for leave to write. Given once for the whole call, unless another thread took the call back first.
pub(crate) fn begin_writing() -> Result<(), ureq::Error> {
    let begun = PROGRESS.get().is_some_and(|progress| progress.stage.is_written());
    if begun || !WRITTEN.is_set() {
        return Ok(());
    }
    // The one moment that decides whose call it is: see `Call::written`.
    let leave = || !WRITTEN.with(|written| written.swap(true, Ordering::SeqCst));
    let has_left = match PROGRESS.get() {
        Some(progress) if GATE.is_set() => GATE.with(|gate| gate.pass(progress.pace, leave)),
        _ => leave(),
    };
    if !has_left {
        enter(Stage::Revoked);
        return Err(ureq::Error::Io(io::Error::other("taken back")));
    }
    enter(Stage::Written);
    Ok(())
}

/// When the current stage must be over.
pub(crate) fn deadline() -> Option<Instant> {
    PROGRESS.get().map(|progress| match progress.stage {
        Stage::Prepare | Stage::Resolve | Stage::Connect | Stage::Tls => progress.connect_by,
        Stage::Revoked | Stage::Written | Stage::Read => progress.end_by,
    })
}

/// Cuts a timeout of ureq's, which counts one phase only, down to what is left of the call.
pub(crate) fn cut(timeout: NextTimeout) -> Result<NextTimeout, ureq::Error> {
    let Some(deadline) = deadline() else {
        return Ok(timeout);
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ureq::Error::Timeout(timeout.reason));
    }
    let after = match timeout.after {
        time::Duration::Exact(after) => after.min(left),
        time::Duration::NotHappening => left,
    };
    Ok(NextTimeout { after: after.into(), ..timeout })
}
