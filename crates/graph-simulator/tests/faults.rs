//! Each fault as it is seen on a raw socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use common::{Client, NUMBER, message, start, wait_until};
use graph_simulator::{Action, FaultRule, Latency, Match, Simulator, StatusAnswer};
use serde_json::json;

fn with(action: Action) -> Simulator {
    let simulator = start();
    simulator.set_faults(vec![FaultRule::always(action)]).unwrap();
    simulator
}

fn one() -> serde_json::Value {
    message("+5511900000000", "q:1")
}

#[test]
fn a_reset_is_a_tcp_reset_whether_accepted_or_not() {
    for (action, accepted) in [(Action::ResetBeforeAccept, 0), (Action::ResetAfterAccept, 1)] {
        let simulator = with(action);
        let mut client = Client::to(&simulator);
        client.write_message(&one());
        let (bytes, ended) = client.drain();
        assert_eq!(bytes, b"");
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(simulator.accepted("q:1"), accepted);
        assert_eq!(simulator.messages(1)[0].outcome.http, None);
    }
}

#[test]
fn a_reset_comes_after_the_latency() {
    let simulator = with(Action::ResetAfterAccept);
    simulator.set_latency(Latency::fixed(80));
    let mut client = Client::to(&simulator);
    let begun = Instant::now();
    client.write_message(&one());
    wait_until("the message counts before its answer", || simulator.accepted("q:1") == 1);
    client.drain().1.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(80));
}

#[test]
fn garbage_is_not_http() {
    let simulator = with(Action::Garbage);
    let mut client = Client::to(&simulator);
    client.write_message(&one());
    let (bytes, ended) = client.drain();
    ended.unwrap();
    assert!(!bytes.is_empty() && !bytes.starts_with(b"HTTP"));
    assert_eq!(simulator.accepted("q:1"), 0);
}

#[test]
fn a_hang_ends_without_an_answer_after_its_time() {
    let simulator = start();
    let rule = FaultRule { accept: Some(true), ..FaultRule::always(Action::Hang { ms: 150 }) };
    simulator.set_faults(vec![rule]).unwrap();
    let mut client = Client::to(&simulator);
    let begun = Instant::now();
    client.write_message(&one());
    let (bytes, ended) = client.drain();
    ended.unwrap();
    assert_eq!(bytes, b"");
    assert!(begun.elapsed() >= Duration::from_millis(150));
    assert_eq!(simulator.accepted("q:1"), 1);
}

#[test]
fn a_client_that_gives_up_on_a_hang_is_no_longer_in_flight() {
    let simulator = with(Action::Hang { ms: 60_000 });
    let mut client = Client::to(&simulator);
    client.write_message(&one());
    wait_until("in flight", || simulator.stats().in_flight == 1);
    drop(client);
    wait_until("given up", || simulator.stats().in_flight == 0);
}

#[test]
fn an_error_by_code_has_its_own_status_and_text() {
    for (code, status) in [(190, 401), (131000, 500), (133004, 503), (131026, 400)] {
        let simulator = with(Action::Error { code, subcode: Some(463), details: Some("as scripted".to_owned()) });
        let response = Client::to(&simulator).send(&one());
        assert_eq!((response.status, response.code()), (status, Some(code)));
        assert_eq!(response.details(), "as scripted");
        assert_eq!(response.json()["error"]["error_subcode"], 463);
        let stats = simulator.stats();
        assert_eq!((stats.accepted, stats.refused[&code]), (0, 1));
    }
}

