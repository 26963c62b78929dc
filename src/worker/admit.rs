//! One organizer's claim under all limits. Locks what the limits are counted by, reads what is due, lets
//! `cloud_api::admission` decide message by message, claims what was chosen, and writes down what was given away; all of
//! it in the claim's transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloud_api::admission::{Candidate, Decision, Desk, Limits};
use cloud_api::holds::Holding;
use cloud_api::pacing::{Pace, Slice};
use cloud_api::template::Template;
use cloud_api::throttle;
use pgrx::Uuid;

use crate::error::Result;
use crate::reactions::Surroundings;
use crate::settings::Settings;
use crate::store::admission::{self, Book, Locked};
use crate::store::claims::{self, Claimed, Due, Place};
use crate::store::outcomes::{self, Outcome};
use crate::store::{holds, limits};
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
/// Where messages are passed over, so many more are looked at in a step.
const STEP: u32 = 1000;
/// A claim makes so many steps at most: it stays short, and the next one goes on where it ended.
const STEPS: u32 = 5;
/// While a message is tried to see whether a hold is over, nobody tries another.
const PROBE: Duration = Duration::from_secs(60);

/// What is asked for.
pub struct Request<'a> {
    /// For whom.
    pub organizer: Uuid,
    /// Where to continue.
    pub places: &'a [Place],
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

/// A claimed row, with what its outcome may concern.
pub struct Lease {
    /// The organizer.
    pub organizer: Uuid,
    /// Who sends.
    pub sender: Arc<Sender>,
    /// The template; None when it could not be used.
    pub template: Option<Arc<Template>>,
    /// Its category.
    pub category: Option<String>,
    /// The recipient, as stored.
    pub recipient: String,
    /// Retries so far.
    pub retry_count: u32,
    /// The number's full rate.
    pub pace: Pace,
    /// The organizer's own retries, and wait before the first.
    pub retries: (Option<u32>, Option<Duration>),
    /// Whether a hold of Meta's depends on it.
    pub is_probe: bool,
}

impl Lease {
    /// What an error of Meta's may concern beside the message.
    pub fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            organizer: self.organizer,
            phone_number_id: &self.sender.phone_number_id,
            per_second: self.pace.per_second,
            template: self.template.as_ref().map(|template| (template.name(), template.language())),
            category: self.category.as_deref(),
            recipient: &self.recipient,
        }
    }
}

/// What was given.
pub struct Grant {
    /// The rows claimed.
    pub leases: Vec<([u8; 16], Lease)>,
    /// Those that can be sent.
    pub jobs: Vec<Job>,
    /// Those that cannot, with the outcome to record.
    pub outcomes: Vec<Outcome>,
    /// How far was looked.
    pub reached: Vec<Place>,
    /// What is left.
    pub rest: Rest,
    /// When to come back.
    pub ready_at: Timestamp,
    /// Why nothing was given, for the operator.
    pub note: Option<String>,
    /// Rows failed without a claim.
    pub failed: u64,
}

/// What a claim left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing is due.
    Nothing,
    /// Messages that were not looked at.
    More,
    /// Only messages that were passed over.
    Held,
}

impl Grant {
    fn nothing(ready_at: Timestamp, note: Option<String>) -> Self {
        Self {
            leases: Vec::new(),
            jobs: Vec::new(),
            outcomes: Vec::new(),
            reached: Vec::new(),
            rest: Rest::More,
            ready_at,
            note,
            failed: 0,
        }
    }
}

