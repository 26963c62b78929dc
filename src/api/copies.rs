//! `wa_adopt_copy`.

use pgrx::pg_extern;

use super::Answer;
use crate::caller::{self, Caller};
use crate::error::Result;
use crate::store::installation;
use crate::wake::{self, News};

/// Says that this database is the one that sends now; answers how many accounts were adopted.
#[pg_extern(sql = false)]
fn wa_adopt_copy() -> Answer<i64> {
    let run = || -> Result<_> {
        Caller::current()?.check_is_operator("adopt a copy")?;
        let adopted = caller::as_owner(installation::adopt)?;
        wake::drainer_at_commit(News::Accounts);
        Ok(i64::try_from(adopted).unwrap_or(i64::MAX))
    };
    Ok(run()?)
}
