//! From COMMIT to the wire when nothing else goes on. The simulator runs in this process, so that both ends are read
//! from the same clock.

use std::time::{Duration, SystemTime};

use graph_simulator::{Options, Simulator};
use harness::fixtures::wait_for_drainer;
use harness::{Organizer, wait_until};

use crate::Scale;
use crate::server::{PATIENCE, enqueue, go_live, numbers, server};
use crate::table::{Table, Target, percentile};

pub fn measure(scale: Scale, table: &mut Table) {
    let simulator = Simulator::start(Options { keep_messages: 0, ..Options::default() }).expect("the simulator starts");
    let cluster = server(&simulator.url(), 64).start();
    let database = cluster.database();
    let mut session = database.connect();
    let organizer = Organizer::create(&mut session);
    wait_for_drainer(&mut session);
    go_live(&cluster);
    let recorded = |session: &mut harness::Session, count: i64| {
        let sent = "SELECT count(*) = $1 FROM whatsapp_queue WHERE status = 'sent'";
        session.wait_for("the answer to be recorded", sent, &[&count]);
    };
    // The first one waits for the reload, starts a thread and opens a connection.
    enqueue(&mut session, &organizer, &numbers(0, 1));
    recorded(&mut session, 1);

    let mut called = Vec::new();
    let mut committed = Vec::new();
    for n in 1..=scale.pick(300, 100) {
        // Idle: nothing in flight, nothing to record, and the senders asleep.
        std::thread::sleep(Duration::from_millis(20));
        session.run("BEGIN");
        enqueue(&mut session, &organizer, &numbers(n, 1));
        let begins = SystemTime::now();
        session.run("COMMIT");
        let ends = SystemTime::now();
        recorded(&mut session, i64::from(n) + 1);
        called.push(begins);
        committed.push(ends);
    }
    let arrived = wait_until("the last arrival", PATIENCE, || {
        let arrived = simulator.arrivals(&organizer.phone_number_id);
        if arrived.len() == called.len() + 1 { Ok(arrived) } else { Err(arrived.len()) }
    });
    let since = |moments: &[SystemTime]| -> Vec<f64> {
        let arrivals = arrived.iter().skip(1).map(|after| simulator.started_at() + *after);
        let delays = moments.iter().zip(arrivals).map(|(from, to)| match to.duration_since(*from) {
            Ok(later) => later.as_secs_f64(),
            Err(earlier) => -earlier.duration().as_secs_f64(),
        });
        delays.map(|seconds| seconds * 1_000.0).collect()
    };
    let (from_call, from_answer) = (since(&called), since(&committed));
    let commits = called.len();
    for (name, part, wanted) in [("p50", 0.5, 5.0), ("p99", 0.99, 50.0)] {
        table.add(
            format!("wake: COMMIT issued to request received, idle, {name}, ms"),
            Target::AtMost(wanted),
            vec![percentile(&from_call, part)],
            format!("{commits} commits; {:.1} ms after the client saw COMMIT", percentile(&from_answer, part)),
        );
    }
}
