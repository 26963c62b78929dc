//! What Meta's webhook tells: how messages fared, what people answered, and what became of templates, numbers and accounts.
//!
//! One POST holds up to a thousand updates of several accounts, and Meta sends it again for days when it is not taken. So it is
//! read with tolerance: what cannot be read is set aside as text with the reason ([`Unread`]) and the rest is used. Check the
//! [`crate::signature`] first, over the bytes as they came. Source: Meta, "Webhooks", "messages webhook reference".

mod inbound;
mod json;
mod status;
#[cfg(test)]
mod tests;

pub use inbound::Inbound;
pub use status::{Conversation, Pricing, ReportedError, Status, StatusKind};

use json::{Item, List};
use serde_json::value::RawValue;

/// All that one POST tells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delivery {
    /// What changed, in the order in which it came.
    pub changes: Vec<Change>,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// What changed in one account.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The WhatsApp Business Account. `0` in some of Meta's own tests.
    pub account_id: Option<String>,
    /// Which of its phone numbers; management fields have none.
    pub phone_number_id: Option<String>,
    /// The number as people write it, with or without `+` and blanks.
    pub display_phone_number: Option<String>,
    /// What the account subscribed to: `messages`, `message_template_status_update`, …; empty when Meta did not say.
    pub field: String,
    /// When Meta wrote it, in seconds since 1970. Often missing for messages.
    pub time_s: Option<i64>,
    /// What it says.
    pub content: Content,
}

/// What a change says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// About messages.
    Messages {
        /// How messages of ours fared.
        statuses: Vec<Status>,
        /// What people wrote.
        inbound: Vec<Inbound>,
        /// Errors that belong to no message.
        errors: Vec<ReportedError>,
    },
    /// About something else: the value as JSON text. It holds no NUL and nothing nested too deeply.
    Other(String),
}

/// A part that could not be read, kept so that nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The account it came for, as far as that could be read.
    pub account_id: Option<String>,
    /// The phone number it came for, as far as that could be read.
    pub phone_number_id: Option<String>,
    /// Why not.
    pub reason: String,
    /// The part as it came, NUL replaced. It looks like JSON, but a JSON reader may refuse it.
    pub raw: String,
}

/// Why a body as a whole says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// JSON is UTF-8.
    #[error("the body is not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// The body is JSON of another kind.
    #[error("the body is no webhook of Meta's: {0}")]
    NotAWebhook(String),
}

/// Reads the body of a POST.
///
/// # Errors
/// [`NotUnderstood`] when nothing of it can be used: not UTF-8, not JSON, no object with an `entry`. Anything else that is
/// wrong is told by [`Delivery::unread`].
pub fn parse(body: &[u8]) -> Result<Delivery, NotUnderstood> {
    let text = std::str::from_utf8(body).map_err(|error| NotUnderstood::NotUtf8(error.valid_up_to()))?;
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| NotUnderstood::NotJson(error.to_string()))?;
    let envelope = json::fields(whole).map_err(NotUnderstood::NotAWebhook)?;
    let entries = match envelope.get("entry") {
        Some(entries) => json::list(Some(entries)),
        None => return Err(NotUnderstood::NotAWebhook("it has no entry".to_owned())),
    };
    let mut delivery = Delivery::default();
    for entry in entries {
        delivery.read_entry(entry);
    }
    Ok(delivery)
}

/// Where a part belongs.
#[derive(Clone, Default)]
struct Place {
    account_id: Option<String>,
    phone_number_id: Option<String>,
    time_s: Option<i64>,
}

impl Delivery {
    fn read_entry(&mut self, raw: &RawValue) {
        let mut place = Place::default();
        let entry = match json::fields(raw) {
            Ok(entry) => entry,
            Err(reason) => return self.set_aside(&place, reason, raw),
        };
        place.account_id = entry.get("id").and_then(|id| json::text(json::scalar(id).as_ref()));
        place.time_s = entry.get("time").and_then(|time| json::integer(json::scalar(time).as_ref()));
        match entry.get("changes") {
            Some(changes) => {
                for change in json::list(Some(changes)) {
                    self.read_change(place.clone(), change);
                }
            }
            None => self.set_aside(&place, "the entry has no changes".to_owned(), raw),
        }
    }

    fn read_change(&mut self, mut place: Place, raw: &RawValue) {
        let change = match json::fields(raw) {
            Ok(change) => change,
            Err(reason) => return self.set_aside(&place, reason, raw),
        };
        let field = change.get("field").and_then(|field| json::text(json::scalar(field).as_ref())).unwrap_or_default();
        let Some(value) = change.get("value") else {
            return self.set_aside(&place, "the change has no value".to_owned(), raw);
        };
        let parts = json::fields(value).unwrap_or_default();
        let metadata = parts.get("metadata").and_then(|metadata| json::fields(metadata).ok()).unwrap_or_default();
        let named =
            |name| metadata.get(name).or_else(|| parts.get(name)).and_then(|id| json::text(json::scalar(id).as_ref()));
        place.phone_number_id = named("phone_number_id");
        let display_phone_number = named("display_phone_number");

        let part = |name| parts.get(name).copied();
        let [statuses, messages, errors] = ["statuses", "messages", "errors"].map(part);
        let about_messages = matches!(field.as_str(), "messages" | "");
        let content = if about_messages && (statuses.is_some() || messages.is_some() || errors.is_some()) {
            Content::Messages {
                statuses: self.read_items(&place, statuses, Status::read),
                inbound: self.read_items(&place, messages, Inbound::read),
                errors: self.read_items(&place, errors, |item, _| ReportedError::read(item)),
            }
        } else {
            match json::checked(value) {
                Ok(text) => Content::Other(text),
                Err(reason) => return self.set_aside(&place, reason, raw),
            }
        };
        let Place { account_id, phone_number_id, time_s } = place;
        self.changes.push(Change { account_id, phone_number_id, display_phone_number, field, time_s, content });
    }

    /// The items of a list, each for itself: one that cannot be read does not cost the others.
    fn read_items<T>(
        &mut self,
        place: &Place,
        items: Option<&RawValue>,
        read: impl Fn(&Item<'_>, Option<i64>) -> Result<T, &'static str>,
    ) -> Vec<T> {
        let items: List<'_> = json::list(items);
        let mut result = Vec::with_capacity(items.len());
        for raw in items {
            let item = Item::parse(raw).and_then(|item| read(&item, place.time_s).map_err(str::to_owned));
            match item {
                Ok(item) => result.push(item),
                Err(reason) => self.set_aside(place, reason, raw),
            }
        }
        result
    }

    fn set_aside(&mut self, place: &Place, reason: String, raw: &RawValue) {
        let Place { account_id, phone_number_id, .. } = place.clone();
        self.unread.push(Unread { account_id, phone_number_id, reason, raw: json::without_nul(raw.get()) });
    }
}
