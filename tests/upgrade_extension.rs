//! From the released 0.1.0 to this version: the new library works with the old catalog, and after ALTER EXTENSION UPDATE the
//! catalog is that of a fresh installation, with everything that was there.

use std::path::PathBuf;
use std::process::Command;

use graph_simulator::{Account, Limits, Simulator};
use harness::fixtures::{REMINDER, load_host_app, numbers, reminder_variables, serving, simulator, wait_for_drainer};
use harness::programs::{finish, programs};
use harness::wait::PATIENCE;
use harness::{Cluster, Database, Organizer, Session, wait_until};
use uuid::Uuid;

const OLD: &str = "0.1.0";

/// Puts the released script beside those of this version.
fn bring_old_script() {
    let script = include_str!("released/whatsapp_pg--0.1.0.sql");
    let mut pg_config = Command::new(programs().bin().join("pg_config"));
    pg_config.arg("--sharedir");
    let share = finish(pg_config).stdout;
    let directory = PathBuf::from(String::from_utf8_lossy(&share).trim()).join("extension");
    let path = directory.join(format!("whatsapp_pg--{OLD}.sql"));
    if std::fs::read_to_string(&path).is_ok_and(|there| there == script) {
        return;
    }
    // In one step: another test run may do the same.
    let draft = directory.join(format!("whatsapp_pg--{OLD}.sql.{}", std::process::id()));
    std::fs::write(&draft, script).expect("make install has written there, too");
    std::fs::rename(&draft, &path).expect("same directory");
}

/// The catalog of the extension, one line for each thing that can differ.
const CATALOG: &str = r#"
    WITH extension AS (SELECT oid, extconfig, extcondition FROM pg_extension WHERE extname = 'whatsapp_pg'),
    member AS (SELECT d.classid, d.objid FROM pg_depend AS d JOIN extension AS e ON d.refobjid = e.oid
               WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
    relation AS (SELECT c.* FROM pg_class AS c JOIN member AS m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass)
    SELECT 'member ' || pg_describe_object(m.classid, m.objid, 0) FROM member AS m
    UNION ALL
    SELECT format('relation %s %s %s rls %s %s acl %s: %s', c.relname, c.relkind, c.reloptions, c.relrowsecurity,
                  c.relforcerowsecurity, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) AS a),
                  obj_description(c.oid, 'pg_class'))
    FROM relation AS c
    UNION ALL
    SELECT format('column %s.%s %s %s null %s default %s identity %s%s acl %s: %s', c.relname, a.attname, a.attnum,
                  format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity,
                  a.attgenerated, (SELECT array_agg(p::text ORDER BY p::text) FROM unnest(a.attacl) AS p),
                  col_description(c.oid, a.attnum))
    FROM relation AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relkind <> 'S'
    UNION ALL
    SELECT format('constraint %s %s %s', c.relname, k.conname, pg_get_constraintdef(k.oid))
    FROM relation AS c JOIN pg_constraint AS k ON k.conrelid = c.oid
    UNION ALL
    SELECT format('index %s %s', pg_get_indexdef(i.indexrelid), x.reloptions)
    FROM relation AS c JOIN pg_index AS i ON i.indrelid = c.oid JOIN pg_class AS x ON x.oid = i.indexrelid
    UNION ALL
    SELECT format('function %s %s acl %s: %s', p.oid::regprocedure, pg_get_functiondef(p.oid),
                  (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(p.proacl) AS a), obj_description(p.oid, 'pg_proc'))
    FROM pg_proc AS p JOIN member AS m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass WHERE p.prokind = 'f'
    UNION ALL
    SELECT format('trigger %s %s', t.tgenabled, pg_get_triggerdef(t.oid))
    FROM relation AS c JOIN pg_trigger AS t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT format('policy %s %s %s %s %s %s %s', p.tablename, p.policyname, p.permissive, p.roles, p.cmd, p.qual, p.with_check)
    FROM pg_policies AS p JOIN relation AS c ON c.relname = p.tablename
    UNION ALL
    SELECT format('view %s %s', c.relname, pg_get_viewdef(c.oid)) FROM relation AS c WHERE c.relkind = 'v'
    UNION ALL
    SELECT format('dumped %s %s', t.oid::regclass, t.condition)
    FROM extension AS e, unnest(e.extconfig, e.extcondition) AS t (oid, condition)
    UNION ALL
    SELECT format('sequence %s %s', c.relname, s) FROM relation AS c JOIN LATERAL (
        SELECT q.seqstart, q.seqincrement, q.seqmax, q.seqmin, q.seqcycle, format_type(q.seqtypid, NULL) FROM pg_sequence AS q WHERE q.seqrelid = c.oid) AS s ON true
    ORDER BY 1"#;

