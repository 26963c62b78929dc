//! One organizer's claim under all limits: how many messages may leave, each at which moment, and if none, why and
//! until when. Runs inside the claim's transaction; what it gives away is committed with the claim.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud_api::tier::Tier;
use pgrx::Uuid;

use crate::error::Result;
use crate::settings::Settings;
use crate::store::admission;
use crate::store::claims::{self, Claimed, Outcome, Watermark};
use crate::store::config::Account;
use crate::time::Timestamp;
use crate::worker::memory::{Memory, Organizer, Sending};
use crate::worker::pool::{Job, Sender};
use crate::worker::verdict::Blank;

/// Who holds the row locks of a limit is done within this.
const BUSY: Duration = Duration::from_millis(20);
/// An organizer who cannot send for a reason only a person can mend is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// A slot this far ahead is worth claiming for: short, because a leased row that has not been sent counts as unknown
/// if the server dies.
pub const HORIZON: Duration = Duration::from_millis(200);

/// What is asked for.
pub struct Request<'a> {
    /// For whom.
    pub organizer: Uuid,
    /// Where to continue.
    pub lanes: &'a [Watermark],
    /// Messages at most.
    pub wanted: u32,
    /// Slots are given up to so far ahead.
    pub horizon: Duration,
    /// Fencing token for the claim.
    pub lease: i64,
    /// The moment of the claim.
    pub now: Timestamp,
    /// The same moment on the monotonic clock.
    pub instant: Instant,
}

/// What was given.
pub struct Grant {
    /// The rows claimed.
    pub rows: Vec<Claimed>,
    /// Those that can be sent.
    pub jobs: Vec<Job>,
    /// Those that cannot, with the outcome to record.
    pub outcomes: Vec<Outcome>,
    /// Nothing more is due for this organizer.
    pub is_exhausted: bool,
    /// When to come back.
    pub ready_at: Timestamp,
    /// Why nothing was given, for the operator.
    pub note: Option<String>,
    /// Rows failed without a claim.
    pub failed: u64,
}

impl Grant {
    fn nothing(ready_at: Timestamp, note: Option<String>) -> Self {
        Self {
            rows: Vec::new(),
            jobs: Vec::new(),
            outcomes: Vec::new(),
            is_exhausted: false,
            ready_at,
            note,
            failed: 0,
        }
    }
}

/// Claims for one organizer what may leave now.
pub fn admit(request: &Request, memory: &mut Memory, settings: &Settings) -> Result<Grant> {
    let Some(organizer) = memory.organizer(&request.organizer)? else {
        let failed = claims::fail_unconfigured(&request.organizer, request.now)?;
        return Ok(Grant { failed, is_exhausted: failed == 0, ..Grant::nothing(request.now, None) });
    };
    let Sending { sender, tier, pace } = match &organizer.sending {
        Ok(sending) => sending.clone(),
        Err(reason) => {
            return Ok(Grant::nothing(request.now.plus(LOOK_AGAIN), Some(reason.clone())));
        }
    };
    let account = &organizer.account;
    let Some(next_free) = admission::lock_pace(&account.phone_number_id)? else {
        return Ok(Grant::nothing(request.now.plus(BUSY), None));
    };
    let room = match room_in_tier(account, tier, request)? {
        Ok(room) => room,
        Err(grant) => return Ok(grant),
    };
    let horizon = i64::try_from(request.horizon.as_micros()).unwrap_or(i64::MAX);
    let wanted = request.wanted.min(settings.batch_size).min(room.messages);
    let slice = pace.reserve(next_free.0, request.now.0, horizon, wanted);
    if slice.count == 0 {
        return Ok(Grant::nothing(come_back(request, slice.next_free_us), None));
    }
    let rows = claims::claim(&claims::Claim {
        organizer: request.organizer,
        lanes: request.lanes,
        now: request.now,
        limit: slice.count,
        lease: request.lease,
        lease_until: request.now.plus(lease_span(settings, request.horizon)),
        only_to: &settings.only_to,
        only_known_to: room.only_known.then_some(account.portfolio.as_str()),
    })?;
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    if count == 0 {
        // With the day's budget spent there may be more to do for others later; without, nothing is due.
        let grant = Grant::nothing(room.frees_at.unwrap_or(request.now), room.note);
        return Ok(Grant { is_exhausted: !room.only_known, ..grant });
    }
    let taken = pace.reserve(next_free.0, request.now.0, horizon, count);
    let ends = Timestamp(taken.next_free_us - taken.interval_us);
    admission::give_pace(
        &account.phone_number_id,
        Timestamp(taken.next_free_us),
        &account.portfolio,
        &account.organizer,
        Timestamp(taken.first_us),
        ends,
        i32::try_from(count).unwrap_or(i32::MAX),
    )?;
    if tier.daily_recipients().is_some() {
        let recipients = rows.iter().map(|row| row.recipient.clone()).collect();
        admission::count_recipients(&account.portfolio, recipients, ends)?;
    }
    let (jobs, outcomes) = prepare(organizer, &sender, &rows, taken.slots(), request)?;
    Ok(Grant {
        is_exhausted: count < slice.count && !room.only_known,
        ready_at: come_back(request, taken.next_free_us),
        rows,
        jobs,
        outcomes,
        note: None,
        failed: 0,
    })
}

