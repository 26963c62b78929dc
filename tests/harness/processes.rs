//! What the kernel says about a process.

use std::fs;
use std::time::Duration;

/// Whether any thread of the process is left. Nobody may be there to reap it, so a zombie counts as gone, unless
/// only its first thread is one.
pub fn is_alive(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    threads > 1 || threads == 1 && !status.contains("State:\tZ")
}

/// The pid of the process that started it, if it is there.
pub fn parent_of(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The processor time that a process has used so far, to a hundredth of a second.
pub fn processor_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // After the command in parentheses: state is field 3 of proc(5), utime 14 and stime 15, in ticks of 10 ms.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
