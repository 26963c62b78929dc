//! What answers say beyond their messages, written down in the transaction that records them: holds, slower numbers, words
//! about recipients. Answers that come together say the same thing many times; it is written once.

use std::collections::BTreeMap;
use std::time::Duration;

use cloud_api::retry;
use pgrx::Uuid;

use crate::error::Result;
use crate::reactions::Effect;
use crate::store::holds::{self, Stop, Word};
use crate::store::{admission, notices};
use crate::time::Timestamp;

/// Writes the effects down. Answers what an operator should read in the log.
pub fn apply(effects: &[Effect], channel: Option<&str>, now: Timestamp) -> Result<Vec<String>> {
    let mut stops: BTreeMap<(&[u8; 16], &'static str, &str), &Stop> = BTreeMap::new();
    let mut slow: BTreeMap<&str, (u32, Duration)> = BTreeMap::new();
    for effect in effects {
        match effect {
            Effect::Stop(stop) => {
                let known = stops
                    .entry((stop.organizer.as_bytes(), stop.scope.as_str(), stop.subject.as_str()))
                    .or_insert(stop);
                if stop.until > known.until {
                    *known = stop;
                }
            }
            Effect::SlowNumber { phone_number_id, per_second, rest } => {
                let known = slow.entry(phone_number_id).or_insert((*per_second, *rest));
                known.1 = known.1.max(*rest);
            }
            Effect::Word { organizer, phone, word, code, reason } => {
                let failures = holds::note(organizer, phone, word, code, reason, now)?;
                if *word == Word::Pair {
                    holds::hold_recipient(organizer, phone, now.plus(retry::pair_delay(failures)))?;
                }
            }
            Effect::Mended { organizer, phone_number_id, template, category } => {
                holds::end_probed(organizer, phone_number_id, template, category.as_deref())?;
            }
        }
    }
    for (phone_number_id, (per_second, rest)) in slow {
        admission::throttle(phone_number_id, per_second, now, rest)?;
    }
    let mut news = Vec::new();
    for stop in stops.into_values() {
        if holds::stop(stop, now)? {
            news.push(format!(
                "{} {} of organizer {} is on hold: {}",
                stop.scope, stop.subject, stop.organizer, stop.reason
            ));
            if let Some(channel) = channel {
                notices::held(channel, stop)?;
            }
        }
    }
    Ok(news)
}

/// The organizers whose holds or recipients these effects change.
pub fn organizers(effects: &[Effect]) -> impl Iterator<Item = &Uuid> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Stop(stop) => Some(&stop.organizer),
        Effect::Word { organizer, .. } | Effect::Mended { organizer, .. } => Some(organizer),
        Effect::SlowNumber { .. } => None,
    })
}
