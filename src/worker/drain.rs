//! The loop body that the drainer and `wa_process_batch` share. One turn is one short transaction: record what came
//! back, then claim what may leave. Messages are handed to the senders only after it has committed, and HTTP happens
//! outside any transaction.
//!
//! Never more rows are leased than there can be calls in flight: after a crash nothing durable says which leased rows
//! reached a socket, so all of them become `unknown`.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use pgrx::Uuid;

use crate::error::{Error, Kind, Result};
use crate::graph;
use crate::reactions::Effect;
use crate::settings::{Mode, Settings};
use crate::store::outcomes::{self, Outcome};
use crate::store::{clock, database, effects};
use crate::time::Timestamp;
use crate::tx;
use crate::worker::admit::{self, Grant, Lease, Request, Rest};
use crate::worker::clock::Clock;
use crate::worker::lanes::{Lanes, Progress};
use crate::worker::memory::Memory;
use crate::worker::pool::{Event, Job, Pool};
use crate::worker::verdict::{self, Case};

/// Organizers served in one transaction at most: it stays short.
const ORGANIZERS_PER_TURN: usize = 64;
/// A claim reaches at least so far ahead, or it would not be worth its statements.
const SHORTEST_HORIZON: Duration = Duration::from_millis(5);
/// Answers wait this long for company before they are recorded.
const GATHER: Duration = Duration::from_millis(5);
/// Small claims wait this long for more room.
const CLAIM_PAUSE: Duration = Duration::from_millis(10);
/// Meta cannot be reached: the first pause, and the longest.
const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows claimed.
    pub claimed: u64,
    /// Accepted by Meta.
    pub sent: u64,
    /// Failed for good.
    pub failed: u64,
    /// Back in the queue.
    pub rescheduled: u64,
    /// Of unknown outcome.
    pub unknown: u64,
}

impl Tally {
    /// Rows that got an outcome.
    pub fn processed(&self) -> u64 {
        self.sent + self.failed + self.rescheduled + self.unknown
    }

    fn count(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome.status {
                "sent" => self.sent += 1,
                "queued" => self.rescheduled += 1,
                "unknown" => self.unknown += 1,
                _ => self.failed += 1,
            }
        }
    }
}

/// Work on one database's queue.
pub struct Drain {
    settings: Settings,
    pool: Pool,
    run: i32,
    claims: i64,
    clock: Clock,
    lanes: Lanes,
    memory: Memory,
    /// Outcomes not recorded yet, and since when.
    outcomes: Vec<Outcome>,
    gathering_since: Option<Instant>,
    /// What answers said beyond their messages, not recorded yet.
    effects: Vec<Effect>,
    /// Rows this run holds a lease on.
    leased: HashMap<[u8; 16], Lease>,
    last_claim: Option<Instant>,
    unreachable: Option<(Instant, Duration)>,
    /// New settings wait for this drain's last answer: nothing more is claimed under the old ones.
    is_retiring: bool,
    /// Rows that may still be claimed; None: no end.
    allowance: Option<u32>,
    horizon: Duration,
    tally: Tally,
    /// Why nothing leaves for anybody.
    note: Option<String>,
    /// Why nothing leaves for an organizer who has something due.
    held: BTreeMap<[u8; 16], String>,
    /// What an operator should read in the log.
    news: Vec<String>,
}

impl Drain {
    /// Prepares to work; an error when the settings cannot be used.
    pub fn new(settings: Settings, run: i32) -> Result<Self> {
        let threads = settings.sender_threads.min(descriptors_for_calls());
        let note = (settings.mode == Mode::Off).then(|| "whatsapp_pg.mode is off: nothing is sent".to_owned());
        let client = graph::client(&settings, threads)?;
        let pool = Pool::new(client, threads).map_err(|error| {
            Error::new(Kind::System, "the sender threads cannot be set up").detail(error.to_string())
        })?;
        Ok(Self {
            settings,
            pool,
            run,
            claims: 0,
            clock: Clock::default(),
            lanes: Lanes::default(),
            memory: Memory::default(),
            outcomes: Vec::new(),
            gathering_since: None,
            effects: Vec::new(),
            leased: HashMap::new(),
            news: Vec::new(),
            last_claim: None,
            unreachable: None,
            is_retiring: false,
            allowance: None,
            horizon: admit::HORIZON,
            tally: Tally::default(),
            note,
            held: BTreeMap::new(),
        })
    }

    /// From now on, gives slots up to so far ahead.
    pub fn look_ahead(&mut self, horizon: Duration) {
        self.horizon = horizon;
    }

