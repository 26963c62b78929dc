//! Updates on their way out: due times, batches, and posts that are to be tried again.
//!
//! Whoever wants a webhook asks [`Outbox::take`], be it the courier or a test that pulls; so nothing leaves twice.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::envelope::Event;
use super::wire::SignedBody;
use crate::clock::Micros;

/// Bytes in one POST at most (Meta: "Webhooks overview", payload size).
const MAX_BYTES: usize = 3 << 20;

/// Room for what is around the updates of one POST.
const ENVELOPE_BYTES: usize = 4 << 10;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    /// Tells a waiting courier that something came in, or that there is more than another one took.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BinaryHeap<Reverse<Waiting>>,
    again: BinaryHeap<Reverse<Again>>,
    next_seq: u64,
    /// Updates that are neither read by somebody nor given up.
    unsettled: usize,
    dropped: u64,
    /// Number of resets: a post of an earlier life is not counted in this one.
    life: u64,
}

#[derive(Debug)]
struct Waiting {
    key: (Micros, u64, u64),
    event: Event,
}

#[derive(Debug)]
struct Again {
    due: Micros,
    post: Post,
}

/// A webhook whose updates have been put together.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) signed: SignedBody,
    pub(crate) ticket: Ticket,
    /// How often it was tried.
    pub(crate) attempts: u32,
}

/// What a post stands for in the outbox's books.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    updates: usize,
    life: u64,
}

/// What there is to take.
#[derive(Debug)]
pub(crate) enum Next {
    /// Updates that make a new post.
    Events(Vec<Event>, Ticket),
    /// A post to try again.
    Again(Post),
    /// Nothing before this time.
    At(Micros),
    Nothing,
}

impl Outbox {
    /// Adds an update; one that finds no room is dropped and counted.
    pub(crate) fn add(&self, events: impl Iterator<Item = (Micros, u64, Event)>, capacity: usize) {
        {
            let mut inner = self.inner.lock();
            for (due, tie, event) in events {
                if inner.unsettled >= capacity {
                    inner.dropped += 1;
                    continue;
                }
                inner.unsettled += 1;
                inner.next_seq += 1;
                let key = (due, tie, inner.next_seq);
                inner.waiting.push(Reverse(Waiting { key, event }));
            }
        }
        self.changed.notify_one();
    }

    /// Takes what is due: a post that failed before, else up to `batch` updates.
    pub(crate) fn take(&self, now: Micros, batch: usize) -> Next {
        let mut inner = self.inner.lock();
        if inner.again.peek().is_some_and(|Reverse(again)| again.due <= now)
            && let Some(Reverse(again)) = inner.again.pop()
        {
            return Next::Again(again.post);
        }
        let mut events = Vec::new();
        let mut bytes = ENVELOPE_BYTES;
        while events.len() < batch {
            let Some(Reverse(first)) = inner.waiting.peek().filter(|Reverse(first)| first.key.0 <= now) else {
                break;
            };
            bytes += first.event.max_length();
            if bytes > MAX_BYTES && !events.is_empty() {
                break;
            }
            events.extend(inner.waiting.pop().map(|Reverse(waiting)| waiting.event));
        }
        if !events.is_empty() {
            let ticket = Ticket { updates: events.len(), life: inner.life };
            return Next::Events(events, ticket);
        }
        let waiting = inner.waiting.peek().map(|Reverse(first)| first.key.0);
        let again = inner.again.peek().map(|Reverse(again)| again.due);
        waiting.into_iter().chain(again).min().map_or(Next::Nothing, Next::At)
    }

    /// A post has reached its reader, or was given up.
    pub(crate) fn settle(&self, ticket: Ticket) {
        let mut inner = self.inner.lock();
        if ticket.life == inner.life {
            inner.unsettled = inner.unsettled.saturating_sub(ticket.updates);
        }
    }

    /// Keeps a post that is to be tried at `due`.
    pub(crate) fn try_again(&self, post: Post, due: Micros) {
        {
            let mut inner = self.inner.lock();
            if post.ticket.life != inner.life {
                return;
            }
            inner.again.push(Reverse(Again { due, post }));
        }
        self.changed.notify_one();
    }

    /// Updates that are neither read by somebody nor given up, and those that found no room.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.unsettled as u64, inner.dropped)
    }

    pub(crate) fn clear(&self) {
        let old = {
            let mut inner = self.inner.lock();
            let life = inner.life + 1;
            std::mem::replace(&mut *inner, Inner { life, ..Inner::default() })
        };
        drop(old);
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Waiting {}

impl Ord for Again {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}

impl PartialOrd for Again {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Again {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Again {}
