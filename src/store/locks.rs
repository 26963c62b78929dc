//! Advisory locks that say which workers are alive.

use crate::error::Result;
use crate::store;

/// First key of our advisory locks: "wapg".
const CLASS: i32 = 0x7761_7067;

/// Marks a run as alive until this process ends.
pub fn hold_run(run: i32) -> Result<()> {
    const SQL: &str = "SELECT pg_advisory_lock_shared($1, $2)";
    store::read(SQL, &[CLASS.into(), run.into()], |_| Ok(())).map(drop)
}

/// Whether the process of a run is alive.
pub fn is_run_alive(run: i32) -> Result<bool> {
    const SQL: &str = "SELECT pg_try_advisory_xact_lock($1, $2)";
    let is_dead = store::read(SQL, &[CLASS.into(), run.into()], |row| row.get::<bool>(1))?.pop();
    Ok(is_dead != Some(true))
}
