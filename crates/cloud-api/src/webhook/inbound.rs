//! What a person wrote to one of our numbers.
//!
//! It opens or prolongs the customer service window of 24 hours. Source: Meta, "messages webhook reference",
//! "Business-scoped user IDs".

use super::json::{Item, text};
use serde_json::Value;

/// A message from a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// Meta's id of the message (`wamid.…`).
    pub id: String,
    /// The person's number: digits without `+`. Missing when the person hides it.
    pub from: Option<String>,
    /// The person's id for this business portfolio.
    pub from_user_id: Option<String>,
    /// When, in seconds since 1970.
    pub timestamp_s: i64,
    /// `text`, `button`, `interactive`, `image`, …; `unknown` when Meta did not say.
    pub kind: String,
    /// The message that this one answers.
    pub context_id: Option<String>,
    /// The words: of a text, of the button pressed, of the line chosen, of a form sent back.
    pub text: Option<String>,
    /// What stands behind the words: our id of the button or line, or the form's fields as JSON text.
    pub payload: Option<String>,
    /// All of it as JSON text. It holds no NUL and nothing nested too deeply.
    pub raw: String,
}

impl Inbound {
    pub(super) fn read(item: &Item<'_>, time_s: Option<i64>) -> Result<Self, &'static str> {
        let (words, payload) = words(item);
        Ok(Self {
            id: item.text("id").ok_or("the message has no id")?,
            from: item.text("from"),
            from_user_id: item.text("from_user_id"),
            timestamp_s: item.integer("timestamp").or(time_s).ok_or("the message has no timestamp")?,
            kind: item.text("type").unwrap_or_else(|| "unknown".to_owned()),
            context_id: item.get("context").and_then(|context| text(context.get("id"))),
            text: words,
            payload,
            raw: item.to_json(),
        })
    }
}

/// The words and the payload.
fn words(item: &Item<'_>) -> (Option<String>, Option<String>) {
    let pair = |value: Option<&Value>, words: &str, payload: &str| match value {
        Some(value) => (text(value.get(words)), text(value.get(payload))),
        None => (None, None),
    };
    if let Some(button) = item.get("button") {
        return pair(Some(button), "text", "payload");
    }
    if let Some(interactive) = item.get("interactive") {
        let reply = interactive.get("button_reply").or_else(|| interactive.get("list_reply"));
        return match reply {
            Some(reply) => pair(Some(reply), "title", "id"),
            None => pair(interactive.get("nfm_reply"), "body", "response_json"),
        };
    }
    (item.get("text").and_then(|written| text(written.get("body"))), None)
}