#[test]
fn a_status_of_ones_own_has_code_text_headers_or_a_raw_body() {
    let simulator = with(Action::Status(StatusAnswer {
        http: 429,
        code: Some(80007),
        message: Some("slow down".to_owned()),
        headers: BTreeMap::from([("retry-after".to_owned(), "7".to_owned())]),
        ..StatusAnswer::default()
    }));
    let response = Client::to(&simulator).send(&one());
    assert_eq!((response.status, response.code()), (429, Some(80007)));
    assert_eq!(response.json()["error"]["message"], "slow down");
    assert_eq!(response.headers["retry-after"], "7");

    let simulator =
        with(Action::Status(StatusAnswer { http: 500, body: Some(json!({"oops": 1})), ..StatusAnswer::default() }));
    let response = Client::to(&simulator).send(&one());
    assert_eq!((response.status, response.json()), (500, json!({"oops": 1})));

    let simulator = with(Action::Status(StatusAnswer { http: 204, ..StatusAnswer::default() }));
    let response = Client::to(&simulator).send(&one());
    assert_eq!((response.status, response.body.len()), (204, 0));
}

#[test]
fn a_proxys_page_an_empty_body_and_broken_json_are_no_answers_of_meta() {
    let simulator = with(Action::Html502);
    let response = Client::to(&simulator).send(&one());
    assert_eq!(response.status, 502);
    assert!(response.headers["content-type"].starts_with("text/html"));
    assert_eq!(simulator.accepted("q:1"), 0);

    let simulator = with(Action::EmptyBody);
    let response = Client::to(&simulator).send(&one());
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(simulator.accepted("q:1"), 1);

    let simulator = with(Action::NotJson);
    let response = Client::to(&simulator).send(&one());
    assert_eq!(response.status, 200);
    assert!(serde_json::from_slice::<serde_json::Value>(&response.body).is_err());
    assert_eq!(simulator.accepted("q:1"), 1);
}

#[test]
fn a_redirect_points_to_a_place_that_counts_who_follows() {
    let simulator = with(Action::Redirect);
    let mut client = Client::to(&simulator);
    let response = client.send(&one());
    assert_eq!(response.status, 307);
    assert_eq!(simulator.stats().redirects_followed, 0);
    client.call("POST", &response.headers["location"], &[], b"");
    assert_eq!(simulator.stats().redirects_followed, 1);
    assert_eq!(simulator.accepted("q:1"), 0);
}

#[test]
fn an_oversized_answer_is_the_usual_one_with_blanks() {
    let simulator = with(Action::Oversized { bytes: 3_000_000 });
    let response = Client::to(&simulator).send(&one());
    assert_eq!((response.status, response.body.len()), (200, 3_000_000));
    assert!(response.json()["messages"][0]["id"].is_string());
    assert_eq!(simulator.accepted("q:1"), 1);
}

#[test]
fn a_slow_body_comes_byte_by_byte() {
    for action in [
        Action::SlowBody { ms_per_byte: None, total_ms: Some(600) },
        Action::SlowBody { ms_per_byte: Some(3), total_ms: None },
    ] {
        let simulator = with(action);
        let mut client = Client::to(&simulator);
        let begun = Instant::now();
        client.write_message(&one());
        let mut byte = [0];
        client.stream.read_exact(&mut byte).unwrap();
        assert_eq!(simulator.stats().in_flight, 1, "until its last byte");
        let response = {
            // The first byte of the status line has been taken.
            let mut rest = vec![byte[0]];
            let mut more = [0; 4096];
            let mut reads = 0;
            while !rest.ends_with(b"\"accepted\"}]}") {
                let count = client.stream.read(&mut more).unwrap();
                assert_ne!(count, 0, "{}", String::from_utf8_lossy(&rest));
                rest.extend_from_slice(&more[..count]);
                reads += 1;
            }
            assert!(reads > 5, "came in {reads} reads");
            rest
        };
        assert!(begun.elapsed() >= Duration::from_millis(400));
        assert!(response.starts_with(b"HTTP/1.1 200"));
        assert_eq!(simulator.accepted("q:1"), 1);
    }
}

#[test]
fn a_truncated_body_ends_before_its_length() {
    let simulator = with(Action::TruncatedBody);
    let mut client = Client::to(&simulator);
    client.write_message(&one());
    let error = client.read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(simulator.accepted("q:1"), 1);
}

