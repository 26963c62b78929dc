//! What was written down of time when the clock is set: limits are about spans of true time, so the moments they look at are
//! moved with the clock. Moments that people chose, such as a schedule or an expiry, stay what they are.

use std::time::Duration;

use crate::error::Result;
use crate::store;
use crate::time::{self, Timestamp};

/// Nothing is written further ahead: slots reach a minute, and a rest after 130429 as long as Meta asks for.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// How the clock stood when a worker last looked.
pub struct Standing {
    /// Which start of which machine it was.
    pub boot_id: String,
    /// How far the wall clock was ahead of the machine's own, in microseconds.
    pub offset_us: i64,
}

/// Keys of the advisory lock: "wapg", and a number that is no run's.
const LOCK: (i32, i32) = (0x7761_7067, -1);

/// How the clock stood, when no worker is in a transaction that relies on it; None when nobody has looked yet.
pub fn lock() -> Result<Option<Standing>> {
    const WAIT: &str = "SELECT pg_advisory_xact_lock($1, $2)";
    const SQL: &str = "SELECT boot_id, offset_us FROM @extschema@.whatsapp_clock";
    store::write(WAIT, &[LOCK.0.into(), LOCK.1.into()], |_| Ok(()))?;
    let rows = store::write(SQL, &[], |row| Ok(Standing { boot_id: row.get(1)?, offset_us: row.get(2)? }))?;
    Ok(rows.into_iter().next())
}

/// Whether the clock is still the one by which the times were written, and nobody is about to move them. It holds until
/// the end of the transaction, but for a clock that is set in the middle of it.
pub fn agrees() -> Result<bool> {
    const SQL: &str =
        "SELECT pg_try_advisory_xact_lock_shared($1, $2), (SELECT offset_us FROM @extschema@.whatsapp_clock)";
    let rows = store::write(SQL, &[LOCK.0.into(), LOCK.1.into()], |row| Ok((row.get::<bool>(1)?, row.opt::<i64>(2)?)))?;
    let known = rows.into_iter().next().and_then(|(is_free, known)| known.filter(|_| is_free));
    Ok(known.is_some_and(|known| (time::clock_offset() - known).abs() <= time::CLOCK_TOLERANCE_US))
}

/// Writes down how the clock stands.
pub fn save(standing: &Standing) -> Result<()> {
    const SQL: &str = "
        INSERT INTO @extschema@.whatsapp_clock (boot_id, offset_us) VALUES ($1, $2)
        ON CONFLICT (only_one) DO UPDATE SET boot_id = excluded.boot_id, offset_us = excluded.offset_us";
    store::execute(SQL, &[standing.boot_id.as_str().into(), standing.offset_us.into()]).map(drop)
}

/// The clock was set by so many microseconds: moves what limits, holds and leases are counted by.
pub fn move_times(by_us: i64, now: Timestamp) -> Result<()> {
    const MOVES: &[&str] = &[
        "UPDATE @extschema@.whatsapp_usage SET starts = starts + $1 * interval '1 microsecond',
                                               ends = ends + $1 * interval '1 microsecond'",
        "UPDATE @extschema@.whatsapp_recipients SET last_sent = last_sent + $1 * interval '1 microsecond'",
        "UPDATE @extschema@.whatsapp_pacing SET next_free = next_free + $1 * interval '1 microsecond',
                                                throttled_at = throttled_at + $1 * interval '1 microsecond',
                                                status_seen_for = status_seen_for + $1 * interval '1 microsecond'",
        "UPDATE @extschema@.whatsapp_holds SET until = until + $1 * interval '1 microsecond',
                                               held_at = held_at + $1 * interval '1 microsecond'
         WHERE source = 'meta' AND until < 'infinity'",
        "UPDATE @extschema@.whatsapp_contacts
         SET held_until = CASE WHEN held_code IS NULL OR held_until = 'infinity' THEN held_until
                               ELSE held_until + $1 * interval '1 microsecond' END,
             marketing_held_until = CASE WHEN marketing_held_until = 'infinity' THEN marketing_held_until
                                         ELSE marketing_held_until + $1 * interval '1 microsecond' END,
             pair_failed_at = pair_failed_at + $1 * interval '1 microsecond',
             undeliverable_at = undeliverable_at + $1 * interval '1 microsecond'
         WHERE coalesce(held_until, marketing_held_until, pair_failed_at, undeliverable_at) IS NOT NULL",
        "UPDATE @extschema@.whatsapp_queue SET lease_until = lease_until + $1 * interval '1 microsecond'
         WHERE status = 'sending'",
        "UPDATE @extschema@.whatsapp_queue SET updated_at = updated_at + $1 * interval '1 microsecond'
         WHERE status = 'unknown'",
    ];
    // Queued, or put off for a retry, while the clock was wrong: what has been written in the future was written then.
    const QUEUED: &str = "
        UPDATE @extschema@.whatsapp_queue
        SET scheduled_for = scheduled_for + $1 * interval '1 microsecond',
            updated_at = updated_at + $1 * interval '1 microsecond'
        WHERE status = 'queued' AND updated_at > $2 AND scheduled_for > $2
          AND (error_code IS NOT NULL OR scheduled_for <= updated_at)";
    for sql in MOVES {
        store::execute(sql, &[by_us.into()])?;
    }
    if by_us < 0 { store::execute(QUEUED, &[by_us.into(), now.into()]).map(drop) } else { Ok(()) }
}

/// What lies further ahead than anything is written ahead was written by a clock that was wrong: it is taken to have been
/// just now.
pub fn bring_back(now: Timestamp) -> Result<()> {
    const USAGE: &str = "UPDATE @extschema@.whatsapp_usage SET starts = least(starts, $1), ends = $1 WHERE ends > $2";
    const RECIPIENTS: &str = "UPDATE @extschema@.whatsapp_recipients SET last_sent = $1 WHERE last_sent > $2";
    const PACING: &str = "
        UPDATE @extschema@.whatsapp_pacing
        SET next_free = least(next_free, $2), throttled_at = least(throttled_at, $1),
            status_seen_for = least(status_seen_for, $1)
        WHERE greatest(next_free, throttled_at, status_seen_for) > $2";
    for sql in [USAGE, RECIPIENTS, PACING] {
        store::execute(sql, &[now.into(), now.plus(AHEAD).into()])?;
    }
    Ok(())
}
