//! Tenants are walled off: who may act for whom, and what each kind of role can see and do.

use harness::fixtures::{HOST_EVENT, HOST_ORGANIZER, REMINDER, TOKEN, load_host_app, numbers, reminder_variables};
use harness::{Cluster, Database, Organizer, Session};
use uuid::Uuid;

const ENQUEUE: &str =
    "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)";

/// Roles belong to the whole server, so these tests have servers of their own. Nothing is sent.
fn server() -> Cluster {
    Cluster::builder().preloaded().setting("whatsapp_pg.mode", "off").start()
}

/// Two organizers, each with two queued messages, and the roles: `ana` and `luis` log in for one of them each, `api`
/// acts for the subject of a token, `operator` runs the product, `stranger` was never named.
fn two_tenants(cluster: &Cluster) -> (Database<'_>, Organizer, Organizer) {
    let database = cluster.database();
    let mut session = database.connect();
    let ana = Organizer::create(&mut session);
    let luis = Organizer::create(&mut session);
    for organizer in [&ana, &luis] {
        organizer.enqueue(&mut session, &numbers(2));
    }
    session.run(
        "CREATE ROLE ana LOGIN; CREATE ROLE luis LOGIN; CREATE ROLE api LOGIN; CREATE ROLE operator LOGIN;
         CREATE ROLE stranger LOGIN;
         SELECT wa_grant_organizer('api'); SELECT wa_grant_operator('operator')",
    );
    for (role, organizer) in [("ana", &ana), ("luis", &luis)] {
        session.execute_with(&format!("SELECT wa_grant_organizer('{role}', $1)"), &[&organizer.id]);
    }
    (database, ana, luis)
}

fn set_subject(session: &mut Session, subject: Uuid) {
    session.run(&format!("SET request.jwt.claims = '{{\"sub\": \"{subject}\", \"role\": \"api\"}}'"));
}

/// The organizers whose rows the session sees anywhere.
fn visible(session: &mut Session) -> Vec<Uuid> {
    session.values(
        "SELECT user_id FROM whatsapp_queue UNION SELECT user_id FROM whatsapp_messages
         UNION SELECT user_id FROM whatsapp_templates UNION SELECT user_id FROM whatsapp_config
         UNION SELECT user_id FROM whatsapp_delivery_logs UNION SELECT user_id FROM ai_tasks
         UNION SELECT user_id FROM whatsapp_analytics",
        &[],
    )
}

#[test]
fn a_role_of_one_organizer_sees_and_queues_for_that_one_only() {
    let cluster = server();
    let (database, ana, luis) = two_tenants(&cluster);
    let mut session = database.connect_as("ana");

    assert_eq!(visible(&mut session), [ana.id]);
    let queued: i64 = session.value(ENQUEUE, &[&ana.id, &vec!["+447400123456"], &REMINDER, &reminder_variables()]);
    assert_eq!(queued, 1);
    assert!(session.refusal("SELECT wa_rate_status($1)", &[&luis.id]).sqlstate == "42501");
    for sql in [
        ENQUEUE.to_owned(),
        "SELECT wa_configure($1, '1', '1', $3, 'v') FROM (SELECT $2::text[], $4::jsonb) AS unused".to_owned(),
    ] {
        let refusal = session.refusal(&sql, &[&luis.id, &numbers(1), &REMINDER, &reminder_variables()]);
        assert_eq!(refusal.sqlstate, "42501", "{sql}: {refusal:#?}");
    }
    let refusal = session.refusal(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name) VALUES ($1, '+573001000000', 'x')",
        &[&luis.id],
    );
    assert_eq!(refusal.sqlstate, "42501", "{refusal:#?}");
    let refusal = session.refusal("SELECT wa_cancel(user_id => $1)", &[&luis.id]);
    assert_eq!(refusal.sqlstate, "42501", "{refusal:#?}");
    assert_eq!(luis.count(&mut database.connect(), "queued"), 2);
}

#[test]
fn an_api_role_acts_for_the_subject_of_its_token_and_for_nobody_without_one() {
    let cluster = server();
    let (database, ana, luis) = two_tenants(&cluster);
    let mut session = database.connect_as("api");

    for claims in ["", "SET request.jwt.claims = ''", "SET request.jwt.claims = '{}'"] {
        session.run(claims);
        assert_eq!(visible(&mut session), Vec::<Uuid>::new(), "{claims:?}");
        let refusal = session.refusal(
            "SELECT wa_send(template_name => $1, recipients => $2, variables => $3)",
            &[&REMINDER, &numbers(1), &reminder_variables()],
        );
        assert_eq!(refusal.sqlstate, "42501", "{claims:?}: {refusal:#?}");
    }

    for organizer in [&ana, &luis] {
        set_subject(&mut session, organizer.id);
        assert_eq!(visible(&mut session), [organizer.id]);
        session.execute_with(
            "SELECT wa_send(template_name => $1, recipients => $2, variables => $3)",
            &[&REMINDER, &vec!["+447400123456"], &reminder_variables()],
        );
        assert_eq!(organizer.count(&mut session, "queued"), 3);
    }

    session.run("SET request.jwt.claims = '{\"sub\": \"not a uuid\"}'");
    assert_eq!(visible(&mut session), Vec::<Uuid>::new());
}

