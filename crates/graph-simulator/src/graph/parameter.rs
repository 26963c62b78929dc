//! The values of a template's components: text, media, places, payloads (Meta: "Template components").

use serde_json::Value;

use super::error::GraphError;
use super::json::Node;
use super::version::{TEMPLATE_VALIDATION_CODE, Version};

type Result<T> = std::result::Result<T, GraphError>;

/// One value of a header or body.
#[derive(Debug)]
pub(crate) struct Parameter<'v> {
    pub(crate) kind: &'v str,
    pub(crate) name: Option<&'v str>,
    /// What the recipient reads in its place; empty for media and locations.
    pub(crate) text: &'v str,
}

/// Reads a parameter of a header or body.
pub(crate) fn parse<'v>(node: &Node<'v, '_>, version: Version) -> Result<Parameter<'v>> {
    let kind = node.require("type")?.one_of(&[
        "text",
        "currency",
        "date_time",
        "image",
        "video",
        "document",
        "location",
        "product",
    ])?;
    node.object(&["type", "parameter_name", kind])?;
    let name = node.get("parameter_name").map(|name| name.str());
    let value = node.get(kind).ok_or_else(|| {
        GraphError::of(100).details(format!("Parameter '{kind}' is mandatory for component parameter type '{kind}'"))
    })?;
    let text = match kind {
        "text" => {
            let text = value.str()?;
            check_text(text, version)?;
            text
        }
        "currency" => {
            value.object(&["fallback_value", "code", "amount_1000"])?;
            value.require("code")?.text(3)?;
            value.require("amount_1000")?;
            value.require("fallback_value")?.str()?
        }
        "date_time" => {
            let Value::Object(_) = value.value() else {
                return Err(value.must_be("a JSON object"));
            };
            value.require("fallback_value")?.str()?
        }
        "location" => {
            value.object(&["latitude", "longitude", "name", "address"])?;
            value.require("latitude")?;
            value.require("longitude")?;
            ""
        }
        "product" => {
            value.object(&["product_retailer_id", "catalog_id"])?;
            ""
        }
        _ => {
            media(&value, kind)?;
            ""
        }
    };
    Ok(Parameter { kind, name: name.transpose()?, text })
}

/// A media object: an uploaded id, or a link that Meta fetches, not both.
pub(crate) fn media(node: &Node<'_, '_>, kind: &str) -> Result<()> {
    let known: &[&str] = match kind {
        "document" => &["id", "link", "caption", "filename", "provider"],
        "audio" => &["id", "link", "voice", "provider"],
        "sticker" => &["id", "link", "provider"],
        _ => &["id", "link", "caption", "provider"],
    };
    node.object(known)?;
    if let Some(caption) = node.get("caption") {
        caption.text(1024)?;
    }
    match (node.get("id"), node.get("link")) {
        (Some(id), None) => id.text(512).map(drop),
        (None, Some(link)) => {
            let text = link.text(4096)?;
            if text.starts_with("https://") || text.starts_with("http://") {
                Ok(())
            } else {
                Err(link.must_be("a valid URI"))
            }
        }
        _ => Err(GraphError::of(131009).details(format!("{} must have either 'id' or 'link'", node.path()))),
    }
}

/// Text of a parameter: something, on one line, without a run of more than four spaces.
fn check_text(text: &str, version: Version) -> Result<()> {
    if text.is_empty() {
        return Err(bad_text(version, "Param text cannot be empty"));
    }
    if text.contains(['\n', '\r', '\t']) || text.contains("     ") {
        return Err(bad_text(
            version,
            "Param text cannot have new-line/tab characters or more than 4 consecutive spaces",
        ));
    }
    Ok(())
}

fn bad_text(version: Version, details: &str) -> GraphError {
    let code = if version >= TEMPLATE_VALIDATION_CODE { 132018 } else { 132012 };
    GraphError::of(code).details(details)
}

/// Checks a parameter of a button.
pub(crate) fn check_button(node: &Node<'_, '_>, sub_type: &str, version: Version) -> Result<()> {
    let expected = match sub_type.to_ascii_lowercase().as_str() {
        "url" => "text",
        "quick_reply" => "payload",
        "copy_code" => "coupon_code",
        "flow" | "catalog" | "mpm" | "order_details" => "action",
        // Kinds that are not checked here: their parameters pass as they are.
        _ => return node.require("type").map(drop),
    };
    let kind = node.require("type")?.str()?;
    if kind != expected {
        return Err(mismatch("buttons", &expected.to_uppercase(), kind));
    }
    node.object(&["type", expected])?;
    let value = node.require(expected)?;
    match expected {
        "text" => {
            let text = value.str()?;
            check_text(text, version)?;
            // The suffix goes into a URL as it is, so it must be percent-encoded already.
            let encoded = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
            if !encoded {
                return Err(bad_text(
                    version,
                    "buttons: the URL parameter has characters that must be percent-encoded",
                ));
            }
        }
        "payload" => drop(value.text(256)?),
        "coupon_code" => drop(value.text(20)?),
        _ => {
            if !value.value().is_object() {
                return Err(value.must_be("a JSON object"));
            }
        }
    }
    Ok(())
}

/// 132012, in Meta's words.
pub(crate) fn mismatch(part: &str, expected: &str, received: &str) -> GraphError {
    GraphError::of(132012)
        .details(format!("{part}: Format mismatch, expected {expected}, received {}", received.to_uppercase()))
}
