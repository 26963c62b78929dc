//! Whether a send fits the template that is registered (Meta: "Template components", error codes 132xxx).

use super::error::GraphError;
use super::parameter::{Parameter, mismatch};
use super::template::{TemplateSend, not_found};
use crate::registry::{Button, ButtonType, Header, HeaderFormat, ParameterFormat, Template, variables};

type Result<T> = std::result::Result<T, GraphError>;

const MAX_BODY: usize = 1024;
const MAX_HEADER: usize = 60;

/// Checks a send against the registered languages of its template. None registered: in open mode
/// anything goes, in strict mode the template does not exist.
pub(crate) fn check(send: &TemplateSend<'_>, languages: &[Template], strict: bool) -> Result<()> {
    let unknown = || not_found(send.name, send.language);
    if languages.is_empty() {
        return if strict { Err(unknown()) } else { Ok(()) };
    }
    let template = languages.iter().find(|template| template.language == send.language).ok_or_else(unknown)?;
    match template.status.as_str() {
        "APPROVED" => {}
        "PAUSED" => return Err(GraphError::of(132015)),
        "DISABLED" => return Err(GraphError::of(132016)),
        _ => return Err(unknown()),
    }
    check_header(send, template)?;
    check_body(send, template)?;
    check_buttons(send, &template.buttons)
}

fn check_body(send: &TemplateSend<'_>, template: &Template) -> Result<()> {
    let text = template.body.as_deref();
    let names = text.map(variables);
    let expected = names.as_ref().map_or(template.body_parameters, |names| names.len());
    check_parameters("body", &send.body, expected, names.as_deref(), template.parameter_format)?;
    match text {
        Some(text) if hydrated_length(text, &send.body, template.parameter_format) > MAX_BODY => {
            Err(GraphError::of(132005).details(format!("body: the text has more than {MAX_BODY} characters")))
        }
        _ => Ok(()),
    }
}

fn check_header(send: &TemplateSend<'_>, template: &Template) -> Result<()> {
    let given = send.header.as_deref().unwrap_or_default();
    let format = template.parameter_format;
    let Some(Header { format: kind, text }) = &template.header else {
        return check_parameters("header", given, 0, None, format);
    };
    // Media is mandatory in every send, whatever sample the template has.
    let expected = match kind {
        HeaderFormat::Text => return check_text_header(given, text, format),
        HeaderFormat::Image => "IMAGE",
        HeaderFormat::Video => "VIDEO",
        HeaderFormat::Document => "DOCUMENT",
        HeaderFormat::Location => "LOCATION",
    };
    match given {
        [one] if one.kind.eq_ignore_ascii_case(expected) => Ok(()),
        [] => Err(mismatch("header", expected, "unknown")),
        [one] => Err(mismatch("header", expected, one.kind)),
        more => Err(count_mismatch("header", more.len(), 1)),
    }
}

fn check_text_header(given: &[Parameter<'_>], text: &str, format: ParameterFormat) -> Result<()> {
    if let Some(other) = given.iter().find(|parameter| parameter.kind != "text") {
        return Err(mismatch("header", "TEXT", other.kind));
    }
    let names = variables(text);
    check_parameters("header", given, names.len(), Some(&names), format)?;
    if hydrated_length(text, given, format) > MAX_HEADER {
        return Err(GraphError::of(132005).details(format!("header: the text has more than {MAX_HEADER} characters")));
    }
    Ok(())
}

fn check_parameters(
    part: &str,
    given: &[Parameter<'_>],
    expected: usize,
    names: Option<&[&str]>,
    format: ParameterFormat,
) -> Result<()> {
    let named = format == ParameterFormat::Named;
    let nameless = |parameter: &Parameter<'_>| parameter.kind == "text" && parameter.name.is_none_or(str::is_empty);
    if named && given.iter().any(nameless) {
        return Err(GraphError::of(100).details("Parameter name is missing or empty"));
    }
    if given.len() != expected {
        return Err(count_mismatch(part, given.len(), expected));
    }
    if !named {
        // Meta does not say what it makes of a name here; a sender that gives one is confused.
        return match given.iter().find_map(|parameter| parameter.name) {
            None => Ok(()),
            Some(name) => Err(GraphError::of(100)
                .details(format!("{part}: parameter name \"{name}\" given for a template with positional parameters"))),
        };
    }
    for (index, parameter) in given.iter().enumerate() {
        let name = parameter.name.unwrap_or_default();
        let repeated = given.iter().take(index).any(|before| before.name == parameter.name);
        let unknown = names.is_some_and(|names| !names.contains(&name));
        if repeated || unknown {
            return Err(GraphError::of(100).details(format!(
                "{part}: parameter name \"{name}\" is {}",
                if repeated { "given twice" } else { "not in the template" }
            )));
        }
    }
    Ok(())
}

fn count_mismatch(part: &str, given: usize, expected: usize) -> GraphError {
    GraphError::of(132000).details(format!(
        "{part}: number of localizable_params ({given}) does not match the expected number of params ({expected})"
    ))
}

/// Characters of the text that the recipient sees.
fn hydrated_length(text: &str, given: &[Parameter<'_>], format: ParameterFormat) -> usize {
    let names = variables(text);
    let mut length = 0;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, tail)) = after.split_once("}}") else {
            break;
        };
        let name = name.trim();
        let value = match format {
            ParameterFormat::Named => given.iter().find(|parameter| parameter.name == Some(name)),
            // {{1}} is the first parameter, wherever it stands in the text; variables that are no
            // numbers count in their order.
            ParameterFormat::Positional => match name.parse::<usize>() {
                Ok(position) => position.checked_sub(1).and_then(|index| given.get(index)),
                Err(_) => names.iter().position(|known| *known == name).and_then(|index| given.get(index)),
            },
        };
        length += before.chars().count() + value.map_or(0, |value| value.text.chars().count());
        rest = tail;
    }
    length + rest.chars().count()
}

