//! The admission decision: which of an organizer's due messages may leave, each at which moment, and why the others may
//! not. One decision over every limit: messages per second of the number, unique recipients of the rolling day and
//! messages per minute of the portfolio, one recipient's rate, holds, consent as far as Meta reports it, expiry.
//!
//! [`Usage`] is what a portfolio has used, rebuilt from the slices of sending time that were given away; a [`Desk`]
//! decides message by message and keeps count. Whoever opens a desk holds the locks on what it gives away, so a limit of N
//! never becomes N + 1. Times are microseconds of any epoch, passed in. Source of the limits: Meta, "Messaging limits",
//! "Throughput", error codes 131056, 131026, 131049, 131050, 130497.

mod usage;

use crate::holds::{Hold, Holding, Scope};
use crate::pacing::Slice;
use crate::pairs::Pairs;
use crate::recipients::Recipient;

pub use usage::{Given, Usage};

/// What is known of a recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// The service window is open until then.
    pub window_until_us: Option<i64>,
    /// Messages wait until then.
    pub held_until_us: Option<i64>,
    /// Marketing waits until then; `i64::MAX`: none is wanted.
    pub marketing_held_until_us: Option<i64>,
    /// Meta's code for it.
    pub marketing_code: Option<String>,
    /// Meta's code for a number that cannot be reached.
    pub suppressed_code: Option<String>,
}

/// A due message.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: &'a str,
    /// Recipient as stored.
    pub recipient: &'a str,
    /// Template name.
    pub template: &'a str,
    /// Its language, if settled.
    pub language: Option<&'a str>,
    /// The template's category, if known.
    pub category: Option<&'a str>,
    /// Its event.
    pub event: Option<&'a str>,
    /// Its task.
    pub task: Option<&'a str>,
    /// Its campaign.
    pub campaign: Option<&'a str>,
    /// Not to be sent at or after this moment.
    pub expires_us: Option<i64>,
    /// What is known of the recipient.
    pub contact: &'a Contact,
}

/// What becomes of a message now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It leaves at this moment. `is_probe`: a hold of Meta's depends on how it fares.
    Send {
        /// When.
        at_us: i64,
        /// Whether it decides a hold.
        is_probe: bool,
    },
    /// It stays queued; asking again before this moment is of no use. None: until something changes.
    Wait {
        /// Not before.
        until_us: Option<i64>,
    },
    /// It will never pass.
    Fail {
        /// Meta's code or ours.
        code: String,
        /// Why.
        reason: String,
    },
}

/// The limits a desk works under.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits<'a> {
    /// Unique recipients per rolling 24 h; None: no limit.
    pub daily_recipients: Option<u32>,
    /// What is held back.
    pub holds: &'a [Hold],
    /// Only these numbers are written to, when not empty.
    pub only_to: &'a [String],
}

/// Decides for one organizer and one number at one moment.
#[derive(Debug)]
pub struct Desk<'a> {
    now_us: i64,
    limits: Limits<'a>,
    usage: &'a mut Usage,
    pairs: Pairs,
    phone_number_id: &'a str,
    slice: Slice,
    taken: u32,
    day_left: u32,
    probed: Vec<usize>,
    given: Vec<i64>,
}

impl<'a> Desk<'a> {
    /// A desk that may give away the slots of this slice.
    pub fn open(usage: &'a mut Usage, phone_number_id: &'a str, limits: Limits<'a>, slice: Slice, now_us: i64) -> Self {
        let used = usage.day.count(now_us);
        let day_left = limits.daily_recipients.map_or(u32::MAX, |limit| limit.saturating_sub(used));
        let pairs = usage.pairs.remove(phone_number_id).unwrap_or_else(|| Pairs::new(usage.known_since_us));
        Self {
            now_us,
            limits,
            usage,
            pairs,
            phone_number_id,
            slice,
            taken: 0,
            day_left,
            probed: Vec::new(),
            given: Vec::new(),
        }
    }

