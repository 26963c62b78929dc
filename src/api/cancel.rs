//! `wa_cancel`.

use pgrx::{Uuid, pg_extern};

use super::{Answer, check_writable};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::store::queue::{self, Selection};

/// Cancels what is still queued: one message, or those of a task, event, campaign or organizer.
#[pg_extern(sql = false)]
fn wa_cancel(
    id: Option<Uuid>,
    task_id: Option<Uuid>,
    event_id: Option<Uuid>,
    campaign_id: Option<Uuid>,
    user_id: Option<Uuid>,
) -> Answer<i64> {
    Ok(cancel(&Selection { id, task_id, event_id, campaign_id, organizer: user_id })?)
}

fn cancel(selection: &Selection) -> Result<i64> {
    check_writable("cancel messages")?;
    let Selection { id, task_id, event_id, campaign_id, organizer } = selection;
    if [id, task_id, event_id, campaign_id, organizer].iter().all(|given| given.is_none()) {
        return Err(Error::new(Kind::InvalidParameter, "wa_cancel() must be told what to cancel")
            .detail("All arguments are null.")
            .hint("Name one of: id, task_id, event_id, campaign_id, user_id."));
    }
    let caller = Caller::current()?;
    caller::as_owner(|| {
        if caller != Caller::Operator {
            for organizer in queue::organizers_of(selection)? {
                caller.check_may_act_for(&organizer)?;
            }
        }
        Ok(i64::try_from(queue::cancel(selection)?).unwrap_or(i64::MAX))
    })
}
