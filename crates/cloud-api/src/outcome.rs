//! What became of one request: accepted, rejected, not sent, or unknown.
//!
//! The four are told apart because Meta has no idempotency key. *Unknown* means: the request may have been written and
//! no answer says whether it was taken. Sending such a message again may deliver and bill it twice, so nothing is called
//! *not sent* or *rejected* here that could have been accepted. Answers are read with tolerance (codes as strings, missing
//! fields, error data as text), because Meta's are not all alike. Source: Meta, "Messages", "Error codes".

use crate::errors::{Rule, lookup, lookup_lost, lookup_status};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// What became of one request to send a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Meta took the message and will try to deliver it.
    Accepted {
        /// Meta's id of the message (`wamid.…`). It contains the recipient's number.
        message_id: String,
        /// The recipient's WhatsApp id: digits without `+`, not always those written to.
        wa_id: Option<String>,
        /// `accepted`, `held_for_quality_assessment` or what else Meta may say.
        message_status: Option<String>,
    },
    /// Meta, or something in front of it, refused the request: it was surely not accepted.
    Rejected(GraphError),
    /// No byte of the request was written.
    NotSent(TransportError),
    /// The request may have been written, and no trustworthy answer exists.
    Unknown(TransportError),
}

/// A refusal, with what it means. Contains no token.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphError {
    /// Meta's code; `None` when the answer had none.
    pub code: Option<u32>,
    /// Meta's subcode.
    pub subcode: Option<u32>,
    /// Meta's message, or the beginning of what was sent instead.
    pub message: String,
    /// The more telling part, where there is one (`error_data.details`).
    pub details: Option<String>,
    /// The id under which Meta's support finds the call.
    pub fbtrace_id: Option<String>,
    /// The HTTP status.
    pub http_status: u16,
    /// Whether Meta called the error transient.
    pub is_transient: bool,
    /// What it means and what to do.
    pub rule: Rule,
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code} {}: {}", self.rule.name, self.message)?,
            None => write!(f, "{}: {}", self.rule.name, self.message)?,
        }
        match &self.details {
            Some(details) => write!(f, " ({details})"),
            None => Ok(()),
        }
    }
}

/// A part of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Looking up the host's address.
    Resolve,
    /// Opening the connection and agreeing on TLS.
    Connect,
    /// Writing the request.
    Write,
    /// Waiting for the answer and reading it.
    Read,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up the address",
            Self::Connect => "connecting",
            Self::Write => "writing the request",
            Self::Read => "waiting for the answer",
        })
    }
}

/// Why there is no answer, or none that can be trusted. Contains no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request cannot be made from what was given.
    #[error("the request cannot be made: {0}")]
    BadRequest(String),
    /// Another thread took the call back before it was written.
    #[error("the call was taken back before anything was written")]
    Revoked,
    /// The host's address was not found.
    #[error("the address was not found: {0}")]
    Resolve(String),
    /// No connection came about.
    #[error("no connection: {0}")]
    Connect(String),
    /// No secure connection came about.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// A limit of time passed.
    #[error("{phase} took longer than {} s", limit.as_secs_f64())]
    Timeout {
        /// What was going on.
        phase: Phase,
        /// The limit that passed.
        limit: Duration,
    },
    /// The connection broke off.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// An answer came that says neither yes nor no.
    #[error("HTTP {http_status}: {problem}")]
    Answer {
        /// The HTTP status.
        http_status: u16,
        /// Why it is no answer.
        problem: String,
    },
}

/// What an answer says about the message.
///
/// A JSON error with a code is a refusal whatever its HTTP status; otherwise 4xx is a refusal, 3xx a misconfiguration (nothing
/// is ever sent to the new place), and everything else, such as the HTML of a gateway that gave up waiting, is unknown.
#[must_use]
pub fn parse_response(http_status: u16, content: &[u8]) -> Outcome {
    let json: Option<Map<String, Value>> = serde_json::from_slice(content).ok();
    let error = json.as_ref().and_then(|json| graph_error(http_status, json.get("error")?));
    if let Some(error) = error {
        return Outcome::Rejected(error);
    }
    match http_status {
        200..=299 => json.as_ref().and_then(accepted).unwrap_or_else(|| {
            Outcome::Unknown(TransportError::Answer {
                http_status,
                problem: format!("no message id in {}", shown(content)),
            })
        }),
        300..=499 => Outcome::Rejected(refusal(http_status, shown(content), lookup_status(http_status))),
        _ => Outcome::Unknown(TransportError::Answer { http_status, problem: shown(content) }),
    }
}

/// What an answer says whose body did not arrive in full: the status still tells a refusal.
pub(crate) fn parse_cut_response(http_status: u16, error: TransportError) -> Outcome {
    match http_status {
        300..=399 => Outcome::Rejected(refusal(http_status, error.to_string(), lookup_status(http_status))),
        400..=499 => Outcome::Rejected(refusal(http_status, error.to_string(), lookup_lost(http_status))),
        _ => Outcome::Unknown(error),
    }
}

fn accepted(json: &Map<String, Value>) -> Option<Outcome> {
    let first = |list: &str| json.get(list)?.get(0);
    let message = first("messages")?;
    let message_id = text(message.get("id"))?;
    Some(Outcome::Accepted {
        message_id,
        wa_id: first("contacts").and_then(|contact| text(contact.get("wa_id"))),
        message_status: text(message.get("message_status")),
    })
}

/// Meta's error object, or something of that shape. `None` when a gateway may have made it up after passing the request on.
fn graph_error(http_status: u16, error: &Value) -> Option<GraphError> {
    let code = number(error.get("code"));
    // Gateways put the HTTP status where Meta puts its code; Meta has no such codes.
    if http_status >= 500 && matches!(code, None | Some(500..=599)) {
        return None;
    }
    let subcode = number(error.get("error_subcode"));
    let is_transient = match error.get("is_transient") {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(value)) => value.eq_ignore_ascii_case("true"),
        _ => false,
    };
    let data = error.get("error_data");
    let details = text(data.and_then(|data| data.get("details")))
        .or_else(|| text(data))
        .or_else(|| text(error.get("error_user_msg")));
    let message =
        text(error.get("message")).or_else(|| text(Some(error))).or_else(|| text(error.get("error_user_title")));
    let rule = match code {
        Some(code) => lookup(code, subcode, Some(http_status), is_transient),
        None => lookup_status(http_status.max(300)),
    };
    Some(GraphError {
        code,
        subcode,
        message: message.unwrap_or_else(|| format!("HTTP {http_status}")),
        details,
        fbtrace_id: text(error.get("fbtrace_id")),
        http_status,
        is_transient,
        rule,
    })
}

fn refusal(http_status: u16, message: String, rule: Rule) -> GraphError {
    GraphError {
        code: None,
        subcode: None,
        message,
        details: None,
        fbtrace_id: None,
        http_status,
        is_transient: false,
        rule,
    }
}

/// A number, also when it was written as text.
fn number(value: Option<&Value>) -> Option<u32> {
    match value? {
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A text that says something. NUL, which no PostgreSQL text can hold, is replaced.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.trim().is_empty() => Some(text.replace('\0', "\u{fffd}")),
        _ => None,
    }
}

/// The beginning of an answer, fit for a log line.
fn shown(content: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(content.get(..4 * LONGEST).unwrap_or(content));
    let words: Vec<&str> = text
        .split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        return "an empty answer".to_owned();
    }
    words.join(" ").chars().take(LONGEST).collect()
}
