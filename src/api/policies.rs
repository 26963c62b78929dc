//! `wa_set_policy`: what an organizer wants done about failures.

use pgrx::datum::Interval;
use pgrx::{Uuid, pg_extern};

use super::{Answer, check_writable, required};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::store::config::{self, Policy};

/// Sets policies; what is None stays.
#[pg_extern(sql = false)]
fn wa_set_policy(
    user_id: Option<Uuid>,
    max_retries: Option<i32>,
    retry_delay: Option<Interval>,
    on_unknown: Option<&str>,
) -> Answer<()> {
    Ok(set_policy(user_id, max_retries, retry_delay, on_unknown)?)
}

fn set_policy(
    user_id: Option<Uuid>,
    max_retries: Option<i32>,
    retry_delay: Option<Interval>,
    on_unknown: Option<&str>,
) -> Result<()> {
    check_writable("set a policy")?;
    let organizer = required(user_id, "user_id")?;
    Caller::current()?.check_may_act_for(&organizer)?;
    if let Some(retries) = max_retries.filter(|retries| !(0..=20).contains(retries)) {
        return Err(Error::new(Kind::InvalidParameter, "max_retries must be between 0 and 20")
            .detail(format!("It is {retries}."))
            .hint("3 is the default; every retry waits twice as long as the one before."));
    }
    let seconds = retry_delay.map(|delay| delay.as_micros() as f64 / 1e6);
    if seconds.is_some_and(|seconds| !(1.0..=6.0 * 3600.0).contains(&seconds)) {
        return Err(Error::new(Kind::InvalidParameter, "retry_delay must be between 1 second and 6 hours")
            .detail("It is the wait before the first retry.")
            .hint("5 minutes is the default."));
    }
    if let Some(other) = on_unknown.filter(|policy| !matches!(*policy, "keep" | "resend" | "fail")) {
        return Err(Error::new(Kind::InvalidParameter, "on_unknown must be keep, resend or fail")
            .detail(format!("It is \"{other}\"."))
            .hint(
                "keep: a person decides with wa_retry(id, force => true); resend: only while webhooks arrive; fail.",
            ));
    }
    let policy = Policy { organizer, max_retries, retry_delay: seconds, on_unknown };
    let found = caller::as_owner(|| config::set_policy(&policy))?;
    if found {
        return Ok(());
    }
    Err(Error::new(Kind::UndefinedObject, format!("WhatsApp is not configured for organizer {organizer}"))
        .detail("whatsapp_config has no row for this organizer.")
        .hint("Run wa_configure() first."))
}
