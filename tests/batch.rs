//! `wa_process_batch`: one pass over the queue, by hand or by pg_cron, with or without the worker.

use std::time::Duration;

use graph_simulator::{Action, FaultRule, Latency, Match, Simulator};
use harness::fixtures::{numbers, serving, simulator, wait_for_in_flight};
use harness::programs::programs;
use harness::{Cluster, Organizer, Session, most_within};

/// A server that did not preload the library.
fn without_worker(simulator: &Simulator) -> Cluster {
    Cluster::builder().setting("whatsapp_pg.graph_url", &format!("'{}'", simulator.url())).start()
}

/// processed, sent, failed, rescheduled, unknown
fn process(session: &mut Session, arguments: &str) -> [i32; 5] {
    let row = session
        .query_one(
            &format!("SELECT processed, sent, failed, rescheduled, unknown FROM wa_process_batch({arguments})"),
            &[],
        )
        .unwrap_or_else(|e| panic!("{e:?}"));
    [0, 1, 2, 3, 4].map(|column| row.get(column))
}

#[test]
fn it_sends_without_a_preloaded_library_and_counts_what_it_did() {
    let simulator = simulator();
    let cluster = without_worker(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(10));
    let rule = |to: &str, code| FaultRule {
        matching: Match { to: Some(to.to_owned()), ..Match::default() },
        action: Action::Error { code, subcode: None, details: None },
        accept: None,
    };
    let lost = FaultRule {
        matching: Match { to: Some("+573001000003".into()), ..Match::default() },
        action: Action::ResetAfterAccept,
        accept: None,
    };
    simulator
        .set_faults(vec![rule("+573001000001", 131_026), rule("+573001000002", 131_000), lost])
        .expect("a script that makes sense");

    assert_eq!(process(&mut session, ""), [10, 7, 1, 1, 1]);

    for (status, count) in [("sent", 7), ("failed", 1), ("queued", 1), ("unknown", 1), ("sending", 0)] {
        assert_eq!(organizer.count(&mut session, status), count, "{status}");
    }
    assert_eq!(process(&mut session, ""), [0, 0, 0, 0, 0], "the retry is not due yet");
}

#[test]
fn the_batch_size_bounds_one_pass() {
    let simulator = simulator();
    let cluster = without_worker(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(250));

    assert_eq!(process(&mut session, "")[1], 100);
    assert_eq!(process(&mut session, "batch_size => 30")[1], 30);
    assert_eq!(process(&mut session, "1000")[1], 120);
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn a_batch_size_that_makes_no_sense_is_refused() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    for (argument, sqlstate) in [("0", "22023"), ("-5", "22023"), ("NULL", "22004")] {
        let refusal = session.refusal(&format!("SELECT wa_process_batch({argument})"), &[]);
        assert_eq!(refusal.sqlstate, sqlstate, "{argument}: {refusal:#?}");
    }
}

#[test]
fn rows_of_the_callers_own_open_transaction_are_not_sent_and_a_rollback_sends_nothing_twice() {
    let simulator = simulator();
    let cluster = without_worker(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(5));

    session.run("BEGIN");
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    assert_eq!(process(&mut session, "")[1], 5);
    session.run("ROLLBACK");

    assert_eq!(organizer.count(&mut session, "sent"), 5, "what was sent stays recorded");
    assert_eq!(process(&mut session, "")[0], 0);
    assert_eq!(simulator.stats().accepted, 5);
}

#[test]
fn callers_at_once_and_the_worker_send_no_row_twice() {
    let simulator = simulator();
    simulator.set_latency(Latency { ms: 1, jitter_ms: 5 });
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizers: Vec<_> = (0..4).map(|_| Organizer::create(&mut session)).collect();
    session.run("BEGIN");
    for organizer in &organizers {
        organizer.enqueue(&mut session, &numbers(1_000));
    }
    session.run("COMMIT");

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = database.connect();
                for _ in 0..10 {
                    process(&mut session, "");
                }
            });
        }
    });
    session.wait_for("everything to be sent", "SELECT count(*) = 4000 FROM whatsapp_queue WHERE status = 'sent'", &[]);

    let stats = simulator.stats();
    assert_eq!((stats.accepted, stats.accepted_distinct, stats.duplicates), (4_000, 4_000, 0));
    for organizer in &organizers {
        let most = most_within(&simulator.arrivals(&organizer.phone_number_id), Duration::from_millis(900));
        assert!(most <= 1_000, "{most} messages in 0.9 seconds");
    }
}

