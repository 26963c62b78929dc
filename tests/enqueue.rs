//! `wa_enqueue` in its forms, `wa_send`, and plain INSERTs: what they put into the queue, and what they refuse.
//!
//! Nothing is sent here: the shared server holds (`whatsapp_pg.mode = off`), so rows stay as they were queued.

use harness::fixtures::{REMINDER, numbers, reminder_variables};
use harness::{Cluster, Organizer, Refusal, Session};
use serde_json::{Value, json};
use uuid::Uuid;

/// The call most tests vary: all arguments by name.
pub const ENQUEUE: &str =
    "SELECT id FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)";

/// Checks that a refusal is complete (SQLSTATE, DETAIL, HINT) and names what was wrong.
pub fn assert_explained(refusal: &Refusal, sqlstate: &str, words: &[&str]) {
    assert_eq!(refusal.sqlstate, sqlstate, "{refusal:#?}");
    assert!(!refusal.detail.is_empty(), "no DETAIL: {refusal:#?}");
    assert!(!refusal.hint.is_empty(), "no HINT: {refusal:#?}");
    for word in words {
        assert!(refusal.mentions(word), "{word:?} is not mentioned: {refusal:#?}");
    }
}

pub fn assert_queue_is_empty(session: &mut Session) {
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_queue", &[]), 0, "something was half-written");
}

#[test]
fn a_call_queues_one_row_per_recipient() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let ids = organizer.enqueue(&mut session, &numbers(3));

    assert_eq!(ids.len(), 3);
    let rows = session.rows(
        "SELECT recipient_phone, template_name, template_variables, priority, status, retry_count, user_id,
                scheduled_for <= now(), sent_at IS NULL, error_message IS NULL
         FROM whatsapp_queue ORDER BY recipient_phone",
        &[],
    );
    for (row, number) in rows.iter().zip(numbers(3)) {
        assert_eq!(row.get::<_, String>(0), number);
        assert_eq!(row.get::<_, String>(1), REMINDER);
        assert_eq!(row.get::<_, Value>(2), reminder_variables());
        assert_eq!(row.get::<_, i32>(3), 5);
        assert_eq!(row.get::<_, String>(4), "queued");
        assert_eq!(row.get::<_, i32>(5), 0);
        assert_eq!(row.get::<_, Uuid>(6), organizer.id);
        assert!(row.get::<_, bool>(7) && row.get::<_, bool>(8) && row.get::<_, bool>(9));
    }
}

#[test]
fn every_argument_reaches_the_row() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let event = Uuid::new_v4();

    let row = session
        .query_one(
            "SELECT event_id, scheduled_for = '2099-01-02 03:04Z', priority, language, idempotency_key,
                    expires_at = '2099-01-03 03:04Z'
             FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                             event_id => $5, scheduled_for => '2099-01-02 03:04Z', priority => 9, language => 'en',
                             idempotency_key => 'once', expires_at => '2099-01-03 03:04Z')",
            &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables(), &event],
        )
        .unwrap();

    assert_eq!(row.get::<_, Uuid>(0), event);
    assert!(row.get::<_, bool>(1));
    assert_eq!(row.get::<_, i32>(2), 9);
    assert_eq!(row.get::<_, String>(3), "en");
    assert_eq!(row.get::<_, String>(4), "once");
    assert!(row.get::<_, bool>(5));
}

#[test]
fn one_recipient_may_be_given_as_text() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let phone: String = session.value(
        "SELECT recipient_phone FROM wa_enqueue(user_id => $1, recipient => '+57 300 123-4567', template_name => $2,
                                                variables => $3)",
        &[&organizer.id, &REMINDER, &reminder_variables()],
    );

    assert_eq!(phone, "+573001234567");
}

#[test]
fn each_message_of_a_list_has_its_own_variables() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let message = |number: &str, name: &str| json!({"to": number, "variables": {"attendee_name": name, "event_name": "Tech Summit", "event_time": "now"}});

    let names: Vec<String> = session.values(
        "SELECT template_variables ->> 'attendee_name'
         FROM wa_enqueue(user_id => $1, messages => $2, template_name => $3) ORDER BY recipient_phone",
        &[&organizer.id, &json!([message("+573001000000", "Ana"), message("+573001000001", "Luis")]), &REMINDER],
    );

    assert_eq!(names, ["Ana", "Luis"]);
}

#[test]
fn wa_send_takes_the_organizer_from_the_token_and_answers_as_the_endpoint_did() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.run(&format!("SET request.jwt.claims = '{{\"sub\": \"{}\"}}'", organizer.id));

    let answer: Value = session.value(
        "SELECT wa_send(template_name => $1, recipients => $2, variables => $3)",
        &[&REMINDER, &numbers(2), &reminder_variables()],
    );

    assert_eq!(answer["queued"], 2);
    assert_eq!(answer["messages"].as_array().map(Vec::len), Some(2));
    assert_eq!(answer["messages"][0]["user_id"], organizer.id.to_string());
    assert_eq!(answer["messages"][0]["status"], "queued");
}

