//! `ai_tasks`: a task set to executing queues one message per attendee, and says what became of the others.

use std::time::Duration;

use harness::fixtures::{HOST_EVENT, HOST_ORGANIZER, host_app_sql, load_host_app};
use harness::processes::processor_time;
use harness::{Cluster, Database, Organizer, Session};
use serde_json::{Value, json};
use uuid::Uuid;

/// The example host application with the extension, its organizer and the seed's three templates.
fn host() -> (Database<'static>, Session) {
    let database = Cluster::shared().bare_database();
    let mut session = database.connect();
    load_host_app(&mut session);
    database.install("public");
    Organizer::create_for(&mut session, HOST_ORGANIZER, "messages_per_second => 1000, rate_limit_tier => 'unlimited'");
    session.run("DELETE FROM whatsapp_templates");
    session.run(&host_app_sql("templates.sql"));
    (database, session)
}

/// A pending task of the example event.
fn task(session: &mut Session, template: &str, filter: Option<Value>, metadata: Value) -> Uuid {
    session.value(
        "INSERT INTO ai_tasks (event_id, task_type, scheduled_for, template_name, recipient_filter, metadata)
         VALUES ($1, 'send_reminder', now(), $2, $3, $4) RETURNING id",
        &[&HOST_EVENT, &template, &filter, &metadata],
    )
}

fn execute(session: &mut Session, task: Uuid) {
    session.execute_with("UPDATE ai_tasks SET status = 'executing' WHERE id = $1", &[&task]);
}

/// Messages of the task in this state.
fn count(session: &mut Session, task: Uuid, status: &str) -> i64 {
    session.value("SELECT count(*) FROM whatsapp_queue WHERE task_id = $1 AND status = $2", &[&task, &status])
}

#[test]
fn an_executing_task_writes_to_every_attendee_once_and_accounts_for_the_rest() {
    let (_database, mut session) = host();
    let task = task(&mut session, "event_reminder_24h", None, json!({}));

    execute(&mut session, task);

    // data.sql says how many there are of each.
    assert_eq!(count(&mut session, task, "queued"), 35);
    assert_eq!(count(&mut session, task, "failed"), 5);
    let row = session
        .query_one(
            "SELECT status, user_id, queued_count, refused_count, no_phone_count, duplicate_count, error_message
             FROM ai_tasks WHERE id = $1",
            &[&task],
        )
        .expect("the task");
    assert_eq!(row.get::<_, &str>(0), "executing");
    assert_eq!(row.get::<_, Uuid>(1), HOST_ORGANIZER);
    assert_eq!([2, 3, 4, 5].map(|column| row.get::<_, i32>(column)), [35, 5, 3, 1]);
    assert_eq!(row.get::<_, Option<String>>(6), None);

    let unexplained: i64 = session
        .value("SELECT count(*) FROM whatsapp_queue WHERE status = 'failed' AND coalesce(error_message, '') = ''", &[]);
    assert_eq!(unexplained, 0);
    let other: i64 = session.value(
        "SELECT count(*) FROM whatsapp_queue WHERE user_id <> $1 OR event_id <> $2 OR template_name <> 'event_reminder_24h'",
        &[&HOST_ORGANIZER, &HOST_EVENT],
    );
    assert_eq!(other, 0);
}

#[test]
fn variables_come_from_attendee_and_event_in_the_events_time_zone() {
    let (_database, mut session) = host();
    session.run("UPDATE ai_events SET start_date = '2025-03-15 10:00 America/Bogota'; SET timezone = 'Asia/Tokyo'");
    let task = task(&mut session, "event_reminder_24h", None, json!({}));

    execute(&mut session, task);

    let variables: Value =
        session.value("SELECT template_variables FROM whatsapp_queue WHERE recipient_phone = '+12015550123'", &[]);
    assert_eq!(variables["attendee_name"], "John Doe");
    assert_eq!(variables["event_name"], "Tech Summit");
    assert_eq!(variables["event_time"], "2025-03-15 10:00 AM");
}

