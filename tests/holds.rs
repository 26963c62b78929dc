//! Holds by Meta's answers: what Meta stops waits, everything else goes on, and the backlog is not touched. Holds by hand are
//! in `pauses`.

use std::time::Duration;

use graph_simulator::{Account, Action, FaultRule, Latency, Match, Simulator};
use harness::fixtures::{REMINDER, TOKEN, reminder_variables, serving, simulator, wait_for_accepted};
use harness::wait::PATIENCE;
use harness::{Cluster, Organizer, Session, most_within, wait_until};
use postgres::fallible_iterator::FallibleIterator;
use uuid::Uuid;

use crate::limits::queue;

/// Meta answers with this error to whatever matches.
pub fn error_for(matching: Match, code: i64) -> FaultRule {
    FaultRule { matching, action: Action::Error { code, subcode: None, details: None }, accept: None }
}

fn first(count: u64) -> Match {
    Match { first: Some(count), ..Match::default() }
}

fn to(phone: &str) -> Match {
    Match { to: Some(phone.to_owned()), ..Match::default() }
}

pub fn set_faults(simulator: &Simulator, rules: Vec<FaultRule>) {
    simulator.set_faults(rules).expect("a script that makes sense");
}

/// Queues one message of this template; answers its id.
pub fn send(session: &mut Session, organizer: &Organizer, template: &str, phone: &str) -> Uuid {
    session.value(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables)
         VALUES ($1, $2, $3, CASE WHEN $3 = $4 THEN $5::jsonb ELSE '{}' END) RETURNING id",
        &[&organizer.id, &phone, &template, &REMINDER, &reminder_variables()],
    )
}

/// A template without variables, of this category.
pub fn add_template(session: &mut Session, organizer: &Organizer, name: &str, category: &str) {
    organizer.add_template(session, name, "en", "Doors open at eight.", &[]);
    session.execute_with("UPDATE whatsapp_templates SET category = $1 WHERE template_name = $2", &[&category, &name]);
}

/// The organizer's holds: scope, subject and code.
pub fn holds(session: &mut Session, organizer: &Organizer) -> Vec<String> {
    session.values(
        "SELECT concat_ws(' ', scope, subject, code) FROM whatsapp_holds WHERE user_id = $1 ORDER BY 1",
        &[&organizer.id],
    )
}

fn wait_for_hold(session: &mut Session, organizer: &Organizer, hold: &str) {
    wait_until(hold, PATIENCE, || {
        let found = holds(session, organizer);
        if found == [hold] { Ok(()) } else { Err(found) }
    });
    let explained: bool = session.value(
        "SELECT bool_and(reason <> '' AND until > now() AND source = 'meta' AND held_at <= now()) FROM whatsapp_holds",
        &[],
    );
    assert!(explained);
}

pub fn wait_for_status(session: &mut Session, id: Uuid, status: &str) {
    session.wait_for_value(&status.to_owned(), "SELECT status FROM whatsapp_queue WHERE id = $1", &[&id]);
}

