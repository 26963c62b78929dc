//! Limits: what this database sends never exceeds one, whoever sends and whatever restarts, and what they leave is used. The
//! simulator counts on its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use graph_simulator::{Account, Inbound, Limits, Simulator, WebhookPlan};
use harness::fixtures::{REMINDER, numbers, reminder_variables, serving, simulator, wait_for_accepted};
use harness::wait::PATIENCE;
use harness::{Cluster, Organizer, Session, Stop, most_within, wait_until};

/// Queues messages to the numbers `first` to `first + count - 1` of [`numbers`] by plain INSERT.
pub fn queue(session: &mut Session, organizer: &Organizer, first: u32, count: u32) {
    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables)
         SELECT $1, '+57300' || 1000000 + n, $2, $3 FROM generate_series($4::bigint, $4::bigint + $5::bigint - 1) AS n",
        &[&organizer.id, &REMINDER, &reminder_variables(), &i64::from(first), &i64::from(count)],
    );
}

/// Writes down that the account wrote to these numbers so long ago.
fn wrote(session: &mut Session, organizer: &Organizer, first: u32, count: u32, ago: &str) {
    session.execute_with(
        "WITH numbered AS (
             INSERT INTO whatsapp_budget AS b (portfolio, last_slice) VALUES ('account 2' || $1, 1)
             ON CONFLICT (portfolio) DO UPDATE SET last_slice = b.last_slice + 1 RETURNING portfolio, last_slice
         )
         INSERT INTO whatsapp_usage (portfolio, slice, user_id, phone_number_id, starts, ends, messages, recipients)
         SELECT n.portfolio, n.last_slice, $2, $1, now() - $5::text::interval, now() - $5::text::interval, $4::int,
                ARRAY(SELECT 573001000000 + r FROM generate_series($3::bigint, $3::bigint + $4::int - 1) AS r)
         FROM numbered AS n",
        &[&organizer.phone_number_id, &organizer.id, &i64::from(first), &i32::try_from(count).expect("small"), &ago],
    );
}

/// The simulator watches these limits of the number and refuses nothing.
fn watch(simulator: &Simulator, organizer: &Organizer, daily_recipients: u32, portfolio_id: Option<&str>) {
    simulator.put_account(Account {
        phone_number_id: organizer.phone_number_id.clone(),
        portfolio_id: portfolio_id.map(str::to_owned),
        limits: Some(Limits {
            messages_per_second: None,
            daily_recipients: Some(daily_recipients),
            pair: true,
            count_only: true,
        }),
        ..Account::default()
    });
}

fn sent_per_organizer(session: &mut Session) -> Vec<i64> {
    session.values(
        "SELECT count(*) FILTER (WHERE status = 'sent') FROM whatsapp_queue GROUP BY user_id ORDER BY user_id",
        &[],
    )
}

/// Sets the flag when it goes.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_tier_is_exact_with_a_drainer_several_batches_and_restarts_in_between() {
    let simulator = simulator();
    let cluster = serving(&simulator).setting("whatsapp_pg.poll_interval", "'1s'").start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 100, rate_limit_tier => 'tier_250'");
    watch(&simulator, &organizer, 250, None);
    queue(&mut session, &organizer, 0, 400);
    let over = AtomicBool::new(false);

    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // The server stops now and then; whoever is connected then comes again.
                    if let Ok(mut client) = database.config().connect(postgres::NoTls) {
                        let mut is_there = true;
                        while is_there && !over.load(Ordering::Relaxed) {
                            is_there = client.query("SELECT wa_process_batch(20)", &[]).is_ok();
                        }
                    }
                    std::thread::yield_now();
                }
            });
        }
        // Also when something fails below: the scope waits for its threads.
        let _guard = SetAtEnd(&over);
        wait_for_accepted(&simulator, 70);
        cluster.restart();
        wait_for_accepted(&simulator, 140);
        cluster.stop(Stop::Immediate);
        cluster.start();
        wait_until("the limit to be used up", PATIENCE, || {
            let mut session = database.connect();
            let used: bool = session.value(
                "SELECT NOT wa_rate_ok($1) AND NOT EXISTS (SELECT FROM whatsapp_queue WHERE status = 'sending')",
                &[&organizer.id],
            );
            if used { Ok(()) } else { Err(simulator.stats().accepted) }
        });
    });

    let (stats, violations) = (simulator.stats(), simulator.violations());
    assert_eq!((violations.total, stats.duplicates), (0, 0), "{violations:?}");
    assert!((150..=250).contains(&stats.accepted), "{} accepted", stats.accepted);
    let most = most_within(&simulator.arrivals(&organizer.phone_number_id), Duration::from_millis(900));
    assert!(most <= 100, "{most} messages in 0.9 seconds");
}

