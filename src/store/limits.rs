//! What admission would say now: the same state and the same rules that claims work with, read without locks.

use cloud_api::eta::{Backlog, DayLimit, Eta};
use cloud_api::holds::{Hold, Holding};
use cloud_api::pacing::Pace;
use cloud_api::throttle;
use cloud_api::tier::Tier;

use crate::error::Result;
use crate::store::config::Account;
use crate::store::{admission, holds, queue};
use crate::time::Timestamp;

/// The limits of an account at one moment.
pub struct Standing {
    /// What is held back.
    pub holds: Vec<Hold>,
    /// The number's first free moment.
    pub next_free: Timestamp,
    /// Its rate now.
    pub pace: Pace,
    /// When it is back at its full rate, if it was slowed down.
    pub recovers_at: Option<Timestamp>,
    /// Unique recipients in 24 hours, and messages a minute; None: no limit.
    pub limit: Option<u32>,
    /// Unique recipients of the rolling day.
    pub recipients: u32,
    /// When the first of them leaves it.
    pub recipient_frees_at: Option<Timestamp>,
    /// When each of them leaves it, if all are used.
    recipients_end: Vec<i64>,
    /// Messages of the last minute.
    pub minute: u64,
    /// When the first of them leave it.
    pub minute_frees_at: Option<Timestamp>,
}

impl Standing {
    /// Reads the limits of an account with this tier.
    pub fn read(account: &Account, tier: Tier, now: Timestamp) -> Result<Self> {
        let limit = tier.daily_recipients();
        let (next_free, throttled) = admission::number(&account.phone_number_id)?.unwrap_or((now, None));
        let pace = throttle::effective(throttled, account.per_second, now.0);
        let (elsewhere, oldest) = admission::sent_elsewhere(&account.organizer, now.minus(admission::MINUTE))?;
        let mut standing = Self {
            holds: holds::active(&account.organizer, &account.phone_number_id)?,
            next_free: next_free.max(now),
            pace,
            recovers_at: throttled
                .filter(|_| pace.per_second < account.per_second)
                .map(|stored| Timestamp(throttle::recovered_at(stored, account.per_second))),
            limit,
            recipients: 0,
            recipient_frees_at: None,
            recipients_end: Vec::new(),
            minute: elsewhere.unsigned_abs(),
            minute_frees_at: oldest.map(|at| at.plus(admission::MINUTE)),
        };
        if limit.is_some() {
            admission::look(&account.portfolio, true, now, |usage| {
                standing.recipients = usage.recipients(now.0);
                standing.recipient_frees_at = usage.recipients_free_at(1).map(Timestamp);
                standing.recipients_end = usage.recipients_end();
                let (minute, frees_at) = usage.minute(now.0);
                standing.minute += minute;
                standing.minute_frees_at = frees_at.map(Timestamp).into_iter().chain(standing.minute_frees_at).min();
            })?;
        }
        Ok(standing)
    }

    /// The hold that stops everything, if there is one.
    pub fn stopped_by(&self, now: Timestamp) -> Option<&Hold> {
        holds_everything(&self.holds, now)
    }

    /// When so many messages behind so many others will have left.
    pub fn eta(&self, ahead: u64, n: u64, not_before: Timestamp, now: Timestamp) -> Eta {
        let starts = not_before.max(now).0;
        let held = self.stopped_by(now).map_or(i64::MIN, |hold| hold.until_us).max(self.next_free.0);
        Backlog {
            now_us: starts,
            ahead,
            n,
            pace: self.pace,
            per_minute: self.limit,
            day: self.limit.map(|limit| DayLimit { limit, used: self.recipients, ends: &self.recipients_end }),
            held_until: Some(held).filter(|held| *held > starts),
        }
        .eta()
    }
}

/// The hold that stops everything of an organizer, if there is one; of several the one that lasts longest.
pub fn holds_everything(holds: &[Hold], now: Timestamp) -> Option<&Hold> {
    let stops = |hold: &&Hold| hold.scope.stops_everything() && hold.at(now.0) == Holding::Blocks;
    holds.iter().filter(stops).max_by_key(|hold| hold.until_us)
}

/// When so many more messages of an account would be done, and how many stand before them.
pub fn eta(account: &Account, tier: Tier, n: u64, not_before: Timestamp, now: Timestamp) -> Result<(Eta, u64)> {
    let standing = Standing::read(account, tier, now)?;
    let ahead = queue::backlog(&account.organizer)?;
    let now_on = standing.eta(ahead, n, now, now);
    if not_before <= now {
        return Ok((now_on, ahead));
    }
    // Scheduled for later: what stands before them may have left by then, but they do not leave earlier.
    let later = standing.eta(0, n, not_before, now);
    let of = |eta: &Eta| eta.done_us.unwrap_or(i64::MAX);
    Ok((if of(&later) > of(&now_on) { later } else { now_on }, ahead))
}
