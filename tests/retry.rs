//! Deciding about single messages: `wa_retry`, `wa_wait`, and an organizer's own policy for retries.

use std::time::{Duration, Instant};

use graph_simulator::{Latency, Match, Simulator};
use harness::fixtures::{numbers, reminder_variables, serving, simulator, wait_for_in_flight};
use harness::wait::PATIENCE;
use harness::{Cluster, Organizer, Refusal, Session, wait_until};
use serde_json::json;
use uuid::Uuid;

use crate::holds::{error_for, set_faults};

const STATUS: &str = "SELECT status FROM whatsapp_queue WHERE id = $1";

fn wait_for_status(session: &mut Session, id: Uuid, status: &str) {
    session.wait_for_value(&status.to_owned(), STATUS, &[&id]);
}

fn sent_parameters(simulator: &Simulator) -> Vec<String> {
    let request = simulator.messages(1).pop().expect("a request");
    let parameters = request.body["template"]["components"][0]["parameters"].as_array().expect("parameters").clone();
    parameters.iter().map(|parameter| parameter["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_failed_message_is_sent_again_with_mended_variables() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    set_faults(&simulator, vec![error_for(Match { first: Some(1), ..Match::default() }, 132_018)]);
    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    wait_for_status(&mut session, id, "failed");

    for bad in [json!({"no_such_name": "x"}), json!({"event_name": ""}), json!([]), json!("text")] {
        let refusal = session.refusal("SELECT wa_retry($1, $2)", &[&id, &bad]);
        assert_eq!(refusal.sqlstate, "22023", "{bad}: {refusal:#?}");
        assert!(!refusal.detail.is_empty() && !refusal.hint.is_empty(), "{refusal:#?}");
    }
    assert_eq!(session.value::<String>(STATUS, &[&id]), "failed");

    let row = session
        .query_one("SELECT status, retry_count FROM wa_retry($1, $2)", &[&id, &json!({"event_name": "Rust Day"})])
        .expect("it answers the row");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), ("queued", 0));
    wait_for_status(&mut session, id, "sent");
    assert_eq!(sent_parameters(&simulator), ["John Doe", "Rust Day", "2025-03-15 10:00 AM"]);
    let log: Vec<String> = session.values(
        "SELECT format('%s %s %s', source, status, error_code) FROM whatsapp_delivery_logs ORDER BY \"timestamp\", attempt",
        &[],
    );
    assert_eq!(log, ["send failed 132018", "person queued 132018", "send sent "]);
}

#[test]
fn a_message_that_waits_for_its_retry_carries_code_words_and_time_and_wa_retry_sends_it_at_once() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    set_faults(&simulator, vec![error_for(Match { first: Some(1), ..Match::default() }, 131_000)]);
    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    session.wait_for("the retry to be planned", "SELECT retry_count = 1 FROM whatsapp_queue", &[]);

    let row = session
        .query_one(
            "SELECT error_code, error <> '', next_step, scheduled_for BETWEEN now() + interval '4 minutes' AND now() + interval '6 minutes',
                    attempts FROM whatsapp_messages",
            &[],
        )
        .expect("the message");
    assert_eq!(row.get::<_, &str>(0), "131000");
    assert!(row.get::<_, bool>(1) && row.get::<_, &str>(2).starts_with("leaves at "), "{}", row.get::<_, &str>(2));
    assert!(row.get::<_, bool>(3), "five minutes by default");
    session.execute_with("SELECT wa_retry($1)", &[&id]);
    wait_for_status(&mut session, id, "sent");
    assert_eq!(simulator.stats().requests, 2);
}

#[test]
fn what_was_accepted_or_is_on_its_way_is_not_sent_again_and_what_was_cancelled_is() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let explained = |refusal: &Refusal, word: &str| {
        assert_eq!(refusal.sqlstate, "55000", "{refusal:#?}");
        assert!(refusal.mentions(word) && !refusal.hint.is_empty(), "{refusal:#?}");
    };

    let sent = organizer.enqueue(&mut session, &numbers(1))[0];
    wait_for_status(&mut session, sent, "sent");
    for call in ["wa_retry($1)", "wa_retry(id => $1, force => true)"] {
        explained(&session.refusal(&format!("SELECT {call}"), &[&sent]), "accepted");
    }
    simulator.set_latency(Latency::fixed(1_000));
    let sending = organizer.enqueue(&mut session, &["+447400123456".into()])[0];
    wait_for_in_flight(&simulator, 1);
    explained(&session.refusal("SELECT wa_retry(id => $1, force => true)", &[&sending]), "being sent");
    wait_for_status(&mut session, sending, "sent");
    assert_eq!((simulator.stats().accepted, simulator.stats().duplicates), (2, 0));

    simulator.set_latency(Latency::fixed(0));
    let cancelled: Uuid = session.value(
        "SELECT id FROM wa_enqueue(user_id => $1, recipient => '+447400123457', template_name => 'event_reminder_24h',
                                   variables => $2, scheduled_for => now() + interval '1 day')",
        &[&organizer.id, &reminder_variables()],
    );
    session.execute_with("SELECT wa_cancel(id => $1)", &[&cancelled]);
    session.execute_with("SELECT wa_retry($1)", &[&cancelled]);
    wait_for_status(&mut session, cancelled, "sent");
}

