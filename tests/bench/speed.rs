//! `make bench`: how fast messages enter, leave and are written down, on this machine, against the simulator.
//!
//! Server, simulator and client share the machine's processors. Every figure is the median of some runs, and the
//! conditions are printed with it. Accounts are many and fast enough that pacing is not the limit.
//!
//! One topic alone: `scripts/cargo.sh bench -p whatsapp-pg-tests --bench speed -- drain`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program that measures fails by panicking and prints"
)]

use std::fmt::Display;
use std::time::{Duration, Instant, SystemTime};

use graph_simulator::{Latency, Options, Simulator};
use harness::fixtures::{REMINDER, reminder_variables, wait_for_drainer};
use harness::{Cluster, Organizer, Session, wait_until};

/// Longer than anything here takes; a stuck run still ends.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let topics: [(&str, fn()); 6] = [
        ("enqueue", enqueue),
        ("drain", drain_without_latency),
        ("latency", drain_with_latency),
        ("wake", commit_to_wire),
        ("claim", claim_of_a_backlog),
        ("memory", a_million),
    ];
    conditions();
    for (name, measure) in topics {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            measure();
        }
    }
}

fn conditions() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown CPU");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{cores} x {model}; PostgreSQL {}; server, simulator and client on the same machine;",
        harness::programs::programs().major
    );
    println!("fsync and synchronous_commit on; medians\n");
    println!("{:<58}{:>14}   {:<24}", "", "measured", "wanted");
}

fn report(what: &str, measured: impl Display, wanted: &str) {
    println!("{what:<58}{measured:>14}   {wanted:<24}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentile(values: &mut [f64], p: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * p).round() as usize]
}

fn simulator() -> Simulator {
    Simulator::start(Options {
        keep_messages: 0,
        ..Options::default()
    })
    .expect("the simulator starts")
}

/// As a DBA would run it: durable, with memory for a queue of this size.
fn server(simulator: &Simulator, threads: usize) -> Cluster {
    Cluster::builder()
        .preloaded()
        .setting("fsync", "on")
        .setting("shared_buffers", "512MB")
        .setting("max_wal_size", "8GB")
        .setting("whatsapp_pg.graph_url", &format!("'{}'", simulator.url()))
        .setting("whatsapp_pg.sender_threads", &threads.to_string())
        .setting("whatsapp_pg.batch_size", "1000")
        .start()
}

/// Numbers that differ for every `from`.
fn numbers(from: u32, count: u32) -> Vec<String> {
    (from..from + count)
        .map(|n| format!("+573{n:09}"))
        .collect()
}

fn enqueue_many(session: &mut Session, organizers: &[Organizer], total: u32) {
    let each = total / u32::try_from(organizers.len()).expect("few");
    for organizer in organizers {
        session.execute_with(
            "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)",
            &[&organizer.id, &numbers(0, each), &REMINDER, &reminder_variables()],
        );
    }
}

fn enqueue() {
    const ROWS: u32 = 100_000;
    let simulator = simulator();
    let cluster = server(&simulator, 8);
    cluster.configure("whatsapp_pg.mode", "off");
    cluster.reload();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    let recipients = numbers(0, ROWS);
    let rates = (0..5)
        .map(|_| {
            session.run("TRUNCATE whatsapp_queue CASCADE");
            let began = Instant::now();
            session.execute_with(
                "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)",
                &[&organizer.id, &recipients, &REMINDER, &reminder_variables()],
            );
            f64::from(ROWS) / began.elapsed().as_secs_f64()
        })
        .collect();
    report(
        "enqueue, 100,000 recipients in one call, rows/s",
        format!("{:.0}", median(rates)),
        ">= 50,000",
    );
}

/// Messages per second from the moment the worker may send to the last one accepted.
fn drain(latency_ms: u32, threads: usize, messages: u32) -> f64 {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(latency_ms));
    let cluster = server(&simulator, threads);
    cluster.configure("whatsapp_pg.mode", "off");
    cluster.reload();
    let database = cluster.database();
    let mut session = database.connect();
    let organizers: Vec<_> = (0..40).map(|_| Organizer::create(&mut session)).collect();
    enqueue_many(&mut session, &organizers, messages);
    session.run("VACUUM ANALYZE whatsapp_queue; CHECKPOINT");
    wait_for_drainer(&mut session);

    let began = Instant::now();
    cluster.configure("whatsapp_pg.mode", "live");
    cluster.reload();
    wait_until("everything to be accepted", PATIENCE, || {
        let stats = simulator.stats();
        if stats.accepted >= u64::from(messages) {
            Ok(())
        } else {
            Err(stats.accepted)
        }
    });
    let rate = f64::from(messages) / began.elapsed().as_secs_f64();
    session.wait_for_within(
        "everything to be recorded",
        PATIENCE,
        "SELECT count(*) = 0 FROM whatsapp_queue WHERE status <> 'sent'",
        &[],
    );
    assert_eq!(simulator.stats().duplicates, 0);
    rate
}

fn drain_without_latency() {
    let rates = (0..3).map(|_| drain(0, 8, 100_000)).collect();
    report(
        "drain, 0 ms per call, 8 threads, messages/s",
        format!("{:.0}", median(rates)),
        ">= 10,000",
    );
}

