//! `wa_doctor`: one row when all is well, and for each thing that can be wrong a finding with what to do.
//!
//! Most faults are planted in a transaction that is rolled back, so that no worker ever sees them.

use harness::fixtures::{numbers, serving, simulator, wait_for_drainer};
use harness::{Cluster, Organizer, Session};

/// Severity, detail and cure of a finding; None when it was not found.
fn find(session: &mut Session, finding: &str) -> Option<(String, String, String)> {
    let rows =
        session.rows("SELECT severity, detail, what_to_do, meaning FROM wa_doctor() WHERE finding = $1", &[&finding]);
    assert!(rows.iter().all(|row| !row.get::<_, String>(3).is_empty()), "every finding says what it means");
    rows.first().map(|row| (row.get(0), row.get(1), row.get(2)))
}

/// Checks that the statements, undone afterwards, make the doctor find this, with these words in detail or cure.
fn assert_finds(session: &mut Session, fault: &str, finding: &str, severity: &str, words: &[&str]) {
    assert_eq!(find(session, finding), None, "{finding} before: {fault}");
    session.run(&format!("BEGIN; {fault}"));
    let found = find(session, finding);
    let all: Vec<String> = session.values("SELECT format('%s: %s', severity, finding) FROM wa_doctor()", &[]);
    session.run("ROLLBACK");
    let (is, detail, cure) = found.unwrap_or_else(|| panic!("{finding} was not found after: {fault}\n{all:?}"));
    assert_eq!(is, severity, "{finding}");
    for word in words {
        assert!(detail.contains(word) || cure.contains(word), "{finding} does not say {word}: {detail} {cure}");
    }
}

#[test]
fn when_nothing_is_wrong_there_is_one_row_that_says_so() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    wait_for_drainer(&mut session);
    organizer.enqueue(&mut session, &numbers(5));
    organizer.wait_for_count(&mut session, "sent", 5);

    session.wait_for(
        "the doctor to be content",
        "SELECT array_agg(format('%s: %s', severity, finding)) = '{ok: all is well}' FROM wa_doctor()",
        &[],
    );
}

#[test]
fn the_worst_comes_first() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.execute_with(
        "INSERT INTO whatsapp_holds (user_id, scope, subject, source, reason, until) VALUES
             ($1, 'event', 'x', 'person', 'rain', 'infinity'), ($1, 'account', 'x', 'meta', 'policy', 'infinity')",
        &[&organizer.id],
    );
    let order: Vec<i32> = session.values(
        "SELECT array_position('{critical,warning,notice,ok}', severity) FROM wa_doctor() WITH ORDINALITY AS d ORDER BY ordinality",
        &[],
    );
    assert!(order.is_sorted() && order.len() >= 3, "{order:?}");
}

#[test]
fn without_preloading_the_doctor_says_what_sends_then() {
    let cluster = Cluster::builder().start();
    let database = cluster.database();
    let mut session = database.connect();
    let (severity, _, cure) = find(&mut session, "worker not loaded").expect("a finding");
    assert_eq!(severity, "warning");
    assert!(cure.contains("shared_preload_libraries") && cure.contains("wa_process_batch"), "{cure}");
}

#[test]
fn a_worker_that_finds_no_slot_is_critical() {
    // One for the launcher, one for the server's own logical replication launcher.
    let cluster = Cluster::builder().preloaded().setting("max_worker_processes", "2").start();
    let database = cluster.database();
    let mut session = database.connect();

    session.wait_for(
        "the worker to be missed",
        "SELECT count(*) = 1 FROM wa_doctor() WHERE finding = 'worker not running' AND severity = 'critical'",
        &[],
    );
    let (severity, detail, cure) = find(&mut session, "worker slots").expect("a finding");
    assert_eq!(severity, "critical");
    assert!(detail.contains("2 of max_worker_processes = 2") && cure.contains("Raise"), "{detail} {cure}");
}

#[test]
fn a_database_that_is_not_served_on_purpose_is_told() {
    let cluster = Cluster::builder().preloaded().setting("whatsapp_pg.databases", "'another, third'").start();
    let database = cluster.database();
    let mut session = database.connect();

    let (severity, detail, cure) = find(&mut session, "not served").expect("a finding");
    assert_eq!(severity, "warning");
    assert!(detail.contains("another, third") && cure.contains(database.name()), "{detail} {cure}");
    assert_eq!(find(&mut session, "worker not running"), None);
}

#[test]
fn when_meta_cannot_be_reached_the_doctor_says_so() {
    let database = Cluster::shared().bare_database();
    // Nobody listens at the address that tests have unless they say otherwise.
    database.configure("whatsapp_pg.mode", "live");
    database.install("public");
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(1));

    session.wait_for(
        "the finding",
        "SELECT count(*) = 1 AND bool_and(severity = 'critical' AND what_to_do LIKE '%http://127.0.0.1:1%')
         FROM wa_doctor() WHERE finding = 'Meta unreachable'",
        &[],
    );
}