/// What a message says of itself: status, code, whether there are words, and what is next.
fn explained(session: &mut Session, id: Uuid) -> (String, Option<String>, bool, bool) {
    let row = session
        .query_one(
            "SELECT q.status, m.error_code, coalesce(m.error, '') <> '', coalesce(m.next_step, '') <> ''
             FROM whatsapp_messages AS m JOIN whatsapp_queue AS q USING (id) WHERE id = $1",
            &[&id],
        )
        .expect("the message");
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

fn failed_with(code: &str) -> (String, Option<String>, bool, bool) {
    ("failed".to_owned(), Some(code.to_owned()), true, true)
}

#[test]
fn a_dead_token_holds_the_account_with_one_row_and_leaves_the_backlog_alone_until_a_new_one_is_configured() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.notify_channel", "'wa_news'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    simulator.put_account(Account {
        phone_number_id: organizer.phone_number_id.clone(),
        token: Some("EAAGanother".into()),
        ..Account::default()
    });
    session.run("LISTEN wa_news");

    queue(&mut session, &organizer, 0, 1_500);
    wait_for_hold(&mut session, &organizer, &format!("account {} 190", organizer.id));
    let notification = session
        .notifications()
        .timeout_iter(PATIENCE)
        .next()
        .expect("the connection is there")
        .expect("a notification");
    let payload: serde_json::Value = serde_json::from_str(notification.payload()).expect("JSON");
    assert_eq!((payload["event"].as_str(), payload["code"].as_str()), (Some("hold"), Some("190")), "{payload}");
    assert_eq!(payload["user_id"], organizer.id.to_string());
    session.wait_for("all calls to be over", "SELECT count(*) = 1500 FROM whatsapp_queue WHERE status = 'queued'", &[]);
    // Calls in flight at once: 64. The rows of all others are as they were inserted.
    let untouched: i64 = session.value(
        "SELECT count(*) FROM whatsapp_queue WHERE xmin::text = (SELECT min(xmin::text::bigint)::text FROM whatsapp_queue)
                                               AND attempts = 0 AND error_code IS NULL",
        &[],
    );
    assert!(untouched >= 1_500 - 2 * 64, "{untouched} of 1500 are untouched");
    let requests = simulator.stats().requests;
    assert!(requests <= 2 * 64, "{requests} requests with a dead token");
    let told: bool = session
        .value("SELECT NOT wa_rate_ok($1) AND bool_or(reason ~ 'token') FROM wa_rate_status($1)", &[&organizer.id]);
    assert!(told);
    let tried: Uuid = session.values("SELECT id FROM whatsapp_queue WHERE attempts > 0 LIMIT 1", &[])[0];
    assert_eq!(explained(&mut session, tried), ("queued".into(), Some("190".into()), true, true));

    simulator.put_account(Account {
        phone_number_id: organizer.phone_number_id.clone(),
        token: Some(TOKEN.into()),
        ..Account::default()
    });
    organizer.configure(&mut session, "messages_per_second => 1000, rate_limit_tier => 'unlimited'");
    organizer.wait_for_count(&mut session, "sent", 1_500);
    assert_eq!(holds(&mut session, &organizer), Vec::<String>::new());
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn a_number_reported_as_spam_is_held_another_organizers_goes_on_and_wa_resume_ends_it() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let (held, other) = (Organizer::create(&mut session), Organizer::create(&mut session));
    let its = Match { phone_number_id: Some(held.phone_number_id.clone()), ..Match::default() };
    set_faults(&simulator, vec![error_for(its, 131_048)]);

    queue(&mut session, &held, 0, 200);
    wait_for_hold(&mut session, &held, &format!("number {} 131048", held.phone_number_id));
    let an_hour: bool = session.value(
        "SELECT until BETWEEN now() + interval '50 minutes' AND now() + interval '70 minutes' FROM whatsapp_holds",
        &[],
    );
    assert!(an_hour);
    queue(&mut session, &other, 0, 50);
    other.wait_for_count(&mut session, "sent", 50);
    assert_eq!((held.count(&mut session, "sent"), held.count(&mut session, "failed")), (0, 0));

    set_faults(&simulator, vec![]);
    assert_eq!(session.value::<i64>("SELECT wa_resume(user_id => $1)", &[&held.id]), 1);
    held.wait_for_count(&mut session, "sent", 200);
}

#[test]
fn a_paused_template_is_held_and_another_goes_on() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    add_template(&mut session, &organizer, "doors_open", "UTILITY");
    set_faults(&simulator, vec![error_for(first(1), 132_015)]);

    let paused = send(&mut session, &organizer, "doors_open", "+447400123456");
    wait_for_hold(&mut session, &organizer, "template doors_open/en 132015");
    session.run("BEGIN");
    let held = send(&mut session, &organizer, "doors_open", "+447400123457");
    let other = send(&mut session, &organizer, REMINDER, "+447400123458");
    session.run("COMMIT");
    wait_for_status(&mut session, other, "sent");

    assert_eq!(explained(&mut session, paused), ("queued".into(), Some("132015".into()), true, true));
    assert_eq!(simulator.stats().requests, 2);
    let next: String = session.value("SELECT next_step FROM whatsapp_messages WHERE id = $1", &[&held]);
    assert!(next.contains("doors_open") || next.contains("hold") || next.contains("held"), "{next}");
    session.execute_with("SELECT wa_resume(user_id => $1, template_name => 'doors_open')", &[&organizer.id]);
    wait_for_status(&mut session, held, "sent");
    session.execute_with("SELECT wa_retry($1)", &[&paused]);
    wait_for_status(&mut session, paused, "sent");
}

