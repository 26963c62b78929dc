//! Bounded load: many connections at a realistic latency, and many messages with every one accounted for.
//! Rates are printed, not asserted: they belong to the machine (`--nocapture` shows them).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking; a measurement is for reading"
)]

mod common;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use common::receiver::Receiver;
use common::{NUMBER, TOKEN, message, updates, wait_until};
use graph_simulator::{Latency, Options, Simulator, WebhookPlan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Sends messages one after the other over one connection.
async fn sender(address: SocketAddr, ids: std::ops::Range<usize>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = vec![0; 4096];
    for id in ids {
        let body = message(&format!("+5511{id:09}"), &id.to_string()).to_string();
        let request = format!(
            "POST /v25.0/{NUMBER}/messages HTTP/1.1\r\nhost: localhost\r\n\
             authorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut length = 0;
        while !answer[..length].ends_with(b"}]}") {
            let count = stream.read(&mut answer[length..]).await.unwrap();
            assert_ne!(count, 0, "closed by the simulator");
            length += count;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
}

/// Runs the senders to their end; returns messages per second.
fn run(simulator: &Simulator, connections: usize, each: usize) -> f64 {
    let address = simulator.address().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begun = Instant::now();
    runtime.block_on(async {
        let mut senders = JoinSet::new();
        for index in 0..connections {
            senders.spawn(sender(address, index * each..(index + 1) * each));
        }
        while let Some(ended) = senders.join_next().await {
            ended.unwrap();
        }
    });
    (connections * each) as f64 / begun.elapsed().as_secs_f64()
}

#[test]
fn a_thousand_connections_wait_at_the_same_time() {
    rlimit::increase_nofile_limit(8_192).unwrap();
    let options = Options { latency: Latency::fixed(200), ..Options::default() };
    let simulator = Simulator::start(options).unwrap();
    let rate = run(&simulator, 1_000, 5);
    println!("1,000 connections at 200 ms: {rate:.0} messages/s");
    let stats = simulator.stats();
    assert_eq!((stats.accepted, stats.accepted_distinct), (5_000, 5_000));
    assert_eq!(stats.connections, 1_000);
    // The simulator has two threads: more in flight than that means that waiting costs none.
    assert!(stats.max_in_flight > 100, "{}", stats.max_in_flight);
}

#[test]
fn under_load_every_message_is_accounted_for() {
    let simulator = Simulator::start(Options::default()).unwrap();
    let rate = run(&simulator, 32, 1_000);
    println!("32 connections without latency: {rate:.0} messages/s");
    let stats = simulator.stats();
    assert_eq!((stats.accepted, stats.accepted_distinct), (32_000, 32_000));
    assert_eq!((stats.duplicates, stats.untracked), (0, 0));
    let ids = simulator.accepted_ids();
    assert!((0..32_000).all(|id| ids[&id.to_string()] == 1));
    assert_eq!(simulator.arrivals(NUMBER).len(), 32_000);
}

#[test]
fn under_load_every_message_has_each_of_its_statuses_once() {
    let receiver = Receiver::start(|_, _| Some(200));
    let plan = WebhookPlan { target: Some(receiver.url()), shuffle: true, ..WebhookPlan::signed_with("secret") };
    let simulator = Simulator::start(Options { webhooks: Some(plan), ..Options::default() }).unwrap();
    let rate = run(&simulator, 32, 500);
    println!("32 connections with webhooks: {rate:.0} messages/s");
    wait_until("every webhook answered", || simulator.stats().webhooks.waiting == 0);
    let posts = receiver.received();
    let told: Vec<_> = posts
        .iter()
        .flat_map(|post| updates(&post.body, "statuses"))
        .map(|status| format!("{} {}", status["biz_opaque_callback_data"], status["status"]))
        .collect();
    println!("{} webhooks", posts.len());
    assert_eq!((told.len(), told.iter().collect::<HashSet<_>>().len()), (48_000, 48_000));
    assert_eq!(simulator.stats().webhooks.posts_failed, 0);
}