fn check_buttons(send: &TemplateSend<'_>, registered: &[Button]) -> Result<()> {
    for given in &send.buttons {
        let at = given.index;
        let Some(button) = registered.get(at) else {
            return Err(GraphError::of(132018).details(format!("buttons: the template has no button at index {at}")));
        };
        let (sub_type, name) = wire_name(button.kind);
        if !given.sub_type.eq_ignore_ascii_case(sub_type) {
            return Err(mismatch("buttons", &sub_type.to_uppercase(), given.sub_type));
        }
        if given.has_parameters && !takes_parameter(button) {
            return Err(GraphError::of(132018)
                .details(format!("buttons: Button at index {at} of type {name} does not require parameters")));
        }
    }
    for (index, button) in registered.iter().enumerate() {
        let filled = send.buttons.iter().any(|given| given.index == index && given.has_parameters);
        if needs_parameter(button) && !filled {
            let (_, name) = wire_name(button.kind);
            return Err(GraphError::of(131008)
                .details(format!("buttons: Button at index {index} of type {name} requires a parameter")));
        }
    }
    Ok(())
}

/// A button's `sub_type` in a send, and its name in error texts. A one-time password goes as a URL.
fn wire_name(kind: ButtonType) -> (&'static str, &'static str) {
    match kind {
        ButtonType::QuickReply => ("quick_reply", "QuickReply"),
        ButtonType::Url | ButtonType::Otp => ("url", "Url"),
        ButtonType::CopyCode => ("copy_code", "CopyCode"),
        ButtonType::Flow => ("flow", "Flow"),
        ButtonType::Catalog => ("catalog", "Catalog"),
        ButtonType::Mpm => ("mpm", "Mpm"),
        ButtonType::PhoneNumber => ("phone_number", "PhoneNumber"),
        ButtonType::VoiceCall => ("voice_call", "VoiceCall"),
    }
}

fn needs_parameter(button: &Button) -> bool {
    match button.kind {
        ButtonType::Url => !variables(&button.url).is_empty(),
        ButtonType::CopyCode | ButtonType::Otp | ButtonType::Mpm => true,
        _ => false,
    }
}

