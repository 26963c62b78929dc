//! Reading answers: what counts as accepted, rejected and unknown, and how much disorder is tolerated.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use cloud_api::errors::Reaction;
use cloud_api::outcome::{GraphError, Outcome, TransportError, parse_response};
use proptest::prelude::*;
use serde_json::{Value, json};

fn parse(status: u16, content: Value) -> Outcome {
    parse_response(status, content.to_string().as_bytes())
}

fn rejected(outcome: Outcome) -> GraphError {
    match outcome {
        Outcome::Rejected(error) => error,
        other => panic!("not rejected but {other:?}"),
    }
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Unknown(TransportError::Answer { .. }))
}

#[test]
fn a_message_id_means_accepted() {
    let answer = json!({
        "messaging_product": "whatsapp",
        "contacts": [{"input": "+5511987654321", "wa_id": "551187654321"}],
        "messages": [{"id": "wamid.HBgM", "message_status": "accepted"}]
    });
    assert_eq!(
        parse(200, answer),
        Outcome::Accepted {
            message_id: "wamid.HBgM".to_owned(),
            wa_id: Some("551187654321".to_owned()),
            message_status: Some("accepted".to_owned()),
        }
    );
}

#[test]
fn an_accepted_message_needs_nothing_but_its_id() {
    let expected = Outcome::Accepted { message_id: "wamid.x".to_owned(), wa_id: None, message_status: None };
    for answer in [
        json!({"messages": [{"id": "wamid.x"}]}),
        json!({"messages": [{"id": "wamid.x"}], "contacts": []}),
        json!({"messages": [{"id": "wamid.x", "message_status": 7}], "contacts": [{"user_id": "BR.1"}]}),
    ] {
        assert_eq!(parse(200, answer.clone()), expected, "{answer}");
    }
}

#[test]
fn success_without_a_message_id_is_unknown() {
    for content in [
        "",
        "{}",
        "OK",
        "[]",
        "null",
        r#"{"messages":[]}"#,
        r#"{"messages":[{"id":""}]}"#,
        r#"{"messages":[{"id":5}]}"#,
        r#"{"success":true}"#,
        r#"{"messages":[{"id":"wamid"#,
    ] {
        let outcome = parse_response(200, content.as_bytes());
        assert!(is_unknown(&outcome), "{content}: {outcome:?}");
    }
}

#[test]
fn an_error_is_read_in_full() {
    let error = rejected(parse(
        400,
        json!({"error": {
            "message": "(#131026) Message undeliverable", "type": "OAuthException", "code": 131026, "error_subcode": 2494102,
            "is_transient": false, "error_data": {"messaging_product": "whatsapp", "details": "Recipient not reachable"},
            "fbtrace_id": "Az8"
        }}),
    ));
    assert_eq!((error.code, error.subcode, error.http_status), (Some(131_026), Some(2_494_102), 400));
    assert_eq!(error.details.as_deref(), Some("Recipient not reachable"));
    assert_eq!(error.fbtrace_id.as_deref(), Some("Az8"));
    assert_eq!(error.rule.reaction, Reaction::SuppressRecipient { failures: 3 });
    assert_eq!(error.to_string(), "131026 Undeliverable: (#131026) Message undeliverable (Recipient not reachable)");
}

#[test]
fn codes_as_text_and_error_data_as_text_are_understood() {
    let error = rejected(parse(
        400,
        json!({"error": {"code": "130429", "error_subcode": "7", "is_transient": "true", "error_data": "slow down"}}),
    ));
    assert_eq!((error.code, error.subcode, error.is_transient), (Some(130_429), Some(7), true));
    assert_eq!(error.details.as_deref(), Some("slow down"));
    assert_eq!(error.message, "HTTP 400");
    assert_eq!(error.rule.reaction, Reaction::SlowNumber);
}

#[test]
fn an_error_object_without_a_usable_code_is_judged_by_its_status() {
    for code in [json!(null), json!("many"), json!(-1), json!(1.5), json!(99_999_999_999_u64), json!({})] {
        let error = rejected(parse(401, json!({"error": {"message": "no", "code": code}})));
        assert_eq!((error.code, error.rule.reaction), (None, Reaction::HoldAccountToken));
    }
    let error = rejected(parse(403, json!({"error": "forbidden by proxy"})));
    assert_eq!((error.message.as_str(), error.code), ("forbidden by proxy", None));
}

