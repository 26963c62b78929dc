//! What Meta reports about messages by webhook, applied in sets: the log, the state of rows whose outcome was unknown or
//! turned, what is known of recipients, and the sign that webhooks arrive. Statuses come early, late, twice and in any
//! order; what has been applied once changes nothing a second time.

use pgrx::Uuid;

use crate::error::Result;
use crate::store;
use crate::time::Timestamp;

/// An account that may have sent what a webhook reports on.
pub struct Receiver {
    /// The organizer.
    pub organizer: Uuid,
    /// Meta's id of the number.
    pub phone_number_id: String,
    /// Its throughput.
    pub per_second: u32,
    /// The sealed app secret or a reference to it.
    pub app_secret: String,
}

/// The accounts with one of these numbers that have an app secret.
pub fn receivers(phone_number_ids: Vec<String>) -> Result<Vec<Receiver>> {
    const SQL: &str = "SELECT c.user_id, c.phone_number_id, c.messages_per_second, c.app_secret_encrypted
                       FROM @extschema@.whatsapp_config AS c
                       WHERE c.phone_number_id = ANY ($1) AND c.app_secret_encrypted IS NOT NULL";
    store::read(SQL, &[phone_number_ids.into()], |row| {
        Ok(Receiver {
            organizer: row.get(1)?,
            phone_number_id: row.get(2)?,
            per_second: row.get::<i32>(3)?.unsigned_abs(),
            app_secret: row.get(4)?,
        })
    })
}

/// A status, ready for the log.
pub struct Report {
    /// The message it is about.
    pub queue_id: Uuid,
    /// Meta's id of it.
    pub message_id: String,
    /// sent, delivered, read, played, failed, or what else Meta may say.
    pub status: String,
    /// When it happened.
    pub at: Timestamp,
    /// Meta's code, of failures.
    pub code: Option<String>,
    /// The failure in words.
    pub error: Option<String>,
}

/// A message that Meta failed after it had accepted it.
pub struct Failed {
    /// The organizer.
    pub organizer: Uuid,
    /// The recipient.
    pub recipient: String,
    /// The template.
    pub template: String,
    /// Its language.
    pub language: Option<String>,
    /// Its category, if known.
    pub category: Option<String>,
    /// Meta's code.
    pub code: String,
}