#[test]
fn a_role_that_logs_in_directly_cannot_become_somebody_else_by_claims() {
    let cluster = server();
    let (database, ana, luis) = two_tenants(&cluster);
    let mut session = database.connect_as("ana");

    set_subject(&mut session, luis.id);

    assert_eq!(visible(&mut session), [ana.id]);
    let refusal = session.refusal(ENQUEUE, &[&luis.id, &numbers(1), &REMINDER, &reminder_variables()]);
    assert_eq!(refusal.sqlstate, "42501", "{refusal:#?}");
}

#[test]
fn an_organizer_cannot_write_outcomes_limits_or_stamps() {
    let cluster = server();
    let (database, ..) = two_tenants(&cluster);
    let mut session = database.connect_as("ana");

    for sql in [
        "UPDATE whatsapp_queue SET status = 'sent'",
        "DELETE FROM whatsapp_queue",
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, status)
         SELECT user_id, '+573001000000', 'x', 'sent' FROM whatsapp_queue",
        "UPDATE whatsapp_config SET messages_per_second = 1000",
        "UPDATE whatsapp_config SET sender_database = 1",
        "SELECT access_token_encrypted FROM whatsapp_config",
        "DELETE FROM whatsapp_delivery_logs",
        "UPDATE ai_tasks SET queued_count = 7",
        "TRUNCATE whatsapp_queue",
        "SELECT * FROM whatsapp_keys",
        "SELECT * FROM whatsapp_recipients",
        "SELECT wa_process_batch()",
        "SELECT wa_adopt_copy()",
        "SELECT wa_export_key()",
        "SELECT * FROM wa_worker_status",
        "SELECT wa_grant_operator('ana')",
        "CREATE TRIGGER mine AFTER UPDATE ON whatsapp_queue EXECUTE FUNCTION whatsapp_wake()",
    ] {
        let refusal = session.refusal(sql, &[]);
        assert_eq!(refusal.sqlstate, "42501", "{sql}: {refusal:#?}");
    }
}

#[test]
fn a_role_that_nobody_named_can_do_nothing_at_all() {
    let cluster = server();
    let (database, ana, _) = two_tenants(&cluster);
    let mut session = database.connect_as("stranger");

    for sql in [
        "SELECT * FROM whatsapp_queue",
        "SELECT * FROM whatsapp_messages",
        "SELECT wa_rate_ok(NULL)",
        "SELECT wa_my_organizers()",
        "SELECT wa_cancel()",
    ] {
        let refusal = session.refusal(sql, &[]);
        assert_eq!(refusal.sqlstate, "42501", "{sql}: {refusal:#?}");
    }
    let refusal = session.refusal(ENQUEUE, &[&ana.id, &numbers(1), &REMINDER, &reminder_variables()]);
    assert_eq!(refusal.sqlstate, "42501", "{refusal:#?}");
}

#[test]
fn an_operator_runs_everything_and_reads_no_secret() {
    let cluster = server();
    let (database, ana, luis) = two_tenants(&cluster);
    let mut session = database.connect_as("operator");

    let mut seen = visible(&mut session);
    seen.sort();
    let mut both = vec![ana.id, luis.id];
    both.sort();
    assert_eq!(seen, both);
    session.execute_with(ENQUEUE, &[&luis.id, &vec!["+447400123456"], &REMINDER, &reminder_variables()]);
    luis.configure(&mut session, "");
    session.rows("SELECT * FROM wa_process_batch()", &[]);
    session.rows("SELECT * FROM wa_worker_status", &[]);
    let cancelled: i64 = session.value("SELECT wa_cancel(user_id => $1)", &[&luis.id]);
    assert_eq!(cancelled, 3);

    for sql in [
        "SELECT access_token_encrypted FROM whatsapp_config",
        "SELECT * FROM whatsapp_keys",
        "SELECT wa_export_key()",
        "SELECT wa_grant_operator('operator')",
    ] {
        let refusal = session.refusal(sql, &[]);
        assert_eq!(refusal.sqlstate, "42501", "{sql}: {refusal:#?}");
    }
}

