//! The messages endpoint as a client meets it: answers, errors, headers, registered accounts and templates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Client, NUMBER, Response, TOKEN, message, start};
use graph_simulator::{Account, Options, Simulator, Template};
use serde_json::{Value, json};

const PATH: &str = "/v25.0/106540352242922/messages";
const JSON: (&str, &str) = ("content-type", "application/json");
const BEARER: (&str, &str) = ("authorization", "Bearer EAAG-test-token");

fn account() -> Account {
    Account {
        phone_number_id: NUMBER.to_owned(),
        waba_id: "w1".to_owned(),
        token: Some(TOKEN.to_owned()),
        ..Account::default()
    }
}

fn strict() -> Simulator {
    let options = Options { strict: true, ..Options::default() };
    let simulator = Simulator::start(options).unwrap();
    simulator.put_account(account());
    simulator.put_template(Template::approved("w1", "order_update", "pt_BR", "Oi {{1}}!"));
    simulator
}

fn post(simulator: &Simulator, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    Client::to(simulator).call("POST", path, headers, body.as_bytes())
}

#[test]
fn an_accepted_template_is_answered_in_metas_shape() {
    let simulator = start();
    let response = Client::to(&simulator).send(&message("+5511900000000", "q:1"));
    assert_eq!(response.status, 200);
    let body = response.json();
    assert_eq!(body["messaging_product"], "whatsapp");
    let contact = json!([{"input": "+5511900000000", "wa_id": "5511900000000"}]);
    assert_eq!(body["contacts"], contact);
    assert_eq!(body["messages"][0]["message_status"], "accepted");
    let wamid = body["messages"][0]["id"].as_str().unwrap();
    assert!(wamid.starts_with("wamid."), "{wamid}");
    assert_eq!(simulator.accepted("q:1"), 1);
    assert_eq!(simulator.messages(1)[0].outcome.wamid.as_deref(), Some(wamid));
}

#[test]
fn a_free_form_message_and_a_user_id_are_answered_in_their_own_shape() {
    let simulator = start();
    let text = json!({
        "messaging_product": "whatsapp", "recipient": "BR.13491208655302741918",
        "type": "text", "text": {"body": "Oi"}
    });
    let body = Client::to(&simulator).send(&text).json();
    let contact = json!([{"input": "BR.13491208655302741918", "user_id": "BR.13491208655302741918"}]);
    assert_eq!(body["contacts"], contact);
    assert_eq!(body["messages"][0].get("message_status"), None);
    let wamid = body["messages"][0]["id"].as_str().unwrap();
    assert_eq!(simulator.accepted(wamid), 1, "without callback data the wamid counts");
}

#[test]
fn a_read_receipt_succeeds_and_sends_nothing() {
    let simulator = start();
    let receipt = json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.x"});
    let response = Client::to(&simulator).send(&receipt);
    assert_eq!((response.status, response.json()), (200, json!({"success": true})));
    assert_eq!(simulator.stats().accepted, 0);
}

#[test]
fn every_answer_names_the_version_that_served_it_and_a_trace() {
    let simulator = start();
    for (asked, served) in [("v25.0", "v25.0"), ("v18.0", "v21.0"), ("v26.0", "v26.0")] {
        let path = format!("/{asked}/{NUMBER}/messages");
        for body in [message("+5511900000000", "q").to_string(), "{}".to_owned()] {
            let response = post(&simulator, &path, &[BEARER, JSON], &body);
            assert_eq!(response.headers["facebook-api-version"], served);
            assert!(!response.headers["x-fb-trace-id"].is_empty());
            assert_eq!(response.headers["content-type"], "application/json");
        }
    }
    let unversioned = format!("/{NUMBER}/messages");
    let response = post(&simulator, &unversioned, &[BEARER, JSON], "{}");
    assert_eq!(response.headers["facebook-api-version"], "v25.0");
}

