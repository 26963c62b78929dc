//! `wa_enqueue` in its three forms, and `wa_send`: everything that can be known to be wrong is refused here, with the
//! reason and the cure, before a row is written.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use cloud_api::phone::PhoneNumber;
use cloud_api::template::Template;
use cloud_api::tier::Tier;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{JsonB, PgSqlErrorCode, Uuid, ereport, pg_extern, pg_sys};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Answer, check_writable, required};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::srf::Sink;
use crate::store::config::Account;
use crate::store::idempotency::{self, Claimed};
use crate::store::queue::{self, Batch, Recipients};
use crate::store::{self, config, limits, templates};
use crate::time::Timestamp;

/// A refusal names so many of the bad recipients.
const NAMED: usize = 20;

/// What the forms have in common, as SQL gives it.
struct Common<'a> {
    template_name: Option<&'a str>,
    variables: Option<JsonB>,
    event_id: Option<Uuid>,
    scheduled_for: Option<TimestampWithTimeZone>,
    priority: Option<i32>,
    language: Option<&'a str>,
    idempotency_key: Option<&'a str>,
    expires_at: Option<TimestampWithTimeZone>,
    on_bad: Option<&'a str>,
}

/// One recipient as given.
struct Given {
    to: String,
    variables: Option<Map<String, Value>>,
}

