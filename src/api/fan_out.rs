//! From a task to one message per attendee. Runs inside the statement that sets the task to `executing`; whatever goes
//! wrong becomes the task's `failed` with the reason and does not abort that statement.

use std::collections::HashSet;

use cloud_api::phone::PhoneNumber;
use cloud_api::template::Template;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::{JsonB, PgTrigger, Uuid, WhoAllocated, pg_trigger};
use serde_json::{Map, Value};

use super::triggers::{Tuple, field, raise};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::store::host::{self, Attendee};
use crate::store::queue::{self, Batch, Recipients};
use crate::store::tasks::{self, Counts, Task};
use crate::store::{config, templates};
use crate::time::Timestamp;
use crate::tx;

/// Attendees read and queued at a time.
const CHUNK: i64 = 5_000;
const PRIORITY: i32 = 5;

/// BEFORE INSERT OR UPDATE OF event_id ON ai_tasks: the organizer is the event's.
#[pg_trigger(sql = false)]
fn whatsapp_task_owner<'a>(
    trigger: &'a PgTrigger<'a>,
) -> std::result::Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, pgrx::PgTriggerError> {
    Ok(raise(own(trigger)))
}

fn own<'a>(trigger: &'a PgTrigger<'a>) -> Result<Tuple<'a>> {
    let mut row = trigger.new().ok_or_else(|| Error::new(Kind::Internal, "the trigger has no new row"))?.into_owned();
    let Some(event_id) = field::<Uuid>(&row, "event_id")? else {
        return Ok(row);
    };
    // Without the application's tables, or for an event that is not there (yet), the row stays as it was written.
    let event = caller::as_owner(|| host::linked().and_then(|host| host.event(&event_id)));
    if let Ok(Some(event)) = event {
        row.set_by_name("user_id", event.organizer)
            .map_err(|error| Error::new(Kind::Internal, format!("ai_tasks has no column user_id: {error}")))?;
    }
    Ok(row)
}

/// AFTER INSERT OR UPDATE ON ai_tasks, for rows that have just become `executing`.
#[pg_trigger(sql = false)]
fn whatsapp_task_fan_out<'a>(
    trigger: &'a PgTrigger<'a>,
) -> std::result::Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, pgrx::PgTriggerError> {
    raise(fan_out(trigger));
    Ok(None::<Tuple<'a>>)
}

fn fan_out<'a>(trigger: &'a PgTrigger<'a>) -> Result<()> {
    let row = trigger.new().ok_or_else(|| Error::new(Kind::Internal, "the trigger has no new row"))?;
    let id = field::<Uuid>(&row.into_owned(), "id")?.ok_or_else(|| Error::null("id"))?;
    let caller = Caller::current()?;
    caller::as_owner(|| {
        if let Err(error) = tx::subtransaction(|| run(&id, &caller)) {
            tasks::failed(&id, &error.one_line())?;
        }
        Ok(())
    })
}