#[test]
fn recipients_of_the_last_24_hours_count_and_older_ones_do_not() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000, rate_limit_tier => 'tier_250'");
    watch(&simulator, &organizer, 100, None);
    wrote(&mut session, &organizer, 5_000, 150, "23 hours 59 minutes");
    wrote(&mut session, &organizer, 6_000, 200, "24 hours 2 minutes");

    queue(&mut session, &organizer, 0, 300);
    session.wait_for(
        "the day to be used up",
        "SELECT used = 250 AND remaining = 0 AND reason IS NOT NULL AND next_admission > now() FROM wa_rate_status($1)
         WHERE limit_name = 'recipients per 24 hours'",
        &[&organizer.id],
    );
    organizer.wait_for_count(&mut session, "sent", 100);

    assert_eq!(simulator.violations().total, 0);
    assert_eq!(simulator.stats().accepted, 100);
}

#[test]
fn who_counts_already_is_written_to_also_behind_3000_others_when_the_tier_is_used_up() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000, rate_limit_tier => 'tier_250'");
    wrote(&mut session, &organizer, 0, 250, "3 hours");

    session.run("BEGIN");
    queue(&mut session, &organizer, 10_000, 3_000);
    queue(&mut session, &organizer, 100, 40);
    session.run("COMMIT");
    organizer.wait_for_count(&mut session, "sent", 40);

    assert_eq!(organizer.count(&mut session, "queued"), 3_000);
    assert_eq!(simulator.stats().requests, 40);
}

#[test]
fn accounts_of_one_portfolio_share_its_limit() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let account = "messages_per_second => 1000, rate_limit_tier => 'tier_250', portfolio_id => '77001'";
    let both = [Organizer::with_account(&mut session, account), Organizer::with_account(&mut session, account)];
    for organizer in &both {
        watch(&simulator, organizer, 250, Some("77001"));
    }

    session.run("BEGIN");
    queue(&mut session, &both[0], 0, 200);
    queue(&mut session, &both[1], 1_000, 200);
    session.run("COMMIT");
    session.wait_for(
        "the limit to be used up for both",
        "SELECT NOT wa_rate_ok($1) AND NOT wa_rate_ok($2) AND count(*) FILTER (WHERE status = 'sent') = 250
         FROM whatsapp_queue",
        &[&both[0].id, &both[1].id],
    );

    assert_eq!((simulator.stats().accepted, simulator.violations().total), (250, 0));
    assert_eq!(session.value::<i64>("SELECT count(*) FROM whatsapp_queue WHERE status = 'queued'", &[]), 150);
}

#[test]
fn an_organizer_cannot_join_anothers_portfolio_and_use_up_its_limit() {
    let cluster = Cluster::builder().preloaded().setting("whatsapp_pg.mode", "off").start();
    let database = cluster.database();
    let mut session = database.connect();
    let named = Organizer::with_account(&mut session, "portfolio_id => '77001'");
    let unnamed = Organizer::create(&mut session);
    let hostile = Organizer::create(&mut session);
    session.run("CREATE ROLE hostile LOGIN");
    session.execute_with("SELECT wa_grant_organizer('hostile', $1)", &[&hostile.id]);
    let mut his = database.connect_as("hostile");

    // By its own id, or by the business account under which an account without one is counted.
    let of_unnamed = format!("2{}", unnamed.phone_number_id);
    for (business_account, portfolio) in [("29", Some("77001")), (&of_unnamed, None)] {
        let refusal = his.refusal(
            "SELECT wa_configure(user_id => $1, phone_number_id => $2, business_account_id => $3, access_token => 'EAAGx',
                                 webhook_verify_token => 'v', portfolio_id => $4)",
            &[&hostile.id, &hostile.phone_number_id, &business_account, &portfolio],
        );
        assert_eq!(refusal.sqlstate, "42501", "{refusal:#?}");
    }
    // An operator may do it: two accounts of one company.
    hostile.configure(&mut session, "portfolio_id => '77001'");
    let shared: i64 = session.value("SELECT count(*) FROM whatsapp_config WHERE portfolio_id = '77001'", &[]);
    assert_eq!((shared, named.count(&mut session, "queued")), (2, 0));
    hostile.configure(&mut his, "portfolio_id => '77001'");
}

