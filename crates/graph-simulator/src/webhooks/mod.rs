//! Webhooks: what Meta tells about accepted messages and messages from users.
//!
//! [`plan`] says what is made, [`fate`] throws its chances for one message, [`envelope`] and [`wire`] write the
//! bodies, [`outbox`] holds what is on its way, [`courier`] POSTs it. This module ties them together.

pub(crate) mod courier;
pub(crate) mod envelope;
pub(crate) mod fate;
mod outbox;
pub(crate) mod plan;
pub(crate) mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

use crate::clock::{Clock, Micros};
use crate::stats::WebhookStats;
use envelope::{Accepted, Event, InboundEvent, StatusEvent};
use fate::Draws;
use outbox::{Next, Outbox, Post};
use plan::ArmedPlan;
use wire::SignedBody;

/// Everything about webhooks that requests share.
#[derive(Debug)]
pub(crate) struct Webhooks {
    /// Whether there is a plan: the one thing that a send looks at when there is none.
    on: AtomicBool,
    plan: watch::Sender<Option<Arc<ArmedPlan>>>,
    outbox: Outbox,
    turn: AtomicU64,
    made: AtomicU64,
    taken: AtomicU64,
    posts_delivered: AtomicU64,
    posts_failed: AtomicU64,
    given_up: AtomicU64,
}

impl Webhooks {
    pub(crate) fn new(plan: Option<ArmedPlan>) -> Self {
        Self {
            on: AtomicBool::new(plan.is_some()),
            plan: watch::Sender::new(plan.map(Arc::new)),
            outbox: Outbox::default(),
            turn: AtomicU64::new(0),
            made: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            posts_delivered: AtomicU64::new(0),
            posts_failed: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        }
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> Option<Arc<ArmedPlan>> {
        if !self.on.load(Ordering::Acquire) {
            return None;
        }
        self.plan.borrow().clone()
    }

    /// Follows the plan from now on. Without a plan, what still waits can no longer be signed and goes.
    pub(crate) fn set_plan(&self, plan: Option<ArmedPlan>) {
        let on = plan.is_some();
        self.plan.send_replace(plan.map(Arc::new));
        self.on.store(on, Ordering::Release);
        if !on {
            self.outbox.clear();
        }
    }

    /// Makes the statuses of an accepted message, whose delays count from `base`.
    pub(crate) fn accepted(&self, armed: &ArmedPlan, message: Accepted, base: Micros, clock: &Clock) {
        let plan = &armed.plan;
        let mut draws = Draws::new(plan.seed, self.turn.fetch_add(1, Ordering::Relaxed));
        let happenings = fate::fate(plan, &message.to, message.undeliverable, base, &mut draws);
        let made = happenings.len() as u64;
        let message = Arc::new(message);
        let events = happenings.into_iter().map(|happening| {
            let event = StatusEvent {
                message: Arc::clone(&message),
                reached: happening.reached,
                timestamp: clock.unix_seconds(happening.at),
                priced: happening.priced,
                callback_data_on_failed: plan.callback_data_on_failed,
            };
            (happening.due, happening.tie, Event::Status(event))
        });
        self.outbox.add(events, plan.capacity);
        self.made.fetch_add(made, Ordering::Relaxed);
    }

    /// Makes the webhook of a message from a user, due at once.
    pub(crate) fn received(&self, armed: &ArmedPlan, message: InboundEvent, now: Micros) {
        let plan = &armed.plan;
        let mut draws = Draws::new(plan.seed, self.turn.fetch_add(1, Ordering::Relaxed));
        let event = Event::Inbound(Arc::new(message));
        let second = (draws.draw() < plan.duplicates)
            .then(|| (now.saturating_add(fate::millis(plan.duplicate_after_ms.into())), 0, event.clone()));
        let made = 1 + u64::from(second.is_some());
        self.outbox.add([(now, 0, event)].into_iter().chain(second), plan.capacity);
        self.made.fetch_add(made, Ordering::Relaxed);
    }

    /// Takes up to `max` webhooks that are due, as if they had reached their reader.
    pub(crate) fn take(&self, max: usize, now: Micros) -> Vec<SignedBody> {
        let mut taken = Vec::new();
        let Some(armed) = self.plan() else {
            return taken;
        };
        while taken.len() < max {
            let Ok(post) = self.next(&armed, now) else {
                break;
            };
            self.outbox.settle(post.ticket);
            taken.push(post.signed);
        }
        self.taken.fetch_add(taken.len() as u64, Ordering::Relaxed);
        taken
    }

    /// The next post that is due, or when there will be one.
    fn next(&self, armed: &ArmedPlan, now: Micros) -> Result<Post, Option<Micros>> {
        loop {
            match self.outbox.take(now, armed.plan.batch) {
                Next::Again(post) => return Ok(post),
                Next::At(due) => return Err(Some(due)),
                Next::Nothing => return Err(None),
                Next::Events(events, ticket) => match envelope::body(&events) {
                    Ok(body) => return Ok(Post { signed: armed.key.sign(body), ticket, attempts: 0 }),
                    // Strings and numbers can always be written; if not, they must not stop the rest.
                    Err(_) => self.outbox.settle(ticket),
                },
            }
        }
    }

    pub(crate) fn stats(&self) -> WebhookStats {
        let (waiting, dropped) = self.outbox.counts();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WebhookStats {
            made: read(&self.made),
            waiting,
            taken: read(&self.taken),
            posts_delivered: read(&self.posts_delivered),
            posts_failed: read(&self.posts_failed),
            given_up: read(&self.given_up),
            dropped,
        }
    }

    /// Forgets what waits and what was counted; the plan stays.
    pub(crate) fn reset(&self) {
        self.outbox.clear();
        for counter in [&self.turn, &self.made, &self.taken, &self.posts_delivered, &self.posts_failed, &self.given_up]
        {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
