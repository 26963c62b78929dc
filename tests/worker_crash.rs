//! Crashes, shutdowns and failovers: nothing is lost, nothing is sent twice, and what nobody can know is bounded.

use std::time::Duration;

use graph_simulator::{Latency, Simulator};
use harness::fixtures::{
    numbers, reminder_variables, serving, simulator, wait_for_accepted, wait_for_drainer, wait_for_in_flight,
};
use harness::{Cluster, Organizer, Session, Stop};
use uuid::Uuid;

/// Calls in flight at most in these tests.
const THREADS: i64 = 32;

/// Waits until no row is queued or sending any more.
fn wait_for_end(session: &mut Session) {
    session.wait_for_within(
        "the queue to be empty",
        Duration::from_secs(90),
        "SELECT count(*) = 0 FROM whatsapp_queue WHERE status IN ('queued', 'sending')",
        &[],
    );
}

/// None lost, none doubled: every row is accounted for, and the simulator agrees with each.
fn assert_adds_up(session: &mut Session, simulator: &Simulator, ids: &[Uuid], most_unknown: i64) {
    assert_eq!(simulator.duplicates(), Vec::<(String, u32)>::new());
    let rows = session.rows("SELECT id, status FROM whatsapp_queue", &[]);
    assert_eq!(rows.len(), ids.len(), "rows vanished");
    let mut unknown = 0;
    for row in rows {
        let id: Uuid = row.get(0);
        let accepted = simulator.accepted(&id.to_string());
        match row.get::<_, &str>(1) {
            "sent" => assert_eq!(accepted, 1, "{id} is recorded as sent"),
            "unknown" => unknown += 1,
            other => panic!("{id} is {other}"),
        }
    }
    assert!(unknown <= most_unknown, "{unknown} rows are unknown, {most_unknown} can have been in flight");
}

#[test]
fn kill_9_of_the_drainer_in_the_middle_of_ten_thousand_loses_none_and_doubles_none() {
    let simulator = simulator();
    simulator.set_latency(Latency { ms: 5, jitter_ms: 10 });
    let cluster = serving(&simulator).setting("whatsapp_pg.sender_threads", &THREADS.to_string()).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let ids = organizer.enqueue(&mut session, &numbers(10_000));
    wait_for_accepted(&simulator, 3_000);
    cluster.kill9_backend(wait_for_drainer(&mut session));

    let mut session = database.connect();
    wait_for_end(&mut session);
    assert_adds_up(&mut session, &simulator, &ids, THREADS);
    let said: bool = session.value(
        "SELECT coalesce(bool_and(error <> '' AND next_step <> ''), true) FROM whatsapp_messages WHERE state = 'unknown'",
        &[],
    );
    assert!(said, "unknown rows say what happened and what comes next");
}

#[test]
fn three_crashes_in_a_row_lose_none_and_double_none() {
    let simulator = simulator();
    simulator.set_latency(Latency { ms: 5, jitter_ms: 10 });
    let cluster = serving(&simulator).setting("whatsapp_pg.sender_threads", &THREADS.to_string()).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let ids = organizer.enqueue(&mut session, &numbers(5_000));

    for crash in 1..=3 {
        wait_for_accepted(&simulator, crash * 1_000);
        let mut session = database.connect();
        cluster.kill9_backend(wait_for_drainer(&mut session));
    }

    let mut session = database.connect();
    wait_for_end(&mut session);
    assert_adds_up(&mut session, &simulator, &ids, 3 * THREADS);
}

#[test]
fn kill_9_of_the_server_loses_none_and_doubles_none() {
    let simulator = simulator();
    simulator.set_latency(Latency { ms: 5, jitter_ms: 10 });
    let cluster = serving(&simulator).setting("whatsapp_pg.sender_threads", &THREADS.to_string()).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let ids = organizer.enqueue(&mut session, &numbers(5_000));

    wait_for_accepted(&simulator, 1_500);
    cluster.kill9_postmaster();
    cluster.start();

    let mut session = database.connect();
    wait_for_end(&mut session);
    assert_adds_up(&mut session, &simulator, &ids, THREADS);
}

#[test]
fn a_committed_claim_survives_a_crash_even_where_synchronous_commit_is_off() {
    let simulator = simulator();
    simulator.set_latency(Latency { ms: 5, jitter_ms: 10 });
    let cluster = serving(&simulator)
        .setting("whatsapp_pg.sender_threads", &THREADS.to_string())
        .setting("synchronous_commit", "off")
        // The longest that an asynchronous commit may wait, so that a lost one would show.
        .setting("wal_writer_delay", "'10s'")
        .start();
    let database = cluster.database();
    database.configure("synchronous_commit", "off");
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.run("SET synchronous_commit = on");
    let ids = organizer.enqueue(&mut session, &numbers(5_000));

    wait_for_accepted(&simulator, 1_500);
    cluster.stop(Stop::Immediate);
    cluster.start();

    let mut session = database.connect();
    wait_for_end(&mut session);
    assert_adds_up(&mut session, &simulator, &ids, THREADS);
}

#[test]
fn a_terminated_worker_comes_back_by_itself() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    for backend_type in ["whatsapp_pg drainer", "whatsapp_pg launcher"] {
        wait_for_drainer(&mut session);
        let pid: i32 = session.value("SELECT pid FROM pg_stat_activity WHERE backend_type = $1", &[&backend_type]);
        assert!(session.value::<bool>("SELECT pg_terminate_backend($1)", &[&pid]));
        session.wait_for(
            "another one",
            "SELECT count(*) = 1 AND bool_and(pid <> $2) FROM pg_stat_activity WHERE backend_type = $1",
            &[&backend_type, &pid],
        );
    }

    organizer.enqueue(&mut session, &numbers(3));
    organizer.wait_for_count(&mut session, "sent", 3);
}

