//! What was written down of time when the clock is set: limits are about spans of true time, so the moments they look at are
//! moved with the clock. Moments that people chose, such as a schedule or an expiry, stay what they are.

use crate::error::Result;
use crate::store;
use crate::time::Timestamp;

/// How the clock stood when a worker last looked.
pub struct Standing {
    /// Which start of which machine it was.
    pub boot_id: String,
    /// How far the wall clock was ahead of the machine's own, in microseconds.
    pub offset_us: i64,
}

/// How the clock stood, locked until the end of the transaction; None when nobody has looked yet.
pub fn lock() -> Result<Option<Standing>> {
    const SQL: &str = "SELECT boot_id, offset_us FROM @extschema@.whatsapp_clock FOR UPDATE";
    let rows = store::write(SQL, &[], |row| Ok(Standing { boot_id: row.get(1)?, offset_us: row.get(2)? }))?;
    Ok(rows.into_iter().next())
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

/// The machine started anew with an earlier clock: what seems to lie ahead is taken to have been just now.
pub fn bring_back(now: Timestamp) -> Result<()> {
    const USAGE: &str = "UPDATE @extschema@.whatsapp_usage SET starts = least(starts, $1), ends = $1 WHERE ends > $2";
    const RECIPIENTS: &str = "UPDATE @extschema@.whatsapp_recipients SET last_sent = $1 WHERE last_sent > $2";
    const PACING: &str = "UPDATE @extschema@.whatsapp_pacing SET next_free = least(next_free, $2),
                                 throttled_at = least(throttled_at, $1), status_seen_for = least(status_seen_for, $1)";
    let soon = now.plus(std::time::Duration::from_secs(60));
    for sql in [USAGE, RECIPIENTS, PACING] {
        store::execute(sql, &[now.into(), soon.into()])?;
    }
    Ok(())
}
