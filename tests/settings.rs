//! The settings: which there are, who may change them, what they refuse and what the two safety catches do.

use graph_simulator::Latency;
use harness::fixtures::{numbers, serving, simulator, wait_for_accepted};
use harness::{Cluster, Organizer};

use crate::enqueue::assert_explained;

/// Name, default as `SHOW` prints it, unit.
const SETTINGS: &[(&str, &str, Option<&str>)] = &[
    ("batch_size", "100", None),
    ("ca_file", "", None),
    ("connect_timeout", "5s", Some("ms")),
    ("databases", "*", None),
    ("graph_url", "https://graph.facebook.com", None),
    ("graph_version", "v25.0", None),
    ("key_file", "", None),
    ("notify_channel", "", None),
    ("max_retries", "3", None),
    ("mode", "live", None),
    ("only_to", "", None),
    ("poll_interval", "10s", Some("s")),
    ("request_timeout", "30s", Some("ms")),
    ("retry_delay", "5min", Some("s")),
    ("sender_threads", "64", None),
    ("unknown_wait", "5min", Some("s")),
];

#[test]
fn there_are_the_documented_settings_with_their_defaults_and_units() {
    let documentation = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md"))
        .expect("the settings are documented");
    let cluster =
        Cluster::builder().setting("whatsapp_pg.graph_url", "'https://graph.facebook.com'").preloaded().start();
    let mut session = cluster.connect("postgres");

    let names: Vec<String> =
        session.values("SELECT name FROM pg_settings WHERE name LIKE 'whatsapp\\_pg.%' ORDER BY 1", &[]);
    for &(name, default, unit) in SETTINGS {
        let name = format!("whatsapp_pg.{name}");
        assert!(names.contains(&name), "{name} is missing");
        assert!(documentation.contains(&name), "{name} is not in docs/settings.md");
        assert_eq!(session.value::<String>(&format!("SHOW {name}"), &[]), default, "{name}");
        let described: (Option<String>, bool) = {
            let row = session
                .query_one("SELECT unit, short_desc <> '' FROM pg_settings WHERE name = $1", &[&name])
                .expect("it is listed");
            (row.get(0), row.get(1))
        };
        assert_eq!(described, (unit.map(String::from), true), "{name}");
    }
    for name in names {
        assert!(documentation.contains(&name), "{name} is not in docs/settings.md");
    }
}

#[test]
fn the_prefix_is_reserved_so_that_a_misspelt_setting_is_noticed() {
    let mut session = Cluster::shared().connect("postgres");
    let refusal = session.refusal("SET whatsapp_pg.sender_thread = 3", &[]);
    assert!(refusal.mentions("whatsapp_pg.sender_thread"), "{refusal:#?}");
}

#[test]
fn what_decides_where_requests_go_is_for_superusers_only() {
    let cluster = Cluster::builder().preloaded().start();
    cluster.connect("postgres").run("CREATE ROLE tenant LOGIN");
    let database = cluster.bare_database();
    let mut session = database.connect_as("tenant");

    for setting in ["graph_url", "ca_file", "key_file", "graph_version", "mode", "only_to"] {
        let refusal = session.refusal(&format!("SET whatsapp_pg.{setting} = 'off'"), &[]);
        assert_eq!(refusal.sqlstate, "42501", "{setting}: {refusal:#?}");
    }
    for setting in ["ca_file", "key_file", "notify_channel"] {
        let refusal = session.refusal(&format!("SHOW whatsapp_pg.{setting}"), &[]);
        assert_eq!(refusal.sqlstate, "42501", "{setting}: {refusal:#?}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused_where_they_are_set() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    for (setting, value) in [
        ("mode", "maybe"),
        ("sender_threads", "0"),
        ("batch_size", "-1"),
        ("poll_interval", "0"),
        ("max_retries", "many"),
    ] {
        let refusal = session.refusal(&format!("SET whatsapp_pg.{setting} = '{value}'"), &[]);
        assert_eq!(refusal.sqlstate, "22023", "{setting} = {value}: {refusal:#?}");
    }
}

#[test]
fn a_base_url_that_is_no_url_is_refused_where_it_is_used() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    session.run("SET whatsapp_pg.mode = 'live'");

    for (setting, value) in [
        ("graph_url", "graph.facebook.com"),
        ("graph_url", "ftp://graph.facebook.com"),
        ("graph_url", "https://"),
        ("graph_version", "25"),
    ] {
        session.run(&format!("SET whatsapp_pg.{setting} = '{value}'"));
        let refusal = session.refusal("SELECT wa_process_batch()", &[]);
        assert_explained(&refusal, "55000", &[setting]);
        session.run(&format!("RESET whatsapp_pg.{setting}"));
    }
}

