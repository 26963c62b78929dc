//! CREATE EXTENSION: where it may be installed, what it brings, who may touch it, and how it goes again.

use harness::fixtures::{host_app_sql, load_host_app, numbers};
use harness::{Cluster, Organizer, Session};

/// Members of the extension with their kind and description.
const MEMBERS: &str =
    "SELECT pg_describe_object(d.classid, d.objid, 0) AS name, d.classid::regclass::text AS kind, d.objid
                       FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                       WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'whatsapp_pg'";

/// Everything a catalog knows that is not the system's own.
const OBJECTS: &str = "SELECT 'class ' || oid::regclass FROM pg_class WHERE relnamespace NOT IN
                              ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
                       UNION ALL SELECT 'proc ' || oid::regprocedure FROM pg_proc WHERE oid >= 16384
                       UNION ALL SELECT 'type ' || oid::regtype FROM pg_type WHERE oid >= 16384
                       UNION ALL SELECT 'namespace ' || nspname FROM pg_namespace WHERE oid >= 16384 ORDER BY 1";

#[test]
fn it_works_in_any_schema_without_search_path() {
    for schema in ["wa", "\"Wa Schema\""] {
        let database = Cluster::shared().database_in(schema);
        let mut session = database.connect();
        // Fixtures name no schema, so they need one to be found; the calls under test below do not.
        session.run(&format!("SET search_path = {schema}"));
        let organizer = Organizer::create(&mut session);
        session.run("SET search_path = ''; SET whatsapp_pg.mode = 'live'");

        let queued: i64 = session.value(
            &format!(
                "SELECT count(*) FROM {schema}.wa_enqueue(user_id => $1, recipients => $2,
                        template_name => 'event_reminder_24h',
                        variables => '{{\"attendee_name\": \"A\", \"event_name\": \"B\", \"event_time\": \"C\"}}')"
            ),
            &[&organizer.id, &numbers(2)],
        );
        assert_eq!(queued, 2, "{schema}");

        session.execute_with(
            &format!(
                "INSERT INTO {schema}.whatsapp_queue (user_id, recipient_phone, template_name, template_variables)
                 VALUES ($1, '+573001234567', 'event_reminder_24h', '{{}}')"
            ),
            &[&organizer.id],
        );
        let allowed: bool = session.value(&format!("SELECT {schema}.wa_rate_ok($1)"), &[&organizer.id]);
        assert!(allowed, "{schema}");
        let shown: i64 = session.value(&format!("SELECT count(*) FROM {schema}.whatsapp_messages"), &[]);
        assert_eq!(shown, 3, "{schema}");
        let elsewhere: i64 = session.value(
            &format!(
                "SELECT count(*) FROM ({MEMBERS}) AS m JOIN pg_catalog.pg_class AS c ON c.oid = m.objid
                 WHERE m.kind IN ('pg_class', 'pg_catalog.pg_class') AND c.relnamespace <> '{schema}'::regnamespace"
            ),
            &[],
        );
        assert_eq!(elsewhere, 0, "{schema}: members outside it");
    }
}

#[test]
fn everything_it_brings_is_described() {
    let database = Cluster::shared().database();
    let mut session = database.connect();

    let silent: Vec<String> = session.values(
        &format!(
            "SELECT name FROM ({MEMBERS}) AS m
             LEFT JOIN pg_class AS c ON m.kind = 'pg_class' AND c.oid = m.objid
             LEFT JOIN pg_proc AS p ON m.kind = 'pg_proc' AND p.oid = m.objid
             WHERE (c.relkind IN ('r', 'v', 'S') OR p.oid IS NOT NULL OR m.kind = 'pg_type')
               AND obj_description(m.objid, m.kind) IS NULL
               AND NOT EXISTS (SELECT FROM pg_type AS t WHERE t.oid = m.objid AND (t.typrelid <> 0 OR t.typelem <> 0))
             UNION ALL
             SELECT name || ', column ' || a.attname FROM ({MEMBERS}) AS m
             JOIN pg_class AS c ON m.kind = 'pg_class' AND c.oid = m.objid AND c.relkind IN ('r', 'v')
             JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             WHERE col_description(c.oid, a.attnum) IS NULL
               AND has_table_privilege(c.oid, 'SELECT') AND c.relname IN
                   ('whatsapp_config', 'whatsapp_templates', 'whatsapp_queue', 'whatsapp_delivery_logs', 'ai_tasks',
                    'whatsapp_messages', 'whatsapp_analytics', 'wa_worker_status')"
        ),
        &[],
    );

    assert!(silent.is_empty(), "without COMMENT: {silent:#?}");
}

