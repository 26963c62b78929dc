//! What `wa_enqueue` refuses: with SQLSTATE, DETAIL and HINT, and with nothing half-written.

use harness::fixtures::{REMINDER, numbers, reminder_variables};
use harness::{Cluster, Organizer, Refusal};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::enqueue::{ENQUEUE, assert_explained, assert_queue_is_empty};

#[test]
fn bad_numbers_refuse_the_whole_call_and_are_named() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    for bad in ["+0987654321", "call me", "", "0321 765 4321", "+57 32", "+57321123456789012", "+999123456789"] {
        let recipients = ["+573001000000".to_owned(), bad.to_owned()];
        let refusal =
            session.refusal(ENQUEUE, &[&organizer.id, &recipients.as_slice(), &REMINDER, &reminder_variables()]);
        assert_explained(&refusal, "22023", &[bad]);
    }
    assert_queue_is_empty(&mut session);
}

#[test]
fn of_many_bad_numbers_the_first_twenty_are_named_and_all_are_counted() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let bad: Vec<String> = (0..50).map(|n| format!("wrong-{n:02}-number")).collect();

    let refusal = session.refusal(ENQUEUE, &[&organizer.id, &bad, &REMINDER, &reminder_variables()]);

    assert_explained(&refusal, "22023", &["50", "wrong-00-number", "wrong-19-number"]);
    assert!(!refusal.mentions("wrong-20-number"), "{refusal:#?}");
    assert_queue_is_empty(&mut session);
}

#[test]
fn an_unknown_word_for_on_bad_is_refused() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let refusal = session.refusal(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4, on_bad => 'ignore')",
        &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables()],
    );

    assert_eq!(refusal.sqlstate, "22023");
    assert!(refusal.mentions("refuse") && refusal.mentions("record"), "{refusal:#?}");
}

#[test]
fn an_organizer_without_an_account_is_told_to_configure_one() {
    let database = Cluster::shared().database();
    let mut session = database.connect();

    let refusal = session.refusal(ENQUEUE, &[&Uuid::new_v4(), &numbers(1), &REMINDER, &reminder_variables()]);

    assert_explained(&refusal, "42704", &["wa_configure"]);
    assert_queue_is_empty(&mut session);
}

#[test]
fn an_inactive_account_is_refused() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.run("UPDATE whatsapp_config SET status = 'suspended'");

    let refusal = session.refusal(ENQUEUE, &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables()]);

    assert_explained(&refusal, "55000", &["active"]);
    assert_queue_is_empty(&mut session);
}

#[test]
fn an_unknown_template_is_refused_with_those_that_exist() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let refusal = session.refusal(ENQUEUE, &[&organizer.id, &numbers(1), &"event_remindr", &reminder_variables()]);

    assert_explained(&refusal, "42704", &["event_remindr", REMINDER]);
    assert_queue_is_empty(&mut session);
}

#[test]
fn a_template_that_is_not_approved_is_refused_with_its_status() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    for status in ["pending", "rejected"] {
        session.execute_with("UPDATE whatsapp_templates SET status = $1", &[&status]);
        let refusal = session.refusal(ENQUEUE, &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables()]);
        assert_explained(&refusal, "55000", &[REMINDER, status]);
    }
    assert_queue_is_empty(&mut session);
}

#[test]
fn another_organizers_template_is_unknown() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let other = Organizer::create(&mut session);
    other.add_template(&mut session, "theirs", "en", "Hello {{1}}, welcome.", &["name"]);

    let refusal = session.refusal(ENQUEUE, &[&organizer.id, &numbers(1), &"theirs", &json!({"name": "x"})]);

    assert_eq!(refusal.sqlstate, "42704", "{refusal:#?}");
}

#[test]
fn variables_must_be_complete_and_well_formed() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let with = |name: &str, value: Value| {
        let mut variables = reminder_variables();
        variables[name] = value;
        variables
    };
    let mut missing = reminder_variables();
    missing.as_object_mut().unwrap().remove("event_time");

    let cases = [
        (missing, "event_time"),
        (with("evnt_time", json!("10 AM")), "evnt_time"),
        (with("event_name", json!("")), "event_name"),
        (with("event_name", json!("   ")), "event_name"),
        (with("event_name", json!(null)), "event_name"),
        (with("event_name", json!("two\nlines")), "event_name"),
        (with("event_name", json!("a\ttab")), "event_name"),
        (with("event_name", json!("five     spaces")), "event_name"),
        (with("event_name", json!("bell\u{7}")), "event_name"),
        (with("event_name", json!("x".repeat(5_000))), "event_name"),
        (with("event_name", json!(["a", "list"])), "event_name"),
        (json!({}), "attendee_name"),
    ];
    for (variables, named) in cases {
        let refusal = session.refusal(ENQUEUE, &[&organizer.id, &numbers(1), &REMINDER, &variables]);
        assert_explained(&refusal, "22023", &[named]);
    }
    for variables in [json!([]), json!("text"), json!(7)] {
        let refusal = session.refusal(ENQUEUE, &[&organizer.id, &numbers(1), &REMINDER, &variables]);
        assert_explained(&refusal, "22023", &["object"]);
    }
    assert_queue_is_empty(&mut session);
}

