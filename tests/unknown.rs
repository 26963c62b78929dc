//! Messages of unknown outcome: never sent twice in silence. Meta's word, the organizer's policy or a person decides.

use graph_simulator::{Action, AsyncFailure, FaultRule, Match, Simulator, WebhookPlan};
use harness::fixtures::{numbers, serving, simulator};
use harness::{Cluster, Organizer, Session};
use uuid::Uuid;

use crate::holds::set_faults;
use crate::webhook_statuses::{ACCOUNT, deliver, one_unknown, only_sent, receive, webhooks};

/// A server that settles what is unknown after a second.
fn impatient(simulator: &Simulator) -> Cluster {
    serving(simulator).setting("whatsapp_pg.poll_interval", "'1s'").setting("whatsapp_pg.unknown_wait", "'1s'").start()
}

fn with_policy(session: &mut Session, policy: &str) -> Organizer {
    let organizer = Organizer::with_account(session, ACCOUNT);
    session.execute_with("SELECT wa_set_policy(user_id => $1, on_unknown => $2)", &[&organizer.id, &policy]);
    organizer
}

/// The answers to this organizer's next messages are lost.
fn lose_answers(organizer: &Organizer, count: u64) -> FaultRule {
    let matching =
        Match { phone_number_id: Some(organizer.phone_number_id.clone()), first: Some(count), ..Match::default() };
    FaultRule { matching, action: Action::ResetAfterAccept, accept: None }
}

fn enqueue_lost(session: &mut Session, simulator: &Simulator, organizer: &Organizer) -> Uuid {
    set_faults(simulator, vec![lose_answers(organizer, 1)]);
    let id = organizer.enqueue(session, &numbers(1))[0];
    session.wait_for("it to be unknown", "SELECT status = 'unknown' FROM whatsapp_queue WHERE id = $1", &[&id]);
    id
}

/// Waits until the worker has applied the policies to messages that became unknown just now.
fn wait_for_policies(session: &mut Session, simulator: &Simulator) {
    let witness = with_policy(session, "fail");
    enqueue_lost(session, simulator, &witness);
    witness.wait_for_count(session, "failed", 1);
}

#[test]
fn a_request_that_was_written_and_not_answered_in_time_is_unknown_and_stays_so_by_default() {
    let simulator = simulator();
    let cluster = serving(&simulator)
        .setting("whatsapp_pg.poll_interval", "'1s'")
        .setting("whatsapp_pg.unknown_wait", "'1s'")
        .setting("whatsapp_pg.request_timeout", "'300ms'")
        .start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, ACCOUNT);
    let hang = FaultRule { accept: Some(true), ..FaultRule::first(1, Action::Hang { ms: 2_000 }) };
    set_faults(&simulator, vec![hang]);

    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    organizer.wait_for_count(&mut session, "unknown", 1);
    wait_for_policies(&mut session, &simulator);

    assert_eq!((organizer.count(&mut session, "unknown"), simulator.accepted(&id.to_string())), (1, 1));
    let told: bool = session.value(
        "SELECT error_code = 'outcome_unknown' AND error <> '' AND next_step <> '' FROM whatsapp_messages WHERE id = $1",
        &[&id],
    );
    assert!(told);
}

