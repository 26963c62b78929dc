//! What counting recipients costs: a drain under a daily limit beside one without.

use std::time::Duration;

use harness::Organizer;

use crate::Scale;
use crate::drain::drain_for;
use crate::table::{Table, Target, median};

const THREADS: usize = 64;

pub fn measure(scale: Scale, table: &mut Table) {
    let messages = scale.pick(100_000, 30_000);
    let rates = |tier: &str| -> Vec<f64> {
        let account = format!("messages_per_second => 1000, rate_limit_tier => '{tier}'");
        (0..scale.pick(3, 1))
            .map(|_| {
                drain_for(Duration::ZERO, THREADS, messages, |session| {
                    (0..40).map(|_| Organizer::with_account(session, &account)).collect()
                })
                .rate
            })
            .collect()
    };
    let (free, limited) = (rates("unlimited"), rates("tier_100000"));
    table.add(
        "admission: limited tier / unlimited, ratio of messages/s",
        Target::AtLeast(0.95),
        limited.iter().map(|rate| rate / median(&free)).collect(),
        format!(
            "0 ms a call, {THREADS} threads: {:.0}/s under tier_100000, {:.0}/s unlimited",
            median(&limited),
            median(&free)
        ),
    );
}
