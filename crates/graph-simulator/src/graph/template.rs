//! The shape of `template` in a send (Meta: "Template components" and the page of each template type).
//!
//! What any template message must look like, whatever the template says. Whether it fits a registered
//! template is the subject of [`super::template_rules`], the values are that of [`super::parameter`].

use serde_json::Value;

use super::error::GraphError;
use super::json::Node;
use super::parameter::{self, Parameter, mismatch};
use super::version::Version;

type Result<T> = std::result::Result<T, GraphError>;

/// A template as a request asks for it.
#[derive(Debug, Default)]
pub(crate) struct TemplateSend<'v> {
    pub(crate) name: &'v str,
    pub(crate) language: &'v str,
    pub(crate) header: Option<Vec<Parameter<'v>>>,
    pub(crate) body: Vec<Parameter<'v>>,
    pub(crate) buttons: Vec<ButtonSend<'v>>,
}

/// Values for one button.
#[derive(Debug)]
pub(crate) struct ButtonSend<'v> {
    pub(crate) sub_type: &'v str,
    pub(crate) index: usize,
    pub(crate) has_parameters: bool,
}

/// Buttons of a template: at most ten, counted from zero.
const MAX_BUTTON_INDEX: u64 = 9;

/// Reads `template`. The served version decides the code of bad parameter text.
pub(crate) fn parse<'v>(node: &Node<'v, '_>, version: Version) -> Result<TemplateSend<'v>> {
    node.object(&["name", "language", "components", "namespace"])?;
    let language = node.require("language")?;
    language.object(&["code", "policy"])?;
    if let Some(policy) = language.get("policy") {
        policy.one_of(&["deterministic"])?;
    }
    let mut send = TemplateSend {
        name: node.require("name")?.text(512)?,
        language: language.require("code")?.text(32)?,
        ..TemplateSend::default()
    };
    // Names and languages of another form cannot exist, so they are not found, registered or not.
    if !is_template_name(send.name) || !is_language(send.language) {
        return Err(not_found(send.name, send.language));
    }
    if let Some(components) = node.get("components") {
        parse_components(&components, version, &mut send)?;
    }
    Ok(send)
}

/// 132001, in Meta's words.
pub(crate) fn not_found(name: &str, language: &str) -> GraphError {
    GraphError::of(132001).details(format!("template name ({name}) does not exist in {language}"))
}

fn is_template_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// `en`, `fil`, `pt_BR`: an underscore, not the hyphen of other systems.
fn is_language(code: &str) -> bool {
    let (language, region) = code.split_once('_').unwrap_or((code, "XX"));
    (2..=3).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && region.len() == 2
        && region.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn parse_components<'v>(components: &Node<'v, '_>, version: Version, send: &mut TemplateSend<'v>) -> Result<()> {
    let mut has_body = false;
    for component in components.items()? {
        let kind = component.require("type")?;
        // Lower case only: Meta's OpenAPI lists nothing else, though some samples shout.
        match kind.one_of(&[
            "header",
            "body",
            "button",
            "carousel",
            "limited_time_offer",
            "tap_target_configuration",
        ])? {
            "header" => {
                component.object(&["type", "parameters"])?;
                let header = text_or_media(&component, version)?;
                if send.header.replace(header).is_some() {
                    return Err(repeated(&component));
                }
            }
            "body" => {
                component.object(&["type", "parameters"])?;
                if std::mem::replace(&mut has_body, true) {
                    return Err(repeated(&component));
                }
                send.body = text_or_media(&component, version)?;
                let allowed = ["text", "currency", "date_time"];
                if let Some(other) = send.body.iter().find(|p| !allowed.contains(&p.kind)) {
                    return Err(mismatch("body", "TEXT", other.kind));
                }
            }
            "button" => {
                let button = parse_button(&component, version)?;
                if send.buttons.iter().any(|known| known.index == button.index) {
                    return Err(repeated(&component));
                }
                send.buttons.push(button);
            }
            "carousel" => parse_carousel(&component, version)?,
            _ => {
                component.object(&["type", "parameters"])?;
                component.require("parameters")?.items()?.for_each(drop);
            }
        }
    }
    Ok(())
}

