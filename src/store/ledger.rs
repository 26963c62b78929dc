//! `whatsapp_ledger`: lines are added by triggers and by the statements that record outcomes; here old ones are summed up.

use std::time::Duration;

use crate::error::Result;
use crate::store;
use crate::time::Timestamp;

/// Lines stay as they were written for so long.
const FRESH: Duration = Duration::from_secs(60);

/// Replaces old lines by one per organizer, day, states and cause; a bounded number at a time.
pub fn sum_up(now: Timestamp) -> Result<()> {
    const ARE_MANY: &str = "SELECT count(*) >= 1000 FROM (
                                SELECT FROM @extschema@.whatsapp_ledger AS l
                                WHERE NOT l.is_sum AND l.at < $1 ORDER BY l.at LIMIT 1000) AS old";
    const SQL: &str = "
        WITH old AS (
            DELETE FROM @extschema@.whatsapp_ledger AS l
            WHERE l.ctid = ANY (ARRAY(SELECT o.ctid FROM @extschema@.whatsapp_ledger AS o
                                      WHERE NOT o.is_sum AND o.at < $1 ORDER BY o.at LIMIT 100000))
            RETURNING l.*
        )
        INSERT INTO @extschema@.whatsapp_ledger AS s (user_id, day, state, change, cause, at, is_sum, taken_from)
        SELECT o.user_id, o.day, o.state, sum(o.change), o.cause, max(o.at), true, o.taken_from FROM old AS o
        GROUP BY o.user_id, o.day, o.state, o.cause, o.taken_from
        ON CONFLICT (user_id, day, state, cause, taken_from) WHERE is_sum
        DO UPDATE SET change = s.change + excluded.change, at = excluded.at";
    let before = now.minus(FRESH);
    let are_many = store::read(ARE_MANY, &[before.into()], |row| row.get::<bool>(1))?.pop().unwrap_or(false);
    if are_many { store::execute(SQL, &[before.into()]).map(drop) } else { Ok(()) }
}