#[test]
fn each_error_holds_what_it_is_about() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    // Code, what is held, whether the message waits, and for how many minutes at least (None: until somebody ends it).
    let cases = [
        (0, "account", true, Some(10)),
        (4, "account", true, Some(4)),
        (10, "account", true, Some(10)),
        (33, "number", true, Some(10)),
        (190, "account", true, Some(10)),
        (368, "account", true, Some(50)),
        (80_007, "account", true, Some(14)),
        (131_031, "account", true, Some(50)),
        (131_042, "account", true, Some(10)),
        (131_045, "number", true, Some(10)),
        (131_048, "number", true, Some(50)),
        (131_063, "category", true, Some(50)),
        (132_001, "template", true, Some(9)),
        (132_007, "template", false, None),
        (132_015, "template", true, Some(170)),
        (132_016, "template", false, None),
        (130_497, "country", false, None),
    ];
    let organizers: Vec<Organizer> = cases.iter().map(|_| Organizer::create(&mut session)).collect();
    let refused = |(case, organizer): (&(i64, _, _, _), &Organizer)| {
        let its = Match { phone_number_id: Some(organizer.phone_number_id.clone()), ..Match::default() };
        error_for(its, case.0)
    };
    set_faults(&simulator, cases.iter().zip(&organizers).map(refused).collect());
    for organizer in &organizers {
        send(&mut session, organizer, REMINDER, "+447400123456");
    }

    for ((code, scope, waits, minutes), organizer) in cases.iter().zip(&organizers) {
        let subject = match *scope {
            "account" => organizer.id.to_string(),
            "number" => organizer.phone_number_id.clone(),
            "template" => format!("{REMINDER}/en"),
            "category" => "UTILITY".to_owned(),
            _ => "+44".to_owned(),
        };
        let wanted = format!("{scope} {subject} {code}");
        wait_until(&wanted, PATIENCE, || {
            let found = holds(&mut session, organizer);
            if found == [wanted.as_str()] { Ok(()) } else { Err(found) }
        });
        let row = session
            .query_one(
                "SELECT h.until = 'infinity', extract(epoch FROM least(h.until, now() + interval '1 year') - now())::float8 / 60,
                        q.status, q.error_code, q.error_message, h.reason
                 FROM whatsapp_holds AS h JOIN whatsapp_queue AS q USING (user_id) WHERE user_id = $1",
                &[&organizer.id],
            )
            .expect("a hold and a message");
        assert_eq!(row.get::<_, bool>(0), minutes.is_none(), "{code}");
        let (at_least, lasts) = (f64::from(minutes.unwrap_or(1)), row.get::<_, f64>(1));
        assert!(lasts >= at_least, "{code} is held for {lasts} minutes");
        assert_eq!(row.get::<_, &str>(2), if *waits { "queued" } else { "failed" }, "{code}");
        assert_eq!(row.get::<_, &str>(3), code.to_string());
        assert!(row.get::<_, &str>(4).len() > 40 && row.get::<_, &str>(5).len() > 40, "{code} is explained");
    }
}

#[test]
fn a_number_that_two_organizers_share_is_held_for_both_and_released_for_both() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let first_one = Organizer::create(&mut session);
    let other = Organizer { phone_number_id: first_one.phone_number_id.clone(), ..Organizer::create(&mut session) };
    other.configure(&mut session, "messages_per_second => 1000, rate_limit_tier => 'unlimited'");
    set_faults(&simulator, vec![error_for(first(1), 131_048)]);

    send(&mut session, &first_one, REMINDER, "+447400123456");
    wait_for_hold(&mut session, &first_one, &format!("number {} 131048", first_one.phone_number_id));
    let held = send(&mut session, &other, REMINDER, "+447400123457");
    session.wait_for(
        "it to be held",
        "SELECT NOT wa_rate_ok($1) AND next_step LIKE 'held%' FROM whatsapp_messages WHERE id = $2",
        &[&other.id, &held],
    );
    assert_eq!(simulator.stats().requests, 1);

    session.run("UPDATE whatsapp_holds SET until = now()");
    first_one.wait_for_count(&mut session, "sent", 1);
    wait_for_status(&mut session, held, "sent");
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_holds", &[]), 0);
}

#[test]
fn limited_utility_templates_are_held_as_a_category_and_marketing_goes_on() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    add_template(&mut session, &organizer, "offer", "MARKETING");
    add_template(&mut session, &organizer, "notice", "UTILITY");
    set_faults(&simulator, vec![error_for(first(1), 131_064)]);

    send(&mut session, &organizer, REMINDER, "+447400123456");
    wait_for_hold(&mut session, &organizer, "category UTILITY 131064");
    session.run("BEGIN");
    let held = send(&mut session, &organizer, "notice", "+447400123457");
    let offer = send(&mut session, &organizer, "offer", "+447400123458");
    session.run("COMMIT");
    wait_for_status(&mut session, offer, "sent");

    assert_eq!(simulator.stats().requests, 2);
    wait_for_status(&mut session, held, "queued");
}