macro_rules! form {
    ($(#[$doc:meta])* $name:ident, $recipients:ident: $type:ty, $given:expr) => {
        $(#[$doc])*
        #[pg_extern(sql = false)]
        #[expect(clippy::too_many_arguments, reason = "they are the SQL function's")]
        fn $name(
            user_id: Option<Uuid>,
            $recipients: $type,
            template_name: Option<&str>,
            variables: Option<JsonB>,
            event_id: Option<Uuid>,
            scheduled_for: Option<TimestampWithTimeZone>,
            priority: Option<i32>,
            language: Option<&str>,
            idempotency_key: Option<&str>,
            expires_at: Option<TimestampWithTimeZone>,
            on_bad: Option<&str>,
            fcinfo: pg_sys::FunctionCallInfo,
        ) -> Answer<()> {
            let common = Common {
                template_name, variables, event_id, scheduled_for, priority, language, idempotency_key, expires_at, on_bad,
            };
            // SAFETY: declared RETURNS SETOF whatsapp_queue.
            let mut sink = unsafe { Sink::new(fcinfo) };
            Ok(enqueue(user_id, $given, common, &mut sink)?)
        }
    };
}

form! {
    /// The same message to several numbers.
    wa_enqueue_many, recipients: Option<Vec<Option<String>>>, numbers(recipients)
}
form! {
    /// A message to one number.
    wa_enqueue_one, recipient: Option<String>, one_number(recipient)
}
form! {
    /// A message to several numbers, each with variables of its own.
    wa_enqueue_messages, messages: Option<JsonB>, messages_of(messages)
}

/// The same for callers whose organizer is known from their token.
#[pg_extern(sql = false)]
#[expect(clippy::too_many_arguments, reason = "they are the SQL function's")]
fn wa_send(
    template_name: Option<&str>,
    recipients: Option<Vec<Option<String>>>,
    variables: Option<JsonB>,
    event_id: Option<Uuid>,
    scheduled_for: Option<TimestampWithTimeZone>,
    priority: Option<i32>,
    language: Option<&str>,
    idempotency_key: Option<&str>,
    expires_at: Option<TimestampWithTimeZone>,
    on_bad: Option<&str>,
) -> Answer<JsonB> {
    let common = Common {
        template_name,
        variables,
        event_id,
        scheduled_for,
        priority,
        language,
        idempotency_key,
        expires_at,
        on_bad,
    };
    Ok(send(numbers(recipients), common)?)
}

fn enqueue(user_id: Option<Uuid>, given: Result<Vec<Given>>, common: Common, sink: &mut Sink) -> Result<()> {
    check_writable("queue messages")?;
    let organizer = required(user_id, "user_id")?;
    Caller::current()?.check_may_act_for(&organizer)?;
    caller::as_owner(|| {
        let call = Call::check(organizer, given?, common)?;
        match call.claim_key()? {
            Some(key) => queue::of_key_into(&organizer, key, sink)?,
            None => queue::insert_into(&call.batch(), call.recipients()?, sink)?,
        };
        Ok(())
    })
}

fn send(given: Result<Vec<Given>>, common: Common) -> Result<JsonB> {
    check_writable("queue messages")?;
    let caller = Caller::current()?;
    let organizer = caller.only_organizer()?;
    caller.check_may_act_for(&organizer)?;
    caller::as_owner(|| {
        let call = Call::check(organizer, given?, common)?;
        match call.claim_key()? {
            Some(key) => queue::of_key_as_json(&organizer, key),
            None => queue::insert_as_json(&call.batch(), call.recipients()?),
        }
    })
}

fn numbers(recipients: Option<Vec<Option<String>>>) -> Result<Vec<Given>> {
    let recipients = required(recipients, "recipients")?;
    if let Some(position) = recipients.iter().position(Option::is_none) {
        return Err(Error::new(Kind::Null, "recipients must not contain null").detail(format!(
            "Element {} of {} is null.",
            position + 1,
            recipients.len()
        )));
    }
    Ok(recipients.into_iter().flatten().map(|to| Given { to, variables: None }).collect())
}

fn one_number(recipient: Option<String>) -> Result<Vec<Given>> {
    let to = required(recipient, "recipient")?;
    let looks = to.trim_start();
    if looks.starts_with('{') {
        return Err(Error::new(Kind::InvalidParameter, "recipient is one phone number, not an array")
            .detail("The text looks like an array.")
            .hint("Cast it, wa_enqueue(…, recipients => '{…}'::text[], …), or write ARRAY['+…', '+…']."));
    }
    if looks.starts_with('[') || looks.starts_with('"') {
        return Err(Error::new(Kind::InvalidParameter, "recipient is one phone number, not JSON")
            .detail("The text looks like JSON.")
            .hint("For a JSON list of {\"to\", \"variables\"} write wa_enqueue(…, messages => '[…]'::jsonb, …)."));
    }
    Ok(vec![Given { to, variables: None }])
}

fn messages_of(messages: Option<JsonB>) -> Result<Vec<Given>> {
    let shape = |detail: String| {
        Error::new(Kind::InvalidParameter, "messages must be a list of {\"to\", \"variables\"}")
            .detail(detail)
            .hint("For example: [{\"to\": \"+14155550123\", \"variables\": {\"attendee_name\": \"Ada\"}}]")
    };
    let Value::Array(list) = required(messages, "messages")?.0 else {
        return Err(shape("It is not a JSON list.".to_owned()));
    };
    let mut given = Vec::with_capacity(list.len());
    for (n, message) in list.into_iter().enumerate() {
        let Value::Object(mut message) = message else {
            return Err(shape(format!("Element {} is not an object.", n + 1)));
        };
        let Some(Value::String(to)) = message.remove("to") else {
            return Err(shape(format!("Element {} has no text \"to\".", n + 1)));
        };
        let variables = match message.remove("variables") {
            None | Some(Value::Null) => None,
            Some(Value::Object(variables)) => Some(variables),
            Some(_) => {
                return Err(shape(format!("\"variables\" of element {} is not an object.", n + 1)));
            }
        };
        if let Some(other) = message.keys().next() {
            return Err(shape(format!("Element {} has \"{other}\", which is not known.", n + 1)));
        }
        given.push(Given { to, variables });
    }
    Ok(given)
}

/// What to do with recipients that cannot be written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnBad {
    Refuse,
    Record,
}

/// A call whose common part is in order.
struct Call<'a> {
    organizer: Uuid,
    given: Vec<Given>,
    template: Arc<Template>,
    variables: Map<String, Value>,
    variables_text: String,
    event_id: Option<Uuid>,
    scheduled_for: Timestamp,
    expires_at: Option<Timestamp>,
    priority: i32,
    idempotency_key: Option<&'a str>,
    asked_language: Option<&'a str>,
    asked_schedule: Timestamp,
    on_bad: OnBad,
}