#[test]
fn two_sessions_that_retry_the_same_message_send_it_once() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    set_faults(&simulator, vec![error_for(Match { first: Some(10), ..Match::default() }, 132_018)]);
    let ids = organizer.enqueue(&mut session, &numbers(10));
    organizer.wait_for_count(&mut session, "failed", 10);

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = database.connect();
                for id in &ids {
                    // Refused when another was faster.
                    let _ = session.query("SELECT wa_retry($1)", &[id]);
                }
            });
        }
    });
    organizer.wait_for_count(&mut session, "sent", 10);
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn another_organizers_message_does_not_exist() {
    let cluster = Cluster::builder().preloaded().setting("whatsapp_pg.mode", "off").start();
    let database = cluster.database();
    let mut session = database.connect();
    let (ana, luis) = (Organizer::create(&mut session), Organizer::create(&mut session));
    session.run("CREATE ROLE ana LOGIN; CREATE ROLE stranger LOGIN");
    session.execute_with("SELECT wa_grant_organizer('ana', $1)", &[&ana.id]);
    let (hers, his) = (ana.enqueue(&mut session, &numbers(1))[0], luis.enqueue(&mut session, &numbers(1))[0]);
    session.run("UPDATE whatsapp_queue SET status = 'failed'");
    let mut as_ana = database.connect_as("ana");

    for call in ["wa_retry($1)", "wa_wait($1)"] {
        let of_his = as_ana.refusal(&format!("SELECT {call}"), &[&his]);
        let of_none = as_ana.refusal(&format!("SELECT {call}"), &[&Uuid::new_v4()]);
        assert_eq!((of_his.sqlstate.as_str(), of_none.sqlstate.as_str()), ("42704", "42704"), "{of_his:#?}");
        assert_eq!((of_his.detail, of_his.hint), (of_none.detail, of_none.hint), "the answer does not tell them apart");
    }
    let refusal = database.connect_as("stranger").refusal("SELECT wa_retry($1)", &[&hers]);
    assert_eq!(refusal.sqlstate, "42501", "{refusal:#?}");
    assert_eq!(luis.count(&mut session, "failed"), 1);
    as_ana.execute_with("SELECT wa_retry($1)", &[&hers]);
    assert_eq!(ana.count(&mut session, "queued"), 1);
    for call in ["wa_retry(NULL)", "wa_retry(NULL, '{}')", "wa_wait(NULL)", "wa_wait(gen_random_uuid(), NULL)"] {
        assert_eq!(session.refusal(&format!("SELECT {call}"), &[]).sqlstate, "22004", "{call}");
    }
}

#[test]
fn wa_wait_answers_when_the_message_is_sent_and_after_the_timeout_what_it_is_then() {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(500));
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    let began = Instant::now();
    assert_eq!(session.value::<String>("SELECT wa_wait($1)", &[&id]), "sent");
    assert!((300..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(session.value::<String>("SELECT wa_wait($1, '0')", &[&id]), "sent");

    session.execute_with("SELECT wa_pause(user_id => $1)", &[&organizer.id]);
    let held = organizer.enqueue(&mut session, &["+447400123456".into()])[0];
    let began = Instant::now();
    assert_eq!(session.value::<String>("SELECT wa_wait($1, '400 milliseconds')", &[&held]), "queued");
    assert!((350..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(session.value::<String>("SELECT wa_wait($1, '0')", &[&held]), "queued");
    let refusal = session.refusal("SELECT wa_wait($1, '-1 second')", &[&held]);
    assert_eq!(refusal.sqlstate, "22023", "{refusal:#?}");
}

#[test]
fn wa_wait_refuses_to_wait_for_what_cannot_happen() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let committed = organizer.enqueue(&mut session, &numbers(1))[0];
    let mut refused = |begin: &str, committed: Option<Uuid>| {
        session.run(begin);
        let id = committed.unwrap_or_else(|| organizer.enqueue(&mut session, &["+447400123456".into()])[0]);
        let began = Instant::now();
        let refusal = session.refusal("SELECT wa_wait($1, '3 seconds')", &[&id]);
        session.run("ROLLBACK");
        assert_eq!(refusal.sqlstate, "55000", "{begin}: {refusal:#?}");
        assert!(!refusal.detail.is_empty() && !refusal.hint.is_empty() && began.elapsed() < Duration::from_secs(2));
    };

    refused("BEGIN", None);
    refused("BEGIN; SAVEPOINT s", None);
    refused("BEGIN ISOLATION LEVEL REPEATABLE READ", Some(committed));
    refused("BEGIN ISOLATION LEVEL SERIALIZABLE", Some(committed));
}

#[test]
fn wa_wait_can_be_cancelled_and_keeps_statement_timeout() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id = organizer.enqueue(&mut session, &numbers(1))[0];

    session.run("SET statement_timeout = '300ms'");
    let began = Instant::now();
    assert_eq!(session.refusal("SELECT wa_wait($1, '1 minute')", &[&id]).sqlstate, "57014");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    session.run("RESET statement_timeout");

    let pid = session.backend_pid();
    let mut other = database.connect();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| session.refusal("SELECT wa_wait($1, '1 minute')", &[&id]).sqlstate);
        wait_until("it to wait and be cancelled", PATIENCE, || {
            other.execute_with(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND query ~ 'wa_wait' AND state = 'active'",
                &[&pid],
            );
            if waiting.is_finished() { Ok(()) } else { Err("it waits") }
        });
        assert_eq!(waiting.join().expect("no panic"), "57014");
    });
}

