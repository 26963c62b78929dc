//! What operators and organizers read about the product itself: the audit, the doctor's findings, a message's life. The
//! queries are SQL functions (`sql/audit.sql`, `sql/doctor.sql`, `sql/explain.sql`); here they are called, and what they
//! ask back about secrets and requests is looked up.

use pgrx::Uuid;
use pgrx::datum::{Date, TimestampWithTimeZone};

use crate::error::Result;
use crate::store::{self, installation};

/// One check of the audit, or a group that fails it.
pub struct Check {
    /// Its name.
    pub name: String,
    /// Whose messages; None: everybody's.
    pub organizer: Option<Uuid>,
    /// The day they entered.
    pub day: Option<Date>,
    /// How many there should be.
    pub expected: i64,
    /// How many there are.
    pub found: i64,
    /// Whether all is well.
    pub is_ok: bool,
    /// What it says.
    pub meaning: String,
}

/// Holds the ledger against the rows; `full` counts everything anew.
pub fn audit(full: bool) -> Result<Vec<Check>> {
    const SQL: &str = "SELECT r.check_name, r.user_id, r.day, r.expected, r.found, r.ok, r.meaning
                       FROM @extschema@.wa_audit_report($1) AS r";
    store::read(SQL, &[full.into()], |row| {
        Ok(Check {
            name: row.get(1)?,
            organizer: row.opt(2)?,
            day: row.opt(3)?,
            expected: row.get(4)?,
            found: row.get(5)?,
            is_ok: row.get(6)?,
            meaning: row.get(7)?,
        })
    })
}

/// Something the doctor found.
pub struct Finding {
    /// critical, warning, notice, ok.
    pub severity: String,
    /// What, in two words.
    pub name: String,
    /// The facts.
    pub detail: String,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub cure: String,
}

/// Looks for whatever is wrong. The library's version and whether it was preloaded are not in the catalog.
pub fn doctor(library: &str, is_preloaded: bool) -> Result<Vec<Finding>> {
    const SQL: &str = "SELECT r.severity, r.finding, r.detail, r.meaning, r.what_to_do
                       FROM @extschema@.wa_doctor_report($1, $2) AS r";
    store::read(SQL, &[library.into(), is_preloaded.into()], |row| {
        Ok(Finding {
            severity: row.get(1)?,
            name: row.get(2)?,
            detail: row.opt(3)?.unwrap_or_default(),
            meaning: row.get(4)?,
            cure: row.opt(5)?.unwrap_or_default(),
        })
    })
}

/// An event in a message's life.
pub struct Event {
    /// When.
    pub at: Option<TimestampWithTimeZone>,
    /// What.
    pub what: String,
    /// More about it.
    pub details: Option<String>,
}

/// A message's life, in order.
pub fn explain(id: &Uuid) -> Result<Vec<Event>> {
    const SQL: &str = "SELECT r.at, r.what, r.details FROM @extschema@.wa_explain_report($1) AS r";
    store::read(SQL, &[(*id).into()], |row| Ok(Event { at: row.opt(1)?, what: row.get(2)?, details: row.opt(3)? }))
}

/// What a message's request is made of.
pub struct Request {
    /// The organizer.
    pub organizer: Uuid,
    /// The recipient as stored.
    pub recipient: String,
    /// The same with most digits hidden.
    pub masked: String,
    /// The template.
    pub template: String,
    /// Its language, if settled.
    pub language: Option<String>,
    /// Variables as JSON.
    pub variables: String,
}

/// The parts of a message's request.
pub fn request(id: &Uuid) -> Result<Option<Request>> {
    const SQL: &str =
        "SELECT q.user_id, q.recipient_phone, @extschema@.whatsapp_masked(q.recipient_phone), q.template_name,
                              q.language, q.template_variables::text
                       FROM @extschema@.whatsapp_queue AS q WHERE q.id = $1";
    let rows = store::read(SQL, &[(*id).into()], |row| {
        Ok(Request {
            organizer: row.get(1)?,
            recipient: row.get(2)?,
            masked: row.get(3)?,
            template: row.get(4)?,
            language: row.opt(5)?,
            variables: row.get(6)?,
        })
    })?;
    Ok(rows.into_iter().next())
}

/// The organizer of a message.
pub fn organizer_of(id: &Uuid) -> Result<Option<Uuid>> {
    const SQL: &str = "SELECT q.user_id FROM @extschema@.whatsapp_queue AS q WHERE q.id = $1";
    Ok(store::read(SQL, &[(*id).into()], |row| row.get(1))?.pop())
}

/// Organizer, token and app secret of every account that sends, as stored.
pub fn stored_secrets() -> Result<Vec<(Uuid, String, Option<String>)>> {
    const SQL: &str = "SELECT c.user_id, c.access_token_encrypted, c.app_secret_encrypted
                       FROM @extschema@.whatsapp_config AS c WHERE c.status = 'active' ORDER BY c.user_id";
    store::read(SQL, &[], |row| Ok((row.get(1)?, row.get(2)?, row.opt(3)?)))
}

/// Organizers whose account another database may send for, and this one may not.
pub fn held_copies() -> Result<Vec<Uuid>> {
    const SQL: &str = "
        SELECT c.user_id FROM @extschema@.whatsapp_config AS c
        LEFT JOIN @extschema@.whatsapp_installation AS i ON true
        WHERE c.sender_installation IS DISTINCT FROM i.id OR c.sender_database IS DISTINCT FROM $1";
    store::read(SQL, &[installation::database().into()], |row| row.get(1))
}
