//! `wa_webhook_receive`: what Meta reports by webhook is believed when its signature fits, once, in whatever order it comes.

use graph_simulator::{Action, AsyncFailure, FaultRule, Simulator, StatusKind, StatusStep, WebhookPlan};
use harness::fixtures::{numbers, serving, simulator, wait_for_accepted};
use harness::wait::PATIENCE;
use harness::{Cluster, Database, Organizer, Session, wait_until};

use crate::holds::set_faults;

pub const SECRET: &str = "secret-of-the-app";

/// An account that takes webhooks.
pub const ACCOUNT: &str =
    "messages_per_second => 1000, rate_limit_tier => 'unlimited', app_secret => 'secret-of-the-app'";

/// A body and its signature.
pub type Webhook = (String, String);

/// The webhooks of all messages accepted so far; the plan has no delays.
pub fn webhooks(simulator: &Simulator) -> Vec<Webhook> {
    let mut taken = Vec::new();
    wait_until("all webhooks to be taken", PATIENCE, || {
        taken.extend(simulator.take_webhooks(1_000).into_iter().map(|webhook| (webhook.body, webhook.signature)));
        let stats = simulator.stats().webhooks;
        if stats.waiting == 0 && stats.made > 0 { Ok(()) } else { Err(stats) }
    });
    taken
}

/// Hands a webhook over; answers the HTTP status.
pub fn receive(session: &mut Session, body: &str, signature: &str) -> i32 {
    session.value("SELECT wa_webhook_receive($1, $2)", &[&body.as_bytes(), &signature])
}

/// Hands all over.
pub fn deliver(session: &mut Session, simulator: &Simulator) {
    for (body, signature) in webhooks(simulator) {
        assert_eq!(receive(session, &body, &signature), 200);
    }
}

fn plan(simulator: &Simulator, plan: WebhookPlan) {
    simulator.set_webhooks(Some(plan)).expect("a plan that makes sense");
}

pub fn only_sent() -> WebhookPlan {
    WebhookPlan { statuses: vec![StatusStep::now(StatusKind::Sent)], ..WebhookPlan::signed_with(SECRET) }
}

/// An organizer with one message that Meta has and whose answer was lost.
pub fn one_unknown(simulator: &Simulator) -> (Database<'static>, Session, Organizer, uuid::Uuid) {
    let database = Cluster::shared().database_sending_to(simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, ACCOUNT);
    set_faults(simulator, vec![FaultRule::first(1, Action::ResetAfterAccept)]);
    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    organizer.wait_for_count(&mut session, "unknown", 1);
    (database, session, organizer, id)
}

/// Everything that a webhook may change.
fn everything(session: &mut Session) -> Vec<String> {
    session.values(
        "SELECT q::text FROM whatsapp_queue AS q UNION ALL SELECT l::text FROM whatsapp_delivery_logs AS l
         UNION ALL SELECT c::text FROM whatsapp_contacts AS c UNION ALL SELECT h::text FROM whatsapp_holds AS h
         UNION ALL SELECT p::text FROM whatsapp_pacing AS p ORDER BY 1",
        &[],
    )
}

#[test]
fn a_sent_status_resolves_an_unknown_message_and_is_in_the_log() {
    let simulator = simulator();
    plan(&simulator, only_sent());
    let (_database, mut session, _organizer, id) = one_unknown(&simulator);

    deliver(&mut session, &simulator);

    let row = session
        .query_one(
            "SELECT q.status, q.meta_message_id LIKE 'wamid.%', q.error_code, q.error_message, q.sent_at IS NOT NULL,
                    (SELECT string_agg(format('%s %s', l.source, l.status), ', ' ORDER BY l.source)
                     FROM whatsapp_delivery_logs AS l WHERE l.queue_id = q.id)
             FROM whatsapp_queue AS q WHERE q.id = $1",
            &[&id],
        )
        .expect("the message");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1), row.get::<_, bool>(4)), ("sent", true, true));
    assert_eq!((row.get::<_, Option<&str>>(2), row.get::<_, Option<&str>>(3)), (None, None));
    assert_eq!(row.get::<_, &str>(5), "send unknown, webhook sent");
    assert_eq!(simulator.accepted(&id.to_string()), 1);
}