#[test]
fn keys_and_secrets_that_cannot_be_opened_are_critical() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id = organizer.id.to_string();

    assert_finds(&mut session, "DELETE FROM whatsapp_keys", "key", "critical", &["wa_import_key", "wa_rotate_key"]);
    assert_finds(
        &mut session,
        "UPDATE whatsapp_config SET access_token_encrypted = 'file:/nonexistent/token'",
        "secret",
        "critical",
        &[&id, "access token", "/nonexistent/token", "wa_configure"],
    );
    assert_finds(
        &mut session,
        "UPDATE whatsapp_config SET app_secret_encrypted = 'file:/nonexistent/secret'",
        "secret",
        "critical",
        &[&id, "app secret"],
    );
}

#[test]
fn holds_are_listed_with_reason_end_and_the_way_to_end_them() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let id = Organizer::create(&mut session).id.to_string();
    let hold = |scope: &str, subject: &str, source: &str, code: &str, until: &str| {
        format!(
            "INSERT INTO whatsapp_holds (user_id, scope, subject, source, code, reason, until)
             VALUES ('{id}', '{scope}', '{subject}', '{source}', {code}, 'the reason', {until})"
        )
    };

    let fault = hold("account", &id, "meta", "'190'", "now() + interval '1 hour'");
    assert_finds(&mut session, &fault, "token refused", "critical", &[&id, "190", "the reason", "wa_configure"]);
    let fault = hold("account", &id, "meta", "'131042'", "'infinity'");
    assert_finds(&mut session, &fault, "held by Meta", "critical", &[&id, "131042", "the reason", "wa_resume"]);
    // At its time one message is tried; until it passes, the hold is one.
    let fault = hold("template", "reminder/en", "meta", "'132015'", "now() - interval '1 minute'");
    assert_finds(&mut session, &fault, "held by Meta", "warning", &["reminder/en", "template_name => 'reminder'"]);
    let fault = hold("event", &id, "person", "NULL", "now() + interval '1 hour'");
    assert_finds(&mut session, &fault, "paused", "notice", &["the reason", "event_id =>"]);

    session.run(&hold("event", &id, "person", "NULL", "now() - interval '1 minute'"));
    assert_eq!(find(&mut session, "paused"), None, "a person's hold ends by the clock");
}

#[test]
fn of_many_findings_of_a_kind_twenty_are_listed_and_the_rest_is_counted() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.execute_with(
        "INSERT INTO whatsapp_holds (user_id, scope, subject, source, reason, until)
         SELECT $1, 'template', 't' || n, 'person', 'why', 'infinity' FROM generate_series(1, 25) AS n",
        &[&organizer.id],
    );
    let details: Vec<String> = session.values("SELECT detail FROM wa_doctor() WHERE finding = 'paused'", &[]);
    assert_eq!(details.len(), 20);
    assert!(details[19].contains("5 more"), "{}", details[19]);
}

#[test]
fn settings_copies_and_missing_accounts_that_keep_messages_back_are_told() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let id = Organizer::create(&mut session).id.to_string();
    wait_for_drainer(&mut session);
    let queued = |organizer: &str| {
        format!(
            "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name)
             VALUES ('{organizer}', '+573001000000', 'x');"
        )
    };

    assert_finds(&mut session, "SET LOCAL whatsapp_pg.mode = off", "mode off", "warning", &["RESET"]);
    assert_finds(
        &mut session,
        "SET LOCAL whatsapp_pg.only_to = '+573001000000, +573001000001'",
        "only_to",
        "notice",
        &["2 numbers"],
    );
    assert_finds(
        &mut session,
        "UPDATE whatsapp_config SET sender_database = 1",
        "copy",
        "critical",
        &["1 accounts", "wa_adopt_copy()"],
    );
    let stranger = "0a000000-0000-4000-8000-0000000000ff";
    assert_finds(&mut session, &queued(stranger), "no account", "warning", &[stranger, "wa_configure"]);
    assert_finds(
        &mut session,
        &format!("{} UPDATE whatsapp_config SET status = 'inactive'", queued(&id)),
        "account not active",
        "notice",
        &[&id, "inactive"],
    );
    assert_finds(
        &mut session,
        "UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'whatsapp_pg'",
        "update due",
        "warning",
        &["0.0.1", "ALTER EXTENSION whatsapp_pg UPDATE"],
    );
}

