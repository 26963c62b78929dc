//! The control API over HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Client, NUMBER, Response, TOKEN, message, start};
use graph_simulator::{Simulator, Stats, Violations};
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
fn a_webhook_plan_is_set_shown_without_its_secret_and_ended() {
    let simulator = start();
    assert_eq!(get(&simulator, "/_control/webhooks"), Value::Null);
    let plan = json!({
        "app_secret": "hush", "batch": 2, "seed": 7, "statuses": [
            {"status": "sent"}, {"status": "delivered", "jitter_ms": 0}, {"status": "read", "share": 0.0}],
        "failures": [{"code": 131049, "to": "+5511900000001"}]
    });
    let shown = put(&simulator, "/_control/webhooks", plan);
    assert_eq!((&shown["batch"], &shown["failures"][0]["code"]), (&json!(2), &json!(131_049)));
    assert!(!shown.to_string().contains("hush"));
    assert_eq!(get(&simulator, "/_control/webhooks"), shown);

    let mut client = Client::to(&simulator);
    client.send(&message("+5511900000000", "a"));
    client.send(&message("+5511900000001", "b"));
    let one = get(&simulator, "/_control/webhooks/next");
    let body = one[0]["body"].as_str().unwrap();
    assert_eq!(one[0]["signature"], common::signature("hush", body));
    assert_eq!(common::statuses(body), ["sent", "delivered"]);
    let rest = get(&simulator, "/_control/webhooks/next?max=10");
    assert_eq!(rest.as_array().unwrap().len(), 1);
    assert_eq!(common::statuses(rest[0]["body"].as_str().unwrap()), ["failed"]);
    assert_eq!(get(&simulator, "/_control/stats")["webhooks"]["taken"], 2);

    let ended = Client::to(&simulator).call("PUT", "/_control/webhooks", &[], b"null");
    assert_eq!((ended.status, ended.json()), (200, Value::Null));
    assert_eq!(get(&simulator, "/_control/webhooks"), Value::Null);
}

#[test]
fn users_write_and_violations_are_reported() {
    let simulator = start();
    let limits = json!({"messages_per_second": 0, "count_only": true});
    put(&simulator, "/_control/accounts", json!([{"phone_number_id": NUMBER, "limits": limits}]));
    let inbound = json!({"phone_number_id": NUMBER, "from": "5511900000000", "text": "Oi"});
    let response = call(&simulator, "POST", "/_control/inbound", &inbound);
    assert!(response.json()["id"].as_str().unwrap().starts_with("wamid."));
    Client::to(&simulator).send(&message("+5511900000000", "q"));
    let report: Violations = serde_json::from_value(get(&simulator, "/_control/violations")).unwrap();
    assert_eq!(report, simulator.violations());
    assert_eq!((report.total, report.numbers[NUMBER].inbound_over_rate), (1, 1));
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
        ("PUT", "/_control/webhooks", json!({"batch": 5}), 400, "app_secret"),
        ("PUT", "/_control/webhooks", json!({"app_secret": "s", "secret": 1}), 400, "secret"),
        ("GET", "/_control/webhooks/next?max=all", Value::Null, 400, "max"),
        ("POST", "/_control/inbound", json!({"phone_number_id": "1", "from": "55119"}), 400, "from"),
        ("POST", "/_control/inbound", json!({"phone_number_id": "1", "from": "5511900000000"}), 400, "text"),
        ("GET", "/_control/inbound", Value::Null, 405, "inbound"),
        ("POST", "/_control/stats", Value::Null, 405, "stats"),
        ("GET", "/_control/nothing", Value::Null, 404, "nothing"),
    ] {
        let response = call(&simulator, method, path, &body);
        let message = response.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(response.status, status, "{path}: {message}");
        assert!(message.contains(word), "{path}: {message}");
    }
}
