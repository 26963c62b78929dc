//! The static background worker: it sees shared catalogs only, finds databases, and keeps one drainer running in each
//! that has the extension. Nobody can see from here which databases those are, so a drainer is started once in every
//! database to look; CREATE EXTENSION announces its database when it commits. The launcher owns all restarts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker};
use pgrx::{PgSqlErrorCode, ereport, pg_guard, pg_sys};

use crate::shared::{self, State};
use crate::worker::signals;
use crate::{settings, tx};

/// New databases are noticed at least this often.
const LOOK: Duration = Duration::from_secs(5);
/// While a drainer is starting or has died, look more often.
const LOOK_SOON: Duration = Duration::from_millis(200);
/// A drainer that died is started again after this long; the wait doubles up to the second figure.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A drainer that ran this long was healthy.
const HEALTHY: Duration = Duration::from_secs(60);
/// A look at one database should not keep the others waiting for longer.
const PROBE: Duration = Duration::from_secs(5);

/// Registers the launcher with the postmaster. Only from `_PG_init` under shared_preload_libraries.
pub fn register() {
    BackgroundWorkerBuilder::new("whatsapp_pg launcher")
        .set_type("whatsapp_pg launcher")
        .set_library("whatsapp_pg")
        .set_function("whatsapp_pg_launcher_main")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(1)))
        .load();
}

/// Entry point of the background worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn whatsapp_pg_launcher_main(_argument: pg_sys::Datum) {
    signals::install();
    // SAFETY: the first Postgres call of the worker; no database: shared catalogs only.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
        shared::register_launcher(pg_sys::MyProcPid);
    }
    let mut launcher = Launcher::default();
    while !signals::stop_requested() {
        signals::reload_requested();
        let wait = launcher.look();
        signals::wait(wait, None);
    }
    // Exit code 1 asks the postmaster to start it again: somebody may have terminated it by mistake. While the server
    // shuts down nothing is started again.
    // SAFETY: the last thing this process does.
    unsafe { pg_sys::proc_exit(1) };
}

#[derive(Default)]
struct Launcher {
    children: HashMap<u32, Child>,
    told_no_slot: bool,
    told_full: bool,
}

struct Child {
    worker: Option<DynamicBackgroundWorker>,
    started: Instant,
    restart_at: Instant,
    pause: Duration,
}

impl Launcher {
    /// Looks after all databases once; answers how long nothing needs looking after.
    fn look(&mut self) -> Duration {
        let Ok(databases) = tx::transaction(|| Ok(databases())) else {
            return LOOK;
        };
        let oids: Vec<u32> = databases.iter().map(|(oid, _)| *oid).collect();
        shared::retain(&oids);
        self.children.retain(|oid, _| oids.contains(oid));
        for (oid, child) in &mut self.children {
            child.reap(*oid);
        }
        let mut busy = false;
        let mut is_full = false;
        for (oid, name) in databases {
            if !settings::serves_database(&name) {
                continue;
            }
            if !shared::update(oid, |_| ()) {
                self.tell_full();
                continue;
            }
            let (state, pid) = shared::entry(oid).map_or((State::Unknown, 0), |entry| (entry.state, entry.pid));
            // A drainer may have outlived the launcher that started it.
            let is_running =
                self.children.get(&oid).is_some_and(|child| child.worker.is_some()) || shared::is_alive(pid);
            if is_running || state == State::Absent {
                continue;
            }
            busy = true;
            if self.is_probing() && state == State::Unknown {
                continue;
            }
            if is_full {
                // It would not get a worker either: say so where an operator looks.
                shared::update(oid, |entry| entry.state = State::Down);
            } else if self.children.get(&oid).is_none_or(|child| child.restart_at <= Instant::now()) {
                is_full = !self.start(oid, &name);
            }
        }
        if is_full {
            return LOOK;
        }
        if busy || self.is_probing() { LOOK_SOON } else { LOOK }
    }

    fn is_probing(&self) -> bool {
        self.children.iter().any(|(oid, child)| {
            child.worker.is_some()
                && child.started.elapsed() < PROBE
                && shared::entry(*oid).is_some_and(|entry| entry.state == State::Probing)
        })
    }

    fn start(&mut self, oid: u32, name: &str) -> bool {
        shared::update(oid, |entry| entry.state = State::Probing);
        // SAFETY: reads this process's id.
        let own_pid = unsafe { pg_sys::MyProcPid };
        let shown: String = name.chars().take(40).collect();
        let worker = BackgroundWorkerBuilder::new(&format!("whatsapp_pg drainer ({shown})"))
            .set_type("whatsapp_pg drainer")
            .set_library("whatsapp_pg")
            .set_function("whatsapp_pg_drainer_main")
            .set_argument(Some(pg_sys::Datum::from(oid)))
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .set_notify_pid(own_pid)
            .load_dynamic();
        match worker {
            Ok(worker) => {
                self.told_no_slot = false;
                let pause = self.children.get(&oid).map_or(RESTART.0, |child| child.pause);
                let now = Instant::now();
                self.children.insert(oid, Child { worker: Some(worker), started: now, restart_at: now, pause });
                true
            }
            Err(_) => {
                shared::update(oid, |entry| entry.state = State::Down);
                if !std::mem::replace(&mut self.told_no_slot, true) {
                    ereport!(
                        WARNING,
                        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                        format!("whatsapp_pg has no background worker slot for database \"{name}\""),
                        "Nothing is sent there. Raise max_worker_processes and restart the server."
                    );
                }
                false
            }
        }
    }

    fn tell_full(&mut self) {
        if !std::mem::replace(&mut self.told_full, true) {
            ereport!(
                WARNING,
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                format!("whatsapp_pg looks after {} databases at most", shared::MAX_DATABASES),
                "Name those that use it in whatsapp_pg.databases."
            );
        }
    }
}

impl Child {
    /// Takes note when the drainer has ended.
    fn reap(&mut self, oid: u32) {
        let Some(worker) = &self.worker else { return };
        if !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied)) {
            return;
        }
        self.worker = None;
        self.pause = if self.started.elapsed() >= HEALTHY { RESTART.0 } else { (self.pause * 2).min(RESTART.1) };
        let mut left_by_itself = false;
        shared::update(oid, |entry| {
            entry.pid = 0;
            left_by_itself = matches!(entry.state, State::Absent | State::Unknown);
            if matches!(entry.state, State::Probing | State::Serving) {
                entry.state = State::Down;
            }
        });
        if left_by_itself {
            self.pause = RESTART.0;
        }
        self.restart_at = Instant::now() + if left_by_itself { Duration::ZERO } else { self.pause / 2 };
    }
}

/// Databases one can connect to, from the shared catalog. SQL does not work without a database, so the table is read
/// as autovacuum's launcher reads it.
fn databases() -> Vec<(u32, String)> {
    let mut found = Vec::new();
    // SAFETY: in a transaction with a snapshot; the scan and the relation are closed before it ends, and the tuple is
    // read while the scan holds it.
    unsafe {
        let lock = pg_sys::AccessShareLock.cast_signed();
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let database = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if (*database).datallowconn && !(*database).datistemplate {
                let name = std::ffi::CStr::from_ptr((*database).datname.data.as_ptr());
                found.push(((*database).oid.to_u32(), name.to_string_lossy().into_owned()));
            }
        }
        if let Some(end) = (*(*relation).rd_tableam).scan_end {
            end(scan);
        }
        pg_sys::table_close(relation, lock);
    }
    found
}