#[test]
fn it_has_all_columns_types_and_defaults_of_the_hand_made_tables() {
    const COLUMNS: &str = "SELECT format('%s.%s %s default %s', c.relname, a.attname,
                                         format_type(a.atttypid, a.atttypmod),
                                         replace(pg_get_expr(d.adbin, d.adrelid), 'pg_catalog.', ''))
                           FROM pg_class AS c
                           JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
                           LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
                           WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY 1";
    let hand_made = Cluster::shared().bare_database();
    hand_made.connect().run(&host_app_sql("hand_made_tables.sql"));
    let installed = Cluster::shared().database();

    let wanted: Vec<String> = hand_made.connect().values(COLUMNS, &[]);
    let found: Vec<String> = installed.connect().values(COLUMNS, &[]);

    let lost: Vec<_> = wanted.iter().filter(|column| !found.contains(column)).collect();
    assert!(wanted.len() > 50 && lost.is_empty(), "missing or different: {lost:#?}");
}

#[test]
fn the_checks_of_the_hand_made_tables_hold() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    for (sql, sqlstate) in [
        (
            "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, priority) VALUES ($1, '+573001234567', 't', 11)",
            "23514",
        ),
        (
            "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, status) VALUES ($1, '+573001234567', 't', 'gone')",
            "23514",
        ),
        ("INSERT INTO whatsapp_queue (user_id, recipient_phone) VALUES ($1, '+573001234567')", "23502"),
        (
            "INSERT INTO whatsapp_templates (user_id, template_name, category, template_body) VALUES ($1, 't', 'OTHER', 'x')",
            "23514",
        ),
        (
            "INSERT INTO whatsapp_templates (user_id, template_name, category, template_body)
          VALUES ($1, 'event_reminder_24h', 'UTILITY', 'x')",
            "23505",
        ),
        (
            "INSERT INTO ai_tasks (event_id, task_type, scheduled_for, template_name) VALUES ($1, 'dance', now(), 't')",
            "23514",
        ),
    ] {
        assert_eq!(session.refusal(sql, &[&organizer.id]).sqlstate, sqlstate, "{sql}");
    }
}

#[test]
fn hand_made_tables_stop_it_with_what_to_do_and_stay_as_they_were() {
    let database = Cluster::shared().bare_database();
    let mut session = database.connect();
    session.run(&host_app_sql("hand_made_tables.sql"));
    session.run(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name) VALUES (gen_random_uuid(), '+1', 't')",
    );
    let before: Vec<String> = session.values(OBJECTS, &[]);

    let refusal = session.refusal("CREATE EXTENSION whatsapp_pg", &[]);

    assert_eq!(refusal.sqlstate, "42P07", "{refusal:#?}");
    assert!(refusal.mentions("whatsapp_queue") && refusal.mentions("ai_tasks"), "{refusal:#?}");
    assert!(refusal.hint.contains("SCHEMA"), "{refusal:#?}");
    assert_eq!(session.values::<String>(OBJECTS, &[]), before);
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_queue", &[]), 1);

    session.run("CREATE SCHEMA wa; CREATE EXTENSION whatsapp_pg SCHEMA wa");
}