#[test]
fn messages_to_a_country_that_meta_refuses_fail_at_once_others_go_on_and_wa_resume_ends_it() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    set_faults(&simulator, vec![error_for(first(1), 130_497)]);

    let refused = send(&mut session, &organizer, REMINDER, "+573001000000");
    wait_for_hold(&mut session, &organizer, "country +57 130497");
    let same = send(&mut session, &organizer, REMINDER, "+573001000001");
    let other = send(&mut session, &organizer, REMINDER, "+447400123456");
    wait_for_status(&mut session, other, "sent");
    wait_for_status(&mut session, same, "failed");

    assert_eq!(explained(&mut session, refused), failed_with("130497"));
    assert_eq!(explained(&mut session, same), failed_with("130497"));
    assert_eq!(simulator.stats().requests, 2, "nobody asks Meta about the country again");
    assert_eq!(session.value::<i64>("SELECT wa_resume(user_id => $1)", &[&organizer.id]), 1);
    session.execute_with("SELECT wa_retry($1)", &[&same]);
    wait_for_status(&mut session, same, "sent");
}

#[test]
fn too_much_for_one_person_holds_that_person_for_metas_formula_and_nobody_else() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let refusals = Match { first: Some(2), ..to("+447400123456") };
    set_faults(&simulator, vec![error_for(refusals, 131_056)]);

    session.run("BEGIN");
    let held = send(&mut session, &organizer, REMINDER, "+447400123456");
    queue(&mut session, &organizer, 0, 100);
    session.run("COMMIT");
    session.wait_for(
        "the second wait, of 4 seconds",
        "SELECT pair_failures = 2 AND held_code = '131056' AND held_reason <> ''
                AND held_until - pair_failed_at = interval '4 seconds' FROM whatsapp_contacts",
        &[],
    );
    organizer.wait_for_count(&mut session, "sent", 100);
    assert_eq!(explained(&mut session, held), ("queued".into(), Some("131056".into()), true, true));
    wait_for_status(&mut session, held, "sent");

    let waited: bool = session.value(
        "SELECT q.sent_at >= c.held_until AND q.retry_count = 0 FROM whatsapp_queue AS q, whatsapp_contacts AS c WHERE q.id = $1",
        &[&held],
    );
    assert!(waited, "it waits for the hold, and uses up no retries");
    assert_eq!(holds(&mut session, &organizer), Vec::<String>::new());
}

#[test]
fn who_gets_too_much_marketing_gets_none_for_a_day_and_who_wants_none_gets_none() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    add_template(&mut session, &organizer, "offer", "MARKETING");
    let (tired, gone) = ("+447400123456", "+447400123457");
    set_faults(
        &simulator,
        vec![
            error_for(Match { first: Some(1), ..to(tired) }, 131_049),
            error_for(Match { first: Some(1), ..to(gone) }, 131_050),
        ],
    );

    let (refused, unwanted) =
        (send(&mut session, &organizer, "offer", tired), send(&mut session, &organizer, "offer", gone));
    for (id, code) in [(refused, "131049"), (unwanted, "131050")] {
        wait_for_status(&mut session, id, "failed");
        assert_eq!(explained(&mut session, id), failed_with(code));
    }
    let kept: Vec<bool> = session.values(
        "SELECT CASE marketing_held_code
                WHEN '131049' THEN marketing_held_until BETWEEN now() + interval '23 hours' AND now() + interval '25 hours'
                WHEN '131050' THEN marketing_held_until = 'infinity' END
         FROM whatsapp_contacts",
        &[],
    );
    assert_eq!(kept, [true, true]);

    let (waits, fails) =
        (send(&mut session, &organizer, "offer", tired), send(&mut session, &organizer, "offer", gone));
    let useful = [send(&mut session, &organizer, REMINDER, tired), send(&mut session, &organizer, REMINDER, gone)];
    for id in useful {
        wait_for_status(&mut session, id, "sent");
    }
    wait_for_status(&mut session, fails, "failed");
    assert_eq!(explained(&mut session, fails), failed_with("131050"));
    wait_for_status(&mut session, waits, "queued");
    assert_eq!(simulator.stats().requests, 4);

    // The day is over.
    session.run("UPDATE whatsapp_contacts SET marketing_held_until = now() WHERE marketing_held_until < 'infinity'");
    wait_for_status(&mut session, waits, "sent");
}

