//! `whatsapp_queue` and `whatsapp_delivery_logs` as the worker sees them: finding what is due, claiming it, recording what
//! became of it, and rescuing what a dead worker left.
//!
//! These statements must be index look-ups whatever the statistics say; [`crate::worker::session`] pins the plan settings
//! they rely on.

use pgrx::Uuid;

use crate::error::Result;
use crate::ids;
use crate::store;
use crate::time::Timestamp;

/// An organizer's due or coming messages of one priority.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// The organizer.
    pub organizer: Uuid,
    /// The priority.
    pub priority: i32,
    /// When its first message is due.
    pub first_due: Timestamp,
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
        SELECT o.user_id, p.priority, first.scheduled_for
        FROM organizer AS o
        CROSS JOIN generate_series(10, 1, -1) AS p (priority)
        CROSS JOIN LATERAL (
            SELECT q.scheduled_for FROM @extschema@.whatsapp_queue AS q
            WHERE q.status = 'queued' AND q.user_id = o.user_id AND q.priority = p.priority
            ORDER BY q.scheduled_for, q.seq LIMIT 1
        ) AS first
        WHERE o.user_id IS NOT NULL";
    store::read(SQL, &[], |row| Ok(Lane { organizer: row.get(1)?, priority: row.get(2)?, first_due: row.get(3)? }))
}

/// Where a claim continues: everything before has been claimed already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watermark {
    /// The priority it is for.
    pub priority: i32,
    /// Time of the last row claimed.
    pub scheduled_for: Timestamp,
    /// Its number.
    pub seq: i64,
}

impl Watermark {
    /// From the beginning.
    pub fn zero(priority: i32) -> Self {
        Self { priority, scheduled_for: Timestamp::MIN, seq: i64::MIN }
    }
}

/// What a claim asks for.
pub struct Claim<'a> {
    /// The organizer.
    pub organizer: Uuid,
    /// Priorities to look at, highest first, each with the place to continue from.
    pub lanes: &'a [Watermark],
    /// Only what is due at this moment.
    pub now: Timestamp,
    /// Rows at most.
    pub limit: u32,
    /// Fencing token.
    pub lease: i64,
    /// The claim is void after this.
    pub lease_until: Timestamp,
    /// Only these numbers, when not empty.
    pub only_to: &'a [String],
    /// Only recipients that count already against the 24 h limit of this portfolio.
    pub only_known_to: Option<&'a str>,
}

/// A claimed message.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its id.
    pub id: Uuid,
    /// Its priority.
    pub priority: i32,
    /// When it was due.
    pub scheduled_for: Timestamp,
    /// Its number.
    pub seq: i64,
    /// Recipient, as stored.
    pub recipient: String,
    /// Template name.
    pub template: String,
    /// Language, if settled.
    pub language: Option<String>,
    /// Variables as JSON.
    pub variables: String,
    /// Retries so far.
    pub retry_count: i32,
    /// Not to be sent after.
    pub expires_at: Option<Timestamp>,
}

macro_rules! claim {
    ($due:literal) => {
        concat!(
            "WITH due AS (
                 SELECT d.id
                 FROM unnest($2::int[], $3::timestamptz[], $4::bigint[]) AS p (priority, after_time, after_seq)
                 CROSS JOIN LATERAL (",
            $due,
            ") AS d
                 LIMIT $6
             )
             UPDATE @extschema@.whatsapp_queue AS q
             SET status = 'sending', lease = $7, lease_until = $8, updated_at = $5
             FROM due WHERE q.id = due.id
             RETURNING q.id, q.priority, q.scheduled_for, q.seq, q.recipient_phone, q.template_name, q.language,
                       q.template_variables::text, q.retry_count, q.expires_at"
        )
    };
}