#[test]
fn any_one_table_of_its_names_stops_it_with_the_same_advice() {
    let ours: Vec<String> = Cluster::shared().database().connect().values(
        &format!(
            "SELECT c.relname::text FROM ({MEMBERS}) AS m JOIN pg_class AS c ON m.kind = 'pg_class' AND c.oid = m.objid
             WHERE c.relkind IN ('r', 'v', 'S')"
        ),
        &[],
    );
    let database = Cluster::shared().bare_database();
    let mut session = database.connect();

    for name in ours {
        session.run(&format!("CREATE TABLE {name} ()"));
        let refusal = session.refusal("CREATE EXTENSION whatsapp_pg", &[]);
        assert!(
            refusal.sqlstate == "42P07" && refusal.mentions(&name) && refusal.hint.contains("SCHEMA"),
            "{refusal:#?}"
        );
        session.run(&format!("DROP TABLE {name}"));
    }
}

#[test]
fn drop_extension_leaves_nothing_and_it_can_come_again() {
    let database = Cluster::shared().bare_database();
    let mut session = database.connect();
    load_host_app(&mut session);
    let before: Vec<String> = session.values(OBJECTS, &[]);

    for _ in 0..2 {
        session.run("CREATE EXTENSION whatsapp_pg");
        Organizer::create_for(&mut session, harness::fixtures::HOST_ORGANIZER, "");
        session.run("DROP EXTENSION whatsapp_pg");
        assert_eq!(session.values::<String>(OBJECTS, &[]), before);
    }
    let triggers: i64 = session.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal", &[]);
    assert_eq!(triggers, 0, "triggers on the host's tables stayed");
}

#[test]
fn the_hosts_tables_are_linked_when_they_are_there() {
    let database = Cluster::shared().bare_database();
    let mut session = database.connect();
    load_host_app(&mut session);
    session.run("CREATE EXTENSION whatsapp_pg");

    let references: Vec<String> = session.values(
        "SELECT DISTINCT format('%s to %s', conrelid::regclass, confrelid::regclass) FROM pg_constraint
         WHERE contype = 'f' AND confdeltype = 'c' AND confrelid IN ('profiles'::regclass, 'ai_events'::regclass)
           AND conrelid::regclass::text ~ '^(whatsapp_|ai_tasks)' ORDER BY 1",
        &[],
    );

    assert_eq!(
        references,
        [
            "ai_tasks to ai_events",
            "whatsapp_config to profiles",
            "whatsapp_queue to ai_events",
            "whatsapp_queue to profiles",
            "whatsapp_templates to profiles"
        ]
    );
}

#[test]
fn it_creates_none_of_the_hosts_tables() {
    let database = Cluster::shared().database();
    let missing: i64 = database.connect().value(
        "SELECT count(*) FROM unnest(ARRAY['profiles', 'ai_events', 'orders', 'attendees', 'rate_limits']) AS name
         WHERE to_regclass(name) IS NULL",
        &[],
    );
    assert_eq!(missing, 5);
}

#[test]
fn user_data_is_registered_for_pg_dump_and_sequences_with_it() {
    let database = Cluster::shared().database();
    let mut session = database.connect();

    let dumped: Vec<String> = session.values(
        "SELECT oid::regclass::text FROM pg_class
         WHERE oid = ANY (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'whatsapp_pg') ORDER BY 1",
        &[],
    );

    for table in ["whatsapp_config", "whatsapp_templates", "whatsapp_queue", "whatsapp_delivery_logs", "ai_tasks"] {
        assert!(dumped.iter().any(|name| name == table), "{table} is not dumped: {dumped:?}");
    }
    for secret in ["whatsapp_keys", "whatsapp_installation", "whatsapp_host"] {
        assert!(!dumped.iter().any(|name| name == secret), "{secret} must not be dumped");
    }
    let forgotten: Vec<String> = session.values(
        "SELECT s.oid::regclass::text FROM pg_class AS s
         JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i')
         JOIN pg_extension AS e ON e.extname = 'whatsapp_pg' AND d.refobjid = ANY (e.extconfig)
         WHERE s.relkind = 'S' AND s.oid <> ALL (e.extconfig)",
        &[],
    );
    assert!(forgotten.is_empty(), "sequences of dumped tables that are not dumped: {forgotten:?}");
}

