//! The drainer's memory at 1,000 threads, and whether it grows with what has passed through it.

use std::time::{Duration, Instant};

use harness::fixtures::wait_for_drainer;

use crate::Scale;
use crate::machine::{Clocks, own_memory, threads};
use crate::server::{PATIENCE, fill, go_live, organizers, server};
use crate::simulator::Process;
use crate::table::{Table, Target};

const THREADS: usize = 1_000;
/// Long enough that every thread is needed, short enough that a million pass in reasonable time.
const LATENCY: Duration = Duration::from_millis(100);

pub fn measure(scale: Scale, table: &mut Table) {
    let messages: u32 = scale.pick(1_000_000, 100_000);
    let simulator = Process::start(LATENCY);
    let cluster = server(&simulator.url(), THREADS).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizers = organizers(&mut session, 40);
    fill(&mut session, &organizers, messages);
    let drainer = wait_for_drainer(&mut session);
    let before = Clocks::read(&cluster, drainer, Some(simulator.pid()));
    go_live(&cluster);

    let began = Instant::now();
    let mut samples: Vec<(u64, f64)> = Vec::new();
    let mut most_threads = 0;
    loop {
        let accepted = simulator.stats().accepted;
        samples.push((accepted, own_memory(drainer)));
        most_threads = most_threads.max(threads(drainer));
        if accepted >= u64::from(messages) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "only {accepted} of {messages} left in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let rate = f64::from(messages) / began.elapsed().as_secs_f64();
    let processors = before.since(&Clocks::read(&cluster, drainer, Some(simulator.pid())));
    assert_eq!(simulator.stats().duplicates, 0);

    let most = samples.iter().map(|sample| sample.1).fold(0.0, f64::max);
    let after = |part: u32| {
        let reached = u64::from(messages) * u64::from(part) / 10;
        samples.iter().find(|sample| sample.0 >= reached).map_or(0.0, |sample| sample.1)
    };
    table.add(
        format!("memory: drainer at {THREADS} threads, most, MB"),
        Target::AtMost(256.0),
        vec![most],
        format!(
            "RssAnon + RssFile; {most_threads} threads; {messages} messages at {LATENCY:?} a call, {rate:.0}/s; {processors}"
        ),
    );
    table.add(
        format!("memory: growth from {} to {messages} messages, MB", messages / 5),
        Target::AtMost(8.0),
        vec![after(10) - after(2)],
        format!("{:.0} MB after a fifth, {:.0} after half, {:.0} at the end", after(2), after(5), after(10)),
    );
}