#[test]
fn who_cannot_be_reached_on_three_days_is_suppressed_until_resumed() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let phone = "+447400123456";
    set_faults(&simulator, vec![error_for(to(phone), 131_026)]);
    let try_it = |session: &mut Session| {
        let id = send(session, &organizer, REMINDER, phone);
        wait_for_status(session, id, "failed");
        assert_eq!(explained(session, id), failed_with("131026"));
        let row = session
            .query_one("SELECT undeliverable, suppressed_at IS NOT NULL FROM whatsapp_contacts", &[])
            .expect("the person is known");
        (row.get::<_, i32>(0), row.get::<_, bool>(1))
    };

    assert_eq!(try_it(&mut session), (1, false));
    assert_eq!(try_it(&mut session), (1, false), "one a day is counted");
    for counted in [2, 3] {
        session.run("UPDATE whatsapp_contacts SET undeliverable_at = undeliverable_at - interval '1 day'");
        assert_eq!(try_it(&mut session), (counted, counted == 3));
    }
    let requests = simulator.stats().requests;
    assert!(try_it(&mut session).1);
    assert_eq!(simulator.stats().requests, requests, "a suppressed number is not tried");

    set_faults(&simulator, vec![]);
    session.execute_with("SELECT wa_resume(user_id => $1, recipient => $2)", &[&organizer.id, &phone]);
    let id = send(&mut session, &organizer, REMINDER, phone);
    wait_for_status(&mut session, id, "sent");
}

#[test]
fn when_metas_hold_is_over_exactly_one_message_is_tried_and_decides() {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(700));
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let hold = |session: &mut Session, until: &str| {
        session.execute_with(
            &format!(
                "INSERT INTO whatsapp_holds (user_id, scope, subject, source, code, reason, until)
                 VALUES ($1, 'account', $1::uuid::text, 'meta', '190', 'for the test', {until})
                 ON CONFLICT (user_id, scope, subject, source) DO UPDATE SET until = excluded.until"
            ),
            &[&organizer.id],
        );
    };
    hold(&mut session, "'infinity'");
    // More than one claim looks at, so that a second claim would try a second one.
    queue(&mut session, &organizer, 0, 4_500);
    set_faults(&simulator, vec![error_for(first(1), 190)]);

    hold(&mut session, "now()");
    session.wait_for(
        "the first try to be refused, and the hold prolonged",
        "SELECT strikes > 1 AND until > now() + interval '5 minutes' FROM whatsapp_holds",
        &[],
    );
    assert_eq!(simulator.stats().requests, 1, "one message is tried");
    organizer.wait_for_count(&mut session, "queued", 4_500);

    hold(&mut session, "now()");
    wait_for_accepted(&simulator, 1);
    assert_eq!(simulator.stats().max_in_flight, 1, "one message is tried at a time");
    simulator.set_latency(Latency::fixed(0));
    session.wait_for_value(&0_i64, "SELECT count(*) FROM whatsapp_holds", &[]);
    organizer.wait_for_count(&mut session, "sent", 4_500);
    assert_eq!(simulator.stats().duplicates, 0);
}

#[test]
fn a_number_that_sends_too_fast_goes_on_at_half_its_rate_and_recovers() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 40, rate_limit_tier => 'unlimited'");
    set_faults(&simulator, vec![error_for(first(1), 130_429)]);
    let rate = "SELECT allowed FROM wa_rate_status($1) WHERE limit_name = 'messages per second'";

    queue(&mut session, &organizer, 0, 60);
    session.wait_for("the rate to be halved", "SELECT throttled_per_second = 20 FROM whatsapp_pacing", &[]);
    assert_eq!(session.value::<i64>(rate, &[&organizer.id]), 20);
    organizer.wait_for_count(&mut session, "sent", 60);
    let arrivals = simulator.arrivals(&organizer.phone_number_id);
    let rested: Vec<Duration> =
        arrivals.iter().copied().filter(|at| *at > arrivals[0] + Duration::from_millis(1_500)).collect();
    let most = most_within(&rested, Duration::from_millis(900));
    assert!(rested.len() >= 40 && most <= 20, "{most} in 0.9 seconds, of {}", rested.len());
    let retried: (i32, bool) = session
        .query_one("SELECT max(retry_count), bool_and(error_code IS NULL) FROM whatsapp_queue", &[])
        .map(|row| (row.get(0), row.get(1)))
        .expect("a row");
    assert_eq!(retried, (0, true), "being slowed down uses up no retries");

    for (seconds, allowed) in [(11, 24), (31, 32), (51, 40)] {
        session.execute_with(
            "UPDATE whatsapp_pacing SET throttled_at = now() - make_interval(secs => $1)",
            &[&f64::from(seconds)],
        );
        assert_eq!(session.value::<i64>(rate, &[&organizer.id]), allowed, "after {seconds} s");
    }
}
