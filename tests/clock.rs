//! The server's wall clock is set while messages flow: by an hour, by a day and an hour, forward, back and back again. Limits
//! are about true time, which the simulator measures: none is exceeded, nothing is sent twice, nothing is lost, and once
//! the clock is right sending goes on at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use graph_simulator::{Account, Action, FaultRule, Limits, Options, Simulator};
use harness::fixtures::{numbers, serving, wait_for_accepted, wait_for_drainer};
use harness::{Cluster, Organizer, Session};
use uuid::Uuid;

const HOUR: i64 = 3_600;
/// What clocks are set by, from the true time.
const JUMPS: [i64; 3] = [HOUR, -HOUR, 25 * HOUR];
/// How often the worker looks at the clock and the queue by itself.
const POLL: Duration = Duration::from_secs(1);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(4);

/// A simulator that counts these limits for every number.
fn simulator(limits: Limits) -> Simulator {
    Simulator::start(Options { default_limits: limits, ..Options::default() }).expect("the simulator starts")
}

/// A server with a clock to set, sending to `simulator`.
fn server(simulator: &Simulator) -> Cluster {
    serving(simulator)
        .settable_clock()
        .setting("whatsapp_pg.poll_interval", "'1s'")
        .setting("whatsapp_pg.retry_delay", "'2s'")
        .start()
}

/// How far the session's server is ahead of this process.
fn seconds_ahead(session: &mut Session) -> f64 {
    let there: f64 = session.value("SELECT extract(epoch FROM clock_timestamp())::float8", &[]);
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    there - here.as_secs_f64()
}