    /// Claims at most so many rows in all.
    pub fn limited(mut self, rows: u32) -> Self {
        self.allowance = Some(rows);
        self
    }

    /// What was done so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Rows this run holds a lease on.
    pub fn leased(&self) -> usize {
        self.leased.len()
    }

    /// Why nothing leaves, if there is a reason to tell.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref().or_else(|| self.held.values().next().map(String::as_str))
    }

    /// What has happened since the last time that an operator should read in the log.
    pub fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// Readable when a sender has an answer.
    pub fn event_fd(&self) -> std::os::fd::RawFd {
        self.pool.event_fd()
    }

    /// Says that the queue may have changed.
    pub fn look_again(&mut self) {
        self.lanes.mark_stale();
    }

    /// Says that accounts or templates may have changed: who was held up for them is asked again.
    pub fn forget_accounts(&mut self) {
        self.lanes.mark_stale();
        self.lanes.release();
        self.memory.clear();
    }

    /// Asks everybody again, as far as that costs little.
    pub fn ask_again(&mut self) {
        self.lanes.mark_stale();
        self.lanes.ask_again();
        self.memory.clear();
    }

    /// The clock was set by so many microseconds: what was thought of times is of no use, and what is not recorded yet moves.
    fn clock_was_set(&mut self, by_us: i64) {
        for outcome in &mut self.outcomes {
            outcome.at = outcome.at.moved(by_us);
            outcome.again_at = outcome.again_at.map(|at| at.moved(by_us));
        }
        for effect in &mut self.effects {
            effect.move_times(by_us);
        }
        self.forget_accounts();
        self.memory.distrust_books();
        let seconds = by_us / 1_000_000;
        self.news.push(format!("the clock was set by {seconds} s: the times that limits are counted by move with it"));
    }

    /// Claims nothing more, or goes on claiming; what it has is finished either way.
    pub fn set_retiring(&mut self, is_retiring: bool) {
        self.is_retiring = is_retiring;
    }

    /// Whether it has nothing left to do and claims nothing more.
    pub fn is_retired(&self) -> bool {
        self.is_retiring && self.leased.is_empty()
    }

    /// The settings it works with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Does what there is to do now; false when there was nothing. After an error nothing is lost: outcomes are kept
    /// and recorded by a later turn.
    pub fn turn(&mut self) -> Result<bool> {
        if let Some(by_us) = self.clock.look()? {
            self.clock_was_set(by_us);
        }
        self.gather();
        self.pool.grow();
        let now = Timestamp::now();
        let claims = self.may_claim() && (self.lanes.wants_look(now) || self.lanes.count_ready(now) > 0);
        if !self.is_turn_due(claims) {
            return Ok(false);
        }
        let room = self.free();
        let outcomes = std::mem::take(&mut self.outcomes);
        let effects = std::mem::take(&mut self.effects);
        let mut news = Vec::new();
        let mut grants = Vec::new();
        let done = tx::owner_transaction(|| {
            if !database::try_lock_queue()? || !clock::agrees()? {
                return Ok(false);
            }
            if !outcomes.is_empty() {
                outcomes::record(&outcomes)?;
            }
            if !effects.is_empty() {
                news = effects::apply(&effects, self.settings.notify_channel.as_deref(), now)?;
                effects::organizers(&effects).for_each(|organizer| self.memory.forget(organizer));
            }
            if claims {
                self.claim(now, room, &mut grants)?;
            }
            Ok(true)
        });
        match done {
            Ok(true) => {
                self.tally.count(&outcomes);
                for outcome in &outcomes {
                    self.leased.remove(outcome.id.as_bytes());
                    if outcome.status == "queued" {
                        self.lanes.expect(outcome.again_at.unwrap_or(now));
                    }
                }
                self.gathering_since = None;
                self.news.append(&mut news);
                if effects.iter().any(|effect| matches!(effect, Effect::Mended { .. })) {
                    self.forget_accounts();
                }
                self.take_up(grants);
                Ok(true)
            }
            Ok(false) => {
                self.outcomes = outcomes;
                self.effects = effects;
                Ok(false)
            }
            Err(error) => {
                self.outcomes = outcomes;
                self.effects = effects;
                self.lanes.mark_stale();
                self.memory.distrust_books();
                Err(error)
            }
        }
    }

    /// Whether everything is done that a limited run may do.
    pub fn is_finished(&self, now: Timestamp, patience: Duration) -> bool {
        if !self.leased.is_empty() || !self.outcomes.is_empty() {
            return false;
        }
        let nothing_soon = !self.lanes.is_stale() && self.lanes.next_ready().is_none_or(|at| at > now.plus(patience));
        self.allowance == Some(0) || self.unreachable.is_some() || self.settings.mode == Mode::Off || nothing_soon
    }

    /// How long there is nothing to do, unless the latch is set or a sender answers.
    pub fn idle_for(&self, now: Timestamp, at_most: Duration) -> Duration {
        let mut wait = at_most;
        if let Some(since) = self.gathering_since {
            wait = wait.min(GATHER.saturating_sub(since.elapsed()));
        }
        if self.may_ever_claim() {
            if self.lanes.is_stale() {
                wait = wait.min(self.lanes.look_allowed_in());
            }
            if let Some(at) = self.lanes.next_ready() {
                let until = Duration::from_micros((at.0.saturating_sub(now.0)).max(0).unsigned_abs());
                wait = wait.min(until.max(if self.free() == 0 { at_most } else { Duration::ZERO }));
            }
            if let Some(look) = self.lanes.look_due_in() {
                wait = wait.min(look);
            }
            if let Some((since, pause)) = self.unreachable {
                wait = wait.max(pause.saturating_sub(since.elapsed()).min(at_most));
            }
            if !self.leased.is_empty() && self.free() > 0 {
                wait = wait.min(CLAIM_PAUSE);
            }
        }
        wait.max(Duration::from_millis(1))
    }

    /// Hands back what was not begun and waits a short while for the calls that are running. What is still without an
    /// answer then is put back if it had not begun to write, and is unknown otherwise.
    pub fn stop(&mut self, grace: Duration) -> Result<()> {
        self.allowance = Some(0);
        let until = Instant::now() + grace;
        let unsent = self.pool.close();
        self.judge(unsent);
        while self.pool.running() > 0 && Instant::now() < until {
            wait_readable(self.pool.event_fd(), until.saturating_duration_since(Instant::now()));
            self.gather();
        }
        let abandoned = self.pool.abandon();
        self.judge(abandoned);
        self.gather();
        self.gathering_since = Some(Instant::now() - GATHER);
        while !self.outcomes.is_empty() {
            if !self.turn()? {
                return Err(Error::new(Kind::NotReady, "the queue is locked: outcomes could not be recorded"));
            }
        }
        Ok(())
    }

    /// Room for new leases. Rows whose outcome is at hand are recorded in the same transaction that claims, so their
    /// room counts already.
    fn free(&self) -> usize {
        self.pool.max_threads().saturating_sub(self.leased.len().saturating_sub(self.outcomes.len()))
    }

    fn may_ever_claim(&self) -> bool {
        self.settings.mode == Mode::Live && !self.is_retiring && self.allowance != Some(0)
    }

    fn may_claim(&self) -> bool {
        let reachable = self.unreachable.is_none_or(|(since, pause)| since.elapsed() >= pause);
        self.may_ever_claim() && reachable && self.free() > 0
    }

    /// A transaction costs the same for one row as for fifty: a turn waits until half of what can be in flight has come
    /// back, but never long, and not at all when there is nothing else to wait for.
    fn is_turn_due(&self, claims: bool) -> bool {
        let half = self.pool.max_threads().div_ceil(2);
        let answers = self.outcomes.len();
        let records = answers > 0
            && (answers >= half
                || answers >= self.leased.len()
                || self.gathering_since.is_none_or(|since| since.elapsed() >= GATHER));
        let is_claim_due = self.leased.len() == answers
            || self.free() >= half
            || self.last_claim.is_none_or(|at| at.elapsed() >= CLAIM_PAUSE);
        records || (claims && is_claim_due)
    }

    fn gather(&mut self) {
        let answers = self.pool.collect();
        self.judge(answers);
    }

    fn judge(&mut self, answers: Vec<crate::worker::pool::Answer>) {
        let now = Timestamp::now();
        for answer in answers {
            let was_called = matches!(answer.event, Event::Called(_));
            let lease = self.leased.get(&answer.id);
            let verdict = verdict::of(answer, &Case { lease, settings: &self.settings, now, jitter: fastrand::f64() });
            self.effects.extend(verdict.effect);
            if verdict.unreachable {
                self.pause_for_unreachable(verdict.outcome.error.as_deref());
            } else if was_called {
                self.unreachable = None;
            }
            if self.outcomes.is_empty() {
                self.gathering_since = Some(Instant::now());
            }
            self.outcomes.push(verdict.outcome);
        }
    }

    fn pause_for_unreachable(&mut self, reason: Option<&str>) {
        let pause = match self.unreachable {
            Some((since, pause)) if since.elapsed() < pause => return,
            Some((_, pause)) => (pause * 2).min(UNREACHABLE.1),
            None => UNREACHABLE.0,
        };
        self.unreachable = Some((Instant::now(), pause));
        self.note = Some(format!("Meta cannot be reached: {}", reason.unwrap_or_default()));
        self.lanes.mark_stale();
    }

    fn claim(&mut self, now: Timestamp, room: usize, grants: &mut Vec<(Uuid, Grant, Duration)>) -> Result<()> {
        if self.lanes.wants_look(now) {
            self.lanes.look(now)?;
            self.held.retain(|organizer, _| self.lanes.has_due(organizer));
        }
        let instant = Instant::now();
        let mut room = u32::try_from(room).unwrap_or(u32::MAX).min(self.allowance.unwrap_or(u32::MAX));
        let ready = self.lanes.ready(now, ORGANIZERS_PER_TURN);
        let horizon = self.horizon_for(room, &ready)?;
        for organizer in ready {
            if room == 0 {
                break;
            }
            self.claims += 1;
            let request = Request {
                organizer,
                places: &self.lanes.places(&organizer),
                wanted: room,
                horizon,
                lease: (i64::from(self.run) << 24) | (self.claims & 0xFF_FFFF),
                now,
                instant,
            };
            let begun = Instant::now();
            let grant = admit::admit(&request, &mut self.memory, &self.settings)?;
            room = room.saturating_sub(u32::try_from(grant.leases.len()).unwrap_or(u32::MAX));
            grants.push((organizer, grant, begun.elapsed()));
        }
        Ok(())
    }

    /// How far ahead everybody's slots are given away. A lease that waits for its slot keeps a thread's place from
    /// somebody who could send now, so the room is shared by time: as far as all who are ready fill it together.
    fn horizon_for(&mut self, room: u32, ready: &[Uuid]) -> Result<Duration> {
        let mut per_second = 0_u32;
        for organizer in ready {
            if let Some(Ok(sending)) = self.memory.organizer(organizer)?.map(|known| &known.sending) {
                per_second = per_second.saturating_add(sending.pace.per_second);
            }
        }
        let fills = Duration::from_secs(1).saturating_mul(room) / per_second.max(1);
        Ok(fills.max(SHORTEST_HORIZON).min(self.horizon))
    }

    fn take_up(&mut self, grants: Vec<(Uuid, Grant, Duration)>) {
        let mut jobs: Vec<Job> = Vec::new();
        if self.unreachable.is_none() && self.settings.mode == Mode::Live {
            self.note = None;
        }
        for (organizer, grant, took) in grants {
            let count = u32::try_from(grant.leases.len()).unwrap_or(u32::MAX);
            self.allowance = self.allowance.map(|left| left.saturating_sub(count));
            self.tally.claimed += u64::from(count);
            self.tally.failed += grant.failed;
            match grant.note {
                Some(note) => self.held.insert(*organizer.as_bytes(), note),
                None => self.held.remove(organizer.as_bytes()),
            };
            // What leaves costs what it costs; only what is passed over must not be gone over too often.
            let took = if grant.rest == Rest::Held || count == 0 { took } else { Duration::ZERO };
            let progress =
                Progress { reached: grant.reached, claimed: count, rest: grant.rest, ready_at: grant.ready_at, took };
            self.lanes.claimed(&organizer, &progress);
            self.leased.extend(grant.leases);
            if !grant.outcomes.is_empty() {
                self.gathering_since = self.gathering_since.or_else(|| Some(Instant::now()));
                self.outcomes.extend(grant.outcomes);
            }
            jobs.extend(grant.jobs);
        }
        if !jobs.is_empty() {
            self.last_claim = Some(Instant::now());
            self.pool.submit(jobs);
        }
    }
}

/// Raises the limit of open files as far as it goes, and answers how many calls that leaves room for.
fn descriptors_for_calls() -> usize {
    const FOR_POSTGRES: u64 = 256;
    // SAFETY: plain calls on a local structure.
    let limit = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            let before = limit.rlim_cur;
            limit.rlim_cur = limit.rlim_max;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 { limit.rlim_max } else { before }
        } else {
            1024
        }
    };
    usize::try_from(limit.saturating_sub(FOR_POSTGRES)).unwrap_or(usize::MAX).max(1)
}

fn wait_readable(descriptor: std::os::fd::RawFd, timeout: Duration) {
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
}
