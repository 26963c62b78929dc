//! WhatsApp Business sender inside PostgreSQL.
//!
//! An application writes rows or calls `wa_enqueue`; messages leave on commit, paced under every limit Meta sets, and
//! their outcome is recorded to the last row. This crate is the part that meets Postgres:
//!
//! - [`api`]: what SQL can call. [`caller`]: who calls, and with whose rights the work is done.
//! - [`store`]: every query, one file per noun. [`tx`]: transactions that really roll back.
//! - [`worker`]: launcher, drainer, batch worker, sender threads.
//! - [`reactions`]: what an error of Meta's means for what surrounds its message.
//! - [`settings`], [`graph`], [`secrets`], [`shared`], [`wake`]: settings and the client they describe, tokens at rest,
//!   shared memory, waking at commit.
//!
//! Meta's rules and the HTTP client are in `crates/cloud-api`, encryption in `crates/keyring`; neither knows Postgres.
//! The schema is in `sql/`, in the order of the manifest below.

use pgrx::prelude::*;

pub mod api;
pub mod caller;
pub mod error;
pub mod graph;
pub mod ids;
pub mod pg_compat;
pub mod reactions;
pub mod secrets;
pub mod settings;
pub mod shared;
pub mod srf;
pub mod store;
pub mod time;
pub mod tx;
pub mod wake;
pub mod worker;

::pgrx::pg_module_magic!();

// The install script: each file may use what those before it made. Upgrade scripts are made of the same files
// (scripts/upgrade-scripts.sh).
extension_sql_file!("../sql/guard.sql", name = "guard", bootstrap);
extension_sql_file!("../sql/tables.sql", name = "tables", requires = ["guard"]);
extension_sql_file!("../sql/internal.sql", name = "internal", requires = ["tables"]);
extension_sql_file!("../sql/contacts.sql", name = "contacts", requires = ["internal"]);
extension_sql_file!("../sql/ledger.sql", name = "ledger", requires = ["contacts"]);
extension_sql_file!("../sql/functions.sql", name = "functions", requires = ["ledger"]);
extension_sql_file!("../sql/limits.sql", name = "limits", requires = ["functions"]);
extension_sql_file!("../sql/outcomes.sql", name = "outcomes", requires = ["limits"]);
extension_sql_file!("../sql/explain.sql", name = "explain", requires = ["outcomes"]);
extension_sql_file!("../sql/audit.sql", name = "audit", requires = ["explain"]);
extension_sql_file!("../sql/doctor.sql", name = "doctor", requires = ["audit"]);
extension_sql_file!("../sql/host.sql", name = "host", requires = ["doctor"]);
extension_sql_file!("../sql/triggers.sql", name = "triggers", requires = ["host"]);
extension_sql_file!("../sql/views.sql", name = "views", requires = ["triggers"]);
extension_sql_file!("../sql/security.sql", name = "security", requires = ["views"]);
extension_sql_file!("../sql/finish.sql", name = "finish", requires = ["security"], finalize);

/// Called by Postgres when the library is loaded.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::init();
    // SAFETY: plain reads of process-wide variables.
    let (preloading, upgrading) =
        unsafe { (pg_sys::process_shared_preload_libraries_in_progress, pg_sys::IsBinaryUpgrade) };
    // pg_upgrade starts background workers and then finds its databases in use: register nothing for it.
    if preloading && !upgrading {
        shared::init();
        worker::launcher::register();
        // The tables of the phone library are read once here and shared by every process forked from the postmaster.
        cloud_api::phone::warm_up();
    }
}