/// The rows, in the columns that 0.1.0 had.
const CONTENT: &str = "
    SELECT concat_ws(' ', id, user_id, recipient_phone, template_name, template_variables, priority, scheduled_for, status,
                     retry_count, error_message, error_code, sent_at, created_at, seq, lease, idempotency_key) FROM whatsapp_queue
    UNION ALL SELECT concat_ws(' ', id, user_id, phone_number_id, access_token_encrypted, rate_limit_tier) FROM whatsapp_config
    UNION ALL SELECT concat_ws(' ', id, queue_id, status, source, attempt) FROM whatsapp_delivery_logs
    UNION ALL SELECT concat_ws(' ', id, template_name, status) FROM whatsapp_templates
    UNION ALL SELECT concat_ws(' ', portfolio, recipient_phone, last_sent) FROM whatsapp_recipients
    UNION ALL SELECT concat_ws(' ', portfolio, starts, ends, messages) FROM whatsapp_usage
    UNION ALL SELECT concat_ws(' ', role_name, kind, user_id) FROM whatsapp_roles
    UNION ALL SELECT id::text FROM whatsapp_installation
    UNION ALL SELECT concat_ws(' ', key_id, key_text) FROM whatsapp_keys
    ORDER BY 1";

/// A database with the old catalog.
fn old_database(cluster: &Cluster) -> (Database<'_>, Session) {
    let database = cluster.bare_database();
    let mut session = database.connect();
    install_old(&mut session, "public");
    (database, session)
}

fn install_old(session: &mut Session, schema: &str) {
    bring_old_script();
    session.run(&format!("CREATE EXTENSION whatsapp_pg SCHEMA {schema} VERSION '{OLD}'"));
}

/// The roles that a DBA has named; they are there for the whole server.
fn name_roles(session: &mut Session, organizer: Uuid) {
    session.run("SELECT wa_grant_operator('ops'), wa_grant_organizer('api')");
    session.execute_with("SELECT wa_grant_organizer('ana', $1)", &[&organizer]);
}

/// A message in each state, 200 recipients of the day, and used time.
fn fill(session: &mut Session, organizer: &Organizer) {
    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables, status, error_code, error_message, sent_at,
                                     lease, retry_count, scheduled_for)
         SELECT $1, '+57310' || 1000000 + n, $2, $3, s.status, s.code, s.code,
                CASE s.status WHEN 'sent' THEN now() - interval '2 hours' END,
                CASE WHEN s.status <> 'queued' THEN 16777216::bigint * 9000 END, n % 3,
                CASE s.status WHEN 'queued' THEN now() + interval '1 day' ELSE now() - interval '3 hours' END
         FROM generate_series(0, 59) AS n
         JOIN (VALUES (0, 'queued', NULL), (1, 'sending', NULL), (2, 'sent', NULL), (3, 'failed', '131026'),
                      (4, 'unknown', 'outcome_unknown'), (5, 'cancelled', NULL)) AS s (k, status, code) ON s.k = n % 6",
        &[&organizer.id, &REMINDER, &reminder_variables()],
    );
    session.run(
        "INSERT INTO whatsapp_delivery_logs (queue_id, user_id, status, source, attempt)
         SELECT id, user_id, CASE status WHEN 'sending' THEN 'retried' ELSE status END, 'send', 1 FROM whatsapp_queue
         WHERE status IN ('sent', 'failed', 'unknown')",
    );
    session.execute_with(
        "INSERT INTO whatsapp_recipients (portfolio, recipient_phone, last_sent)
         SELECT 'account 2' || $1, '+57300' || 1000000 + n, now() - interval '5 hours' FROM generate_series(0, 199) AS n",
        &[&organizer.phone_number_id],
    );
    session.execute_with(
        "INSERT INTO whatsapp_usage (portfolio, user_id, starts, ends, messages)
         SELECT 'account 2' || $1, $2, now() - n * interval '1 hour', now() - n * interval '1 hour', 40
         FROM generate_series(1, 5) AS n",
        &[&organizer.phone_number_id, &organizer.id],
    );
    session.execute_with(
        "INSERT INTO whatsapp_budget (portfolio, recipients) VALUES ('account 2' || $1, 200) ON CONFLICT DO NOTHING",
        &[&organizer.phone_number_id],
    );
}

