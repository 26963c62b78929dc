//! The worker in good health: what leaves, when, in which order and how it is written down.

use std::time::{Duration, Instant};

use graph_simulator::{Latency, Simulator};
use harness::fixtures::{
    REMINDER, numbers, reminder_variables, serving, simulator, wait_for_drainer, wait_for_in_flight,
};
use harness::{Cluster, Organizer};
use uuid::Uuid;

/// How often the message was accepted.
fn accepted(simulator: &Simulator, id: Uuid) -> u32 {
    simulator.accepted(&id.to_string())
}

#[test]
fn a_committed_message_leaves_and_its_outcome_is_written_down() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let ids = organizer.enqueue(&mut session, &numbers(1));
    organizer.wait_for_count(&mut session, "sent", 1);

    assert_eq!(accepted(&simulator, ids[0]), 1);
    let request = simulator.messages(1_000).pop().expect("one request");
    assert_eq!(request.phone_number_id, organizer.phone_number_id);
    let row = session
        .query_one(
            "SELECT q.meta_message_id, q.sent_at BETWEEN q.created_at AND now(), q.retry_count, q.error_message,
                    l.source, l.status, l.http_status, l.attempt, l.latency_ms >= 0, l.meta_message_id
             FROM whatsapp_queue AS q JOIN whatsapp_delivery_logs AS l ON l.queue_id = q.id",
            &[],
        )
        .expect("one row and one log line");
    assert_eq!(row.get::<_, Option<String>>(0), request.outcome.wamid);
    assert!(row.get::<_, bool>(1));
    assert_eq!(row.get::<_, i32>(2), 0);
    assert_eq!(row.get::<_, Option<String>>(3), None);
    assert_eq!(row.get::<_, &str>(4), "send");
    assert_eq!(row.get::<_, &str>(5), "sent");
    assert_eq!(row.get::<_, i32>(6), 200);
    assert_eq!(row.get::<_, i32>(7), 1);
    assert!(row.get::<_, bool>(8));
    assert_eq!(row.get::<_, Option<String>>(9), request.outcome.wamid);
}

#[test]
fn a_commit_wakes_the_worker_and_a_message_is_on_the_wire_at_once() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    wait_for_drainer(&mut session);

    // Several, so that a lucky first pass proves nothing. The worker would look by itself only after an hour.
    for n in 1..=5_i64 {
        let began = Instant::now();
        organizer.enqueue(&mut session, &[format!("+57300200{n:04}")]);
        organizer.wait_for_count(&mut session, "sent", n);
        assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    }
}

#[test]
fn nothing_leaves_before_the_commit_and_nothing_after_a_rollback() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let mut open = database.connect();

    open.run("BEGIN");
    let undecided = organizer.enqueue(&mut open, &numbers(5));
    // Another commit proves that the worker looked while the transaction was open.
    let other = organizer.enqueue(&mut session, &["+447400123456".into()]);
    organizer.wait_for_count(&mut session, "sent", 1);
    assert_eq!(simulator.stats().accepted, 1);
    assert_eq!(accepted(&simulator, other[0]), 1);

    open.run("ROLLBACK");
    organizer.enqueue(&mut session, &["+447400123457".into()]);
    organizer.wait_for_count(&mut session, "sent", 2);
    assert_eq!(simulator.stats().accepted, 2);
    assert!(undecided.iter().all(|id| accepted(&simulator, *id) == 0));
}

#[test]
fn a_savepoint_that_was_rolled_back_sends_nothing() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    session.run("BEGIN; SAVEPOINT s");
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    session.run("ROLLBACK TO s");
    let kept = organizer.enqueue(&mut session, &["+447400123457".into()]);
    session.run("COMMIT");

    organizer.wait_for_count(&mut session, "sent", 1);
    assert_eq!(simulator.stats().accepted, 1);
    assert_eq!(accepted(&simulator, kept[0]), 1);
}

#[test]
fn a_prepared_transaction_sends_when_it_is_committed() {
    let simulator = simulator();
    let cluster = serving(&simulator)
        .setting("max_prepared_transactions", "5")
        .setting("whatsapp_pg.poll_interval", "'1s'")
        .start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    session.run("BEGIN");
    organizer.enqueue(&mut session, &numbers(3));
    session.run("PREPARE TRANSACTION 'later'");
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    organizer.wait_for_count(&mut session, "sent", 1);
    session.run("COMMIT PREPARED 'later'");

    organizer.wait_for_count(&mut session, "sent", 4);
}

