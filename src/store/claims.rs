//! `whatsapp_queue` as the worker sees it before it sends: finding what is due, and claiming it under a lease of its run.
//!
//! These statements must be index look-ups whatever the statistics say; [`crate::worker::session`] pins the plan settings
//! they rely on.

use std::collections::HashMap;

use cloud_api::admission::Contact;
use pgrx::Uuid;

use crate::error::Result;
use crate::store;
use crate::time::Timestamp;

/// An organizer's due or coming messages of one priority.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// The organizer.
    pub organizer: Uuid,
    /// The place just before its first message.
    pub start: Place,
}

/// Every organizer and priority with something queued: one index probe each, whatever the backlog.
pub fn lanes() -> Result<Vec<Lane>> {
    const SQL: &str = "
        WITH RECURSIVE organizer (user_id) AS (
            (SELECT q.user_id FROM @extschema@.whatsapp_queue AS q WHERE q.status = 'queued' ORDER BY q.user_id LIMIT 1)
            UNION ALL
            SELECT (SELECT q.user_id FROM @extschema@.whatsapp_queue AS q
                    WHERE q.status = 'queued' AND q.user_id > o.user_id ORDER BY q.user_id LIMIT 1)
            FROM organizer AS o WHERE o.user_id IS NOT NULL
        )
        SELECT o.user_id, p.priority, first.scheduled_for, first.seq - 1
        FROM organizer AS o
        CROSS JOIN generate_series(10, 1, -1) AS p (priority)
        CROSS JOIN LATERAL (
            SELECT q.scheduled_for, q.seq FROM @extschema@.whatsapp_queue AS q
            WHERE q.status = 'queued' AND q.user_id = o.user_id AND q.priority = p.priority
            ORDER BY q.scheduled_for, q.seq LIMIT 1
        ) AS first
        WHERE o.user_id IS NOT NULL";
    store::read(SQL, &[], |row| {
        Ok(Lane {
            organizer: row.get(1)?,
            start: Place { priority: row.get(2)?, scheduled_for: row.get(3)?, seq: row.get(4)? },
        })
    })
}

/// A place in an organizer's queue: everything of this priority up to it has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The priority.
    pub priority: i32,
    /// Time of the row.
    pub scheduled_for: Timestamp,
    /// Its number.
    pub seq: i64,
}

impl Place {
    /// Whether this place comes after another of the same priority.
    pub fn is_after(&self, other: &Self) -> bool {
        (self.scheduled_for, self.seq) > (other.scheduled_for, other.seq)
    }
}

/// A due message, with what the decision about it needs.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its id.
    pub id: Uuid,
    /// Where it stands.
    pub place: Place,
    /// Recipient, as stored.
    pub recipient: String,
    /// Template name.
    pub template: String,
    /// Language, if settled.
    pub language: Option<String>,
    /// Its event.
    pub event: Option<Uuid>,
    /// Its task.
    pub task: Option<Uuid>,
    /// Its campaign.
    pub campaign: Option<Uuid>,
    /// Not to be sent after.
    pub expires_at: Option<Timestamp>,
    /// What is known of the recipient.
    pub contact: Contact,
}

/// An organizer's due messages after these places, highest priority first, oldest first within a priority.
pub fn due(organizer: &Uuid, after: &[Place], now: Timestamp, at_most: u32) -> Result<Vec<Due>> {
    const SQL: &str = "
        SELECT d.id, d.priority, d.scheduled_for, d.seq, d.recipient_phone, d.template_name, d.language, d.event_id,
               d.task_id, d.campaign_id, d.expires_at, c.window_until, c.held_until, c.marketing_held_until,
               c.marketing_held_code, c.suppressed_code
        FROM unnest($2::int[], $3::timestamptz[], $4::bigint[]) AS p (priority, after_time, after_seq)
        CROSS JOIN LATERAL (
            SELECT q.* FROM @extschema@.whatsapp_queue AS q
            WHERE q.status = 'queued' AND q.user_id = $1 AND q.priority = p.priority AND q.scheduled_for <= $5
              AND (q.scheduled_for, q.seq) > (p.after_time, p.after_seq)
            ORDER BY q.scheduled_for, q.seq LIMIT $6
        ) AS d
        LEFT JOIN @extschema@.whatsapp_contacts AS c ON c.user_id = $1 AND c.phone = d.recipient_phone
        LIMIT $6";
    let args = [
        (*organizer).into(),
        after.iter().map(|place| place.priority).collect::<Vec<_>>().into(),
        after.iter().map(|place| place.scheduled_for).collect::<Vec<_>>().into(),
        after.iter().map(|place| place.seq).collect::<Vec<_>>().into(),
        now.into(),
        i64::from(at_most).into(),
    ];
    store::read(SQL, &args, |row| {
        let at = |n| Ok::<_, crate::error::Error>(row.opt::<Timestamp>(n)?.map(|at| at.0));
        Ok(Due {
            id: row.get(1)?,
            place: Place { priority: row.get(2)?, scheduled_for: row.get(3)?, seq: row.get(4)? },
            recipient: row.get(5)?,
            template: row.get(6)?,
            language: row.opt(7)?,
            event: row.opt(8)?,
            task: row.opt(9)?,
            campaign: row.opt(10)?,
            expires_at: row.opt(11)?,
            contact: Contact {
                window_until_us: at(12)?,
                held_until_us: at(13)?,
                marketing_held_until_us: at(14)?,
                marketing_code: row.opt(15)?,
                suppressed_code: row.opt(16)?,
            },
        })
    })
}

/// What a sender needs of a claimed message beside what was known before.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Variables as JSON.
    pub variables: String,
    /// Retries so far.
    pub retry_count: i32,
}

/// Claims these messages, as far as they are still queued and nobody else holds them. The status is a parameter, here and
/// in [`super::outcomes`]: as a literal it would let the planner take a partial index for the primary key, and read all of it.
pub fn claim(ids: Vec<Uuid>, lease: i64, lease_until: Timestamp, now: Timestamp) -> Result<HashMap<[u8; 16], Claimed>> {
    const SQL: &str = "
        WITH free AS (
            SELECT q.id FROM unnest($1::uuid[]) AS w (id) JOIN @extschema@.whatsapp_queue AS q ON q.id = w.id
            WHERE q.status = $5 FOR UPDATE OF q SKIP LOCKED
        )
        UPDATE @extschema@.whatsapp_queue AS q
        SET status = 'sending', lease = $2, lease_until = $3, updated_at = $4
        FROM free AS f WHERE q.id = f.id
        RETURNING q.id, q.template_variables::text, q.retry_count";
    let rows =
        store::write(SQL, &[ids.into(), lease.into(), lease_until.into(), now.into(), "queued".into()], |row| {
            let claimed = Claimed { variables: row.get(2)?, retry_count: row.get(3)? };
            Ok((*row.get::<Uuid>(1)?.as_bytes(), claimed))
        })?;
    Ok(rows.into_iter().collect())
}

/// Runs that hold rows in `sending`, by the number in the upper part of their leases; None for rows without a lease.
pub fn runs_with_leases() -> Result<Vec<Option<i32>>> {
    const SQL: &str =
        "SELECT DISTINCT (q.lease >> 24)::int FROM @extschema@.whatsapp_queue AS q WHERE q.status = 'sending'";
    store::read(SQL, &[], |row| row.opt(1))
}

/// The number of a new run.
pub fn next_run() -> Result<i32> {
    const SQL: &str = "SELECT nextval('@extschema@.whatsapp_runs')::int";
    Ok(store::write(SQL, &[], |row| row.get(1))?.pop().unwrap_or(1))
}
