//! `POST /{version}/{phone-number-id}/messages`: the way of one request from its arrival to its answer.
//!
//! The verdict is reached at once, without waiting: token, account, rate, body, template, faults, limits,
//! in this order. Only then does latency pass and the answer go out, so a message counts as accepted
//! from its arrival on, as it does at Meta.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::Value;

use super::error::GraphError;
use super::message::{self, Posted};
use super::template_rules;
use super::version::Version;
use crate::answer::{Answer, Break};
use crate::clock::{Micros, micros};
use crate::faults::{Action, StatusAnswer};
use crate::limits::Limits;
use crate::recent::{Kept, Outcome};
use crate::registry::{Account, Registry, TemplateCategory};
use crate::reply::{self, Reply};
use crate::state::State;
use crate::traffic::{InFlight, Number};
use crate::webhooks::envelope::{Accepted, Owner};
use crate::webhooks::fate::NO_OPEN_WINDOW;
use crate::webhooks::plan::ArmedPlan;

/// A request to the messages endpoint.
#[derive(Debug)]
pub(crate) struct Call {
    /// Version that serves it.
    pub(crate) version: Version,
    /// Version that the path asked for.
    pub(crate) asked_version: Version,
    pub(crate) phone_number_id: String,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) arrived: Micros,
    /// The body, or why it could not be read.
    pub(crate) body: Result<Bytes, GraphError>,
}

/// What the client gets to see, and when.
#[derive(Debug)]
enum Verdict {
    Refused(GraphError),
    /// A read receipt.
    Noted,
    /// An accepted message, perhaps with a fault on the way back.
    Accepted {
        body: Bytes,
        fault: Option<Action>,
    },
    /// A fault without acceptance.
    Struck(Action),
}

/// Answers a request.
pub(crate) async fn handle(state: Arc<State>, call: Call, in_flight: InFlight) -> Result<Answer, Break> {
    let version = call.version;
    let mut outcome = Outcome::default();
    let latency = state.draw_latency();
    let verdict = judge(&state, &call, latency, &mut outcome).unwrap_or_else(Verdict::Refused);
    let reply = plan(&state, verdict, &mut outcome);
    outcome.http = reply.status();
    if let Some(code) = outcome.code {
        state.count_refusal(code);
    }
    if state.recent.keeps_any() {
        state.recent.keep(Kept {
            at: call.arrived,
            phone_number_id: call.phone_number_id,
            version: call.asked_version.to_string(),
            headers: call.headers,
            body: call.body.unwrap_or_default(),
            outcome,
        });
    }
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    reply.send(&state.ids, version, in_flight).await
}

fn judge(state: &State, call: &Call, latency: Duration, outcome: &mut Outcome) -> Result<Verdict, GraphError> {
    let id = &call.phone_number_id;
    if call.method != Method::POST {
        let method = call.method.as_str().to_ascii_lowercase();
        return Err(GraphError::no_such_object(&method, id));
    }
    let registry = state.registry();
    let account = authorize(state, &registry, call)?;
    let limits = account.and_then(|account| account.limits).unwrap_or(state.options.default_limits);
    let number = state.traffic.number(id);
    if number.arrive(call.arrived, limits, state.options.keep_arrivals) && !limits.count_only {
        return Err(GraphError::of(130429)
            .details("Message failed to send because there were too many messages sent from this phone number in a short period of time"));
    }
    let body: Value = parse_json(call)?;
    let Posted::Message(message) = message::parse(&body, call.version)? else {
        return Ok(Verdict::Noted);
    };
    if let Some(send) = &message.template {
        let languages = account.map_or(&[][..], |account| registry.template(&account.waba_id, send.name));
        template_rules::check(send, languages, state.options.strict)?;
    }
    let faults = state.faults();
    let struck = faults.strike(id, &message.to);
    outcome.fault = struck.map(|(index, _)| index);
    if let Some((_, rule)) = struck
        && !rule.accepts()
    {
        return Ok(Verdict::Struck(rule.action.clone()));
    }
    let in_window = admit(state, account, &number, limits, &message, call)?;
    let wamid = state.ids.wamid(message.to.wa_id.as_deref().unwrap_or(&message.to.input));
    state.ledger.accept(message.callback_data.unwrap_or(&wamid));
    let body = success(&message, &wamid);
    if let Some(plan) = state.webhooks.plan() {
        let accepted = follow(&plan, &registry, account, &message, &wamid, id, in_window);
        let answered = call.arrived.saturating_add(micros(latency));
        let base = if plan.plan.early { call.arrived } else { answered };
        state.webhooks.accepted(&plan, accepted, base, &state.clock);
    }
    outcome.accepted = true;
    outcome.wamid = Some(wamid);
    Ok(Verdict::Accepted { body, fault: struck.map(|(_, rule)| rule.action.clone()) })
}