#[test]
fn an_empty_list_of_recipients_is_refused() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let nobody: Vec<String> = Vec::new();

    let refusal = session.refusal(ENQUEUE, &[&organizer.id, &nobody, &REMINDER, &reminder_variables()]);
    assert_explained(&refusal, "22023", &["empty"]);

    let refusal = session.refusal(
        "SELECT wa_enqueue(user_id => $1, messages => '[]'::jsonb, template_name => $2)",
        &[&organizer.id, &REMINDER],
    );
    assert_explained(&refusal, "22023", &["empty"]);
}

#[test]
fn a_null_that_makes_no_sense_is_an_error_that_names_the_argument() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let arguments = [
        ("user_id", format!("'{}'::uuid", organizer.id)),
        ("recipients", "ARRAY['+573001000000']".into()),
        ("template_name", format!("'{REMINDER}'")),
        ("variables", format!("'{}'::jsonb", reminder_variables())),
        ("priority", "5".into()),
        ("scheduled_for", "now()".into()),
        ("on_bad", "'refuse'".into()),
    ];

    for (null, _) in &arguments {
        let list: Vec<String> = arguments
            .iter()
            .map(|(name, value)| format!("{name} => {}", if name == null { "NULL" } else { value.as_str() }))
            .collect();
        let sql = format!("SELECT * FROM wa_enqueue({})", list.join(", "));
        match *null {
            // These have defaults, and NULL means the default.
            "scheduled_for" | "priority" | "variables" | "on_bad" => {
                let refusal = session.query(&sql, &[]).err().and_then(|e| Refusal::of(&e));
                assert!(
                    refusal.as_ref().is_none_or(|r| r.sqlstate == "22004" || r.sqlstate == "22023"),
                    "{null}: {refusal:#?}"
                );
                session.run("DELETE FROM whatsapp_queue");
            }
            required => {
                let refusal = session.refusal(&sql, &[]);
                assert_eq!(refusal.sqlstate, "22004", "{refusal:#?}");
                assert!(refusal.mentions(required), "{refusal:#?}");
            }
        }
    }

    let refusal = session.refusal(
        ENQUEUE,
        &[&organizer.id, &[Some("+573001000000"), None].as_slice(), &REMINDER, &reminder_variables()],
    );
    assert!(refusal.sqlstate == "22004" || refusal.sqlstate == "22023", "{refusal:#?}");
    assert_queue_is_empty(&mut session);
}

#[test]
fn a_priority_outside_one_to_ten_is_refused() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    for priority in [11, 0, -1] {
        let refusal = session.refusal(
            "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4, priority => $5)",
            &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables(), &priority],
        );
        assert_explained(&refusal, "22023", &[&priority.to_string(), "10"]);
    }
    assert_queue_is_empty(&mut session);
}

#[test]
fn a_message_that_would_expire_before_it_is_due_is_refused() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    let refusal = session.refusal(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                           scheduled_for => '2099-01-02', expires_at => '2099-01-01')",
        &[&organizer.id, &numbers(1), &REMINDER, &reminder_variables()],
    );

    assert_explained(&refusal, "22023", &["expires_at"]);
    assert_queue_is_empty(&mut session);
}

#[test]
fn a_text_that_is_really_a_list_is_refused_with_the_cast_to_write() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);

    for (text, cast) in
        [("{+573001000000,+573001000001}", "text[]"), ("[\"+573001000000\", \"+573001000001\"]", "jsonb")]
    {
        let refusal = session.refusal(
            "SELECT wa_enqueue(user_id => $1, recipient => $2::text, template_name => $3, variables => $4)",
            &[&organizer.id, &text, &REMINDER, &reminder_variables()],
        );
        assert_explained(&refusal, "22023", &[cast]);
        // The way people get there: an untyped literal picks the form that takes text.
        let refusal = session.refusal(
            &format!(
                "SELECT wa_enqueue('{}', '{text}', '{REMINDER}', '{}'::jsonb)",
                organizer.id,
                reminder_variables()
            ),
            &[],
        );
        assert_explained(&refusal, "22023", &[cast]);
    }
    assert_queue_is_empty(&mut session);
}

#[test]
fn messages_that_are_not_a_list_of_objects_with_a_number_are_refused() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let good = json!({"to": "+573001000000", "variables": reminder_variables()});

    for messages in [
        json!({"to": "+573001000000"}),
        json!("text"),
        json!([1]),
        json!([good, {"variables": reminder_variables()}]),
        json!([good, {"to": 573_001_000_000_u64, "variables": []}]),
        json!([good, {"to": "+573001000001", "variables": "none"}]),
        json!([good, {"to": "+573001000001", "variables": reminder_variables(), "too": "x"}]),
    ] {
        let refusal = session.refusal(
            "SELECT wa_enqueue(user_id => $1, messages => $2, template_name => $3)",
            &[&organizer.id, &messages, &REMINDER],
        );
        assert_explained(&refusal, "22023", &[]);
    }
    assert_queue_is_empty(&mut session);
}