#[test]
fn an_error_has_metas_shape_and_a_challenge() {
    let simulator = start();
    let response = post(&simulator, PATH, &[BEARER, JSON], "{}");
    assert_eq!(response.status, 400);
    let error = &response.json()["error"];
    assert_eq!(error["message"], "(#100) The parameter messaging_product is required.");
    assert_eq!(error["type"], "OAuthException");
    assert_eq!(error["code"], 100);
    assert!(error["fbtrace_id"].as_str().is_some_and(|id| id.starts_with('A')));
    assert!(response.headers["www-authenticate"].contains("invalid_request"));
}

#[test]
fn the_token_must_be_a_bearer_token() {
    let simulator = start();
    let body = message("+5511900000000", "q").to_string();
    for headers in [
        &[JSON][..],
        &[JSON, ("authorization", "Bearer ")],
        &[JSON, ("authorization", "Basic dXNlcjpwYXNz")],
        &[JSON, ("authorization", "EAAG-test-token")],
    ] {
        let response = post(&simulator, PATH, headers, &body);
        assert_eq!((response.status, response.code()), (401, Some(2500)), "{headers:?}");
    }
    assert_eq!(simulator.stats().refused[&2500], 4);
}

#[test]
fn a_registered_account_takes_its_own_token_only() {
    let simulator = start();
    simulator.put_account(account());
    let body = message("+5511900000000", "q").to_string();
    let wrong = ("authorization", "Bearer other");
    let response = post(&simulator, PATH, &[JSON, wrong], &body);
    assert_eq!((response.status, response.code()), (401, Some(190)));
    assert!(response.headers["www-authenticate"].contains("invalid_token"));
    assert_eq!(post(&simulator, PATH, &[JSON, BEARER], &body).status, 200);
}

#[test]
fn a_number_that_is_not_registered_exists_in_open_mode_only() {
    let body = message("+5511900000000", "q").to_string();
    let other = "/v25.0/999/messages";
    assert_eq!(post(&start(), other, &[JSON, BEARER], &body).status, 200);
    let response = post(&strict(), other, &[JSON, BEARER], &body);
    assert_eq!((response.status, response.code()), (400, Some(100)));
    let error = &response.json()["error"];
    assert_eq!(error["error_subcode"], 33);
    assert!(error["message"].as_str().unwrap().contains("Object with ID '999' does not exist"));
}

#[test]
fn a_template_that_is_not_registered_exists_in_open_mode_only() {
    let mut body = message("+5511900000000", "q");
    body["template"]["name"] = json!("other");
    let response = Client::to(&strict()).send(&body);
    assert_eq!((response.status, response.code()), (404, Some(132001)));
    assert_eq!(response.details(), "template name (other) does not exist in pt_BR");

    let open = start();
    open.put_account(account());
    assert_eq!(Client::to(&open).send(&body).status, 200);
}

#[test]
fn a_registered_template_is_enforced_in_both_modes() {
    let open = start();
    open.put_account(account());
    open.put_template(Template::approved("w1", "order_update", "pt_BR", "Oi {{1}}!"));
    for simulator in [open, strict()] {
        let mut client = Client::to(&simulator);
        assert_eq!(client.send(&message("+5511900000000", "good")).status, 200);

        let mut language = message("+5511900000000", "language");
        language["template"]["language"]["code"] = json!("pt_PT");
        assert_eq!(client.send(&language).code(), Some(132001));

        let mut count = message("+5511900000000", "count");
        count["template"]["components"] = json!([]);
        let response = client.send(&count);
        assert_eq!((response.status, response.code()), (400, Some(132000)));
        assert_eq!(
            response.details(),
            "body: number of localizable_params (0) does not match the expected number of params (1)"
        );

        simulator.put_template(Template {
            status: "PAUSED".to_owned(),
            ..Template::approved("w1", "order_update", "pt_BR", "Oi {{1}}!")
        });
        let paused = client.send(&message("+5511900000000", "paused"));
        assert_eq!(paused.code(), Some(132015));
        assert_eq!(simulator.stats().accepted, 1);
    }
}