/// The registered account that the request may use; `None` for one that open mode lets in.
fn authorize<'r>(state: &State, registry: &'r Registry, call: &Call) -> Result<Option<&'r Account>, GraphError> {
    let token = call
        .headers
        .get(hyper::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty())
        .map(|(_, token)| token.trim())
        .ok_or_else(|| GraphError::of(2500))?;
    match registry.account(&call.phone_number_id) {
        Some(account) if account.token.as_deref().is_some_and(|known| known != token) => Err(GraphError::of(190)),
        Some(account) => Ok(Some(account)),
        None if state.options.strict => Err(GraphError::no_such_object("post", &call.phone_number_id)),
        None => Ok(None),
    }
}

fn parse_json(call: &Call) -> Result<Value, GraphError> {
    let body = call.body.as_ref().map_err(Clone::clone)?;
    let json = call
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"));
    if !json {
        // Graph then looks for form parameters and finds none.
        return Err(GraphError::parameter("The parameter messaging_product is required.")
            .details("The content type must be application/json"));
    }
    serde_json::from_slice(body)
        .map_err(|error| GraphError::of(100).details(format!("The body is not valid JSON: {error}")))
}

fn admit(
    state: &State,
    account: Option<&Account>,
    number: &Number,
    limits: Limits,
    message: &message::Message<'_>,
    call: &Call,
) -> Result<bool, GraphError> {
    let daily = limits.daily_recipients.map(|_| {
        let portfolio = account.and_then(|account| account.portfolio_id.as_deref());
        state.traffic.daily(portfolio, &call.phone_number_id)
    });
    number.admit(message.to.key(), call.arrived, limits, daily.as_ref(), state.options.daily_limit_code)
}

/// What webhooks will have to say about a message.
fn follow(
    armed: &ArmedPlan,
    registry: &Registry,
    account: Option<&Account>,
    message: &message::Message<'_>,
    wamid: &str,
    phone_number_id: &str,
    in_window: bool,
) -> Accepted {
    let waba_id = account.map_or("", |account| account.waba_id.as_str());
    let category = message.template.as_ref().map(|send| {
        let languages = registry.template(waba_id, send.name);
        let known = languages.iter().find(|known| known.language == send.language);
        known.map_or(TemplateCategory::default(), |known| known.category)
    });
    let free = armed.plan.free_in_window && in_window && matches!(category, None | Some(TemplateCategory::Utility));
    Accepted {
        owner: Owner { phone_number_id: phone_number_id.to_owned(), waba_id: waba_id.to_owned() },
        wamid: wamid.to_owned(),
        to: message.to.clone(),
        callback_data: message.callback_data.map(str::to_owned),
        category: match category {
            None => "service",
            Some(TemplateCategory::Marketing) => "marketing",
            Some(TemplateCategory::Utility) => "utility",
            Some(TemplateCategory::Authentication) => "authentication",
        },
        free,
        undeliverable: (category.is_none() && !in_window).then_some(NO_OPEN_WINDOW),
    }
}