#[test]
fn further_variables_come_from_the_attendees_own_columns_and_the_tasks_metadata() {
    let (_database, mut session) = host();
    let with_code = task(&mut session, "check_in_instructions", None, json!({}));
    let with_news = task(&mut session, "event_update", None, json!({"update_message": "Doors open at nine."}));

    execute(&mut session, with_code);
    execute(&mut session, with_news);

    assert_eq!(count(&mut session, with_code, "queued"), 35);
    let code: String = session.value(
        "SELECT template_variables ->> 'qr_code_url' FROM whatsapp_queue
         WHERE task_id = $1 AND recipient_phone = '+12015550123'",
        &[&with_code],
    );
    assert_eq!(code, "https://tickets.example/qr/3");
    assert_eq!(count(&mut session, with_news, "queued"), 35);
    let news: i64 = session.value(
        "SELECT count(*) FROM whatsapp_queue WHERE task_id = $1
            AND template_variables ->> 'update_message' = 'Doors open at nine.'",
        &[&with_news],
    );
    assert_eq!(news, 40, "refused rows keep what would have been said");
}

#[test]
fn a_variable_that_the_attendee_lacks_comes_from_order_event_or_task() {
    let (_database, mut session) = host();
    session.run("UPDATE attendees SET qr_code_url = NULL");
    for (change, wanted) in [
        ("SELECT 1", "from the task"),
        ("UPDATE ai_events SET qr_code_url = 'from the event'", "from the event"),
        ("ALTER TABLE orders ADD qr_code_url text DEFAULT 'from the order'", "from the order"),
        ("UPDATE attendees SET qr_code_url = 'from the attendee'", "from the attendee"),
        (
            "UPDATE attendees SET attendee_info = attendee_info || '{\"qr_code_url\": \"from the form\"}'",
            "from the form",
        ),
    ] {
        session.run(change);
        let task = task(&mut session, "check_in_instructions", None, json!({"qr_code_url": "from the task"}));
        execute(&mut session, task);
        let found: Vec<String> = session.values(
            "SELECT DISTINCT template_variables ->> 'qr_code_url' FROM whatsapp_queue WHERE task_id = $1 AND status = 'queued'",
            &[&task],
        );
        assert_eq!(found, [wanted], "{change}");
    }
}

#[test]
fn the_recipient_filter_is_applied() {
    for (filter, queued) in [
        (json!({}), 35),
        (json!({"ticket_type": "VIP"}), 10),
        (json!({"ticket_type": ["VIP", "standard"]}), 35),
        (json!({"ticket_type": "standard"}), 25),
        (json!({"company": "Andina Labs"}), 2),
        (json!({"ticket_type": "VIP", "company": ["Andina Labs", "Seine Data"]}), 3),
        (json!({"ticket_type": "backstage"}), 0),
    ] {
        let (_database, mut session) = host();
        let task = task(&mut session, "event_reminder_24h", Some(filter.clone()), json!({}));

        execute(&mut session, task);

        assert_eq!(count(&mut session, task, "queued"), queued, "{filter}");
    }
}

#[test]
fn a_filter_on_a_field_that_nobody_has_fails_the_task_and_not_the_statement() {
    let (_database, mut session) = host();
    let task = task(&mut session, "event_reminder_24h", Some(json!({"tiket_type": "VIP"})), json!({}));

    execute(&mut session, task);

    let failed: bool = session
        .value("SELECT status = 'failed' AND error_message LIKE '%tiket_type%' FROM ai_tasks WHERE id = $1", &[&task]);
    assert!(failed);
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_queue", &[]), 0);
}

#[test]
fn a_task_that_cannot_fan_out_fails_with_the_reason_and_the_statement_goes_on() {
    let (_database, mut session) = host();
    let cases: [(&str, &str, &str); 4] = [
        ("no_such_template", "SELECT 1", "no_such_template"),
        ("event_reminder_24h", "UPDATE whatsapp_templates SET status = 'rejected'", "rejected"),
        ("event_update", "SELECT 1", "update_message"),
        ("check_in_instructions", "UPDATE whatsapp_config SET status = 'inactive'", "active"),
    ];
    for (template, before, reason) in cases {
        session.run("BEGIN");
        session.run(before);
        let task = task(&mut session, template, None, json!({}));
        session.execute_with("UPDATE ai_tasks SET status = 'executing' WHERE id = $1", &[&task]);
        let row = session
            .query_one("SELECT status, coalesce(error_message, '') FROM ai_tasks WHERE id = $1", &[&task])
            .expect("the statement went on");
        assert_eq!(row.get::<_, &str>(0), "failed", "{template}: {before}");
        assert!(row.get::<_, &str>(1).contains(reason), "{reason}: {}", row.get::<_, &str>(1));
        assert_eq!(count(&mut session, task, "queued"), 0);
        session.run("ROLLBACK");
    }
}

