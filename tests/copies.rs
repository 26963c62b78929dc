//! A copy of the database sends nothing until somebody says that it should.

use harness::fixtures::{TOKEN, numbers, serving, simulator};
use harness::{Cluster, Database, Organizer, Session};

/// What a copy must have kept.
const CONTENT: &str = "SELECT format('%s %s %s', recipient_phone, status, template_variables) FROM whatsapp_queue
                       UNION ALL SELECT format('%s %s', user_id, access_token_encrypted) FROM whatsapp_config
                       UNION ALL SELECT format('%s %s', template_name, language) FROM whatsapp_templates
                       UNION ALL SELECT format('%s %s', queue_id, status) FROM whatsapp_delivery_logs
                       ORDER BY 1";

/// A database with an organizer, two sent messages and three that are due later.
fn original<'a>(cluster: &'a Cluster) -> (Database<'a>, Organizer) {
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(2));
    organizer.wait_for_count(&mut session, "sent", 2);
    session.execute_with(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => 'event_reminder_24h', variables => $3,
                           scheduled_for => now() + interval '1 day')",
        &[
            &organizer.id,
            &["+447400123451", "+447400123452", "+447400123453"].as_slice(),
            &harness::fixtures::reminder_variables(),
        ],
    );
    (database, organizer)
}

/// Makes the waiting messages of a copy due, and sees that they are held with the reason, once in the log.
fn assert_holds(copy: &mut Session, organizer: &Organizer, log: impl Fn() -> String) {
    let before = log().matches("wa_adopt_copy").count();
    copy.run("UPDATE whatsapp_queue SET scheduled_for = now() WHERE status = 'queued'");
    copy.wait_for(
        "the hold to be reported",
        "SELECT coalesce(note ~ 'wa_adopt_copy', false) FROM wa_worker_status WHERE database = current_database()",
        &[],
    );
    // Wake it again: it must neither send nor repeat itself.
    for _ in 0..3 {
        copy.run("UPDATE whatsapp_queue SET priority = 6 WHERE status = 'queued'");
    }
    let row = copy.query_one("SELECT processed FROM wa_process_batch()", &[]);
    match row {
        Ok(row) => assert_eq!(row.get::<_, i32>(0), 0),
        Err(error) => assert!(error.to_string().contains("copy") || format!("{error:?}").contains("wa_adopt_copy")),
    }
    assert!(!copy.value::<bool>("SELECT wa_rate_ok($1)", &[&organizer.id]));
    assert!(copy.value::<bool>("SELECT bool_or(reason ~ 'wa_adopt_copy') FROM wa_rate_status($1)", &[&organizer.id]));
    assert_eq!(organizer.count(copy, "queued"), 3);
    assert!(log().matches("wa_adopt_copy").count() <= before + 1, "it says so once:\n{}", log());
}

#[test]
fn a_clone_made_from_a_template_holds_until_it_is_adopted() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let (database, organizer) = original(&cluster);
    let content: Vec<String> = database.connect().values(CONTENT, &[]);

    cluster.connect("postgres").run(&format!("CREATE DATABASE clone TEMPLATE {}", database.name()));
    let mut clone = cluster.connect("clone");
    assert_eq!(clone.values::<String>(CONTENT, &[]), content);
    assert_holds(&mut clone, &organizer, || cluster.log());
    assert_eq!(simulator.stats().accepted, 2);
    assert!(cluster.log().contains("wa_adopt_copy"), "the log says what to do");

    clone.run("SELECT wa_adopt_copy()");
    organizer.wait_for_count(&mut clone, "sent", 5);
    assert_eq!(simulator.stats().accepted, 5);
}

#[test]
fn a_dump_restored_beside_the_original_keeps_everything_and_holds() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let (database, organizer) = original(&cluster);
    let content: Vec<String> = database.connect().values(CONTENT, &[]);
    let key: String = database.connect().value("SELECT wa_export_key()", &[]);

    let dump = cluster.dump(database.name(), &[]);
    let copy = cluster.bare_database();
    cluster.restore(&dump, copy.name(), &[]);
    let mut session = copy.connect();
    assert_eq!(session.values::<String>(CONTENT, &[]), content);
    assert_holds(&mut session, &organizer, || cluster.log());
    assert_eq!(simulator.stats().accepted, 2);

    // Adopted, it still lacks the key that opens the token.
    session.run("SELECT wa_adopt_copy()");
    session.wait_for(
        "the missing key to be reported",
        "SELECT bool_or(reason ~* 'key') FROM wa_rate_status($1)",
        &[&organizer.id],
    );
    assert_eq!(simulator.stats().accepted, 2);

    session.execute_with("SELECT wa_import_key($1)", &[&key]);
    organizer.wait_for_count(&mut session, "sent", 5);
    assert_eq!(simulator.stats().accepted, 5);

    // The sequence went along: new rows do not collide with old ones.
    organizer.enqueue(&mut session, &["+447400123459".into()]);
    organizer.wait_for_count(&mut session, "sent", 6);
    let distinct: bool = session.value("SELECT count(DISTINCT seq) = count(*) FROM whatsapp_queue", &[]);
    assert!(distinct);
}

