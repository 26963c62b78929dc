//! What the kernel knows: the machine, open files, and who uses memory and processors (proc(5)).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use harness::Cluster;

/// One line about processors, memory and load.
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = kilobytes("/proc/meminfo", "MemTotal:").unwrap_or(0.0) / 1024.0 / 1024.0;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!(
        "{cores} x {model}, {memory:.0} GB; load at the start {}; simulator and client on the same processors",
        load.join(" ")
    )
}

/// Raises the limit of open files as far as it goes: the server's processes and the simulator inherit it.
pub fn raise_open_files() {
    // SAFETY: plain calls on a local structure.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Memory that a process shares with nobody but its own threads, and the code it has mapped, in MB. Pages of
/// `shared_buffers` do not count: they belong to the server, whoever has touched them.
pub fn own_memory(pid: i32) -> f64 {
    let path = format!("/proc/{pid}/status");
    ["RssAnon:", "RssFile:"].iter().map(|name| kilobytes(&path, name).unwrap_or(0.0)).sum::<f64>() / 1024.0
}

/// Threads of a process.
pub fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

fn kilobytes(path: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// Processor time used so far, in clock ticks, by part.
pub struct Clocks {
    at: Instant,
    parts: BTreeMap<&'static str, u64>,
    /// Of the whole machine.
    all: u64,
}

const MAIN: &str = "drainer's main thread";
const SENDERS: &str = "sender threads";
const SIMULATOR: &str = "simulator";
const SERVER: &str = "rest of the server";
const BENCH: &str = "bench";

impl Clocks {
    /// Reads the clocks of a server, its drainer, the simulator and this program.
    pub fn read(cluster: &Cluster, drainer: i32, simulator: Option<i32>) -> Self {
        let main = ticks(&format!("/proc/{drainer}/task/{drainer}/stat"));
        let senders = ticks(&format!("/proc/{drainer}/stat")).saturating_sub(main);
        let rest = cluster.children().into_iter().chain([cluster.pid()]).filter(|pid| *pid != drainer);
        let mut parts = BTreeMap::from([
            (MAIN, main),
            (SENDERS, senders),
            (SERVER, rest.map(|pid| ticks(&format!("/proc/{pid}/stat"))).sum()),
            (BENCH, ticks("/proc/self/stat")),
        ]);
        if let Some(pid) = simulator {
            parts.insert(SIMULATOR, ticks(&format!("/proc/{pid}/stat")));
        }
        Self { at: Instant::now(), parts, all: busy() }
    }

    /// Who used how many processors since then.
    pub fn since(&self, now: &Self) -> String {
        // SAFETY: asks for a constant of the system.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        let seconds = (now.at - self.at).as_secs_f64();
        let used = |before: u64, after: u64| after.saturating_sub(before) as f64 / per_second / seconds;
        let mut text = String::from("processors:");
        let mut known = 0.0;
        for (name, after) in &now.parts {
            let share = used(self.parts.get(name).copied().unwrap_or(0), *after);
            known += share;
            let _ = write!(text, " {name} {share:.2},");
        }
        let others = (used(self.all, now.all) - known).max(0.0);
        let _ = write!(text, " other programs {others:.2}");
        text
    }
}

/// utime + stime of a process or thread.
fn ticks(path: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The name of the program stands in parentheses and may have blanks in it.
    let after_name = text.rsplit_once(')').map_or("", |parts| parts.1);
    after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Ticks in which some processor was busy: user, nice, system, irq, softirq.
fn busy() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> =
        text.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at)).sum()
}
