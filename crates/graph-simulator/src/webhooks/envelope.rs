//! The body of a webhook of the field `messages` (Meta: "messages" webhook reference, its status and text pages).
//!
//! One entry per WhatsApp Business Account, in it one change per phone number and kind of update. What a user id
//! stands in for: see [`user_id`].

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::fate::Reached;
use super::plan::StatusKind;
use super::wire;
use crate::graph::error::GraphError;
use crate::graph::number::Recipient;

/// Bytes of a status or message that are not counted by their own length.
const FIXED_BYTES: usize = 1_200;

/// Profile name of users that have given none; not ASCII, because names often are not.
const PROFILE_NAME: &str = "Zoë";

/// `entry.id` of a number that is not registered, as in the test button of Meta's dashboard.
const UNKNOWN_WABA: &str = "0";

/// One update.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Status(StatusEvent),
    Inbound(Arc<InboundEvent>),
}

/// Whose updates they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) phone_number_id: String,
    pub(crate) waba_id: String,
}

/// A message that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) owner: Owner,
    pub(crate) wamid: String,
    pub(crate) to: Recipient,
    pub(crate) callback_data: Option<String>,
    /// Pricing category (Meta: "Pricing").
    pub(crate) category: &'static str,
    /// Whether it is free for being inside the window.
    pub(crate) free: bool,
    /// Code of the failure of a message that cannot arrive, whatever the plan says.
    pub(crate) undeliverable: Option<i64>,
}

/// A status of a message.
#[derive(Debug, Clone)]
pub(crate) struct StatusEvent {
    pub(crate) message: Arc<Accepted>,
    pub(crate) reached: Reached,
    /// Seconds since 1970.
    pub(crate) timestamp: u64,
    pub(crate) priced: bool,
    /// Whether a failed status carries the callback data.
    pub(crate) callback_data_on_failed: bool,
}

/// A message from a user.
#[derive(Debug)]
pub(crate) struct InboundEvent {
    pub(crate) owner: Owner,
    pub(crate) from: Recipient,
    pub(crate) name: Option<String>,
    /// The member of `messages[]`, whole.
    pub(crate) message: Map<String, Value>,
}

impl Event {
    /// Bytes that it can take in a body, at most.
    pub(crate) fn max_length(&self) -> usize {
        FIXED_BYTES
            + match self {
                Self::Status(status) => status.message.callback_data.as_deref().map_or(0, wire::length),
                Self::Inbound(inbound) => {
                    wire::write(&inbound.message).map_or(0, |text| text.len())
                        + inbound.name.as_deref().map_or(0, wire::length)
                }
            }
    }

    fn owner(&self) -> &Owner {
        match self {
            Self::Status(status) => &status.message.owner,
            Self::Inbound(inbound) => &inbound.owner,
        }
    }

    fn user(&self) -> &Recipient {
        match self {
            Self::Status(status) => &status.message.to,
            Self::Inbound(inbound) => &inbound.from,
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::Status(StatusEvent { reached: Reached::Failed(_), .. }) => Family::Failed,
            Self::Status(_) => Family::Status,
            Self::Inbound(_) => Family::Inbound,
        }
    }
}

/// Updates that can share a value: failed statuses come without `contacts`, the others with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Status,
    Failed,
    Inbound,
}

/// The business-scoped id that a user known by phone number has at this simulator: `ZZ.` and the digits. Meta's
/// begins with the user's country, which the simulator cannot know.
pub(crate) fn user_id(user: &Recipient) -> String {
    match &user.wa_id {
        Some(digits) => format!("ZZ.{digits}"),
        None => user.input.clone(),
    }
}

/// The text of one POST.
pub(crate) fn body(events: &[Event]) -> serde_json::Result<String> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for event in events {
        let owner = event.owner();
        let entry = match entries.iter().position(|entry| entry.waba_id == owner.waba_id) {
            Some(index) => index,
            None => {
                entries.push(Entry { waba_id: &owner.waba_id, changes: Vec::new() });
                entries.len() - 1
            }
        };
        let Some(entry) = entries.get_mut(entry) else { continue };
        let family = event.family();
        let number = owner.phone_number_id.as_str();
        match entry.changes.iter_mut().find(|change| change.family == family && change.number == number) {
            Some(change) => change.events.push(event),
            None => entry.changes.push(Change { number, family, events: vec![event] }),
        }
    }
    wire::write(&json::Envelope {
        object: "whatsapp_business_account",
        entry: entries.iter().map(Entry::json).collect(),
    })
}

struct Entry<'e> {
    waba_id: &'e str,
    changes: Vec<Change<'e>>,
}

struct Change<'e> {
    number: &'e str,
    family: Family,
    events: Vec<&'e Event>,
}

impl<'e> Entry<'e> {
    fn json(&self) -> json::Entry<'_> {
        let id = if self.waba_id.is_empty() { UNKNOWN_WABA } else { self.waba_id };
        json::Entry { id, changes: self.changes.iter().map(Change::json).collect() }
    }
}

