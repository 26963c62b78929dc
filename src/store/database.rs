//! The database itself: what is set for it, and whether somebody holds the queue for DDL.

use pgrx::pg_sys;

use crate::error::Result;
use crate::store;

/// What `ALTER DATABASE … SET` says for this database now. A session has the values of the moment it connected, so a
/// worker that finds them changed connects anew.
pub fn settings() -> Result<Vec<String>> {
    const SQL: &str = "SELECT u.setting FROM pg_catalog.pg_db_role_setting AS s, unnest(s.setconfig) AS u (setting)
                       WHERE s.setdatabase = $1 AND s.setrole = 0";
    store::read(SQL, &[pg_sys::Oid::from(crate::wake::own_database()).into()], |row| row.get(1))
}

/// Whether the queue can be worked on without waiting: not while somebody holds it for DDL or has dropped it. Keeps the lock until the
/// transaction ends.
pub fn try_lock_queue() -> Result<bool> {
    const SQL: &str = "SELECT to_regclass('@extschema@.whatsapp_queue')::oid";
    let found = store::read(SQL, &[], |row| row.opt::<pg_sys::Oid>(1))?.pop().flatten();
    let Some(queue) = found else { return Ok(false) };
    // SAFETY: a try-lock in a transaction.
    Ok(unsafe { pg_sys::ConditionalLockRelationOid(queue, pg_sys::RowExclusiveLock.cast_signed()) })
}