#[test]
fn messages_that_are_not_served_are_told() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id = organizer.id.to_string();
    let row = |columns: &str, values: &str| {
        format!(
            "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, {columns})
             VALUES ('{id}', '+573001000000', 'x', {values});"
        )
    };

    let due = row("scheduled_for", "now() - interval '10 minutes'");
    assert_finds(&mut session, &due, "oldest due message", "warning", &[&id, "wa_explain", "wa_rate_status"]);
    // While others of the organizer leave, it is only the backlog.
    let busy = format!(
        "{due} INSERT INTO whatsapp_pacing (phone_number_id, next_free) VALUES ('{}', now())
               ON CONFLICT (phone_number_id) DO UPDATE SET next_free = now();",
        organizer.phone_number_id
    );
    assert_finds(&mut session, &busy, "oldest due message", "notice", &[&id]);
    for quiet in [
        row("scheduled_for", "now() + interval '10 minutes'"),
        row("scheduled_for, retry_count", "now() + interval '10 minutes', 1"),
        format!(
            "{} INSERT INTO whatsapp_holds (user_id, scope, subject, source, reason, until)
                VALUES ('{id}', 'template', 'x', 'person', 'why', 'infinity');",
            row("scheduled_for", "now() - interval '10 minutes'")
        ),
        format!("{due} UPDATE whatsapp_config SET status = 'inactive';"),
    ] {
        session.run(&format!("BEGIN; {quiet}"));
        assert_eq!(find(&mut session, "oldest due message"), None, "{quiet}");
        session.run("ROLLBACK");
    }

    let stuck = row("status, lease, lease_until", "'sending', 1, now() - interval '1 second'");
    assert_finds(&mut session, &stuck, "stuck leases", "warning", &["1 messages"]);
    let unknown = row("status, lease, updated_at", "'unknown', 1, now() - interval '10 minutes'");
    assert_finds(&mut session, &unknown, "unknown outcomes", "warning", &[&id, "keep", "force => true"]);
    session.run(&format!("BEGIN; {}", row("status, lease", "'unknown', 1")));
    assert_eq!(find(&mut session, "unknown outcomes"), None, "Meta's report may still come");
    session.run("ROLLBACK");
}

#[test]
fn a_number_that_sends_and_never_hears_from_meta_is_told_how_to_subscribe() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let number = &organizer.phone_number_id;
    let sent = |next_free: &str, seen: &str| {
        format!(
            "INSERT INTO whatsapp_pacing (phone_number_id, next_free, status_seen_for) VALUES ('{number}', {next_free}, {seen});"
        )
    };
    let words = [number.as_str(), "subscribed_apps", "wa_webhook_receive"];

    let long_ago = sent("now() - interval '20 minutes'", "NULL");
    assert_finds(&mut session, &long_ago, "webhooks missing", "warning", &words);
    let still_sending = format!(
        "{} INSERT INTO whatsapp_usage (portfolio, user_id, starts, ends, messages, slice, phone_number_id)
            VALUES ('p', '{}', now() - interval '1 hour', now() - interval '1 hour', 1, 1, '{number}');",
        sent("now()", "now() - interval '2 days'"),
        organizer.id
    );
    assert_finds(&mut session, &still_sending, "webhooks missing", "warning", &words);
    for content in [
        sent("now() - interval '20 minutes'", "now() - interval '21 minutes'"),
        sent("now()", "NULL"),
        sent("now() - interval '2 days'", "NULL"),
    ] {
        session.run(&format!("BEGIN; {content}"));
        assert_eq!(find(&mut session, "webhooks missing"), None, "{content}");
        session.run("ROLLBACK");
    }
}

#[test]
fn the_application_s_tables_are_linked_or_the_doctor_says_so() {
    let database = Cluster::shared().database();
    let mut session = database.connect();

    assert_finds(
        &mut session,
        "CREATE TABLE ai_events (id uuid PRIMARY KEY, organizer_id uuid, name text, start_date timestamptz)",
        "host not linked",
        "warning",
        &["ai_events", "wa_link_host"],
    );
    assert_finds(
        &mut session,
        "CREATE TABLE profiles (id uuid PRIMARY KEY); SELECT wa_link_host(); DROP TABLE profiles CASCADE",
        "host link broken",
        "warning",
        &["profiles", "wa_link_host"],
    );
}

#[test]
fn dead_rows_and_the_snapshot_that_keeps_them_are_told() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let mut keeper = database.connect();
    let pid = keeper.backend_pid();
    keeper.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM whatsapp_queue");

    session.run(
        "INSERT INTO whatsapp_usage (portfolio, user_id, starts, ends, messages, slice)
         SELECT 'p', gen_random_uuid(), now(), now(), 1, n FROM generate_series(1, 120000) AS n;
         DELETE FROM whatsapp_usage",
    );

    session.wait_for(
        "dead rows to be counted",
        "SELECT pg_stat_clear_snapshot() IS NOT NULL AND count(*) = 1 FROM wa_doctor()
         WHERE finding = 'dead rows' AND detail LIKE 'whatsapp_usage%'",
        &[],
    );
    session.wait_for(
        "the old snapshot to be named",
        "SELECT count(*) = 1 FROM wa_doctor() WHERE finding = 'old snapshot' AND severity = 'warning'
            AND detail LIKE '%pid ' || $1 || '%' AND what_to_do LIKE '%pg_terminate_backend(' || $1 || ')%'",
        &[&pid.to_string()],
    );
}

#[test]
fn the_doctor_writes_nothing() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    Organizer::create(&mut session);

    session.run("BEGIN READ ONLY");
    assert!(!session.rows("SELECT * FROM wa_doctor()", &[]).is_empty());
    assert_eq!(session.value::<Option<String>>("SELECT pg_current_xact_id_if_assigned()::text", &[]), None);
    session.run("ROLLBACK");
}