/// Claims for one organizer what may leave now.
pub fn admit(request: &Request, memory: &mut Memory, settings: &Settings) -> Result<Grant> {
    let now = request.now;
    let Some((organizer, book)) = memory.with_book(&request.organizer)? else {
        let failed = outcomes::fail_unconfigured(&request.organizer, now)?;
        let rest = if failed == 0 { Rest::Nothing } else { Rest::More };
        return Ok(Grant { failed, rest, ..Grant::nothing(now, None) });
    };
    let Sending { sender, tier, pace: full } = match &organizer.sending {
        Ok(sending) => sending.clone(),
        Err(reason) => return Ok(Grant::nothing(now.plus(LOOK_AGAIN), Some(reason.clone()))),
    };
    if let Some(grant) = stopped(organizer, request) {
        return Ok(grant);
    }
    let account = organizer.account.clone();
    let Some(locked) = admission::lock(&account.phone_number_id, &account.portfolio)? else {
        return Ok(Grant::nothing(now.plus(BUSY), None));
    };
    if organizer.holds.iter().any(|hold| hold.at(now.0) == Holding::Probes) {
        // Another worker may be trying a message just now: under the lock it shows.
        organizer.holds = holds::active(&request.organizer, &account.phone_number_id)?;
        if let Some(grant) = stopped(organizer, request) {
            return Ok(grant);
        }
    }
    let holds = organizer.holds.clone();
    let daily = tier.daily_recipients();
    let usage = book.as_of(&account.portfolio, locked.last_slice, daily.is_some(), now)?;
    let mut wanted = request.wanted.min(settings.batch_size);
    if let Some(limit) = daily {
        let (sent, frees_at) = usage.minute(now.0);
        let (elsewhere, oldest) = admission::sent_elsewhere(&request.organizer, now.minus(admission::MINUTE))?;
        let left = u64::from(limit).saturating_sub(sent + elsewhere.unsigned_abs());
        if left == 0 {
            let frees_at = frees_at.map(Timestamp).into_iter().chain(oldest.map(|at| at.plus(admission::MINUTE))).min();
            let note =
                format!("organizer {}: {limit} messages a minute are used up ({})", request.organizer, account.tier);
            return Ok(Grant::nothing(frees_at.unwrap_or(now).max(now.plus(BUSY)), Some(note)));
        }
        wanted = wanted.min(u32::try_from(left).unwrap_or(u32::MAX));
    }
    let pace = throttle::effective(locked.throttle, full.per_second, now.0);
    let slice = reserve(pace, &locked, request, wanted);
    if slice.count == 0 {
        if slice.next_free_us != locked.next_free.0 {
            admission::set_next_free(&account.phone_number_id, Timestamp(slice.next_free_us))?;
        }
        return Ok(Grant::nothing(come_back(request, slice.next_free_us), None));
    }
    let rules = Limits { daily_recipients: daily, holds: &holds, only_to: &settings.only_to };
    let mut desk = Desk::open(usage, &account.phone_number_id, rules, slice, now.0);
    let mut choice = choose(&mut desk, organizer, request, slice.count)?;
    let lease_until = now.plus(lease_span(settings, request.horizon));
    let ids: Vec<Uuid> = choice.chosen.iter().map(|(due, _)| due.id).collect();
    let claimed = if ids.is_empty() { HashMap::new() } else { claims::claim(ids, request.lease, lease_until, now)? };
    if claimed.len() < choice.chosen.len() {
        // Somebody has locked the others: nothing of the limits may be spent on them.
        drop(desk);
        choice.chosen.retain(|(due, _)| claimed.contains_key(due.id.as_bytes()));
        if choice.chosen.is_empty() && choice.rest == Rest::Nothing {
            choice.rest = Rest::Held;
        }
        *book = Book::default();
        let usage = book.as_of(&account.portfolio, locked.last_slice, daily.is_some(), now)?;
        desk = Desk::open(usage, &account.phone_number_id, rules, slice, now.0);
        for (due, decision) in &mut choice.chosen {
            *decision = decide(&mut desk, organizer, due);
        }
    }
    for hold in desk.probed().iter().filter_map(|n| holds.get(*n)) {
        holds::begin_probe(&request.organizer, hold, now.plus(PROBE))?;
    }
    let (taken, recipients) = (desk.taken(), desk.given().to_vec());
    drop(desk);
    let mut ready_at = now;
    if taken > 0 {
        let next_free = Timestamp(slice.first_us.saturating_add(slice.interval_us.saturating_mul(i64::from(taken))));
        admission::give(admission::Slice {
            phone_number_id: &account.phone_number_id,
            next_free,
            portfolio: &account.portfolio,
            slice: locked.last_slice + 1,
            organizer: request.organizer,
            starts: Timestamp(slice.first_us),
            ends: Timestamp(next_free.0 - slice.interval_us),
            messages: i32::try_from(taken).unwrap_or(i32::MAX),
            recipients,
        })?;
        book.gave(locked.last_slice + 1);
        ready_at = come_back(request, next_free.0);
    }
    let maker = Maker { sender: &sender, pace, full, request };
    let mut grant = Grant { rest: choice.rest, ready_at, ..Grant::nothing(ready_at, choice.note.take()) };
    grant.reached = choice.reached.into_values().collect();
    for (due, decision) in choice.chosen {
        if let Some(claimed) = claimed.get(due.id.as_bytes()) {
            maker.take_up(organizer, due, decision, claimed, &mut grant);
        }
    }
    Ok(grant)
}

/// Nothing, when everything of the organizer is held.
fn stopped(organizer: &Organizer, request: &Request) -> Option<Grant> {
    let hold = limits::holds_everything(&organizer.holds, request.now)?;
    let ready_at = Timestamp(hold.until_us).min(request.now.plus(LOOK_AGAIN));
    Some(Grant::nothing(ready_at, Some(format!("organizer {}: {}", request.organizer, hold.reason))))
}

