//! What a portfolio has used of its limits, rebuilt from the slices of sending time that were given away.

use std::collections::{HashMap, VecDeque};

use crate::pairs::Pairs;
use crate::recipients::{Recipient, Recipients};

/// The span of the limit per minute.
const MINUTE_US: i64 = 60_000_000;

/// Sending time that was given away, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The number it was given on.
    pub phone_number_id: &'a str,
    /// The first message's slot.
    pub starts_us: i64,
    /// The last message's slot.
    pub ends_us: i64,
    /// How many messages.
    pub messages: u32,
    /// Recipients in the order of their slots, as [`Desk::given`] wrote them: negative inside an open service window.
    pub recipients: &'a [i64],
}

/// What a portfolio has used of its limits.
#[derive(Debug)]
pub struct Usage {
    pub(super) known_since_us: i64,
    pub(super) day: Recipients,
    pub(super) minute: VecDeque<(i64, u32)>,
    pub(super) pairs: HashMap<String, Pairs>,
}

impl Usage {
    /// Nothing is known yet; what was given away since this moment is going to be replayed, and where there is a daily limit
    /// what was given away in the day before it. At least [`crate::pairs::SPAN_US`] back, or recipients would wait for
    /// nothing.
    #[must_use]
    pub fn known_since(known_since_us: i64) -> Self {
        Self { known_since_us, day: Recipients::new(), minute: VecDeque::new(), pairs: HashMap::new() }
    }

    /// Takes account of sending time that was given away; in the order in which it was given.
    pub fn replay(&mut self, given: Given) {
        if given.messages > 0 {
            self.minute.push_back((given.ends_us, given.messages));
        }
        let last = i64::try_from(given.recipients.len()).unwrap_or(i64::MAX).saturating_sub(1).max(1);
        let span = given.ends_us.saturating_sub(given.starts_us);
        for (k, written) in given.recipients.iter().enumerate() {
            let at = given.starts_us.saturating_add(span / last * i64::try_from(k).unwrap_or(0)).min(given.ends_us);
            let Some(recipient) = Recipient::from_i64(written.saturating_abs()) else { continue };
            if *written > 0 {
                self.day.add(recipient, given.ends_us);
            }
            if !given.phone_number_id.is_empty() && at >= self.known_since_us {
                self.pairs
                    .entry(given.phone_number_id.to_owned())
                    .or_insert_with(|| Pairs::new(self.known_since_us))
                    .take(recipient, at);
            }
        }
    }

    /// A recipient of the day of whom nothing else is known.
    pub fn replay_recipient(&mut self, recipient: Recipient, at_us: i64) {
        self.day.add(recipient, at_us);
    }

    /// Forgets what no limit looks at any more.
    pub fn forget(&mut self, now_us: i64) {
        while self.minute.front().is_some_and(|(ends, _)| ends.saturating_add(MINUTE_US) <= now_us) {
            self.minute.pop_front();
        }
        self.day.count(now_us);
        for pairs in self.pairs.values_mut() {
            pairs.forget(now_us);
        }
    }

    /// Unique recipients of the rolling day.
    pub fn recipients(&mut self, now_us: i64) -> u32 {
        self.day.count(now_us)
    }

    /// When each recipient of the rolling day leaves it, earliest first.
    #[must_use]
    pub fn recipients_end(&self) -> Vec<i64> {
        self.day.ends()
    }

    /// When so many more recipients have room.
    #[must_use]
    pub fn recipients_free_at(&self, n: u32) -> Option<i64> {
        self.day.frees_at(n)
    }

    /// Messages of the last minute, and when the oldest of them leave it.
    #[must_use]
    pub fn minute(&self, now_us: i64) -> (u64, Option<i64>) {
        let counts = |(ends, _): &&(i64, u32)| ends.saturating_add(MINUTE_US) > now_us;
        let used = self.minute.iter().filter(counts).map(|(_, messages)| u64::from(*messages)).sum();
        let frees_at = self.minute.iter().filter(counts).map(|(ends, _)| ends.saturating_add(MINUTE_US)).min();
        (used, frees_at)
    }
}
