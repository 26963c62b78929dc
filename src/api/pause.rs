//! `wa_pause` and `wa_resume`: holds by hand.

use cloud_api::holds::Scope;
use cloud_api::phone::PhoneNumber;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Uuid, pg_extern, pg_sys};

use super::{Answer, check_writable, required};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::store::holds::{self, Subject};
use crate::store::queue::{self, Selection};
use crate::store::{roles, tasks};
use crate::time::Timestamp;

/// Holds messages back.
#[pg_extern(sql = false)]
#[expect(clippy::too_many_arguments, reason = "they are the SQL function's")]
fn wa_pause(
    user_id: Option<Uuid>,
    id: Option<Uuid>,
    task_id: Option<Uuid>,
    event_id: Option<Uuid>,
    campaign_id: Option<Uuid>,
    template_name: Option<&str>,
    recipient: Option<&str>,
    until: Option<TimestampWithTimeZone>,
    reason: Option<&str>,
) -> Answer<i64> {
    let named = Named { user_id, id, task_id, event_id, campaign_id, template_name, recipient };
    Ok(pause(&named, until, reason)?)
}

/// Ends holds.
#[pg_extern(sql = false)]
fn wa_resume(
    user_id: Option<Uuid>,
    id: Option<Uuid>,
    task_id: Option<Uuid>,
    event_id: Option<Uuid>,
    campaign_id: Option<Uuid>,
    template_name: Option<&str>,
    recipient: Option<&str>,
) -> Answer<i64> {
    let named = Named { user_id, id, task_id, event_id, campaign_id, template_name, recipient };
    Ok(resume(&named)?)
}

fn pause(named: &Named, until: Option<TimestampWithTimeZone>, reason: Option<&str>) -> Result<i64> {
    check_writable("hold messages")?;
    let until = Timestamp(pg_sys::TimestampTz::from(required(until, "until")?));
    if until <= Timestamp::now() {
        return Err(Error::new(Kind::InvalidParameter, "until must lie in the future")
            .detail("A hold that is over holds nothing.")
            .hint("Leave it out to hold until wa_resume()."));
    }
    let what = named.what()?;
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty()).unwrap_or("paused with wa_pause()");
    let by = roles::current()?;
    let caller = Caller::current()?;
    caller::as_owner(|| {
        let organizers = named.organizers(&caller)?;
        for organizer in &organizers {
            caller.check_may_act_for(organizer)?;
            match &what {
                What::Recipient(phone) => holds::pause_recipient(organizer, phone, until, reason)?,
                What::Scope(scope, subject) => {
                    let subject = subject.clone().unwrap_or_else(|| organizer.to_string());
                    holds::pause(&Subject { organizer: *organizer, scope: *scope, subject }, until, reason, &by)?;
                }
            }
        }
        Ok(i64::try_from(organizers.len()).unwrap_or(i64::MAX))
    })
}

fn resume(named: &Named) -> Result<i64> {
    check_writable("resume messages")?;
    let what = named.what()?;
    let caller = Caller::current()?;
    caller::as_owner(|| {
        let mut ended = 0;
        for organizer in named.organizers(&caller)? {
            caller.check_may_act_for(&organizer)?;
            ended += match &what {
                What::Recipient(phone) => u64::from(holds::resume_recipient(&organizer, phone)?),
                What::Scope(scope, subject) => {
                    let subject = subject.clone().unwrap_or_else(|| organizer.to_string());
                    holds::resume(&Subject { organizer, scope: *scope, subject })?
                }
            };
        }
        Ok(i64::try_from(ended).unwrap_or(i64::MAX))
    })
}

/// What the arguments name.
struct Named<'a> {
    user_id: Option<Uuid>,
    id: Option<Uuid>,
    task_id: Option<Uuid>,
    event_id: Option<Uuid>,
    campaign_id: Option<Uuid>,
    template_name: Option<&'a str>,
    recipient: Option<&'a str>,
}

enum What {
    /// The subject; None: the organizer.
    Scope(Scope, Option<String>),
    Recipient(String),
}

impl Named<'_> {
    fn what(&self) -> Result<What> {
        let ids = [
            (Scope::Message, self.id),
            (Scope::Task, self.task_id),
            (Scope::Event, self.event_id),
            (Scope::Campaign, self.campaign_id),
        ];
        let mut all: Vec<What> =
            ids.into_iter().filter_map(|(scope, id)| Some(What::Scope(scope, Some(id?.to_string())))).collect();
        if let Some(template) = self.template_name {
            all.push(What::Scope(Scope::Template, Some(template.to_owned())));
        }
        if let Some(recipient) = self.recipient {
            let parsed = PhoneNumber::parse(recipient).map_err(|error| {
                Error::new(Kind::InvalidParameter, "recipient is not a phone number")
                    .detail(format!("{error}."))
                    .hint("Write it in E.164, such as +14155550123.")
            })?;
            all.push(What::Recipient(parsed.number.as_str().to_owned()));
        }
        match (all.len(), self.user_id) {
            (0, Some(_)) => Ok(What::Scope(Scope::Account, None)),
            (0, None) => Err(Error::new(Kind::InvalidParameter, "it must be said what is meant")
                .detail("All arguments are null.")
                .hint("Name one of: id, task_id, event_id, campaign_id, template_name, recipient; or user_id alone for all of an organizer.")),
            (1, _) => Ok(all.remove(0)),
            _ => Err(Error::new(Kind::InvalidParameter, "only one thing can be named at a time")
                .detail("Of id, task_id, event_id, campaign_id, template_name and recipient several are given.")
                .hint("Call it once for each.")),
        }
    }

    /// Whose it is.
    fn organizers(&self, caller: &Caller) -> Result<Vec<Uuid>> {
        if let Some(organizer) = self.user_id {
            return Ok(vec![organizer]);
        }
        if self.template_name.is_some() || self.recipient.is_some() {
            return match caller {
                Caller::Organizers(_) => Ok(vec![caller.only_organizer()?]),
                Caller::Operator => Err(Error::null("user_id")),
            };
        }
        let (id, task_id, event_id, campaign_id) = (self.id, self.task_id, self.event_id, self.campaign_id);
        let mut found = queue::organizers_of(&Selection { id, task_id, event_id, campaign_id, organizer: None })?;
        found.extend(tasks::organizers_of(task_id, event_id)?);
        found.sort_unstable_by_key(|organizer| *organizer.as_bytes());
        found.dedup();
        // What is another organizer's does not exist for the caller.
        found.retain(|organizer| caller.check_may_act_for(organizer).is_ok());
        if found.is_empty() {
            return Err(Error::new(Kind::UndefinedObject, "nothing of that kind is queued or planned")
                .detail("No message and no task that the current role may see has this id.")
                .hint("Name the organizer with user_id => … to hold what is not there yet."));
        }
        Ok(found)
    }
}