#[test]
fn each_organizer_has_its_own_retries() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.retry_delay", "'1h'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let [twice, never, usual] = [(); 3].map(|()| Organizer::create(&mut session));
    session.execute_with(
        "SELECT wa_set_policy(user_id => $1, max_retries => 2, retry_delay => '1 second'), wa_set_policy($2, max_retries => 0)",
        &[&twice.id, &never.id],
    );
    set_faults(&simulator, vec![error_for(Match::default(), 131_000)]);

    for organizer in [&twice, &never, &usual] {
        organizer.enqueue(&mut session, &numbers(1));
    }
    twice.wait_for_count(&mut session, "failed", 1);
    never.wait_for_count(&mut session, "failed", 1);

    let attempts = |session: &mut Session, organizer: &Organizer| {
        session.value::<i64>(
            "SELECT count(*) FROM whatsapp_delivery_logs WHERE user_id = $1 AND error_code = '131000' AND error_message <> ''",
            &[&organizer.id],
        )
    };
    assert_eq!((attempts(&mut session, &twice), attempts(&mut session, &never)), (3, 1));
    let gaps: Vec<f64> = session.values(
        "SELECT extract(epoch FROM l.\"timestamp\" - lag(l.\"timestamp\") OVER (ORDER BY attempt))::float8
         FROM whatsapp_delivery_logs AS l WHERE user_id = $1 ORDER BY attempt OFFSET 1",
        &[&twice.id],
    );
    assert!((0.85..2.0).contains(&gaps[0]) && (1.75..3.5).contains(&gaps[1]), "1 s, then 2 s: {gaps:?}");
    let planned: bool = session.value(
        "SELECT status = 'queued' AND retry_count = 1 AND scheduled_for > now() + interval '50 minutes' FROM whatsapp_queue WHERE user_id = $1",
        &[&usual.id],
    );
    assert!(planned);
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_and_what_is_null_stays() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.execute_with(
        "SELECT wa_set_policy(user_id => $1, max_retries => 7, retry_delay => '10 seconds', on_unknown => 'resend')",
        &[&organizer.id],
    );
    session.execute_with("SELECT wa_set_policy($1)", &[&organizer.id]);
    for wrong in [
        "max_retries => 21",
        "max_retries => -1",
        "retry_delay => '0.5 seconds'",
        "retry_delay => '7 hours'",
        "retry_delay => '-1 minute'",
        "on_unknown => 'hope'",
    ] {
        let refusal = session.refusal(&format!("SELECT wa_set_policy(user_id => $1, {wrong})"), &[&organizer.id]);
        assert_eq!(refusal.sqlstate, "22023", "{wrong}: {refusal:#?}");
        assert!(!refusal.detail.is_empty() && !refusal.hint.is_empty(), "{refusal:#?}");
    }
    assert_eq!(session.refusal("SELECT wa_set_policy($1)", &[&Uuid::new_v4()]).sqlstate, "42704");
    assert_eq!(session.refusal("SELECT wa_set_policy(NULL)", &[]).sqlstate, "22004");

    let kept: String =
        session.value("SELECT concat_ws(' ', max_retries, retry_delay, on_unknown) FROM whatsapp_config", &[]);
    assert_eq!(kept, "7 00:00:10 resend");
}