#[test]
fn the_policy_fail_fails_it_after_the_wait_and_a_late_status_still_corrects_that() {
    let simulator = simulator();
    simulator.set_webhooks(Some(only_sent())).expect("a plan that makes sense");
    let cluster = impatient(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = with_policy(&mut session, "fail");

    let id = enqueue_lost(&mut session, &simulator, &organizer);
    organizer.wait_for_count(&mut session, "failed", 1);
    let row = session
        .query_one(
            "SELECT error_code, error_message, updated_at - created_at >= interval '1 second' FROM whatsapp_queue",
            &[],
        )
        .expect("the row");
    assert_eq!(row.get::<_, &str>(0), "outcome_unknown");
    assert!(!row.get::<_, String>(1).is_empty() && row.get::<_, bool>(2), "not before unknown_wait");

    deliver(&mut session, &simulator);
    assert_eq!(organizer.count(&mut session, "sent"), 1);
    assert_eq!(simulator.accepted(&id.to_string()), 1);
}

#[test]
fn the_policy_resend_sends_again_only_when_a_status_for_a_later_message_has_come() {
    let simulator = simulator();
    simulator.set_webhooks(Some(only_sent())).expect("a plan that makes sense");
    let cluster = impatient(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = with_policy(&mut session, "resend");

    // A status for an earlier message proves nothing about this one's.
    let earlier = organizer.enqueue(&mut session, &["+447400123456".into()])[0];
    organizer.wait_for_count(&mut session, "sent", 1);
    let of_earlier = webhooks(&simulator);
    let lost = enqueue_lost(&mut session, &simulator, &organizer);
    let of_lost = webhooks(&simulator);
    for (body, signature) in &of_earlier {
        assert!(body.contains(&earlier.to_string()));
        assert_eq!(receive(&mut session, body, signature), 200);
    }
    wait_for_policies(&mut session, &simulator);
    assert_eq!((organizer.count(&mut session, "unknown"), simulator.accepted(&lost.to_string())), (1, 1));
    webhooks(&simulator);

    // One for a later message does.
    set_faults(&simulator, vec![]);
    organizer.enqueue(&mut session, &["+447400123457".into()]);
    organizer.wait_for_count(&mut session, "sent", 2);
    deliver(&mut session, &simulator);
    organizer.wait_for_count(&mut session, "sent", 3);
    assert_eq!(simulator.accepted(&lost.to_string()), 2);
    let log: Vec<String> = session.values(
        "SELECT format('%s %s %s', source, status, error_code) FROM whatsapp_delivery_logs WHERE queue_id = $1
         ORDER BY \"timestamp\", attempt",
        &[&lost],
    );
    assert_eq!(log, ["send unknown outcome_unknown", "worker returned resent", "send sent "], "nothing is silent");
    assert_eq!(session.value::<i32>("SELECT retry_count FROM whatsapp_queue WHERE id = $1", &[&lost]), 1);
    for (body, signature) in &of_lost {
        assert_eq!(receive(&mut session, body, signature), 200, "the status that came too late does no harm");
    }
    assert_eq!(organizer.count(&mut session, "sent"), 3);
}

#[test]
fn the_failure_of_one_unknown_message_is_no_sign_about_a_later_one() {
    let simulator = simulator();
    let failed = WebhookPlan { failures: vec![AsyncFailure::always(131_026)], ..only_sent() };
    simulator.set_webhooks(Some(failed)).expect("a plan that makes sense");
    let cluster = impatient(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = with_policy(&mut session, "resend");

    let first = enqueue_lost(&mut session, &simulator, &organizer);
    let of_first = webhooks(&simulator);
    set_faults(&simulator, vec![lose_answers(&organizer, 1)]);
    let second = organizer.enqueue(&mut session, &["+447400123457".into()])[0];
    organizer.wait_for_count(&mut session, "unknown", 2);
    for (body, signature) in &of_first {
        assert!(body.contains(&first.to_string()));
        assert_eq!(receive(&mut session, body, signature), 200);
    }
    wait_for_policies(&mut session, &simulator);

    assert_eq!((organizer.count(&mut session, "failed"), organizer.count(&mut session, "unknown")), (1, 1));
    assert_eq!(simulator.accepted(&second.to_string()), 1);
}

#[test]
fn wa_retry_sends_an_unknown_message_again_only_when_forced() {
    let simulator = simulator();
    let (_database, mut session, organizer, id) = one_unknown(&simulator);

    let refusal = session.refusal("SELECT wa_retry($1)", &[&id]);
    assert_eq!(refusal.sqlstate, "55000", "{refusal:#?}");
    assert!(refusal.mentions("force") && refusal.mentions("twice"), "{refusal:#?}");
    assert_eq!(organizer.count(&mut session, "unknown"), 1);

    session.execute_with("SELECT wa_retry(id => $1, force => true)", &[&id]);
    organizer.wait_for_count(&mut session, "sent", 1);
    assert_eq!(simulator.accepted(&id.to_string()), 2, "somebody wanted it");
    let noted: bool = session.value(
        "SELECT bool_or(source = 'person' AND error_message ~ 'postgres') FROM whatsapp_delivery_logs WHERE queue_id = $1",
        &[&id],
    );
    assert!(noted, "who did it is in the log");
}
