//! What the simulator counts: ids, requests in flight, connections, arrivals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{Client, NUMBER, message, start, wait_until};
use graph_simulator::{Latency, Options, Simulator};

#[test]
fn every_id_of_concurrent_senders_is_counted_once_and_a_duplicate_twice() {
    const SENDERS: usize = 8;
    const EACH: usize = 500;
    let simulator = start();
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let simulator = &simulator;
            scope.spawn(move || {
                let mut client = Client::to(simulator);
                for index in 0..EACH {
                    let to = format!("+5511{sender}{index:08}");
                    let response = client.send(&message(&to, &format!("{sender}/{index}")));
                    assert_eq!(response.status, 200);
                }
            });
        }
    });
    let stats = simulator.stats();
    assert_eq!(stats.accepted, (SENDERS * EACH) as u64);
    assert_eq!(stats.accepted_distinct, stats.accepted);
    assert_eq!(stats.connections, SENDERS as u64);
    assert_eq!((stats.duplicates, stats.untracked), (0, 0));
    let ids = simulator.accepted_ids();
    assert!((0..SENDERS).all(|sender| (0..EACH).all(|index| ids[&format!("{sender}/{index}")] == 1)));

    Client::to(&simulator).send(&message("+5511900000000", "3/7"));
    assert_eq!(simulator.duplicates(), [("3/7".to_owned(), 2)]);
    assert_eq!(simulator.stats().duplicates, 1);
    assert_eq!(simulator.accepted("never sent"), 0);
}

#[test]
fn wamids_of_all_messages_differ() {
    let simulator = start();
    let mut client = Client::to(&simulator);
    let wamids: std::collections::HashSet<String> = (0..200)
        .map(|_| {
            let response = client.send(&message("+5511900000000", "same"));
            response.json()["messages"][0]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(wamids.len(), 200);
}

#[test]
fn latency_and_jitter_hold_every_answer_back_and_requests_overlap_meanwhile() {
    let options = Options { latency: Latency { ms: 100, jitter_ms: 50 }, ..Options::default() };
    let simulator = Simulator::start(options).unwrap();
    let begun = Instant::now();
    let mut clients: Vec<_> = (0..20)
        .map(|index| {
            let mut client = Client::to(&simulator);
            client.write_message(&message("+5511900000000", &index.to_string()));
            client
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.read().unwrap().status, 200);
        assert!(begun.elapsed() >= Duration::from_millis(100));
    }
    // One after the other they would need two seconds.
    assert!(begun.elapsed() < Duration::from_secs(2));
    let stats = simulator.stats();
    assert!(stats.max_in_flight > 1, "{}", stats.max_in_flight);
    wait_until("all answered", || simulator.stats().in_flight == 0);
}

#[test]
fn arrivals_are_recorded_in_order_and_bounded() {
    let options = Options { keep_arrivals: 5, ..Options::default() };
    let simulator = Simulator::start(options).unwrap();
    let mut client = Client::to(&simulator);
    for index in 0..8 {
        client.send(&message("+5511900000000", &index.to_string()));
    }
    let arrivals = simulator.arrivals(NUMBER);
    assert_eq!(arrivals.len(), 5);
    assert!(arrivals.is_sorted());
    assert!(simulator.started_at().elapsed().unwrap() >= arrivals[4]);
    assert!(simulator.arrivals("unknown").is_empty());
}

#[test]
fn only_the_last_requests_are_kept_in_full() {
    let options = Options { keep_messages: 3, ..Options::default() };
    let simulator = Simulator::start(options).unwrap();
    let mut client = Client::to(&simulator);
    for index in 0..5 {
        client.send(&message("+5511900000000", &index.to_string()));
    }
    let ids: Vec<_> = simulator
        .messages(100)
        .iter()
        .map(|request| request.body["biz_opaque_callback_data"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["2", "3", "4"]);
    assert_eq!(simulator.messages(1).len(), 1);
}

#[test]
fn open_connections_are_counted_until_they_close() {
    let simulator = start();
    let clients: Vec<_> = (0..5).map(|_| Client::to(&simulator)).collect();
    wait_until("five open", || simulator.stats().connections_open == 5);
    drop(clients);
    wait_until("none open", || simulator.stats().connections_open == 0);
    assert_eq!(simulator.stats().max_connections_open, 5);
}

#[test]
fn an_idle_connection_is_closed_when_asked_for() {
    let options = Options { idle_timeout: Some(Duration::from_millis(300)), ..Options::default() };
    let simulator = Simulator::start(options).unwrap();
    let mut client = Client::to(&simulator);
    assert_eq!(client.send(&message("+5511900000000", "q")).status, 200);
    let (bytes, ended) = client.drain();
    ended.unwrap();
    assert_eq!(bytes, b"");
}

#[test]
fn a_reset_forgets_what_happened() {
    let simulator = start();
    simulator.set_latency(Latency::fixed(1));
    let mut client = Client::to(&simulator);
    client.send(&message("+5511900000000", "q"));
    client.send(&message("bad", "q"));
    wait_until("answered", || simulator.stats().in_flight == 0);
    simulator.reset();
    let stats = simulator.stats();
    assert_eq!((stats.requests, stats.accepted, stats.max_in_flight), (0, 0, 0));
    assert!(stats.refused.is_empty() && stats.numbers.is_empty());
    assert!(simulator.messages(10).is_empty());
    assert_eq!(simulator.accepted("q"), 0);
    client.send(&message("+5511900000000", "q"));
    assert_eq!(simulator.accepted("q"), 1);
}