#[test]
fn the_install_script_puts_no_rows_into_dumped_tables() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let tables: Vec<String> = session.values(
        "SELECT oid::regclass::text FROM pg_class
         WHERE relkind = 'r' AND oid = ANY (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'whatsapp_pg')",
        &[],
    );
    assert!(!tables.is_empty());
    for table in tables {
        assert_eq!(session.value::<i64>(&format!("SELECT count(*) FROM {table}"), &[]), 0, "{table}");
    }
}

/// What `role` may do with members of the extension.
fn rights(session: &mut Session, role: &str) -> Vec<String> {
    session.values(
        &format!(
            "SELECT name FROM ({MEMBERS}) AS m JOIN pg_class AS c ON m.kind = 'pg_class' AND c.oid = m.objid
             WHERE c.relkind IN ('r', 'v') AND has_table_privilege('{role}', c.oid,
                   'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                OR c.relkind = 'S' AND has_sequence_privilege('{role}', c.oid, 'USAGE, SELECT, UPDATE')
                OR c.relkind IN ('r', 'v') AND has_any_column_privilege('{role}', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
             UNION ALL
             SELECT name FROM ({MEMBERS}) AS m WHERE m.kind = 'pg_proc' AND has_function_privilege('{role}', m.objid, 'EXECUTE')"
        ),
        &[],
    )
}

#[test]
fn nobody_but_the_owner_may_do_anything_until_granted() {
    let cluster = Cluster::builder().start();
    let database = cluster.bare_database();
    let mut session = database.connect();
    session.run(
        "CREATE ROLE tenant; CREATE ROLE app;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app, PUBLIC;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO app, PUBLIC;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO app, PUBLIC;
         ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO app;
         CREATE EXTENSION whatsapp_pg",
    );

    for role in ["tenant", "app"] {
        let found = rights(&mut session, role);
        assert!(found.is_empty(), "{role} may use {found:#?}");
    }
}

#[test]
fn every_table_has_row_security() {
    let database = Cluster::shared().database();
    let open: Vec<String> = database.connect().values(
        &format!(
            "SELECT name FROM ({MEMBERS}) AS m JOIN pg_class AS c ON m.kind = 'pg_class' AND c.oid = m.objid
             WHERE c.relkind = 'r' AND NOT c.relrowsecurity"
        ),
        &[],
    );
    assert!(open.is_empty(), "without row security: {open:#?}");
}

#[test]
fn only_a_superuser_can_install_it() {
    let cluster = Cluster::builder().start();
    let database = cluster.bare_database();
    database.connect().run(&format!(
        "CREATE ROLE developer LOGIN; GRANT ALL ON DATABASE {} TO developer; GRANT ALL ON SCHEMA public TO developer",
        database.name()
    ));

    let refusal = database.connect_as("developer").refusal("CREATE EXTENSION whatsapp_pg", &[]);

    assert_eq!(refusal.sqlstate, "42501");
}

#[test]
fn it_can_be_installed_without_being_preloaded() {
    let cluster = Cluster::builder().start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    assert_eq!(organizer.enqueue(&mut session, &numbers(2)).len(), 2);
}

#[test]
fn a_create_extension_that_is_rolled_back_leaves_nothing_behind() {
    let database = Cluster::shared().bare_database();
    let mut session = database.connect();

    session.run("BEGIN; CREATE EXTENSION whatsapp_pg; ROLLBACK");

    assert!(session.values::<String>(&format!("SELECT name FROM ({MEMBERS}) AS m"), &[]).is_empty());
    session.run("CREATE EXTENSION whatsapp_pg");
}
