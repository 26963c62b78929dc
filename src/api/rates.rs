//! `wa_rate_ok` and `wa_rate_status`: what admission would say now, from the same state admission works with.

use cloud_api::pacing::Pace;
use cloud_api::tier::Tier;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Uuid, name, pg_extern};

use super::{Answer, required};
use crate::caller::{self, Caller};
use crate::error::Result;
use crate::graph;
use crate::secrets::{self, Column};
use crate::settings::{Mode, Settings};
use crate::store::{admission, config};
use crate::time::Timestamp;

/// One limit and how much of it is used.
struct Limit {
    name: &'static str,
    allowed: Option<i64>,
    used: Option<i64>,
    next: Option<Timestamp>,
    reason: Option<String>,
}

/// Whether this organizer may send now.
#[pg_extern(sql = false)]
fn wa_rate_ok(user_id: Option<Uuid>) -> Answer<bool> {
    Ok(limits(user_id)?.iter().all(|limit| limit.reason.is_none()))
}

/// Each limit: what it allows, what is used, when the next message may leave, and why not now.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "it is the SQL function's result")]
fn wa_rate_status(
    user_id: Option<Uuid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(limit_name, &'static str),
            name!(allowed, Option<i64>),
            name!(used, Option<i64>),
            name!(remaining, Option<i64>),
            name!(next_admission, Option<TimestampWithTimeZone>),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(limits(user_id)?.into_iter().map(|limit| {
        let remaining = limit.allowed.map(|allowed| (allowed - limit.used.unwrap_or(0)).max(0));
        let next = limit.next.and_then(|at| TimestampWithTimeZone::try_from(at.0).ok());
        (limit.name, limit.allowed, limit.used, remaining, next, limit.reason)
    })))
}

fn limits(user_id: Option<Uuid>) -> Result<Vec<Limit>> {
    let organizer = required(user_id, "user_id")?;
    Caller::current()?.check_may_act_for(&organizer)?;
    let now = Timestamp::now();
    caller::as_owner(|| {
        let mut limits = vec![account_limit(&organizer)?];
        let Some(account) = config::account(&organizer)? else {
            return Ok(limits);
        };
        limits.push(throughput(&account, now)?);
        match Tier::parse(&account.tier) {
            Err(error) => limits.push(Limit {
                name: "recipients per 24 hours",
                allowed: None,
                used: None,
                next: None,
                reason: Some(error.to_string()),
            }),
            Ok(tier) => limits.extend(of_tier(&account, tier, now)?),
        }
        Ok(limits)
    })
}

/// Whether the account exists, is active, and belongs to this database.
fn account_limit(organizer: &Uuid) -> Result<Limit> {
    let settings = Settings::current();
    let reason = match config::account(organizer)? {
        _ if settings.mode == Mode::Off => Some("whatsapp_pg.mode is off".to_owned()),
        None => Some("WhatsApp is not configured for this organizer: run wa_configure()".to_owned()),
        Some(account) if !account.is_active => Some("the account is not active".to_owned()),
        Some(account) if !account.is_here => Some(config::COPY.to_owned()),
        Some(account) => secrets::open(organizer, Column::Token, &account.token)
            .err()
            .or_else(|| graph::client(&settings, 1).err())
            .map(|error| error.one_line()),
    };
    Ok(Limit { name: "account", allowed: None, used: None, next: None, reason })
}

fn throughput(account: &config::Account, now: Timestamp) -> Result<Limit> {
    let pace = Pace { per_second: account.per_second };
    let next_free = admission::pace(&account.phone_number_id)?.unwrap_or(now).max(now);
    let ahead = next_free.0 - now.0;
    // Slots given away ahead of now are this second's use of the number.
    let used = (ahead + pace.interval_us() - 1) / pace.interval_us();
    let is_full = ahead >= 1_000_000;
    Ok(Limit {
        name: "messages per second",
        allowed: Some(i64::from(account.per_second)),
        used: Some(used.min(i64::from(account.per_second))),
        next: Some(next_free),
        reason: is_full.then(|| "the number's next second is given away".to_owned()),
    })
}

fn of_tier(account: &config::Account, tier: Tier, now: Timestamp) -> Result<Vec<Limit>> {
    let allowed = tier.daily_recipients().map(i64::from);
    let day = admission::recipients_of_day(&account.portfolio, now)?;
    let minute = admission::minute(&account.portfolio, &account.organizer, now)?;
    let is_over = |used: i64| allowed.is_some_and(|allowed| used >= allowed);
    let day_frees = if is_over(day) { admission::first_recipient_at(&account.portfolio)? } else { None };
    Ok(vec![
        Limit {
            name: "recipients per 24 hours",
            allowed,
            used: Some(day),
            next: Some(day_frees.map_or(now, |first| first.plus(admission::DAY))),
            reason: is_over(day).then(|| format!("the tier's recipients of 24 hours are used up ({})", account.tier)),
        },
        Limit {
            name: "messages per minute",
            allowed,
            used: Some(minute.messages),
            next: Some(if is_over(minute.messages) { minute.frees_at.unwrap_or(now) } else { now }),
            reason: is_over(minute.messages)
                .then(|| format!("the tier's figure per minute is used up ({})", account.tier)),
        },
    ])
}