#[test]
fn a_scheduled_message_waits_for_its_time() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    session.execute_with(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                           scheduled_for => clock_timestamp() + interval '1.5 seconds')",
        &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables()],
    );
    organizer.wait_for_count(&mut session, "sent", 1);

    let in_time: bool = session
        .value("SELECT sent_at >= scheduled_for AND sent_at < scheduled_for + interval '1s' FROM whatsapp_queue", &[]);
    assert!(in_time, "the worker sleeps until the next row is due, not until its poll");
}

#[test]
fn higher_priority_leaves_first_and_older_before_younger() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.sender_threads", "1").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    // One transaction: they become visible together.
    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables, priority, scheduled_for)
         SELECT $1, '+5730010000' || lpad(n::text, 2, '0'), $2, $3, (ARRAY[1, 5, 10])[1 + n % 3],
                now() - make_interval(secs => n)
         FROM generate_series(0, 59) AS n",
        &[&organizer.id, &REMINDER, &reminder_variables()],
    );
    organizer.wait_for_count(&mut session, "sent", 60);

    let order: Vec<String> =
        simulator.messages(1_000).iter().map(|r| r.body["to"].as_str().unwrap_or_default().to_owned()).collect();
    let wanted: Vec<String> =
        session.values("SELECT recipient_phone FROM whatsapp_queue ORDER BY priority DESC, scheduled_for, seq", &[]);
    assert_eq!(order, wanted);
}

#[test]
fn one_organizers_backlog_does_not_starve_another() {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(20));
    let cluster = serving(&simulator).setting("whatsapp_pg.sender_threads", "4").start();
    let database = cluster.database();
    let mut session = database.connect();
    let big = Organizer::create(&mut session);
    let small = Organizer::create(&mut session);

    big.enqueue(&mut session, &numbers(5_000));
    session.wait_for(
        "the backlog to be under way",
        "SELECT count(*) > 0 FROM whatsapp_queue WHERE status = 'sent'",
        &[],
    );
    let began = Instant::now();
    small.enqueue(&mut session, &numbers(3));
    small.wait_for_count(&mut session, "sent", 3);

    // The backlog takes 25 seconds.
    assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
    assert!(big.count(&mut session, "queued") > 0);
}

#[test]
fn the_worker_can_be_seen() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(7));
    organizer.wait_for_count(&mut session, "sent", 7);

    let launchers: i64 =
        session.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'whatsapp_pg launcher'", &[]);
    assert_eq!(launchers, 1);
    let pid = wait_for_drainer(&mut session);
    session.wait_for(
        "its counters",
        "SELECT pid = $1 AND sent = 7 AND claimed = 7 AND failed = 0 AND unknown = 0 AND in_flight = 0
                AND started_at <= last_pass_at AND state IS NOT NULL
         FROM wa_worker_status WHERE database = current_database()",
        &[&pid],
    );
    session.wait_for(
        "it to idle outside a transaction",
        "SELECT xact_start IS NULL AND backend_xmin IS NULL AND state = 'idle' AND wait_event IS NOT NULL
                AND application_name LIKE '%whatsapp_pg%'
         FROM pg_stat_activity WHERE pid = $1",
        &[&pid],
    );
}

#[test]
fn no_transaction_and_no_snapshot_is_open_during_a_call() {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(1_500));
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let pid = wait_for_drainer(&mut session);

    organizer.enqueue(&mut session, &numbers(4));
    wait_for_in_flight(&simulator, 4);

    let quiet: bool = session
        .value("SELECT xact_start IS NULL AND backend_xmin IS NULL FROM pg_stat_activity WHERE pid = $1", &[&pid]);
    assert!(quiet);
    assert_eq!(simulator.stats().in_flight, 4, "the calls ended while we looked");
    assert_eq!(organizer.count(&mut session, "sending"), 4);
}

#[test]
fn the_workers_writes_are_counted_so_that_autovacuum_sees_them() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    organizer.enqueue(&mut session, &numbers(50));
    organizer.wait_for_count(&mut session, "sent", 50);

    session.wait_for(
        "two updates per row in the statistics",
        "SELECT n_tup_upd >= 100 FROM pg_stat_user_tables WHERE relname = 'whatsapp_queue'",
        &[],
    );
}
