//! Connecting a worker to its database, and pinning what the promises rely on: whatever the database or role sets,
//! a claim is durable once committed, plans stay index look-ups, and no trigger of somebody else runs with our rights.

use std::ffi::CString;

use pgrx::pg_sys;

use crate::{pg_compat, settings, tx};

/// Settings that hold in every worker, and why.
const PINNED: &[(&str, &str)] = &[
    // A claim lost in a crash after its call was made would be sent again.
    ("synchronous_commit", "on"),
    ("default_transaction_isolation", "read committed"),
    ("search_path", "pg_catalog, pg_temp"),
    // Triggers that a tenant was allowed to create must not run with the worker's rights; foreign keys were checked
    // when the rows entered.
    ("session_replication_role", "replica"),
    // Nobody may hold the worker up for long, and in a deadlock it is the worker that gives way: who waits shortest
    // before looking for one is the one that ends it.
    ("lock_timeout", "2s"),
    ("deadlock_timeout", "50ms"),
    ("idle_in_transaction_session_timeout", "0"),
    ("client_min_messages", "error"),
    // Statistics of a quiet time make the planner scan and sort the whole queue: 541 ms a claim instead of 0.1 ms.
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("enable_incremental_sort", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// Connects the worker to a database and pins its settings.
pub fn connect(database: pg_sys::Oid, application_name: &str) {
    // SAFETY: called once, on the main thread, before any other Postgres call of the worker.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
    for (name, value) in PINNED.iter().chain(pg_compat::PINNED) {
        pin(name, value);
    }
    pin("application_name", application_name);
}

fn pin(name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) {
        // SAFETY: valid C strings; the names are Postgres' own settings. OVERRIDE: no later source changes them.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

/// Shows in pg_stat_activity what the worker does; None: idle.
pub fn report_activity(activity: Option<&str>) {
    let text = activity.and_then(|text| CString::new(text).ok());
    let state = match text {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    // SAFETY: Postgres copies the text.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())) };
}

/// Hands the table statistics to autovacuum, which would never hear of our writes otherwise.
pub fn report_statistics() {
    // SAFETY: outside a transaction; false: not more often than Postgres thinks right.
    unsafe { pg_sys::pgstat_report_stat(false) };
}

/// Whether somebody wants the database for DROP, RENAME or as a template: they hold its lock and wait for us to go.
pub fn must_leave_database() -> bool {
    let mut tag = pg_sys::LOCKTAG {
        locktag_field1: 0,
        locktag_field2: pg_sys::DatabaseRelationId.into(),
        locktag_field3: crate::wake::own_database(),
        locktag_field4: 0,
        locktag_type: u8::try_from(pg_sys::LockTagType::LOCKTAG_OBJECT).unwrap_or(0),
        locktag_lockmethodid: 1,
    };
    let mode = pg_sys::RowExclusiveLock.cast_signed();
    // SAFETY: a session-level try-lock of the shared object "this database", released at once.
    unsafe {
        let taken = pg_sys::LockAcquire(&raw mut tag, mode, true, true);
        if taken == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
            return true;
        }
        pg_sys::LockRelease(&raw mut tag, mode, true);
    }
    false
}

/// Whether `whatsapp_pg.databases` names this database.
pub fn is_database_served() -> bool {
    let name = tx::transaction(|| {
        // SAFETY: a catalog look-up in a transaction; NULL or a palloc'd C string.
        unsafe {
            let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
            Ok((!name.is_null()).then(|| std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()))
        }
    });
    // Without a name the database is going, which is noticed elsewhere.
    name.ok().flatten().is_none_or(|name| settings::serves_database(&name))
}

/// Whether transactions here cannot write: a hold, not a crash.
pub fn is_read_only() -> bool {
    // SAFETY: GetConfigOption answers a C string that lives until the setting changes.
    unsafe {
        let setting = pg_sys::GetConfigOption(c"default_transaction_read_only".as_ptr(), true, false);
        pg_sys::RecoveryInProgress() || (!setting.is_null() && std::ffi::CStr::from_ptr(setting).to_bytes() == b"on")
    }
}
