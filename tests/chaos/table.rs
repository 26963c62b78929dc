//! The table that the program prints: a line for each round, and their sum.

use std::fmt;

use crate::plan::Victim;
use crate::round::Report;

/// Rounds as a table.
pub struct Table<'a>(pub &'a [Report]);

const HEADS: [&str; 20] = [
    "seed",
    "kills",
    "drainer",
    "enqueuer",
    "batch",
    "server",
    "messages",
    "undone",
    "accepted",
    "sent",
    "failed",
    "cancelled",
    "unknown",
    "accepted?",
    "forced",
    "lost",
    "twice",
    "wrong",
    "peak/s",
    "seconds",
];

/// One round's figures, but the seed.
fn figures(report: &Report) -> [u64; 19] {
    let kills = |victim| report.kills.get(&victim).copied().unwrap_or(0);
    let (at_rest, at_last) = (&report.at_rest, &report.at_last);
    let state = |name: &str| at_rest.states.get(name).copied().unwrap_or(0);
    [
        Victim::ALL.into_iter().map(kills).sum(),
        kills(Victim::Drainer),
        kills(Victim::Enqueuer),
        kills(Victim::Batch),
        kills(Victim::Postmaster),
        at_rest.states.values().sum(),
        at_rest.rolled_back,
        at_rest.accepted,
        state("sent"),
        state("failed"),
        state("cancelled"),
        state("unknown"),
        at_rest.unknown.0.len(),
        report.forced,
        at_rest.lost.max(at_last.lost),
        at_rest.twice.max(at_last.twice),
        report.problems().len(),
        usize::try_from(report.worst_second).unwrap_or(usize::MAX),
        usize::try_from(report.took.as_secs()).unwrap_or(usize::MAX),
    ]
    .map(|figure| figure as u64)
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<Vec<String>> = vec![HEADS.map(str::to_owned).to_vec()];
        let mut sums = [0_u64; 19];
        for report in self.0 {
            let figures = figures(report);
            sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
            lines.push(std::iter::once(report.seed).chain(figures).map(|figure| figure.to_string()).collect());
        }
        // Peaks have no sum.
        sums[17] = self.0.iter().map(|report| report.worst_second).max().unwrap_or(0);
        lines.push(std::iter::once("all".to_owned()).chain(sums.map(|sum| sum.to_string())).collect());
        for line in lines {
            for (column, (text, head)) in line.iter().zip(HEADS).enumerate() {
                let width = if column == 0 { 12 } else { head.len().max(5) };
                write!(f, "{text:>width$} ")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "\nundone: rolled back, or killed before the commit. accepted?: unknown rows that the simulator had taken."
        )
    }
}
