//! `whatsapp_queue` as callers see it: messages entering, the rows of an earlier call, and cancelling.

use pgrx::Uuid;

use crate::error::Result;
use crate::ids;
use crate::srf::Sink;
use crate::store;
use crate::time::Timestamp;

/// What all messages of one call have in common.
pub struct Batch<'a> {
    /// The organizer.
    pub organizer: Uuid,
    /// The event, if any.
    pub event_id: Option<Uuid>,
    /// The task, if any: a number gets one message per task.
    pub task_id: Option<Uuid>,
    /// The template.
    pub template: &'a str,
    /// Its language, settled.
    pub language: Option<&'a str>,
    /// 1 to 10.
    pub priority: i32,
    /// Not before.
    pub scheduled_for: Timestamp,
    /// Not after.
    pub expires_at: Option<Timestamp>,
    /// The caller's key.
    pub idempotency_key: Option<&'a str>,
    /// Variables of every recipient that brings none of its own, as JSON.
    pub variables: &'a str,
}

/// The recipients of one call, column by column.
#[derive(Default)]
pub struct Recipients {
    /// Numbers in E.164, or as given when refused.
    pub phones: Vec<String>,
    /// Own variables, as JSON.
    pub variables: Vec<Option<String>>,
    /// A code of ours when the recipient is refused.
    pub error_codes: Vec<Option<String>>,
    /// Why it is refused.
    pub errors: Vec<Option<String>>,
}

impl Recipients {
    /// Adds a recipient who gets the message.
    pub fn accept(&mut self, phone: String, variables: Option<String>) {
        self.push(phone, variables, None, None);
    }

    /// Adds a recipient who is recorded as failed.
    pub fn refuse(&mut self, given: String, variables: Option<String>, code: &str, reason: String) {
        self.push(given, variables, Some(code.to_owned()), Some(reason));
    }

    fn push(&mut self, phone: String, variables: Option<String>, code: Option<String>, reason: Option<String>) {
        self.phones.push(phone);
        self.variables.push(variables);
        self.error_codes.push(code);
        self.errors.push(reason);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.phones.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.phones.is_empty()
    }
}

macro_rules! insert {
    ($returning:literal) => {
        concat!(
            "INSERT INTO @extschema@.whatsapp_queue AS q
                 (id, user_id, event_id, task_id, template_name, language, priority, scheduled_for, expires_at,
                  idempotency_key, recipient_phone, template_variables, status, error_code, error_message)
             SELECT r.id, $1, $2, $3, $4, $5, $6, $7, $8, $9, r.phone, coalesce(r.variables::jsonb, $10::jsonb),
                    CASE WHEN r.code IS NULL THEN 'queued' ELSE 'failed' END, r.code, r.reason
             FROM unnest($11::text[], $12::text[], $13::text[], $14::text[], $15::uuid[])
                  AS r (phone, variables, code, reason, id)
             ON CONFLICT (task_id, recipient_phone) WHERE task_id IS NOT NULL DO NOTHING ",
            $returning
        )
    };
}

macro_rules! insert_args {
    ($batch:expr, $recipients:expr) => {{
        let new_ids = ids::several($recipients.len());
        [
            $batch.organizer.into(),
            $batch.event_id.into(),
            $batch.task_id.into(),
            $batch.template.into(),
            $batch.language.into(),
            $batch.priority.into(),
            $batch.scheduled_for.into(),
            $batch.expires_at.into(),
            $batch.idempotency_key.into(),
            $batch.variables.into(),
            $recipients.phones.into(),
            $recipients.variables.into(),
            $recipients.error_codes.into(),
            $recipients.errors.into(),
            new_ids.into(),
        ]
    }};
}

/// Queues the messages in one statement and answers their rows.
pub fn insert_into(batch: &Batch, recipients: Recipients, sink: &mut Sink) -> Result<u64> {
    store::write_into(insert!("RETURNING q.*"), &insert_args!(batch, recipients), sink)
}

