//! Never in the DBA's way: what needs the database, or our tables, for itself gets it while the worker is at full drain.

use std::time::Duration;

use graph_simulator::{Latency, Simulator};
use harness::fixtures::{numbers, serving, simulator, wait_for_accepted, wait_for_drainer};
use harness::{Cluster, Database, Organizer, Session, wait_until};

/// A server with slow calls, so that the backlog below lasts far longer than any test.
fn slow_cluster(simulator: &Simulator) -> Cluster {
    simulator.set_latency(Latency::fixed(100));
    serving(simulator).setting("whatsapp_pg.sender_threads", "16").start()
}

/// A database with a backlog, at full drain.
fn draining<'a>(cluster: &'a Cluster, simulator: &Simulator) -> Database<'a> {
    let before = simulator.stats().accepted;
    let database = cluster.database();
    let mut session = database.connect();
    Organizer::create(&mut session).enqueue(&mut session, &numbers(20_000));
    wait_for_accepted(simulator, before + 50);
    database
}

fn drainers_of(session: &mut Session, database: &str) -> i64 {
    session.value(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'whatsapp_pg drainer' AND datname = $1",
        &[&database],
    )
}

#[test]
fn drop_extension_succeeds_within_a_lock_timeout_of_two_seconds() {
    let simulator = simulator();
    let cluster = slow_cluster(&simulator);
    let database = draining(&cluster, &simulator);
    let mut session = database.connect();

    session.run("SET lock_timeout = '2s'; DROP EXTENSION whatsapp_pg");

    wait_until("the drainer to go", harness::wait::PATIENCE, || {
        let left = drainers_of(&mut session, database.name());
        if left == 0 { Ok(()) } else { Err(left) }
    });
    assert_eq!(cluster.log().matches("terminated by signal").count(), 0);

    session.run("CREATE EXTENSION whatsapp_pg");
    simulator.set_latency(Latency::fixed(0));
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(2));
    organizer.wait_for_count(&mut session, "sent", 2);
}

#[test]
fn drop_database_succeeds() {
    let simulator = simulator();
    let cluster = slow_cluster(&simulator);
    let database = draining(&cluster, &simulator);

    cluster.connect("postgres").run(&format!("DROP DATABASE {}", database.name()));
}

#[test]
fn rename_database_succeeds_and_the_backlog_goes_on_under_the_new_name() {
    let simulator = simulator();
    let cluster = slow_cluster(&simulator);
    let database = draining(&cluster, &simulator);

    cluster.connect("postgres").run(&format!("ALTER DATABASE {} RENAME TO renamed", database.name()));

    wait_for_accepted(&simulator, simulator.stats().accepted + 50);
    assert_eq!(simulator.stats().duplicates, 0);
    cluster.connect("postgres").run("DROP DATABASE renamed WITH (FORCE)");
}

#[test]
fn create_database_with_it_as_template_succeeds_and_the_original_goes_on() {
    let simulator = simulator();
    let cluster = slow_cluster(&simulator);
    let database = draining(&cluster, &simulator);

    cluster.connect("postgres").run(&format!("CREATE DATABASE clone TEMPLATE {}", database.name()));

    wait_for_accepted(&simulator, simulator.stats().accepted + 50);
    assert_eq!(simulator.stats().duplicates, 0, "the clone sent too");
    cluster.connect("postgres").run("DROP DATABASE clone WITH (FORCE)");
}

#[test]
fn ddl_on_our_tables_gets_its_lock() {
    let simulator = simulator();
    let cluster = slow_cluster(&simulator);
    let database = draining(&cluster, &simulator);
    let mut session = database.connect();

    session.run("SET lock_timeout = '2s'");
    for statement in [
        "ALTER TABLE whatsapp_queue ADD COLUMN note text",
        "CREATE INDEX ON whatsapp_queue (note)",
        "LOCK TABLE whatsapp_queue IN ACCESS EXCLUSIVE MODE",
        "VACUUM FULL whatsapp_delivery_logs",
    ] {
        session.run(
            statement
                .strip_prefix("LOCK")
                .map_or_else(|| statement.to_owned(), |_| format!("BEGIN; {statement}; COMMIT"))
                .as_str(),
        );
    }

    wait_for_accepted(&simulator, simulator.stats().accepted + 50);
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn a_lock_held_on_the_queue_delays_the_worker_and_does_not_kill_it() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.poll_interval", "'1s'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let mut dba = database.connect();

    let before = wait_for_drainer(&mut session);
    organizer.enqueue(&mut session, &numbers(1));
    organizer.wait_for_count(&mut session, "sent", 1);
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    dba.run("BEGIN; LOCK TABLE whatsapp_queue IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT");

    organizer.enqueue(&mut session, &["+447400123457".into()]);
    organizer.wait_for_count(&mut session, "sent", 3);
    assert_eq!(wait_for_drainer(&mut session), before, "the same process");
}

#[test]
fn pg_upgrade_works_with_the_library_preloaded_and_the_new_server_sends() {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(100));
    let cluster = serving(&simulator).setting("whatsapp_pg.sender_threads", "16").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(1_000));
    session.wait_for(
        "the drain to be under way",
        "SELECT count(*) > 10 FROM whatsapp_queue WHERE status = 'sent'",
        &[],
    );
    let name = database.name().to_owned();
    drop(session);

    let new = cluster.upgraded();
    simulator.set_latency(Latency::fixed(0));
    new.start();

    let mut session = new.connect(&name);
    session.wait_for_within(
        "the backlog to be gone",
        Duration::from_secs(60),
        "SELECT count(*) = 0 FROM whatsapp_queue WHERE status IN ('queued', 'sending')",
        &[],
    );
    assert_eq!(simulator.stats().duplicates, 0);
    assert!(organizer.count(&mut session, "unknown") <= 16);
    assert_eq!(organizer.count(&mut session, "sent") + organizer.count(&mut session, "unknown"), 1_000);
}
