//! Messages per second from the first to the last one accepted.

use std::time::{Duration, Instant};

use harness::fixtures::wait_for_drainer;
use harness::{Cluster, Organizer, Session, wait_until};

use crate::Scale;
use crate::machine::Clocks;
use crate::server::{PATIENCE, fill, go_live, organizers, server};
use crate::simulator::Process;
use crate::table::{Table, Target, median};

/// At 1,000 messages per second each, pacing allows 40,000.
const ORGANIZERS: usize = 40;

/// What one drain showed.
pub struct Drained {
    /// Messages per second, from the first to the last accepted.
    pub rate: f64,
    /// Who used the processors.
    pub processors: String,
}

/// Drains a queue of so many messages of organizers that pacing does not slow down.
pub fn drain(latency: Duration, threads: usize, messages: u32) -> Drained {
    drain_for(latency, threads, messages, |session| organizers(session, ORGANIZERS))
}

/// The same for other organizers.
pub fn drain_for(
    latency: Duration,
    threads: usize,
    messages: u32,
    organizers: impl FnOnce(&mut Session) -> Vec<Organizer>,
) -> Drained {
    let simulator = Process::start(latency);
    let cluster = server(&simulator.url(), threads).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizers = organizers(&mut session);
    fill(&mut session, &organizers, messages);
    let drained = watch(&cluster, &simulator, &mut session, messages);
    session.wait_for_within(
        "everything to be recorded",
        PATIENCE,
        "SELECT NOT EXISTS (SELECT FROM whatsapp_queue WHERE status <> 'sent')",
        &[],
    );
    let stats = simulator.stats();
    assert_eq!((stats.duplicates, stats.refused.len()), (0, 0), "{stats:?}");
    drained
}

fn watch(cluster: &Cluster, simulator: &Process, session: &mut Session, messages: u32) -> Drained {
    let drainer = wait_for_drainer(session);
    go_live(cluster);
    let already = wait_until("the first message to be accepted", PATIENCE, || match simulator.stats().accepted {
        0 => Err(()),
        some => Ok(some),
    });
    let began = Instant::now();
    let before = Clocks::read(cluster, drainer, Some(simulator.pid()));
    simulator.wait_for_accepted(messages.into(), PATIENCE);
    let rate = (f64::from(messages) - already as f64) / began.elapsed().as_secs_f64();
    let processors = before.since(&Clocks::read(cluster, drainer, Some(simulator.pid())));
    Drained { rate, processors }
}

/// The numbers of threads to try: those of the variable THREADS, if there is one.
fn thread_counts(scale: Scale) -> Vec<usize> {
    let asked = std::env::var("THREADS").unwrap_or_default();
    let asked: Vec<usize> = asked.split_whitespace().map(|count| count.parse().expect("THREADS has numbers")).collect();
    if asked.is_empty() { scale.pick(vec![8, 16, 32, 64, 128, 256], vec![16, 64, 256]) } else { asked }
}

pub fn without_latency(scale: Scale, table: &mut Table) {
    let messages = scale.pick(200_000, 40_000);
    let mut found: Vec<(usize, Vec<f64>, String)> = Vec::new();
    for threads in thread_counts(scale) {
        let drained = drain(Duration::ZERO, threads, messages);
        found.push((threads, vec![drained.rate], drained.processors));
    }
    found.sort_by(|a, b| b.1[0].total_cmp(&a.1[0]));
    for _ in 1..scale.pick(3, 1) {
        let drained = drain(Duration::ZERO, found[0].0, messages);
        found[0].1.push(drained.rate);
    }
    table.condition(format!(
        "drain: {ORGANIZERS} organizers, 1,000 messages/s each, tier unlimited, {messages} queued at 0 ms"
    ));
    for (place, (threads, rates, processors)) in found.into_iter().enumerate() {
        let (name, target) = match place {
            0 => ("drain: 0 ms a call, best", Target::AtLeast(10_000.0)),
            _ => ("  drain: 0 ms a call", Target::None),
        };
        table.add(format!("{name}, {threads} threads, messages/s"), target, rates, processors);
    }
}

pub fn with_latency(scale: Scale, table: &mut Table) {
    const LATENCY: Duration = Duration::from_millis(200);
    for (threads, wanted) in [(512, 2_300.0), (1_000, 4_500.0)] {
        let ideal = threads as f64 / LATENCY.as_secs_f64();
        // About so many seconds' worth.
        let messages = (ideal * scale.pick(20.0, 5.0)) as u32;
        let drained: Vec<Drained> = (0..scale.pick(3, 1)).map(|_| drain(LATENCY, threads, messages)).collect();
        let rates: Vec<f64> = drained.iter().map(|drained| drained.rate).collect();
        let share = median(&rates) / ideal * 100.0;
        table.add(
            format!("drain: 200 ms a call, {threads} threads, messages/s"),
            Target::AtLeast(wanted),
            rates,
            format!("{share:.0} % of threads / latency; {}", drained[0].processors),
        );
    }
}
