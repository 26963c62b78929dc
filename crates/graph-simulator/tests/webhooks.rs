//! Webhooks that are taken: which statuses are made of a message, how they are written and signed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use common::{Client, NUMBER, message, signature, start, statuses, text, updates, wait_until};
use graph_simulator::{
    Account, Action, AsyncFailure, FaultRule, Inbound, Latency, Options, SignedBody, Simulator, StatusKind, StatusStep,
    Template, TemplateCategory, WebhookPlan,
};
use serde_json::{Value, json};

const SECRET: &str = "app secret";
const TO: &str = "+5511987654321";

fn plan() -> WebhookPlan {
    WebhookPlan::signed_with(SECRET)
}

fn start_with(plan: WebhookPlan) -> Simulator {
    Simulator::start(Options { webhooks: Some(plan), ..Options::default() }).unwrap()
}

fn send(simulator: &Simulator, body: &Value) -> String {
    let answer = Client::to(simulator).send(body).json();
    answer["messages"][0]["id"].as_str().unwrap().to_owned()
}

/// The one webhook that there is.
fn take_one(simulator: &Simulator) -> SignedBody {
    let mut taken = simulator.take_webhooks(10);
    assert_eq!(taken.len(), 1, "{taken:?}");
    taken.remove(0)
}

#[test]
fn without_a_plan_there_are_no_webhooks() {
    let simulator = start();
    send(&simulator, &message(TO, "q"));
    simulator.receive(Inbound::text(NUMBER, TO, "Oi")).unwrap();
    assert_eq!(simulator.take_webhooks(10), []);
    assert_eq!(simulator.stats().webhooks, graph_simulator::WebhookStats::default());
}

