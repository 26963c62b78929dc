//! `whatsapp_roles`: the roles a DBA named, and the subject of the request's token.

use pgrx::{Spi, Uuid, pg_sys};

use crate::error::Result;
use crate::store;

/// What a role was named for.
pub struct Grant {
    /// operator, organizer or webhook.
    pub kind: String,
    /// The organizer a direct-login role acts for; None: the token says it.
    pub user_id: Option<Uuid>,
}

/// What the role, or a role whose rights it has, was named for.
pub fn of(role: pg_sys::Oid) -> Result<Vec<Grant>> {
    const SQL: &str = "SELECT r.kind, r.user_id
                       FROM @extschema@.whatsapp_roles AS r
                       JOIN pg_catalog.pg_roles AS a ON a.rolname = r.role_name
                       WHERE pg_catalog.pg_has_role($1, a.oid, 'USAGE')";
    store::read(SQL, &[role.into()], |row| Ok(Grant { kind: row.get(1)?, user_id: row.opt(2)? }))
}

/// Remembers that a role was named for something.
pub fn add(role: &str, kind: &str, user_id: Option<Uuid>) -> Result<()> {
    const SQL: &str = "INSERT INTO @extschema@.whatsapp_roles (role_name, kind, user_id) VALUES ($1::name, $2, $3)
                       ON CONFLICT DO NOTHING";
    store::execute(SQL, &[role.into(), kind.into(), user_id.into()]).map(drop)
}

/// The `sub` of the request's token, the PostgREST convention. Whoever has SQL can set it, so only callers that were
/// named as API roles may be believed. After a `SET LOCAL` has ended the setting is an empty text.
pub fn jwt_subject() -> Result<Option<Uuid>> {
    const SQL: &str = "SELECT pg_catalog.current_setting('request.jwt.claims', true)";
    let claims = Spi::connect(|client| -> Result<Option<String>> {
        Ok(client.select(SQL, Some(1), &[])?.first().get_one::<String>()?)
    })?;
    Ok(claims
        .and_then(|claims| serde_json::from_str::<serde_json::Value>(&claims).ok())
        .and_then(|claims| claims.get("sub")?.as_str().and_then(parse_uuid)))
}

/// The name of the role that is calling. Must be asked before the rights are switched.
pub fn current() -> Result<String> {
    const SQL: &str = "SELECT CURRENT_USER::text";
    Spi::connect(|client| Ok(client.select(SQL, Some(1), &[])?.first().get_one::<String>()?.unwrap_or_default()))
}

/// Reads a uuid in its usual text form.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'-').collect();
    let mut bytes = [0_u8; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Uuid::from_bytes(bytes))
}