/// Applies reports about messages of these organizers. Answers the messages that failed by them.
pub fn apply(organizers: Vec<Uuid>, reports: &[Report]) -> Result<Vec<Failed>> {
    // The rows are locked in the order of their ids, so that two deliveries cannot deadlock.
    const LOCK: &str = "SELECT q.id FROM @extschema@.whatsapp_queue AS q
                        WHERE q.id = ANY ($1) AND q.user_id = ANY ($2) ORDER BY q.id FOR UPDATE";
    const LOG: &str = "
        INSERT INTO @extschema@.whatsapp_delivery_logs
            (queue_id, user_id, status, \"timestamp\", meta_message_id, error_code, error_message, source)
        SELECT DISTINCT ON (q.id, r.message_id, r.status)
               q.id, q.user_id, r.status, r.at, r.message_id, r.code, r.error, 'webhook'
        FROM unnest($1::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[])
             AS r (queue_id, message_id, status, at, code, error)
        JOIN @extschema@.whatsapp_queue AS q ON q.id = r.queue_id AND q.user_id = ANY ($2)
        WHERE NOT EXISTS (SELECT FROM @extschema@.whatsapp_delivery_logs AS l
                          WHERE l.queue_id = q.id AND l.source = 'webhook' AND l.status = r.status
                            AND l.meta_message_id = r.message_id)
        ORDER BY q.id, r.message_id, r.status, r.at";
    // Accepted after all: nobody knew, the policy gave up on it, or it was about to be sent again. What is being sent keeps
    // its state: its outcome is about to be recorded, and `settle_reported` looks for what was reported meanwhile.
    const SENT: &str = "
        UPDATE @extschema@.whatsapp_queue AS q
        SET status = 'sent', sent_at = r.at, updated_at = now(), meta_message_id = r.message_id, error_code = NULL,
            error_message = NULL
        FROM (SELECT DISTINCT ON (s.queue_id) s.*
              FROM unnest($1::uuid[], $3::text[], $4::text[], $5::timestamptz[]) AS s (queue_id, message_id, status, at)
              WHERE s.status IN ('sent', 'delivered', 'read', 'played') ORDER BY s.queue_id, s.at) AS r
        WHERE q.id = r.queue_id AND q.user_id = ANY ($2)
          AND (q.status = 'unknown' OR (q.status = 'queued' AND q.attempts > 0)
               OR (q.status = 'failed' AND q.error_code = 'outcome_unknown'))";
    // It may come before our own record of the first attempt, which then finds the row final.
    const FAILED: &str = "
        UPDATE @extschema@.whatsapp_queue AS q
        SET status = 'failed', updated_at = now(), meta_message_id = coalesce(q.meta_message_id, r.message_id),
            error_code = r.code, error_message = r.error
        FROM (SELECT DISTINCT ON (s.queue_id) s.*
              FROM unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) AS s (queue_id, message_id, status, code, error)
              WHERE s.status = 'failed' ORDER BY s.queue_id) AS r
        WHERE q.id = r.queue_id AND q.user_id = ANY ($2)
          AND (q.status = 'unknown' OR (q.status = 'sent' AND coalesce(q.meta_message_id, r.message_id) = r.message_id)
               OR (q.status = 'queued' AND q.error_code = 'resent')
               OR (q.status = 'sending' AND q.attempts = 0))
        RETURNING q.user_id, q.recipient_phone, q.template_name, q.language,
                  (SELECT t.category FROM @extschema@.whatsapp_templates AS t
                   WHERE t.user_id = q.user_id AND t.template_name = q.template_name LIMIT 1), coalesce(r.code, 'failed')";
    // Who gets messages again can be reached.
    const REACHED: &str = "
        UPDATE @extschema@.whatsapp_contacts AS c
        SET undeliverable = 0, suppressed_at = NULL, suppressed_code = NULL, updated_at = now()
        FROM unnest($1::uuid[], $3::text[]) AS r (queue_id, status)
        JOIN @extschema@.whatsapp_queue AS q ON q.id = r.queue_id AND q.user_id = ANY ($2)
        WHERE r.status IN ('delivered', 'read', 'played') AND c.user_id = q.user_id AND c.phone = q.recipient_phone
          AND c.undeliverable > 0";
    // By when the message was attempted, not by when we heard of it: only a word about a later message means something.
    // What a dead worker left has no time of its attempt and gives no sign.
    const SEEN: &str = "
        UPDATE @extschema@.whatsapp_pacing AS p SET status_seen_for = greatest(p.status_seen_for, s.at)
        FROM (SELECT c.phone_number_id, max(l.\"timestamp\" - coalesce(l.latency_ms, 0) * interval '1 millisecond') AS at
              FROM @extschema@.whatsapp_queue AS q
              JOIN @extschema@.whatsapp_config AS c ON c.user_id = q.user_id
              JOIN @extschema@.whatsapp_delivery_logs AS l
                ON l.queue_id = q.id AND l.source = 'send' AND l.status IN ('sent', 'unknown')
              WHERE q.id = ANY ($1) AND q.user_id = ANY ($2) GROUP BY c.phone_number_id) AS s
        WHERE p.phone_number_id = s.phone_number_id
          AND (p.status_seen_for IS NULL OR p.status_seen_for < s.at - interval '1 second')";
    let ids: Vec<Uuid> = reports.iter().map(|report| report.queue_id).collect();
    let texts = |pick: fn(&Report) -> &str| reports.iter().map(|report| pick(report).to_owned()).collect::<Vec<_>>();
    let options =
        |pick: fn(&Report) -> &Option<String>| reports.iter().map(|report| pick(report).clone()).collect::<Vec<_>>();
    let times: Vec<Timestamp> = reports.iter().map(|report| report.at).collect();
    let (messages, statuses) = (texts(|it| &it.message_id), texts(|it| &it.status));
    let (codes, errors) = (options(|it| &it.code), options(|it| &it.error));
    store::write(LOCK, &[ids.clone().into(), organizers.clone().into()], |_| Ok(()))?;
    store::execute(
        LOG,
        &[
            ids.clone().into(),
            organizers.clone().into(),
            messages.clone().into(),
            statuses.clone().into(),
            times.clone().into(),
            codes.clone().into(),
            errors.clone().into(),
        ],
    )?;
    store::execute(
        SENT,
        &[
            ids.clone().into(),
            organizers.clone().into(),
            messages.clone().into(),
            statuses.clone().into(),
            times.into(),
        ],
    )?;
    let failed = store::write(
        FAILED,
        &[
            ids.clone().into(),
            organizers.clone().into(),
            messages.into(),
            statuses.clone().into(),
            codes.into(),
            errors.into(),
        ],
        |row| {
            Ok(Failed {
                organizer: row.get(1)?,
                recipient: row.get(2)?,
                template: row.get(3)?,
                language: row.opt(4)?,
                category: row.opt(5)?,
                code: row.get(6)?,
            })
        },
    )?;
    store::execute(REACHED, &[ids.clone().into(), organizers.clone().into(), statuses.into()])?;
    store::execute(SEEN, &[ids.into(), organizers.into()])?;
    Ok(failed)
}

/// People wrote: their service windows are open for 24 hours from then (Meta: "Service messages").
pub fn open_windows(organizer: &Uuid, phones: Vec<String>, at: Vec<Timestamp>) -> Result<()> {
    const SQL: &str = "
        INSERT INTO @extschema@.whatsapp_contacts AS c (user_id, phone, window_until)
        SELECT $1, w.phone, max(w.at) + interval '24 hours'
        FROM unnest($2::text[], $3::timestamptz[]) AS w (phone, at) GROUP BY w.phone ORDER BY w.phone
        ON CONFLICT (user_id, phone) DO UPDATE
        SET window_until = greatest(c.window_until, excluded.window_until), updated_at = now()";
    store::execute(SQL, &[(*organizer).into(), phones.into(), at.into()]).map(drop)
}