#[test]
fn only_who_may_read_server_files_may_refer_to_one() {
    let cluster = server();
    let (database, ana, _) = two_tenants(&cluster);
    let mut session = database.connect_as("ana");

    for reference in ["file:/etc/passwd", "vault:somebody else's"] {
        let refusal = session
            .refusal("SELECT wa_configure($1, $2, '1022', $3, 'verify')", &[&ana.id, &ana.phone_number_id, &reference]);
        assert_eq!(refusal.sqlstate, "42501", "{refusal:#?}");
    }
    session.execute_with("SELECT wa_configure($1, $2, '1022', $3, 'verify')", &[&ana.id, &ana.phone_number_id, &TOKEN]);
}

#[test]
fn an_applications_own_definer_function_may_queue_for_its_organizer() {
    let cluster = server();
    let (database, ana, _) = two_tenants(&cluster);
    database.connect().run(&format!(
        "CREATE ROLE shop; GRANT operator TO shop; GRANT CREATE ON SCHEMA public TO shop;
         CREATE ROLE buyer LOGIN;
         SET ROLE shop;
         CREATE FUNCTION confirm(phone text) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public AS
             $f$ SELECT count(*) FROM wa_enqueue(user_id => '{}', recipients => ARRAY[phone], template_name => '{REMINDER}',
                     variables => '{}') $f$;
         GRANT EXECUTE ON FUNCTION confirm(text) TO buyer",
        ana.id,
        reminder_variables(),
    ));
    let mut session = database.connect_as("buyer");

    assert_eq!(session.value::<i64>("SELECT confirm('+447400123456')", &[]), 1);
    let refusal = session.refusal(ENQUEUE, &[&ana.id, &numbers(1), &REMINDER, &reminder_variables()]);
    assert_eq!(refusal.sqlstate, "42501", "{refusal:#?}");
}

#[test]
fn a_task_for_another_organizers_event_is_refused() {
    let cluster = server();
    let database = cluster.bare_database();
    let mut session = database.connect();
    load_host_app(&mut session);
    database.install("public");
    Organizer::create_for(&mut session, HOST_ORGANIZER, "");
    let thief = Uuid::new_v4();
    session.execute_with(
        "INSERT INTO profiles (id, full_name, email) VALUES ($1, 'Thief', 'thief@mail.example')",
        &[&thief],
    );
    Organizer::create_for(&mut session, thief, "");
    session.run("CREATE ROLE thief LOGIN");
    session.execute_with("SELECT wa_grant_organizer('thief', $1)", &[&thief]);

    let mut as_thief = database.connect_as("thief");
    let outcome = as_thief.execute(
        "INSERT INTO ai_tasks (event_id, task_type, status, scheduled_for, template_name)
         VALUES ($1, 'send_reminder', 'executing', now(), 'event_reminder_24h')",
        &[&HOST_EVENT],
    );

    assert!(
        outcome.is_err() || session.value::<i64>("SELECT count(*) FROM ai_tasks WHERE status = 'failed'", &[]) == 1
    );
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_queue", &[]), 0);
}

#[test]
fn functions_and_views_of_the_host_run_with_their_owners_rights_at_most() {
    let cluster = server();
    let database = cluster.bare_database();
    let mut session = database.connect();
    // The application, no superuser, owns its tables; a column's default and a trigger could hold anything.
    session.run("CREATE ROLE application LOGIN; GRANT ALL ON SCHEMA public TO application");
    let mut application = database.connect_as("application");
    load_host_app(&mut application);
    application.run(
        "CREATE FUNCTION whoami() RETURNS text LANGUAGE plpgsql AS
             'BEGIN ALTER ROLE application SUPERUSER; RETURN current_user; EXCEPTION WHEN OTHERS THEN RETURN current_user; END';
         ALTER TABLE attendees ADD COLUMN spy text;
         ALTER TABLE attendees ENABLE ROW LEVEL SECURITY; ALTER TABLE attendees FORCE ROW LEVEL SECURITY;
         CREATE POLICY spy ON attendees USING (whoami() IS NOT NULL)",
    );
    database.install("public");
    Organizer::create_for(&mut session, HOST_ORGANIZER, "");

    session.execute_with(
        "INSERT INTO ai_tasks (event_id, task_type, status, scheduled_for, template_name)
         VALUES ($1, 'send_reminder', 'executing', now(), 'event_reminder_24h')",
        &[&HOST_EVENT],
    );

    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_queue WHERE status = 'queued'", &[]), 35);
    assert!(!session.value::<bool>("SELECT rolsuper FROM pg_roles WHERE rolname = 'application'", &[]));
}