#[test]
fn a_message_inside_an_open_service_window_does_not_count() {
    let simulator = simulator();
    simulator.set_webhooks(Some(WebhookPlan::signed_with("app-secret"))).expect("a plan that makes sense");
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(
        &mut session,
        "messages_per_second => 1000, rate_limit_tier => 'tier_250', app_secret => 'app-secret'",
    );
    watch(&simulator, &organizer, 0, None);
    wrote(&mut session, &organizer, 5_000, 250, "3 hours");
    simulator.receive(Inbound::text(&organizer.phone_number_id, &numbers(1)[0], "Hello")).expect("it is taken");
    let webhook = wait_until("the webhook", PATIENCE, || simulator.take_webhooks(1).pop().ok_or(()));
    let answer: i32 =
        session.value("SELECT wa_webhook_receive($1, $2)", &[&webhook.body.as_bytes(), &webhook.signature]);
    assert_eq!(answer, 200);

    queue(&mut session, &organizer, 0, 5);
    organizer.wait_for_count(&mut session, "sent", 1);
    // Another organizer's message shows that the worker has been here.
    let other = Organizer::create(&mut session);
    other.enqueue(&mut session, &numbers(1));
    other.wait_for_count(&mut session, "sent", 1);

    assert_eq!(sent_per_organizer(&mut session), [1, 1]);
    assert_eq!(simulator.messages(10)[0].body["to"], numbers(1)[0].as_str());
    assert_eq!(simulator.violations().total, 0);
    assert_eq!(
        session.value::<i64>(
            "SELECT used FROM wa_rate_status($1) WHERE limit_name = 'recipients per 24 hours'",
            &[&organizer.id]
        ),
        250
    );
}

#[test]
fn tiers_are_known_by_the_seeds_names_and_by_metas() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    for (name, allowed) in [
        ("tier_250", Some(250)),
        ("TIER_250", Some(250)),
        ("tier_1000", Some(1_000)),
        ("TIER_1K", Some(1_000)),
        ("tier_2000", Some(2_000)),
        ("TIER_2K", Some(2_000)),
        ("tier_10000", Some(10_000)),
        ("TIER_10K", Some(10_000)),
        ("tier_100000", Some(100_000)),
        ("TIER_100K", Some(100_000)),
        ("unlimited", None),
        ("TIER_UNLIMITED", None),
    ] {
        let organizer = Organizer::with_account(&mut session, &format!("rate_limit_tier => '{name}'"));
        let limits: Vec<Option<i64>> = session.values(
            "SELECT allowed FROM wa_rate_status($1) WHERE limit_name IN ('recipients per 24 hours', 'messages per minute')",
            &[&organizer.id],
        );
        assert_eq!(limits, [allowed, allowed], "{name}");
    }
}

#[test]
fn never_more_than_the_tiers_figure_leave_in_a_minute_counting_what_somebody_else_sent() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000, rate_limit_tier => 'tier_250'");
    wrote(&mut session, &organizer, 0, 100, "3 hours");
    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, status, sent_at)
         SELECT $1, '+57300' || 1000000 + n, 'by_somebody_else', 'sent', now() FROM generate_series(0, 239) AS n",
        &[&organizer.id],
    );

    queue(&mut session, &organizer, 0, 50);
    session.wait_for(
        "the minute to be used up",
        "SELECT NOT wa_rate_ok($1) AND bool_or(used = 250 AND remaining = 0 AND reason <> ''
                                               AND next_admission BETWEEN now() AND now() + interval '1 minute')
         FROM wa_rate_status($1) WHERE limit_name = 'messages per minute'",
        &[&organizer.id],
    );
    wait_for_accepted(&simulator, 10);

    assert_eq!(simulator.stats().accepted, 10);
    assert_eq!(organizer.count(&mut session, "queued"), 40);
}

#[test]
fn of_sixty_messages_to_one_person_44_leave_at_once_and_the_rest_one_in_six_seconds() {
    let simulator = simulator();
    let database = Cluster::shared().database_sending_to(&simulator);
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    watch(&simulator, &organizer, 1_000, None);

    let began = Instant::now();
    session.run("BEGIN");
    session.execute_with(
        "INSERT INTO whatsapp_queue (user_id, recipient_phone, template_name, template_variables)
         SELECT $1, '+447400123456', $2, $3 FROM generate_series(1, 60)",
        &[&organizer.id, &REMINDER, &reminder_variables()],
    );
    queue(&mut session, &organizer, 0, 30);
    session.run("COMMIT");
    wait_for_accepted(&simulator, 74);
    assert!(began.elapsed() < Duration::from_secs(4), "the burst and the others took {:?}", began.elapsed());
    wait_for_accepted(&simulator, 76);
    let took = began.elapsed();

    assert!((Duration::from_secs(12)..Duration::from_secs(16)).contains(&took), "two more took {took:?}");
    assert_eq!((simulator.stats().accepted, simulator.violations().total), (76, 0));
    let of_others: i64 = session
        .value("SELECT count(*) FROM whatsapp_queue WHERE status = 'sent' AND recipient_phone <> '+447400123456'", &[]);
    assert_eq!(of_others, 30);
}

