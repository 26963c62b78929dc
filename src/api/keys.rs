//! Keys that encrypt secrets: made at installation, exported and imported for moves, rotated. For the owner alone.

use keyring::Key;
use pgrx::{pg_extern, pg_sys};

use super::{Answer, required};
use crate::caller;
use crate::error::{Error, Kind, Result};
use crate::secrets::{self, Column};
use crate::settings;
use crate::store::{self, config, keys};

/// The key that seals, as text. Whoever has it can open the tokens of this database.
#[pg_extern(sql = false)]
fn wa_export_key() -> Answer<String> {
    let run = || -> Result<_> {
        check_is_owner("export the encryption key")?;
        if let Some(path) = settings::key_file() {
            return Err(Error::new(Kind::NotReady, "the encryption key lies in a file")
                .detail(format!("whatsapp_pg.key_file is \"{path}\"; the keys in the table seal nothing now."))
                .hint("Copy the file to the other server and set whatsapp_pg.key_file there."));
        }
        caller::as_owner(|| {
            keys::all()?.into_iter().next().ok_or_else(|| {
                Error::new(Kind::NotReady, "there is no key in the table whatsapp_keys")
                    .detail("With whatsapp_pg.key_file the key lies in that file.")
            })
        })
    };
    Ok(run()?)
}

/// Adds a key that another database exported; answers its id.
#[pg_extern(sql = false)]
fn wa_import_key(key: Option<&str>) -> Answer<String> {
    let run = || -> Result<_> {
        check_is_owner("import an encryption key")?;
        let key = Key::parse(required(key, "key")?.trim()).map_err(|error| {
            Error::new(Kind::InvalidParameter, "this is not an encryption key")
                .detail(error.to_string())
                .hint("Pass what wa_export_key() answered in the other database.")
        })?;
        caller::as_owner(|| {
            let id = key.id().to_string();
            keys::add(&id, &key.to_export())?;
            Ok(id)
        })
    };
    Ok(run()?)
}

/// Makes a new key (or takes the first one of the key file) and seals every secret with it; answers its id.
#[pg_extern(sql = false)]
fn wa_rotate_key() -> Answer<String> {
    let run = || -> Result<_> {
        check_is_owner("rotate the encryption key")?;
        caller::as_owner(rotate)
    };
    Ok(run()?)
}

fn rotate() -> Result<String> {
    let mut opened = Vec::new();
    for (organizer, token, app_secret) in config::secrets()? {
        let open = |column, value: &str| -> Result<Option<keyring::Secret>> {
            if keyring::is_sealed(value) { secrets::open(&organizer, column, value).map(Some) } else { Ok(None) }
        };
        let plain_token = open(Column::Token, &token)?;
        let plain_secret = app_secret.as_deref().map(|value| open(Column::AppSecret, value)).transpose()?.flatten();
        opened.push((organizer, token, plain_token, app_secret, plain_secret));
    }
    // With a key file, its first line is the key that seals: it was put there by hand, and only the sealing is left to do.
    if settings::key_file().is_none() {
        let key = Key::generate()?;
        let id = key.id().to_string();
        keys::add(&id, &key.to_export())?;
        keys::use_for_sealing(&id)?;
    }
    for (organizer, token, plain_token, app_secret, plain_secret) in opened {
        let token = match plain_token {
            Some(plain) => secrets::to_store(&organizer, Column::Token, plain.expose())?,
            None => token,
        };
        let app_secret = match plain_secret {
            Some(plain) => Some(secrets::to_store(&organizer, Column::AppSecret, plain.expose())?),
            None => app_secret,
        };
        config::replace_secrets(&organizer, &token, app_secret.as_deref())?;
    }
    Ok(secrets::keyring()?.sealing_key().to_string())
}

/// Operators run the queue; keys are for the owner and superusers alone.
fn check_is_owner(what: &str) -> Result<()> {
    let owner = store::installed()?.owner;
    // SAFETY: catalog look-ups in a transaction.
    let is_owner = unsafe {
        let user = pg_sys::GetUserId();
        pg_sys::superuser_arg(user) || pg_sys::has_privs_of_role(user, owner)
    };
    if is_owner {
        return Ok(());
    }
    Err(Error::new(Kind::Privilege, format!("permission denied to {what}"))
        .hint("Only a superuser or the owner of the extension may do this."))
}
