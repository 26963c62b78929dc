//! `wa_pause` and `wa_resume`: holds by hand, of everything down to one message, without touching the messages.

use std::time::{Duration, Instant};

use harness::fixtures::{REMINDER, reminder_variables, serving, simulator};
use harness::{Cluster, Organizer};
use uuid::Uuid;

use crate::holds::{add_template, holds, send, wait_for_status};

#[test]
fn what_is_paused_by_hand_waits_everything_else_goes_on_and_wa_resume_lets_it_go() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let id = Uuid::new_v4();
    // How it is named to wa_pause() and wa_resume(), and the row it is about.
    for (name, column) in [
        ("user_id => $1", "user_id"),
        ("template_name => 'doors_open', user_id => $1", "template_name"),
        ("recipient => '+44 7400 123456', user_id => $1", "recipient_phone"),
        ("event_id => $2", "event_id"),
        ("task_id => $2", "task_id"),
        ("campaign_id => $2", "campaign_id"),
        ("id => $2", "id"),
    ] {
        session.run("TRUNCATE whatsapp_queue CASCADE");
        let paused = if column == "user_id" { organizer.clone() } else { Organizer::create(&mut session) };
        add_template(&mut session, &paused, "doors_open", "UTILITY");
        let call = |function: &str, more: &str| {
            format!("SELECT {function}({name}{more}) FROM (SELECT $1::uuid, $2::uuid) AS given")
        };
        // Rows to be found by the id; they are due when the pause holds.
        session.execute_with(
            "INSERT INTO whatsapp_queue (id, user_id, recipient_phone, template_name, event_id, task_id, campaign_id, scheduled_for)
             VALUES ($1, $2, '+447400123456', 'doors_open', $1, $1, $1, now() + interval '1 day')",
            &[&id, &paused.id],
        );
        let placed: i64 = session.value(&call("wa_pause", ", reason => 'for the test'"), &[&paused.id, &id]);
        assert_eq!(placed, 1, "{name}");
        session.run("UPDATE whatsapp_queue SET scheduled_for = now() - interval '1 minute'");
        // Another organizer's, and this one's where it is not concerned.
        let other = Organizer::create(&mut session);
        let mut free = vec![send(&mut session, &other, REMINDER, "+447400123457")];
        if column != "user_id" {
            free.push(send(&mut session, &paused, REMINDER, "+447400123457"));
        }
        for free in free {
            wait_for_status(&mut session, free, "sent");
        }
        wait_for_status(&mut session, id, "queued");
        let next: String = session.value("SELECT next_step FROM whatsapp_messages WHERE id = $1", &[&id]);
        assert!(!next.is_empty());

        let ended: i64 = session.value(&call("wa_resume", ""), &[&paused.id, &id]);
        assert_eq!(ended, 1, "{name}");
        wait_for_status(&mut session, id, "sent");
        let again: i64 = session.value(&call("wa_resume", ""), &[&paused.id, &id]);
        assert_eq!(again, 0, "{name}: there is nothing left to resume");
    }
}

#[test]
fn a_pause_ends_by_itself_at_its_time() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    for what in ["", ", recipient => '+447400123456'"] {
        session.execute_with(
            &format!("SELECT wa_pause(user_id => $1{what}, until => clock_timestamp() + interval '1.5 seconds')"),
            &[&organizer.id],
        );
        let began = Instant::now();
        let id = send(&mut session, &organizer, REMINDER, "+447400123456");
        wait_for_status(&mut session, id, "sent");
        let took = began.elapsed();
        assert!((1_300..5_000).contains(&took.as_millis()), "{what}: {took:?}");
    }
}

#[test]
fn only_who_acts_for_an_organizer_may_pause_and_resume_for_it() {
    let cluster = Cluster::builder().preloaded().setting("whatsapp_pg.mode", "off").start();
    let database = cluster.database();
    let mut session = database.connect();
    let (ana, luis) = (Organizer::create(&mut session), Organizer::create(&mut session));
    let of_luis = send(&mut session, &luis, REMINDER, "+447400123456");
    session.run("CREATE ROLE ana LOGIN; CREATE ROLE stranger LOGIN");
    session.execute_with("SELECT wa_grant_organizer('ana', $1)", &[&ana.id]);
    let mut hers = database.connect_as("ana");
    let mut strangers = database.connect_as("stranger");

    assert_eq!(hers.value::<i64>("SELECT wa_pause(user_id => $1)", &[&ana.id]), 1);
    assert_eq!(hers.value::<i64>("SELECT wa_pause(template_name => 'any')", &[]), 1, "her organizer is known");
    assert_eq!(holds(&mut hers, &ana), ["account ".to_owned() + &ana.id.to_string(), "template any".to_owned()]);
    let by: String = session.value("SELECT held_by FROM whatsapp_holds LIMIT 1", &[]);
    assert_eq!(by, "ana");
    for call in [
        "wa_pause(user_id => $1)",
        "wa_pause(id => $2, user_id => $1)",
        "wa_pause(id => $2)",
        "wa_pause(recipient => '+447400123456', user_id => $1)",
        "wa_resume(user_id => $1)",
        "wa_resume(id => $2)",
    ] {
        let sql = format!("SELECT {call} FROM (SELECT $1::uuid, $2::uuid) AS given");
        for (who, session) in [("ana", &mut hers), ("stranger", &mut strangers)] {
            let refusal = session.refusal(&sql, &[&luis.id, &of_luis]);
            assert!(["42501", "42704"].contains(&refusal.sqlstate.as_str()), "{who} {call}: {refusal:#?}");
        }
    }
    assert_eq!(holds(&mut session, &luis), Vec::<String>::new());
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_contacts", &[]), 0);

    for call in [
        "wa_pause()",
        "wa_pause(user_id => $1, id => $2, template_name => 'any')",
        "wa_pause(user_id => $1, until => now())",
        "wa_pause(user_id => $1, recipient => 'nobody')",
        "wa_resume()",
    ] {
        let refusal =
            session.refusal(&format!("SELECT {call} FROM (SELECT $1::uuid, $2::uuid) AS given"), &[&luis.id, &of_luis]);
        assert_eq!(refusal.sqlstate, "22023", "{call}: {refusal:#?}");
        assert!(!refusal.detail.is_empty() && !refusal.hint.is_empty(), "{call}: {refusal:#?}");
    }
}

#[test]
fn a_paused_campaign_of_20000_does_not_stop_a_later_message_of_the_same_organizer() {
    let simulator = simulator();
    let cluster = serving(&simulator).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let campaign = Uuid::new_v4();
    session.execute_with("SELECT wa_pause(user_id => $1, campaign_id => $2)", &[&organizer.id, &campaign]);
    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables, campaign_id)
         SELECT $1, '+57300' || 1000000 + n, $2, $3, $4 FROM generate_series(1, 20000) AS n",
        &[&organizer.id, &REMINDER, &reminder_variables(), &campaign],
    );

    let mut slowest = Duration::ZERO;
    for n in 0..4 {
        let began = Instant::now();
        let id = send(&mut session, &organizer, REMINDER, &format!("+44740012345{n}"));
        wait_for_status(&mut session, id, "sent");
        slowest = slowest.max(began.elapsed());
    }
    eprintln!("behind 20,000 paused messages the slowest of four took {slowest:?}");
    // About 2 seconds on a machine that is not busy with other tests.
    assert!(slowest < Duration::from_secs(6), "{slowest:?}");
    assert_eq!(simulator.stats().requests, 4);
    assert_eq!(organizer.count(&mut session, "queued"), 20_000);
}