fn takes_parameter(button: &Button) -> bool {
    needs_parameter(button) || !matches!(button.kind, ButtonType::Url | ButtonType::PhoneNumber)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::json::Node;
    use super::super::template::parse;
    use super::super::version::Version;
    use super::*;
    use serde_json::{Value, json};

    fn verdict(template: &Template, components: Value) -> std::result::Result<(), (i64, String)> {
        let send = json!({"name": "t", "language": {"code": "en"}, "components": components});
        let version = Version::parse("v25.0").unwrap();
        let send = parse(&Node::root(&send), version).unwrap();
        check(&send, std::slice::from_ref(template), false)
            .map_err(|error| (error.code, error.details.unwrap_or_default()))
    }

    fn code(template: &Template, components: Value) -> Option<i64> {
        verdict(template, components).err().map(|(code, _)| code)
    }

    fn body(texts: &[&str]) -> Value {
        let parameters: Vec<_> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
        json!([{"type": "body", "parameters": parameters}])
    }

    fn template(body: &str) -> Template {
        Template::approved("w", "t", "en", body)
    }

    #[test]
    fn the_number_of_parameters_must_be_the_number_of_variables() {
        let two = template("Hi {{1}}, see you on {{2}}!");
        assert_eq!(code(&two, body(&["Ana", "Monday"])), None);
        assert_eq!(
            verdict(&two, body(&["Ana"])),
            Err((
                132000,
                "body: number of localizable_params (1) does not match the expected number of params (2)".to_owned()
            ))
        );
        assert_eq!(code(&two, json!([])), Some(132000));
        let counted = Template { body: None, body_parameters: 1, ..two };
        assert_eq!(code(&counted, body(&["a"])), None);
        assert_eq!(code(&counted, body(&["a", "b"])), Some(132000));
    }

    #[test]
    fn the_text_with_its_values_has_at_most_1024_characters() {
        let one = template("{{1}}!");
        assert_eq!(code(&one, body(&[&"é".repeat(1023)])), None);
        assert_eq!(code(&one, body(&[&"é".repeat(1024)])), Some(132005));
        let twice = template("{{1}} {{1}}");
        assert_eq!(code(&twice, body(&[&"x".repeat(512)])), Some(132005));
    }

    #[test]
    fn named_parameters_need_the_names_of_the_template() {
        let named =
            Template { parameter_format: ParameterFormat::Named, ..template("Hi {{first_name}}, {{day}} then.") };
        let send = |names: [Option<&str>; 2]| {
            let parameters: Vec<_> =
                names.iter().map(|name| json!({"type": "text", "text": "x", "parameter_name": name})).collect();
            verdict(&named, json!([{"type": "body", "parameters": parameters}]))
        };
        assert_eq!(send([Some("day"), Some("first_name")]), Ok(()));
        let missing = Err((100, "Parameter name is missing or empty".to_owned()));
        assert_eq!(send([Some("day"), None]), missing);
        assert_eq!(send([Some("day"), Some("")]), missing);
        assert_eq!(send([Some("day"), Some("day")]).unwrap_err().0, 100);
        assert_eq!(send([Some("day"), Some("other")]).unwrap_err().0, 100);
        assert_eq!(code(&named, body(&["x", "y"])), Some(100));
    }

    #[test]
    fn a_name_for_a_positional_parameter_is_refused() {
        let send = json!([{"type": "body", "parameters": [{"type": "text", "text": "x", "parameter_name": "a"}]}]);
        assert_eq!(code(&template("Hi {{1}}!"), send), Some(100));
    }

    #[test]
    fn only_an_approved_template_can_be_sent() {
        for (status, expected) in [
            ("APPROVED", None),
            ("PAUSED", Some(132015)),
            ("DISABLED", Some(132016)),
            ("PENDING", Some(132001)),
            ("REJECTED", Some(132001)),
        ] {
            let template = Template { status: status.to_owned(), ..template("Hi!") };
            assert_eq!(code(&template, json!([])), expected, "{status}");
        }
    }

    #[test]
    fn a_media_header_must_be_sent_and_must_be_of_its_kind() {
        let image =
            Template { header: Some(Header { format: HeaderFormat::Image, text: String::new() }), ..template("Hi!") };
        let header =
            |kind: &str, value: Value| json!([{"type": "header", "parameters": [{"type": kind, (kind): value}]}]);
        assert_eq!(code(&image, header("image", json!({"id": "1"}))), None);
        assert_eq!(
            verdict(&image, json!([])),
            Err((132012, "header: Format mismatch, expected IMAGE, received UNKNOWN".to_owned()))
        );
        assert_eq!(code(&image, header("video", json!({"id": "1"}))), Some(132012));
        assert_eq!(code(&template("Hi!"), header("text", json!("x"))), Some(132000));
    }

    #[test]
    fn a_text_header_takes_its_one_variable() {
        let text = Template {
            header: Some(Header { format: HeaderFormat::Text, text: "Order {{1}}".to_owned() }),
            ..template("Hi!")
        };
        let header = |value: &str| json!([{"type": "header", "parameters": [{"type": "text", "text": value}]}]);
        assert_eq!(code(&text, header("7")), None);
        assert_eq!(code(&text, json!([])), Some(132000));
        assert_eq!(code(&text, header(&"7".repeat(55))), Some(132005));
    }

    #[test]
    fn buttons_with_variables_need_values_and_others_take_none() {
        let button = |kind, url: &str| Button { kind, url: url.to_owned() };
        let with = |buttons| Template { buttons, ..template("Hi!") };
        let send = |index: usize, sub_type: &str| json!([{"type": "button", "sub_type": sub_type, "index": index, "parameters": [{"type": "text", "text": "x"}]}]);
        let dynamic = with(vec![button(ButtonType::Url, "https://example.com/{{1}}")]);
        assert_eq!(code(&dynamic, send(0, "url")), None);
        assert_eq!(
            verdict(&dynamic, json!([])),
            Err((131008, "buttons: Button at index 0 of type Url requires a parameter".to_owned()))
        );
        let fixed = with(vec![button(ButtonType::Url, "https://example.com/")]);
        assert_eq!(code(&fixed, json!([])), None);
        assert_eq!(code(&fixed, send(0, "url")), Some(132018));
        assert_eq!(code(&fixed, send(1, "url")), Some(132018));
        let replies = with(vec![button(ButtonType::QuickReply, "")]);
        assert_eq!(code(&replies, send(0, "url")), Some(132012));
        assert_eq!(code(&replies, json!([])), None);
    }

    #[test]
    fn a_template_that_is_not_registered_exists_in_open_mode_only() {
        let send = TemplateSend { name: "t", language: "en", ..TemplateSend::default() };
        assert_eq!(check(&send, &[], false), Ok(()));
        assert_eq!(check(&send, &[], true).unwrap_err().code, 132001);
        let german = Template::approved("w", "t", "de", "Hallo!");
        assert_eq!(check(&send, &[german], false).unwrap_err().code, 132001);
    }
}