#[test]
fn a_body_that_is_not_json_is_refused() {
    let simulator = start();
    let good = message("+5511900000000", "q").to_string();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let charset = ("content-type", "Application/JSON; charset=utf-8");
    for (headers, body, expected) in [
        (&[BEARER, JSON][..], "{\"messaging_product\":", Some(100)),
        (&[BEARER, JSON], "", Some(100)),
        (&[BEARER, JSON], "\u{0}", Some(100)),
        (&[BEARER, form], good.as_str(), Some(100)),
        (&[BEARER], good.as_str(), Some(100)),
        (&[BEARER, charset], good.as_str(), None),
    ] {
        let response = post(&simulator, PATH, headers, body);
        assert_eq!(response.code(), expected, "{headers:?} {body}");
    }
}

#[test]
fn a_body_above_the_bound_is_refused() {
    let options = Options { max_body_bytes: 1_000, ..Options::default() };
    let simulator = Simulator::start(options).unwrap();
    let response = post(&simulator, PATH, &[BEARER, JSON], &" ".repeat(1_001));
    assert_eq!((response.status, response.code()), (413, Some(1)));
    let padded = format!("{:<1000}", message("+5511900000000", "q"));
    assert_eq!(post(&simulator, PATH, &[BEARER, JSON], &padded).status, 200);
}

#[test]
fn other_methods_and_paths_lead_nowhere() {
    let simulator = start();
    let mut client = Client::to(&simulator);
    let response = client.call("GET", PATH, &[BEARER], b"");
    assert_eq!((response.status, response.code()), (400, Some(100)));
    assert_eq!(response.json()["error"]["error_subcode"], 33);
    for path in ["/v25.0/1/message", "/v25.0//messages", "/v99.0/1/messages", "/v25.0", "/x"] {
        let response = client.call("POST", path, &[BEARER, JSON], b"{}");
        assert_eq!((response.status, response.code()), (400, Some(2500)), "{path}");
    }
    assert_eq!(simulator.stats().accepted, 0);
}

#[test]
fn nothing_that_a_client_sends_brings_the_simulator_down() {
    let simulator = start();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let odd = [
        "null",
        "1e999",
        "\"\u{fffd}\"",
        "[[[]]]",
        "{\"to\":{}}",
        deep.as_str(),
        "{\"messaging_product\":\"whatsapp\",\"to\":\"+5511900000000\",\"type\":\"template\",\"template\":[]}",
        "{\"messaging_product\":\"whatsapp\",\"to\":\"+5511900000000\",\"type\":\"template\",\"template\":{\"name\":\"t\",\"language\":{\"code\":\"en\"},\"components\":{\"type\":\"body\"}}}",
    ];
    let mut client = Client::to(&simulator);
    for body in odd {
        let response = client.call("POST", PATH, &[BEARER, JSON], body.as_bytes());
        assert_eq!(response.status, 400, "{body:.40}");
    }
    let garbage = client.call("POST", PATH, &[BEARER, JSON], b"\xff\xfe\x00");
    assert_eq!(garbage.code(), Some(100));
    assert_eq!(client.send(&message("+5511900000000", "alive")).status, 200);
}

#[test]
fn a_recorded_request_shows_body_and_headers_but_no_token() {
    let simulator = start();
    let sent = message("+5511900000000", "q:9");
    Client::to(&simulator).send(&sent);
    let recorded = simulator.messages(10).pop().unwrap();
    assert_eq!(recorded.body, sent);
    assert_eq!(recorded.phone_number_id, NUMBER);
    assert_eq!(recorded.version, "v25.0");
    assert_eq!(recorded.headers["content-type"], "application/json");
    assert!(recorded.outcome.accepted);
    let everything = serde_json::to_value(&recorded).unwrap().to_string();
    assert!(!everything.contains(TOKEN), "{everything}");
    assert_eq!(recorded.body["type"], Value::from("template"));
}
