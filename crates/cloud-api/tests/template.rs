//! Filling templates: order, completeness, every refusal and its words.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use cloud_api::template::{ParameterFormat, Template, TemplateError};
use cloud_api::violation::{Problem, Violation};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn positional(body: &str, variables: &[&str]) -> Result<Template, TemplateError> {
    Template::new("t", "en", body, strings(variables), ParameterFormat::Positional)
}

fn named(body: &str, variables: &[&str]) -> Result<Template, TemplateError> {
    Template::new("t", "en", body, strings(variables), ParameterFormat::Named)
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn reminder() -> Template {
    positional(
        "Hi {{1}}! Your event '{{2}}' starts tomorrow at {{3}}. See you there!",
        &["attendee_name", "event_name", "event_time"],
    )
    .unwrap()
}

fn texts(template: &Template, values: Value) -> Vec<String> {
    template.fill(&map(values)).unwrap().into_iter().map(|parameter| parameter.text).collect()
}

fn only_violation(template: &Template, values: Value) -> Violation {
    let mut violations = template.fill(&map(values)).unwrap_err();
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations.remove(0)
}

fn problem(template: &Template, value: Value) -> Problem {
    only_violation(template, json!({ "v": value })).problem
}

fn one() -> Template {
    positional("Hello {{1}}, bye.", &["v"]).unwrap()
}

// Order ------------------------------------------------------------------------------------------------------------

#[test]
fn values_are_filled_in_the_order_of_the_templates_list_whatever_the_maps_order() {
    // jsonb orders keys by length, then alphabetically: event_name, event_time, attendee_name.
    let values = json!({"event_name": "Expo", "event_time": "10:00", "attendee_name": "Ana"});
    assert_eq!(texts(&reminder(), values.clone()), ["Ana", "Expo", "10:00"]);
    assert_eq!(
        reminder().preview(&map(values)).unwrap(),
        "Hi Ana! Your event 'Expo' starts tomorrow at 10:00. See you there!"
    );
}

#[test]
fn placeholders_may_stand_in_any_order_and_repeat() {
    let template = positional("{{2}} {{1}} {{2}}.", &["a", "b"]).unwrap();
    assert_eq!(template.placeholder_count(), 2);
    assert_eq!(template.preview(&map(json!({"a": "A", "b": "B"}))).unwrap(), "B A B.");
}

#[test]
fn more_than_nine_placeholders_keep_their_order() {
    let body: String = (1..=12).map(|n| format!("{{{{{n}}}}} ")).collect();
    let template = positional(&body, &[]).unwrap();
    let values = (1..=12).map(|n| (n.to_string(), json!(n * 10))).collect();
    let filled: Vec<String> = template.fill(&values).unwrap().into_iter().map(|parameter| parameter.text).collect();
    assert_eq!(filled, (1..=12).map(|n| (n * 10).to_string()).collect::<Vec<_>>());
}

#[test]
fn named_parameters_follow_the_list_and_carry_their_names() {
    let template = named("Hi {{first_name}}, order {{order}} is here.", &["order", "first_name"]).unwrap();
    let values = map(json!({"first_name": "Ana", "order": 7}));
    let filled = template.fill(&values).unwrap();
    let pairs: Vec<_> = filled.iter().map(|parameter| (parameter.name.as_deref(), parameter.text.as_str())).collect();
    assert_eq!(pairs, [(Some("order"), "7"), (Some("first_name"), "Ana")]);
    assert_eq!(template.preview(&values).unwrap(), "Hi Ana, order 7 is here.");
}

#[test]
fn without_a_list_variables_are_called_what_the_body_calls_them() {
    assert_eq!(positional("{{2}} and {{1}}.", &[]).unwrap().variables(), ["1", "2"]);
    assert_eq!(named("{{who}} and {{what}} and {{who}}.", &[]).unwrap().variables(), ["who", "what"]);
    assert_eq!(positional("Nothing.", &[]).unwrap().placeholder_count(), 0);
}

// Single pass ------------------------------------------------------------------------------------------------------

#[test]
fn braces_in_a_value_are_not_expanded_again() {
    let values = json!({"attendee_name": "{{3}}", "event_name": "{{event_time}}", "event_time": "10:00"});
    assert_eq!(
        reminder().preview(&map(values)).unwrap(),
        "Hi {{3}}! Your event '{{event_time}}' starts tomorrow at 10:00. See you there!"
    );
}

#[test]
fn braces_around_anything_but_a_name_are_plain_text() {
    let template = positional("{{ a b }} {{}} {{1} {1}} }} {{{{1}}}} {{ 2 }} {{", &[]).unwrap();
    let values = map(json!({"1": "one", "2": "two"}));
    assert_eq!(template.preview(&values).unwrap(), "{{ a b }} {{}} {{1} {1}} }} {{one}} two {{");
}

// The template itself ----------------------------------------------------------------------------------------------

#[test]
fn a_list_of_another_length_than_the_body_says_both_counts() {
    let error = positional("Hi {{1}}, {{2}}.", &["name", "event", "time"]).unwrap_err();
    assert_eq!(error, TemplateError::CountMismatch { placeholders: 2, variables: 3 });
    assert_eq!(error.to_string(), "the body has 2 placeholders but the list of variables has 3 names");
    assert!(matches!(
        positional("Hi.", &["name"]),
        Err(TemplateError::CountMismatch { placeholders: 0, variables: 1 })
    ));
}

#[test]
fn a_gap_in_the_numbers_is_named() {
    let gap = |missing, found: &str| Err(TemplateError::Gap { missing, found: found.to_owned() });
    assert_eq!(positional("{{1}} {{3}}", &[]), gap(2, "3"));
    assert_eq!(positional("{{0}} {{1}}", &[]), gap(1, "1"));
    assert_eq!(positional("{{01}}", &[]), gap(1, "01"));
    assert_eq!(positional("{{99999999999999999999}}", &[]), gap(1, "99999999999999999999"));
    assert_eq!(
        positional("{{1}} {{3}}", &[]).unwrap_err().to_string(),
        "the body has {{3}} but no {{2}}; placeholders are numbered from 1 without a gap"
    );
}

#[test]
fn names_in_a_positional_body_and_numbers_in_a_named_one_are_refused() {
    assert_eq!(positional("Hi {{name}}.", &["name"]), Err(TemplateError::Named("name".to_owned())));
    assert_eq!(named("Hi {{1}}.", &["name"]), Err(TemplateError::Numbered("1".to_owned())));
    assert_eq!(named("Hi {{name}}.", &["who"]), Err(TemplateError::NotInBody("who".to_owned())));
    assert_eq!(positional("{{1}} {{2}}", &["a", "a"]), Err(TemplateError::Duplicate("a".to_owned())));
}

#[test]
fn the_parameter_format_is_read_as_meta_writes_it() {
    assert_eq!(ParameterFormat::parse("NAMED"), Some(ParameterFormat::Named));
    assert_eq!(ParameterFormat::parse("positional"), Some(ParameterFormat::Positional));
    assert_eq!(ParameterFormat::parse("other"), None);
}

// Refusals ---------------------------------------------------------------------------------------------------------

#[test]
fn every_wrong_variable_is_reported_at_once_with_its_place() {
    let violations = reminder().fill(&map(json!({"event_name": "", "event_time": null, "color": "red"}))).unwrap_err();
    let words: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "variable \"attendee_name\" ({{1}}) is missing: give it a value",
            "variable \"event_name\" ({{2}}) is empty, which WhatsApp refuses: give it a value",
            "variable \"event_time\" ({{3}}) is null: give it a value",
            "variable \"color\" is not in the template, which takes attendee_name, event_name, event_time: rename it or leave it out",
        ]
    );
}

