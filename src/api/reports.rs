//! `wa_audit`, `wa_doctor`, `wa_explain`, and what their SQL asks back: which secrets cannot be opened, what a request
//! looks like, what Meta's codes mean, which accounts wait because this database is a copy.

use std::time::Duration;

use cloud_api::errors;
use cloud_api::phone::PhoneNumber;
use pgrx::datum::{Date, Interval, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Uuid, name, pg_extern};

use super::{Answer, required};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::secrets::{self, Column};
use crate::shared;
use crate::store::reports::{self, Request};
use crate::store::{config, templates};

/// Whether everything adds up.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "it is the SQL function's result")]
fn wa_audit(
    full: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(check_name, String),
            name!(user_id, Option<Uuid>),
            name!(day, Option<Date>),
            name!(expected, i64),
            name!(found, i64),
            name!(ok, bool),
            name!(meaning, String),
        ),
    >,
    ErrorReport,
> {
    let full = required(full, "full")?;
    Caller::current()?.check_is_operator("audit the queue")?;
    let checks = caller::as_owner(|| reports::audit(full))?;
    Ok(TableIterator::new(checks.into_iter().map(|check| {
        (check.name, check.organizer, check.day, check.expected, check.found, check.is_ok, check.meaning)
    })))
}

/// What is wrong, and what to do.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "it is the SQL function's result")]
fn wa_doctor() -> Result<
    TableIterator<
        'static,
        (
            name!(severity, String),
            name!(finding, String),
            name!(detail, String),
            name!(meaning, String),
            name!(what_to_do, String),
        ),
    >,
    ErrorReport,
> {
    Caller::current()?.check_is_operator("ask the doctor")?;
    let findings = caller::as_owner(|| reports::doctor(env!("CARGO_PKG_VERSION"), shared::is_preloaded()))?;
    Ok(TableIterator::new(
        findings
            .into_iter()
            .map(|finding| (finding.severity, finding.name, finding.detail, finding.meaning, finding.cure)),
    ))
}

/// A message's life.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "it is the SQL function's result")]
fn wa_explain(
    id: Option<Uuid>,
) -> Result<
    TableIterator<
        'static,
        (name!(at, Option<TimestampWithTimeZone>), name!(what, String), name!(details, Option<String>)),
    >,
    ErrorReport,
> {
    let id = required(id, "id")?;
    let caller = Caller::current()?;
    let events = caller::as_owner(|| {
        // Another organizer's message does not exist for the caller.
        reports::organizer_of(&id)?
            .filter(|organizer| caller.check_may_act_for(organizer).is_ok())
            .ok_or_else(|| no_such_message(&id))?;
        reports::explain(&id)
    })?;
    Ok(TableIterator::new(events.into_iter().map(|event| (event.at, event.what, event.details))))
}

fn no_such_message(id: &Uuid) -> Error {
    Error::new(Kind::UndefinedObject, format!("message {id} does not exist"))
        .detail("whatsapp_queue has no such row, or it belongs to an organizer the current role does not act for.")
        .hint("Messages are in whatsapp_messages; ids are what wa_enqueue() answered.")
}

/// The body of a message's request with the recipient masked, or why there can be none.
#[pg_extern(sql = false)]
fn wa_request_body(id: Option<Uuid>) -> Answer<String> {
    let run = || -> Result<_> {
        let id = required(id, "id")?;
        let caller = Caller::current()?;
        caller::as_owner(|| {
            let request = reports::request(&id)?
                .filter(|request| caller.check_may_act_for(&request.organizer).is_ok())
                .ok_or_else(|| no_such_message(&id))?;
            Ok(render(&id, &request).unwrap_or_else(|error| format!("none can be made: {}", error.one_line())))
        })
    };
    Ok(run()?)
}

/// What the worker would post. The number is hidden wherever it stands, also in a variable.
fn render(id: &Uuid, request: &Request) -> Result<String> {
    let refuse = |reason: String| Error::new(Kind::InvalidParameter, reason);
    let to = PhoneNumber::parse(&request.recipient).map_err(|error| refuse(error.to_string()))?.number;
    let default = config::account(&request.organizer)?.and_then(|account| account.default_language);
    let stored = templates::named(&request.organizer, vec![request.template.clone()])?;
    let template =
        templates::choose(&stored, &request.template, request.language.as_deref(), default.as_deref())?.parse()?;
    let Ok(serde_json::Value::Object(variables)) = serde_json::from_str(&request.variables) else {
        return Err(refuse("template_variables is not a JSON object".to_owned()));
    };
    let parameters = template.fill(&variables).map_err(|violations| {
        let reasons: Vec<String> = violations.iter().map(ToString::to_string).collect();
        refuse(reasons.join("; "))
    })?;
    let body = cloud_api::message::template_message(&to, &template, &parameters, &id.to_string());
    Ok(body.replace(to.as_str(), &request.masked).replace(to.as_str().trim_start_matches('+'), &request.masked))
}

/// Accounts whose secrets cannot be opened, and why; without an organizer: the keys cannot be used at all.
#[pg_extern(sql = false)]
fn wa_secret_problems()
-> Result<TableIterator<'static, (name!(user_id, Option<Uuid>), name!(problem, String))>, ErrorReport> {
    Caller::current()?.check_is_operator("check the accounts' secrets")?;
    Ok(TableIterator::new(caller::as_owner(secret_problems)?))
}

fn secret_problems() -> Result<Vec<(Option<Uuid>, String)>> {
    let mut problems = Vec::new();
    let has_keys = match secrets::keyring() {
        Ok(_) => true,
        Err(error) => {
            problems.push((None, error.one_line()));
            false
        }
    };
    for (organizer, token, app_secret) in reports::stored_secrets()? {
        let stored = [("access token", Column::Token, Some(token)), ("app secret", Column::AppSecret, app_secret)];
        for (name, column, value) in stored {
            // Without keys one finding says it for all sealed values.
            let Some(value) = value.filter(|value| has_keys || secrets::is_reference(value)) else { continue };
            if let Err(error) = secrets::open(&organizer, column, &value) {
                problems.push((Some(organizer), format!("{name}: {}", error.one_line())));
            }
        }
    }
    Ok(problems)
}

/// What Meta's codes mean.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "it is the SQL function's result")]
fn wa_error_rules() -> TableIterator<
    'static,
    (
        name!(code, i32),
        name!(subcode, Option<i32>),
        name!(name, &'static str),
        name!(reaction, &'static str),
        name!(meaning, &'static str),
        name!(advice, &'static str),
        name!(retryable, bool),
        name!(wait, Option<Interval>),
    ),
> {
    let number = |code: u32| i32::try_from(code).unwrap_or(i32::MAX);
    TableIterator::new(errors::all().iter().map(move |rule| {
        (
            number(rule.code),
            rule.subcode.map(number),
            rule.name,
            rule.reaction.as_str(),
            rule.meaning,
            rule.advice,
            rule.retryable,
            rule.wait.map(interval),
        )
    }))
}

fn interval(span: Duration) -> Interval {
    Interval::from_micros(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

/// Those of the caller's organizers that another database may send for, and this one may not.
#[pg_extern(sql = false)]
fn wa_held_copies() -> Answer<Vec<Uuid>> {
    let run = || -> Result<_> {
        let caller = Caller::current()?;
        let mut copies = caller::as_owner(reports::held_copies)?;
        copies.retain(|organizer| caller.check_may_act_for(organizer).is_ok());
        Ok(copies)
    };
    Ok(run()?)
}
