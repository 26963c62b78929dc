//! One row of `whatsapp_queue`, for whoever decides about it.

use pgrx::{Uuid, pg_sys};

use crate::error::Result;
use crate::srf::Sink;
use crate::store;

/// A message.
pub struct Message {
    /// The organizer.
    pub organizer: Uuid,
    /// Its status.
    pub status: String,
    /// The template.
    pub template: String,
    /// Its language, if settled.
    pub language: Option<String>,
    /// Variables as JSON.
    pub variables: String,
    /// Whether the current transaction wrote this version of it.
    pub is_own: bool,
}

/// The message with this id, as it is now; locked for a change if wanted.
pub fn find(id: &Uuid, lock: bool) -> Result<Option<Message>> {
    const LOOK: &str = "
        SELECT q.user_id, q.status, q.template_name, q.language, q.template_variables::text,
               q.xmin::text::bigint
        FROM @extschema@.whatsapp_queue AS q WHERE q.id = $1";
    const LOCK: &str = "
        SELECT q.user_id, q.status, q.template_name, q.language, q.template_variables::text, 0::bigint
        FROM @extschema@.whatsapp_queue AS q WHERE q.id = $1 FOR UPDATE";
    // As a statement that writes, each look sees what has been committed meanwhile.
    let rows = store::write(if lock { LOCK } else { LOOK }, &[(*id).into()], |row| {
        Ok(Message {
            organizer: row.get(1)?,
            status: row.get(2)?,
            template: row.get(3)?,
            language: row.opt(4)?,
            variables: row.get(5)?,
            is_own: u32::try_from(row.get::<i64>(6)?).is_ok_and(is_own),
        })
    })?;
    Ok(rows.into_iter().next())
}

/// Whether the current transaction, or a part of it that a savepoint began, has this id.
fn is_own(transaction: u32) -> bool {
    // SAFETY: looks at this backend's own transactions.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(pg_sys::TransactionId::from_inner(transaction)) }
}

/// Queues a message again, with these variables if given, and writes into the log who did it.
pub fn requeue_into(id: &Uuid, variables: Option<&str>, by: &str, sink: &mut Sink) -> Result<()> {
    const LOG: &str = "
        INSERT INTO @extschema@.whatsapp_delivery_logs (queue_id, user_id, status, error_code, error_message, source)
        SELECT q.id, q.user_id, 'queued', q.error_code,
               CASE q.status WHEN 'unknown' THEN 'sent again by ' || $2 || ', though Meta may have it'
                             ELSE 'queued again by ' || $2 END, 'person'
        FROM @extschema@.whatsapp_queue AS q WHERE q.id = $1";
    const SQL: &str = "
        UPDATE @extschema@.whatsapp_queue AS q
        SET status = 'queued', scheduled_for = least(q.scheduled_for, now()), updated_at = now(), retry_count = 0,
            error_code = NULL, error_message = NULL, template_variables = coalesce($2::jsonb, q.template_variables),
            expires_at = CASE WHEN q.expires_at <= now() THEN NULL ELSE q.expires_at END
        WHERE q.id = $1 RETURNING q.*";
    store::execute(LOG, &[(*id).into(), by.into()])?;
    store::write_into(SQL, &[(*id).into(), variables.into()], sink).map(drop)
}
