//! What became of messages, as the worker records it: the row's state, a line in `whatsapp_delivery_logs` and one in
//! `whatsapp_ledger`, in one statement each. Answers to requests, and what the worker finds by itself: messages of dead
//! workers, of no account, out of time, of unknown outcome.

use std::time::Duration;

use pgrx::Uuid;

use crate::error::Result;
use crate::ids;
use crate::store;
use crate::time::Timestamp;

/// What became of an attempt, as the row and the log keep it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The message.
    pub id: Uuid,
    /// The claim it was made under.
    pub lease: i64,
    /// The state the row goes to.
    pub status: &'static str,
    /// What the log calls it.
    pub log_status: &'static str,
    /// When.
    pub at: Timestamp,
    /// When it is tried again, for rows that go back to the queue.
    pub again_at: Option<Timestamp>,
    /// Whether this counts as a retry.
    pub counts: bool,
    /// Meta's id of the message.
    pub message_id: Option<String>,
    /// Meta's code or ours.
    pub error_code: Option<String>,
    /// The error in words.
    pub error: Option<String>,
    /// error_data.details.
    pub details: Option<String>,
    /// HTTP status of the answer.
    pub http_status: Option<i32>,
    /// Meta's trace id.
    pub fbtrace_id: Option<String>,
    /// Milliseconds the call took.
    pub latency_ms: Option<i32>,
}

/// Records the outcomes of rows in one state: the new state, a line in the log, and one in the ledger.
macro_rules! record {
    ($ledger:literal, $which:literal) => {
        concat!(
            "WITH done AS (
                UPDATE @extschema@.whatsapp_queue AS q
                SET status = o.status, updated_at = o.at,
                    sent_at = CASE WHEN o.status = 'sent' THEN o.at ELSE q.sent_at END,
                    scheduled_for = coalesce(o.again_at, q.scheduled_for),
                    retry_count = q.retry_count + o.counts, attempts = q.attempts + 1,
                    meta_message_id = coalesce(o.message_id, q.meta_message_id),
                    error_code = o.error_code, error_message = o.error,
                    lease_until = NULL
                FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                            $7::int[], $8::text[], $9::text[], $10::text[], $11::text[], $12::int[], $13::text[],
                            $14::int[], $15::uuid[])
                     AS o (id, lease, status, log_status, at, again_at, counts, message_id, error_code, error, details,
                           http_status, fbtrace_id, latency_ms, log_id)
                WHERE q.id = o.id AND q.lease = o.lease AND q.status = $16 AND ", $which, "
                RETURNING q.user_id, q.created_at, coalesce(q.attempts, q.retry_count + 1 - o.counts) AS attempt, o.*
            ), booked AS (
                INSERT INTO @extschema@.whatsapp_ledger (user_id, day, state, change, cause, taken_from)
                SELECT d.user_id, (d.created_at AT TIME ZONE 'UTC')::date,
                       CASE d.status WHEN 'queued' THEN 'open' ELSE d.status END, count(*), 'worker', '", $ledger, "'
                FROM done AS d
                WHERE CASE d.status WHEN 'queued' THEN 'open' ELSE d.status END <> '", $ledger, "'
                GROUP BY 1, 2, 3
            )
            INSERT INTO @extschema@.whatsapp_delivery_logs
                (id, queue_id, user_id, status, \"timestamp\", meta_message_id, error_code, error_message, source, attempt,
                 http_status, details, fbtrace_id, latency_ms)
            SELECT d.log_id, d.id, d.user_id, d.log_status, d.at, d.message_id, d.error_code, d.error, 'send', d.attempt,
                   d.http_status, d.details, d.fbtrace_id, d.latency_ms
            FROM done AS d"
        )
    };
}

