//! `wa_webhook_receive`: Meta's webhooks, from any front end that hands over the raw bytes.
//!
//! Nothing is believed before the signature fits: the body says which numbers it is about, the accounts with these numbers
//! say with which app secret it must be signed, and only what concerns accounts of that secret is used.

use std::collections::HashMap;
use std::time::Duration;

use cloud_api::errors;
use cloud_api::pacing::Pace;
use cloud_api::signature;
use cloud_api::webhook::{self, Change, Content, Inbound, Status};
use pgrx::pg_extern;

use super::{Answer, check_writable, required};
use crate::caller;
use crate::error::Result;
use crate::reactions::{self, Surroundings};
use crate::secrets::{self, Column};
use crate::settings::Settings;
use crate::store::statuses::{self, Failed, Receiver};
use crate::store::{admission, effects, roles};
use crate::time::Timestamp;

const OK: i32 = 200;
const UNAUTHORIZED: i32 = 401;

/// Takes what Meta posted; answers the HTTP status to answer with.
#[pg_extern(sql = false)]
fn wa_webhook_receive(body: Option<&[u8]>, signature: Option<&str>) -> Answer<i32> {
    Ok(receive(body, signature)?)
}

fn receive(body: Option<&[u8]>, signature: Option<&str>) -> Result<i32> {
    check_writable("take webhooks")?;
    let body = required(body, "body")?;
    let signature = required(signature, "signature")?;
    // What cannot be read names no number, so no secret can be looked up for it.
    let Ok(delivery) = webhook::parse(body) else { return Ok(UNAUTHORIZED) };
    caller::as_owner(|| {
        let trusted = trusted(&delivery.changes, body, signature)?;
        if trusted.is_empty() {
            return Ok(UNAUTHORIZED);
        }
        for (receiver, changes) in by_receiver(&trusted, &delivery.changes) {
            take(receiver, &changes)?;
        }
        Ok(OK)
    })
}

/// The accounts whose app secret made the signature.
fn trusted(changes: &[Change], body: &[u8], signature: &str) -> Result<Vec<Receiver>> {
    let mut numbers: Vec<String> = changes.iter().filter_map(|change| change.phone_number_id.clone()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut trusted = Vec::new();
    for receiver in statuses::receivers(numbers)? {
        // A secret that cannot be opened trusts nobody; the doctor says which it is.
        if let Ok(secret) = secrets::open(&receiver.organizer, Column::AppSecret, &receiver.app_secret)
            && signature::verify(secret.expose(), body, signature)
        {
            trusted.push(receiver);
        }
    }
    Ok(trusted)
}

/// Each account with the changes about its number.
fn by_receiver<'a>(trusted: &'a [Receiver], changes: &'a [Change]) -> Vec<(&'a Receiver, Vec<&'a Content>)> {
    let about = |receiver: &'a Receiver| {
        let is_its = |change: &&Change| change.phone_number_id.as_deref() == Some(receiver.phone_number_id.as_str());
        changes.iter().filter(is_its).map(|change| &change.content).collect()
    };
    trusted.iter().map(|receiver| (receiver, about(receiver))).collect()
}

fn take(receiver: &Receiver, changes: &[&Content]) -> Result<()> {
    let now = Timestamp::now();
    let (mut reports, mut written) = (Vec::new(), Vec::new());
    for change in changes {
        if let Content::Messages { statuses, inbound, .. } = change {
            reports.extend(statuses.iter().filter_map(report));
            written.extend(inbound);
        }
    }
    if !reports.is_empty() {
        let failed = statuses::apply(vec![receiver.organizer], &reports)?;
        react(receiver, &failed, &reports, now)?;
    }
    take_inbound(receiver, &written, now)
}

/// A status about a message of ours. Others, without our id, are of no use before they are matched by Meta's.
fn report(status: &Status) -> Option<statuses::Report> {
    let queue_id = roles::parse_uuid(status.queue_id.as_deref()?)?;
    let (code, error) = match &status.error {
        None => (None, None),
        Some(error) => {
            let said = error.message.as_deref().or(error.title.as_deref()).unwrap_or("failed");
            let rule = error.rule();
            let text = rule.map(|rule| reactions::in_words(said, error.details.as_deref(), &rule));
            (error.code.map(|code| code.to_string()), text.or_else(|| Some(said.to_owned())))
        }
    };
    Some(statuses::Report {
        queue_id,
        message_id: status.message_id.clone(),
        status: status.status.as_str().to_owned(),
        at: from_unix(status.timestamp_s),
        code,
        error,
    })
}

/// An asynchronous failure means for its surroundings what a synchronous one does.
fn react(receiver: &Receiver, failed: &[Failed], reports: &[statuses::Report], now: Timestamp) -> Result<()> {
    let texts: HashMap<&str, &str> = reports
        .iter()
        .filter_map(|report| Some((report.code.as_deref()?, report.error.as_deref().unwrap_or_default())))
        .collect();
    let mut found = Vec::new();
    for message in failed {
        let Ok(code) = message.code.parse() else { continue };
        let rule = errors::lookup(code, None, None, false);
        let report = reactions::Report {
            rule: &rule,
            code: &message.code,
            text: texts.get(message.code.as_str()).copied().unwrap_or(rule.meaning),
            wait: rule.wait.unwrap_or_default(),
            now,
        };
        found.extend(report.effect(&Surroundings {
            organizer: message.organizer,
            phone_number_id: &receiver.phone_number_id,
            per_second: receiver.per_second,
            template: message.language.as_deref().map(|language| (message.template.as_str(), language)),
            category: message.category.as_deref(),
            recipient: &message.recipient,
        }));
    }
    effects::apply(&found, Settings::current().notify_channel.as_deref(), now).map(drop)
}

/// What people write opens their service windows, and uses up the number's throughput.
fn take_inbound(receiver: &Receiver, messages: &[&Inbound], now: Timestamp) -> Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let known =
        messages.iter().filter_map(|message| Some((format!("+{}", message.from.as_deref()?), message.timestamp_s)));
    let (phones, times): (Vec<String>, Vec<Timestamp>) = known.map(|(phone, at)| (phone, from_unix(at))).unzip();
    statuses::open_windows(&receiver.organizer, phones, times)?;
    let recent = messages.iter().filter(|message| from_unix(message.timestamp_s) > now.minus(Duration::from_secs(2)));
    let count = u32::try_from(recent.count()).unwrap_or(u32::MAX);
    let interval = Pace { per_second: receiver.per_second }.interval_us();
    admission::take_inbound(&receiver.phone_number_id, count, now, interval)
}

/// Seconds since 1970, as Meta writes them.
fn from_unix(seconds: i64) -> Timestamp {
    const FROM_1970_TO_2000: i64 = 946_684_800;
    Timestamp(seconds.saturating_sub(FROM_1970_TO_2000).saturating_mul(1_000_000))
}
