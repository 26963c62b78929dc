//! Messages waiting for their moment, and threads waiting for messages. One thread waits for the first message's time,
//! the others for word that there is more; the first message due goes to whoever is free. That two messages of a number do
//! not leave together is the business of its gate (`cloud_api::gate`).

use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::worker::pool::Job;

/// The messages that no thread has taken yet.
#[derive(Default)]
pub struct Timetable {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: BinaryHeap<Timed>,
    order: u64,
    idle: usize,
    visits: u64,
    /// The visit that waits for the first message's time.
    leader: Option<u64>,
    is_closed: bool,
}

/// Earliest first; the heap is a max-heap, so the order is reversed.
struct Timed {
    at: Instant,
    order: u64,
    job: Job,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl Timetable {
    /// Adds messages and wakes as many threads as can do something about them.
    pub fn add(&self, jobs: Vec<Job>) {
        let now = Instant::now();
        let due = jobs.iter().filter(|job| job.not_before <= now).count();
        let mut waiting = self.lock();
        for job in jobs {
            waiting.order += 1;
            let order = waiting.order;
            waiting.jobs.push(Timed { at: job.not_before, order, job });
        }
        // The first message may be due before the one the leader waits for.
        waiting.leader = None;
        let wake = due.max(1).min(waiting.idle);
        drop(waiting);
        for _ in 0..wake {
            self.changed.notify_one();
        }
    }

    /// Waits for a message whose time has come. `taken` sees it before the lock is released, so that a message is always
    /// here, in the taker's hands, or answered. None once the timetable is closed.
    pub fn take(&self, taken: impl FnOnce(&Job)) -> Option<Job> {
        let mut waiting = self.lock();
        waiting.visits += 1;
        let me = waiting.visits;
        loop {
            if waiting.is_closed {
                return None;
            }
            let now = Instant::now();
            let wait = waiting.jobs.peek().map(|first| first.at.saturating_duration_since(now));
            if wait.is_some_and(|wait| wait.is_zero()) {
                let Some(Timed { job, .. }) = waiting.jobs.pop() else { continue };
                taken(&job);
                // A wake-up is a system call even when nobody waits.
                if waiting.idle > 0 && !waiting.jobs.is_empty() {
                    self.changed.notify_one();
                }
                return Some(job);
            }
            waiting.idle += 1;
            waiting = match wait {
                Some(wait) if waiting.leader.is_none() => {
                    waiting.leader = Some(me);
                    let (mut waiting, _) =
                        self.changed.wait_timeout(waiting, wait).unwrap_or_else(PoisonError::into_inner);
                    waiting.leader.take_if(|leader| *leader == me);
                    waiting
                }
                _ => self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
            waiting.idle -= 1;
        }
    }

    /// Messages that are due and that no waiting thread is going to take.
    pub fn unattended(&self) -> usize {
        let waiting = self.lock();
        if waiting.idle > 0 || waiting.jobs.is_empty() {
            return 0;
        }
        let now = Instant::now();
        waiting.jobs.iter().filter(|timed| timed.at <= now).count().max(1)
    }

    /// Hands back what nobody has taken; takers get nothing from here on.
    pub fn close(&self) -> Vec<Job> {
        let jobs = {
            let mut waiting = self.lock();
            waiting.is_closed = true;
            std::mem::take(&mut waiting.jobs)
        };
        self.changed.notify_all();
        jobs.into_iter().map(|timed| timed.job).collect()
    }

    /// A panic elsewhere does not take the lock away: the data are complete after every statement.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
