//! `wa_explain`, `next_step` in `whatsapp_messages`, and `whatsapp_errors`: what became of a message, in plain words.

use graph_simulator::{Action, FaultRule};
use harness::fixtures::{REMINDER, TOKEN, numbers, reminder_variables, serving, simulator};
use harness::{Cluster, Organizer, Session};
use uuid::Uuid;

/// A message's life: what and details of each event, in order.
fn life(session: &mut Session, id: Uuid) -> Vec<(String, String)> {
    let rows = session.rows("SELECT what, coalesce(details, ''), at IS NULL FROM wa_explain($1)", &[&id]);
    assert!(rows.iter().all(|row| !row.get::<_, bool>(2)), "every event has its time");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn whats(life: &[(String, String)]) -> Vec<&str> {
    life.iter().map(|(what, _)| what.as_str()).collect()
}

/// The details of the event.
fn details<'a>(life: &'a [(String, String)], what: &str) -> &'a str {
    let found = life.iter().find(|(each, _)| each == what);
    &found.unwrap_or_else(|| panic!("{what} is missing in {life:#?}")).1
}

/// Of one message that is queued and whose time has come, while nothing is sent.
fn next_step(session: &mut Session) -> String {
    session.run("SET whatsapp_pg.mode = live");
    session.value("SELECT next_step FROM whatsapp_messages", &[])
}

fn assert_all(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

#[test]
fn a_sent_message_has_its_whole_life_told_without_number_and_token() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    organizer.wait_for_count(&mut session, "sent", 1);

    let life = life(&mut session, id);

    assert_eq!(whats(&life), ["queued", "the request", "attempt 1: accepted by Meta", "now: sent"]);
    assert_all(details(&life, "queued"), &["by postgres", "+573*******00", REMINDER, "language en", "priority 5"]);
    let request = details(&life, "the request");
    assert_all(request, &["+573*******00", "Tech Summit 2025", REMINDER, &id.to_string()]);
    assert_all(details(&life, "attempt 1: accepted by Meta"), &["HTTP 200", "wamid", " ms"]);
    for (_, details) in &life {
        assert!(!details.contains("573001000000") && !details.contains(TOKEN), "{details}");
    }
}

#[test]
fn a_number_in_a_variable_is_hidden_too() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let mut variables = reminder_variables();
    variables["attendee_name"] = "Ada, +573001000000".into();
    let id: Uuid = session.value(
        "SELECT id FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)",
        &[&organizer.id, &numbers(1), &REMINDER, &variables],
    );
    let life = life(&mut session, id);
    assert!(!details(&life, "the request").contains("573001000000"), "{life:?}");
}

#[test]
fn an_attempt_that_was_refused_has_code_meaning_and_trace_and_the_next_try() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    simulator
        .set_faults(vec![FaultRule::first(1, Action::Error { code: 131_000, subcode: None, details: None })])
        .expect("a script that makes sense");
    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    session.wait_for("the retry to be planned", "SELECT retry_count = 1 FROM whatsapp_queue", &[]);

    let life = life(&mut session, id);

    let (meaning, advice): (String, String) = {
        let row =
            session.query_one("SELECT meaning, advice FROM whatsapp_errors WHERE code = 131000", &[]).expect("a rule");
        (row.get(0), row.get(1))
    };
    let attempt = details(&life, "attempt 1: refused for now, it is tried again");
    assert_all(attempt, &["code 131000", &meaning, advice.trim_end_matches('.'), "fbtrace_id", "HTTP "]);
    assert_eq!(attempt.matches(meaning.as_str()).count(), 1, "{attempt}");
    assert_all(details(&life, "now: waits for its next try"), &["try 2 at", "wa_retry", "wa_cancel"]);
}

#[test]
fn a_failed_and_an_unknown_message_say_what_to_run() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    simulator
        .set_faults(vec![
            FaultRule::first(
                1,
                Action::Error { code: 131_026, subcode: None, details: Some("not on WhatsApp".into()) },
            ),
            FaultRule::first(1, Action::ResetAfterAccept),
        ])
        .expect("a script that makes sense");

    let failed = organizer.enqueue(&mut session, &numbers(1))[0];
    organizer.wait_for_count(&mut session, "failed", 1);
    let unknown = organizer.enqueue(&mut session, &["+447400123456".into()])[0];
    organizer.wait_for_count(&mut session, "unknown", 1);

    let life_of_failed = life(&mut session, failed);
    assert_all(details(&life_of_failed, "attempt 1: failed"), &["131026", "not on WhatsApp"]);
    assert_all(details(&life_of_failed, "now: failed"), &[&format!("SELECT wa_retry('{failed}')")]);
    let life_of_unknown = life(&mut session, unknown);
    assert!(whats(&life_of_unknown).contains(&"attempt 1: no answer, Meta may have it"), "{life_of_unknown:#?}");
    assert_all(details(&life_of_unknown, "now: unknown"), &[&format!("SELECT wa_retry('{unknown}', force => true)")]);
}

