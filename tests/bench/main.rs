//! `make bench`: how fast messages enter, leave and are written down, on this machine, against the simulator.
//!
//! Server, simulator and client share the machine's processors; the simulator is a process of its own, so that its
//! share can be told apart. Every figure is the median of some runs. Accounts are many and fast enough that pacing is
//! not the limit, unless pacing is what is measured.
//!
//! `QUICK=1` takes fewer and smaller runs. Arguments choose topics: `make bench ONLY="drain wake"`.
//! docs/performance.md says what each figure means and what limits it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program that measures fails by panicking and prints"
)]

mod admission;
mod claim;
mod drain;
mod enqueue;
mod machine;
mod memory;
mod server;
mod simulator;
mod table;
mod wake;

use std::time::Instant;

use table::Table;

/// How much work a run of the program makes.
#[derive(Clone, Copy)]
pub struct Scale {
    quick: bool,
}

impl Scale {
    /// The first value in a full run, the second in a quick one.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

type Measure = fn(Scale, &mut Table);

const TOPICS: [(&str, Measure); 7] = [
    ("enqueue", enqueue::measure),
    ("drain", drain::without_latency),
    ("latency", drain::with_latency),
    ("wake", wake::measure),
    ("memory", memory::measure),
    ("claim", claim::measure),
    ("admission", admission::measure),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| TOPICS.iter().all(|topic| topic.0 != name.as_str())) {
        let names: Vec<_> = TOPICS.iter().map(|topic| topic.0).collect();
        eprintln!("bench: no topic \"{unknown}\"; there are: {}", names.join(", "));
        std::process::exit(2);
    }
    let quick = std::env::var("QUICK").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    machine::raise_open_files();
    let began = Instant::now();
    let mut table = Table::new(machine::describe());
    for (name, measure) in TOPICS {
        if wanted.is_empty() || wanted.iter().any(|topic| topic == name) {
            measure(Scale { quick }, &mut table);
        }
    }
    println!("\n{table}");
    println!("{} run, {:.0} s.", if quick { "Quick" } else { "Full" }, began.elapsed().as_secs_f64());
}