/// Records outcomes: the row's new state and a line in the log, for rows still under the lease they were claimed with.
/// An answer that comes after the row was declared unknown still counts, as long as nobody claimed it anew.
/// Answers how many were recorded.
pub fn record(outcomes: &[Outcome]) -> Result<u64> {
    const IN_TIME: &str = record!("open", "true");
    // What has just been recorded as unknown is not late.
    const LATE: &str = record!("unknown", "o.status <> 'unknown'");
    macro_rules! column {
        ($field:ident) => {
            outcomes.iter().map(|each| each.$field.clone()).collect::<Vec<_>>().into()
        };
    }
    let text =
        |pick: fn(&Outcome) -> &'static str| outcomes.iter().map(|each| pick(each).to_owned()).collect::<Vec<_>>();
    let args = |status: &'static str| {
        [
            column!(id),
            column!(lease),
            text(|each| each.status).into(),
            text(|each| each.log_status).into(),
            column!(at),
            column!(again_at),
            outcomes.iter().map(|each| i32::from(each.counts)).collect::<Vec<_>>().into(),
            column!(message_id),
            column!(error_code),
            column!(error),
            column!(details),
            column!(http_status),
            column!(fbtrace_id),
            column!(latency_ms),
            ids::several(outcomes.len()).into(),
            status.into(),
        ]
    };
    let recorded = store::execute(IN_TIME, &args("sending"))?;
    if recorded == outcomes.len() as u64 {
        return Ok(recorded);
    }
    Ok(recorded + store::execute(LATE, &args("unknown"))?)
}