#[test]
fn a_fast_shutdown_with_64_calls_in_flight_is_fast_and_nothing_is_doubled() {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(20_000));
    let cluster = serving(&simulator).setting("whatsapp_pg.sender_threads", "64").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let ids = organizer.enqueue(&mut session, &numbers(200));
    wait_for_in_flight(&simulator, 64);
    session.run("CHECKPOINT");

    let took = cluster.stop(Stop::Fast);
    simulator.set_latency(Latency::fixed(0));
    cluster.start();

    // One second for the calls, and what Postgres needs for its own last checkpoint.
    assert!(took < Duration::from_secs(3), "took {took:?}");
    let mut session = database.connect();
    wait_for_end(&mut session);
    assert_adds_up(&mut session, &simulator, &ids, 64);
}

#[test]
fn a_standby_is_silent_and_sends_once_it_is_promoted() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    // Made before the first account: the key must have reached it through WAL.
    let standby = cluster.standby();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(3));
    organizer.wait_for_count(&mut session, "sent", 3);
    session.execute_with(
        "UPDATE whatsapp_queue SET status = 'queued', sent_at = NULL, scheduled_for = now() + interval '1 hour'
         WHERE recipient_phone = $1",
        &[&numbers(1)[0]],
    );
    cluster.wait_for_replay(&standby);

    let mut on_standby = standby.connect(database.name());
    let workers: i64 =
        on_standby.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'whatsapp_pg%'", &[]);
    assert_eq!(workers, 0, "a standby runs no worker");
    let refusal = on_standby.refusal("SELECT wa_process_batch()", &[]);
    assert_eq!(refusal.sqlstate, "25006", "{refusal:#?}");
    let refusal = on_standby.refusal(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => 'event_reminder_24h', variables => $3)",
        &[&organizer.id, &numbers(1), &reminder_variables()],
    );
    assert_eq!(refusal.sqlstate, "25006", "{refusal:#?}");
    assert!(on_standby.value::<bool>("SELECT count(*) > 0 FROM wa_rate_status($1)", &[&organizer.id]));

    cluster.stop(Stop::Immediate);
    standby.promote();
    let more = organizer.enqueue(&mut on_standby, &["+447400123456".into()]);
    organizer.wait_for_count(&mut on_standby, "sent", 3);
    assert_eq!(simulator.accepted(&more[0].to_string()), 1);
    assert_eq!(simulator.duplicates(), Vec::<(String, u32)>::new());
}

#[test]
fn a_read_only_database_is_a_hold_and_not_a_crash() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.poll_interval", "'1s'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    wait_for_drainer(&mut session);

    database.configure("default_transaction_read_only", "on");
    let pid: i32 = session.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'whatsapp_pg drainer'", &[]);
    session.run(&format!("SELECT pg_terminate_backend({pid})"));
    organizer.enqueue(&mut session, &numbers(2));
    session.wait_for(
        "the hold to be reported",
        "SELECT coalesce(note ~* 'read.only', false) FROM wa_worker_status WHERE database = current_database()",
        &[],
    );
    assert_eq!(simulator.stats().requests, 0);

    database.configure("default_transaction_read_only", "off");
    organizer.wait_for_count(&mut session, "sent", 2);
}

#[test]
fn hostile_defaults_of_the_database_do_not_hurt_the_worker() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.bare_database();
    for (setting, value) in [
        ("statement_timeout", "1ms"),
        ("lock_timeout", "1ms"),
        ("idle_in_transaction_session_timeout", "1ms"),
        ("search_path", "nowhere"),
        ("default_transaction_isolation", "serializable"),
        ("enable_indexscan", "off"),
        ("timezone", "Asia/Kathmandu"),
        ("datestyle", "SQL, DMY"),
        ("row_security", "off"),
    ] {
        database.configure(setting, value);
    }
    let mut session = Session::open(
        database.config().options("-c statement_timeout=0 -c lock_timeout=0 -c search_path=public -c row_security=on"),
    );
    session.run("CREATE EXTENSION whatsapp_pg SCHEMA public");
    let organizer = Organizer::create(&mut session);

    let ids = organizer.enqueue(&mut session, &numbers(200));
    organizer.wait_for_count(&mut session, "sent", 200);
    assert_adds_up(&mut session, &simulator, &ids, 0);
}

#[test]
fn a_database_that_gets_the_extension_later_is_served_without_a_restart() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let first = cluster.database();
    wait_for_drainer(&mut first.connect());

    // One that was there before, and one that is made now.
    let old = cluster.bare_database();
    for database in [&old, &cluster.bare_database()] {
        database.install("public");
        let mut session = database.connect();
        let organizer = Organizer::create(&mut session);
        organizer.enqueue(&mut session, &numbers(2));
        organizer.wait_for_count(&mut session, "sent", 2);
    }
}

#[test]
fn after_a_restart_all_databases_with_the_extension_are_served() {
    let simulator = simulator();
    let cluster = Cluster::builder().start();
    let databases: Vec<_> = (0..4).map(|_| cluster.database()).collect();
    let _other = cluster.bare_database();
    let organizers: Vec<_> = databases
        .iter()
        .map(|database| {
            let mut session = database.connect();
            let organizer = Organizer::create(&mut session);
            organizer.enqueue(&mut session, &numbers(2));
            organizer
        })
        .collect();

    cluster.configure("shared_preload_libraries", "'whatsapp_pg'");
    cluster.configure("whatsapp_pg.graph_url", &format!("'{}'", simulator.url()));
    cluster.restart();

    for (database, organizer) in databases.iter().zip(&organizers) {
        organizer.wait_for_count(&mut database.connect(), "sent", 2);
    }
}