#[test]
fn a_plain_insert_with_the_seeds_columns_is_a_message_too() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables, priority)
         VALUES ($1, '+573001000000', $2, $3, NULL)",
        &[&organizer.id, &REMINDER, &reminder_variables()],
    );

    let row = session.query_one("SELECT status, priority, scheduled_for IS NOT NULL FROM whatsapp_queue", &[]).unwrap();
    assert_eq!(row.get::<_, String>(0), "queued");
    assert_eq!(row.get::<_, i32>(1), 5, "a NULL priority gets the default");
    assert!(row.get::<_, bool>(2));
}

#[test]
fn a_time_in_the_past_means_now() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let is_now: bool = session.value(
        "SELECT scheduled_for BETWEEN now() - interval '1 second' AND now() + interval '1 second'
         FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                         scheduled_for => '2020-01-01')",
        &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables()],
    );

    assert!(is_now);
}

#[test]
fn a_rollback_leaves_nothing() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    session.run("BEGIN");
    organizer.enqueue(&mut session, &numbers(10));
    session.run("ROLLBACK");

    assert_queue_is_empty(&mut session);
}

#[test]
fn the_same_number_twice_in_one_call_is_one_message_and_a_notice() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let recipients: Vec<String> = ["+573001234567", "+57 300 123 4567", "+573001234568"].map(String::from).to_vec();

    let ids = organizer.enqueue(&mut session, &recipients);

    assert_eq!(ids.len(), 2);
    let notices = session.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].severity == "NOTICE" && notices[0].mentions("1"), "{notices:?}");
}

#[test]
fn a_number_that_only_looks_unlikely_is_queued_with_a_notice() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    // The right shape, but no such area code according to libphonenumber.
    let ids = organizer.enqueue(&mut session, &["+15550100123".into()]);

    assert_eq!(ids.len(), 1);
    let notices = session.notices();
    assert!(notices.iter().any(|n| n.severity == "NOTICE" && n.mentions("+15550100123")), "{notices:?}");
}

#[test]
fn numbers_are_kept_in_e164_however_they_were_typed() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let typed = ["+57 (300) 123-4567", "+44 7400 123456", "+55 11 96123-4567", " +33 6 12 34 56 78 "];

    organizer.enqueue(&mut session, &typed.map(String::from));

    let kept: Vec<String> = session.values("SELECT recipient_phone FROM whatsapp_queue ORDER BY 1", &[]);
    assert_eq!(kept, ["+33612345678", "+447400123456", "+5511961234567", "+573001234567"]);
}

#[test]
fn recorded_bad_numbers_become_failed_rows_with_the_reason() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    session.execute_with(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4, on_bad => 'record')",
        &[&organizer.id, &["+573001000000", "+0987654321"].as_slice(), &REMINDER, &reminder_variables()],
    );

    let rows = session.rows(
        "SELECT recipient_phone, status, coalesce(error_message, '') FROM whatsapp_queue ORDER BY status DESC",
        &[],
    );
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].get::<_, String>(1), "queued");
    assert_eq!(rows[1].get::<_, String>(0), "+0987654321");
    assert_eq!(rows[1].get::<_, String>(1), "failed");
    assert!(!rows[1].get::<_, String>(2).is_empty());
}

#[test]
fn numbers_and_booleans_are_good_values_for_variables() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let ids: Vec<Uuid> = session.values(
        ENQUEUE,
        &[&organizer.id, &numbers(1), &REMINDER, &json!({"attendee_name": 7, "event_name": true, "event_time": 10.5})],
    );

    assert_eq!(ids.len(), 1);
}

#[test]
fn the_language_is_the_callers_else_the_only_approved_one_else_the_organizers_default() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let with_language = "SELECT language FROM wa_enqueue(user_id => $1, recipients => $2, template_name => 'greeting',
                                                         variables => '{\"name\": \"Ana\"}', language => $3)";
    let nothing: Option<&str> = None;
    organizer.add_template(&mut session, "greeting", "es", "Hola {{1}}, hasta pronto.", &["name"]);

    let language: String = session.value(with_language, &[&organizer.id, &numbers(1), &nothing]);
    assert_eq!(language, "es", "the only approved one");

    organizer.add_template(&mut session, "greeting", "pt_BR", "Oi {{1}}, até logo.", &["name"]);
    let refusal = session.refusal(with_language, &[&organizer.id, &numbers(1), &nothing]);
    assert_explained(&refusal, "22023", &["es", "pt_BR"]);

    let language: String = session.value(with_language, &[&organizer.id, &numbers(1), &"pt_BR"]);
    assert_eq!(language, "pt_BR", "the caller's");

    session.run("UPDATE whatsapp_config SET default_language = 'es'");
    let language: String = session.value(with_language, &[&organizer.id, &numbers(1), &nothing]);
    assert_eq!(language, "es", "the organizer's default");

    let refusal = session.refusal(with_language, &[&organizer.id, &numbers(1), &"fr"]);
    assert!(refusal.mentions("fr") && refusal.mentions("es") && refusal.mentions("pt_BR"), "{refusal:#?}");
}

