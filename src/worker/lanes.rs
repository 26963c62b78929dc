//! Which organizers have something due, and whose turn it is. Organizers take turns, so that one backlog never starves
//! another; within an organizer, priorities go highest first.
//!
//! Looking at the whole queue costs an index probe per organizer and priority, and more while a held snapshot keeps dead
//! index entries alive. So the look is repeated only when it is due, and never more than a twentieth of the time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use pgrx::Uuid;

use crate::error::Result;
use crate::store::claims::{self, Claimed, Watermark};
use crate::time::Timestamp;

/// A look is repeated at least this often while there is work: rows may commit late, behind a watermark.
const REFRESH: Duration = Duration::from_secs(1);
/// Looks take at most one part in this many of the time.
const SHARE: u32 = 20;

/// What is known of the queue.
#[derive(Default)]
pub struct Lanes {
    organizers: HashMap<[u8; 16], Organizer>,
    turns: VecDeque<[u8; 16]>,
    next_due: Option<Timestamp>,
    is_stale: bool,
    looked: Option<(Instant, Duration)>,
}

struct Organizer {
    lanes: BTreeMap<std::cmp::Reverse<i32>, Watermark>,
    /// Admission has nothing to give before; asking again is allowed.
    ready_at: Timestamp,
    /// Meta wants to be left alone until then.
    held_until: Timestamp,
}

impl Organizer {
    fn may_at(&self) -> Timestamp {
        self.ready_at.max(self.held_until)
    }
}

impl Lanes {
    /// Something may have changed: look again as soon as it is allowed.
    pub fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Whether it is time to look at the queue again.
    pub fn wants_look(&self, now: Timestamp) -> bool {
        let Some((at, cost)) = self.looked else {
            return true;
        };
        let age = at.elapsed();
        age >= cost * SHARE
            && (self.is_stale
                || (age >= REFRESH && !self.turns.is_empty())
                || self.next_due.is_some_and(|due| due <= now))
    }

    /// Looks at the queue. Holds placed on organizers stay.
    pub fn look(&mut self, now: Timestamp) -> Result<()> {
        let start = Instant::now();
        let found = claims::lanes()?;
        let before = std::mem::take(&mut self.organizers);
        self.next_due = None;
        for lane in found {
            if lane.first_due > now {
                self.next_due = Some(self.next_due.map_or(lane.first_due, |due| due.min(lane.first_due)));
                continue;
            }
            let key = *lane.organizer.as_bytes();
            let (ready_at, held_until) =
                before.get(&key).map_or((Timestamp::MIN, Timestamp::MIN), |it| (it.ready_at, it.held_until));
            self.organizers
                .entry(key)
                .or_insert_with(|| Organizer { lanes: BTreeMap::new(), ready_at, held_until })
                .lanes
                .insert(std::cmp::Reverse(lane.priority), Watermark::zero(lane.priority));
        }
        let known = &self.organizers;
        self.turns.retain(|key| known.contains_key(key));
        let waiting: Vec<_> = known.keys().filter(|key| !self.turns.contains(key)).copied().collect();
        self.turns.extend(waiting);
        self.is_stale = false;
        self.looked = Some((start, start.elapsed()));
        Ok(())
    }

    /// Whether an organizer has something due.
    pub fn has_due(&self, organizer: &[u8; 16]) -> bool {
        self.organizers.contains_key(organizer)
    }

    /// Organizers with something due, in the order of their turns, that may be served now.
    pub fn ready(&self, now: Timestamp, at_most: usize) -> Vec<Uuid> {
        let is_ready = |key: &&[u8; 16]| self.organizers.get(*key).is_some_and(|organizer| organizer.may_at() <= now);
        self.turns.iter().filter(is_ready).take(at_most).map(|key| Uuid::from_bytes(*key)).collect()
    }

    /// How many organizers could be served now.
    pub fn count_ready(&self, now: Timestamp) -> usize {
        self.organizers.values().filter(|organizer| organizer.may_at() <= now).count()
    }

    /// Where a claim for this organizer continues.
    pub fn watermarks(&self, organizer: &Uuid) -> Vec<Watermark> {
        self.organizers.get(organizer.as_bytes()).map(|it| it.lanes.values().copied().collect()).unwrap_or_default()
    }

    /// Takes note of a claim: the organizer goes to the end of the line.
    pub fn claimed(&mut self, organizer: &Uuid, rows: &[Claimed], is_exhausted: bool, ready_at: Timestamp) {
        let key = *organizer.as_bytes();
        self.turns.retain(|other| *other != key);
        if is_exhausted {
            self.organizers.remove(&key);
            self.is_stale = true;
            return;
        }
        if let Some(known) = self.organizers.get_mut(&key) {
            known.ready_at = ready_at;
            for row in rows {
                if let Some(mark) = known.lanes.get_mut(&std::cmp::Reverse(row.priority))
                    && (row.scheduled_for, row.seq) > (mark.scheduled_for, mark.seq)
                {
                    mark.scheduled_for = row.scheduled_for;
                    mark.seq = row.seq;
                }
            }
            self.turns.push_back(key);
        }
    }

    /// A message went back to the queue and is due at this moment.
    pub fn expect(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |known| known.min(due)));
    }

    /// Leaves an organizer alone until this moment.
    pub fn hold(&mut self, organizer: &Uuid, until: Timestamp) {
        let held = self.organizers.entry(*organizer.as_bytes()).or_insert_with(|| Organizer {
            lanes: BTreeMap::new(),
            ready_at: Timestamp::MIN,
            held_until: until,
        });
        held.held_until = held.held_until.max(until);
    }

    /// Admission is asked again for everybody: somebody may have mended what held him up.
    pub fn release(&mut self) {
        for organizer in self.organizers.values_mut() {
            organizer.ready_at = Timestamp::MIN;
        }
    }

    /// When something can be done next, as far as is known.
    pub fn next_ready(&self) -> Option<Timestamp> {
        let organizers = self.turns.iter().filter_map(|key| self.organizers.get(key)).map(Organizer::may_at);
        organizers.chain(self.next_due).min()
    }

    /// How long until a look is allowed.
    pub fn look_allowed_in(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |(at, cost)| (cost * SHARE).saturating_sub(at.elapsed()))
    }

    /// Whether a look is wanted as soon as it is allowed.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }
}
