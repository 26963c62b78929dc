//! `whatsapp_keys`: the keys that seal tokens when no `key_file` is set.

use crate::error::Result;
use crate::store;

/// The texts of all keys, the one that seals first.
pub fn all() -> Result<Vec<String>> {
    const SQL: &str = "SELECT key_text FROM @extschema@.whatsapp_keys ORDER BY seals DESC, created_at DESC";
    store::read(SQL, &[], |row| row.get(1))
}

/// Adds a key that opens, if it is not there.
pub fn add(key_id: &str, key_text: &str) -> Result<()> {
    const SQL: &str = "INSERT INTO @extschema@.whatsapp_keys (key_id, key_text, seals) VALUES ($1, $2, false)
                       ON CONFLICT (key_id) DO NOTHING";
    store::execute(SQL, &[key_id.into(), key_text.into()]).map(drop)
}

/// Makes this key the one that seals.
pub fn use_for_sealing(key_id: &str) -> Result<()> {
    const OTHERS: &str = "UPDATE @extschema@.whatsapp_keys SET seals = false WHERE seals AND key_id <> $1";
    const THIS: &str = "UPDATE @extschema@.whatsapp_keys SET seals = true WHERE key_id = $1 AND NOT seals";
    store::execute(OTHERS, &[key_id.into()])?;
    store::execute(THIS, &[key_id.into()]).map(drop)
}