#[test]
fn the_rate_of_a_number_holds_for_all_callers_together() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 20, rate_limit_tier => 'unlimited'");
    organizer.enqueue(&mut session, &numbers(100));

    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut session = database.connect();
                for _ in 0..5 {
                    process(&mut session, "");
                }
            });
        }
    });
    organizer.wait_for_count(&mut session, "sent", 100);

    let most = most_within(&simulator.arrivals(&organizer.phone_number_id), Duration::from_millis(900));
    assert!(most <= 20, "{most} messages in 0.9 seconds");
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn it_does_not_wait_long_for_slots() {
    let simulator = simulator();
    let cluster = without_worker(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1, rate_limit_tier => 'unlimited'");
    organizer.enqueue(&mut session, &numbers(60));

    let began = std::time::Instant::now();
    let [processed, sent, ..] = process(&mut session, "");

    assert!(began.elapsed() < Duration::from_secs(15), "took {:?}", began.elapsed());
    assert!((1..20).contains(&sent) && processed < 20, "{processed} {sent}");
    assert_eq!(organizer.count(&mut session, "sending"), 0);
    assert_eq!(organizer.count(&mut session, "queued"), 60 - i64::from(sent));
}

#[test]
fn without_a_free_worker_slot_it_says_so_and_how_to_get_one() {
    let simulator = simulator();
    let cluster = Cluster::builder()
        .setting("whatsapp_pg.graph_url", &format!("'{}'", simulator.url()))
        .setting("max_worker_processes", "1")
        .setting("max_logical_replication_workers", "0")
        .start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    simulator.set_latency(Latency::fixed(1_500));
    organizer.enqueue(&mut session, &numbers(1));

    std::thread::scope(|scope| {
        scope.spawn(|| process(&mut database.connect(), ""));
        wait_for_in_flight(&simulator, 1);
        let refusal = session.refusal("SELECT wa_process_batch()", &[]);
        assert_eq!(refusal.sqlstate, "53400", "{refusal:#?}");
        assert!(refusal.hint.contains("max_worker_processes"), "{refusal:#?}");
    });
}

#[test]
fn a_read_only_transaction_is_refused() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    session.run("BEGIN READ ONLY");
    let refusal = session.refusal("SELECT wa_process_batch()", &[]);
    assert_eq!(refusal.sqlstate, "25006", "{refusal:#?}");
}

#[test]
fn a_row_the_caller_has_locked_is_left_out_and_nobody_waits_for_ever() {
    let simulator = simulator();
    let cluster = without_worker(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(3));

    session.run("BEGIN; SELECT FROM whatsapp_queue WHERE recipient_phone = '+573001000000' FOR UPDATE");
    assert_eq!(process(&mut session, "")[1], 2);
    session.run("COMMIT");

    assert_eq!(process(&mut session, "")[1], 1);
}

#[test]
fn a_cancelled_call_ends_and_its_rows_are_accounted_for() {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(3_000));
    let cluster = without_worker(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(4));

    session.run("SET statement_timeout = '500ms'");
    let began = std::time::Instant::now();
    let refusal = session.refusal("SELECT wa_process_batch()", &[]);
    assert_eq!(refusal.sqlstate, "57014", "{refusal:#?}");
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    session.run("RESET statement_timeout");

    session.wait_for(
        "no row to be left in the middle",
        "SELECT count(*) = 0 FROM whatsapp_queue WHERE status = 'sending'",
        &[],
    );
    simulator.set_latency(Latency::fixed(0));
    process(&mut session, "");
    assert_eq!(organizer.count(&mut session, "sent") + organizer.count(&mut session, "unknown"), 4);
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn the_callers_settings_decide_and_a_dead_helper_is_an_error() {
    let simulator = simulator();
    let cluster = without_worker(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(3));

    session.run("SET whatsapp_pg.mode = 'off'");
    assert_eq!(process(&mut session, "")[0], 0);
    session.run("RESET whatsapp_pg.mode; SET whatsapp_pg.only_to = '+573001000001'");
    assert_eq!(process(&mut session, "")[1], 1);
    assert_eq!(organizer.count(&mut session, "sent"), 1);
    assert_eq!(simulator.stats().accepted, 1);
}

#[test]
fn pg_cron_runs_it_every_minute() {
    if !programs().has_extension("pg_cron") {
        // Other builds of PostgreSQL come without it.
        assert!(!programs().is_debians(), "pg_cron is missing: run `make integration`");
        return;
    }
    let simulator = simulator();
    let cluster = Cluster::builder()
        .setting("shared_preload_libraries", "'pg_cron'")
        .setting("cron.database_name", "'postgres'")
        .setting("whatsapp_pg.graph_url", &format!("'{}'", simulator.url()))
        .create();
    cluster.configure("cron.host", &format!("'{}'", cluster.dir().display()));
    cluster.start();
    let mut session = cluster.connect("postgres");
    session.run("CREATE EXTENSION pg_cron; CREATE EXTENSION whatsapp_pg SCHEMA public");
    let organizer = Organizer::create(&mut session);
    session.run("SELECT cron.schedule('whatsapp', '* * * * *', 'SELECT wa_process_batch()')");

    organizer.enqueue(&mut session, &numbers(5));
    session.wait_for_within(
        "pg_cron to send them",
        Duration::from_secs(75),
        "SELECT count(*) = 5 FROM whatsapp_queue WHERE status = 'sent'",
        &[],
    );
    session.wait_for("the run to be recorded", "SELECT bool_or(status = 'succeeded') FROM cron.job_run_details", &[]);
    assert_eq!(simulator.stats().duplicates, 0);
}