#[test]
fn a_task_inserted_as_executing_fans_out_at_once() {
    let (_database, mut session) = host();
    let task: Uuid = session.value(
        "INSERT INTO ai_tasks (event_id, task_type, status, scheduled_for, template_name)
         VALUES ($1, 'send_reminder', 'executing', now(), 'event_reminder_24h') RETURNING id",
        &[&HOST_EVENT],
    );
    assert_eq!(count(&mut session, task, "queued"), 35);
}

#[test]
fn the_same_task_never_writes_to_a_number_twice() {
    let (_database, mut session) = host();
    let task = task(&mut session, "event_reminder_24h", None, json!({}));

    for _ in 0..3 {
        session.execute_with("UPDATE ai_tasks SET status = 'pending' WHERE id = $1", &[&task]);
        execute(&mut session, task);
    }

    let rows: i64 = session.value("SELECT count(*) FROM whatsapp_queue WHERE task_id = $1", &[&task]);
    let distinct: i64 =
        session.value("SELECT count(DISTINCT recipient_phone) FROM whatsapp_queue WHERE task_id = $1", &[&task]);
    assert_eq!((rows, distinct), (40, 40));
}

#[test]
fn other_changes_of_a_task_queue_nothing() {
    let (_database, mut session) = host();
    let task = task(&mut session, "event_reminder_24h", None, json!({}));

    session.run("UPDATE ai_tasks SET metadata = '{\"note\": \"x\"}'");
    session.run("UPDATE ai_tasks SET status = 'cancelled'; UPDATE ai_tasks SET status = 'completed'");
    assert_eq!(count(&mut session, task, "queued"), 0);

    session.run("UPDATE ai_tasks SET status = 'pending'");
    execute(&mut session, task);
    session.run("UPDATE ai_tasks SET metadata = '{\"note\": \"y\"}'; UPDATE ai_tasks SET status = 'executing'");
    assert_eq!(count(&mut session, task, "queued"), 35);
}

#[test]
fn a_rolled_back_task_queues_nothing() {
    let (_database, mut session) = host();
    let task = task(&mut session, "event_reminder_24h", None, json!({}));

    session.run("BEGIN");
    execute(&mut session, task);
    session.run("ROLLBACK");

    assert_eq!(count(&mut session, task, "queued"), 0);
}

#[test]
fn without_the_host_tables_a_task_fails_with_what_to_do() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let status: String = session.value(
        "INSERT INTO ai_tasks (event_id, task_type, status, scheduled_for, template_name, user_id)
         VALUES (gen_random_uuid(), 'send_reminder', 'executing', now(), 'event_reminder_24h', $1) RETURNING status",
        &[&organizer.id],
    );
    let message: Option<String> = session.value("SELECT error_message FROM ai_tasks", &[]);
    let now: String = session.value("SELECT status FROM ai_tasks", &[]);

    assert_eq!(now, "failed", "returned {status}");
    assert!(message.as_ref().is_some_and(|message| message.contains("wa_link_host")), "{message:?}");
}

#[test]
fn several_tasks_in_one_statement_all_fan_out() {
    let (_database, mut session) = host();
    let reminder = task(&mut session, "event_reminder_24h", None, json!({}));
    let check_in = task(&mut session, "check_in_instructions", Some(json!({"ticket_type": "VIP"})), json!({}));

    session.run("UPDATE ai_tasks SET status = 'executing'");

    assert_eq!(count(&mut session, reminder, "queued"), 35);
    assert_eq!(count(&mut session, check_in, "queued"), 10);
}

#[test]
fn ten_thousand_attendees_take_under_a_second() {
    let (_database, mut session) = host();
    session.run(
        "DELETE FROM attendees;
         INSERT INTO attendees (order_id, attendee_info)
         SELECT (SELECT id FROM orders LIMIT 1),
                jsonb_build_object('name', 'Attendee ' || n, 'phone', '+57300' || lpad(n::text, 7, '0'))
         FROM generate_series(1000000, 1009999) AS n;
         ANALYZE attendees",
    );
    // Processor time of the backend, and the best of some runs: what the machine does besides must not count.
    let backend = session.backend_pid();
    let times = (0..5).map(|_| {
        session.run("DELETE FROM whatsapp_queue");
        let task = task(&mut session, "event_reminder_24h", None, json!({}));
        let before = processor_time(backend);
        execute(&mut session, task);
        let took = processor_time(backend) - before;
        assert_eq!(count(&mut session, task, "queued"), 10_000);
        took
    });

    let best = times.min().unwrap_or_default();
    assert!(best < Duration::from_secs(1), "took {best:?}");
}
