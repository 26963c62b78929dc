//! How a message of ours fared: sent, delivered, read, or failed and why.
//!
//! Statuses come in any order, more than once, and `read` may come without `delivered`; their times have a resolution of one
//! second and cannot order them. Source: Meta, "status messages webhook reference", "Pricing".

use super::json::{Item, boolean, integer, text};
use crate::errors::{Rule, lookup};
use serde_json::Value;

/// How one message fared.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Meta's id of the message (`wamid.…`).
    pub message_id: String,
    /// What we gave along with the message (`biz_opaque_callback_data`). Not always on failures.
    pub queue_id: Option<String>,
    /// What happened.
    pub status: StatusKind,
    /// When, in seconds since 1970.
    pub timestamp_s: i64,
    /// Digits without `+`, not always those written to. Missing when the person hides the number.
    pub recipient_id: Option<String>,
    /// The person's id for this business portfolio.
    pub recipient_user_id: Option<String>,
    /// The person's id for a group of portfolios.
    pub recipient_parent_user_id: Option<String>,
    /// What is billed. Only on `sent` and one of `delivered` and `read`.
    pub pricing: Option<Pricing>,
    /// The conversation that it belongs to, in older versions.
    pub conversation: Option<Conversation>,
    /// Why it failed; of several the first with a code.
    pub error: Option<ReportedError>,
}

/// What happened to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusKind {
    /// WhatsApp took it on.
    Sent,
    /// It is on the person's device.
    Delivered,
    /// The person has seen it.
    Read,
    /// The person has listened to it.
    Played,
    /// It will not arrive.
    Failed,
    /// Something this version does not know.
    Other(String),
}

impl StatusKind {
    fn parse(text: String) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "sent" => Self::Sent,
            "delivered" => Self::Delivered,
            "read" => Self::Read,
            "played" => Self::Played,
            "failed" => Self::Failed,
            _ => Self::Other(text),
        }
    }

    /// Meta's word for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Played => "played",
            Self::Failed => "failed",
            Self::Other(text) => text,
        }
    }
}

/// What is billed for a message. Words are Meta's, spelled as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pricing {
    /// `marketing`, `utility`, `authentication`, `authentication-international`, `service`, …
    pub category: Option<String>,
    /// `PMP` per message, `CBP` per conversation (`pricing_model`).
    pub model: Option<String>,
    /// `regular`, `free_customer_service` or `free_entry_point` (`type`).
    pub kind: Option<String>,
    /// Whether it costs. To be dropped by Meta in favour of `kind`.
    pub billable: Option<bool>,
}

/// A conversation that messages are billed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Meta's id of it.
    pub id: String,
    /// When it ends, in seconds since 1970. Only on `sent`.
    pub expires_s: Option<i64>,
    /// What began it: a category (`origin.type`).
    pub origin: Option<String>,
}

/// An error as a webhook tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedError {
    /// Meta's code.
    pub code: Option<u32>,
    /// A short name.
    pub title: Option<String>,
    /// What it says; often the title again.
    pub message: Option<String>,
    /// The more telling part (`error_data.details`).
    pub details: Option<String>,
}

impl Status {
    pub(super) fn read(item: &Item<'_>, time_s: Option<i64>) -> Result<Self, &'static str> {
        Ok(Self {
            message_id: item.text("id").ok_or("the status has no id of a message")?,
            queue_id: item.text("biz_opaque_callback_data"),
            status: item.text("status").map(StatusKind::parse).ok_or("the status does not say what happened")?,
            timestamp_s: item.integer("timestamp").or(time_s).ok_or("the status has no timestamp")?,
            recipient_id: item.text("recipient_id"),
            recipient_user_id: item.text("recipient_user_id"),
            recipient_parent_user_id: item
                .text("recipient_parent_user_id")
                // Its name in April 2026.
                .or_else(|| item.text("parent_recipient_user_id")),
            pricing: item.get("pricing").and_then(Pricing::read),
            conversation: item.get("conversation").and_then(Conversation::read),
            error: item.get("errors").and_then(first_error),
        })
    }
}

impl Pricing {
    fn read(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        Some(Self {
            category: text(fields.get("category")),
            model: text(fields.get("pricing_model")),
            kind: text(fields.get("type")),
            billable: boolean(fields.get("billable")),
        })
    }
}

impl Conversation {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: text(value.get("id"))?,
            expires_s: integer(value.get("expiration_timestamp")),
            origin: value.get("origin").and_then(|origin| text(origin.get("type"))),
        })
    }
}

impl ReportedError {
    /// What it means and what to do; `None` without a code.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        self.code.map(|code| lookup(code, None, None, false))
    }

    pub(super) fn read(item: &Item<'_>) -> Result<Self, &'static str> {
        Self::from_fields(|name| item.get(name)).ok_or("the error says nothing")
    }

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            // Older ones may be just words.
            Value::String(_) => {
                Some(Self { code: None, title: None, message: Some(text(Some(value))?), details: None })
            }
            _ => Self::from_fields(|name| value.get(name)),
        }
    }

    fn from_fields<'v>(get: impl Fn(&str) -> Option<&'v Value>) -> Option<Self> {
        let data = get("error_data");
        let error = Self {
            code: integer(get("code")).and_then(|code| u32::try_from(code).ok()),
            title: text(get("title")),
            message: text(get("message")),
            details: data.and_then(|data| text(data.get("details"))).or_else(|| text(data)),
        };
        let empty = Self { code: None, title: None, message: None, details: None };
        Some(error).filter(|error| *error != empty)
    }
}

/// Of a list, or of something that should have been one.
fn first_error(value: &Value) -> Option<ReportedError> {
    let Some(list) = value.as_array() else {
        return ReportedError::from_value(value);
    };
    let mut errors = list.iter().filter_map(ReportedError::from_value);
    let first = errors.next()?;
    if first.code.is_some() {
        return Some(first);
    }
    Some(errors.find(|error| error.code.is_some()).unwrap_or(first))
}