/// Queues the messages in one statement; answers how many are queued and how many were refused.
pub fn insert(batch: &Batch, recipients: Recipients) -> Result<(i64, i64)> {
    const SQL: &str = concat!(
        "WITH made AS (",
        insert!("RETURNING q.status"),
        ") SELECT count(*) FILTER (WHERE status = 'queued'), count(*) FILTER (WHERE status = 'failed') FROM made"
    );
    let rows = store::write(SQL, &insert_args!(batch, recipients), |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Queues the messages in one statement and answers `{"queued": n, "messages": [rows]}`.
pub fn insert_as_json(batch: &Batch, recipients: Recipients) -> Result<pgrx::JsonB> {
    const SQL: &str = concat!(
        "WITH made AS (",
        insert!("RETURNING q.*"),
        ") SELECT pg_catalog.jsonb_build_object('queued', count(*) FILTER (WHERE m.status = 'queued'),
                                                 'messages', coalesce(jsonb_agg(to_jsonb(m) ORDER BY m.seq), '[]'))
           FROM made AS m"
    );
    one_json(store::write(SQL, &insert_args!(batch, recipients), |row| row.get(1))?)
}

/// The rows an earlier call with this key made.
pub fn of_key_into(organizer: &Uuid, key: &str, sink: &mut Sink) -> Result<u64> {
    const SQL: &str = "SELECT q.* FROM @extschema@.whatsapp_queue AS q
                       WHERE q.user_id = $1 AND q.idempotency_key = $2 ORDER BY q.seq";
    store::write_into(SQL, &[(*organizer).into(), key.into()], sink)
}

/// The rows an earlier call with this key made, as [`insert_as_json`] answers them.
pub fn of_key_as_json(organizer: &Uuid, key: &str) -> Result<pgrx::JsonB> {
    const SQL: &str = "SELECT pg_catalog.jsonb_build_object('queued', count(*) FILTER (WHERE m.status <> 'failed'),
                              'messages', coalesce(jsonb_agg(to_jsonb(m) ORDER BY m.seq), '[]'))
                       FROM @extschema@.whatsapp_queue AS m WHERE m.user_id = $1 AND m.idempotency_key = $2";
    one_json(store::read(SQL, &[(*organizer).into(), key.into()], |row| row.get(1))?)
}

fn one_json(mut rows: Vec<pgrx::JsonB>) -> Result<pgrx::JsonB> {
    Ok(rows.pop().unwrap_or(pgrx::JsonB(serde_json::Value::Null)))
}

/// How many of an organizer's messages wait to leave now. Beyond this many the ledger's figure is taken, which includes
/// those scheduled for later.
const COUNTED: i64 = 50_000;

/// How many of an organizer's messages stand before one that is queued now.
pub fn backlog(organizer: &Uuid) -> Result<u64> {
    const DUE: &str = "
        SELECT count(*) FROM (
            SELECT FROM generate_series(1, 10) AS p (priority)
            CROSS JOIN LATERAL (
                SELECT FROM @extschema@.whatsapp_queue AS q
                WHERE q.status = 'queued' AND q.user_id = $1 AND q.priority = p.priority AND q.scheduled_for <= now()
                LIMIT $2) AS due
            LIMIT $2) AS counted";
    const OPEN: &str = "SELECT coalesce(sum(CASE WHEN l.state = 'open' THEN l.change ELSE -l.change END), 0)::bigint
                        FROM @extschema@.whatsapp_ledger AS l
                        WHERE l.user_id = $1 AND (l.state = 'open' OR l.taken_from = 'open')";
    let due = store::read(DUE, &[(*organizer).into(), COUNTED.into()], |row| row.get::<i64>(1))?.pop().unwrap_or(0);
    if due < COUNTED {
        return Ok(due.unsigned_abs());
    }
    let open = store::read(OPEN, &[(*organizer).into()], |row| row.get::<i64>(1))?.pop().unwrap_or(0);
    Ok(open.max(due).unsigned_abs())
}

/// Which messages a cancellation means; what is None does not narrow it.
pub struct Selection {
    /// One message.
    pub id: Option<Uuid>,
    /// Those of a task.
    pub task_id: Option<Uuid>,
    /// Those of an event.
    pub event_id: Option<Uuid>,
    /// Those of a campaign.
    pub campaign_id: Option<Uuid>,
    /// Those of an organizer.
    pub organizer: Option<Uuid>,
}

/// The organizers whose queued messages a selection touches.
pub fn organizers_of(selection: &Selection) -> Result<Vec<Uuid>> {
    const SQL: &str = "SELECT DISTINCT q.user_id FROM @extschema@.whatsapp_queue AS q
                       WHERE ($1 IS NULL OR q.id = $1) AND ($2 IS NULL OR q.task_id = $2)
                         AND ($3 IS NULL OR q.event_id = $3) AND ($4 IS NULL OR q.campaign_id = $4)
                         AND ($5 IS NULL OR q.user_id = $5)";
    store::read(SQL, &selection_args(selection), |row| row.get(1))
}

/// Cancels what is still queued; what is being sent is left to its outcome.
pub fn cancel(selection: &Selection) -> Result<u64> {
    const SQL: &str = "UPDATE @extschema@.whatsapp_queue AS q
                       SET status = 'cancelled', error_message = 'cancelled with wa_cancel()', updated_at = now()
                       WHERE q.status = 'queued'
                         AND ($1 IS NULL OR q.id = $1) AND ($2 IS NULL OR q.task_id = $2)
                         AND ($3 IS NULL OR q.event_id = $3) AND ($4 IS NULL OR q.campaign_id = $4)
                         AND ($5 IS NULL OR q.user_id = $5)";
    store::execute(SQL, &selection_args(selection))
}

fn selection_args(selection: &Selection) -> [pgrx::datum::DatumWithOid<'static>; 5] {
    [
        selection.id.into(),
        selection.task_id.into(),
        selection.event_id.into(),
        selection.campaign_id.into(),
        selection.organizer.into(),
    ]
}