fn reserve(pace: Pace, locked: &Locked, request: &Request, wanted: u32) -> Slice {
    let horizon = i64::try_from(request.horizon.as_micros()).unwrap_or(i64::MAX);
    pace.reserve(locked.next_free.0, request.now.0, horizon, wanted)
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

struct Choice {
    chosen: Vec<(Due, Decision)>,
    reached: BTreeMap<i32, Place>,
    rest: Rest,
    note: Option<String>,
}

/// Chooses what leaves, and what fails, among what is due: as many as there are slots, looking further where messages are
/// passed over.
fn choose(desk: &mut Desk, organizer: &mut Organizer, request: &Request, slots: u32) -> Result<Choice> {
    let mut choice = Choice { chosen: Vec::new(), reached: BTreeMap::new(), rest: Rest::More, note: None };
    let mut places = request.places.to_vec();
    let mut passed_over = 0_usize;
    let mut at_most = slots;
    for _ in 0..STEPS {
        let due = claims::due(&request.organizer, &places, request.now, at_most)?;
        let is_all = due.len() < at_most as usize;
        organizer.learn_templates(&due)?;
        for message in due {
            if !desk.has_room() {
                return Ok(choice);
            }
            choice.reached.insert(message.place.priority, message.place);
            match decide(desk, organizer, &message) {
                Decision::Wait { .. } => passed_over += 1,
                decision => choice.chosen.push((message, decision)),
            }
        }
        if !is_all && !desk.has_room() {
            break;
        }
        if is_all {
            choice.rest = if passed_over > 0 { Rest::Held } else { Rest::Nothing };
            break;
        }
        for place in &mut places {
            if let Some(reached) = choice.reached.get(&place.priority) {
                *place = *reached;
            }
        }
        at_most = STEP;
    }
    if choice.chosen.is_empty() && passed_over > 0 {
        choice.note =
            Some(format!("organizer {}: what is due is held back; wa_explain(id) says why", request.organizer));
    }
    Ok(choice)
}

fn decide(desk: &mut Desk, organizer: &Organizer, message: &Due) -> Decision {
    // Only holds ask for ids.
    let text = |id: Option<Uuid>| id.filter(|_| !organizer.holds.is_empty()).map(|id| id.to_string());
    let id = text(Some(message.id)).unwrap_or_default();
    let (event, task, campaign) = (text(message.event), text(message.task), text(message.campaign));
    desk.decide(&Candidate {
        id: &id,
        recipient: &message.recipient,
        template: &message.template,
        language: message.language.as_deref(),
        category: organizer.category(&message.template),
        event: event.as_deref(),
        task: task.as_deref(),
        campaign: campaign.as_deref(),
        expires_us: message.expires_at.map(|at| at.0),
        contact: &message.contact,
    })
}

/// Turns claimed rows into jobs, or into outcomes where that is impossible.
struct Maker<'a> {
    sender: &'a Arc<Sender>,
    pace: Pace,
    full: Pace,
    request: &'a Request<'a>,
}

impl Maker<'_> {
    fn take_up(&self, organizer: &mut Organizer, due: Due, decision: Decision, claimed: &Claimed, grant: &mut Grant) {
        let request = self.request;
        let blank = Blank { id: *due.id.as_bytes(), lease: request.lease, now: request.now };
        let mut lease = Lease {
            organizer: request.organizer,
            sender: Arc::clone(self.sender),
            template: None,
            category: organizer.category(&due.template).map(str::to_owned),
            recipient: due.recipient.clone(),
            retry_count: claimed.retry_count.unsigned_abs(),
            pace: self.full,
            retries: (organizer.account.max_retries, organizer.account.retry_delay),
            is_probe: false,
        };
        match decision {
            Decision::Send { at_us, is_probe } => match organizer.template(&due) {
                Ok(template) => {
                    lease.template = Some(Arc::clone(&template));
                    lease.is_probe = is_probe;
                    grant.jobs.push(Job {
                        id: blank.id,
                        lease: request.lease,
                        not_before: request.instant
                            + Duration::from_micros((at_us - request.now.0).max(0).unsigned_abs()),
                        pace: self.pace,
                        sender: Arc::clone(self.sender),
                        template,
                        variables: claimed.variables.clone(),
                        recipient: due.recipient,
                        callback_data: due.id.to_string(),
                    });
                }
                Err(reason) => grant.outcomes.push(blank.failed("template".to_owned(), reason)),
            },
            Decision::Fail { code, reason } => grant.outcomes.push(blank.failed(code, reason)),
            Decision::Wait { .. } => grant.outcomes.push(blank.returned()),
        }
        grant.leases.push((blank.id, lease));
    }
}