#[test]
fn a_variable_for_a_template_without_any_is_told_to_leave() {
    let template = positional("Hello.", &[]).unwrap();
    assert_eq!(
        only_violation(&template, json!({"name": "Ana"})).to_string(),
        "variable \"name\" is not in the template, which takes none: leave it out"
    );
}

#[test]
fn lists_and_objects_are_not_values() {
    assert_eq!(problem(&one(), json!(["a"])), Problem::NotScalar("a list"));
    assert_eq!(problem(&one(), json!({"a": 1})), Problem::NotScalar("an object"));
}

#[test]
fn numbers_and_booleans_are_written_out() {
    for (value, text) in [(json!(7), "7"), (json!(-2.5), "-2.5"), (json!(true), "true"), (json!(false), "false")] {
        assert_eq!(texts(&one(), json!({ "v": value })), [text]);
    }
}

#[test]
fn a_number_keeps_every_digit_it_was_written_with() {
    for number in ["10.50", "12345678901234567890123", "0.10", "100000000000000000000.01"] {
        let values: Map<String, Value> = serde_json::from_str(&format!("{{\"v\": {number}}}")).unwrap();
        assert_eq!(one().fill(&values).unwrap()[0].text, number);
    }
}

#[test]
fn line_breaks_tabs_and_control_characters_are_found_and_named() {
    let cases = [
        ("a\nb", "a line break at character 2"),
        ("ab\r\n", "a line break at character 3"),
        ("\tab", "a tab at character 1"),
        ("ää\u{7}", "a control character at character 3"),
    ];
    for (value, words) in cases {
        let violation = only_violation(&one(), json!({ "v": value }));
        assert!(violation.to_string().contains(words), "{violation}");
    }
}