fn repeated(component: &Node<'_, '_>) -> GraphError {
    GraphError::of(100).details(format!("{} repeats a component", component.path()))
}

fn parse_carousel(component: &Node<'_, '_>, version: Version) -> Result<()> {
    component.object(&["type", "cards"])?;
    let cards = component.require("cards")?;
    let mut count = 0;
    for card in cards.items()? {
        count += 1;
        card.object(&["card_index", "components"])?;
        card.require("card_index")?;
        parse_components(&card.require("components")?, version, &mut TemplateSend::default())?;
    }
    if !(2..=10).contains(&count) {
        return Err(cards.must_be("an array of 2 to 10 cards"));
    }
    Ok(())
}

fn text_or_media<'v>(component: &Node<'v, '_>, version: Version) -> Result<Vec<Parameter<'v>>> {
    let Some(parameters) = component.get("parameters") else {
        return Ok(Vec::new());
    };
    parameters.items()?.map(|parameter| parameter::parse(&parameter, version)).collect()
}

fn parse_button<'v>(node: &Node<'v, '_>, version: Version) -> Result<ButtonSend<'v>> {
    node.object(&["type", "sub_type", "index", "parameters"])?;
    let sub_type = node.require("sub_type")?.text(64)?;
    let index = node.require("index")?;
    // Meta's samples write it as a string and as a number.
    let number = match index.value() {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let index = match number {
        Some(number) if number <= MAX_BUTTON_INDEX => number as usize,
        _ => return Err(index.must_be("a number from 0 to 9")),
    };
    let mut has_parameters = false;
    if let Some(parameters) = node.get("parameters") {
        for parameter in parameters.items()? {
            has_parameters = true;
            parameter::check_button(&parameter, sub_type, version)?;
        }
    }
    Ok(ButtonSend { sub_type, index, has_parameters })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    fn parse_with(version: &str, template: Value) -> std::result::Result<(), (i64, String)> {
        let version = Version::parse(version).unwrap();
        match parse(&Node::root(&template), version) {
            Ok(_) => Ok(()),
            Err(error) => Err((error.code, error.details.unwrap_or(error.message))),
        }
    }

    fn components(list: Value) -> std::result::Result<(), (i64, String)> {
        parse_with("v25.0", json!({"name": "t", "language": {"code": "en"}, "components": list}))
    }

    fn code(list: Value) -> Option<i64> {
        components(list).err().map(|(code, _)| code)
    }

    fn body_text(text: &str) -> Value {
        json!([{"type": "body", "parameters": [{"type": "text", "text": text}]}])
    }

    #[test]
    fn name_and_language_are_required_and_of_the_documented_form() {
        let refused = |template: Value| parse_with("v25.0", template).unwrap_err().0;
        assert_eq!(refused(json!({"language": {"code": "en"}})), 100);
        assert_eq!(refused(json!({"name": "t"})), 100);
        assert_eq!(refused(json!({"name": "t", "language": "en"})), 100);
        assert_eq!(refused(json!({"name": "t", "language": {"code": "en", "policy": "fallback"}})), 100);
        assert_eq!(refused(json!({"name": "No Such", "language": {"code": "en"}})), 132001);
        assert_eq!(refused(json!({"name": "t", "language": {"code": "en-US"}})), 132001);
        assert_eq!(refused(json!({"name": "t", "language": {"code": "en"}, "extra": 1})), 100);
        let full = json!({"name": "order_update_2", "language": {"code": "pt_BR", "policy": "deterministic"}});
        assert_eq!(parse_with("v25.0", full), Ok(()));
    }

    #[test]
    fn parameter_text_is_one_line_without_long_gaps() {
        for bad in ["", "a\nb", "a\tb", "a\rb", "a     b"] {
            assert_eq!(code(body_text(bad)), Some(132018), "{bad:?}");
        }
        for good in ["a", "a    b", "🎟 Zürich", " "] {
            assert_eq!(code(body_text(good)), None, "{good:?}");
        }
    }

    #[test]
    fn bad_parameter_text_had_another_code_before_v23() {
        let template = json!({"name": "t", "language": {"code": "en"}, "components": body_text("a\nb")});
        assert_eq!(parse_with("v22.0", template).unwrap_err().0, 132012);
    }

    #[test]
    fn a_component_type_in_upper_case_is_refused() {
        assert_eq!(code(json!([{"type": "BODY", "parameters": []}])), Some(100));
        assert_eq!(code(json!([{"parameters": []}])), Some(100));
    }

    #[test]
    fn a_parameter_needs_the_member_that_its_type_names() {
        assert_eq!(
            components(json!([{"type": "body", "parameters": [{"type": "text"}]}])),
            Err((100, "Parameter 'text' is mandatory for component parameter type 'text'".to_owned()))
        );
        assert_eq!(
            code(json!([{"type": "body", "parameters": [{"type": "text", "text": "a", "value": "b"}]}])),
            Some(100)
        );
        assert_eq!(
            code(json!([{"type": "body", "parameters": [{"type": "image", "image": {"id": "1"}}]}])),
            Some(132012)
        );
    }

    #[test]
    fn a_component_given_twice_is_refused() {
        let body = json!({"type": "body", "parameters": [{"type": "text", "text": "a"}]});
        assert_eq!(code(json!([body, body])), Some(100));
        let button =
            json!({"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "a"}]});
        assert_eq!(code(json!([button, button])), Some(100));
    }

    #[test]
    fn media_has_an_id_or_a_link_but_not_both() {
        let header =
            |media: Value| code(json!([{"type": "header", "parameters": [{"type": "image", "image": media}]}]));
        assert_eq!(header(json!({"id": "1"})), None);
        assert_eq!(header(json!({"link": "https://example.com/a.jpg"})), None);
        assert_eq!(header(json!({})), Some(131009));
        assert_eq!(header(json!({"id": "1", "link": "https://example.com/a.jpg"})), Some(131009));
        assert_eq!(header(json!({"link": "file:///etc/passwd"})), Some(100));
    }

    #[test]
    fn a_button_has_an_index_and_the_parameter_of_its_kind() {
        let button = |index: Value, sub_type: &str, parameter: Value| {
            code(json!([{"type": "button", "sub_type": sub_type, "index": index, "parameters": [parameter]}]))
        };
        let text = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(button(json!("0"), "url", text("a%20b")), None);
        assert_eq!(button(json!(9), "url", text("a")), None);
        assert_eq!(button(json!(10), "url", text("a")), Some(100));
        assert_eq!(button(json!("x"), "url", text("a")), Some(100));
        assert_eq!(button(json!(0), "url", text("a b")), Some(132018));
        assert_eq!(button(json!(0), "url", text("é")), Some(132018));
        assert_eq!(button(json!(0), "quick_reply", text("a")), Some(132012));
        let coupon = |code: &str| json!({"type": "coupon_code", "coupon_code": code});
        assert_eq!(button(json!(0), "copy_code", coupon("SAVE10")), None);
        assert_eq!(button(json!(0), "copy_code", coupon(&"X".repeat(21))), Some(100));
    }

    #[test]
    fn a_carousel_has_two_to_ten_cards_whose_components_are_checked_too() {
        let cards = |count: usize, text: &str| {
            let card = json!({"card_index": 0, "components": body_text(text)});
            code(json!([{"type": "carousel", "cards": vec![card; count]}]))
        };
        assert_eq!(cards(2, "a"), None);
        assert_eq!(cards(1, "a"), Some(100));
        assert_eq!(cards(11, "a"), Some(100));
        assert_eq!(cards(2, "a\n"), Some(132018));
    }
}
