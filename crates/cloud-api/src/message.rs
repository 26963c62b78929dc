//! The JSON body of `POST /{phone number id}/messages`.
//!
//! Every message carries `recipient_type` and `language.policy`, and component types are lower case: optional to the live
//! API, required by Meta's published OpenAPI description, understood by everything in between.
//! Sources: Meta, "Messages", "Template components".

use crate::phone::PhoneNumber;
use crate::template::{Parameter, Template};
use serde::Serialize;

/// The POST body of a template message.
///
/// `to` keeps its `+`: without it Meta may read the number as one of the sender's own country. `callback_data` comes back in
/// every status webhook of this message and is seen by every application subscribed to the account: an opaque id of at most
/// 512 characters, nothing personal.
#[must_use]
pub fn template_message(
    to: &PhoneNumber,
    template: &Template,
    parameters: &[Parameter],
    callback_data: &str,
) -> String {
    let parameters: Vec<Text<'_>> = parameters
        .iter()
        .map(|parameter| Text { kind: "text", parameter_name: parameter.name.as_deref(), text: &parameter.text })
        .collect();
    let message = Message {
        messaging_product: "whatsapp",
        recipient_type: "individual",
        to: to.as_str(),
        kind: "template",
        biz_opaque_callback_data: callback_data,
        template: TemplatePart {
            name: template.name(),
            language: Language { policy: "deterministic", code: template.language() },
            components: (!parameters.is_empty()).then_some([Component { kind: "body", parameters }]),
        },
    };
    // Only maps with keys that are not text, or a type's own refusal, can fail; there is neither here.
    serde_json::to_string(&message).unwrap_or_default()
}

#[derive(Serialize)]
struct Message<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    to: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    biz_opaque_callback_data: &'a str,
    template: TemplatePart<'a>,
}

#[derive(Serialize)]
struct TemplatePart<'a> {
    name: &'a str,
    language: Language<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<[Component<'a>; 1]>,
}

#[derive(Serialize)]
struct Language<'a> {
    policy: &'static str,
    code: &'a str,
}

#[derive(Serialize)]
struct Component<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    parameters: Vec<Text<'a>>,
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter_name: Option<&'a str>,
    text: &'a str,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::template::ParameterFormat;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn number() -> PhoneNumber {
        PhoneNumber::parse("+5511987654321").unwrap().number
    }

    fn render(template: &Template, values: &Value) -> Value {
        let values = values.as_object().cloned().unwrap_or_default();
        let parameters = template.fill(&values).unwrap();
        serde_json::from_str(&template_message(&number(), template, &parameters, "q:42")).unwrap()
    }

    #[test]
    fn a_positional_template_renders_as_meta_documents_it() {
        let variables = vec!["attendee_name".to_owned(), "event_name".to_owned()];
        let template =
            Template::new("event_reminder", "en_US", "Hi {{1}}, {{2}} starts.", variables, ParameterFormat::Positional)
                .unwrap();
        assert_eq!(
            render(&template, &json!({"event_name": "Expo", "attendee_name": "Ana"})),
            json!({
                "messaging_product": "whatsapp",
                "recipient_type": "individual",
                "to": "+5511987654321",
                "type": "template",
                "biz_opaque_callback_data": "q:42",
                "template": {
                    "name": "event_reminder",
                    "language": {"policy": "deterministic", "code": "en_US"},
                    "components": [{"type": "body", "parameters": [
                        {"type": "text", "text": "Ana"},
                        {"type": "text", "text": "Expo"}
                    ]}]
                }
            })
        );
    }

    #[test]
    fn a_named_template_names_its_parameters_without_braces() {
        let template =
            Template::new("hello", "pt_BR", "Oi {{first_name}}!", Vec::new(), ParameterFormat::Named).unwrap();
        assert_eq!(
            render(&template, &json!({"first_name": "Ana"}))["template"]["components"],
            json!([{"type": "body", "parameters": [{"type": "text", "parameter_name": "first_name", "text": "Ana"}]}])
        );
    }

    #[test]
    fn a_template_without_variables_has_no_components() {
        let template = Template::new("hello", "en", "Hello!", Vec::new(), ParameterFormat::Positional).unwrap();
        let message = render(&template, &json!({}));
        assert_eq!(message["template"].get("components"), None);
    }

    proptest! {
        #[test]
        fn every_value_arrives_as_it_was_given(value in "[^\\p{C}\\p{Z}][^\\p{C}\\p{Z}]{0,60}", name in ".{1,20}") {
            let template = Template::new(name.clone(), "en", "Hi {{1}}.", Vec::new(), ParameterFormat::Positional).unwrap();
            let values = Map::from_iter([("1".to_owned(), Value::String(value.clone()))]);
            let parameters = template.fill(&values).unwrap();
            let message: Value = serde_json::from_str(&template_message(&number(), &template, &parameters, &name)).unwrap();
            prop_assert_eq!(&message["template"]["components"][0]["parameters"][0]["text"], &Value::String(value));
            prop_assert_eq!(&message["template"]["name"], &Value::String(name.clone()));
            prop_assert_eq!(&message["biz_opaque_callback_data"], &Value::String(name));
        }
    }
}
