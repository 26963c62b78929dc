//! `whatsapp_installation` and the stamps on config rows: is this the database that may send?
//!
//! A dump does not contain the installation's row, so a restored database has another one; a clone by
//! `CREATE DATABASE … TEMPLATE` has the same but another oid; pg_upgrade and promotion keep both.

use pgrx::{Uuid, pg_sys};

use crate::error::{Error, Kind, Result};
use crate::store;
use crate::wake;

/// This database, as the stamps name it.
pub fn database() -> pg_sys::Oid {
    pg_sys::Oid::from(wake::own_database())
}

/// The id of this installation.
pub fn id() -> Result<Uuid> {
    const SQL: &str = "SELECT id FROM @extschema@.whatsapp_installation";
    store::read(SQL, &[], |row| row.get(1))?.pop().ok_or_else(|| {
        Error::new(Kind::NotReady, "this installation of whatsapp_pg has no identity")
            .detail("The table whatsapp_installation is empty.")
            .hint("Run wa_adopt_copy() to say that this database is the one that sends.")
    })
}

/// Stamps every account with this installation and database; answers how many were not.
pub fn adopt() -> Result<u64> {
    const IDENTITY: &str = "INSERT INTO @extschema@.whatsapp_installation DEFAULT VALUES ON CONFLICT DO NOTHING";
    const STAMP: &str = "UPDATE @extschema@.whatsapp_config
                         SET sender_installation = $1, sender_database = $2
                         WHERE sender_installation IS DISTINCT FROM $1 OR sender_database IS DISTINCT FROM $2";
    store::execute(IDENTITY, &[])?;
    store::execute(STAMP, &[id()?.into(), database().into()])
}
