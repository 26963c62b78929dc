//! `make chaos`: everything goes wrong at once, drawn from a seed, and afterwards the books are compared. None lost, none
//! sent twice, no limit exceeded, whatever is killed and whatever breaks. docs/chaos.md says what it proves and how.
//!
//! `--short` plays the fixed rounds of `make test`. Otherwise rounds of [`Form::LONG`] follow each other, with the
//! seeds `SEED`, `SEED` + 1, …, until `KILLS` processes have been killed. A round depends on its seed alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program that tests fails by panicking and prints"
)]

mod book;
mod deeds;
mod plan;
mod proof;
mod round;
mod stage;
mod table;
mod traffic;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use plan::Form;

/// The rounds of the short form: between them they have nearly every trouble, and statuses both early and late.
const SHORT_SEEDS: [u64; 3] = [12, 14, 18];
/// Kills of the long form, if nothing else is said.
const KILLS: usize = 100;

fn main() -> ExitCode {
    let is_short = std::env::args().any(|arg| arg == "--short");
    let form = if is_short { Form::SHORT } else { Form::LONG };
    let first = number("SEED").unwrap_or_else(seed_of_now);
    let wanted = number("KILLS").and_then(|kills| usize::try_from(kills).ok()).unwrap_or(KILLS);
    let seeds: Vec<u64> = if is_short && number("SEED").is_none() {
        SHORT_SEEDS.to_vec()
    } else {
        (0..wanted.div_ceil(form.scenes) as u64).map(|n| first.wrapping_add(n)).collect()
    };

    let mut reports = Vec::new();
    let mut failed = Vec::new();
    for seed in seeds {
        let tell = |line: &str| eprintln!("{line}");
        match catch_unwind(AssertUnwindSafe(|| round::play(seed, &form, &tell))) {
            Ok(report) => {
                if !report.problems().is_empty() {
                    failed.push(seed);
                }
                reports.push(report);
            }
            // The panic has said why.
            Err(_) => failed.push(seed),
        }
    }
    println!("{}", table::Table(&reports));
    for seed in &failed {
        println!("seed {seed} failed; again: make chaos SEED={seed} KILLS=1");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A number from the environment; an empty variable is none.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).unwrap_or_default();
    (!text.is_empty()).then(|| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
