//! `wa_rate_ok`, `wa_rate_status` and `wa_eta`: what admission would say now, from the same state admission works with.

use cloud_api::holds::{Hold, Holding};
use cloud_api::tier::Tier;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Uuid, name, pg_extern};

use super::{Answer, required};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::graph;
use crate::secrets::{self, Column};
use crate::settings::{Mode, Settings};
use crate::store::limits::{self, Standing};
use crate::store::{self, config};
use crate::time::Timestamp;

/// Holds that stop a part of what an organizer sends.
const PARTIAL: &str = "partial hold";

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
    Ok(limits(user_id)?.iter().all(|limit| limit.reason.is_none() || limit.name == PARTIAL))
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

/// When so many more messages would have left.
#[pg_extern(sql = false)]
#[expect(clippy::type_complexity, reason = "it is the SQL function's result")]
fn wa_eta(
    user_id: Option<Uuid>,
    n: Option<i64>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(done_at, Option<TimestampWithTimeZone>),
            name!(ahead, i64),
            name!(limited_by, &'static str),
            name!(reason, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let (done, ahead, limited_by, reason) = eta(user_id, n)?;
    Ok(TableIterator::once((TimestampWithTimeZone::try_from(done.0).ok(), ahead, limited_by, reason)))
}

fn eta(user_id: Option<Uuid>, n: Option<i64>) -> Result<(Timestamp, i64, &'static str, Option<String>)> {
    let organizer = required(user_id, "user_id")?;
    let n = u64::try_from(required(n, "n")?).map_err(|_| {
        Error::new(Kind::InvalidParameter, "n must not be negative")
            .detail("It is a number of messages.")
            .hint("Leave it out to ask for one more message.")
    })?;
    Caller::current()?.check_may_act_for(&organizer)?;
    let now = Timestamp::now();
    caller::as_owner(|| {
        let blocked = account_limit(&organizer)?.reason;
        let account = config::account(&organizer)?;
        let tier = account.as_ref().and_then(|account| Tier::parse(&account.tier).ok());
        let (Some(account), Some(tier), None) = (account, tier, &blocked) else {
            let reason = blocked.or_else(|| Some("the tier is unknown: see wa_rate_status()".to_owned()));
            return Ok((Timestamp::INFINITY, 0, "account", reason));
        };
        let (eta, ahead) = limits::eta(&account, tier, n, now, now)?;
        let standing = limits::Standing::read(&account, tier, now)?;
        let reason = standing.stopped_by(now).map(|hold| hold.reason.clone());
        let done = eta.done_us.map_or(Timestamp::INFINITY, Timestamp);
        Ok((done, i64::try_from(ahead).unwrap_or(i64::MAX), eta.limited_by.as_str(), reason))
    })
}

fn limits(user_id: Option<Uuid>) -> Result<Vec<Limit>> {
    let organizer = required(user_id, "user_id")?;
    Caller::current()?.check_may_act_for(&organizer)?;
    let now = Timestamp::now();
    caller::as_owner(|| {
        let mut limits = vec![account_limit(&organizer)?];
        if !store::installed()?.is_current() {
            return Ok(limits);
        }
        let Some(account) = config::account(&organizer)? else {
            return Ok(limits);
        };
        match Tier::parse(&account.tier) {
            Err(error) => limits.push(Limit {
                name: "recipients per 24 hours",
                allowed: None,
                used: None,
                next: None,
                reason: Some(error.to_string()),
            }),
            Ok(tier) => {
                let standing = Standing::read(&account, tier, now)?;
                limits.extend(held(&standing, now));
                limits.push(throughput(&account, &standing, now));
                limits.extend(of_tier(&account, &standing, now));
            }
        }
        Ok(limits)
    })
}

/// Whether the account exists, is active, and belongs to this database.
fn account_limit(organizer: &Uuid) -> Result<Limit> {
    let settings = Settings::current();
    let reason = match config::account(organizer)? {
        _ if !store::installed()?.is_current() => Some(store::OUTDATED.to_owned()),
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

/// What is held back, the whole account or a part of it. A part does not stop the rest.
fn held(standing: &Standing, now: Timestamp) -> Vec<Limit> {
    let blocks = |hold: &&Hold| hold.at(now.0) == Holding::Blocks;
    standing
        .holds
        .iter()
        .filter(blocks)
        .map(|hold| Limit {
            name: if hold.scope.stops_everything() { "hold" } else { PARTIAL },
            allowed: None,
            used: None,
            next: Some(Timestamp(hold.until_us)),
            reason: Some(format!("{} {}: {}", hold.scope, hold.subject, hold.reason)),
        })
        .collect()
}

fn throughput(account: &config::Account, standing: &Standing, now: Timestamp) -> Limit {
    let rate = i64::from(standing.pace.per_second);
    let ahead = standing.next_free.0 - now.0;
    // Slots given away ahead of now are this second's use of the number.
    let used = (ahead + standing.pace.interval_us() - 1) / standing.pace.interval_us();
    let slowed = standing.recovers_at.map(|_| {
        format!("Meta asked to slow down (130429): {rate} instead of {} a second for now", account.per_second)
    });
    let is_full = ahead >= 1_000_000;
    Limit {
        name: "messages per second",
        allowed: Some(rate),
        used: Some(used.min(rate)),
        next: Some(standing.next_free),
        reason: is_full.then(|| slowed.unwrap_or_else(|| "the number's next second is given away".to_owned())),
    }
}

fn of_tier(account: &config::Account, standing: &Standing, now: Timestamp) -> Vec<Limit> {
    let allowed = standing.limit.map(i64::from);
    let is_over = |used: i64| allowed.is_some_and(|allowed| used >= allowed);
    let day = i64::from(standing.recipients);
    let minute = i64::try_from(standing.minute).unwrap_or(i64::MAX);
    vec![
        Limit {
            name: "recipients per 24 hours",
            allowed,
            used: Some(day),
            next: Some(standing.recipient_frees_at.filter(|_| is_over(day)).unwrap_or(now)),
            reason: is_over(day).then(|| format!("the tier's recipients of 24 hours are used up ({})", account.tier)),
        },
        Limit {
            name: "messages per minute",
            allowed,
            used: Some(minute),
            next: Some(standing.minute_frees_at.filter(|_| is_over(minute)).unwrap_or(now)),
            reason: is_over(minute).then(|| format!("the tier's figure per minute is used up ({})", account.tier)),
        },
    ]
}
