//! What a claim costs in the drainer, by the server's own clock: pg_stat_statements, execution only, per 100 rows
//! claimed. One organizer at 1,000 messages per second, so that the claims are alike whatever the backlog.

use std::time::Duration;

use harness::fixtures::wait_for_drainer;
use harness::{Cluster, Organizer, Session};

use crate::Scale;
use crate::server::{PATIENCE, enqueue, go_live, numbers, server};
use crate::simulator::Process;
use crate::table::{Table, Target, number};

const LATENCY: Duration = Duration::from_millis(20);

struct Stand<'a> {
    cluster: &'a Cluster,
    simulator: &'a Process,
    session: Session,
    organizer: Organizer,
    recipients: u32,
}

/// Statements of one kind since the last reset.
struct Cost {
    calls: i64,
    rows: i64,
    /// Milliseconds.
    total: f64,
    longest: f64,
}

impl Cost {
    fn per_hundred(&self) -> f64 {
        self.total / self.rows as f64 * 100.0
    }

    fn remark(&self, look: &Self) -> String {
        format!(
            "{} claims of {:.0} rows, longest {:.1} ms; {} looks at all lanes, mean {:.2} ms",
            self.calls,
            self.rows as f64 / self.calls as f64,
            self.longest,
            look.calls,
            look.total / look.calls.max(1) as f64
        )
    }
}

impl Stand<'_> {
    fn queue(&mut self, count: u32) {
        for begin in (0..count).step_by(100_000) {
            let some = (count - begin).min(100_000);
            enqueue(&mut self.session, &self.organizer, &numbers(self.recipients, some));
            self.recipients += some;
        }
    }

    /// Lets so many messages leave.
    fn pass(&mut self, count: u32) {
        let accepted = self.simulator.stats().accepted;
        self.simulator.wait_for_accepted(accepted + u64::from(count), PATIENCE);
    }

    fn reset(&mut self) {
        self.session.run("SELECT pg_stat_statements_reset()");
    }

    fn cost(&mut self, pattern: &str) -> Cost {
        let row = self
            .session
            .query_one(
                "SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(rows), 0)::bigint,
                        coalesce(sum(total_exec_time), 0), coalesce(max(max_exec_time), 0)
                 FROM pg_stat_statements WHERE query ~ $1 AND query !~ 'pg_stat_statements'",
                &[&pattern],
            )
            .expect("pg_stat_statements answers");
        Cost { calls: row.get(0), rows: row.get(1), total: row.get(2), longest: row.get(3) }
    }

    /// Claims and looks since the last reset.
    fn costs(&mut self) -> (Cost, Cost) {
        let claim = self.cost("whatsapp_queue(.|\n)*SKIP LOCKED(.|\n)*RETURNING");
        let look = self.cost("WITH RECURSIVE organizer");
        assert!(claim.rows > 0, "no claim was seen");
        (claim, look)
    }
}

pub fn measure(scale: Scale, table: &mut Table) {
    let simulator = Process::start(LATENCY);
    let cluster = server(&simulator.url(), 64)
        .setting("shared_preload_libraries", "'whatsapp_pg,pg_stat_statements'")
        // Which statistics the planner has is part of the question.
        .setting("autovacuum", "off")
        .start();
    let database = cluster.database();
    let mut session = database.connect();
    session.run("CREATE EXTENSION pg_stat_statements");
    let organizer = Organizer::create(&mut session);
    wait_for_drainer(&mut session);
    go_live(&cluster);
    let mut stand = Stand { cluster: &cluster, simulator: &simulator, session, organizer, recipients: 0 };

    // Statistics of a quiet time: rows, none of them queued.
    stand.queue(1_000);
    stand.pass(1_000);
    stand.session.run("ANALYZE");

    let rounds = scale.pick(10, 3);
    stand.reset();
    for _ in 0..rounds {
        stand.queue(1_000);
        stand.pass(1_000);
    }
    let (small, look) = stand.costs();
    table.add("claim: 1,000 queued, ms per 100 rows", Target::None, vec![small.per_hundred()], small.remark(&look));

    let backlog: u32 = scale.pick(1_000_000, 200_000);
    let sample = scale.pick(10_000, 3_000);
    stand.cluster.configure("whatsapp_pg.mode", "off");
    stand.cluster.reload();
    stand.queue(backlog);
    stand.session.run("CHECKPOINT");
    go_live(stand.cluster);
    // What the first look and the first claims find cold belongs to the bulk insert.
    stand.pass(500);

    let queued = number(f64::from(backlog), 0);
    let mut against_small = |stand: &mut Stand<'_>, what: &str| {
        stand.reset();
        stand.pass(sample);
        let (claim, look) = stand.costs();
        let ratio = claim.per_hundred() / small.per_hundred();
        table.add(
            format!("claim: {queued} queued, {what}, ratio"),
            Target::AtMost(1.5),
            vec![ratio],
            format!("{:.2} ms per 100 rows; {}", claim.per_hundred(), claim.remark(&look)),
        );
    };
    against_small(&mut stand, "statistics of a quiet time");
    stand.session.run("ANALYZE");
    against_small(&mut stand, "fresh statistics");

    let mut holder = database.connect();
    holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    holder.run("SELECT count(*) FROM whatsapp_config");
    let behind = scale.pick(60_000, 10_000);
    stand.pass(behind);
    against_small(&mut stand, &format!("held snapshot, {} sent since", number(f64::from(behind), 0)));
    holder.run("COMMIT");
}