/// Meta's answer to an accepted message.
fn success(message: &message::Message<'_>, wamid: &str) -> Bytes {
    #[derive(Serialize)]
    struct Success<'a> {
        messaging_product: &'a str,
        contacts: [Contact<'a>; 1],
        messages: [Id<'a>; 1],
    }
    #[derive(Serialize)]
    struct Contact<'a> {
        input: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        wa_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Id<'a> {
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_status: Option<&'a str>,
    }
    let wa_id = message.to.wa_id.as_deref();
    let input = message.to.input.as_str();
    let success = Success {
        messaging_product: "whatsapp",
        contacts: [Contact { input, wa_id, user_id: if wa_id.is_none() { Some(input) } else { None } }],
        // Meta reports the status of templates only.
        messages: [Id { id: wamid, message_status: message.template.as_ref().map(|_| "accepted") }],
    };
    serde_json::to_vec(&success).unwrap_or_default().into()
}

fn plan(state: &State, verdict: Verdict, outcome: &mut Outcome) -> Reply {
    match verdict {
        Verdict::Refused(error) => refusal(state, error, outcome),
        Verdict::Noted => Reply::json(StatusCode::OK, Bytes::from_static(b"{\"success\":true}")),
        Verdict::Accepted { body, fault: None } => Reply::json(StatusCode::OK, body),
        Verdict::Accepted { body, fault: Some(action) } => fault(state, action, body, outcome),
        Verdict::Struck(action) => {
            // The usual answer to a message that was not taken for no reason of its own.
            let usual = GraphError::of(131000);
            if action.shows_usual_answer() {
                outcome.code = Some(usual.code);
            }
            let body = usual.body(&state.ids.trace());
            fault(state, action, body, outcome)
        }
    }
}

fn refusal(state: &State, mut error: GraphError, outcome: &mut Outcome) -> Reply {
    if error.is_throttle() {
        error.http = state.options.throttle_http_status;
    }
    outcome.code = Some(error.code);
    Reply::error(error, &state.ids)
}

/// What a struck client gets. `usual` is the body that it would have got.
fn fault(state: &State, action: Action, usual: Bytes, outcome: &mut Outcome) -> Reply {
    let status = if outcome.accepted { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    match action {
        Action::Status(answer) => status_answer(state, answer, outcome),
        Action::Error { code, subcode, details } => {
            let error = GraphError { subcode, details, ..GraphError::of(code) };
            refusal(state, error, outcome)
        }
        Action::ResetBeforeAccept | Action::ResetAfterAccept => Reply::broken(Break::Reset),
        Action::Hang { ms } => Reply::broken(Break::Close).after(Duration::from_millis(ms)),
        Action::Garbage => Reply::broken(Break::Garbage),
        Action::Html502 => Reply::html(StatusCode::BAD_GATEWAY, reply::BAD_GATEWAY),
        Action::EmptyBody => Reply::json(StatusCode::OK, Bytes::new()),
        Action::NotJson => Reply::json(StatusCode::OK, Bytes::from_static(b"{\"messages\": [oops")),
        Action::Redirect => Reply::redirect(reply::REDIRECT_TARGET),
        Action::Oversized { bytes } => Reply::json(status, usual).padded(bytes),
        Action::SlowBody { ms_per_byte, total_ms } => {
            let whole = Duration::from_millis(total_ms.unwrap_or(0));
            let length = u32::try_from(usual.len()).unwrap_or(u32::MAX).max(1);
            let interval = ms_per_byte.map_or(whole / length, Duration::from_millis);
            Reply::json(status, usual).dripping(interval)
        }
        Action::TruncatedBody => Reply::json(status, usual).cut(),
        Action::Delay { ms } => Reply::json(status, usual).after(Duration::from_millis(ms)),
        Action::CloseAfter => Reply::json(status, usual).closing(),
    }
}

fn status_answer(state: &State, answer: StatusAnswer, outcome: &mut Outcome) -> Reply {
    let status = StatusCode::from_u16(answer.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reply = match (answer.body, answer.code) {
        (Some(body), _) => Reply::json(status, body.to_string().into()),
        (None, Some(code)) => {
            let usual = GraphError::of(code);
            outcome.code = Some(code);
            let error = GraphError {
                http: answer.http,
                message: answer.message.unwrap_or(usual.message),
                details: answer.details,
                ..usual
            };
            Reply::error(error, &state.ids)
        }
        (None, None) => Reply::json(status, Bytes::new()),
    };
    reply.with_headers(answer.headers)
}
