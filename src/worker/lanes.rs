//! Which organizers have something due, whose turn it is, and how far each one's queue has been looked at. Organizers take
//! turns, so that one backlog never starves another; within an organizer, priorities go highest first.
//!
//! Looking at the whole queue costs an index probe per organizer and priority, and more while a held snapshot keeps dead
//! index entries alive. So the look is repeated only when it is due, and never more than a twentieth of the time. The same
//! goes for an organizer whose messages are passed over because they are held: claims go on behind them, and beginning
//! again at the front is allowed a twentieth of the time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use pgrx::Uuid;

use crate::error::Result;
use crate::store::claims::{self, Place};
use crate::time::Timestamp;
use crate::worker::admit::Rest;

/// A look is repeated at least this often while there is work: rows may commit late, behind a place already passed.
const REFRESH: Duration = Duration::from_secs(1);
/// Looks take at most one part in this many of the time.
const SHARE: u32 = 20;
/// Who could not be served for a while may be served so many messages more than the others afterwards, not everything he missed.
const CREDIT: u64 = 200;

/// What is known of the queue.
#[derive(Default)]
pub struct Lanes {
    organizers: HashMap<[u8; 16], Organizer>,
    turns: VecDeque<[u8; 16]>,
    /// What the organizer served last had been served before: whoever has been served less comes first.
    served: u64,
    next_due: Option<Timestamp>,
    is_stale: bool,
    looked: Option<(Instant, Duration)>,
}

struct Organizer {
    /// By priority, highest first: how far has been looked.
    lanes: BTreeMap<std::cmp::Reverse<i32>, Place>,
    /// Admission has nothing to give before; asking again is allowed.
    ready_at: Timestamp,
    /// Messages claimed, counted on from what the others had been served (start-time fair queueing).
    served: u64,
    /// Only messages that are held are left, as far as has been looked.
    is_held: bool,
    /// When the organizer's queue was begun at the front, and how long what came after took.
    begun: Instant,
    took: Duration,
}

impl Organizer {
    fn may_begin_again(&self) -> bool {
        self.begun.elapsed() >= self.took * SHARE
    }
}

/// What a claim says about an organizer's queue.
pub struct Progress {
    /// How far was looked.
    pub reached: Vec<Place>,
    /// Messages claimed.
    pub claimed: u32,
    /// What is left.
    pub rest: Rest,
    /// When to come back.
    pub ready_at: Timestamp,
    /// How long it took.
    pub took: Duration,
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

