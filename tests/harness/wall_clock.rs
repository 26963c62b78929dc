//! A server's wall clock that a test can set while it runs: a small library (`wall_clock.c`), preloaded, adds the seconds
//! in a shared file. The clocks that count from the start of the machine (`CLOCK_MONOTONIC`, `CLOCK_BOOTTIME`) go on as
//! they are, as when an administrator or NTP sets a machine's clock.
//!
//! Not libfaketime: PostgreSQL 15 forks its background workers in a signal handler, in the middle of a `select()` for
//! which libfaketime has just switched itself off, so that workers would go by the true time and backends by the false one.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::programs::{finish, programs};
use crate::scratch;

/// The wall clock of one server.
#[derive(Debug)]
pub(crate) struct WallClock {
    file: PathBuf,
}

impl WallClock {
    /// A clock that is right, for the server with this directory.
    pub(crate) fn new(dir: &Path) -> Self {
        let clock = Self { file: dir.join("clock") };
        fs::write(&clock.file, 0_i64.to_ne_bytes()).expect("our own directory");
        programs().give(&clock.file);
        clock
    }

    /// Sets it: so many seconds before (negative) or after the true time.
    pub(crate) fn set(&self, seconds: i64) {
        let file = File::options().write(true).open(&self.file).expect("made with the clock");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("eight bytes that are there already");
    }

    /// Makes `command` and its children read this clock.
    pub(crate) fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library()).env("WALL_CLOCK", &self.file);
    }
}

/// The library, made by the compiler that also links this program.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let dir = scratch::directory();
        let (source, library) = (dir.join("wall_clock.c"), dir.join("wall_clock.so"));
        fs::write(&source, include_str!("wall_clock.c")).expect("our own directory");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-o"]).args([&library, &source]);
        finish(compiler);
        library
    })
}