#[test]
fn four_spaces_pass_and_five_do_not() {
    assert_eq!(texts(&one(), json!({"v": "a    b"})), ["a    b"]);
    assert_eq!(problem(&one(), json!("ab     c")), Problem::Spaces { at: 3 });
    assert_eq!(problem(&one(), json!("      ")), Problem::Empty);
}

#[test]
fn a_body_of_1024_characters_passes_and_one_more_names_the_longest_value() {
    let template = positional("{{1}}-{{2}}", &["short", "long"]).unwrap();
    // Characters, not bytes: each of these has two.
    let fits = json!({"short": "é", "long": "é".repeat(1022)});
    assert!(template.check(&map(fits)).is_ok());
    let violation = only_violation(&template, json!({"short": "é", "long": "é".repeat(1023)}));
    assert_eq!((violation.variable.as_str(), violation.position), ("long", Some(2)));
    assert_eq!(violation.problem, Problem::BodyTooLong { characters: 1025 });
    assert!(violation.to_string().contains("1025") && violation.to_string().contains("1024"));
}

#[test]
fn a_body_that_is_too_long_by_itself_blames_the_template() {
    let template = positional(&"x".repeat(1025), &[]).unwrap();
    assert_eq!(
        only_violation(&template, json!({})).to_string(),
        "the body has 1025 characters, at most 1024 are allowed: shorten the template"
    );
}

#[test]
fn a_fan_out_keeps_only_what_the_template_takes() {
    let picked = reminder().pick(&map(json!({"event_name": "Expo", "color": "red", "attendee_name": "Ana"})));
    assert_eq!(Value::Object(picked), json!({"event_name": "Expo", "attendee_name": "Ana"}));
}

// Properties -------------------------------------------------------------------------------------------------------

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        ".{0,30}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
    ]
}

proptest! {
    #[test]
    fn no_body_panics(body in ".*", braces in "[{}a1 ]{0,40}") {
        for format in [ParameterFormat::Positional, ParameterFormat::Named] {
            let _ = Template::new("t", "en", &body, Vec::new(), format);
            let _ = Template::new("t", "en", &braces, Vec::new(), format);
        }
    }

    #[test]
    fn check_fill_and_preview_agree(values in prop::collection::btree_map("[abcd]", scalar(), 0..5)) {
        let template = positional("x {{1}} y {{2}} z {{3}} w", &["a", "b", "c"]).unwrap();
        let values: Map<String, Value> = values.into_iter().collect();
        let filled = template.fill(&values);
        prop_assert_eq!(template.check(&values).is_ok(), filled.is_ok());
        prop_assert_eq!(template.preview(&values).is_ok(), filled.is_ok());
        if let Ok(filled) = filled {
            let [a, b, c] = [0, 1, 2].map(|index| filled[index].text.clone());
            prop_assert_eq!(template.preview(&values).unwrap(), format!("x {a} y {b} z {c} w"));
        }
    }

    #[test]
    fn each_recipient_gets_their_own_values(names in prop::collection::vec("[^\\p{C}\\p{Z}]{1,12}", 1..50)) {
        let template = positional("Dear {{1}}, hello.", &["name"]).unwrap();
        for name in &names {
            let values = map(json!({ "name": name }));
            prop_assert_eq!(template.preview(&values).unwrap(), format!("Dear {name}, hello."));
        }
    }

    #[test]
    fn what_pick_keeps_has_nothing_extra(values in prop::collection::btree_map("[abcd]", scalar(), 0..5)) {
        let template = positional("x {{1}} y {{2}} z", &["a", "b"]).unwrap();
        let picked = template.pick(&values.into_iter().collect());
        if let Err(violations) = template.check(&picked) {
            let extra = |violation: &Violation| matches!(violation.problem, Problem::Extra { .. });
            prop_assert!(!violations.iter().any(extra));
        }
    }
}