fn drain_with_latency() {
    for (threads, wanted) in [(512, ">= 2,300"), (1_000, ">= 4,500")] {
        let rates = (0..3).map(|_| drain(200, threads, 40_000)).collect();
        report(
            &format!("drain, 200 ms per call, {threads} threads, messages/s"),
            format!("{:.0}", median(rates)),
            wanted,
        );
    }
}

fn commit_to_wire() {
    const MESSAGES: u32 = 500;
    let simulator = simulator();
    let cluster = server(&simulator, 64);
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    wait_for_drainer(&mut session);

    let mut committed = Vec::new();
    for n in 0..MESSAGES {
        session.run("BEGIN");
        organizer.enqueue(&mut session, &numbers(n, 1));
        committed.push(SystemTime::now());
        session.run("COMMIT");
        organizer.wait_for_count(&mut session, "sent", i64::from(n) + 1);
    }
    let arrived = simulator.arrivals(&organizer.phone_number_id);
    let mut delays: Vec<f64> = committed
        .iter()
        .zip(arrived)
        .map(|(commit, arrival)| {
            let arrival = simulator.started_at() + arrival;
            arrival
                .duration_since(*commit)
                .unwrap_or_default()
                .as_secs_f64()
                * 1_000.0
        })
        .collect();
    report(
        "COMMIT sent to request received, idle, p50, ms",
        format!("{:.1}", percentile(&mut delays, 0.5)),
        "<= 5",
    );
    report(
        "COMMIT sent to request received, idle, p99, ms",
        format!("{:.1}", percentile(&mut delays, 0.99)),
        "<= 50",
    );
}

/// Mean time of a claim in milliseconds while this many rows are queued.
fn claim_time(backlog: u32) -> f64 {
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(20));
    let cluster = server(&simulator, 64);
    cluster.configure(
        "shared_preload_libraries",
        "'whatsapp_pg, pg_stat_statements'",
    );
    cluster.configure("pg_stat_statements.track", "all");
    cluster.configure("whatsapp_pg.mode", "off");
    cluster.restart();
    let database = cluster.database();
    let mut session = database.connect();
    session.run("CREATE EXTENSION pg_stat_statements");
    let organizer = Organizer::create(&mut session);
    // Statistics of a quiet time, as a real queue has them when a campaign begins.
    session.run("ANALYZE");
    for part in 0..backlog.div_ceil(100_000) {
        session.execute_with(
            "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)",
            &[&organizer.id, &numbers(part * 100_000, backlog.min(100_000)), &REMINDER, &reminder_variables()],
        );
    }
    session.run("CHECKPOINT; SELECT pg_stat_statements_reset()");
    cluster.configure("whatsapp_pg.mode", "live");
    cluster.reload();
    wait_until("claims to be made", PATIENCE, || {
        let accepted = simulator.stats().accepted;
        if accepted >= 900 {
            Ok(())
        } else {
            Err(accepted)
        }
    });
    session.value(
        "SELECT sum(total_exec_time) / sum(rows) * 100 FROM pg_stat_statements
         WHERE query ~ 'whatsapp_queue' AND query ~* 'skip locked' AND rows > 0",
        &[],
    )
}

fn claim_of_a_backlog() {
    let small = median((0..3).map(|_| claim_time(1_000)).collect());
    let large = median((0..3).map(|_| claim_time(1_000_000)).collect());
    report(
        "claim of 100 rows, 1,000 queued, ms",
        format!("{small:.2}"),
        "",
    );
    report(
        "claim of 100 rows, 1,000,000 queued, ms",
        format!("{large:.2}"),
        "<= 1.5 x the line above",
    );
}

/// Memory of a process that it shares with nobody, in MB.
fn own_memory(pid: i32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let kilobytes: f64 = status
        .lines()
        .find_map(|line| {
            line.strip_prefix("RssAnon:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse()
                .ok()
        })
        .expect("Linux reports RssAnon");
    kilobytes / 1024.0
}

fn a_million() {
    const MESSAGES: u32 = 1_000_000;
    let simulator = simulator();
    simulator.set_latency(Latency::fixed(50));
    let cluster = server(&simulator, 1_000);
    let database = cluster.database();
    let mut session = database.connect();
    let organizers: Vec<_> = (0..40).map(|_| Organizer::create(&mut session)).collect();
    let drainer = wait_for_drainer(&mut session);
    session.run("BEGIN");
    enqueue_many(&mut session, &organizers, MESSAGES);
    session.run("COMMIT");

    let mut at_a_tenth = None;
    let began = Instant::now();
    wait_until("a million to be accepted", PATIENCE, || {
        let accepted = simulator.stats().accepted;
        if accepted >= u64::from(MESSAGES / 10) && at_a_tenth.is_none() {
            at_a_tenth = Some(own_memory(drainer));
        }
        if accepted >= u64::from(MESSAGES) {
            Ok(())
        } else {
            Err(accepted)
        }
    });
    let at_the_end = own_memory(drainer);
    let rate = f64::from(MESSAGES) / began.elapsed().as_secs_f64();
    assert_eq!(simulator.stats().duplicates, 0);
    report(
        "a million messages, 50 ms, 1,000 threads, messages/s",
        format!("{rate:.0}"),
        "",
    );
    report(
        "drainer's memory after 100,000 messages, MB",
        format!("{:.0}", at_a_tenth.unwrap_or_default()),
        "<= 256",
    );
    report(
        "drainer's memory after 1,000,000 messages, MB",
        format!("{at_the_end:.0}"),
        "the same",
    );
}