#[test]
fn an_error_under_http_200_is_still_a_refusal() {
    let error = rejected(parse(200, json!({"error": {"message": "Provide valid app ID", "code": 200}})));
    assert_eq!(error.rule.reaction, Reaction::HoldAccountToken);
    assert_eq!(rejected(parse(200, json!({"error": {"message": "no code"}}))).code, None);
}

#[test]
fn a_server_error_with_a_code_of_metas_is_a_refusal_and_one_without_is_unknown() {
    let error = rejected(parse(500, json!({"error": {"code": 131_000, "message": "Something went wrong"}})));
    assert!(error.rule.retryable);
    assert!(is_unknown(&parse(504, json!({"error": "upstream timeout"}))));
    assert!(is_unknown(&parse(503, json!({"error": {"message": "upstream timeout"}}))));
    for status in [500, 502, 503, 504, 599] {
        let outcome = parse_response(status, b"<html><body><h1>502 Bad Gateway</h1></body></html>");
        assert!(is_unknown(&outcome), "{outcome:?}");
        assert!(is_unknown(&parse_response(status, b"")));
    }
}

#[test]
fn a_refusal_without_json_is_judged_by_its_status_and_shows_what_came() {
    let error = rejected(parse_response(403, b"<html>\r\n<h1>Blocked\x00 by\tproxy</h1></html>"));
    assert_eq!(error.message, "<html> <h1>Blocked by proxy</h1></html>");
    assert_eq!(error.rule.reaction, Reaction::HoldAccountToken);
    assert_eq!(rejected(parse_response(429, b"")).rule.reaction, Reaction::SlowNumber);
    assert_eq!(rejected(parse_response(404, b"")).message, "an empty answer");
    assert!(rejected(parse_response(400, &[b'x'; 100_000])).message.len() <= 200);
}

#[test]
fn a_redirect_is_a_misconfiguration_and_no_fault_of_the_message() {
    let error = rejected(parse_response(302, b""));
    assert_eq!(error.rule.name, "HTTP redirect");
    assert!(error.rule.retryable);
}

#[test]
fn informational_and_absurd_statuses_are_unknown() {
    for status in [0, 100, 101, 199, 600, 999] {
        assert!(is_unknown(&parse_response(status, b"{}")));
    }
}

#[test]
fn nul_characters_never_reach_the_caller() {
    let error =
        rejected(parse(400, json!({"error": {"code": 100, "message": "a\0b", "error_data": {"details": "\0"}}})));
    assert_eq!((error.message.as_str(), error.details.as_deref()), ("a\u{fffd}b", Some("\u{fffd}")));
    let Outcome::Accepted { message_id, .. } = parse(200, json!({"messages": [{"id": "w\0"}]})) else {
        panic!("not accepted");
    };
    assert_eq!(message_id, "w\u{fffd}");
}

#[test]
fn a_deeply_nested_answer_is_not_parsed_for_ever() {
    let nested = "[".repeat(60_000);
    assert!(is_unknown(&parse_response(200, nested.as_bytes())));
    let nested = format!("{}1{}", r#"{"error":"#.repeat(5_000), "}".repeat(5_000));
    assert_eq!(rejected(parse_response(400, nested.as_bytes())).code, None);
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                "error|code|message|messages|id|contacts|error_data|details|is_transient|wa_id",
                inner,
                0..5
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(status in any::<u16>(), content in any::<Vec<u8>>()) {
        let _ = parse_response(status, &content);
    }

    #[test]
    fn only_a_success_status_can_be_accepted_and_a_server_error_needs_a_code_to_be_rejected(status in 100..700_u16, answer in anything()) {
        match parse(status, answer) {
            Outcome::Accepted { message_id, .. } => prop_assert!((200..300).contains(&status) && !message_id.trim().is_empty()),
            Outcome::Rejected(error) => prop_assert!(status < 500 || error.code.is_some()),
            Outcome::Unknown(_) => prop_assert!(!(300..500).contains(&status)),
            Outcome::NotSent(_) => prop_assert!(false, "an answer came, so it was sent"),
        }
    }
}