fn limited(simulator: &Simulator, organizer: &Organizer) {
    simulator.put_account(Account {
        phone_number_id: organizer.phone_number_id.clone(),
        limits: Some(Limits { daily_recipients: Some(50), count_only: true, ..Limits::default() }),
        ..Account::default()
    });
}

fn server(simulator: &Simulator) -> Cluster {
    let cluster = serving(simulator).setting("whatsapp_pg.poll_interval", "'1s'").start();
    cluster.connect("postgres").run("CREATE ROLE ops LOGIN; CREATE ROLE api LOGIN; CREATE ROLE ana LOGIN");
    cluster
}

#[test]
fn the_new_library_queues_with_the_old_catalog_sends_nothing_and_says_once_what_is_due() {
    let simulator = simulator();
    let cluster = server(&simulator);
    let (database, mut session) = old_database(&cluster);
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000, rate_limit_tier => 'tier_250'");
    session.execute_with("SELECT wa_grant_organizer('ana', $1)", &[&organizer.id]);

    wait_for_drainer(&mut session);
    organizer.enqueue(&mut session, &numbers(2));
    organizer.enqueue(&mut database.connect_as("ana"), &["+447400123456".into()]);
    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables)
         VALUES ($1, '+447400123457', $2, $3)",
        &[&organizer.id, &REMINDER, &reminder_variables()],
    );
    let with_expiry: i64 = session.value(
        "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                                         expires_at => now() + interval '1 hour', idempotency_key => 'k')",
        &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables()],
    );
    assert_eq!(with_expiry, 1);
    for (call, params) in [("wa_rate_ok($1)", 1), ("wa_rate_status($1)", 1), ("wa_process_batch(10)", 0)] {
        // An answer, or a refusal that says what is due; nothing that only a developer understands.
        let sql = format!("SELECT {call}");
        let answer = if params == 1 { session.query(&sql, &[&organizer.id]) } else { session.query(&sql, &[]) };
        if let Err(error) = answer {
            let refusal = harness::Refusal::of(&error).expect("from the server");
            assert!(refusal.mentions("ALTER EXTENSION whatsapp_pg UPDATE"), "{call}: {refusal:#?}");
        }
    }
    session.execute_with("SELECT wa_cancel(user_id => $1)", &[&organizer.id]);
    assert_eq!(organizer.count(&mut session, "cancelled"), 5);
    organizer.enqueue(&mut session, &numbers(3));

    let due = "ALTER EXTENSION whatsapp_pg UPDATE";
    wait_until(
        "the line in the log",
        PATIENCE,
        || if cluster.log().contains(due) { Ok(()) } else { Err(cluster.log()) },
    );
    // The worker looks again each second and does not repeat it.
    let seen: String =
        session.value("SELECT last_pass_at::text FROM wa_worker_status WHERE database = current_database()", &[]);
    session.wait_for(
        "two further looks",
        "SELECT last_pass_at > $1::text::timestamptz + interval '1.5 seconds' AND last_pass_at IS NOT NULL
         FROM wa_worker_status WHERE database = current_database()",
        &[&seen],
    );
    let told: Vec<String> = cluster
        .log()
        .lines()
        .filter(|line| line.contains(due) && line.contains("drainer"))
        .map(str::to_owned)
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains(OLD), "{told:#?}");
    assert_eq!((simulator.stats().requests, organizer.count(&mut session, "queued")), (0, 3));

    session.run("ALTER EXTENSION whatsapp_pg UPDATE");
    organizer.wait_for_count(&mut session, "sent", 3);
}

