//! `wa_audit`: what was used in every way adds up, and planted damage of each kind is found.

use std::collections::BTreeSet;

use graph_simulator::{Action, FaultRule, Match};
use harness::fixtures::{REMINDER, numbers, reminder_variables, simulator};
use harness::{Cluster, Organizer, Session};

use crate::enqueue::ENQUEUE;

const ALL: [&str; 10] =
    ["ledger", "balance", "open", "unknown", "rows", "days", "attempts", "acceptance", "accepted once", "outcome"];

/// Checks that fail, by the form of the audit.
fn wrong(session: &mut Session, full: bool) -> BTreeSet<String> {
    session.values("SELECT DISTINCT check_name FROM wa_audit($1) WHERE NOT ok", &[&full]).into_iter().collect()
}

/// An organizer whose messages are in every state a worker and people can bring them to.
fn used_in_every_way(session: &mut Session, simulator: &graph_simulator::Simulator) -> Organizer {
    let organizer = Organizer::create(session);
    simulator
        .set_faults(vec![
            FaultRule {
                matching: Match { to: Some("+573001000001".into()), ..Match::default() },
                action: Action::Error { code: 131_026, subcode: None, details: None },
                accept: None,
            },
            FaultRule {
                matching: Match { to: Some("+573001000002".into()), ..Match::default() },
                action: Action::ResetAfterAccept,
                accept: None,
            },
        ])
        .expect("a script that makes sense");
    organizer.enqueue(session, &numbers(10));
    session.execute_with(
        "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                                         scheduled_for => now() + interval '1 day')",
        &[&organizer.id, &vec!["+447400123456", "+447400123457", "+447400123458"], &REMINDER, &reminder_variables()],
    );
    session.run(
        "SELECT wa_cancel(id => id) FROM whatsapp_queue WHERE recipient_phone = '+447400123457';
         DELETE FROM whatsapp_queue WHERE recipient_phone = '+447400123458'",
    );
    organizer.wait_for_count(session, "sent", 8);
    organizer.wait_for_count(session, "failed", 1);
    organizer.wait_for_count(session, "unknown", 1);
    organizer
}

#[test]
fn a_queue_that_was_used_in_every_way_adds_up() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    used_in_every_way(&mut session, &simulator);

    let rows = session.rows("SELECT check_name, user_id IS NULL, expected, found, ok FROM wa_audit(true)", &[]);
    let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ALL);
    for row in &rows {
        let (expected, found): (i64, i64) = (row.get(2), row.get(3));
        assert!(row.get::<_, bool>(1) && expected == found && row.get::<_, bool>(4), "{row:?}");
    }
    let total: i64 = session.value("SELECT found FROM wa_audit() WHERE check_name = 'rows'", &[]);
    assert_eq!(total, 12);
    let quick: Vec<String> = session.values("SELECT check_name FROM wa_audit()", &[]);
    assert_eq!(quick, ALL[..5]);
}

#[test]
fn planted_damage_of_each_kind_is_found() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    used_in_every_way(&mut session, &simulator);
    // Without triggers, as a careless superuser or a broken disk would do it.
    let damages = [
        ("a waiting row deleted", "DELETE FROM whatsapp_queue WHERE status = 'queued'", "open rows", "days"),
        ("a sent row deleted", "DELETE FROM whatsapp_queue WHERE recipient_phone = '+573001000000'", "rows", "days"),
        (
            "a row inserted",
            "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name)
             VALUES (gen_random_uuid(), '+573001000000', 'x')",
            "open rows",
            "days",
        ),
        (
            "an unknown outcome made a failure",
            "UPDATE whatsapp_queue SET status = 'failed' WHERE status = 'unknown'",
            "unknown",
            "days",
        ),
        (
            "a failure made a success",
            "UPDATE whatsapp_queue SET status = 'sent' WHERE status = 'failed'",
            "",
            "days acceptance",
        ),
        (
            "the log of an acceptance removed",
            "DELETE FROM whatsapp_delivery_logs WHERE id = (SELECT id FROM whatsapp_delivery_logs WHERE status = 'sent' LIMIT 1)",
            "",
            "attempts acceptance",
        ),
        (
            "the log of a failure removed",
            "DELETE FROM whatsapp_delivery_logs WHERE status = 'failed'",
            "",
            "attempts outcome",
        ),
        (
            "the log of an acceptance doubled",
            "INSERT INTO whatsapp_delivery_logs (queue_id, status, source, attempt)
             SELECT queue_id, status, source, attempt FROM whatsapp_delivery_logs WHERE status = 'sent' LIMIT 1",
            "",
            "attempts accepted_once",
        ),
        (
            "another acceptance reported by Meta",
            "INSERT INTO whatsapp_delivery_logs (queue_id, status, source, meta_message_id)
             SELECT queue_id, 'delivered', 'webhook', 'wamid.another' FROM whatsapp_delivery_logs WHERE status = 'sent' LIMIT 1",
            "",
            "accepted_once",
        ),
        (
            "a line of what was removed taken from the ledger",
            "DELETE FROM whatsapp_ledger WHERE cause = 'delete'",
            "open rows",
            "days",
        ),
        (
            "a line of the worker's taken from the ledger",
            "DELETE FROM whatsapp_ledger WHERE cause = 'worker' AND state = 'failed'",
            "open",
            "days",
        ),
        (
            "a line added to the ledger",
            "INSERT INTO whatsapp_ledger (user_id, day, state, change, cause)
             SELECT user_id, day, 'sent', -100, 'update' FROM whatsapp_ledger LIMIT 1",
            "ledger balance rows",
            "days",
        ),
    ];
    let set =
        |names: &str| -> BTreeSet<String> { names.split_whitespace().map(|name| name.replace('_', " ")).collect() };
    for (damage, sql, quick, more) in damages {
        session.run(&format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}"));
        assert_eq!(wrong(&mut session, false), set(quick), "quick form, {damage}");
        let full: BTreeSet<String> = set(quick).union(&set(more)).cloned().collect();
        assert_eq!(wrong(&mut session, true), full, "full form, {damage}");
        session.run("ROLLBACK");
    }
    assert_eq!(wrong(&mut session, true), BTreeSet::new());
}