impl<'e> Change<'e> {
    fn json(&self) -> json::Change<'_> {
        let metadata = json::Metadata {
            // The simulator knows no numbers but by their ids.
            display_phone_number: self.number,
            phone_number_id: self.number,
        };
        let mut known = HashSet::new();
        let contacts = self.events.iter().filter(|event| known.insert(&event.user().input)).map(|event| {
            let name = match event {
                Event::Inbound(inbound) => inbound.name.as_deref(),
                Event::Status(_) => None,
            };
            let name = name.unwrap_or(PROFILE_NAME);
            let user = event.user();
            json::Contact { profile: json::Profile { name }, wa_id: user.wa_id.as_deref(), user_id: user_id(user) }
        });
        let contacts = match self.family {
            Family::Failed => Vec::new(),
            Family::Status | Family::Inbound => contacts.collect(),
        };
        let mut statuses = Vec::new();
        let mut messages = Vec::new();
        for event in &self.events {
            match event {
                Event::Status(status) => statuses.push(status.json()),
                Event::Inbound(inbound) => messages.push(&inbound.message),
            }
        }
        let value = json::Value { messaging_product: "whatsapp", metadata, contacts, statuses, messages };
        json::Change { field: "messages", value }
    }
}

impl StatusEvent {
    fn json(&self) -> json::Status<'_> {
        let Accepted { wamid, to, callback_data, category, free, .. } = &*self.message;
        let (status, failed) = match self.reached {
            Reached::Status(StatusKind::Sent) => ("sent", None),
            Reached::Status(StatusKind::Delivered) => ("delivered", None),
            Reached::Status(StatusKind::Read) => ("read", None),
            Reached::Failed(code) => ("failed", Some(code)),
        };
        let by_phone = to.wa_id.is_some();
        json::Status {
            id: wamid,
            status,
            timestamp: self.timestamp.to_string(),
            recipient_id: to.wa_id.as_deref(),
            // A failed message to a phone number does not tell the user's id.
            recipient_user_id: (failed.is_none() || !by_phone).then(|| user_id(to)),
            biz_opaque_callback_data: callback_data
                .as_deref()
                .filter(|_| failed.is_none() || self.callback_data_on_failed),
            pricing: self.priced.then_some(json::Pricing {
                billable: !free,
                pricing_model: "PMP",
                kind: if *free { "free_customer_service" } else { "regular" },
                category,
            }),
            errors: failed.map(error).into_iter().collect(),
        }
    }
}

fn error(code: i64) -> json::Error {
    let title = GraphError::title(code);
    json::Error {
        code,
        title,
        message: title,
        error_data: json::ErrorData { details: format!("{title}.") },
        href: "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }
}

/// The body as Meta's reference lists its members.
mod json {
    use serde::Serialize;
    use serde_json::Map;

    #[derive(Serialize)]
    pub(super) struct Envelope<'a> {
        pub(super) object: &'static str,
        pub(super) entry: Vec<Entry<'a>>,
    }

    #[derive(Serialize)]
    pub(super) struct Entry<'a> {
        pub(super) id: &'a str,
        pub(super) changes: Vec<Change<'a>>,
    }

    #[derive(Serialize)]
    pub(super) struct Change<'a> {
        pub(super) value: Value<'a>,
        pub(super) field: &'static str,
    }

    #[derive(Serialize)]
    pub(super) struct Value<'a> {
        pub(super) messaging_product: &'static str,
        pub(super) metadata: Metadata<'a>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub(super) contacts: Vec<Contact<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub(super) statuses: Vec<Status<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub(super) messages: Vec<&'a Map<String, serde_json::Value>>,
    }

    #[derive(Serialize)]
    pub(super) struct Metadata<'a> {
        pub(super) display_phone_number: &'a str,
        pub(super) phone_number_id: &'a str,
    }

    #[derive(Serialize)]
    pub(super) struct Contact<'a> {
        pub(super) profile: Profile<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) wa_id: Option<&'a str>,
        pub(super) user_id: String,
    }

    #[derive(Serialize)]
    pub(super) struct Profile<'a> {
        pub(super) name: &'a str,
    }

    #[derive(Serialize)]
    pub(super) struct Status<'a> {
        pub(super) id: &'a str,
        pub(super) status: &'static str,
        pub(super) timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) recipient_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) recipient_user_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) biz_opaque_callback_data: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) pricing: Option<Pricing>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub(super) errors: Vec<Error>,
    }

    #[derive(Serialize)]
    pub(super) struct Pricing {
        pub(super) billable: bool,
        pub(super) pricing_model: &'static str,
        pub(super) category: &'static str,
        #[serde(rename = "type")]
        pub(super) kind: &'static str,
    }

    #[derive(Serialize)]
    pub(super) struct Error {
        pub(super) code: i64,
        pub(super) title: &'static str,
        pub(super) message: &'static str,
        pub(super) error_data: ErrorData,
        pub(super) href: &'static str,
    }

    #[derive(Serialize)]
    pub(super) struct ErrorData {
        pub(super) details: String,
    }
}
