//! What an error of Meta's says beyond its message: what must be held, slowed down, or remembered of the recipient. The
//! reactions themselves are data (`cloud_api::errors`); here they meet an organizer's number, template and recipient.
//! Both answers to requests and status webhooks come through here.

use std::time::Duration;

use cloud_api::errors::{Reaction, Rule};
use cloud_api::holds::Scope;
use cloud_api::phone::PhoneNumber;
use pgrx::Uuid;

use crate::store::holds::{Stop, Word};
use crate::time::Timestamp;

/// A number that was told to slow down rests for this long at least.
const SLOW_DOWN: Duration = Duration::from_secs(2);
/// What Meta stopped is tried again after this, where its rule names no other time: mending takes a person a while.
const PROBE: Duration = Duration::from_secs(15 * 60);
/// What Meta stopped for its policy is tried again after this: knocking often makes it no better.
const PROBE_POLICY: Duration = Duration::from_secs(60 * 60);

/// What an answer says beyond its message.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Something is held back.
    Stop(Stop),
    /// The number sends too fast: it rests for so long, then goes on at half its rate.
    SlowNumber {
        /// Meta's id of the number.
        phone_number_id: String,
        /// Its full rate.
        per_second: u32,
        /// How long it rests.
        rest: Duration,
    },
    /// Meta said something about the recipient.
    Word {
        /// The organizer.
        organizer: Uuid,
        /// The recipient.
        phone: String,
        /// What.
        word: Word,
        /// Meta's code.
        code: String,
        /// In words.
        reason: String,
    },
    /// Meta took the message that was tried: holds are over.
    Mended {
        /// The organizer.
        organizer: Uuid,
        /// The number.
        phone_number_id: String,
        /// The template.
        template: String,
        /// Its category.
        category: Option<String>,
    },
}

impl Effect {
    /// The clock was set by so many microseconds.
    pub fn move_times(&mut self, by_us: i64) {
        match self {
            Self::Stop(stop) => stop.until = stop.until.moved(by_us),
            Self::Word { word: Word::Marketing(until), .. } => *until = until.moved(by_us),
            Self::Word { .. } | Self::SlowNumber { .. } | Self::Mended { .. } => {}
        }
    }
}

/// What surrounds a message.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The organizer.
    pub organizer: Uuid,
    /// Meta's id of the number.
    pub phone_number_id: &'a str,
    /// The number's full rate.
    pub per_second: u32,
    /// Template and language.
    pub template: Option<(&'a str, &'a str)>,
    /// The template's category.
    pub category: Option<&'a str>,
    /// The recipient, as stored.
    pub recipient: &'a str,
}

/// An error as the rows keep it.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What it means.
    pub rule: &'a Rule,
    /// Meta's code or ours.
    pub code: &'a str,
    /// In words.
    pub text: &'a str,
    /// How long Meta asked to wait.
    pub wait: Duration,
    /// When it came.
    pub now: Timestamp,
}

impl Report<'_> {
    /// What the error says about what surrounds its message, if anything.
    pub fn effect(&self, around: &Surroundings) -> Option<Effect> {
        let stop = |scope: Scope, subject: String, after: Duration| {
            let is_for_ever = !self.rule.retryable && self.rule.wait.is_none();
            Effect::Stop(Stop {
                organizer: around.organizer,
                scope,
                subject,
                code: self.code.to_owned(),
                reason: self.text.to_owned(),
                until: if is_for_ever { Timestamp::INFINITY } else { self.now.plus(after.max(self.wait)) },
            })
        };
        let word = |word: Word| Effect::Word {
            organizer: around.organizer,
            phone: around.recipient.to_owned(),
            word,
            code: self.code.to_owned(),
            reason: self.text.to_owned(),
        };
        let account = || around.organizer.to_string();
        let number = || around.phone_number_id.to_owned();
        match self.rule.reaction {
            Reaction::Retry | Reaction::Fail => None,
            Reaction::SlowNumber => Some(Effect::SlowNumber {
                phone_number_id: number(),
                per_second: around.per_second,
                rest: self.wait.max(SLOW_DOWN),
            }),
            Reaction::SlowAccount => Some(stop(Scope::Account, account(), SLOW_DOWN)),
            Reaction::HoldPair => Some(word(Word::Pair)),
            Reaction::HoldNumber => Some(stop(Scope::Number, number(), PROBE)),
            Reaction::HoldAccountToken | Reaction::HoldAccountBilling => Some(stop(Scope::Account, account(), PROBE)),
            Reaction::HoldAccountPolicy => Some(stop(Scope::Account, account(), PROBE_POLICY)),
            Reaction::HoldTemplate => {
                let (name, language) = around.template?;
                Some(stop(Scope::Template, format!("{name}/{language}"), PROBE))
            }
            Reaction::HoldCategory => Some(stop(Scope::Category, around.category?.to_owned(), PROBE_POLICY)),
            Reaction::BlockCountry => {
                let code = PhoneNumber::parse(around.recipient).ok()?.number.calling_code()?;
                Some(stop(Scope::Country, format!("+{code}"), PROBE))
            }
            Reaction::SuppressRecipient { failures } => Some(word(Word::Undeliverable(failures))),
            Reaction::SuppressMarketing => Some(word(Word::Marketing(Timestamp::INFINITY))),
            Reaction::HoldMarketing => Some(word(Word::Marketing(self.now.plus(self.wait)))),
        }
    }
}

/// Meta's words, what they mean, and what to do.
pub fn in_words(message: &str, details: Option<&str>, rule: &Rule) -> String {
    let mut text = message.to_owned();
    if let Some(details) = details.filter(|details| !details.is_empty() && *details != text) {
        text = format!("{text}: {details}");
    }
    format!("{text}. {} {}", rule.meaning, rule.advice)
}