#[test]
fn a_finding_says_whose_messages_of_which_day_and_names_one() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = used_in_every_way(&mut session, &simulator);

    session.run("DELETE FROM whatsapp_delivery_logs WHERE status = 'failed'");

    let row = session
        .query_one(
            "SELECT a.user_id, a.day = (now() AT TIME ZONE 'UTC')::date, a.expected, a.found,
                    a.meaning LIKE '%' || q.id || '%'
             FROM wa_audit(full => true) AS a JOIN whatsapp_queue AS q ON q.status = 'failed'
             WHERE a.check_name = 'outcome'",
            &[],
        )
        .expect("one finding");
    assert_eq!(row.get::<_, uuid::Uuid>(0), organizer.id);
    assert!(row.get::<_, bool>(1), "the day");
    assert_eq!((row.get::<_, i64>(2), row.get::<_, i64>(3)), (1, 0));
    assert!(row.get::<_, bool>(4), "the example");
}

#[test]
fn of_many_wrong_groups_the_first_twenty_are_listed_and_the_rest_is_counted() {
    let database = Cluster::shared().database();
    let mut session = database.connect();

    session.run(
        "SET session_replication_role = replica;
         INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, scheduled_for)
         SELECT gen_random_uuid(), '+573001000000', 'x', now() + interval '1 day' FROM generate_series(1, 25);
         RESET session_replication_role",
    );

    let meanings: Vec<String> =
        session.values("SELECT meaning FROM wa_audit() WHERE check_name = 'open' AND NOT ok", &[]);
    assert_eq!(meanings.len(), 20);
    assert!(meanings[19].contains("5 more"), "{}", meanings[19]);
}

#[test]
fn what_is_done_by_hand_with_triggers_in_force_is_no_damage() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.execute_with(ENQUEUE, &[&organizer.id, &numbers(6), &REMINDER, &reminder_variables()]);

    session.run(
        "UPDATE whatsapp_queue SET status = 'sent', sent_at = now() WHERE recipient_phone = '+573001000000';
         UPDATE whatsapp_queue SET status = 'failed' WHERE recipient_phone = '+573001000001';
         DELETE FROM whatsapp_queue WHERE recipient_phone = '+573001000002'",
    );
    assert_eq!(wrong(&mut session, true), BTreeSet::new());

    session.run("TRUNCATE whatsapp_queue CASCADE");
    assert_eq!(wrong(&mut session, true), BTreeSet::new());
    assert_eq!(session.value::<i64>("SELECT found FROM wa_audit() WHERE check_name = 'rows'", &[]), 0);
}

#[test]
fn what_was_sent_again_on_purpose_is_no_duplicate() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    organizer.wait_for_count(&mut session, "sent", 1);

    // As when Meta reports later that it could not deliver.
    session.run("UPDATE whatsapp_queue SET status = 'failed', error_code = '131026'");
    session.execute_with("SELECT wa_retry($1)", &[&id]);
    organizer.wait_for_count(&mut session, "sent", 1);

    assert_eq!(simulator.accepted(&id.to_string()), 2);
    assert_eq!(wrong(&mut session, true), BTreeSet::new());
}

#[test]
fn the_audit_works_in_a_read_only_transaction_and_refuses_null() {
    let database = Cluster::shared().database();
    let mut session = database.connect();

    session.run("BEGIN READ ONLY");
    assert_eq!(wrong(&mut session, true), BTreeSet::new());
    session.run("ROLLBACK");

    assert_eq!(session.refusal("SELECT wa_audit(NULL)", &[]).sqlstate, "22004");
}