#[test]
fn statuses_that_come_before_the_outcome_is_recorded_count_as_well() {
    let simulator = simulator();
    let phones = numbers(3);
    let failure = |phone: &str, after_sent| AsyncFailure {
        to: Some(phone.to_owned()),
        after_sent,
        ..AsyncFailure::always(131_026)
    };
    let failures = vec![failure(&phones[1], false), failure(&phones[2], true)];
    plan(&simulator, WebhookPlan { early: true, failures, ..only_sent() });
    let cluster = serving(&simulator)
        .setting("whatsapp_pg.request_timeout", "'2s'")
        .setting("whatsapp_pg.poll_interval", "'1s'")
        .start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, ACCOUNT);
    let hang = FaultRule { accept: Some(true), ..FaultRule::always(Action::Hang { ms: 4_000 }) };
    set_faults(&simulator, vec![hang]);

    organizer.enqueue(&mut session, &phones);
    wait_for_accepted(&simulator, 3);
    deliver(&mut session, &simulator);
    assert_eq!(simulator.stats().in_flight, 3, "the calls are still under way");
    session.wait_for(
        "all ends to be known",
        "SELECT count(*) = 3 FROM whatsapp_queue WHERE status IN ('sent', 'failed')",
        &[],
    );

    let ends: Vec<String> =
        session.values("SELECT concat_ws(' ', status, error_code) FROM whatsapp_queue ORDER BY recipient_phone", &[]);
    assert_eq!(
        ends,
        ["sent", "failed 131026", "failed 131026"],
        "what Meta said, the last of them sent before it failed"
    );
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn a_failed_status_makes_an_unknown_message_failed_with_code_and_words() {
    let simulator = simulator();
    plan(&simulator, WebhookPlan { failures: vec![AsyncFailure::always(131_026)], ..only_sent() });
    let (_database, mut session, _organizer, id) = one_unknown(&simulator);

    deliver(&mut session, &simulator);

    let row = session
        .query_one(
            "SELECT state, error_code, error <> '', next_step <> '' FROM whatsapp_messages WHERE id = $1",
            &[&id],
        )
        .expect("the message");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("failed", "131026"));
    assert!(row.get::<_, bool>(2) && row.get::<_, bool>(3));
}

#[test]
fn a_message_that_fails_after_it_was_accepted_has_failed_and_what_it_means_for_others_holds() {
    let simulator = simulator();
    let failure =
        |code, phone: &str| AsyncFailure { to: Some(phone.to_owned()), after_sent: true, ..AsyncFailure::always(code) };
    let phones = numbers(3);
    plan(
        &simulator,
        WebhookPlan { failures: vec![failure(131_026, &phones[0]), failure(131_042, &phones[1])], ..only_sent() },
    );
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, ACCOUNT);
    organizer.enqueue(&mut session, &phones);
    organizer.wait_for_count(&mut session, "sent", 3);

    deliver(&mut session, &simulator);

    let failed: Vec<String> = session.values(
        "SELECT error_code FROM whatsapp_queue WHERE status = 'failed' AND error_message <> '' ORDER BY 1",
        &[],
    );
    assert_eq!(failed, ["131026", "131042"]);
    assert_eq!(session.value::<i32>("SELECT undeliverable FROM whatsapp_contacts", &[]), 1);
    let hold: String = session.value("SELECT concat_ws(' ', scope, code) FROM whatsapp_holds", &[]);
    assert_eq!(hold, "account 131042", "a payment problem");
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    session.wait_for(
        "the message to be held",
        "SELECT next_step LIKE 'held%' FROM whatsapp_messages WHERE state = 'queued'",
        &[],
    );
    assert_eq!(simulator.stats().requests, 3);
}

#[test]
fn a_wrong_signature_is_answered_with_401_and_changes_nothing() {
    let simulator = simulator();
    plan(&simulator, only_sent());
    let (_database, mut session, organizer, _) = one_unknown(&simulator);
    // One that must not be tried: an account without an app secret.
    Organizer::create(&mut session);
    let (body, signature) = webhooks(&simulator).remove(0);
    let before = everything(&mut session);

    let flipped = if signature.ends_with('0') { "1" } else { "0" };
    let almost = format!("{}{flipped}", &signature[..signature.len() - 1]);
    for (body, signature) in [
        (body.as_str(), almost.as_str()),
        (&body, ""),
        (&body, "sha256="),
        (&body, &signature[7..]),
        (&body, &signature.replace("sha256", "sha1")),
        (&format!("{body} "), &signature),
        (&body.replace("\"sent\"", "\"failed\""), &signature),
        (&body.replace(&organizer.phone_number_id, "106099999999999"), &signature),
        ("", &signature),
        ("{}", &signature),
        ("no JSON", &signature),
        ("{\"object\":\"whatsapp_business_account\",\"entry\":[]}", &signature),
    ] {
        assert_eq!(receive(&mut session, body, signature), 401, "{signature} of {body}");
    }
    assert_eq!(session.value::<i32>("SELECT wa_webhook_receive('\\xff00ff', $1)", &[&signature]), 401);
    for call in ["wa_webhook_receive(NULL, 'x')", "wa_webhook_receive('x', NULL)"] {
        assert_eq!(session.refusal(&format!("SELECT {call}"), &[]).sqlstate, "22004");
    }
    assert_eq!(everything(&mut session), before);

    assert_eq!(receive(&mut session, &body, &signature), 200, "the true one is taken");
}