/// None lost, none doubled, no limit exceeded, and the database's own proof agrees.
fn assert_adds_up(session: &mut Session, simulator: &Simulator, ids: &[Uuid]) {
    assert_eq!(simulator.duplicates(), Vec::<(String, u32)>::new());
    let sent: Vec<Uuid> = session.values("SELECT id FROM whatsapp_queue WHERE status = 'sent'", &[]);
    assert_eq!(
        sent.len(),
        ids.len(),
        "{:?}",
        session.values::<String>("SELECT DISTINCT status FROM whatsapp_queue", &[])
    );
    assert!(ids.iter().all(|id| simulator.accepted(&id.to_string()) == 1));
    let violations = simulator.violations();
    assert_eq!(violations.total, 0, "{violations:#?}");
    let wrong: Vec<String> = session.values("SELECT meaning FROM wa_audit(true) WHERE NOT ok", &[]);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_clock_of_a_test_server_can_be_set_while_it_runs() {
    let simulator = simulator(Limits::default());
    let cluster = server(&simulator);
    let mut session = cluster.connect("postgres");
    for seconds in JUMPS.into_iter().chain([0]) {
        cluster.set_clock(seconds);
        let off = seconds_ahead(&mut session) - seconds as f64;
        assert!(off.abs() < 5.0, "the server is {off} s off");
    }
}

#[test]
fn jumps_while_messages_flow_exceed_no_rate_and_lose_and_double_nothing() {
    const RATE: u32 = 40;
    // Arrivals of a busy machine are stamped late: a tenth more still shows every real excess.
    let simulator = simulator(Limits { messages_per_second: Some(RATE + RATE / 10), pair: true, ..Limits::default() });
    let cluster = server(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 40, rate_limit_tier => 'unlimited'");
    let people = numbers(600);
    let mut ids = Vec::new();
    let mut parts = people.chunks(75);

    for seconds in [HOUR, 0, -HOUR, 0, 25 * HOUR, 0] {
        ids.extend(organizer.enqueue(&mut session, parts.next().expect("enough parts")));
        wait_for_accepted(&simulator, ids.len() as u64 - 60);
        cluster.set_clock(seconds);
    }
    let since = Instant::now();
    let at_once = simulator.stats().accepted;
    ids.extend(organizer.enqueue(&mut session, parts.next().expect("enough parts")));
    wait_for_accepted(&simulator, at_once + 1);
    assert!(since.elapsed() < POLL + SLACK, "nothing left for {:?} after the clock was right again", since.elapsed());
    ids.extend(parts.flat_map(|part| organizer.enqueue(&mut session, part)));
    organizer.wait_for_count(&mut session, "sent", ids.len() as i64);
    assert_adds_up(&mut session, &simulator, &ids);
}

#[test]
fn a_day_that_only_the_clock_has_seen_frees_no_recipients() {
    let simulator = simulator(Limits { daily_recipients: Some(250), ..Limits::default() });
    let cluster = server(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000, rate_limit_tier => 'tier_250'");
    organizer.enqueue(&mut session, &numbers(300));
    organizer.wait_for_count(&mut session, "sent", 250);

    for seconds in [25 * HOUR, 0, -HOUR, 25 * HOUR, 0] {
        cluster.set_clock(seconds);
        // Somebody else's message proves that the worker has looked by this clock.
        let other = Organizer::create(&mut session);
        other.enqueue(&mut session, &numbers(1));
        other.wait_for_count(&mut session, "sent", 1);
    }

    assert_eq!(organizer.count(&mut session, "sent"), 250);
    assert_eq!(organizer.count(&mut session, "queued"), 50);
    let violations = simulator.violations();
    assert_eq!(violations.total, 0, "{violations:#?}");
}

#[test]
fn what_was_queued_by_a_clock_ahead_leaves_when_the_clock_is_right_again() {
    for seconds in [HOUR, 25 * HOUR] {
        let simulator = simulator(Limits::default());
        let cluster = server(&simulator);
        let database = cluster.database();
        let mut session = database.connect();
        let organizer = Organizer::create(&mut session);
        wait_for_drainer(&mut session);
        // Nothing leaves while the clock is wrong, so that it is still there afterwards.
        session.execute_with("SELECT wa_pause(user_id => $1)", &[&organizer.id]);

        cluster.set_clock(seconds);
        let ids = organizer.enqueue(&mut session, &numbers(20));
        session.wait_for(
            "the worker to have seen the wrong clock",
            "SELECT count(*) = 1 FROM wa_worker_status
             WHERE database = current_database() AND last_pass_at > now() - interval '10 seconds'",
            &[],
        );
        cluster.set_clock(0);
        let since = Instant::now();
        session.execute_with("SELECT wa_resume(user_id => $1)", &[&organizer.id]);
        wait_for_accepted(&simulator, 20);
        assert!(since.elapsed() < POLL + SLACK, "{seconds} s: left after {:?}", since.elapsed());
        organizer.wait_for_count(&mut session, "sent", 20);
        assert_adds_up(&mut session, &simulator, &ids);
    }
}

#[test]
fn a_retry_planned_by_a_wrong_clock_keeps_its_wait_when_the_clock_is_right() {
    for seconds in JUMPS {
        let simulator = simulator(Limits::default());
        let cluster = server(&simulator);
        let database = cluster.database();
        let mut session = database.connect();
        let organizer = Organizer::create(&mut session);
        let error = Action::Error { code: 131_000, subcode: None, details: None };
        simulator.set_faults(vec![FaultRule::first(1, error)]).expect("a script that makes sense");

        cluster.set_clock(seconds);
        let ids = organizer.enqueue(&mut session, &numbers(1));
        session.wait_for(
            "the retry to be planned",
            "SELECT status = 'queued' AND retry_count = 1 FROM whatsapp_queue",
            &[],
        );
        cluster.set_clock(0);
        let since = Instant::now();
        organizer.wait_for_count(&mut session, "sent", 1);
        // Two seconds and a tenth were to be waited for.
        let longest = Duration::from_millis(2_200) + POLL + SLACK;
        assert!(since.elapsed() < longest, "{seconds} s: sent again after {:?}", since.elapsed());
        assert_adds_up(&mut session, &simulator, &ids);
    }
}

#[test]
fn a_hold_of_metas_keeps_its_length_in_true_time() {
    let simulator = simulator(Limits::default());
    let cluster = server(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let account = |token: &str| Account {
        phone_number_id: organizer.phone_number_id.clone(),
        token: Some(token.to_owned()),
        ..Account::default()
    };
    simulator.put_account(account("another token"));
    organizer.enqueue(&mut session, &numbers(1));
    const LEFT: &str =
        "SELECT extract(epoch FROM until - clock_timestamp())::float8 FROM whatsapp_holds WHERE code = '190'";
    session.wait_for("the hold", "SELECT count(*) = 1 FROM whatsapp_holds WHERE code = '190'", &[]);
    let began = Instant::now();
    let at_first: f64 = session.value(LEFT, &[]);
    assert!(at_first > 60.0, "{at_first}");
    let asked = simulator.stats().requests;

    for seconds in [25 * HOUR, 0, -HOUR, 0] {
        cluster.set_clock(seconds);
        session.wait_for(
            "the hold to have moved with the clock",
            "SELECT until - clock_timestamp() BETWEEN interval '1 minute' AND interval '1 hour' FROM whatsapp_holds
             WHERE code = '190'",
            &[],
        );
    }
    let left: f64 = session.value(LEFT, &[]);
    let lost = at_first - left - began.elapsed().as_secs_f64();
    assert!(lost.abs() < 5.0, "the hold changed by {lost} s");
    assert_eq!(simulator.stats().requests, asked, "nobody asked Meta again before the hold was over");
}

#[test]
fn a_clock_that_was_set_while_the_server_was_down_is_noticed_at_the_start() {
    let simulator = simulator(Limits { daily_recipients: Some(250), ..Limits::default() });
    let cluster = server(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000, rate_limit_tier => 'tier_250'");
    organizer.enqueue(&mut session, &numbers(260));
    organizer.wait_for_count(&mut session, "sent", 250);
    drop(session);

    for seconds in [25 * HOUR, 0] {
        cluster.stop(harness::Stop::Fast);
        cluster.set_clock(seconds);
        cluster.start();
        let mut session = database.connect();
        let other = Organizer::create(&mut session);
        other.enqueue(&mut session, &numbers(1));
        other.wait_for_count(&mut session, "sent", 1);
    }

    let mut session = database.connect();
    assert_eq!(organizer.count(&mut session, "sent"), 250);
    assert_eq!(simulator.violations().total, 0);
}

#[test]
fn messages_and_a_crash_while_the_clock_is_wrong_lose_and_double_nothing() {
    let simulator = simulator(Limits::default());
    simulator.set_latency(graph_simulator::Latency { ms: 5, jitter_ms: 10 });
    let cluster = server(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let people = numbers(2_000);
    for (seconds, part) in JUMPS.into_iter().zip(people.chunks(600)) {
        let mut session = database.connect();
        let before = simulator.stats().accepted;
        organizer.enqueue(&mut session, part);
        wait_for_accepted(&simulator, before + 100);
        cluster.set_clock(seconds);
        cluster.kill9_backend(wait_for_drainer(&mut session));
        let mut session = database.connect();
        session.wait_for(
            "everything to be done",
            "SELECT count(*) = 0 FROM whatsapp_queue WHERE status IN ('queued', 'sending')",
            &[],
        );
    }
    cluster.set_clock(0);

    let mut session = database.connect();
    assert_eq!(simulator.duplicates(), Vec::<(String, u32)>::new());
    let rows = session.rows("SELECT id, status FROM whatsapp_queue", &[]);
    assert_eq!(rows.len(), 1_800);
    for row in rows {
        let (id, status): (Uuid, &str) = (row.get(0), row.get(1));
        let accepted = simulator.accepted(&id.to_string());
        assert!(status == "unknown" || status == "sent" && accepted == 1, "{id} is {status}, accepted {accepted}");
    }
    let wrong: Vec<String> = session.values("SELECT meaning FROM wa_audit(true) WHERE NOT ok", &[]);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_slot_that_a_wrong_clock_wrote_is_brought_back() {
    let simulator = simulator(Limits::default());
    let cluster = server(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    organizer.enqueue(&mut session, &numbers(1));
    organizer.wait_for_count(&mut session, "sent", 1);

    // As a claim leaves it that commits while the clock is set back.
    session.run("UPDATE whatsapp_pacing SET next_free = now() + interval '25 hours'");
    organizer.enqueue(&mut session, &["+573001999999".to_owned()]);

    // Pacing never looks further ahead than a minute.
    session.wait_for(
        "the number's next slot to be near",
        "SELECT next_free < now() + interval '2 minutes' FROM whatsapp_pacing",
        &[],
    );
}

#[test]
fn two_loops_and_a_clock_set_back_and_forth_leave_nothing_behind() {
    let simulator = simulator(Limits::default());
    let cluster = server(&simulator);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let people = numbers(1_000);
    let mut ids = Vec::new();
    let is_over = AtomicBool::new(false);

    thread::scope(|scope| {
        scope.spawn(|| {
            let mut other = database.connect();
            while !is_over.load(Ordering::SeqCst) {
                other.run("SELECT wa_process_batch(20)");
            }
        });
        for (turn, part) in people.chunks(50).enumerate() {
            let before = simulator.stats().accepted;
            ids.extend(organizer.enqueue(&mut session, part));
            wait_for_accepted(&simulator, before + 10);
            cluster.set_clock(if turn % 2 == 0 { 25 * HOUR } else { 0 });
        }
        is_over.store(true, Ordering::SeqCst);
    });

    let since = Instant::now();
    ids.extend(organizer.enqueue(&mut session, &["+573001999999".to_owned()]));
    organizer.wait_for_count(&mut session, "sent", ids.len() as i64);
    assert!(since.elapsed() < POLL + SLACK, "the clock is right, and it took {:?}", since.elapsed());
    assert_adds_up(&mut session, &simulator, &ids);
}
