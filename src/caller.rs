//! Who is calling, for whom they may act, and how the code takes the extension owner's rights once that is settled.
//!
//! Entry points are SECURITY INVOKER: inside a SECURITY DEFINER function the caller cannot be told from the session's
//! role, so an application's own definer function would be refused. They check `GetUserId()` first and switch afterwards.

use std::collections::BTreeSet;

use pgrx::{Uuid, pg_sys};

use crate::error::{Error, Kind, Result};
use crate::store::{self, roles};

/// Runs the code with the rights of the extension's owner; the caller's rights come back afterwards, also on an error.
pub fn as_owner<R>(run: impl FnOnce() -> Result<R>) -> Result<R> {
    let owner = store::installed()?.owner;
    as_role(owner, 0, run)
}

/// Runs the code with the rights of a role that owns somebody else's tables or views. Their functions run too, so the
/// code cannot change roles, settings or make temporary objects that outlive it (SECURITY_RESTRICTED_OPERATION).
pub fn as_restricted<R>(role: pg_sys::Oid, run: impl FnOnce() -> Result<R>) -> Result<R> {
    as_role(role, pg_sys::SECURITY_RESTRICTED_OPERATION.cast_signed(), run)
}

fn as_role<R>(role: pg_sys::Oid, context: i32, run: impl FnOnce() -> Result<R>) -> Result<R> {
    let _switched = Switched::to(role, context);
    run()
}

struct Switched {
    user: pg_sys::Oid,
    context: i32,
}

impl Switched {
    fn to(role: pg_sys::Oid, context: i32) -> Self {
        let mut before = Self { user: pg_sys::InvalidOid, context: 0 };
        let local = pg_sys::SECURITY_LOCAL_USERID_CHANGE.cast_signed();
        // SAFETY: both calls only read and write the process's user id; the destructor undoes it, and so does the end
        // of the transaction when an error passes without unwinding.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&raw mut before.user, &raw mut before.context);
            pg_sys::SetUserIdAndSecContext(role, before.context | local | context);
        }
        before
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        // SAFETY: see Switched::to.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// For whom the caller may act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// For every organizer: superusers, the owner, roles named with wa_grant_operator().
    Operator,
    /// For these organizers only.
    Organizers(BTreeSet<[u8; 16]>),
}

impl Caller {
    /// Who is calling now. Must be asked before the rights are switched.
    pub fn current() -> Result<Self> {
        // SAFETY: reads the current user id.
        let user = unsafe { pg_sys::GetUserId() };
        let owner = store::installed()?.owner;
        // SAFETY: catalog look-ups in a transaction.
        if unsafe { pg_sys::superuser_arg(user) || pg_sys::has_privs_of_role(user, owner) } {
            return Ok(Self::Operator);
        }
        let grants = as_owner(|| roles::of(user))?;
        if grants.iter().any(|grant| grant.kind == "operator") {
            return Ok(Self::Operator);
        }
        let mut organizers = BTreeSet::new();
        for grant in grants.iter().filter(|grant| grant.kind == "organizer") {
            match grant.user_id {
                Some(organizer) => organizers.extend([*organizer.as_bytes()]),
                None => organizers.extend(roles::jwt_subject()?.map(|subject| *subject.as_bytes())),
            }
        }
        Ok(Self::Organizers(organizers))
    }

    /// Refuses when the caller may not act for this organizer.
    pub fn check_may_act_for(&self, organizer: &Uuid) -> Result<()> {
        match self {
            Self::Operator => Ok(()),
            Self::Organizers(own) if own.contains(organizer.as_bytes()) => Ok(()),
            Self::Organizers(own) if own.is_empty() => Err(Error::new(
                Kind::Privilege,
                format!("permission denied to act for organizer {organizer}"),
            )
            .detail("The current role acts for no organizer: it is not named with wa_grant_organizer(), or request.jwt.claims has no \"sub\".")
            .hint("Let a superuser run wa_grant_organizer('<role>') or wa_grant_organizer('<role>', '<organizer>').")),
            Self::Organizers(_) => Err(Error::new(
                Kind::Privilege,
                format!("permission denied to act for organizer {organizer}"),
            )
            .detail("The current role acts for another organizer.")
            .hint("Use the organizer's own role or token, or a role named with wa_grant_operator().")),
        }
    }

    /// Refuses everybody but operators.
    pub fn check_is_operator(&self, what: &str) -> Result<()> {
        match self {
            Self::Operator => Ok(()),
            Self::Organizers(_) => Err(Error::new(Kind::Privilege, format!("permission denied to {what}"))
                .hint("Only a superuser, the extension's owner or a role named with wa_grant_operator() may do this.")),
        }
    }

    /// The one organizer the caller acts for, when the call names none.
    pub fn only_organizer(&self) -> Result<Uuid> {
        match self {
            Self::Organizers(own) => match own.iter().collect::<Vec<_>>().as_slice() {
                [one] => Ok(Uuid::from_bytes(**one)),
                [] => Err(Error::new(Kind::Privilege, "no organizer is known for the current role")
                    .detail("request.jwt.claims has no \"sub\", and the role is mapped to no organizer.")
                    .hint("Call it through PostgREST with a token whose \"sub\" is the organizer, or use wa_enqueue(user_id => …).")),
                _ => Err(Error::new(Kind::InvalidParameter, "the current role acts for several organizers")
                    .hint("Name one: wa_enqueue(user_id => …).")),
            },
            Self::Operator => roles::jwt_subject()?.ok_or_else(|| {
                Error::new(Kind::InvalidParameter, "no organizer is known for this call")
                    .detail("request.jwt.claims has no \"sub\".")
                    .hint("Use wa_enqueue(user_id => …), which names the organizer.")
            }),
        }
    }
}