    /// Looks at the queue.
    pub fn look(&mut self, now: Timestamp) -> Result<()> {
        let start = Instant::now();
        let mut found: HashMap<[u8; 16], Vec<Place>> = HashMap::new();
        self.next_due = None;
        for lane in claims::lanes()? {
            if lane.start.scheduled_for > now {
                let due = lane.start.scheduled_for;
                self.next_due = Some(self.next_due.map_or(due, |known| known.min(due)));
            } else {
                found.entry(*lane.organizer.as_bytes()).or_default().push(lane.start);
            }
        }
        self.organizers.retain(|key, _| found.contains_key(key));
        for (key, starts) in found {
            let organizer = self.organizers.entry(key).or_insert_with(|| Organizer {
                lanes: BTreeMap::new(),
                ready_at: Timestamp::MIN,
                served: self.served,
                is_held: false,
                begun: start,
                took: Duration::ZERO,
            });
            let begins_again = organizer.may_begin_again();
            if begins_again {
                organizer.begun = start;
                organizer.took = Duration::ZERO;
            }
            let before = std::mem::take(&mut organizer.lanes);
            for place in starts {
                let priority = std::cmp::Reverse(place.priority);
                let known = before.get(&priority).copied().filter(|known| !begins_again && known.is_after(&place));
                organizer.lanes.insert(priority, known.unwrap_or(place));
            }
            // Behind what is held there may be something new.
            if organizer.is_held {
                organizer.ready_at = Timestamp::MIN;
            }
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

    /// Organizers with something due that may be served now: who has been served least comes first, of equals whose turn
    /// it is.
    pub fn ready(&self, now: Timestamp, at_most: usize) -> Vec<Uuid> {
        let served = |key: &[u8; 16]| {
            let organizer = self.organizers.get(key).filter(|organizer| organizer.ready_at <= now)?;
            Some(self.start_of(organizer))
        };
        let mut ready: Vec<_> =
            self.turns.iter().enumerate().filter_map(|(turn, key)| Some((served(key)?, turn, *key))).collect();
        ready.sort_unstable();
        ready.into_iter().take(at_most).map(|(_, _, key)| Uuid::from_bytes(key)).collect()
    }

    fn start_of(&self, organizer: &Organizer) -> u64 {
        organizer.served.max(self.served.saturating_sub(CREDIT))
    }

    /// How many organizers could be served now.
    pub fn count_ready(&self, now: Timestamp) -> usize {
        self.organizers.values().filter(|organizer| organizer.ready_at <= now).count()
    }

    /// Where a claim for this organizer continues, highest priority first.
    pub fn places(&self, organizer: &Uuid) -> Vec<Place> {
        self.organizers.get(organizer.as_bytes()).map(|it| it.lanes.values().copied().collect()).unwrap_or_default()
    }

    /// Takes note of a claim: the organizer goes to the end of the line.
    pub fn claimed(&mut self, organizer: &Uuid, progress: &Progress) {
        let key = *organizer.as_bytes();
        self.turns.retain(|other| *other != key);
        if let Some(known) = self.organizers.get(&key)
            && progress.claimed > 0
        {
            let start = self.start_of(known);
            self.served = start;
            if let Some(known) = self.organizers.get_mut(&key) {
                known.served = start + u64::from(progress.claimed);
            }
        }
        if progress.rest == Rest::Nothing {
            self.organizers.remove(&key);
            self.is_stale = true;
            return;
        }
        if let Some(known) = self.organizers.get_mut(&key) {
            known.is_held = progress.rest == Rest::Held;
            // What is held is looked at again with the next look, not before.
            known.ready_at = if known.is_held { Timestamp::INFINITY } else { progress.ready_at };
            known.took += progress.took;
            for place in &progress.reached {
                known.lanes.insert(std::cmp::Reverse(place.priority), *place);
            }
            self.turns.push_back(key);
        }
    }

    /// A message went back to the queue and is due at this moment.
    pub fn expect(&mut self, due: Timestamp) {
        self.next_due = Some(self.next_due.map_or(due, |known| known.min(due)));
    }

    /// Admission is asked again for everybody.
    pub fn ask_again(&mut self) {
        for organizer in self.organizers.values_mut() {
            organizer.ready_at = Timestamp::MIN;
        }
    }

    /// The same, from the front of each queue: somebody may have mended what held him up, or the clock was set.
    pub fn release(&mut self) {
        for organizer in self.organizers.values_mut() {
            organizer.ready_at = Timestamp::MIN;
            organizer.took = Duration::ZERO;
        }
    }

    /// When something can be done next, as far as is known.
    pub fn next_ready(&self) -> Option<Timestamp> {
        let organizers = self.turns.iter().filter_map(|key| self.organizers.get(key)).map(|it| it.ready_at);
        organizers.filter(|at| *at < Timestamp::INFINITY).chain(self.next_due).min()
    }

    /// How long until a look is allowed.
    pub fn look_allowed_in(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |(at, cost)| (cost * SHARE).saturating_sub(at.elapsed()))
    }

    /// How long until the queue is looked at again because messages are held.
    pub fn look_due_in(&self) -> Option<Duration> {
        let (at, cost) = self.looked?;
        let has_held = self.organizers.values().any(|organizer| organizer.is_held);
        has_held.then(|| REFRESH.max(cost * SHARE).saturating_sub(at.elapsed()))
    }

    /// Whether a look is wanted as soon as it is allowed.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }
}
