//! Temporary directories, all below one per test run, which goes when the run ends.
//!
//! A run that was killed cannot clean up. It held a lock on a file in its directory, and the kernel let go of
//! that lock: the next run removes directories whose lock is free, and only those.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::programs::programs;

const PREFIX: &str = "whatsapp_pg-";

struct Run {
    root: PathBuf,
    _lock: File,
}

/// A new directory that the server's user owns and no other user can look into.
pub fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let path = run().root.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    // The kernel takes 107 characters for the name of a socket.
    let socket = path.join(".s.PGSQL.5432");
    assert!(socket.as_os_str().len() < 100, "TMPDIR is too long for a socket: {}", socket.display());
    make_private(&path);
    path
}

fn run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    extern "C" fn remove() {
        if let Some(run) = RUN.get() {
            let _ = fs::remove_dir_all(&run.root);
        }
    }
    RUN.get_or_init(|| {
        sweep();
        let root = std::env::temp_dir().join(format!("{PREFIX}{:08x}", rand()));
        make_private(&root);
        // Locked before it has its name: whoever finds the file finds it locked.
        let lock = File::create_new(root.join("lock.new")).expect("a lock file");
        lock.lock().expect("nobody else knows the file");
        fs::rename(root.join("lock.new"), root.join("lock")).expect("same directory");
        // SAFETY: the handler touches only the static above and the file system.
        unsafe { libc::atexit(remove) };
        Run { root, _lock: lock }
    })
}

fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let abandoned = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn make_private(path: &Path) {
    fs::create_dir(path).unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
    fs::set_permissions(path, Permissions::from_mode(0o700)).expect("our own directory");
    programs().give(path);
}

/// Differs between runs; the directory must not exist yet, so nobody can prepare it.
fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) & 0xffff_ffff
}