#[test]
fn repeated_and_reordered_statuses_come_to_the_same_end() {
    let simulator = simulator();
    plan(
        &simulator,
        WebhookPlan { duplicates: 1.0, shuffle: true, batch: 1, seed: 7, ..WebhookPlan::signed_with(SECRET) },
    );
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, ACCOUNT);
    set_faults(&simulator, vec![FaultRule::first(10, Action::ResetAfterAccept)]);
    organizer.enqueue(&mut session, &numbers(20));
    organizer.wait_for_count(&mut session, "sent", 10);
    organizer.wait_for_count(&mut session, "unknown", 10);

    let all = webhooks(&simulator);
    assert_eq!(all.len(), 20 * 3 * 2);
    for (body, signature) in all.iter().rev().chain(&all) {
        assert_eq!(receive(&mut session, body, signature), 200);
    }

    assert_eq!(organizer.count(&mut session, "sent"), 20);
    let log: Vec<String> = session.values(
        "SELECT format('%s %s', status, count(*)) FROM whatsapp_delivery_logs WHERE source = 'webhook'
         GROUP BY status ORDER BY 1",
        &[],
    );
    assert_eq!(log, ["delivered 20", "read 20", "sent 20"], "each once");
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn two_sessions_that_take_the_same_webhooks_at_once_count_them_once() {
    let simulator = simulator();
    plan(&simulator, WebhookPlan::signed_with(SECRET));
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, ACCOUNT);
    organizer.enqueue(&mut session, &numbers(200));
    organizer.wait_for_count(&mut session, "sent", 200);
    let all = webhooks(&simulator);

    std::thread::scope(|scope| {
        for turn in 0..4 {
            let (database, all) = (&database, &all);
            scope.spawn(move || {
                let mut session = database.connect();
                let order: Vec<&Webhook> =
                    if turn % 2 == 0 { all.iter().collect() } else { all.iter().rev().collect() };
                for (body, signature) in order {
                    assert_eq!(receive(&mut session, body, signature), 200);
                }
            });
        }
    });

    let counted: i64 = session.value("SELECT count(*) FROM whatsapp_delivery_logs WHERE source = 'webhook'", &[]);
    assert_eq!(counted, 600);
}

#[test]
fn a_hostile_organizer_reports_nothing_about_anothers_messages_and_holds_nothing_of_his() {
    let simulator = simulator();
    let (_database, mut session, victim, id) = one_unknown(&simulator);
    victim.enqueue(&mut session, &["+447400123456".into()]);
    victim.wait_for_count(&mut session, "sent", 1);
    // He owns an account with the same number (an operator may allow that), his own app secret, and an own message.
    let hostile = Organizer { phone_number_id: victim.phone_number_id.clone(), ..Organizer::create(&mut session) };
    hostile.configure(&mut session, "app_secret => 'his', rate_limit_tier => 'unlimited', messages_per_second => 1000");
    hostile.enqueue(&mut session, &["+447400123457".into()]);
    hostile.wait_for_count(&mut session, "sent", 1);
    let of_victim = "SELECT q::text FROM whatsapp_queue AS q WHERE user_id = $1
                     UNION ALL SELECT l::text FROM whatsapp_delivery_logs AS l WHERE user_id = $1
                     UNION ALL SELECT c::text FROM whatsapp_contacts AS c WHERE user_id = $1 ORDER BY 1";
    let before: Vec<String> = session.values(of_victim, &[&victim.id]);

    set_faults(&simulator, vec![]);
    // The simulator signs for him what he likes: statuses of the victim's messages under the shared and under his number.
    for (failures, statuses) in [(vec![AsyncFailure::always(131_026)], vec![]), (vec![], only_sent().statuses)] {
        let his = WebhookPlan { app_secret: "his".into(), failures, statuses, ..WebhookPlan::default() };
        plan(&simulator, his);
        let forged = forged_statuses(&simulator, &victim, id);
        for (body, signature) in &forged {
            assert!(body.contains(&id.to_string()), "{body}");
            assert_eq!(receive(&mut session, body, signature), 200, "it is his own account's signature");
        }
        assert!(!forged.is_empty());
    }

    assert_eq!(session.values::<String>(of_victim, &[&victim.id]), before);
    assert_eq!(victim.count(&mut session, "unknown"), 1);
}

/// Statuses about this message of the victim's, signed as the simulator's plan says.
fn forged_statuses(simulator: &Simulator, victim: &Organizer, id: uuid::Uuid) -> Vec<Webhook> {
    use std::io::{Read, Write};
    let body = serde_json::json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": numbers(1)[0], "type": "template",
        "biz_opaque_callback_data": id.to_string(),
        "template": {"name": "any", "language": {"code": "en"}}
    })
    .to_string();
    let mut stream = std::net::TcpStream::connect(simulator.address().expect("plain HTTP")).expect("it listens");
    let head = format!(
        "POST /v25.0/{}/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer any\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        victim.phone_number_id,
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("it takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    webhooks(simulator)
}