/// Claims an organizer's due messages, highest priority first, oldest first within a priority; rows that another claim
/// holds are passed over.
pub fn claim(claim: &Claim) -> Result<Vec<Claimed>> {
    const ALL: &str = claim!(
        "SELECT q.id FROM @extschema@.whatsapp_queue AS q
         WHERE q.status = 'queued' AND q.user_id = $1 AND q.priority = p.priority AND q.scheduled_for <= $5
           AND (q.scheduled_for, q.seq) > (p.after_time, p.after_seq)
         ORDER BY q.scheduled_for, q.seq LIMIT $6 FOR UPDATE SKIP LOCKED"
    );
    const ONLY_TO: &str = claim!(
        "SELECT q.id FROM @extschema@.whatsapp_queue AS q
         WHERE q.status = 'queued' AND q.user_id = $1 AND q.priority = p.priority AND q.scheduled_for <= $5
           AND (q.scheduled_for, q.seq) > (p.after_time, p.after_seq) AND q.recipient_phone = ANY ($9)
         ORDER BY q.scheduled_for, q.seq LIMIT $6 FOR UPDATE SKIP LOCKED"
    );
    // The 24 h budget is spent: recipients who have had a message are still free. The look ahead is bounded, so that an
    // exhausted organizer with a long backlog costs little.
    const KNOWN: &str = claim!(
        "SELECT q.id FROM (
             SELECT c.id, c.recipient_phone FROM @extschema@.whatsapp_queue AS c
             WHERE c.status = 'queued' AND c.user_id = $1 AND c.priority = p.priority AND c.scheduled_for <= $5
             ORDER BY c.scheduled_for, c.seq LIMIT 1000
         ) AS ahead
         JOIN @extschema@.whatsapp_recipients AS r
           ON r.portfolio = $10 AND r.recipient_phone = ahead.recipient_phone
         JOIN @extschema@.whatsapp_queue AS q ON q.id = ahead.id
         WHERE q.status = 'queued' AND (cardinality($9::text[]) = 0 OR q.recipient_phone = ANY ($9))
         LIMIT $6 FOR UPDATE OF q SKIP LOCKED"
    );
    let priorities: Vec<i32> = claim.lanes.iter().map(|lane| lane.priority).collect();
    let times: Vec<Timestamp> = claim.lanes.iter().map(|lane| lane.scheduled_for).collect();
    let seqs: Vec<i64> = claim.lanes.iter().map(|lane| lane.seq).collect();
    let mut args: Vec<pgrx::datum::DatumWithOid> = vec![
        claim.organizer.into(),
        priorities.into(),
        times.into(),
        seqs.into(),
        claim.now.into(),
        i64::from(claim.limit).into(),
        claim.lease.into(),
        claim.lease_until.into(),
    ];
    let sql = match claim.only_known_to {
        Some(portfolio) => {
            args.push(claim.only_to.to_vec().into());
            args.push(portfolio.into());
            KNOWN
        }
        None if claim.only_to.is_empty() => ALL,
        None => {
            args.push(claim.only_to.to_vec().into());
            ONLY_TO
        }
    };
    let mut claimed = store::write(sql, &args, |row| {
        Ok(Claimed {
            id: row.get(1)?,
            priority: row.get(2)?,
            scheduled_for: row.get(3)?,
            seq: row.get(4)?,
            recipient: row.get(5)?,
            template: row.get(6)?,
            language: row.opt(7)?,
            variables: row.get(8)?,
            retry_count: row.get(9)?,
            expires_at: row.opt(10)?,
        })
    })?;
    claimed.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.scheduled_for, row.seq));
    Ok(claimed)
}

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

/// Records outcomes: the row's new state and a line in the log, for rows still under the lease they were claimed with.
/// An answer that comes after the row was declared unknown still counts, as long as nobody claimed it anew.
/// Answers how many were recorded.
pub fn record(outcomes: &[Outcome]) -> Result<u64> {
    const SQL: &str = "
        WITH done AS (
            UPDATE @extschema@.whatsapp_queue AS q
            SET status = o.status, updated_at = o.at,
                sent_at = CASE WHEN o.status = 'sent' THEN o.at ELSE q.sent_at END,
                scheduled_for = coalesce(o.again_at, q.scheduled_for),
                retry_count = q.retry_count + o.counts,
                meta_message_id = coalesce(o.message_id, q.meta_message_id),
                error_code = o.error_code, error_message = o.error,
                lease_until = NULL
            FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                        $7::int[], $8::text[], $9::text[], $10::text[], $11::text[], $12::int[], $13::text[],
                        $14::int[], $15::uuid[])
                 AS o (id, lease, status, log_status, at, again_at, counts, message_id, error_code, error, details,
                       http_status, fbtrace_id, latency_ms, log_id)
            WHERE q.id = o.id AND q.lease = o.lease AND q.status IN ('sending', 'unknown')
            RETURNING q.user_id, q.retry_count + 1 - o.counts AS attempt, o.*
        )
        INSERT INTO @extschema@.whatsapp_delivery_logs
            (id, queue_id, user_id, status, \"timestamp\", meta_message_id, error_code, error_message, source, attempt,
             http_status, details, fbtrace_id, latency_ms)
        SELECT d.log_id, d.id, d.user_id, d.log_status, d.at, d.message_id, d.error_code, d.error, 'send', d.attempt,
               d.http_status, d.details, d.fbtrace_id, d.latency_ms
        FROM done AS d";
    macro_rules! column {
        ($field:ident) => {
            outcomes.iter().map(|each| each.$field.clone()).collect::<Vec<_>>().into()
        };
    }
    let text =
        |pick: fn(&Outcome) -> &'static str| outcomes.iter().map(|each| pick(each).to_owned()).collect::<Vec<_>>();
    store::execute(
        SQL,
        &[
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
        ],
    )
}

