//! `expires_at`: time in the queue counts, and what cannot leave in time is refused at once.

use harness::fixtures::{REMINDER, numbers, reminder_variables, serving, simulator};
use harness::{Cluster, Organizer, Session};

use crate::enqueue::assert_queue_is_empty;
use crate::limits::queue;

const ENQUEUE: &str =
    "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4, ";

#[test]
fn a_message_that_expires_while_it_is_held_fails_as_expired_and_wa_retry_lifts_that() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.poll_interval", "'1s'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    session.execute_with("SELECT wa_pause(user_id => $1)", &[&organizer.id]);
    let insert = |session: &mut Session, expires: &str| {
        session.execute_with(
            "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables, expires_at)
             VALUES ($1, '+447400123456', $2, $3, clock_timestamp() + $4::text::interval)",
            &[&organizer.id, &REMINDER, &reminder_variables(), &expires],
        );
    };

    insert(&mut session, "1 second");
    insert(&mut session, "1 hour");
    organizer.wait_for_count(&mut session, "failed", 1);
    let row = session
        .query_one(
            "SELECT m.error_code, m.error <> '', m.next_step <> '', q.updated_at >= q.expires_at, l.status
             FROM whatsapp_messages AS m JOIN whatsapp_queue AS q USING (id)
             JOIN whatsapp_delivery_logs AS l ON l.queue_id = q.id WHERE q.status = 'failed'",
            &[],
        )
        .expect("the message and its line in the log");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(4)), ("expired", "failed"));
    assert!(row.get::<_, bool>(1) && row.get::<_, bool>(2) && row.get::<_, bool>(3));
    assert_eq!((organizer.count(&mut session, "queued"), simulator.stats().requests), (1, 0));

    session.run("SELECT wa_retry(id) FROM whatsapp_queue WHERE status = 'failed'");
    session.execute_with("SELECT wa_resume(user_id => $1)", &[&organizer.id]);
    organizer.wait_for_count(&mut session, "sent", 2);
}

#[test]
fn messages_that_would_expire_behind_the_backlog_are_refused_with_the_reason() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 20, rate_limit_tier => 'unlimited'");
    let refused = |session: &mut Session, count: u32, rest: &str, words: &[&str]| {
        let refusal = session
            .refusal(&format!("{ENQUEUE}{rest})"), &[&organizer.id, &numbers(count), &REMINDER, &reminder_variables()]);
        assert_eq!(refusal.sqlstate, "55000", "{rest}: {refusal:#?}");
        assert!(!refusal.hint.is_empty(), "{refusal:#?}");
        for word in words {
            assert!(refusal.mentions(word), "{word} is missing in {refusal:#?}");
        }
    };
    let taken = |session: &mut Session, count: u32, rest: &str| {
        session.value::<i64>(
            &format!("{ENQUEUE}{rest})"),
            &[&organizer.id, &numbers(count), &REMINDER, &reminder_variables()],
        )
    };

    // The call's own messages count, too.
    refused(&mut session, 400, "expires_at => now() + interval '10 seconds'", &["expire", "pace"]);
    refused(
        &mut session,
        400,
        "scheduled_for => now() + interval '1 day', expires_at => now() + interval '1 day 10 seconds'",
        &["pace"],
    );
    assert_queue_is_empty(&mut session);
    queue(&mut session, &organizer, 0, 600);
    refused(&mut session, 1, "expires_at => now() + interval '20 seconds'", &["600", "pace"]);
    assert_eq!(taken(&mut session, 1, "expires_at => now() + interval '60 seconds'"), 1);
    assert_eq!(
        taken(&mut session, 400, "expires_at => now() + interval '2 days', scheduled_for => now() + interval '1 day'"),
        400
    );

    session.execute_with("SELECT wa_pause(user_id => $1)", &[&organizer.id]);
    refused(&mut session, 1, "expires_at => now() + interval '1 year'", &["hold"]);
    session.execute_with("SELECT wa_resume(user_id => $1)", &[&organizer.id]);

    session.notices();
    assert_eq!(taken(&mut session, 1, "expires_at => now() + interval '20 seconds', on_bad => 'record'"), 1);
    let warnings = session.notices();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(warnings[0].severity, "WARNING");
    assert!(warnings[0].mentions("expire") && warnings[0].mentions("pace"), "{warnings:#?}");
}
