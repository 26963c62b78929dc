//! The control API under `/_control/`: the library's typed methods as JSON over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::answer::{Answer, Break};
use crate::faults::{FaultRule, FaultScript};
use crate::inbound;
use crate::options::Latency;
use crate::registry::{Account, Template};
use crate::reply::Reply;
use crate::router::read;
use crate::state::State;
use crate::webhooks::plan::{ArmedPlan, WebhookPlan};

/// Paths of the control API begin with this.
pub(crate) const PREFIX: &str = "/_control/";

/// Large enough for some ten thousand templates.
const MAX_BODY: usize = 16 << 20;

/// How many requests `messages` shows when it is not told.
const DEFAULT_LIMIT: usize = 20;

type Handled = Result<Bytes, (StatusCode, String)>;

/// Answers a control request.
pub(crate) async fn handle(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Break> {
    let (head, body) = request.into_parts();
    let Some(body) = read(body, MAX_BODY).await? else {
        return reply(Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large".to_owned())));
    };
    let name = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let query = parse_query(head.uri.query().unwrap_or_default());
    reply(dispatch(&state, &head.method, name, &query, &body))
}

fn reply(handled: Handled) -> Result<Answer, Break> {
    let (status, body) = match handled {
        Ok(body) => (StatusCode::OK, body),
        Err((status, message)) => (status, json!({ "error": message }).to_string().into()),
    };
    Reply::json(status, body).answer()
}

fn dispatch(state: &State, method: &Method, name: &str, query: &BTreeMap<String, String>, body: &[u8]) -> Handled {
    match (method.as_str(), name) {
        ("GET", "stats") => show(&state.stats()),
        ("GET", "accepted") => {
            let id = required(query, "id")?;
            show(&json!({"id": id, "accepted": state.ledger.count(id)}))
        }
        ("GET", "duplicates") => {
            let found = state.ledger.duplicates().into_iter();
            show(&found.collect::<BTreeMap<_, _>>())
        }
        ("GET", "messages") => {
            let limit = number(query, "limit")?.unwrap_or(DEFAULT_LIMIT);
            show(&state.recent.last(limit))
        }
        ("GET", "arrivals") => {
            let id = required(query, "phone_number_id")?;
            show(&json!({"phone_number_id": id, "at_us": state.traffic.arrivals(id)}))
        }
        ("GET", "accounts") => show(&state.registry().accounts()),
        ("PUT", "accounts") => {
            let accounts: Vec<Account> = parse(body)?;
            state.change_registry(|registry| registry.set_accounts(accounts));
            show(&state.registry().accounts())
        }
        ("GET", "templates") => show(&state.registry().templates()),
        ("PUT", "templates") => {
            let templates: Vec<Template> = parse(body)?;
            state.change_registry(|registry| registry.set_templates(templates));
            show(&state.registry().templates())
        }
        ("GET", "faults") => show(&state.faults().rules()),
        ("PUT", "faults") => {
            let rules: Vec<FaultRule> = parse(body)?;
            state.set_faults(FaultScript::arm(rules).map_err(bad)?);
            show(&state.faults().rules())
        }
        ("GET", "latency") => show(&state.latency()),
        ("PUT", "latency") => {
            let latency: Latency = parse(body)?;
            state.set_latency(latency);
            show(&state.latency())
        }
        ("GET", "violations") => show(&state.traffic.violations()),
        ("POST", "inbound") => {
            let id = inbound::receive(state, parse(body)?).map_err(bad)?;
            show(&json!({ "id": id }))
        }
        ("GET", "webhooks") => show_webhooks(state),
        ("PUT", "webhooks") => {
            let plan: Option<WebhookPlan> = parse(body)?;
            let armed = plan.map(|plan| ArmedPlan::arm(plan, state.options.allow_remote)).transpose();
            state.webhooks.set_plan(armed.map_err(bad)?);
            show_webhooks(state)
        }
        ("GET", "webhooks/next") => {
            let max = number(query, "max")?.unwrap_or(1);
            show(&state.webhooks.take(max, state.clock.now()))
        }
        ("POST", "reset") => {
            state.reset();
            show(&state.stats())
        }
        (
            _,
            "stats" | "accepted" | "duplicates" | "messages" | "arrivals" | "accounts" | "templates" | "faults"
            | "latency" | "reset" | "violations" | "inbound" | "webhooks" | "webhooks/next",
        ) => Err((StatusCode::METHOD_NOT_ALLOWED, format!("{name} does not take {method}"))),
        _ => Err((StatusCode::NOT_FOUND, format!("no control named \"{name}\"; GET / lists them"))),
    }
}

fn show_webhooks(state: &State) -> Handled {
    show(&state.webhooks.plan().as_ref().map(|armed| &armed.plan))
}

fn show(value: &impl Serialize) -> Handled {
    let mut bytes =
        serde_json::to_vec(value).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| bad(error.to_string()))
}

fn bad(message: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, message.into())
}

fn required<'q>(query: &'q BTreeMap<String, String>, name: &str) -> Result<&'q str, (StatusCode, String)> {
    query.get(name).map(String::as_str).ok_or_else(|| bad(format!("the query needs \"{name}\"")))
}

/// A number in the query, if it is there.
fn number(query: &BTreeMap<String, String>, name: &str) -> Result<Option<usize>, (StatusCode, String)> {
    query.get(name).map(|text| text.parse().map_err(|_| bad(format!("\"{name}\" must be a number")))).transpose()
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), percent_decode(value)))
        .collect()
}

/// Decodes `%41` and, as in forms, `+` for a blank. What is no escape stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = match rest {
            [b'%', high, low, after @ ..] => hex(*high).zip(hex(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        (rest, _) = match escape {
            Some(((high, low), after)) => (after, bytes.push(high << 4 | low)),
            None => (tail, bytes.push(if *first == b'+' { b' ' } else { *first })),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_percent_decoded() {
        let query = parse_query("id=a%2Bb+c%zz%4&limit=5&flag");
        assert_eq!(query.get("id").map(String::as_str), Some("a+b c%zz%4"));
        assert_eq!(query.get("limit").map(String::as_str), Some("5"));
        assert_eq!(query.get("flag"), None);
    }
}