#[test]
fn a_missing_ca_file_sends_nothing_and_is_named() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.ca_file", "'/nowhere/ca.pem'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    organizer.enqueue(&mut session, &numbers(1));
    session.wait_for(
        "the file to be named",
        "SELECT coalesce(note, '') LIKE '%/nowhere/ca.pem%' FROM wa_worker_status WHERE database = current_database()",
        &[],
    );

    assert_eq!(simulator.stats().requests, 0);
    assert_eq!(organizer.count(&mut session, "queued"), 1);
    let refusal = session.refusal("SELECT wa_process_batch()", &[]);
    assert!(refusal.mentions("/nowhere/ca.pem") && !refusal.hint.is_empty(), "{refusal:#?}");
}

#[test]
fn mode_off_holds_everything_and_live_lets_it_go() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.mode", "off").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    organizer.enqueue(&mut session, &numbers(3));
    session.wait_for(
        "the hold to be reported",
        "SELECT coalesce(note ~ 'mode', false) FROM wa_worker_status WHERE database = current_database()",
        &[],
    );
    let row = session.query_one("SELECT processed, sent FROM wa_process_batch()", &[]).expect("one row");
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (0, 0));
    assert!(!session.value::<bool>("SELECT wa_rate_ok($1)", &[&organizer.id]));
    assert_eq!(simulator.stats().requests, 0);
    assert_eq!(organizer.count(&mut session, "queued"), 3);

    cluster.configure("whatsapp_pg.mode", "live");
    cluster.reload();
    organizer.wait_for_count(&mut session, "sent", 3);
}

#[test]
fn mode_off_stops_a_drain_that_is_under_way() {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(30));
    let cluster = serving(&simulator).setting("whatsapp_pg.sender_threads", "8").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(5_000));
    wait_for_accepted(&simulator, 100);

    cluster.configure("whatsapp_pg.mode", "off");
    cluster.reload();
    session.wait_for(
        "the brake to be reported, and nothing to be in flight",
        "SELECT note ~ 'mode' AND in_flight = 0 FROM wa_worker_status WHERE database = current_database()",
        &[],
    );

    // A commit wakes the worker; it looks, and sends nothing.
    let accepted = simulator.stats().accepted;
    let before: String =
        session.value("SELECT last_pass_at::text FROM wa_worker_status WHERE database = current_database()", &[]);
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    session.wait_for(
        "it to look",
        "SELECT last_pass_at::text <> $1 FROM wa_worker_status WHERE database = current_database()",
        &[&before],
    );
    assert_eq!(simulator.stats().accepted, accepted);
    assert!(accepted < 4_000, "{accepted} of 5,000 had left before the brake worked");
}

#[test]
fn only_to_lets_nothing_leave_for_anybody_else() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.only_to", "'+573001000000, +573001000002'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    organizer.enqueue(&mut session, &numbers(5));
    organizer.wait_for_count(&mut session, "sent", 2);
    session.wait_for(
        "the others to be held with the reason",
        "SELECT count(*) = 3 FROM whatsapp_messages WHERE state <> 'sent' AND concat(error, next_step) ~ 'only_to'",
        &[],
    );

    let mut reached: Vec<String> =
        simulator.messages(1_000).iter().map(|r| r.body["to"].as_str().unwrap_or_default().to_owned()).collect();
    reached.sort();
    assert_eq!(reached, ["+573001000000", "+573001000002"]);

    cluster.configure("whatsapp_pg.only_to", "''");
    cluster.reload();
    organizer.wait_for_count(&mut session, "sent", 5);
}

#[test]
fn databases_that_are_not_listed_are_not_served() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.databases", "'served'").start();
    let other = cluster.database();
    cluster.connect("postgres").run("CREATE DATABASE served");
    let mut session = cluster.connect("served");
    session.run("CREATE EXTENSION whatsapp_pg");
    let here = Organizer::create(&mut session);
    let there = Organizer::create(&mut other.connect());

    there.enqueue(&mut other.connect(), &numbers(1));
    here.enqueue(&mut session, &numbers(1));
    here.wait_for_count(&mut session, "sent", 1);

    assert_eq!(simulator.stats().accepted, 1);
    let drainers: Vec<String> =
        session.values("SELECT datname::text FROM pg_stat_activity WHERE backend_type = 'whatsapp_pg drainer'", &[]);
    assert_eq!(drainers, ["served"]);
    // By hand it still works.
    let row = other.connect().query_one("SELECT sent FROM wa_process_batch()", &[]).expect("one row");
    assert_eq!(row.get::<_, i32>(0), 1);
}

#[test]
fn settings_of_one_database_do_not_reach_another() {
    let first_graph = simulator();
    let second_graph = simulator();
    let first = Cluster::shared().database_sending_to(&first_graph);
    let second = Cluster::shared().database_sending_to(&second_graph);

    for (database, graph) in [(&first, &first_graph), (&second, &second_graph)] {
        let mut session = database.connect();
        let organizer = Organizer::create(&mut session);
        organizer.enqueue(&mut session, &numbers(2));
        organizer.wait_for_count(&mut session, "sent", 2);
        assert_eq!(graph.stats().accepted, 2);
    }
}