#[test]
fn an_accepted_message_is_sent_delivered_and_read_in_metas_shape() {
    let simulator = start_with(plan());
    simulator.put_account(Account {
        phone_number_id: NUMBER.to_owned(),
        waba_id: "102290129340398".to_owned(),
        ..Account::default()
    });
    let wamid = send(&simulator, &message(TO, "q:1/é"));
    let webhook = take_one(&simulator);
    assert_eq!(webhook.signature, signature(SECRET, &webhook.body));
    assert!(webhook.body.is_ascii());
    assert!(webhook.body.contains(r#""biz_opaque_callback_data":"q:1\/\u00e9""#), "{}", webhook.body);

    let mut body: Value = serde_json::from_str(&webhook.body).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for status in body["entry"][0]["changes"][0]["value"]["statuses"].as_array_mut().unwrap() {
        let seconds: u64 = status["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(now.abs_diff(seconds) < 60, "{status}");
        status.as_object_mut().unwrap().remove("timestamp");
    }
    let status = |name: &str| {
        json!({"id": wamid, "status": name, "recipient_id": "5511987654321",
            "recipient_user_id": "ZZ.5511987654321", "biz_opaque_callback_data": "q:1/é"})
    };
    let priced = |name: &str| {
        let mut status = status(name);
        status["pricing"] =
            json!({"billable": true, "pricing_model": "PMP", "category": "marketing", "type": "regular"});
        status
    };
    assert_eq!(
        body,
        json!({"object": "whatsapp_business_account", "entry": [{"id": "102290129340398", "changes": [{
            "field": "messages",
            "value": {
                "messaging_product": "whatsapp",
                "metadata": {"display_phone_number": NUMBER, "phone_number_id": NUMBER},
                "contacts": [
                    {"profile": {"name": "Zoë"}, "wa_id": "5511987654321", "user_id": "ZZ.5511987654321"}],
                "statuses": [priced("sent"), priced("delivered"), status("read")]
            }
        }]}]})
    );
    assert_eq!(simulator.take_webhooks(10), [], "taken is gone");
    let stats = simulator.stats().webhooks;
    assert_eq!((stats.made, stats.waiting, stats.taken), (3, 0, 1));
}

#[test]
fn a_failed_status_has_an_error_and_neither_contacts_nor_a_price() {
    let simulator = start_with(WebhookPlan { failures: vec![AsyncFailure::always(131_049)], ..plan() });
    send(&simulator, &message(TO, "q"));
    let webhook = take_one(&simulator);
    let body: Value = serde_json::from_str(&webhook.body).unwrap();
    let value = &body["entry"][0]["changes"][0]["value"];
    assert_eq!(value.get("contacts"), None);
    let status = &value["statuses"][0];
    assert_eq!((&status["status"], &status["biz_opaque_callback_data"]), (&json!("failed"), &json!("q")));
    assert_eq!((status.get("pricing"), status.get("recipient_user_id")), (None, None));
    let error = &status["errors"][0];
    assert_eq!(error["code"], 131_049);
    assert!(error["title"].as_str().unwrap().contains("healthy ecosystem"), "{error}");
    assert_eq!(error["title"], error["message"]);
    assert!(error["error_data"]["details"].is_string());

    simulator
        .set_webhooks(Some(WebhookPlan {
            failures: vec![AsyncFailure::always(131_026)],
            callback_data_on_failed: false,
            ..plan()
        }))
        .unwrap();
    send(&simulator, &message(TO, "q"));
    assert_eq!(updates(&take_one(&simulator).body, "statuses")[0].get("biz_opaque_callback_data"), None);
}

#[test]
fn a_message_whose_answer_was_lost_has_its_statuses_and_one_that_never_arrived_has_none() {
    let simulator = start_with(plan());
    for (action, accepted) in [
        (Action::ResetAfterAccept, true),
        (Action::ResetBeforeAccept, false),
        (Action::EmptyBody, true),
        (Action::TruncatedBody, true),
        (Action::Html502, false),
    ] {
        simulator.reset();
        simulator.set_faults(vec![FaultRule::always(action.clone())]).unwrap();
        let mut client = Client::to(&simulator);
        client.write_message(&message(TO, "lost"));
        drop(client.read());
        let taken = simulator.take_webhooks(10);
        let told = taken.iter().flat_map(|webhook| updates(&webhook.body, "statuses"));
        let ids: Vec<_> = told.map(|status| status["biz_opaque_callback_data"].clone()).collect();
        assert_eq!(ids.len(), if accepted { 3 } else { 0 }, "{action:?}");
        assert!(ids.iter().all(|id| id == "lost"));
        assert_eq!(simulator.accepted("lost"), u32::from(accepted));
    }
}

#[test]
fn refused_messages_have_no_statuses() {
    let simulator = start_with(plan());
    assert_eq!(Client::to(&simulator).send(&message("bad", "q")).status, 400);
    simulator
        .set_faults(vec![FaultRule::always(Action::Error { code: 131_026, subcode: None, details: None })])
        .unwrap();
    assert_eq!(Client::to(&simulator).send(&message(TO, "q")).status, 400);
    assert_eq!(simulator.stats().webhooks.made, 0);
}

#[test]
fn statuses_wait_for_their_delays() {
    let late = StatusStep { delay_ms: 60_000, ..StatusStep::now(StatusKind::Read) };
    let soon = StatusStep { delay_ms: 50, ..StatusStep::now(StatusKind::Delivered) };
    let simulator = start_with(WebhookPlan { statuses: vec![soon, late], ..plan() });
    let begun = std::time::Instant::now();
    send(&simulator, &message(TO, "q"));
    let mut taken = Vec::new();
    wait_until("delivered", || {
        taken.extend(simulator.take_webhooks(10));
        !taken.is_empty()
    });
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(statuses(&taken[0].body), ["delivered"]);
    assert_eq!(simulator.stats().webhooks.waiting, 1);
}

#[test]
fn early_statuses_come_before_the_answer_and_others_wait_for_it() {
    for (early, due) in [(true, 3), (false, 0)] {
        let simulator = start_with(WebhookPlan { early, ..plan() });
        // The answer is a minute away.
        simulator.set_latency(Latency::fixed(60_000));
        let mut client = Client::to(&simulator);
        client.write_message(&message(TO, "q"));
        wait_until("statuses made", || simulator.stats().webhooks.waiting == 3);
        let taken = simulator.take_webhooks(10);
        assert_eq!(taken.iter().map(|webhook| statuses(&webhook.body).len()).sum::<usize>(), due);
    }
}

#[test]
fn a_webhook_holds_at_most_a_batch_and_one_change_per_number() {
    let simulator = start_with(WebhookPlan { batch: 4, ..plan() });
    let mut client = Client::to(&simulator);
    for index in 0..3 {
        client.send(&message(&format!("+551190000000{index}"), &index.to_string()));
    }
    let taken = simulator.take_webhooks(2);
    assert_eq!(taken.iter().map(|webhook| statuses(&webhook.body).len()).collect::<Vec<_>>(), [4, 4]);
    assert_eq!(statuses(&take_one(&simulator).body), ["read"]);

    simulator.set_webhooks(Some(plan())).unwrap();
    simulator.set_accounts(
        [("1", "w1"), ("2", "w1"), ("3", "w2")]
            .map(|(id, waba)| Account {
                phone_number_id: id.to_owned(),
                waba_id: waba.to_owned(),
                ..Account::default()
            })
            .into(),
    );
    for number in ["1", "2", "3", "1"] {
        simulator.receive(Inbound::text(number, "5511900000000", "Oi")).unwrap();
    }
    let body: Value = serde_json::from_str(&take_one(&simulator).body).unwrap();
    let of = |entry: usize, change: usize| {
        let value = &body["entry"][entry]["changes"][change]["value"];
        (value["metadata"]["phone_number_id"].clone(), value["messages"].as_array().map_or(0, Vec::len))
    };
    assert_eq!((&body["entry"][0]["id"], &body["entry"][1]["id"]), (&json!("w1"), &json!("w2")));
    assert_eq!([of(0, 0), of(0, 1), of(1, 0)], [(json!("1"), 2), (json!("2"), 1), (json!("3"), 1)]);
}

#[test]
fn a_webhook_is_never_larger_than_three_megabytes() {
    let simulator = start_with(plan());
    let id = "ã".repeat(512);
    let mut client = Client::to(&simulator);
    for _ in 0..300 {
        assert_eq!(client.send(&message(TO, &id)).status, 200);
    }
    let taken = simulator.take_webhooks(100);
    assert!(taken.len() > 1);
    assert!(taken.iter().all(|webhook| webhook.body.len() <= 3 << 20));
    assert_eq!(taken.iter().map(|webhook| statuses(&webhook.body).len()).sum::<usize>(), 900);
}

#[test]
fn a_thousand_statuses_of_ordinary_messages_fit_into_one_webhook() {
    let simulator = start_with(plan());
    let mut client = Client::to(&simulator);
    for index in 0..400 {
        client.send(&message(TO, &format!("6f1b3c50-7f1f-4f6e-9d5c-{index:012}")));
    }
    let sizes: Vec<_> = simulator.take_webhooks(10).iter().map(|webhook| statuses(&webhook.body).len()).collect();
    assert_eq!(sizes, [1_000, 200]);
}

#[test]
fn duplicates_say_the_same_and_shuffled_statuses_come_in_another_order() {
    let simulator = start_with(WebhookPlan { duplicates: 1.0, ..plan() });
    send(&simulator, &message(TO, "q"));
    let told = updates(&take_one(&simulator).body, "statuses");
    let distinct: HashSet<_> = told.iter().map(Value::to_string).collect();
    assert_eq!((told.len(), distinct.len()), (6, 3));

    simulator.set_webhooks(Some(WebhookPlan { shuffle: true, ..plan() })).unwrap();
    let mut client = Client::to(&simulator);
    for index in 0..50 {
        client.send(&message(TO, &format!("{index:02}")));
    }
    let told = updates(&take_one(&simulator).body, "statuses");
    let orders: HashSet<Vec<_>> = (0..50)
        .map(|index| {
            let mine = told.iter().filter(|status| status["biz_opaque_callback_data"] == format!("{index:02}"));
            mine.map(|status| status["status"].as_str().unwrap()).collect()
        })
        .collect();
    assert!(orders.len() > 1 && orders.iter().all(|order| order.len() == 3), "{orders:?}");
}

#[test]
fn a_user_id_takes_the_place_of_the_phone_number() {
    let simulator = start_with(WebhookPlan { statuses: vec![StatusStep::now(StatusKind::Sent)], ..plan() });
    let mut body = message(TO, "q");
    body.as_object_mut().unwrap().remove("to");
    body["recipient"] = json!("BR.1234");
    Client::to(&simulator).send(&body);
    let webhook = take_one(&simulator);
    let status = &updates(&webhook.body, "statuses")[0];
    assert_eq!((status.get("recipient_id"), &status["recipient_user_id"]), (None, &json!("BR.1234")));
    let contact = &updates(&webhook.body, "contacts")[0];
    assert_eq!((contact.get("wa_id"), &contact["user_id"]), (None, &json!("BR.1234")));
}

#[test]
fn a_free_form_message_outside_the_window_is_accepted_and_fails_with_131047() {
    let simulator = start_with(plan());
    send(&simulator, &text(TO, "closed"));
    let failed = &updates(&take_one(&simulator).body, "statuses")[0];
    assert_eq!((&failed["status"], &failed["errors"][0]["code"]), (&json!("failed"), &json!(131_047)));

    simulator.receive(Inbound::text(NUMBER, TO, "Oi")).unwrap();
    simulator.take_webhooks(1);
    send(&simulator, &text(TO, "open"));
    let told = updates(&take_one(&simulator).body, "statuses");
    assert_eq!(told.len(), 3);
    assert_eq!(told[0]["pricing"]["category"], "service");
}

#[test]
fn the_price_follows_category_and_window() {
    let simulator = start_with(WebhookPlan { free_in_window: true, ..plan() });
    simulator.put_account(Account {
        phone_number_id: NUMBER.to_owned(),
        waba_id: "w".to_owned(),
        ..Account::default()
    });
    let price = |body: &Value| {
        send(&simulator, body);
        let pricing = updates(&take_one(&simulator).body, "statuses")[0]["pricing"].clone();
        format!("{} {} {}", pricing["category"], pricing["type"], pricing["billable"]).replace('"', "")
    };
    let category = |category| {
        let template = Template::approved("w", "order_update", "pt_BR", "Oi {{1}}!");
        simulator.put_template(Template { category, ..template });
    };
    category(TemplateCategory::Utility);
    assert_eq!(price(&message(TO, "q")), "utility regular true");
    simulator.receive(Inbound::text(NUMBER, TO, "Oi")).unwrap();
    simulator.take_webhooks(1);
    assert_eq!(price(&message(TO, "q")), "utility free_customer_service false");
    assert_eq!(price(&text(TO, "q")), "service free_customer_service false");
    category(TemplateCategory::Authentication);
    assert_eq!(price(&message(TO, "q")), "authentication regular true");
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let simulator = start_with(WebhookPlan { capacity: 2, ..plan() });
    send(&simulator, &message(TO, "q"));
    let stats = simulator.stats().webhooks;
    assert_eq!((stats.made, stats.waiting, stats.dropped), (3, 2, 1));
    assert_eq!(statuses(&take_one(&simulator).body), ["sent", "delivered"]);
}

#[test]
fn a_plan_can_be_changed_and_ended_while_the_simulator_runs() {
    let simulator = start();
    simulator.set_webhooks(Some(plan())).unwrap();
    send(&simulator, &message(TO, "q"));
    simulator.set_webhooks(Some(WebhookPlan::signed_with("another"))).unwrap();
    let webhook = take_one(&simulator);
    assert_eq!(webhook.signature, signature("another", &webhook.body));
    send(&simulator, &message(TO, "q"));
    let refused = simulator.set_webhooks(Some(WebhookPlan::default())).unwrap_err();
    assert!(refused.to_string().contains("app_secret"), "{refused}");
    simulator.set_webhooks(None).unwrap();
    assert_eq!((simulator.take_webhooks(1), simulator.stats().webhooks.waiting), (Vec::new(), 0));
    send(&simulator, &message(TO, "q"));
    assert_eq!(simulator.stats().webhooks.made, 6);
}

#[test]
fn a_reset_forgets_waiting_webhooks_and_keeps_the_plan() {
    let simulator = start_with(plan());
    send(&simulator, &message(TO, "q"));
    simulator.reset();
    assert_eq!(simulator.stats().webhooks, graph_simulator::WebhookStats::default());
    assert_eq!(simulator.take_webhooks(1), []);
    send(&simulator, &message(TO, "q"));
    assert_eq!(statuses(&take_one(&simulator).body).len(), 3);
}