#[test]
fn what_meta_reports_and_what_people_do_is_told() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let ids = organizer.enqueue(&mut session, &numbers(2));
    session.execute_with("SELECT wa_cancel(id => $1)", &[&ids[0]]);
    session.execute_with(
        "INSERT INTO whatsapp_delivery_logs (queue_id, user_id, status, source, error_message) VALUES
             ($1, $2, 'delivered', 'webhook', NULL), ($1, $2, 'queued', 'person', 'queued again by ada')",
        &[&ids[1], &organizer.id],
    );

    let cancelled = life(&mut session, ids[0]);
    assert_eq!(whats(&cancelled), ["queued", "the request", "cancelled", "now: cancelled"]);
    assert_all(details(&cancelled, "cancelled"), &["wa_cancel"]);
    let reported = life(&mut session, ids[1]);
    assert!(whats(&reported).contains(&"Meta reports: delivered"), "{reported:#?}");
    assert_all(details(&reported, "a person: queued"), &["queued again by ada"]);
}

#[test]
fn holds_are_told_with_reason_end_and_the_call_that_ends_them() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let event = Uuid::new_v4();
    session.execute_with(
        "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                                         event_id => $5)",
        &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables(), &event],
    );
    let id: Uuid = session.value("SELECT id FROM whatsapp_queue", &[]);
    let number = organizer.phone_number_id.clone();
    let owner = organizer.id.to_string();
    assert_eq!(next_step(&mut session), "leaves as soon as the limits allow");

    let holds = [
        ("account", owner.as_str(), "wa_resume(user_id => "),
        ("number", number.as_str(), "wa_resume(user_id => "),
        ("template", REMINDER, "template_name => "),
        ("template", "event_reminder_24h/en", "template_name => "),
        ("category", "UTILITY", "wa_resume(user_id => "),
        ("event", &event.to_string(), "event_id => "),
        ("message", &id.to_string(), "id => "),
    ];
    for (scope, subject, call) in holds {
        session.execute_with(
            "INSERT INTO whatsapp_holds (user_id, scope, subject, source, reason, until, held_by)
             VALUES ($1, $2, $3, 'person', 'because of rain', now() + interval '1 hour', 'ada')",
            &[&organizer.id, &scope, &subject],
        );
        assert_all(&next_step(&mut session), &["held until", "because of rain"]);
        let life = life(&mut session, id);
        assert_all(details(&life, &format!("held: {scope} {subject}")), &["until ", "because of rain", "ada"]);
        assert_all(details(&life, "now: held"), &[call]);
        session.run("DELETE FROM whatsapp_holds");
    }
    let others = [
        ("template", "event_reminder_24h/de"),
        ("template", "another"),
        ("category", "MARKETING"),
        ("country", "+58"),
        ("event", "0e000000-0000-4000-8000-000000000001"),
        ("number", "1"),
    ];
    for (scope, subject) in others {
        session.execute_with(
            "INSERT INTO whatsapp_holds (user_id, scope, subject, source, reason, until)
             VALUES ($1, $2, $3, 'meta', 'not this one', 'infinity')",
            &[&organizer.id, &scope, &subject],
        );
        assert_eq!(next_step(&mut session), "leaves as soon as the limits allow", "{scope} {subject}");
    }
}