/// Runs that hold rows in `sending`, by the number in the upper part of their leases; None for rows without a lease.
pub fn runs_with_leases() -> Result<Vec<Option<i32>>> {
    const SQL: &str =
        "SELECT DISTINCT (q.lease >> 24)::int FROM @extschema@.whatsapp_queue AS q WHERE q.status = 'sending'";
    store::read(SQL, &[], |row| row.opt(1))
}

/// Rows a dead run left in `sending`, and rows whose lease is over, become `unknown`: nothing durable says which of
/// them were written to a socket. Answers how many.
pub fn rescue(dead_runs: Vec<i32>, without_lease: bool, now: Timestamp) -> Result<u64> {
    const SQL: &str = "
        WITH left_behind AS (
            UPDATE @extschema@.whatsapp_queue AS q
            SET status = 'unknown', updated_at = $3, error_code = 'outcome_unknown',
                error_message = 'the worker ended before it recorded an answer: Meta may have accepted the message'
            WHERE q.status = 'sending'
              AND ((q.lease >> 24)::int = ANY ($1) OR ($2 AND q.lease IS NULL) OR q.lease_until < $3)
            RETURNING q.id, q.user_id, q.retry_count + 1 AS attempt, q.error_code, q.error_message
        )
        INSERT INTO @extschema@.whatsapp_delivery_logs
            (queue_id, user_id, status, \"timestamp\", error_code, error_message, source, attempt)
        SELECT l.id, l.user_id, 'unknown', $3, l.error_code, l.error_message, 'worker', l.attempt FROM left_behind AS l";
    store::execute(SQL, &[dead_runs.into(), without_lease.into(), now.into()])
}

/// Fails an organizer's queued messages because nothing can ever send them; a bounded number at a time.
pub fn fail_unconfigured(organizer: &Uuid, now: Timestamp) -> Result<u64> {
    const SQL: &str = "
        WITH hopeless AS (
            SELECT q.id FROM @extschema@.whatsapp_queue AS q
            WHERE q.status = 'queued' AND q.user_id = $1 AND q.priority = ANY ('{1,2,3,4,5,6,7,8,9,10}')
              AND q.scheduled_for <= $2
            LIMIT 1000 FOR UPDATE SKIP LOCKED
        ), failed AS (
            UPDATE @extschema@.whatsapp_queue AS q
            SET status = 'failed', updated_at = $2, error_code = 'not_configured',
                error_message = 'WhatsApp is not configured for this organizer: run wa_configure(), then queue it again'
            FROM hopeless AS h WHERE q.id = h.id
            RETURNING q.id, q.user_id, q.error_code, q.error_message
        )
        INSERT INTO @extschema@.whatsapp_delivery_logs
            (queue_id, user_id, status, \"timestamp\", error_code, error_message, source)
        SELECT f.id, f.user_id, 'failed', $2, f.error_code, f.error_message, 'worker' FROM failed AS f";
    store::execute(SQL, &[(*organizer).into(), now.into()])
}

/// The number of a new run.
pub fn next_run() -> Result<i32> {
    const SQL: &str = "SELECT nextval('@extschema@.whatsapp_runs')::int";
    Ok(store::write(SQL, &[], |row| row.get(1))?.pop().unwrap_or(1))
}
