//! `ai_tasks`: what a fan-out reads and leaves behind.

use pgrx::{JsonB, Uuid};

use crate::error::Result;
use crate::store;

/// A task about to run.
pub struct Task {
    /// Its id.
    pub id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// The template.
    pub template: String,
    /// Who.
    pub filter: Option<JsonB>,
    /// Further variables.
    pub metadata: JsonB,
}

/// How a fan-out went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Messages queued.
    pub queued: i64,
    /// Attendees recorded as refused.
    pub refused: i64,
    /// Attendees without a number.
    pub no_phone: i64,
    /// Attendees whose number had its message already.
    pub duplicates: i64,
}

/// The task with this id.
pub fn find(id: &Uuid) -> Result<Option<Task>> {
    const SQL: &str = "SELECT t.event_id, t.template_name, t.recipient_filter, t.metadata
                       FROM @extschema@.ai_tasks AS t WHERE t.id = $1";
    let rows = store::write(SQL, &[(*id).into()], |row| {
        Ok(Task { id: *id, event_id: row.get(1)?, template: row.get(2)?, filter: row.opt(3)?, metadata: row.get(4)? })
    })?;
    Ok(rows.into_iter().next())
}

/// The organizers of a task, or of an event's tasks.
pub fn organizers_of(task: Option<Uuid>, event: Option<Uuid>) -> Result<Vec<Uuid>> {
    const SQL: &str = "SELECT DISTINCT t.user_id FROM @extschema@.ai_tasks AS t
                       WHERE (t.id = $1 OR t.event_id = $2) AND t.user_id IS NOT NULL";
    store::read(SQL, &[task.into(), event.into()], |row| row.get(1))
}

/// Records that a task's messages are queued. With none to wait for it is completed.
pub fn executed(id: &Uuid, organizer: &Uuid, counts: Counts) -> Result<()> {
    const SQL: &str = "
        UPDATE @extschema@.ai_tasks
        SET user_id = $2, queued_count = $3, refused_count = $4, no_phone_count = $5, duplicate_count = $6,
            executed_at = now(), error_message = NULL,
            status = CASE WHEN $3 = 0 THEN 'completed' ELSE status END
        WHERE id = $1";
    let small = |count: i64| i32::try_from(count).unwrap_or(i32::MAX);
    store::execute(
        SQL,
        &[
            (*id).into(),
            (*organizer).into(),
            small(counts.queued).into(),
            small(counts.refused).into(),
            small(counts.no_phone).into(),
            small(counts.duplicates).into(),
        ],
    )
    .map(drop)
}

/// Records that a task could not run, and why.
pub fn failed(id: &Uuid, reason: &str) -> Result<()> {
    const SQL: &str = "UPDATE @extschema@.ai_tasks SET status = 'failed', error_message = $2, executed_at = now()
                       WHERE id = $1";
    store::execute(SQL, &[(*id).into(), reason.into()]).map(drop)
}
