//! Webhooks that are POSTed: to whom, how often, and what happens when they are not taken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, OnceLock};

use common::receiver::Receiver;
use common::{Client, message, signature, statuses, updates, wait_until};
use graph_simulator::{Options, Simulator, WebhookPlan};

const SECRET: &str = "app secret";

fn plan(receiver: &Receiver) -> WebhookPlan {
    WebhookPlan { target: Some(receiver.url()), retry_ms: 1, ..WebhookPlan::signed_with(SECRET) }
}

fn start(plan: WebhookPlan) -> Simulator {
    Simulator::start(Options { webhooks: Some(plan), ..Options::default() }).unwrap()
}

fn send(simulator: &Simulator, count: usize) {
    let mut client = Client::to(simulator);
    for index in 0..count {
        let answer = client.send(&message(&format!("+55119{index:08}"), &index.to_string()));
        assert_eq!(answer.status, 200);
    }
}

fn wait_for_rest(simulator: &Simulator) {
    wait_until("every webhook settled", || simulator.stats().webhooks.waiting == 0);
}

#[test]
fn every_status_is_posted_once_with_metas_headers_and_a_signature_over_the_bytes() {
    let receiver = Receiver::start(|_, _| Some(200));
    let simulator = start(plan(&receiver));
    send(&simulator, 100);
    wait_for_rest(&simulator);
    let received = receiver.received();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for post in &received {
        assert!(post.head.starts_with("POST /hooks?app=1 HTTP/1.1\r\n"), "{}", post.head);
        assert!(post.head.contains("\r\nX-Hub-Signature-256: sha256="), "{}", post.head);
        assert_eq!(post.header("content-type"), "application/json");
        assert_eq!(post.header("x-hub-signature-256"), signature(SECRET, &post.body));
        for status in updates(&post.body, "statuses") {
            *counts.entry(format!("{} {}", status["biz_opaque_callback_data"], status["status"])).or_default() += 1;
        }
    }
    assert_eq!((counts.len(), counts.values().max()), (300, Some(&1)));
    let stats = simulator.stats().webhooks;
    assert_eq!((stats.made, stats.posts_delivered, stats.posts_failed), (300, received.len() as u64, 0));
}

#[test]
fn a_post_that_did_not_get_200_is_repeated_unchanged_until_it_does() {
    // A refusal, a success that is none for Meta, a hang-up.
    let receiver = Receiver::start(|count, _| [Some(500), Some(202), None].get(count).copied().unwrap_or(Some(200)));
    let simulator = start(WebhookPlan { connections: 1, ..plan(&receiver) });
    send(&simulator, 1);
    wait_for_rest(&simulator);
    let received = receiver.received();
    let firsts: Vec<_> = received.iter().filter(|post| statuses(&post.body).contains(&"sent".to_owned())).collect();
    assert_eq!(firsts.len(), 4, "{received:?}");
    assert!(firsts.iter().all(|post| post.body == firsts[0].body));
    let stats = simulator.stats().webhooks;
    assert_eq!((stats.posts_failed, stats.given_up), (3, 0));
}

#[test]
fn a_post_that_fails_too_often_is_given_up_and_counted() {
    let receiver = Receiver::start(|_, _| Some(503));
    let simulator = start(WebhookPlan { max_attempts: 3, connections: 1, batch: 3, ..plan(&receiver) });
    send(&simulator, 1);
    wait_for_rest(&simulator);
    let stats = simulator.stats().webhooks;
    assert!(stats.given_up >= 1 && stats.posts_failed == stats.given_up * 3, "{stats:?}");
    assert_eq!(stats.posts_delivered, 0);
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_failure() {
    static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
    let receiver = Receiver::start(|count, _| {
        if count == 0 {
            let held = RELEASED.1.wait_while(RELEASED.0.lock().unwrap(), |released| !*released);
            drop(held.unwrap());
        }
        Some(200)
    });
    let simulator = start(WebhookPlan { timeout_ms: 50, ..plan(&receiver) });
    send(&simulator, 1);
    wait_for_rest(&simulator);
    assert_eq!(simulator.stats().webhooks.posts_failed, 1);
    *RELEASED.0.lock().unwrap() = true;
    RELEASED.1.notify_all();
}

#[test]
fn several_connections_post_at_the_same_time_and_are_kept() {
    // Each of the first two answers waits until the other POST has come.
    static MET: OnceLock<std::sync::Barrier> = OnceLock::new();
    let receiver = Receiver::start(|count, _| {
        if count < 2 {
            MET.get_or_init(|| std::sync::Barrier::new(2)).wait();
        }
        Some(200)
    });
    let simulator = start(WebhookPlan { batch: 1, connections: 2, ..plan(&receiver) });
    send(&simulator, 20);
    wait_for_rest(&simulator);
    let received = receiver.received();
    assert_eq!(received.len(), 60);
    let connections: HashSet<_> = received.iter().map(|post| post.connection).collect();
    assert_eq!(connections.len(), 2);
}

#[test]
fn a_target_that_comes_up_late_gets_everything() {
    let simulator = start(WebhookPlan {
        // A port of the system's own range that no test can be given: connections are refused.
        target: Some("http://127.0.0.1:1/".to_owned()),
        retry_ms: 1,
        ..WebhookPlan::signed_with(SECRET)
    });
    send(&simulator, 1);
    wait_until("failures", || simulator.stats().webhooks.posts_failed > 0);
    assert_eq!(simulator.stats().webhooks.waiting, 3);
    let receiver = Receiver::start(|_, _| Some(200));
    simulator.set_webhooks(Some(plan(&receiver))).unwrap();
    wait_for_rest(&simulator);
    let told: usize = receiver.received().iter().map(|post| statuses(&post.body).len()).sum();
    assert_eq!(told, 3);
}

#[test]
fn after_a_change_of_target_the_old_one_gets_nothing_more() {
    let (old, new) = (Receiver::start(|_, _| Some(200)), Receiver::start(|_, _| Some(200)));
    let simulator = start(plan(&old));
    send(&simulator, 1);
    wait_for_rest(&simulator);
    let before = old.received().len();
    simulator.set_webhooks(Some(plan(&new))).unwrap();
    send(&simulator, 5);
    wait_for_rest(&simulator);
    assert_eq!(old.received().len(), before);
    assert_eq!(new.received().iter().map(|post| statuses(&post.body).len()).sum::<usize>(), 15);
    simulator.set_webhooks(Some(WebhookPlan::signed_with(SECRET))).unwrap();
    send(&simulator, 1);
    assert_eq!(simulator.take_webhooks(10).iter().map(|webhook| statuses(&webhook.body).len()).sum::<usize>(), 3);
}

#[test]
fn changes_of_plan_in_quick_succession_lose_nothing() {
    let receiver = Receiver::start(|_, _| Some(200));
    let target = |url: &str| WebhookPlan {
        target: Some(url.to_owned()),
        retry_ms: 0,
        max_attempts: u32::MAX,
        batch: 1,
        ..plan(&receiver)
    };
    let nowhere = target("http://127.0.0.1:1/");
    let simulator = start(nowhere.clone());
    for round in 1..=30 {
        send(&simulator, 1);
        simulator.set_webhooks(Some(nowhere.clone())).unwrap();
        simulator.set_webhooks(Some(target(&receiver.url()))).unwrap();
        wait_for_rest(&simulator);
        assert_eq!(receiver.received().len(), 3 * round);
        simulator.set_webhooks(Some(nowhere.clone())).unwrap();
    }
}