/// Moves rows between states by the worker's own finding, with a line in the log and one in the ledger. The literal
/// arguments: the CTE `gone` that chooses and updates the rows, and the ledger's state before.
macro_rules! find {
    ($gone:literal, $before:literal, $attempt:literal) => {
        concat!(
            "WITH gone AS (", $gone, " RETURNING q.id, q.user_id, q.created_at, q.status, q.attempts, q.updated_at, q.error_code, q.error_message),
             booked AS (
                 INSERT INTO @extschema@.whatsapp_ledger (user_id, day, state, change, cause, taken_from)
                 SELECT g.user_id, (g.created_at AT TIME ZONE 'UTC')::date,
                        CASE g.status WHEN 'queued' THEN 'open' ELSE g.status END, count(*), 'worker', '", $before, "'
                 FROM gone AS g GROUP BY 1, 2, 3
             )
             INSERT INTO @extschema@.whatsapp_delivery_logs
                 (queue_id, user_id, status, \"timestamp\", error_code, error_message, source, attempt)
             SELECT g.id, g.user_id, CASE g.status WHEN 'queued' THEN 'returned' ELSE g.status END, g.updated_at,
                    g.error_code, g.error_message, 'worker', ", $attempt, "
             FROM gone AS g"
        )
    };
}

/// Rows a dead run left in `sending`, and rows whose lease is over, become `unknown`: nothing durable says which of
/// them were written to a socket. Answers how many.
pub fn rescue(dead_runs: Vec<i32>, without_lease: bool, now: Timestamp) -> Result<u64> {
    const SQL: &str = find!(
        "UPDATE @extschema@.whatsapp_queue AS q
         SET status = 'unknown', updated_at = $3, error_code = 'outcome_unknown', attempts = q.attempts + 1,
             error_message = 'the worker ended before it recorded an answer: Meta may have accepted the message'
         WHERE q.status = 'sending'
           AND ((q.lease >> 24)::int = ANY ($1) OR ($2 AND q.lease IS NULL) OR q.lease_until < $3)",
        "open",
        "coalesce(g.attempts, 1)"
    );
    store::execute(SQL, &[dead_runs.into(), without_lease.into(), now.into()])
}

/// Fails queued messages whose time is over, also those that a hold keeps back; a bounded number at a time.
pub fn expire(now: Timestamp) -> Result<u64> {
    const SQL: &str = find!(
        "UPDATE @extschema@.whatsapp_queue AS q
         SET status = 'failed', updated_at = $1, error_code = 'expired',
             error_message = 'it could not be sent before expires_at'
         WHERE q.id = ANY (ARRAY(
             SELECT o.id FROM @extschema@.whatsapp_queue AS o
             WHERE o.status = 'queued' AND o.expires_at <= $1 ORDER BY o.expires_at LIMIT 5000 FOR UPDATE SKIP LOCKED))",
        "open",
        "NULL"
    );
    store::execute(SQL, &[now.into()])
}

/// Fails an organizer's queued messages because nothing can ever send them; a bounded number at a time.
pub fn fail_unconfigured(organizer: &Uuid, now: Timestamp) -> Result<u64> {
    const SQL: &str = find!(
        "UPDATE @extschema@.whatsapp_queue AS q
         SET status = 'failed', updated_at = $2, error_code = 'not_configured',
             error_message = 'WhatsApp is not configured for this organizer: run wa_configure(), then queue it again'
         WHERE q.id = ANY (ARRAY(
             SELECT o.id FROM @extschema@.whatsapp_queue AS o
             WHERE o.status = 'queued' AND o.user_id = $1 AND o.priority = ANY ('{1,2,3,4,5,6,7,8,9,10}')
               AND o.scheduled_for <= $2
             LIMIT 1000 FOR UPDATE SKIP LOCKED))",
        "open",
        "NULL"
    );
    store::execute(SQL, &[(*organizer).into(), now.into()])
}

/// Messages of unknown outcome on which Meta reported while they were being sent, before it was clear that there would be
/// no answer: they go where the report says. Of a message that Meta accepted and failed, the failure
/// counts. Reports older than a person's decision to send again are of no use.
pub fn settle_reported(now: Timestamp) -> Result<u64> {
    const SQL: &str = find!(
        "UPDATE @extschema@.whatsapp_queue AS q
         SET status = w.status, updated_at = $1, sent_at = CASE w.status WHEN 'sent' THEN w.at ELSE q.sent_at END,
             meta_message_id = coalesce(q.meta_message_id, w.meta_message_id), error_code = w.error_code,
             error_message = w.error_message
         FROM @extschema@.whatsapp_queue AS u
         CROSS JOIN LATERAL (
             SELECT CASE WHEN f.id IS NULL THEN 'sent' ELSE 'failed' END AS status, l.\"timestamp\" AS at,
                    l.meta_message_id, f.error_code, f.error_message
             FROM @extschema@.whatsapp_delivery_logs AS l
             LEFT JOIN @extschema@.whatsapp_delivery_logs AS f
                    ON f.queue_id = u.id AND f.source = 'webhook' AND f.status = 'failed'
                   AND f.meta_message_id = l.meta_message_id
             WHERE l.queue_id = u.id AND l.source = 'webhook'
               AND l.status IN ('sent', 'delivered', 'read', 'played', 'failed')
               AND NOT EXISTS (SELECT FROM @extschema@.whatsapp_delivery_logs AS p
                               WHERE p.queue_id = u.id AND p.source = 'person' AND p.\"timestamp\" > l.\"timestamp\")
             ORDER BY f.id IS NOT NULL, l.\"timestamp\" LIMIT 1) AS w
         WHERE u.status = 'unknown' AND q.id = u.id AND q.status = 'unknown'",
        "unknown",
        "NULL"
    );
    store::execute(SQL, &[now.into()])
}

/// Applies the organizers' policies to messages of unknown outcome of which Meta has said nothing for so long: `fail`,
/// or `resend` where a status for a later message has come from the number, so that silence means something. What may
/// not be retried any more is left alone. Answers how many were queued again, and how many failed.
pub fn settle_unknown(now: Timestamp, wait: Duration, max_retries: u32) -> Result<(u64, u64)> {
    const RESEND: &str = find!(
        "UPDATE @extschema@.whatsapp_queue AS q
         SET status = 'queued', scheduled_for = $1, updated_at = $1, retry_count = q.retry_count + 1,
             error_code = 'resent',
             error_message = 'Meta reported on later messages and not on this one, so it is sent again'
         FROM @extschema@.whatsapp_config AS c
         JOIN @extschema@.whatsapp_pacing AS p ON p.phone_number_id = c.phone_number_id
         WHERE q.status = 'unknown' AND q.user_id = c.user_id AND c.on_unknown = 'resend' AND q.updated_at < $2
           AND p.status_seen_for > q.updated_at AND q.retry_count < coalesce(c.max_retries, $3)",
        "unknown",
        "NULL"
    );
    const FAIL: &str = find!(
        "UPDATE @extschema@.whatsapp_queue AS q
         SET status = 'failed', updated_at = $1,
             error_message = 'no answer was recorded and Meta reported nothing: it may have been delivered'
         FROM @extschema@.whatsapp_config AS c
         WHERE q.status = 'unknown' AND q.user_id = c.user_id AND c.on_unknown = 'fail' AND q.updated_at < $2",
        "unknown",
        "NULL"
    );
    let waited = now.minus(wait);
    let max_retries = i32::try_from(max_retries).unwrap_or(i32::MAX);
    let resent = store::execute(RESEND, &[now.into(), waited.into(), max_retries.into()])?;
    let failed = store::execute(FAIL, &[now.into(), waited.into()])?;
    Ok((resent, failed))
}
