//! Runs and what they leave behind. Every worker takes a run number and holds an advisory lock on it for as long as it
//! lives; leases carry the number. Whoever finds rows in `sending` whose run is not locked knows that the worker is
//! dead, without any clock. `lease_until` is only the second line, for a worker that lives but is stuck.

use crate::error::Result;
use crate::settings::Settings;
use crate::store::{admission, claims, clock, database, holds, host, ledger, locks, outcomes};
use crate::time::Timestamp;
use crate::tx;

/// Takes a number for this process and marks it as alive; cleans up after runs that are not.
pub fn begin_run() -> Result<i32> {
    let run = tx::owner_transaction(|| {
        let run = claims::next_run()?;
        locks::hold_run(run)?;
        Ok(run)
    })?;
    rescue(run)?;
    Ok(run)
}

/// Declares unknown what dead runs left in `sending`.
pub fn rescue(own_run: i32) -> Result<()> {
    tx::owner_transaction(|| {
        if !database::try_lock_queue()? {
            return Ok(());
        }
        let now = Timestamp::now();
        let mut dead = Vec::new();
        let mut without_lease = false;
        for run in claims::runs_with_leases()? {
            match run {
                None => without_lease = true,
                Some(run) if run != own_run && !locks::is_run_alive(run)? => dead.push(run),
                Some(_) => {}
            }
        }
        outcomes::rescue(dead, without_lease, now).map(drop)
    })
}

/// What happens to messages that nobody is sending: those whose time is over fail; those of unknown outcome go by what Meta
/// has reported, else in time by their organizer's policy.
/// True when something was queued again.
pub fn settle(settings: &Settings) -> Result<bool> {
    tx::owner_transaction(|| {
        if !database::try_lock_queue()? {
            return Ok(false);
        }
        let now = Timestamp::now();
        outcomes::expire(now)?;
        outcomes::settle_reported(now)?;
        let (resent, _) = outcomes::settle_unknown(now, settings.unknown_wait, settings.max_retries)?;
        Ok(resent > 0)
    })
}

/// Forgets what nobody looks at any more, and sums up old lines of the ledger.
pub fn tidy() -> Result<()> {
    tx::owner_transaction(|| {
        let now = Timestamp::now();
        if clock::agrees()? {
            clock::bring_back(now)?;
        }
        admission::forget_usage(now)?;
        holds::forget_ended(now)?;
        ledger::sum_up(now)
    })
}

/// Tells the application's `rate_limits` what was used. The table is somebody else's: that it refuses is no failure of
/// ours, and what could not be told is told the next time.
pub fn mirror() -> Result<()> {
    tx::owner_transaction(|| {
        if !database::try_lock_queue()? {
            return Ok(());
        }
        host::mirror_usage(Timestamp::now())
    })
}
