//! Where the server's programs are, and as whom they run.
//!
//! `PG_CONFIG` names the installation (default: `pg_config` in the path, then Debian's place for 15).
//! PostgreSQL refuses to run as root: then its programs run as the system user `postgres`.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const DEBIAN_PG_CONFIG: &str = "/usr/lib/postgresql/15/bin/pg_config";

/// One PostgreSQL installation.
#[derive(Debug)]
pub struct Programs {
    bin: PathBuf,
    lib: PathBuf,
    share: PathBuf,
    /// Major version, for example 15.
    pub major: u32,
    /// The unprivileged user for the server, when this process is root.
    pub owner: Option<Owner>,
}

/// A user of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// The installation under test.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(Programs::find)
}

impl Programs {
    fn find() -> Self {
        let pg_config = std::env::var_os("PG_CONFIG").map_or_else(default_pg_config, PathBuf::from);
        let ask = |what: &str| {
            let out = Command::new(&pg_config)
                .arg(what)
                .output()
                .unwrap_or_else(|e| panic!("{} {what}: {e}; set PG_CONFIG", pg_config.display()));
            String::from_utf8(out.stdout).expect("pg_config prints text").trim().to_owned()
        };
        let version = ask("--version");
        let major = version
            .trim_start_matches("PostgreSQL ")
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("no major version in {version:?}"));
        Self {
            bin: ask("--bindir").into(),
            lib: ask("--libdir").into(),
            share: ask("--sharedir").into(),
            major,
            owner: owner_for_root(),
        }
    }

    /// Fails with what to do when the extension is not installed.
    pub fn require_extension(&self) {
        assert!(self.has_extension("whatsapp_pg"), "whatsapp_pg is not installed: run `make install` first");
    }

    /// Whether an extension's files are installed.
    pub fn has_extension(&self, name: &str) -> bool {
        self.share.join(format!("extension/{name}.control")).exists()
    }

    /// Whether this is the PostgreSQL that Debian packages.
    pub fn is_debians(&self) -> bool {
        self.bin.starts_with("/usr/lib/postgresql")
    }

    /// The directory of the programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// A command that runs `program` of this installation as the server's user, with a clean environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        self.unprivileged(&mut command);
        command
    }

    /// Makes `command` run as the server's user, without variables that would change what it does.
    pub fn unprivileged(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            // RUST_BACKTRACE would put backtraces into error details; LC_* into messages.
            if name_text.starts_with("PG") || name_text.starts_with("RUST_") || name_text.starts_with("LC_") {
                command.env_remove(&name);
            }
        }
        // A server beside the system's own must not load the system's libpq into its WAL receiver.
        command.env("LD_LIBRARY_PATH", &self.lib).env("LC_ALL", "C.UTF-8").current_dir("/");
        if let Some(Owner { uid, gid }) = self.owner {
            command.uid(uid).gid(gid).env("HOME", "/nonexistent");
        }
    }

    /// Runs `program` to its end and returns what it printed.
    ///
    /// # Panics
    /// When it fails; the message has its output.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: &[S]) -> Output {
        let mut command = self.command(program);
        command.args(args);
        finish(command)
    }

    /// Gives a file or directory to the server's user.
    pub fn give(&self, path: &Path) {
        if let Some(Owner { uid, gid }) = self.owner {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
        }
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// When it fails; the message has its output.
pub fn finish(mut command: Command) -> Output {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        out.status.success(),
        "{command:?} ended with {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

fn default_pg_config() -> PathBuf {
    let in_path = Command::new("pg_config").arg("--version").output().is_ok_and(|out| out.status.success());
    if in_path { "pg_config".into() } else { DEBIAN_PG_CONFIG.into() }
}

/// The user `postgres`, when this process is root; no change of user otherwise.
fn owner_for_root() -> Option<Owner> {
    // SAFETY: geteuid cannot fail; getpwnam returns null or a record that is copied before any other call.
    unsafe {
        if libc::geteuid() != 0 {
            return None;
        }
        let name: &CStr = &CString::new("postgres").expect("no NUL inside");
        let record = libc::getpwnam(name.as_ptr()).as_ref();
        let record = record.expect("root cannot run a server, and there is no user `postgres`: run `make setup`");
        Some(Owner { uid: record.pw_uid, gid: record.pw_gid })
    }
}