impl<'a> Call<'a> {
    fn check(organizer: Uuid, given: Vec<Given>, common: Common<'a>) -> Result<Self> {
        let name = required(common.template_name, "template_name")?;
        let variables = match required(common.variables, "variables")?.0 {
            Value::Object(variables) => variables,
            other => {
                return Err(Error::new(Kind::InvalidParameter, "variables must be a JSON object")
                    .detail(format!("It is {}.", kind_of(&other)))
                    .hint("For example: {\"attendee_name\": \"Ada\", \"event_name\": \"Tech Summit\"}"));
            }
        };
        let priority = required(common.priority, "priority")?;
        if !(1..=10).contains(&priority) {
            return Err(Error::new(Kind::InvalidParameter, "priority must be between 1 and 10")
                .detail(format!("It is {priority}."))
                .hint("10 leaves first, 5 is the default."));
        }
        let on_bad = match required(common.on_bad, "on_bad")? {
            "refuse" => OnBad::Refuse,
            "record" => OnBad::Record,
            other => {
                return Err(Error::new(Kind::InvalidParameter, "on_bad must be refuse or record")
                    .detail(format!("It is \"{other}\"."))
                    .hint("refuse: one bad recipient refuses the call; record: bad ones become failed rows with the reason."));
            }
        };
        let now = Timestamp::now();
        let asked_schedule = common.scheduled_for.map_or(now, |at| Timestamp(pg_sys::TimestampTz::from(at)));
        let scheduled_for = if asked_schedule < now { transaction_start().min(now) } else { asked_schedule };
        let expires_at = common.expires_at.map(|at| Timestamp(pg_sys::TimestampTz::from(at)));
        if expires_at.is_some_and(|at| at <= now || at <= scheduled_for) {
            return Err(Error::new(Kind::InvalidParameter, "expires_at must be later than scheduled_for and than now")
                .detail("A message that expires before it may leave can never be sent.")
                .hint("Leave expires_at out, or move it behind scheduled_for."));
        }
        if common.idempotency_key.is_some_and(|key| key.trim().is_empty()) {
            return Err(Error::new(Kind::InvalidParameter, "idempotency_key must not be empty")
                .detail("An empty key would make all calls without a key of their own the same call.")
                .hint("Leave it out, or pass what identifies the call in your application."));
        }
        if given.is_empty() {
            return Err(Error::new(Kind::InvalidParameter, "there is no recipient")
                .detail("The list is empty.")
                .hint("Name at least one phone number, such as ARRAY['+14155550123']."));
        }
        let Some(account) = config::account(&organizer)? else {
            return Err(Error::new(
                Kind::UndefinedObject,
                format!("WhatsApp is not configured for organizer {organizer}"),
            )
            .detail("whatsapp_config has no row for this organizer.")
            .hint("Run wa_configure() with the organizer's number and token first."));
        };
        if !account.is_active {
            return Err(Error::new(
                Kind::NotReady,
                format!("the WhatsApp account of organizer {organizer} is not active"),
            )
            .detail("Its status in whatsapp_config is not \"active\", so nothing of it would leave.")
            .hint("Run wa_configure(…, status => 'active'), or set whatsapp_config.status."));
        }
        let template =
            templates::find(&organizer, name, common.language, account.default_language.as_deref())?.parse()?;
        if let Some(expires_at) = expires_at {
            check_in_time(&account, given.len(), scheduled_for, expires_at, on_bad)?;
        }
        if given.iter().any(|recipient| recipient.variables.is_none()) {
            template.check(&variables).map_err(|violations| variables_error(&template, &violations))?;
        }
        Ok(Self {
            organizer,
            given,
            template,
            variables_text: Value::Object(variables.clone()).to_string(),
            variables,
            event_id: common.event_id,
            scheduled_for,
            expires_at,
            priority,
            idempotency_key: common.idempotency_key,
            asked_language: common.language,
            asked_schedule,
            on_bad,
        })
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            organizer: self.organizer,
            event_id: self.event_id,
            task_id: None,
            template: self.template.name(),
            language: Some(self.template.language()),
            priority: self.priority,
            scheduled_for: self.scheduled_for,
            expires_at: self.expires_at,
            idempotency_key: self.idempotency_key,
            variables: &self.variables_text,
        }
    }

    /// Takes the idempotency key; Some when the same call was made before.
    fn claim_key(&self) -> Result<Option<&'a str>> {
        let Some(key) = self.idempotency_key else {
            return Ok(None);
        };
        match idempotency::claim(&self.organizer, key, &self.fingerprint())? {
            Claimed::New => Ok(None),
            Claimed::Same => Ok(Some(key)),
            Claimed::Other => {
                Err(Error::new(Kind::Conflict, format!("idempotency key \"{key}\" was used for another call"))
                    .detail("A key stands for one call with one set of arguments.")
                    .hint("Use a new key for a new call; repeat a call with all its arguments unchanged."))
            }
        }
    }

    /// What makes two calls the same. The default schedule, now(), differs from call to call and does not count.
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let schedule = Some(self.asked_schedule.0).filter(|at| *at != transaction_start().0);
        let head = format!(
            "{}|{:?}|{}|{:?}|{:?}|{:?}|{}",
            self.template.name(),
            self.asked_language,
            self.priority,
            self.event_id.map(|id| id.to_string()),
            schedule,
            self.expires_at.map(|at| at.0),
            self.variables_text
        );
        hash.update(head);
        for recipient in &self.given {
            hash.update("\n");
            hash.update(&recipient.to);
            if let Some(variables) = &recipient.variables {
                hash.update(serde_json::to_string(variables).unwrap_or_default());
            }
        }
        hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Normalizes the numbers, collapses duplicates, and refuses or records what cannot be written to.
    fn recipients(&self) -> Result<Recipients> {
        let mut recipients = Recipients::default();
        let mut seen: HashSet<String> = HashSet::with_capacity(self.given.len());
        let mut bad: Vec<String> = Vec::new();
        let (mut bad_count, mut duplicates, mut unlikely) = (0_usize, 0_usize, Vec::new());
        for recipient in &self.given {
            let (variables, problem) = self.variables_of(recipient);
            let problem = match (PhoneNumber::parse(&recipient.to), problem) {
                (Err(error), _) => Some(("invalid_number", error.to_string())),
                (Ok(_), Some(reason)) => Some(("invalid_variables", reason)),
                (Ok(parsed), None) => {
                    let number = parsed.number.as_str();
                    if !parsed.plausible && unlikely.len() < NAMED {
                        unlikely.push(number.to_owned());
                    }
                    if seen.insert(number.to_owned()) {
                        recipients.accept(number.to_owned(), variables.clone());
                    } else {
                        duplicates += 1;
                    }
                    None
                }
            };
            let Some((code, reason)) = problem else {
                continue;
            };
            bad_count += 1;
            if self.on_bad == OnBad::Record {
                recipients.refuse(recipient.to.clone(), variables, code, reason);
            } else if bad.len() < NAMED {
                bad.push(format!("\"{}\": {reason}", shorten(&recipient.to)));
            }
        }
        if !bad.is_empty() {
            return Err(self.refusal(&bad, bad_count));
        }
        if duplicates > 0 {
            notice(&format!("{duplicates} duplicate number(s) in the call were collapsed"));
        }
        if !unlikely.is_empty() {
            notice(&format!(
                "these numbers look unlikely for their country and are sent all the same: {}",
                unlikely.join(", ")
            ));
        }
        Ok(recipients)
    }

    /// A recipient's own variables over the call's, and what is wrong with them.
    fn variables_of(&self, recipient: &Given) -> (Option<String>, Option<String>) {
        let Some(own) = &recipient.variables else {
            return (None, None);
        };
        let mut merged = self.variables.clone();
        merged.extend(own.clone());
        let problem = self.template.check(&merged).err().map(|violations| list(&violations));
        (Some(Value::Object(merged).to_string()), problem)
    }

    fn refusal(&self, bad: &[String], count: usize) -> Error {
        let more = if count > bad.len() { format!("; and {} more", count - bad.len()) } else { String::new() };
        Error::new(Kind::InvalidParameter, format!("{count} of {} recipients cannot be written to", self.given.len()))
            .detail(format!("{}{more}", bad.join("; ")))
            .hint("Correct them, or pass on_bad => 'record' to queue the others and keep these as failed rows with the reason.")
    }
}