#[test]
fn a_delay_is_added_to_the_latency() {
    let simulator = with(Action::Delay { ms: 60 });
    simulator.set_latency(Latency::fixed(60));
    let begun = Instant::now();
    let response = Client::to(&simulator).send(&one());
    assert!(begun.elapsed() >= Duration::from_millis(120));
    assert_eq!((response.status, simulator.accepted("q:1")), (200, 1));
}

#[test]
fn close_after_answers_and_closes() {
    let simulator = with(Action::CloseAfter);
    let mut client = Client::to(&simulator);
    let response = client.send(&one());
    assert_eq!(response.status, 200);
    assert_eq!(response.headers["connection"], "close");
    let (bytes, ended) = client.drain();
    ended.unwrap();
    assert_eq!(bytes, b"");
}

#[test]
fn without_a_fault_the_connection_is_kept() {
    let simulator = start();
    let mut client = Client::to(&simulator);
    for _ in 0..3 {
        assert_eq!(client.send(&one()).status, 200);
    }
    assert_eq!(simulator.stats().connections, 1);
}

#[test]
fn acceptance_can_be_turned_around() {
    let simulator = start();
    let rule = |action, accept| FaultRule { accept: Some(accept), ..FaultRule::always(action) };
    simulator.set_faults(vec![rule(Action::Html502, true)]).unwrap();
    let mut client = Client::to(&simulator);
    assert_eq!(client.send(&one()).status, 502);
    assert_eq!(simulator.accepted("q:1"), 1);

    simulator.set_faults(vec![rule(Action::Delay { ms: 1 }, false)]).unwrap();
    let response = client.send(&one());
    assert_eq!((response.status, response.code()), (500, Some(131000)));
    assert_eq!(simulator.accepted("q:1"), 1);
}

#[test]
fn rules_strike_by_sender_recipient_and_turn() {
    let simulator = start();
    simulator
        .set_faults(vec![
            FaultRule {
                matching: Match {
                    phone_number_id: Some(NUMBER.to_owned()),
                    to: Some("+5511900000007".to_owned()),
                    ..Match::default()
                },
                ..FaultRule::always(Action::Error { code: 131026, subcode: None, details: None })
            },
            FaultRule::first(2, Action::Html502),
        ])
        .unwrap();
    let mut client = Client::to(&simulator);
    let mut statuses = |number: &str| {
        let response = client.send(&message(number, "q"));
        response.status
    };
    assert_eq!(statuses("+5511900000007"), 400);
    assert_eq!(statuses("+5511900000001"), 502);
    assert_eq!(statuses("+5511900000001"), 502);
    assert_eq!(statuses("+5511900000001"), 200);
    assert_eq!(statuses("+5511900000007"), 400);
    assert_eq!(simulator.stats().faults_struck, [2, 2]);
    simulator.reset();
    assert_eq!(statuses("+5511900000001"), 502, "a reset starts the turns anew");
}

#[test]
fn a_fault_does_not_hide_an_error_of_the_senders_own() {
    let simulator = with(Action::ResetBeforeAccept);
    let response = Client::to(&simulator).send(&message("no number", "q"));
    assert_eq!(response.code(), Some(131009));
    assert_eq!(simulator.stats().faults_struck, [0]);
}

#[test]
fn a_script_that_makes_no_sense_leaves_the_old_one_in_place() {
    let simulator = with(Action::CloseAfter);
    let mut rule = FaultRule::always(Action::Garbage);
    rule.matching.every = Some(0);
    let refused = simulator.set_faults(vec![rule]).unwrap_err();
    assert_eq!(refused.to_string(), "fault rule 0: \"every\" must be at least 1");
    let response = Client::to(&simulator).send(&one());
    assert_eq!(response.headers["connection"], "close");
}
