//! `whatsapp_idempotency`: which call a key stands for.

use pgrx::Uuid;

use crate::error::Result;
use crate::store;

/// What a key means for the call that brings it.
#[derive(Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is new: the call goes ahead.
    New,
    /// The same call was made before: answer its rows.
    Same,
    /// It stands for another call.
    Other,
}

/// Takes the key for a call with this fingerprint. A concurrent call with the same key waits for the first to commit.
pub fn claim(organizer: &Uuid, key: &str, fingerprint: &str) -> Result<Claimed> {
    const TAKE: &str = "INSERT INTO @extschema@.whatsapp_idempotency (user_id, idempotency_key, request_hash)
                        VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    const LOOK: &str = "SELECT request_hash FROM @extschema@.whatsapp_idempotency
                        WHERE user_id = $1 AND idempotency_key = $2 FOR SHARE";
    if store::execute(TAKE, &[(*organizer).into(), key.into(), fingerprint.into()])? == 1 {
        return Ok(Claimed::New);
    }
    let known: Vec<String> = store::write(LOOK, &[(*organizer).into(), key.into()], |row| row.get(1))?;
    Ok(match known.first() {
        Some(known) if known == fingerprint => Claimed::Same,
        _ => Claimed::Other,
    })
}
