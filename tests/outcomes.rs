//! What becomes of a message that does not simply leave: retried, failed, unknown, or held by a limit.

use std::time::Duration;

use graph_simulator::{Action, FaultRule, Match, Options, Simulator};
use harness::fixtures::{REMINDER, numbers, reminder_variables, serving, simulator};
use harness::{Cluster, Organizer, most_within};
use uuid::Uuid;

#[test]
fn a_transient_error_is_tried_again_later_and_says_so() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.retry_delay", "'1s'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    simulator
        .set_faults(vec![FaultRule::first(1, Action::Error { code: 131_000, subcode: None, details: None })])
        .expect("a script that makes sense");

    organizer.enqueue(&mut session, &numbers(1));
    session.wait_for(
        "the retry to be planned",
        "SELECT status = 'queued' AND retry_count = 1 AND scheduled_for > created_at AND error_message <> ''
                AND error_code = '131000' FROM whatsapp_queue",
        &[],
    );
    organizer.wait_for_count(&mut session, "sent", 1);

    let log: Vec<String> =
        session.values("SELECT format('%s %s', attempt, status) FROM whatsapp_delivery_logs ORDER BY attempt", &[]);
    assert_eq!(log, ["1 retried", "2 sent"]);
    assert_eq!(session.value::<Option<String>>("SELECT error_message FROM whatsapp_queue", &[]), None);
}

#[test]
fn after_three_retries_a_message_has_failed() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.retry_delay", "'1s'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let down = Action::Error { code: 131_000, subcode: None, details: None };
    simulator.set_faults(vec![FaultRule::always(down)]).expect("a script that makes sense");

    organizer.enqueue(&mut session, &numbers(1));
    organizer.wait_for_count(&mut session, "failed", 1);

    assert_eq!(simulator.stats().requests, 4);
    assert_eq!(session.value::<i32>("SELECT retry_count FROM whatsapp_queue", &[]), 3);
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_delivery_logs", &[]), 4);
}

#[test]
fn a_permanent_error_fails_at_once_with_what_meta_said() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let undeliverable = Action::Error { code: 131_026, subcode: None, details: Some("not on WhatsApp".into()) };
    simulator
        .set_faults(vec![FaultRule {
            matching: Match { to: Some(numbers(1)[0].clone()), ..Match::default() },
            action: undeliverable,
            accept: None,
        }])
        .expect("a script that makes sense");

    organizer.enqueue(&mut session, &numbers(2));
    organizer.wait_for_count(&mut session, "sent", 1);
    organizer.wait_for_count(&mut session, "failed", 1);

    assert_eq!(simulator.stats().requests, 2, "a permanent error is not retried");
    let row = session
        .query_one(
            "SELECT m.error_code, m.error, m.next_step, l.details, l.fbtrace_id IS NOT NULL
             FROM whatsapp_messages AS m JOIN whatsapp_delivery_logs AS l ON l.queue_id = m.id WHERE m.state = 'failed'",
            &[],
        )
        .expect("one failed message");
    assert_eq!(row.get::<_, &str>(0), "131026");
    assert!(!row.get::<_, String>(1).is_empty());
    assert!(!row.get::<_, String>(2).is_empty());
    assert_eq!(row.get::<_, &str>(3), "not on WhatsApp");
    assert!(row.get::<_, bool>(4));
}

#[test]
fn when_the_answer_is_lost_the_outcome_is_unknown_and_nothing_is_sent_again() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    simulator.set_faults(vec![FaultRule::first(1, Action::ResetAfterAccept)]).expect("a script that makes sense");

    let ids = organizer.enqueue(&mut session, &numbers(1));
    organizer.wait_for_count(&mut session, "unknown", 1);
    // Another message goes out, so the worker had its chance.
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    organizer.wait_for_count(&mut session, "sent", 1);

    assert_eq!(simulator.accepted(&ids[0].to_string()), 1);
    assert_eq!(organizer.count(&mut session, "unknown"), 1);
    let explained: bool =
        session.value("SELECT error <> '' AND next_step <> '' FROM whatsapp_messages WHERE state = 'unknown'", &[]);
    assert!(explained);
}