/// A claim is over when every call of it must have ended, with a minute to record it.
fn lease_span(settings: &Settings, horizon: Duration) -> Duration {
    horizon + settings.connect_timeout + settings.request_timeout + Duration::from_secs(60)
}

/// The next claim is worth making when half of the horizon is free again.
fn come_back(request: &Request, next_free_us: i64) -> Timestamp {
    let half = i64::try_from(request.horizon.as_micros() / 2).unwrap_or(0);
    Timestamp(next_free_us.saturating_sub(half).max(request.now.0))
}

struct Room {
    messages: u32,
    only_known: bool,
    frees_at: Option<Timestamp>,
    note: Option<String>,
}

/// How many messages the tier has room for: unique recipients of the rolling day, and the seed's figure per minute.
fn room_in_tier(account: &Account, tier: Tier, request: &Request) -> Result<Result<Room, Grant>> {
    let Some(limit) = tier.daily_recipients() else {
        return Ok(Ok(Room { messages: u32::MAX, only_known: false, frees_at: None, note: None }));
    };
    let Some(used) = admission::lock_budget(&account.portfolio, request.now)? else {
        return Ok(Err(Grant::nothing(request.now.plus(BUSY), None)));
    };
    let minute = admission::minute(&account.portfolio, &account.organizer, request.now)?;
    let left_in_minute = i64::from(limit) - minute.messages;
    if left_in_minute <= 0 {
        let note = format!("organizer {}: {limit} messages a minute are used up ({})", account.organizer, account.tier);
        let frees_at = minute.frees_at.unwrap_or(request.now).max(request.now.plus(BUSY));
        return Ok(Err(Grant::nothing(frees_at, Some(note))));
    }
    let left_in_minute = u32::try_from(left_in_minute).unwrap_or(u32::MAX);
    let left_in_day = limit.saturating_sub(used);
    if left_in_day > 0 {
        // Every row may be to a new recipient, so no more rows than new recipients that have room.
        return Ok(Ok(Room {
            messages: left_in_minute.min(left_in_day),
            only_known: false,
            frees_at: None,
            note: None,
        }));
    }
    let frees_at = admission::first_recipient_at(&account.portfolio)?
        .map_or(request.now, |first| first.plus(admission::DAY))
        .min(request.now.plus(LOOK_AGAIN));
    Ok(Ok(Room {
        messages: left_in_minute,
        only_known: true,
        frees_at: Some(frees_at.max(request.now.plus(BUSY))),
        note: Some(format!(
            "organizer {}: {limit} recipients in 24 hours are used up ({})",
            account.organizer, account.tier
        )),
    }))
}

/// Turns claimed rows into jobs, or into outcomes where that is impossible.
fn prepare(
    organizer: &mut Organizer,
    sender: &Arc<Sender>,
    rows: &[Claimed],
    slots: impl Iterator<Item = i64>,
    request: &Request,
) -> Result<(Vec<Job>, Vec<Outcome>)> {
    organizer.learn_templates(rows)?;
    let mut jobs = Vec::with_capacity(rows.len());
    let mut outcomes = Vec::new();
    for (row, slot) in rows.iter().zip(slots) {
        let blank = Blank { id: *row.id.as_bytes(), lease: request.lease, now: request.now };
        if row.expires_at.is_some_and(|expires| expires.0 <= slot) {
            let reason = "it could not be sent before expires_at".to_owned();
            outcomes.push(blank.failed("expired".to_owned(), reason));
            continue;
        }
        match organizer.template(row) {
            Ok(template) => jobs.push(Job {
                id: blank.id,
                lease: request.lease,
                retry_count: row.retry_count.unsigned_abs(),
                not_before: request.instant + Duration::from_micros((slot - request.now.0).max(0).unsigned_abs()),
                sender: Arc::clone(sender),
                template,
                variables: row.variables.clone(),
                recipient: row.recipient.clone(),
                callback_data: row.id.to_string(),
            }),
            Err(reason) => outcomes.push(blank.failed("template".to_owned(), reason)),
        }
    }
    Ok((jobs, outcomes))
}
