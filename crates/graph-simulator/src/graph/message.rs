//! The shape of a body posted to `/messages` (Meta: "Messages", and the page of each message type).

use serde_json::Value;

use super::error::GraphError;
use super::json::Node;
use super::number::Recipient;
use super::parameter;
use super::template::{self, TemplateSend};
use super::version::Version;

type Result<T> = std::result::Result<T, GraphError>;

/// What a body asks for.
#[derive(Debug)]
pub(crate) enum Posted<'v> {
    /// Send a message.
    Message(Message<'v>),
    /// Mark a received message as read: answered, but nothing is sent.
    ReadReceipt,
}

/// A message to send.
#[derive(Debug)]
pub(crate) struct Message<'v> {
    pub(crate) to: Recipient,
    /// `biz_opaque_callback_data`: the sender's own id.
    pub(crate) callback_data: Option<&'v str>,
    /// The template, or `None` for a free-form message. One that finds no open service window is accepted
    /// all the same; Meta reports 131047 by webhook.
    pub(crate) template: Option<TemplateSend<'v>>,
}

const TYPES: &[&str] = &[
    "text",
    "template",
    "image",
    "video",
    "document",
    "audio",
    "sticker",
    "location",
    "contacts",
    "reaction",
    "interactive",
];

const ENVELOPE: [&str; 9] = [
    "messaging_product",
    "recipient_type",
    "to",
    "recipient",
    "type",
    "context",
    "biz_opaque_callback_data",
    "recipient_identity_key_hash",
    "messaging_account_id",
];

/// Reads a body. The served version decides some codes.
pub(crate) fn parse(body: &Value, version: Version) -> Result<Posted<'_>> {
    let root = Node::root(body);
    if !body.is_object() {
        return Err(root.require("messaging_product").err().unwrap_or_else(|| GraphError::of(100)));
    }
    root.require("messaging_product")?.one_of(&["whatsapp"])?;
    if root.get("status").is_some() {
        return read_receipt(&root);
    }
    let kind = match root.get("type") {
        Some(kind) => kind.one_of(TYPES)?,
        None => "text",
    };
    let mut known = ENVELOPE.to_vec();
    known.push(kind);
    root.object(&known)?;
    // Groups exist at Meta for a few accounts; this simulator sends to people.
    if let Some(recipient_type) = root.get("recipient_type") {
        recipient_type.one_of(&["individual"])?;
    }
    let to = recipient(&root)?;
    let callback_data = match root.get("biz_opaque_callback_data") {
        Some(data) => Some(data.text(512)?),
        None => None,
    };
    if let Some(context) = root.get("context") {
        context.object(&["message_id"])?;
        context.require("message_id")?.text(512)?;
    }
    let content = root.get(kind).ok_or_else(|| {
        GraphError::of(131008).details(format!("Parameter '{kind}' is mandatory for message type '{kind}'"))
    })?;
    let template = match kind {
        "template" => Some(template::parse(&content, version)?),
        _ => {
            free_form(kind, &content)?;
            None
        }
    };
    Ok(Posted::Message(Message { to, callback_data, template }))
}

fn read_receipt<'v>(root: &Node<'v, '_>) -> Result<Posted<'v>> {
    root.object(&["messaging_product", "status", "message_id", "typing_indicator"])?;
    root.require("status")?.one_of(&["read"])?;
    root.require("message_id")?.text(512)?;
    Ok(Posted::ReadReceipt)
}

/// `to` wins over `recipient` when both are there.
fn recipient(root: &Node<'_, '_>) -> Result<Recipient> {
    let (name, found) = match (root.get("to"), root.get("recipient")) {
        (Some(to), _) => ("to", Recipient::phone(to.text(64)?)),
        (None, Some(recipient)) => ("recipient", Recipient::user_id(recipient.text(160)?)),
        (None, None) => return Err(GraphError::parameter("The parameter to is required.")),
    };
    found.ok_or_else(|| {
        GraphError::of(131009).details(match name {
            "to" => "Parameter 'to' is not an E.164 phone number with a leading plus",
            _ => "Parameter 'recipient' is not a business-scoped user id",
        })
    })
}

fn free_form(kind: &str, content: &Node<'_, '_>) -> Result<()> {
    match kind {
        "text" => {
            content.object(&["body", "preview_url"])?;
            content.require("body")?.text(4096)?;
            if let Some(preview) = content.get("preview_url") {
                preview.bool()?;
            }
            Ok(())
        }
        "location" => {
            content.object(&["latitude", "longitude", "name", "address"])?;
            content.require("latitude")?;
            content.require("longitude").map(drop)
        }
        "contacts" => match content.items()?.count() {
            1..=257 => Ok(()),
            _ => Err(content.must_be("an array of 1 to 257 contacts")),
        },
        "reaction" => {
            content.object(&["message_id", "emoji"])?;
            content.require("message_id")?.text(512).map(drop)
        }
        "interactive" => interactive(content),
        media => parameter::media(content, media),
    }
}