#[test]
fn when_graph_cannot_be_reached_rows_wait_and_nothing_is_lost() {
    let silent = simulator();
    let url = silent.url().to_owned();
    drop(silent);
    let cluster = Cluster::builder()
        .preloaded()
        .setting("whatsapp_pg.graph_url", &format!("'{url}'"))
        .setting("whatsapp_pg.retry_delay", "'1s'")
        .start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    organizer.enqueue(&mut session, &numbers(20));
    session.wait_for(
        "the reason to be written down",
        "SELECT count(*) = 20 FROM whatsapp_queue WHERE status = 'queued' AND error_message ~* 'connect|refused|reach'",
        &[],
    );

    let listen = url.trim_start_matches("http://").parse().expect("an address");
    let simulator =
        Simulator::start(Options { listen: Some(listen), ..Options::default() }).expect("the port is free again");
    organizer.wait_for_count(&mut session, "sent", 20);
    assert_eq!(simulator.stats().accepted_distinct, 20);
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn messages_per_second_of_a_number_are_kept() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let slow = Organizer::with_account(&mut session, "messages_per_second => 20, rate_limit_tier => 'unlimited'");
    let fast = Organizer::create(&mut session);

    slow.enqueue(&mut session, &numbers(70));
    fast.enqueue(&mut session, &numbers(300));
    fast.wait_for_count(&mut session, "sent", 300);
    slow.wait_for_count(&mut session, "sent", 70);

    let most = most_within(&simulator.arrivals(&slow.phone_number_id), Duration::from_millis(900));
    assert!(most <= 20, "{most} messages in 0.9 seconds");
    let seconds: f64 = session.value(
        "SELECT extract(epoch FROM max(sent_at) - min(sent_at))::float8 FROM whatsapp_queue WHERE user_id = $1",
        &[&slow.id],
    );
    assert!((2.0..6.0).contains(&seconds), "70 messages at 20/s took {seconds} s");
}

#[test]
fn a_tier_admits_its_number_of_recipients_and_the_rest_waits_with_the_reason() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000, rate_limit_tier => 'tier_250'");

    organizer.enqueue(&mut session, &numbers(300));
    organizer.wait_for_count(&mut session, "sent", 250);
    session.wait_for(
        "the limit to be reported",
        "SELECT NOT wa_rate_ok($1) AND bool_or(remaining = 0 AND next_admission > now() AND reason <> '')
         FROM wa_rate_status($1)",
        &[&organizer.id],
    );

    assert_eq!(simulator.stats().accepted, 250);
    assert_eq!(organizer.count(&mut session, "queued"), 50);
    assert_eq!(organizer.count(&mut session, "sending"), 0);
}

#[test]
fn an_expired_message_fails_and_is_not_sent() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables, expires_at)
         VALUES ($1, '+573001000000', $2, $3, now() - interval '1 minute')",
        &[&organizer.id, &REMINDER, &reminder_variables()],
    );
    organizer.wait_for_count(&mut session, "failed", 1);

    assert_eq!(simulator.stats().requests, 0);
    assert!(session.value::<bool>("SELECT error_message ~ 'expire' FROM whatsapp_queue", &[]));
}

#[test]
fn an_inserted_row_that_cannot_be_sent_fails_with_the_reason() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables) VALUES
             ($1, 'no number', $2, $3), ($1, '+573001000001', 'no_such_template', '{}'), ($1, '+573001000002', $2, '{}')",
        &[&organizer.id, &REMINDER, &reminder_variables()],
    );
    organizer.wait_for_count(&mut session, "failed", 3);

    assert_eq!(simulator.stats().requests, 0);
    assert!(
        session.value::<bool>("SELECT bool_and(error_message <> '' AND error_code <> '') FROM whatsapp_queue", &[])
    );
}

#[test]
fn rows_of_an_organizer_without_an_account_fail_as_in_the_founding_document() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();

    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name) VALUES ($1, '+573001000000', 'any')",
        &[&Uuid::new_v4()],
    );

    session.wait_for(
        "the row to fail",
        "SELECT status = 'failed' AND error_message ~* 'not configured|wa_configure' FROM whatsapp_queue",
        &[],
    );
}
