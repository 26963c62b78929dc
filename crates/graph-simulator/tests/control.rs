//! The control API over HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Client, NUMBER, Response, TOKEN, message, start};
use graph_simulator::{Simulator, Stats};
use serde_json::{Value, json};

fn call(simulator: &Simulator, method: &str, path: &str, body: &Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Client::to(simulator).call(method, path, &[], body.as_bytes())
}

fn get(simulator: &Simulator, path: &str) -> Value {
    let response = call(simulator, "GET", path, &Value::Null);
    assert_eq!(response.status, 200, "{}", response.json());
    response.json()
}

fn put(simulator: &Simulator, path: &str, body: Value) -> Value {
    let response = call(simulator, "PUT", path, &body);
    assert_eq!(response.status, 200, "{}", response.json());
    response.json()
}

#[test]
fn the_root_explains_itself() {
    let response = call(&start(), "GET", "/", &Value::Null);
    assert_eq!(response.status, 200);
    let text = String::from_utf8(response.body).unwrap();
    assert!(text.contains("/_control/stats"), "{text}");
}

#[test]
fn stats_are_the_same_over_http_and_in_the_library() {
    let simulator = start();
    Client::to(&simulator).send(&message("+5511900000000", "q"));
    let stats: Stats = serde_json::from_value(get(&simulator, "/_control/stats")).unwrap();
    assert_eq!(stats.accepted, 1);
    assert_eq!(stats.numbers, simulator.stats().numbers);
}

#[test]
fn accepted_and_duplicates_are_told_by_id() {
    let simulator = start();
    let mut client = Client::to(&simulator);
    for _ in 0..2 {
        client.send(&message("+5511900000000", "q:1&x"));
    }
    client.send(&message("+5511900000000", "q:2"));
    let counted = get(&simulator, "/_control/accepted?id=q%3A1%26x");
    assert_eq!(counted, json!({"id": "q:1&x", "accepted": 2}));
    assert_eq!(get(&simulator, "/_control/accepted?id=q:3")["accepted"], 0);
    assert_eq!(get(&simulator, "/_control/duplicates"), json!({"q:1&x": 2}));
}

#[test]
fn messages_and_arrivals_are_shown_without_the_token() {
    let simulator = start();
    let mut client = Client::to(&simulator);
    client.send(&message("+5511900000000", "a"));
    client.send(&message("+5511900000000", "b"));
    let last = get(&simulator, "/_control/messages?limit=1");
    assert_eq!(last[0]["body"]["biz_opaque_callback_data"], "b");
    assert_eq!((&last[0]["accepted"], &last[0]["http"]), (&json!(true), &json!(200)));
    let all = get(&simulator, "/_control/messages");
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert!(!all.to_string().contains(TOKEN));
    let arrivals = get(&simulator, &format!("/_control/arrivals?phone_number_id={NUMBER}"));
    assert_eq!(arrivals["at_us"].as_array().unwrap().len(), 2);
}

#[test]
fn accounts_are_registered_and_their_tokens_not_shown() {
    let simulator = start();
    let shown = put(
        &simulator,
        "/_control/accounts",
        json!([{"phone_number_id": NUMBER, "waba_id": "w", "token": "secret", "limits": {"messages_per_second": 80}}]),
    );
    assert_eq!(shown[0]["limits"]["messages_per_second"], 80);
    assert!(!shown.to_string().contains("secret"));
    assert_eq!(get(&simulator, "/_control/accounts"), shown);
    let response = Client::to(&simulator).send(&message("+5511900000000", "q"));
    assert_eq!(response.code(), Some(190));
    put(&simulator, "/_control/accounts", json!([]));
    let response = Client::to(&simulator).send(&message("+5511900000000", "q"));
    assert_eq!(response.status, 200);
}