fn run(id: &Uuid, caller: &Caller) -> Result<()> {
    let Some(task) = tasks::find(id)? else {
        return Ok(());
    };
    let host = host::linked()?;
    let event = host
        .event(&task.event_id)?
        .ok_or_else(|| Error::new(Kind::UndefinedObject, format!("event {} does not exist", task.event_id)))?;
    caller.check_may_act_for(&event.organizer)?;
    let account = config::account(&event.organizer)?.ok_or_else(|| {
        Error::new(Kind::UndefinedObject, format!("WhatsApp is not configured for organizer {}", event.organizer))
            .hint("Run wa_configure() with the organizer's number and token, then set the task to pending and executing again.")
    })?;
    if !account.is_active {
        return Err(Error::new(
            Kind::NotReady,
            format!("the WhatsApp account of organizer {} is not active", event.organizer),
        )
        .hint("Run wa_configure(…, status => 'active'), then set the task to pending and executing again."));
    }
    let metadata = match &task.metadata.0 {
        Value::Object(metadata) => metadata.clone(),
        _ => {
            return Err(Error::new(Kind::InvalidParameter, "metadata must be a JSON object"));
        }
    };
    let language = metadata.get("language").and_then(Value::as_str);
    let template =
        templates::find(&event.organizer, &task.template, language, account.default_language.as_deref())?.parse()?;
    let filter = filter_of(&task)?;
    let unknown = host.unknown_keys(&task.event_id, &filter)?;
    if !unknown.is_empty() {
        return Err(Error::new(
            Kind::InvalidParameter,
            format!("recipient_filter names what nobody has: {}", unknown.join(", ")),
        )
        .detail("A key must be a column of attendees or orders, or be in some attendee's attendee_info."));
    }
    // What is the same for all: the task's metadata, and the event over it.
    let mut common = metadata;
    if let Value::Object(fields) = event.fields.0 {
        common.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let fan = Fan { task: &task, organizer: event.organizer, template: &template };
    let mut counts = Counts::default();
    let mut seen = HashSet::new();
    let mut unfilled = None;
    let names = template.variables().to_vec();
    host.each_attendee(&task.event_id, &JsonB(Value::Object(common)), &filter, &names, CHUNK, |attendees| {
        fan.queue(attendees, &mut seen, &mut counts, &mut unfilled)
    })?;
    if let Some(reason) = unfilled.filter(|_| counts.queued == 0) {
        return Err(Error::new(Kind::InvalidParameter, "the template's variables could not be filled for anybody")
            .detail(reason)
            .hint("Put what is the same for all into the task's metadata, and the rest into attendee_info."));
    }
    tasks::executed(id, &event.organizer, counts)
}

fn filter_of(task: &Task) -> Result<JsonB> {
    match task.filter.as_ref().map(|filter| &filter.0) {
        None | Some(Value::Null) => Ok(JsonB(Value::Object(Map::new()))),
        Some(Value::Object(filter)) => Ok(JsonB(Value::Object(filter.clone()))),
        Some(_) => Err(Error::new(Kind::InvalidParameter, "recipient_filter must be a JSON object")
            .detail("For example: {\"ticket_type\": \"VIP\"}")),
    }
}

struct Fan<'a> {
    task: &'a Task,
    organizer: Uuid,
    template: &'a Template,
}

impl Fan<'_> {
    /// Queues one chunk: a message per number, refusals as failed rows with the reason.
    fn queue(
        &self,
        attendees: Vec<Attendee>,
        seen: &mut HashSet<String>,
        counts: &mut Counts,
        unfilled: &mut Option<String>,
    ) -> Result<()> {
        let mut recipients = Recipients::default();
        for attendee in attendees {
            let Some(phone) = attendee.phone.filter(|phone| !phone.trim().is_empty()) else {
                counts.no_phone += 1;
                continue;
            };
            match PhoneNumber::parse(&phone) {
                Err(error) => recipients.refuse(phone, Some(attendee.variables), "invalid_number", error.to_string()),
                Ok(parsed) => {
                    let number = parsed.number.as_str().to_owned();
                    if !seen.insert(number.clone()) {
                        counts.duplicates += 1;
                        continue;
                    }
                    match self.problem_with(&attendee.variables) {
                        None => recipients.accept(number, Some(attendee.variables)),
                        Some(reason) => {
                            unfilled.get_or_insert_with(|| reason.clone());
                            recipients.refuse(number, Some(attendee.variables), "invalid_variables", reason);
                        }
                    }
                }
            }
        }
        if recipients.is_empty() {
            return Ok(());
        }
        let given = i64::try_from(recipients.len()).unwrap_or(i64::MAX);
        let (queued, refused) = queue::insert(
            &Batch {
                organizer: self.organizer,
                event_id: Some(self.task.event_id),
                task_id: Some(self.task.id),
                template: self.template.name(),
                language: Some(self.template.language()),
                priority: PRIORITY,
                scheduled_for: Timestamp::now(),
                expires_at: None,
                idempotency_key: None,
                variables: "{}",
            },
            recipients,
        )?;
        counts.queued += queued;
        counts.refused += refused;
        counts.duplicates += given - queued - refused;
        Ok(())
    }

    fn problem_with(&self, variables: &str) -> Option<String> {
        let Ok(Value::Object(variables)) = serde_json::from_str(variables) else {
            return Some("the variables are not a JSON object".to_owned());
        };
        let violations = self.template.check(&variables).err()?;
        Some(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}