/// Refuses messages that the limits would not let leave before they expire; warns when the caller wants them recorded.
fn check_in_time(
    account: &Account,
    messages: usize,
    scheduled_for: Timestamp,
    expires_at: Timestamp,
    on_bad: OnBad,
) -> Result<()> {
    let Ok(tier) = Tier::parse(&account.tier) else { return Ok(()) };
    if !store::installed()?.is_current() {
        return Ok(());
    }
    let (eta, ahead) = limits::eta(account, tier, messages as u64, scheduled_for, Timestamp::now())?;
    if eta.done_us.is_some_and(|done| done <= expires_at.0) {
        return Ok(());
    }
    let when = eta.done_us.map_or_else(
        || "what is held would not leave at all as things stand".to_owned(),
        |done| format!("the last of them would leave at {}", Timestamp(done)),
    );
    let message = "the messages would expire before they can leave";
    let detail = format!("{ahead} messages stand before them, and {when} (limited by: {}).", eta.limited_by.as_str());
    if on_bad == OnBad::Record {
        ereport!(WARNING, PgSqlErrorCode::ERRCODE_WARNING, message, detail);
        return Ok(());
    }
    Err(Error::new(Kind::NotReady, message)
        .detail(detail)
        .hint("Let them expire later, raise their priority, see wa_eta() and wa_rate_status(), or pass on_bad => 'record' to queue them all the same."))
}

/// Why variables do not fit a template.
pub fn variables_error(template: &Template, violations: &[cloud_api::Violation]) -> Error {
    let takes = match template.variables() {
        [] => "It takes no variables.".to_owned(),
        names => format!("It takes: {}.", names.join(", ")),
    };
    Error::new(
        Kind::InvalidParameter,
        format!("variables do not fit template \"{}\" ({})", template.name(), template.language()),
    )
    .detail(list(violations))
    .hint(takes)
}

fn list(violations: &[cloud_api::Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn notice(text: &str) {
    ereport!(NOTICE, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, text.to_owned());
}

/// now(): the start of the transaction, the same for all its calls.
fn transaction_start() -> Timestamp {
    // SAFETY: reads the transaction's state.
    Timestamp(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() })
}