fn interactive(content: &Node<'_, '_>) -> Result<()> {
    content.object(&["type", "header", "body", "footer", "action"])?;
    let kind = content.require("type")?.text(64)?;
    content.require("action")?;
    if let Some(footer) = content.get("footer") {
        footer.require("text")?.text(60)?;
    }
    if let Some(body) = content.get("body") {
        let max = if kind == "list" { 4096 } else { 1024 };
        body.require("text")?.text(max)?;
    } else if matches!(kind, "button" | "list") {
        content.require("body")?;
    }
    let action = content.require("action")?;
    match kind {
        "button" => {
            let buttons = action.require("buttons")?;
            match buttons.items()?.count() {
                1..=3 => Ok(()),
                _ => Err(buttons.must_be("an array of 1 to 3 buttons")),
            }
        }
        "list" => {
            action.require("button")?.text(20)?;
            let sections = action.require("sections")?;
            let mut rows = 0;
            let mut count = 0;
            for section in sections.items()? {
                count += 1;
                rows += section.require("rows")?.items()?.count();
            }
            if (1..=10).contains(&count) && (1..=10).contains(&rows) {
                Ok(())
            } else {
                Err(sections.must_be("an array of at most 10 sections with 10 rows in total"))
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    fn base() -> Value {
        json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": "+5511900000000",
            "type": "template", "biz_opaque_callback_data": "q:1",
            "template": {"name": "t", "language": {"code": "en", "policy": "deterministic"}}
        })
    }

    /// The base body with one member replaced, or removed by `Value::Null`.
    fn with(key: &str, value: Value) -> Value {
        let mut body = base();
        body[key] = value;
        body
    }

    fn code(body: &Value) -> Option<i64> {
        parse(body, Version::parse("v25.0").unwrap()).err().map(|error| error.code)
    }

    fn typed(kind: &str, content: Value) -> Option<i64> {
        code(&json!({
            "messaging_product": "whatsapp", "to": "+5511900000000", "type": kind, (kind): content
        }))
    }

    #[test]
    fn a_full_template_message_is_read() {
        let body = base();
        let version = Version::parse("v25.0").unwrap();
        let Posted::Message(message) = parse(&body, version).unwrap() else {
            panic!("not a message");
        };
        assert_eq!(message.to.input, "+5511900000000");
        assert_eq!(message.callback_data, Some("q:1"));
        assert_eq!(message.template.unwrap().name, "t");
    }

    #[test]
    fn each_envelope_field_is_checked() {
        let refused = [
            (with("messaging_product", Value::Null), 100),
            (with("messaging_product", json!("telegram")), 100),
            (with("recipient_type", json!("group")), 100),
            (with("to", Value::Null), 100),
            (with("to", json!("5511900000000")), 131009),
            (with("to", json!(5511900000000u64)), 100),
            (with("type", json!("TEMPLATE")), 100),
            (with("type", json!("fax")), 100),
            (with("template", Value::Null), 131008),
            (with("biz_opaque_callback_data", json!("x".repeat(513))), 100),
            (with("biz_opaque_callback_data", json!("")), 100),
            (with("context", json!({})), 100),
            (with("idempotency_key", json!("x")), 100),
            (with("text", json!({"body": "two kinds"})), 100),
            (json!([]), 100),
            (json!("text"), 100),
        ];
        for (body, expected) in refused {
            assert_eq!(code(&body), Some(expected), "{body}");
        }
        assert_eq!(code(&with("recipient_type", Value::Null)), None);
        assert_eq!(code(&with("biz_opaque_callback_data", json!("é".repeat(512)))), None);
    }

    #[test]
    fn a_phone_number_wins_over_a_user_id() {
        let mut body = with("recipient", json!("not an id"));
        assert_eq!(code(&body), None);
        body["to"] = Value::Null;
        assert_eq!(code(&body), Some(131009));
        body["recipient"] = json!("BR.1234");
        assert_eq!(code(&body), None);
    }

    #[test]
    fn free_form_messages_have_their_limits() {
        assert_eq!(typed("text", json!({"body": "é".repeat(4096)})), None);
        assert_eq!(typed("text", json!({"body": "x".repeat(4097)})), Some(100));
        assert_eq!(typed("text", json!({"body": ""})), Some(100));
        assert_eq!(typed("text", json!({"body": "x", "preview_url": "no"})), Some(100));
        assert_eq!(typed("image", json!({"id": "1", "caption": "c"})), None);
        assert_eq!(typed("image", json!({"id": "1", "caption": "c".repeat(1025)})), Some(100));
        assert_eq!(typed("audio", json!({"id": "1", "caption": "c"})), Some(100));
        assert_eq!(typed("document", json!({"link": "https://e.com/a.pdf", "filename": "a.pdf"})), None);
        assert_eq!(typed("location", json!({"latitude": 1.0})), Some(100));
        assert_eq!(typed("reaction", json!({"message_id": "wamid.x", "emoji": ""})), None);
        assert_eq!(typed("contacts", json!([])), Some(100));
        let button = |count: usize| json!({"type": "button", "body": {"text": "b"}, "action": {"buttons": vec![json!({}); count]}});
        assert_eq!(typed("interactive", button(3)), None);
        assert_eq!(typed("interactive", button(4)), Some(100));
    }

    #[test]
    fn a_read_receipt_is_no_message() {
        let body = json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.x"});
        let version = Version::parse("v25.0").unwrap();
        assert!(matches!(parse(&body, version), Ok(Posted::ReadReceipt)));
        assert_eq!(code(&json!({"messaging_product": "whatsapp", "status": "read"})), Some(100));
    }
}