#[test]
fn the_same_idempotency_key_queues_once_and_answers_the_same_rows() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let sql = "SELECT id FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                                         idempotency_key => 'reminder-7') ORDER BY id";

    let first: Vec<Uuid> = session.values(sql, &[&organizer.id, &numbers(3), &REMINDER, &reminder_variables()]);
    let second: Vec<Uuid> = session.values(sql, &[&organizer.id, &numbers(3), &REMINDER, &reminder_variables()]);

    assert_eq!(first, second);
    assert_eq!(organizer.count(&mut session, "queued"), 3);

    let refusal = session.refusal(sql, &[&organizer.id, &numbers(4), &REMINDER, &reminder_variables()]);
    assert_explained(&refusal, "23505", &["reminder-7"]);
    assert_eq!(organizer.count(&mut session, "queued"), 3);

    let other = Organizer::create(&mut session);
    let theirs: Vec<Uuid> = session.values(sql, &[&other.id, &numbers(4), &REMINDER, &reminder_variables()]);
    assert_eq!(theirs.len(), 4, "a key is the organizer's own");
}

#[test]
fn two_sessions_with_the_same_idempotency_key_queue_once() {
    let database = Cluster::shared().database();
    let mut first = database.connect();
    let organizer = Organizer::create(&mut first);
    let sql = "SELECT id FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                                         idempotency_key => 'race') ORDER BY id";
    first.run("BEGIN");
    let winner: Vec<Uuid> = first.values(sql, &[&organizer.id, &numbers(2), &REMINDER, &reminder_variables()]);

    let mut second = database.connect();
    let pid = second.backend_pid();
    let id = organizer.id;
    let waiting =
        std::thread::spawn(move || second.values::<Uuid>(sql, &[&id, &numbers(2), &REMINDER, &reminder_variables()]));
    database.connect().wait_for(
        "the second session to wait for the first",
        "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1",
        &[&pid],
    );
    first.run("COMMIT");

    assert_eq!(waiting.join().unwrap(), winner);
    assert_eq!(organizer.count(&mut first, "queued"), 2);
}

#[test]
fn a_hundred_thousand_recipients_are_one_insert() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.run(
        "CREATE TABLE statements (n int DEFAULT 1);
         CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.statements DEFAULT VALUES; RETURN NULL; END';
         CREATE TRIGGER count_statement AFTER INSERT ON whatsapp_queue EXECUTE FUNCTION count_statement()",
    );

    let began = std::time::Instant::now();
    let queued: i64 = session.value(
        "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)",
        &[&organizer.id, &numbers(100_000), &REMINDER, &reminder_variables()],
    );

    assert_eq!(queued, 100_000);
    assert_eq!(session.value::<i64>("SELECT count(*) FROM statements", &[]), 1);
    // `make bench` measures; this only notices when it is no longer one pass (a statement per row takes minutes).
    assert!(began.elapsed().as_secs() < 20, "took {:?}", began.elapsed());
}

#[test]
fn cancelled_messages_stay_cancelled() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let ids = organizer.enqueue(&mut session, &numbers(3));

    session.execute_with("SELECT wa_cancel(id => $1)", &[&ids[0]]);

    assert_eq!(organizer.count(&mut session, "cancelled"), 1);
    assert_eq!(organizer.count(&mut session, "queued"), 2);
}

#[test]
fn whatsapp_messages_shows_each_row_in_peoples_words() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(1));

    let row = session
        .query_one(
            "SELECT \"to\", template, language, state, since IS NOT NULL, error, next_step FROM whatsapp_messages
             WHERE user_id = $1",
            &[&organizer.id],
        )
        .unwrap();

    assert_eq!(row.get::<_, String>(0), numbers(1)[0]);
    assert_eq!(row.get::<_, String>(1), REMINDER);
    assert_eq!(row.get::<_, String>(2), "en");
    assert_eq!(row.get::<_, String>(3), "queued");
    assert!(row.get::<_, bool>(4));
    assert_eq!(row.get::<_, Option<String>>(5), None);
    assert!(row.get::<_, Option<String>>(6).is_some_and(|next| !next.is_empty()));
}