#[test]
fn questions_about_limits_are_answered_at_once_with_100000_recipients_in_the_window() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    let organizer = Organizer::with_account(&mut session, "rate_limit_tier => 'tier_100000'");
    session.run("BEGIN");
    for slice in 0..100 {
        wrote(&mut session, &organizer, slice * 1_000, 1_000, &format!("{} minutes", 10 + slice * 10));
    }
    session.run("COMMIT; SET whatsapp_pg.mode = live");

    let mut report = String::new();
    for question in ["wa_rate_ok($1)", "count(*) FROM wa_rate_status($1)", "done_at FROM wa_eta($1, 1000)"] {
        let mut took: Vec<Duration> = (0..21)
            .map(|_| {
                let began = Instant::now();
                session.execute_with(&format!("SELECT {question}"), &[&organizer.id]);
                began.elapsed()
            })
            .collect();
        let first = took.remove(0);
        took.sort_unstable();
        report += &format!("{question}: first {first:?}, then {:?} (median), {:?} (slowest)\n", took[10], took[19]);
        // 10 ms on a machine that is not busy with other tests.
        assert!(took[10] < Duration::from_millis(100), "{report}");
    }
    eprintln!("{report}");
    let used: i64 = session
        .value("SELECT used FROM wa_rate_status($1) WHERE limit_name = 'recipients per 24 hours'", &[&organizer.id]);
    assert_eq!(used, 100_000);
}

/// Seconds until done (None: never), what limits, and whether a reason is given.
fn eta(session: &mut Session, organizer: &Organizer, n: i64) -> (Option<f64>, String, bool) {
    let row = session
        .query_one(
            "SELECT CASE WHEN done_at < 'infinity' THEN extract(epoch FROM done_at - now())::float8 END, limited_by,
                    reason IS NOT NULL FROM wa_eta($1, $2)",
            &[&organizer.id, &n],
        )
        .expect("one row");
    (row.get(0), row.get(1), row.get(2))
}

#[test]
fn the_eta_follows_the_limit_that_decides() {
    let database = Cluster::shared().database();
    let mut session = database.connect();
    session.run("SET whatsapp_pg.mode = live");
    let paced = Organizer::with_account(&mut session, "messages_per_second => 20, rate_limit_tier => 'unlimited'");

    let (seconds, limited_by, has_reason) = eta(&mut session, &paced, 200);
    assert!(
        (9.5..11.0).contains(&seconds.expect("an end")) && limited_by == "pace" && !has_reason,
        "{seconds:?} {limited_by}"
    );
    queue(&mut session, &paced, 0, 400);
    let (seconds, ..) = eta(&mut session, &paced, 200);
    assert!((29.0..32.0).contains(&seconds.expect("an end")), "400 stand before them: {seconds:?}");
    assert_eq!(session.value::<i64>("SELECT ahead FROM wa_eta($1)", &[&paced.id]), 400);

    let by_day = Organizer::with_account(&mut session, "rate_limit_tier => 'tier_250'");
    wrote(&mut session, &by_day, 0, 200, "4 hours");
    let (seconds, ..) = eta(&mut session, &by_day, 50);
    assert!(seconds.expect("an end") < 5.0, "50 are left: {seconds:?}");
    let (seconds, limited_by, _) = eta(&mut session, &by_day, 51);
    assert!((19.9..20.2).contains(&(seconds.expect("an end") / 3600.0)), "{seconds:?}");
    assert_eq!(limited_by, "day");
    let (seconds, limited_by, _) = eta(&mut session, &by_day, 600);
    // 50 now, 200 after 20 h, 50 after 24 h, 200 after 44 h, 50 after 48 h, the rest after 68 h.
    assert!((67.9..68.5).contains(&(seconds.expect("an end") / 3600.0)), "{seconds:?}");
    assert_eq!(limited_by, "day");

    session.execute_with("SELECT wa_pause(user_id => $1, until => now() + interval '1 hour')", &[&paced.id]);
    let (seconds, limited_by, has_reason) = eta(&mut session, &paced, 1);
    assert!(
        (3_600.0..3_640.0).contains(&seconds.expect("an end")) && limited_by == "hold" && has_reason,
        "{seconds:?}"
    );
    session.execute_with("SELECT wa_pause(user_id => $1)", &[&paced.id]);
    assert_eq!(eta(&mut session, &paced, 1), (None, "hold".to_owned(), true));
    session.execute_with("SELECT wa_resume(user_id => $1)", &[&paced.id]);
    assert!(eta(&mut session, &paced, 1).0.is_some());

    session.run("SET whatsapp_pg.mode = off");
    assert_eq!(eta(&mut session, &paced, 1), (None, "account".to_owned(), true));
}