#[test]
fn templates_are_registered() {
    let simulator = start();
    put(&simulator, "/_control/accounts", json!([{"phone_number_id": NUMBER, "waba_id": "w"}]));
    let shown = put(
        &simulator,
        "/_control/templates",
        json!([{
            "waba_id": "w", "name": "order_update", "language": "pt_BR", "body": "Oi {{1}} e {{2}}!",
            "header": {"format": "TEXT", "text": "Olá"},
            "buttons": [{"type": "URL", "url": "https://example.com/{{1}}"}]
        }]),
    );
    assert_eq!(shown[0]["status"], "APPROVED");
    assert_eq!(get(&simulator, "/_control/templates"), shown);
    let response = Client::to(&simulator).send(&message("+5511900000000", "q"));
    assert_eq!(response.code(), Some(132000));
}

#[test]
fn faults_and_latency_are_set_and_shown() {
    let simulator = start();
    let script = json!([
        {"match": {"to": "+5511900000000", "first": 1}, "action": {"error": {"code": 131026}}},
        {"match": {"to_prefix": "+4", "every": 2}, "action": {"hang": {"ms": 5}}, "accept": true},
        {"match": {"probability": 0.5, "seed": 1}, "action": "reset_after_accept"},
        {"action": "html_502"}
    ]);
    let shown = put(&simulator, "/_control/faults", script);
    assert_eq!(shown[3]["action"], "html_502");
    assert_eq!(get(&simulator, "/_control/faults"), shown);
    let response = Client::to(&simulator).send(&message("+5511900000000", "q"));
    assert_eq!(response.code(), Some(131026));

    let latency = json!({"ms": 7, "jitter_ms": 3});
    assert_eq!(put(&simulator, "/_control/latency", latency.clone()), latency);
    assert_eq!(get(&simulator, "/_control/latency"), latency);
}

#[test]
fn every_action_can_be_written_in_a_script() {
    let simulator = start();
    for action in [
        json!({"status": {"http": 500}}),
        json!({"error": {"code": 1}}),
        json!("reset_before_accept"),
        json!("reset_after_accept"),
        json!({"hang": {"ms": 1}}),
        json!("garbage"),
        json!("html_502"),
        json!("empty_body"),
        json!("not_json"),
        json!("redirect"),
        json!({"oversized": {"bytes": 1000}}),
        json!({"slow_body": {"ms_per_byte": 1}}),
        json!({"slow_body": {"total_ms": 1}}),
        json!("truncated_body"),
        json!({"delay": {"ms": 1}}),
        json!("close_after"),
    ] {
        put(&simulator, "/_control/faults", json!([{"action": action}]));
    }
}

#[test]
fn a_reset_forgets_and_keeps_what_was_set_up() {
    let simulator = start();
    put(&simulator, "/_control/latency", json!({"ms": 1}));
    Client::to(&simulator).send(&message("+5511900000000", "q"));
    let response = call(&simulator, "POST", "/_control/reset", &Value::Null);
    assert_eq!((response.status, &response.json()["accepted"]), (200, &json!(0)));
    assert_eq!(get(&simulator, "/_control/latency")["ms"], 1);
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let simulator = start();
    for (method, path, body, status, word) in [
        ("PUT", "/_control/faults", json!([{"action": "explode"}]), 400, "explode"),
        ("PUT", "/_control/faults", json!([{"action": "garbage", "match": {"every": 0}}]), 400, "every"),
        ("PUT", "/_control/accounts", json!([{"number": 1}]), 400, "number"),
        ("PUT", "/_control/latency", json!({"ms": -1}), 400, "-1"),
        ("GET", "/_control/accepted", Value::Null, 400, "id"),
        ("GET", "/_control/messages?limit=all", Value::Null, 400, "limit"),
        ("POST", "/_control/stats", Value::Null, 405, "stats"),
        ("GET", "/_control/nothing", Value::Null, 404, "nothing"),
    ] {
        let response = call(&simulator, method, path, &body);
        let message = response.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(response.status, status, "{path}: {message}");
        assert!(message.contains(word), "{path}: {message}");
    }
}
