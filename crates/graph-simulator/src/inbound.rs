//! Messages from users: they fill the number's second, open the service window and make a webhook
//! (Meta: "messages" webhook reference).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::{DAY, SECOND};
use crate::graph::number::Recipient;
use crate::state::State;
use crate::webhooks::envelope::{InboundEvent, Owner, user_id};

/// A message that a user writes to one of the registered, or any other, numbers.
///
/// Its content is one of `text`, `button` and `message`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    /// The number written to.
    pub phone_number_id: String,
    /// Who writes: a phone number with or without plus, or a business-scoped user id.
    pub from: String,
    /// Text.
    #[serde(default)]
    pub text: Option<String>,
    /// A press of a template's quick reply button.
    #[serde(default)]
    pub button: Option<ButtonPress>,
    /// Anything else, as Meta writes it: `{"type": "image", "image": {…}}`. `id`, `from` and `timestamp` are filled in.
    #[serde(default)]
    pub message: Option<Map<String, Value>>,
    /// The wamid that is answered.
    #[serde(default)]
    pub context: Option<String>,
    /// Profile name.
    #[serde(default)]
    pub name: Option<String>,
    /// How many seconds ago it was written: its window is open for 24 hours less this.
    #[serde(default)]
    pub ago_s: u64,
}

/// A press of a quick reply button.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ButtonPress {
    /// What the template send gave the button.
    pub payload: String,
    /// What the button says.
    pub text: String,
}

impl Inbound {
    /// A text.
    pub fn text(phone_number_id: &str, from: &str, text: &str) -> Self {
        Self {
            phone_number_id: phone_number_id.to_owned(),
            from: from.to_owned(),
            text: Some(text.to_owned()),
            ..Self::default()
        }
    }

    /// A press of the quick reply button of the template message `context`.
    pub fn button(phone_number_id: &str, from: &str, button: ButtonPress, context: &str) -> Self {
        Self {
            phone_number_id: phone_number_id.to_owned(),
            from: from.to_owned(),
            button: Some(button),
            context: Some(context.to_owned()),
            ..Self::default()
        }
    }

    fn sender(&self) -> Option<Recipient> {
        let digits = self.from.strip_prefix('+').unwrap_or(&self.from);
        Recipient::phone(&format!("+{digits}")).or_else(|| Recipient::user_id(&self.from))
    }

    /// The member of `messages[]` without what the simulator fills in; `None` unless there is one content.
    fn content(&self) -> Option<Map<String, Value>> {
        let content = match (&self.text, &self.button, &self.message) {
            (Some(text), None, None) => json!({"type": "text", "text": {"body": text}}),
            (None, Some(press), None) => json!({"type": "button", "button": press}),
            (None, None, Some(message)) if message.get("type").is_some_and(Value::is_string) => {
                return Some(message.clone());
            }
            _ => return None,
        };
        match content {
            Value::Object(content) => Some(content),
            _ => None,
        }
    }
}

/// Takes a message in; returns its wamid, or in words why it makes no sense.
pub(crate) fn receive(state: &State, inbound: Inbound) -> Result<String, String> {
    let from = inbound.sender().ok_or("\"from\" must be a phone number or a business-scoped user id")?;
    let mut message = inbound
        .content()
        .ok_or("an inbound message has one of \"text\", \"button\" and \"message\", and \"message\" has a \"type\"")?;
    let now = state.clock.now();
    let ago = inbound.ago_s.min(DAY / SECOND) * SECOND;
    let registry = state.registry();
    let account = registry.account(&inbound.phone_number_id);
    let limits = account.and_then(|account| account.limits).unwrap_or(state.options.default_limits);
    state.traffic.number(&inbound.phone_number_id).receive(from.key(), now, ago, limits);

    let wamid = state.ids.wamid(from.wa_id.as_deref().unwrap_or(&from.input));
    let Some(plan) = state.webhooks.plan() else {
        return Ok(wamid);
    };
    if let Some(digits) = &from.wa_id {
        message.insert("from".to_owned(), json!(digits));
    }
    message.insert("from_user_id".to_owned(), json!(user_id(&from)));
    message.insert("id".to_owned(), json!(wamid));
    let written = state.clock.unix_seconds(now).saturating_sub(inbound.ago_s);
    message.insert("timestamp".to_owned(), json!(written.to_string()));
    if let Some(context) = inbound.context {
        message.insert("context".to_owned(), json!({"from": inbound.phone_number_id, "id": context}));
    }
    let waba_id = account.map_or_else(String::new, |account| account.waba_id.clone());
    let owner = Owner { phone_number_id: inbound.phone_number_id, waba_id };
    let event = InboundEvent { owner, from, name: inbound.name, message };
    state.webhooks.received(&plan, event, now);
    Ok(wamid)
}
