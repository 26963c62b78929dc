//! Tokens and app secrets between SQL and the worker: sealed on the way in, opened only where a call is made.
//!
//! A stored value is one of: sealed text (`wa1:…`), `vault:<name>` (Supabase Vault), `file:<path>` on the server.
//! No SQL function opens a value, and none of the errors here repeats one.

use keyring::{Context, Key, Keyring, Secret};
use pgrx::{Uuid, pg_sys};

use crate::caller;
use crate::error::{Error, Kind, Result};
use crate::settings;
use crate::store::{self, keys};

/// The columns that hold secrets; part of what a value is sealed with.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// whatsapp_config.access_token_encrypted
    Token,
    /// whatsapp_config.app_secret_encrypted
    AppSecret,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "access_token_encrypted",
            Self::AppSecret => "app_secret_encrypted",
        }
    }

    fn context(self, organizer: &Uuid) -> Context<'static> {
        Context { organizer: *organizer.as_bytes(), column: self.name() }
    }
}

/// The keys in force: those of `key_file` first, then those of the table. Needs the owner's rights.
pub fn keyring() -> Result<Keyring> {
    let stored = keys::all()?
        .iter()
        .map(|text| {
            Key::parse(text).map_err(|error| {
                Error::new(Kind::System, "a key in whatsapp_keys is damaged").detail(error.to_string())
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if let Some(path) = settings::key_file() {
        let from_file = keyring::read_key_file(&path).map_err(|error| {
            Error::new(Kind::ConfigFile, format!("key file \"{path}\" cannot be used"))
                .detail(error.to_string())
                .hint("whatsapp_pg.key_file names a file with one base64 key of 32 bytes a line, readable by the server alone (chmod 600). Make one with: openssl rand -base64 32")
        })?;
        return Ok(from_file.also_opening(stored));
    }
    if stored.is_empty() {
        return Err(Error::new(Kind::NotReady, "there is no encryption key")
            .detail("The table whatsapp_keys is empty and whatsapp_pg.key_file is not set.")
            .hint("Run wa_rotate_key() to make a key, or wa_import_key() with the one an earlier database used."));
    }
    Ok(Keyring::new(stored)?)
}

/// What a caller may hand in, made fit for storing: references pass, sealed text passes, plain text is sealed.
pub fn to_store(organizer: &Uuid, column: Column, given: &str) -> Result<String> {
    if is_reference(given) || keyring::is_sealed(given) {
        return Ok(given.to_owned());
    }
    Ok(keyring()?.seal(given, &column.context(organizer))?)
}

/// Opens a stored value. Needs the owner's rights.
pub fn open(organizer: &Uuid, column: Column, stored: &str) -> Result<Secret> {
    if let Some(name) = stored.strip_prefix("vault:") {
        return from_vault(name);
    }
    if let Some(path) = stored.strip_prefix("file:") {
        return from_file(path);
    }
    keyring()?.open(stored, &column.context(organizer)).map_err(|error| {
        Error::new(Kind::NotReady, "the access token cannot be decrypted")
            .detail(error.to_string())
            .hint("Import the key of the database it comes from with wa_import_key(), or run wa_configure() again.")
    })
}

/// Whether the value only says where the secret is.
pub fn is_reference(value: &str) -> bool {
    value.starts_with("vault:") || value.starts_with("file:")
}

/// Only roles that may read server files anyway may have the server read one for them, and the same goes for the vault,
/// where other tenants' secrets lie.
pub fn check_may_refer(value: &str) -> Result<()> {
    if !is_reference(value) {
        return Ok(());
    }
    // SAFETY: catalog look-ups in a transaction.
    let may = unsafe {
        let user = pg_sys::GetUserId();
        pg_sys::superuser_arg(user)
            || pg_sys::has_privs_of_role(user, pg_sys::Oid::from(pg_sys::ROLE_PG_READ_SERVER_FILES))
            || user == store::installed()?.owner
    };
    if may {
        return Ok(());
    }
    Err(Error::new(Kind::Privilege, "permission denied to refer to a file or to the vault")
        .detail("file: and vault: references are read with the extension's rights.")
        .hint("A superuser or a member of pg_read_server_files may set them."))
}

fn from_vault(name: &str) -> Result<Secret> {
    const OWNER: &str =
        "SELECT c.relowner FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass('vault.decrypted_secrets')";
    const SECRET: &str = "SELECT s.decrypted_secret FROM vault.decrypted_secrets AS s WHERE s.name = $1 LIMIT 1";
    let missing = |detail: &str| {
        Error::new(Kind::NotReady, format!("the vault has no secret \"{name}\"")).detail(detail.to_owned())
    };
    let owner: Option<pg_sys::Oid> = store::read(OWNER, &[], |row| row.get(1))?.pop();
    let Some(owner) = owner else {
        return Err(missing("There is no view vault.decrypted_secrets: Supabase Vault is not installed."));
    };
    let found = caller::as_restricted(owner, || store::read(SECRET, &[name.into()], |row| row.get::<String>(1)))?.pop();
    found.map(Secret::new).ok_or_else(|| missing("The view vault.decrypted_secrets has no row of this name."))
}

fn from_file(path: &str) -> Result<Secret> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(Kind::System, format!("secret file \"{path}\" cannot be read")).detail(error.to_string())
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::new(Kind::System, format!("secret file \"{path}\" is empty")));
    }
    Ok(Secret::new(text.to_owned()))
}
