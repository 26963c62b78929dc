//! From what happened to a message to the row's next state, and to what else the answer says. What an error means is
//! `cloud_api::errors`; here is only what the queue does about each reaction.

use std::time::Duration;

use cloud_api::Attempt;
use cloud_api::errors::Reaction;
use cloud_api::outcome::{GraphError, Outcome as Answered, TransportError};
use cloud_api::retry::Backoff;
use pgrx::Uuid;

use crate::reactions::{self, Effect, Report};
use crate::settings::Settings;
use crate::store::outcomes::Outcome;
use crate::time::Timestamp;
use crate::worker::admit::Lease;
use crate::worker::pool::{Answer, Event};

/// No wait before a retry is longer.
const LONGEST_RETRY: Duration = Duration::from_secs(6 * 60 * 60);

/// The row's next state, and what else the answer says.
pub struct Verdict {
    /// What is recorded.
    pub outcome: Outcome,
    /// What it says beyond the message.
    pub effect: Option<Effect>,
    /// Nothing at all reaches Meta.
    pub unreachable: bool,
}

/// What a verdict is given from.
pub struct Case<'a> {
    /// What is known of the message; None when it is not ours any more.
    pub lease: Option<&'a Lease>,
    /// The settings in force.
    pub settings: &'a Settings,
    /// When.
    pub now: Timestamp,
    /// A random number from 0 to 1.
    pub jitter: f64,
}

impl Case<'_> {
    fn retry_count(&self) -> u32 {
        self.lease.map_or(0, |lease| lease.retry_count)
    }

    fn backoff(&self) -> Backoff {
        let (max_retries, base) = self.lease.map_or((None, None), |lease| lease.retries);
        Backoff {
            base: base.unwrap_or(self.settings.retry_delay),
            cap: LONGEST_RETRY,
            max_retries: max_retries.unwrap_or(self.settings.max_retries),
        }
    }

    fn may_retry(&self) -> bool {
        self.backoff().allows(self.retry_count() + 1)
    }

    /// The hold the message was tried for is over.
    fn mended(&self) -> Option<Effect> {
        let lease = self.lease.filter(|lease| lease.is_probe)?;
        Some(Effect::Mended {
            organizer: lease.organizer,
            phone_number_id: lease.sender.phone_number_id.clone(),
            template: lease.template.as_ref().map(|template| template.name().to_owned())?,
            category: lease.category.clone(),
        })
    }
}

/// What becomes of a message after this answer.
pub fn of(answer: Answer, case: &Case) -> Verdict {
    let blank = Blank { id: answer.id, lease: answer.lease, now: case.now };
    match answer.event {
        Event::Returned => plain(blank.queued("returned", None, None)),
        Event::Refused(code, reason) => plain(blank.failed(code.to_owned(), reason)),
        Event::Lost(reason) => plain(blank.unknown(reason)),
        Event::Called(attempt) => {
            let mut verdict = called(&attempt, &blank, case);
            verdict.outcome.http_status = attempt.http_status.map(i32::from);
            verdict.outcome.latency_ms = i32::try_from(attempt.latency.as_millis()).ok();
            verdict.outcome.fbtrace_id = verdict.outcome.fbtrace_id.or(attempt.fbtrace_id);
            verdict
        }
    }
}

fn called(attempt: &Attempt, blank: &Blank, case: &Case) -> Verdict {
    match &attempt.outcome {
        Answered::Accepted { message_id, message_status, .. } => {
            let mut outcome = blank.outcome("sent", "sent");
            outcome.message_id = Some(message_id.clone());
            outcome.details = message_status.clone().filter(|status| status != "accepted");
            Verdict { effect: case.mended(), ..plain(outcome) }
        }
        Answered::Rejected(error) => {
            let mut verdict = rejected(error, blank, case, attempt.retry_after);
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

fn rejected(error: &GraphError, blank: &Blank, case: &Case, retry_after: Option<Duration>) -> Verdict {
    let code = error.code.map_or_else(|| format!("http_{}", error.http_status), |code| code.to_string());
    let text = reactions::in_words(&error.message, error.details.as_deref(), &error.rule);
    let wait = error.rule.wait.unwrap_or_default().max(retry_after.unwrap_or_default());
    let report = Report { rule: &error.rule, code: &code, text: &text, wait, now: case.now };
    let effect = case.lease.and_then(|lease| report.effect(&lease.surroundings()));
    // What is held waits where it is in the queue: the hold decides when it leaves.
    let waits = |effect: Option<Effect>| Verdict {
        outcome: blank.queued("retried", Some(code.clone()), Some(text.clone())),
        effect,
        unreachable: false,
    };
    let retries = |effect: Option<Effect>| {
        let delay = case.backoff().delay(case.retry_count() + 1, case.jitter);
        let mut verdict = waits(effect);
        verdict.outcome.again_at = Some(blank.now.plus(delay.max(wait)));
        verdict.outcome.counts = true;
        verdict
    };
    let fails = |effect: Option<Effect>| Verdict { effect, ..plain(blank.failed(code.clone(), text.clone())) };
    match error.rule.reaction {
        Reaction::Retry if case.may_retry() => retries(None),
        Reaction::HoldTemplate if error.rule.retryable && case.may_retry() => retries(effect),
        Reaction::SlowNumber
        | Reaction::SlowAccount
        | Reaction::HoldPair
        | Reaction::HoldNumber
        | Reaction::HoldAccountToken
        | Reaction::HoldAccountBilling
        | Reaction::HoldAccountPolicy
        | Reaction::HoldCategory => match effect {
            // Nothing is known that could be held.
            None if case.may_retry() => retries(None),
            None => fails(None),
            effect => waits(effect),
        },
        // Meta looked at the message, so the account works.
        Reaction::Fail => fails(case.mended()),
        _ => fails(effect),
    }
}

fn plain(outcome: Outcome) -> Verdict {
    Verdict { outcome, effect: None, unreachable: false }
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

    /// It goes back as if nothing had happened.
    pub fn returned(&self) -> Outcome {
        self.queued("returned", None, None)
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