    /// Whether a slot is left.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.taken < self.slice.count
    }

    /// Slots given away so far.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Whom they were given to, for [`Given::recipients`].
    #[must_use]
    pub fn given(&self) -> &[i64] {
        &self.given
    }

    /// Holds of Meta's that a message was chosen to try, as indexes into [`Limits::holds`].
    #[must_use]
    pub fn probed(&self) -> &[usize] {
        &self.probed
    }

    /// Decides about one message; needs room.
    pub fn decide(&mut self, message: &Candidate) -> Decision {
        let slot = self.next_slot();
        if message.expires_us.is_some_and(|expires| expires <= slot) {
            return fail("expired", "it could not be sent before expires_at");
        }
        if !self.limits.only_to.is_empty() && !self.limits.only_to.iter().any(|only| only == message.recipient) {
            return Decision::Wait { until_us: None };
        }
        let probes = match self.under_holds(message) {
            Ok(probes) => probes,
            Err(decision) => return decision,
        };
        if let Some(decision) = self.about_contact(message) {
            return decision;
        }
        // What is no number is refused before it is sent; here it only takes a slot.
        if let Some(recipient) = Recipient::parse(message.recipient) {
            let in_window = message.contact.window_until_us.is_some_and(|until| until > slot);
            let earliest = self.pairs.earliest(recipient, slot);
            if earliest > slot {
                return Decision::Wait { until_us: Some(earliest) };
            }
            if !in_window {
                let is_new = !self.usage.day.contains(recipient);
                if is_new && self.day_left == 0 {
                    return Decision::Wait { until_us: self.usage.day.frees_at(1) };
                }
                self.day_left = self.day_left.saturating_sub(u32::from(is_new));
                self.usage.day.add(recipient, slot);
            }
            self.pairs.take(recipient, slot);
            self.given.push(if in_window { -recipient.to_i64() } else { recipient.to_i64() });
        }
        self.taken += 1;
        let is_probe = !probes.is_empty();
        self.probed.extend(probes);
        Decision::Send { at_us: slot, is_probe }
    }

    fn next_slot(&self) -> i64 {
        self.slice.first_us.saturating_add(self.slice.interval_us.saturating_mul(i64::from(self.taken)))
    }

    /// The holds the message would try; an error when it is held.
    fn under_holds(&self, message: &Candidate) -> Result<Vec<usize>, Decision> {
        let mut probes = Vec::new();
        for (n, hold) in self.limits.holds.iter().enumerate() {
            if !concerns(hold, message) {
                continue;
            }
            match hold.at(self.now_us) {
                Holding::Over => {}
                _ if hold.scope == Scope::Country => {
                    return Err(fail(hold.code.as_deref().unwrap_or("country"), &hold.reason));
                }
                Holding::Blocks => {
                    return Err(Decision::Wait { until_us: Some(hold.until_us).filter(|until| *until < i64::MAX) });
                }
                Holding::Probes if self.probed.contains(&n) => return Err(Decision::Wait { until_us: None }),
                Holding::Probes => probes.push(n),
            }
        }
        Ok(probes)
    }

    fn about_contact(&self, message: &Candidate) -> Option<Decision> {
        let contact = message.contact;
        if let Some(code) = &contact.suppressed_code {
            return Some(fail(
                code,
                "earlier messages to this number could not be delivered, so no more are tried: wa_resume(recipient => …) lifts that",
            ));
        }
        if let Some(until) = contact.held_until_us.filter(|until| *until > self.now_us) {
            return Some(Decision::Wait { until_us: Some(until).filter(|until| *until < i64::MAX) });
        }
        if message.category == Some("MARKETING") {
            let code = contact.marketing_code.as_deref().unwrap_or("marketing_stopped");
            return match contact.marketing_held_until_us {
                Some(i64::MAX) => Some(fail(code, "the person wants no marketing messages")),
                Some(until) if until > self.now_us => Some(Decision::Wait { until_us: Some(until) }),
                _ => None,
            };
        }
        None
    }
}

impl Drop for Desk<'_> {
    /// What was given away stays counted.
    fn drop(&mut self) {
        if self.taken > 0 {
            let ends = self.slice.first_us + self.slice.interval_us.saturating_mul(i64::from(self.taken) - 1);
            self.usage.minute.push_back((ends, self.taken));
        }
        self.usage.pairs.insert(
            self.phone_number_id.to_owned(),
            std::mem::replace(&mut self.pairs, Pairs::new(self.usage.known_since_us)),
        );
    }
}

fn fail(code: &str, reason: &str) -> Decision {
    Decision::Fail { code: code.to_owned(), reason: reason.to_owned() }
}

fn concerns(hold: &Hold, message: &Candidate) -> bool {
    let subject = hold.subject.as_str();
    match hold.scope {
        Scope::Account | Scope::Number => true,
        Scope::Template => match subject.split_once('/') {
            None => subject == message.template,
            Some((name, language)) => {
                name == message.template && message.language.is_none_or(|written| written == language)
            }
        },
        Scope::Category => message.category == Some(subject),
        Scope::Country => message.recipient.starts_with(subject),
        Scope::Event => message.event == Some(subject),
        Scope::Task => message.task == Some(subject),
        Scope::Campaign => message.campaign == Some(subject),
        Scope::Message => message.id == subject,
    }
}

#[cfg(test)]
mod tests;
