//! What the processes know of each other: a directory of databases in shared memory. Backends announce a database and
//! wake its drainer, the launcher starts drainers, each drainer keeps its own entry up to date for `wa_worker_status`.
//!
//! There is no shared memory without `shared_preload_libraries`; every function then does nothing or answers nothing.
//! After a crash of any backend the memory is zeroed: "no entry" is a normal state.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init, pg_sys};

/// Databases served at most by one server.
pub const MAX_DATABASES: usize = 128;
const NOTE_BYTES: usize = 240;

/// What the launcher knows of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    /// Nobody has looked yet, or it is time to look again: a drainer should be started at once.
    #[default]
    Unknown,
    /// A drainer was started and has not said yet whether the extension is there.
    Probing,
    /// A drainer serves it.
    Serving,
    /// The extension is not there.
    Absent,
    /// The drainer stepped aside for DDL, or died; it is started again later.
    Down,
}

/// One database.
#[derive(Clone, Copy, Default)]
pub struct Entry {
    /// The database; 0 marks a free entry.
    pub database: u32,
    /// What is known of it.
    pub state: State,
    /// Process id of its drainer; 0 for none.
    pub pid: i32,
    /// When the drainer started (microseconds since 2000-01-01, as Postgres counts).
    pub started_at: i64,
    /// When it last looked at the queue.
    pub last_pass_at: i64,
    /// Rows it claimed since it started.
    pub claimed: u64,
    /// Rows it recorded as sent.
    pub sent: u64,
    /// Rows it recorded as failed.
    pub failed: u64,
    /// Rows it put back for later.
    pub rescheduled: u64,
    /// Rows it recorded as unknown.
    pub unknown: u64,
    /// Rows it holds a lease on now.
    pub in_flight: u32,
    accounts_changed: bool,
    note: Note,
}

impl Entry {
    /// Why it does not send, or what else an operator should know.
    pub fn note(&self) -> &str {
        let bytes = self.note.bytes.get(..usize::from(self.note.length)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Replaces the note; what does not fit is cut at a character.
    pub fn set_note(&mut self, text: &str) {
        let end = (0..=text.len().min(NOTE_BYTES)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        let mut note = Note::default();
        if let (Some(to), Some(from)) = (note.bytes.get_mut(..end), text.as_bytes().get(..end)) {
            to.copy_from_slice(from);
            note.length = u8::try_from(end).unwrap_or(0);
        }
        self.note = note;
    }
}

#[derive(Clone, Copy)]
struct Note {
    length: u8,
    bytes: [u8; NOTE_BYTES],
}

impl Default for Note {
    fn default() -> Self {
        Self { length: 0, bytes: [0; NOTE_BYTES] }
    }
}

#[derive(Clone, Copy)]
struct Directory {
    launcher: i32,
    entries: [Entry; MAX_DATABASES],
}

impl Default for Directory {
    fn default() -> Self {
        Self { launcher: 0, entries: [Entry::default(); MAX_DATABASES] }
    }
}

// SAFETY: plain data without pointers; every bit pattern we write is valid in every process.
unsafe impl PGRXSharedMemory for Directory {}

// SAFETY: the name is used once in the server.
static DIRECTORY: PgLwLock<Directory> = unsafe { PgLwLock::new(c"whatsapp_pg directory") };
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Reserves the memory. Only from `_PG_init` while the postmaster preloads libraries.
pub fn init() {
    pg_shmem_init!(DIRECTORY);
    PRELOADED.store(true, Ordering::Relaxed);
}

/// Whether the library was preloaded, so that there is a launcher and this memory.
pub fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// Says that the calling process is the launcher.
pub fn register_launcher(pid: i32) {
    if is_preloaded() {
        DIRECTORY.exclusive().launcher = pid;
    }
}

/// Says that a database may have got the extension, and wakes the launcher.
pub fn announce(database: u32) {
    if !is_preloaded() {
        return;
    }
    let launcher = {
        let mut directory = DIRECTORY.exclusive();
        if let Some(entry) = find_or_add(&mut directory, database)
            && matches!(entry.state, State::Absent | State::Down)
        {
            entry.state = State::Unknown;
        }
        directory.launcher
    };
    wake_process(launcher);
}

/// Wakes the drainer of a database; without one, nothing happens (the launcher's next look starts it). `accounts`: what
/// it remembers of accounts and templates is out of date.
pub fn wake_drainer(database: u32, accounts: bool) {
    if !is_preloaded() {
        return;
    }
    let pid = if accounts {
        let mut directory = DIRECTORY.exclusive();
        let entry = directory.entries.iter_mut().find(|entry| entry.database == database);
        entry.map_or(0, |entry| {
            entry.accounts_changed = true;
            entry.pid
        })
    } else {
        let directory = DIRECTORY.share();
        directory.entries.iter().find(|entry| entry.database == database).map_or(0, |entry| entry.pid)
    };
    wake_process(pid);
}

/// Whether accounts or templates were written to since this was last asked.
pub fn take_accounts_changed(database: u32) -> bool {
    let is_changed = entry(database).is_some_and(|entry| entry.accounts_changed);
    if is_changed {
        update(database, |entry| entry.accounts_changed = false);
    }
    is_changed
}

/// The entry of a database.
pub fn entry(database: u32) -> Option<Entry> {
    if !is_preloaded() {
        return None;
    }
    DIRECTORY.share().entries.iter().find(|entry| entry.database == database).copied()
}

/// All entries in use.
pub fn entries() -> Vec<Entry> {
    if !is_preloaded() {
        return Vec::new();
    }
    DIRECTORY.share().entries.iter().filter(|entry| entry.database != 0).copied().collect()
}

/// Changes the entry of a database, making one when there is none; false when the directory is full.
pub fn update(database: u32, change: impl FnOnce(&mut Entry)) -> bool {
    if !is_preloaded() {
        return true;
    }
    match find_or_add(&mut DIRECTORY.exclusive(), database) {
        Some(entry) => {
            change(entry);
            true
        }
        None => false,
    }
}

/// Forgets databases that are not in the list.
pub fn retain(databases: &[u32]) {
    if is_preloaded() {
        for entry in &mut DIRECTORY.exclusive().entries {
            if entry.database != 0 && !databases.contains(&entry.database) {
                *entry = Entry::default();
            }
        }
    }
}

fn find_or_add(directory: &mut Directory, database: u32) -> Option<&mut Entry> {
    let index = directory
        .entries
        .iter()
        .position(|entry| entry.database == database)
        .or_else(|| directory.entries.iter().position(|entry| entry.database == 0))?;
    let entry = directory.entries.get_mut(index)?;
    entry.database = database;
    Some(entry)
}

/// Whether a process of this id is attached to the server.
pub fn is_alive(pid: i32) -> bool {
    // SAFETY: looks the process up in the process array.
    pid != 0 && unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }
}

fn wake_process(pid: i32) {
    if pid == 0 {
        return;
    }
    // SAFETY: BackendPidGetProc answers NULL or an entry of the process array, which lives as long as the server;
    // setting the latch of a process that has just ended is harmless.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}