#[test]
fn what_is_known_of_the_recipient_is_told() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    let phone = numbers(1)[0].clone();
    session.execute_with(
        "INSERT INTO whatsapp_contacts (user_id, phone, held_until, held_code, held_reason)
         VALUES ($1, $2, now() + interval '1 hour', '131056', 'too many messages to one person')",
        &[&organizer.id, &phone],
    );
    assert_all(&next_step(&mut session), &["held until", "too many messages to one person"]);
    let told = life(&mut session, id);
    assert_all(details(&told, "held: recipient +573*******00"), &["131056", "too many messages to one person"]);
    assert!(!details(&told, "now: held").contains(&phone), "{told:#?}");

    session.run("UPDATE whatsapp_contacts SET held_until = NULL, suppressed_at = now(), suppressed_code = '131026'");
    assert_all(&next_step(&mut session), &["fails", "cannot be reached"]);

    session.run(
        "UPDATE whatsapp_contacts SET suppressed_at = NULL, marketing_held_until = now() + interval '1 day';
         UPDATE whatsapp_templates SET category = 'MARKETING'",
    );
    assert_all(&next_step(&mut session), &["held", "marketing", "until"]);
    session.run("UPDATE whatsapp_templates SET category = 'UTILITY'");
    assert_eq!(next_step(&mut session), "leaves as soon as the limits allow");
}

#[test]
fn a_copy_of_the_database_says_that_it_is_one() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id = organizer.enqueue(&mut session, &numbers(1))[0];
    session.run("UPDATE whatsapp_config SET sender_database = 1");

    assert_all(&next_step(&mut session), &["held", "copy", "wa_adopt_copy"]);
    assert_all(details(&life(&mut session, id), "now: held"), &["wa_adopt_copy()"]);
}

#[test]
fn a_message_that_cannot_be_rendered_says_why() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id: Uuid = session.value(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name)
         VALUES ($1, '+573001000000', 'no_such_template') RETURNING id",
        &[&organizer.id],
    );
    assert_all(details(&life(&mut session, id), "the request"), &["none can be made", "no_such_template"]);
}

#[test]
fn a_message_that_does_not_exist_or_is_another_organizers_is_refused_alike() {
    let cluster = Cluster::builder().preloaded().setting("whatsapp_pg.mode", "off").start();
    let database = cluster.database();
    let mut session = database.connect();
    let (ana, luis) = (Organizer::create(&mut session), Organizer::create(&mut session));
    let own = ana.enqueue(&mut session, &numbers(1))[0];
    let anothers = luis.enqueue(&mut session, &numbers(1))[0];
    session.run("CREATE ROLE ana LOGIN");
    session.execute_with("SELECT wa_grant_organizer('ana', $1)", &[&ana.id]);

    let mut session = database.connect_as("ana");
    assert_eq!(whats(&life(&mut session, own)).first(), Some(&"queued"));
    for id in [anothers, Uuid::new_v4()] {
        let refusal = session.refusal("SELECT wa_explain($1)", &[&id]);
        assert_eq!(refusal.sqlstate, "42704", "{refusal:#?}");
        assert!(refusal.mentions(&id.to_string()) && !refusal.hint.is_empty(), "{refusal:#?}");
        assert!(!refusal.mentions(&luis.id.to_string()), "{refusal:#?}");
    }
    assert_eq!(session.refusal("SELECT wa_explain(NULL)", &[]).sqlstate, "22004");
    for reserved in
        ["SELECT wa_audit()", "SELECT wa_doctor()", "SELECT wa_request_body(NULL)", "SELECT wa_secret_problems()"]
    {
        assert_eq!(session.refusal(reserved, &[]).sqlstate, "42501", "{reserved}");
    }
    // The views he may read answer for him alone.
    session.execute_with("SELECT next_step FROM whatsapp_messages", &[]);
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_messages", &[]), 1);
}

#[test]
fn the_error_table_can_be_read_as_a_view() {
    let database = Cluster::shared().database();
    let mut session = database.connect();

    let row = session
        .query_one(
            "SELECT count(*), count(DISTINCT (code, subcode)), bool_and(name <> '' AND meaning <> '' AND advice <> ''),
                    count(*) FILTER (WHERE code = 131056 AND reaction = 'hold_pair'),
                    count(*) FILTER (WHERE code = 190 AND reaction = 'hold_account_token'),
                    count(*) FILTER (WHERE wait > '0')
             FROM whatsapp_errors",
            &[],
        )
        .expect("one row");
    let counts: Vec<i64> = [0, 1, 3, 4, 5].map(|n| row.get(n)).to_vec();
    assert!(counts[0] > 80 && counts[0] == counts[1], "{counts:?}");
    assert!(row.get::<_, bool>(2) && counts[2] == 1 && counts[3] > 1 && counts[4] > 5, "{counts:?}");
}