#[test]
fn a_dump_restored_on_another_server_holds_and_goes_on_after_a_new_configure() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let (database, organizer) = original(&cluster);
    let dump = cluster.dump(database.name(), &[]);

    let elsewhere = serving(&simulator).own_identity().start();
    let file = elsewhere.path("moved.dump");
    std::fs::copy(dump, &file).expect("copied");
    harness::programs::programs().give(&file);
    let copy = elsewhere.bare_database();
    elsewhere.restore(&file, copy.name(), &[]);
    let mut session = copy.connect();
    assert_holds(&mut session, &organizer, || elsewhere.log());
    assert_eq!(simulator.stats().accepted, 2);

    session.run("SELECT wa_adopt_copy()");
    session.execute_with("UPDATE whatsapp_config SET access_token_encrypted = $1", &[&TOKEN]);
    organizer.wait_for_count(&mut session, "sent", 5);
    assert_eq!(simulator.stats().accepted, 5);
}

#[test]
fn a_restore_does_not_lose_rows_that_todays_checks_would_refuse() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(3));
    // What was valid once: the template was renamed, the account suspended, the number is odd.
    session.run(
        "UPDATE whatsapp_templates SET template_name = 'gone';
         UPDATE whatsapp_config SET status = 'suspended';
         UPDATE whatsapp_queue SET recipient_phone = 'odd ' || seq;
         INSERT INTO ai_tasks (event_id, task_type, status, scheduled_for, template_name)
             VALUES (gen_random_uuid(), 'send_reminder', 'pending', now(), 'gone');
         UPDATE ai_tasks SET status = 'completed'",
    );
    let tables = ["whatsapp_config", "whatsapp_templates", "whatsapp_queue", "whatsapp_delivery_logs", "ai_tasks"];
    let dump = cluster.dump(database.name(), &[]);

    let copy = cluster.bare_database();
    cluster.restore(&dump, copy.name(), &[]);

    let mut restored = copy.connect();
    for table in tables {
        let sql = format!("SELECT coalesce(jsonb_agg(t ORDER BY t.id), '[]') FROM {table} AS t");
        assert_eq!(
            restored.value::<serde_json::Value>(&sql, &[]),
            session.value::<serde_json::Value>(&sql, &[]),
            "{table}"
        );
    }
}

#[test]
fn a_parallel_and_a_data_only_restore_work_as_documented() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(50));
    let dump = cluster.dump(database.name(), &[]);
    let content: Vec<String> = session.values(CONTENT, &[]);

    let parallel = cluster.bare_database();
    cluster.restore(&dump, parallel.name(), &["--jobs=4"]);
    assert_eq!(parallel.connect().values::<String>(CONTENT, &[]), content);

    let data_only = cluster.database();
    cluster.restore(&dump, data_only.name(), &["--data-only", "--disable-triggers"]);
    assert_eq!(data_only.connect().values::<String>(CONTENT, &[]), content);
}

#[test]
fn a_dump_with_the_host_application_restores_and_can_be_linked_again() {
    let cluster = Cluster::shared();
    let database = cluster.bare_database();
    let mut session = database.connect();
    harness::fixtures::load_host_app(&mut session);
    session.run("CREATE EXTENSION whatsapp_pg");
    Organizer::create_for(&mut session, harness::fixtures::HOST_ORGANIZER, "");
    let dump = cluster.dump(database.name(), &[]);

    let copy = cluster.bare_database();
    cluster.restore(&dump, copy.name(), &[]);
    let mut restored = copy.connect();
    restored.run("SELECT wa_link_host()");

    let references: i64 = restored.value(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND confrelid IN ('profiles'::regclass, 'ai_events'::regclass)
           AND conrelid::regclass::text ~ '^(whatsapp_|ai_tasks)'",
        &[],
    );
    assert_eq!(references, 5);
}
