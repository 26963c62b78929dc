//! From what happened to a message to the row's next state. What an error means is `cloud_api::errors`; here is only
//! what the queue does about each reaction.

use std::time::Duration;

use cloud_api::errors::Reaction;
use cloud_api::outcome::{GraphError, Outcome as Answered, TransportError};
use cloud_api::retry::Backoff;
use cloud_api::{Attempt, retry};
use pgrx::Uuid;

use crate::settings::Settings;
use crate::store::claims::Outcome;
use crate::time::Timestamp;
use crate::worker::pool::{Answer, Event};

/// A number that was told to slow down rests for this long at least.
const SLOW_DOWN: Duration = Duration::from_secs(2);
/// An account or number that Meta stopped is probed again after this, when its rule names no other time.
const PROBE: Duration = Duration::from_secs(60);
/// No wait before a retry is longer.
const LONGEST_RETRY: Duration = Duration::from_secs(6 * 60 * 60);

/// The row's next state, and what else the answer says about the account.
pub struct Verdict {
    /// What is recorded.
    pub outcome: Outcome,
    /// Nothing of this account should be tried for so long.
    pub hold: Option<Duration>,
    /// Nothing at all reaches Meta.
    pub unreachable: bool,
}

/// What becomes of a message after this answer. `jitter` is a random number from 0 to 1.
pub fn of(answer: Answer, settings: &Settings, now: Timestamp, jitter: f64) -> Verdict {
    let blank = Blank { id: answer.id, lease: answer.lease, now };
    match answer.event {
        Event::Returned => plain(blank.queued("returned", None, None)),
        Event::Refused(code, reason) => plain(blank.failed(code.to_owned(), reason)),
        Event::Lost(reason) => plain(blank.unknown(reason)),
        Event::Called(attempt) => {
            let mut verdict = called(&attempt, &blank, answer.retry_count, settings, jitter);
            verdict.outcome.http_status = attempt.http_status.map(i32::from);
            verdict.outcome.latency_ms = i32::try_from(attempt.latency.as_millis()).ok();
            verdict.outcome.fbtrace_id = verdict.outcome.fbtrace_id.or(attempt.fbtrace_id);
            verdict
        }
    }
}

fn called(attempt: &Attempt, blank: &Blank, retry_count: u32, settings: &Settings, jitter: f64) -> Verdict {
    match &attempt.outcome {
        Answered::Accepted { message_id, message_status, .. } => {
            let mut outcome = blank.outcome("sent", "sent");
            outcome.message_id = Some(message_id.clone());
            outcome.details = message_status.clone().filter(|status| status != "accepted");
            plain(outcome)
        }
        Answered::Rejected(error) => {
            let mut verdict = rejected(error, blank, retry_count, settings, jitter, attempt.retry_after);
            verdict.outcome.details = error.details.clone();
            verdict.outcome.fbtrace_id = error.fbtrace_id.clone();
            verdict
        }
        Answered::NotSent(TransportError::BadRequest(reason)) => {
            plain(blank.failed("bad_request".to_owned(), reason.clone()))
        }
        Answered::NotSent(TransportError::Revoked) => plain(blank.queued("returned", None, None)),
        Answered::NotSent(error) => {
            let mut verdict = plain(blank.queued("returned", Some("unreachable".to_owned()), Some(error.to_string())));
            verdict.unreachable = true;
            verdict
        }
        Answered::Unknown(error) => plain(blank.unknown(error.to_string())),
    }
}

fn rejected(
    error: &GraphError,
    blank: &Blank,
    retry_count: u32,
    settings: &Settings,
    jitter: f64,
    retry_after: Option<Duration>,
) -> Verdict {
    let code = error.code.map_or_else(|| format!("http_{}", error.http_status), |code| code.to_string());
    let text = in_words(error);
    let at_least = error.rule.wait.unwrap_or_default().max(retry_after.unwrap_or_default());
    let later = |wait: Duration, counts: bool, hold: Option<Duration>| {
        let mut outcome = blank.queued("retried", Some(code.clone()), Some(text.clone()));
        outcome.again_at = Some(blank.now.plus(wait));
        outcome.counts = counts;
        Verdict { outcome, hold, unreachable: false }
    };
    let backoff = Backoff { base: settings.retry_delay, cap: LONGEST_RETRY, max_retries: settings.max_retries };
    match error.rule.reaction {
        Reaction::Retry if backoff.allows(retry_count + 1) => {
            later(backoff.delay(retry_count + 1, jitter).max(at_least), true, None)
        }
        Reaction::SlowNumber | Reaction::SlowAccount => {
            let wait = at_least.max(SLOW_DOWN);
            later(wait, false, Some(wait))
        }
        Reaction::HoldPair if backoff.allows(retry_count + 1) => {
            later(retry::pair_delay(retry_count).max(at_least), true, None)
        }
        Reaction::HoldNumber
        | Reaction::HoldAccountToken
        | Reaction::HoldAccountPolicy
        | Reaction::HoldAccountBilling => {
            let wait = at_least.max(PROBE);
            later(wait, false, Some(wait))
        }
        Reaction::HoldTemplate | Reaction::HoldCategory if error.rule.retryable && backoff.allows(retry_count + 1) => {
            later(backoff.delay(retry_count + 1, jitter).max(at_least), true, None)
        }
        _ => plain(blank.failed(code, text)),
    }
}

/// Meta's words, what they mean, and what to do.
fn in_words(error: &GraphError) -> String {
    let mut text = error.message.clone();
    if let Some(details) = error.details.as_deref().filter(|details| !details.is_empty() && *details != text) {
        text = format!("{text}: {details}");
    }
    format!("{text}. {} {}", error.rule.meaning, error.rule.advice)
}

fn plain(outcome: Outcome) -> Verdict {
    Verdict { outcome, hold: None, unreachable: false }
}

/// The parts that every outcome of a message shares.
pub struct Blank {
    /// The message.
    pub id: [u8; 16],
    /// The claim it belongs to.
    pub lease: i64,
    /// When.
    pub now: Timestamp,
}

impl Blank {
    fn outcome(&self, status: &'static str, log_status: &'static str) -> Outcome {
        Outcome {
            id: Uuid::from_bytes(self.id),
            lease: self.lease,
            status,
            log_status,
            at: self.now,
            again_at: None,
            counts: false,
            message_id: None,
            error_code: None,
            error: None,
            details: None,
            http_status: None,
            fbtrace_id: None,
            latency_ms: None,
        }
    }

    fn queued(&self, log_status: &'static str, code: Option<String>, error: Option<String>) -> Outcome {
        Outcome { error_code: code, error, ..self.outcome("queued", log_status) }
    }

    /// It will never pass as it is.
    pub fn failed(&self, code: String, reason: String) -> Outcome {
        Outcome { error_code: Some(code), error: Some(reason), ..self.outcome("failed", "failed") }
    }

    fn unknown(&self, reason: String) -> Outcome {
        let error = format!("{reason}; Meta may have accepted the message");
        Outcome {
            error_code: Some("outcome_unknown".to_owned()),
            error: Some(error),
            ..self.outcome("unknown", "unknown")
        }
    }
}