#[test]
fn after_the_update_the_catalog_is_that_of_a_fresh_installation() {
    let simulator = simulator();
    let cluster = server(&simulator);
    // Alone, in a schema whose name must be quoted, and linked to a host application.
    for (schema, has_host) in [("public", false), ("\"Wa home\"", false), ("public", true)] {
        let catalogs = [true, false].map(|is_upgraded| {
            let database = cluster.bare_database();
            let mut session = database.connect();
            session.run(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
            if has_host {
                load_host_app(&mut session);
            }
            if is_upgraded {
                install_old(&mut session, schema);
            } else {
                session.run(&format!("CREATE EXTENSION whatsapp_pg SCHEMA {schema}"));
            }
            session.run(&format!("SET search_path = {schema}"));
            name_roles(&mut session, Uuid::from_u128(7));
            session.run("RESET search_path");
            if is_upgraded {
                session.run("ALTER EXTENSION whatsapp_pg UPDATE");
            }
            session.values::<String>(CATALOG, &[])
        });
        let [upgraded, fresh] = &catalogs;
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|line| !those.contains(line)).cloned().collect()
        };
        assert!(fresh.len() > 300, "{} lines", fresh.len());
        let (missing, surplus) = (only(fresh, upgraded), only(upgraded, fresh));
        assert!(missing.is_empty() && surplus.is_empty(), "{schema} missing: {missing:#?}\nsurplus: {surplus:#?}");
    }
}

#[test]
fn after_the_update_everything_is_there_flows_and_adds_up() {
    let simulator = simulator();
    let cluster = server(&simulator);
    let (database, mut session) = old_database(&cluster);
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000, rate_limit_tier => 'tier_250'");
    limited(&simulator, &organizer);
    name_roles(&mut session, organizer.id);
    fill(&mut session, &organizer);
    organizer.enqueue(&mut session, &numbers(300));
    let before: Vec<String> = session.values(CONTENT, &[]);

    session.run("BEGIN; ALTER EXTENSION whatsapp_pg UPDATE");
    assert_eq!(session.values::<String>(CONTENT, &[]), before);
    session.run("COMMIT");

    // 200 of the 300 have been written to today, and 50 more may be.
    wait_until("all that may leave to be sent", PATIENCE, || {
        let used: bool = session.value("SELECT bool_or(used = 250) FROM wa_rate_status($1)", &[&organizer.id]);
        let accepted = simulator.stats().accepted;
        if used && accepted == 250 { Ok(()) } else { Err((used, accepted)) }
    });
    assert_eq!((simulator.stats().duplicates, organizer.count(&mut session, "failed")), (0, 10));
    session.wait_for_value(&20_i64, "SELECT count(*) FROM whatsapp_queue WHERE status = 'unknown'", &[]);

    let mut ana = database.connect_as("ana");
    assert_eq!(ana.value::<i64>("SELECT wa_pause(template_name => 'any')", &[]), 1);
    assert_eq!(ana.value::<i64>("SELECT wa_resume(template_name => 'any')", &[]), 1);
    let failed: Uuid = session.values("SELECT id FROM whatsapp_queue WHERE status = 'failed' LIMIT 1", &[])[0];
    ana.execute_with("SELECT wa_retry($1)", &[&failed]);
    assert!(ana.value::<i64>("SELECT count(*) FROM wa_explain($1)", &[&failed]) > 0);
    let audit: Vec<String> = session.values("SELECT a::text FROM wa_audit(true) AS a WHERE NOT a.ok", &[]);
    assert_eq!(audit, Vec::<String>::new());
}

#[test]
fn an_update_that_is_rolled_back_leaves_the_old_catalog_working() {
    let simulator = simulator();
    let cluster = server(&simulator);
    let (_database, mut session) = old_database(&cluster);
    let before: Vec<String> = session.values(CATALOG, &[]);

    session.run("BEGIN; ALTER EXTENSION whatsapp_pg UPDATE; ROLLBACK");

    assert_eq!(session.values::<String>(CATALOG, &[]), before);
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(1));
    session.run("ALTER EXTENSION whatsapp_pg UPDATE");
    organizer.wait_for_count(&mut session, "sent", 1);
}
