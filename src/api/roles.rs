//! `wa_grant_operator`, `wa_grant_organizer`: what a DBA's own roles may do. The privileges themselves are granted in SQL
//! (`sql/security.sql`); here a role's meaning is remembered and looked up.

use pgrx::{Uuid, pg_extern, pg_sys};

use super::{Answer, required};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::store::{self, roles};

/// Remembers what a role was named for. Called by the SQL functions that grant the privileges.
#[pg_extern(sql = false)]
fn wa_name_role(role: Option<&str>, kind: Option<&str>, user_id: Option<Uuid>) -> Answer<()> {
    let run = || -> Result<_> {
        let (role, kind) = (required(role, "role")?, required(kind, "kind")?);
        let owner = store::installed()?.owner;
        // SAFETY: catalog look-ups in a transaction.
        let may = unsafe {
            let user = pg_sys::GetUserId();
            pg_sys::superuser_arg(user) || pg_sys::has_privs_of_role(user, owner)
        };
        if !may {
            return Err(Error::new(Kind::Privilege, "permission denied to name roles")
                .hint("Only a superuser or the owner of the extension may do this."));
        }
        caller::as_owner(|| roles::add(role, kind, user_id))
    };
    Ok(run()?)
}

/// Whether the current role may act for every organizer. For row security.
#[pg_extern(sql = false)]
fn wa_is_operator() -> Answer<bool> {
    Ok(Caller::current()? == Caller::Operator)
}

/// The organizers the current role acts for. For row security.
#[pg_extern(sql = false)]
fn wa_my_organizers() -> Answer<Vec<Uuid>> {
    let run = || -> Result<_> {
        Ok(match Caller::current()? {
            Caller::Operator => Vec::new(),
            Caller::Organizers(own) => own.into_iter().map(Uuid::from_bytes).collect(),
        })
    };
    Ok(run()?)
}
