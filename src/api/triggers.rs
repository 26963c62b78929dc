//! Trigger functions. They only look at NEW and never refuse what once was valid: they exist already when pg_restore
//! copies rows through them.

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::{PgTrigger, Uuid, WhoAllocated, pg_trigger};

use crate::caller;
use crate::error::{Error, Kind, Result};
use crate::secrets::{self, Column};
use crate::store::{self, admission, config, holds, installation};
use crate::wake::{self, News};

/// A row under construction.
pub type Tuple<'a> = PgHeapTuple<'a, pgrx::AllocatedByRust>;

/// Raises an error from a trigger as itself; returned errors would arrive as internal ones.
pub fn raise<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            pgrx::pg_sys::panic::ErrorReport::from(error).report(pgrx::PgLogLevel::ERROR);
            None
        }
    }
}

/// AFTER INSERT OR UPDATE … FOR EACH STATEMENT: the worker looks when this transaction has committed.
#[pg_trigger(sql = false)]
fn whatsapp_wake<'a>(
    trigger: &'a PgTrigger<'a>,
) -> std::result::Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, pgrx::PgTriggerError> {
    wake::drainer_at_commit(News::Queue);
    let _ = trigger;
    Ok(None::<Tuple<'a>>)
}

/// AFTER INSERT OR UPDATE OR DELETE … FOR EACH STATEMENT: what the worker remembers of accounts and templates is out of
/// date once this transaction has committed.
#[pg_trigger(sql = false)]
fn whatsapp_accounts_changed<'a>(
    trigger: &'a PgTrigger<'a>,
) -> std::result::Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, pgrx::PgTriggerError> {
    wake::drainer_at_commit(News::Accounts);
    let _ = trigger;
    Ok(None::<Tuple<'a>>)
}

/// BEFORE INSERT OR UPDATE ON whatsapp_config: seals plain secrets and stamps new accounts with this database.
#[pg_trigger(sql = false)]
fn whatsapp_config_protect<'a>(
    trigger: &'a PgTrigger<'a>,
) -> std::result::Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, pgrx::PgTriggerError> {
    Ok(raise(protect(trigger)))
}

fn protect<'a>(trigger: &'a PgTrigger<'a>) -> Result<Tuple<'a>> {
    let new = trigger.new().ok_or_else(|| Error::new(Kind::Internal, "the trigger has no new row"))?;
    let mut row = new.into_owned();
    let Some(organizer) = row.get_by_name::<Uuid>("user_id").map_err(damaged)? else {
        return Ok(row);
    };
    for (name, column) in [("access_token_encrypted", Column::Token), ("app_secret_encrypted", Column::AppSecret)] {
        let Some(value) = row.get_by_name::<String>(name).map_err(damaged)? else {
            continue;
        };
        let before = trigger.old().and_then(|old| old.get_by_name::<String>(name).ok().flatten());
        if keyring::is_sealed(&value) || before.as_deref() == Some(value.as_str()) {
            continue;
        }
        if secrets::is_reference(&value) {
            secrets::check_may_refer(&value)?;
            continue;
        }
        let sealed = caller::as_owner(|| secrets::to_store(&organizer, column, &value))?;
        row.set_by_name(name, sealed).map_err(damaged)?;
    }
    if let Some(old) = trigger.old() {
        let (from, to) = (portfolio_key(&old.into_owned())?, portfolio_key(&row)?);
        let is_current = store::installed()?.is_current();
        if from != to && is_current {
            caller::as_owner(|| admission::follow_portfolio(&from, &to))?;
        }
    }
    if let Some(old) = trigger.old()
        && store::installed()?.is_current()
        && has_new_access(&old.into_owned(), &row)?
    {
        caller::as_owner(|| holds::forget_for_account(&organizer))?;
    }
    let is_stamped = row.get_by_name::<Uuid>("sender_installation").map_err(damaged)?.is_some()
        && row.get_by_name::<pgrx::pg_sys::Oid>("sender_database").map_err(damaged)?.is_some();
    if !is_stamped {
        let here = caller::as_owner(installation::id)?;
        row.set_by_name("sender_installation", here).map_err(damaged)?;
        row.set_by_name("sender_database", installation::database()).map_err(damaged)?;
    }
    Ok(row)
}

/// Whether there is another token or number, or the account was switched on: what Meta held is to be tried anew.
fn has_new_access(old: &Tuple<'_>, new: &Tuple<'_>) -> Result<bool> {
    for name in ["access_token_encrypted", "phone_number_id", "status"] {
        if field::<String>(old, name)? != field::<String>(new, name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn portfolio_key(row: &Tuple<'_>) -> Result<String> {
    let portfolio_id = field::<String>(row, "portfolio_id")?;
    let business_account_id = field::<String>(row, "business_account_id")?.unwrap_or_default();
    Ok(config::portfolio_key(portfolio_id.as_deref(), &business_account_id))
}

/// A field of a row of ours.
pub fn field<T>(row: &Tuple<'_>, name: &str) -> Result<Option<T>>
where
    T: pgrx::FromDatum + pgrx::IntoDatum + for<'a> pgrx::datum::UnboxDatum<As<'a> = T>,
{
    row.get_by_name(name).map_err(damaged)
}

fn damaged(error: pgrx::datum::TryFromDatumError) -> Error {
    Error::new(Kind::Internal, format!("a table of whatsapp_pg has not the expected columns: {error}"))
}
