//! Faults by script: which request goes wrong, and how.
//!
//! A fault strikes only a request that would have been accepted, so a script does not hide the errors
//! that the rules find. What the client then sees is built in [`crate::answer`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::number::Recipient;

/// One rule of a fault script. The first rule that strikes decides; the others do not see the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Which requests are struck; empty means all.
    #[serde(rename = "match", default)]
    pub matching: Match,
    /// What happens to them.
    pub action: Action,
    /// Whether the message is accepted (and counted) all the same. `None` takes the action's own
    /// answer, see [`Action`]. The two reset actions say it in their name and ignore this.
    #[serde(default)]
    pub accept: Option<bool>,
}

impl FaultRule {
    /// A rule that strikes every request.
    pub fn always(action: Action) -> Self {
        Self { matching: Match::default(), action, accept: None }
    }

    /// A rule that strikes the first `count` requests.
    pub fn first(count: u64, action: Action) -> Self {
        Self { matching: Match { first: Some(count), ..Match::default() }, action, accept: None }
    }

    pub(crate) fn accepts(&self) -> bool {
        match self.action {
            Action::ResetBeforeAccept => false,
            Action::ResetAfterAccept => true,
            _ => self.accept.unwrap_or(self.action.accepts_by_default()),
        }
    }
}

/// Conditions of a rule. All that are given must hold; then `every`, `probability` and `first` pick
/// among the requests for which they do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Sender.
    pub phone_number_id: Option<String>,
    /// Recipient exactly as the request writes it.
    pub to: Option<String>,
    /// Beginning of the recipient, such as `+5511`.
    pub to_prefix: Option<String>,
    /// Every n-th request: the n-th, the 2n-th …
    pub every: Option<u64>,
    /// At most this many strikes, the earliest ones.
    pub first: Option<u64>,
    /// Chance of a strike, 0 to 1.
    pub probability: Option<f64>,
    /// Seed of the chance: the same seed picks the same requests by their order of arrival.
    pub seed: u64,
}

/// What a struck request meets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// An answer of your own. Not accepted by default.
    Status(StatusAnswer),
    /// A Meta error; HTTP status and text follow from the code. Not accepted by default.
    Error {
        /// Meta's error code.
        code: i64,
        /// `error_subcode`.
        #[serde(default)]
        subcode: Option<i64>,
        /// `error_data.details`.
        #[serde(default)]
        details: Option<String>,
    },
    /// TCP reset, message not accepted.
    ResetBeforeAccept,
    /// TCP reset, message accepted: only a webhook could tell.
    ResetAfterAccept,
    /// No answer for `ms` milliseconds, then the connection closes. Not accepted by default.
    Hang {
        /// Milliseconds.
        ms: u64,
    },
    /// Bytes that are not HTTP, then the connection closes. Not accepted by default.
    Garbage,
    /// HTTP 502 with the HTML page of a proxy. Not accepted by default.
    #[serde(rename = "html_502")]
    Html502,
    /// HTTP 200 without a body. Accepted by default.
    EmptyBody,
    /// HTTP 200 with text that is not JSON. Accepted by default.
    NotJson,
    /// HTTP 307 to `/_redirected`, where a client that follows is counted. Not accepted by default.
    Redirect,
    /// The usual answer followed by blanks up to this many bytes. Accepted by default.
    Oversized {
        /// Size of the whole body in bytes.
        bytes: u64,
    },
    /// The usual answer byte by byte. Accepted by default.
    SlowBody {
        /// Milliseconds before each byte.
        #[serde(default)]
        ms_per_byte: Option<u64>,
        /// Milliseconds for the whole body, when `ms_per_byte` is not given.
        #[serde(default)]
        total_ms: Option<u64>,
    },
    /// Half of the usual answer, then the connection closes. Accepted by default.
    TruncatedBody,
    /// The usual answer, this much later. Accepted by default.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The usual answer with `Connection: close`. Accepted by default.
    CloseAfter,
}

/// An answer of the script's own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusAnswer {
    /// HTTP status, 200 to 599.
    pub http: u16,
    /// Code of a body in Meta's error shape; without it and without `body`, the body is empty.
    #[serde(default)]
    pub code: Option<i64>,
    /// `error.message`, when the code's own does not do.
    #[serde(default)]
    pub message: Option<String>,
    /// `error.error_data.details`.
    #[serde(default)]
    pub details: Option<String>,
    /// Body instead of Meta's error shape.
    #[serde(default)]
    pub body: Option<Value>,
    /// Headers to add, such as `retry-after`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl Action {
    fn accepts_by_default(&self) -> bool {
        let hides_it = matches!(self, Self::ResetAfterAccept | Self::EmptyBody | Self::NotJson);
        hides_it || self.shows_usual_answer()
    }

    /// Whether the client gets the usual answer, only in an unusual way.
    pub(crate) fn shows_usual_answer(&self) -> bool {
        matches!(
            self,
            Self::Oversized { .. }
                | Self::SlowBody { .. }
                | Self::TruncatedBody
                | Self::Delay { .. }
                | Self::CloseAfter
        )
    }
}

/// A rule that makes no sense, in words.
fn complaint(rule: &FaultRule) -> Option<String> {
    let Match { every, probability, .. } = rule.matching;
    if every == Some(0) {
        return Some("\"every\" must be at least 1".to_owned());
    }
    if probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Some("\"probability\" must be between 0 and 1".to_owned());
    }
    match &rule.action {
        Action::Status(answer) if !(200..=599).contains(&answer.http) => {
            Some(format!("\"http\" must be 200 to 599, not {}", answer.http))
        }
        Action::Status(answer) => answer.headers.iter().find_map(|(name, value)| {
            let valid = HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok();
            (!valid).then(|| format!("\"{name}\" is not a header that HTTP allows"))
        }),
        Action::SlowBody { ms_per_byte: None, total_ms: None } => {
            Some("\"slow_body\" needs \"ms_per_byte\" or \"total_ms\"".to_owned())
        }
        _ => None,
    }
}

/// A script with its counters.
#[derive(Debug, Default)]
pub(crate) struct FaultScript {
    rules: Vec<ArmedRule>,
}

#[derive(Debug)]
struct ArmedRule {
    rule: FaultRule,
    /// Requests that met the conditions.
    seen: AtomicU64,
    /// Requests that were struck.
    struck: AtomicU64,
}

impl FaultScript {
    /// Arms the rules; a rule that makes no sense is refused by number, in words.
    pub(crate) fn arm(rules: Vec<FaultRule>) -> Result<Self, String> {
        for (index, rule) in rules.iter().enumerate() {
            if let Some(complaint) = complaint(rule) {
                return Err(format!("fault rule {index}: {complaint}"));
            }
        }
        let arm = |rule| ArmedRule { rule, seen: AtomicU64::new(0), struck: AtomicU64::new(0) };
        Ok(Self { rules: rules.into_iter().map(arm).collect() })
    }

    /// The first rule that strikes this request, with its place in the script.
    pub(crate) fn strike(&self, phone_number_id: &str, to: &Recipient) -> Option<(usize, &FaultRule)> {
        self.rules
            .iter()
            .enumerate()
            .find(|(_, armed)| armed.strikes(phone_number_id, to))
            .map(|(index, armed)| (index, &armed.rule))
    }

    pub(crate) fn rules(&self) -> Vec<FaultRule> {
        self.rules.iter().map(|armed| armed.rule.clone()).collect()
    }

    /// Strikes of each rule, in their order.
    pub(crate) fn strikes(&self) -> Vec<u64> {
        self.rules.iter().map(|armed| armed.struck.load(Ordering::Relaxed)).collect()
    }

    pub(crate) fn reset(&self) {
        for armed in &self.rules {
            armed.seen.store(0, Ordering::Relaxed);
            armed.struck.store(0, Ordering::Relaxed);
        }
    }
}

impl ArmedRule {
    fn strikes(&self, phone_number_id: &str, to: &Recipient) -> bool {
        let when = &self.rule.matching;
        let meets = when.phone_number_id.as_ref().is_none_or(|id| id == phone_number_id)
            && when.to.as_ref().is_none_or(|exact| *exact == to.input)
            && when.to_prefix.as_ref().is_none_or(|prefix| to.input.starts_with(prefix.as_str()));
        if !meets {
            return false;
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if when.every.is_some_and(|every| !seen.is_multiple_of(every))
            || when.probability.is_some_and(|p| chance(when.seed, seen) >= p)
        {
            return false;
        }
        let limit = when.first.unwrap_or(u64::MAX);
        self.struck
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |struck| (struck < limit).then_some(struck + 1))
            .is_ok()
    }
}

/// A number in `0..1` that depends on seed and turn alone (the SplitMix64 finalizer).
pub(crate) fn chance(seed: u64, turn: u64) -> f64 {
    let mut word = seed.wrapping_add(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^= word >> 31;
    // 53 bits are what a double holds exactly.
    (word >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::json;

    fn to(number: &str) -> Recipient {
        Recipient::phone(number).unwrap()
    }

    fn script(rules: Value) -> FaultScript {
        FaultScript::arm(serde_json::from_value(rules).unwrap()).unwrap()
    }

    fn pattern(script: &FaultScript, count: usize) -> Vec<usize> {
        (1..=count).filter_map(|turn| script.strike("1", &to("+5511900000000")).map(|_| turn)).collect()
    }

    #[test]
    fn every_and_first_pick_by_count() {
        let every = script(json!([{"match": {"every": 3}, "action": "garbage"}]));
        assert_eq!(pattern(&every, 10), [3, 6, 9]);
        let first = script(json!([{"match": {"first": 2}, "action": "garbage"}]));
        assert_eq!(pattern(&first, 10), [1, 2]);
        let both = script(json!([{"match": {"every": 2, "first": 2}, "action": "garbage"}]));
        assert_eq!(pattern(&both, 10), [2, 4]);
        assert_eq!(both.strikes(), [2]);
        both.reset();
        assert_eq!(pattern(&both, 2), [2]);
    }

    #[test]
    fn probability_is_kept_and_repeats_with_the_seed() {
        let rules = json!([{"match": {"probability": 0.3, "seed": 7}, "action": "reset_after_accept"}]);
        let struck = pattern(&script(rules.clone()), 10_000);
        assert!((2_800..3_200).contains(&struck.len()), "{}", struck.len());
        assert_eq!(struck, pattern(&script(rules), 10_000));
        let never = script(json!([{"match": {"probability": 0.0}, "action": "garbage"}]));
        assert_eq!(pattern(&never, 100), [0; 0]);
        let always = script(json!([{"match": {"probability": 1.0}, "action": "garbage"}]));
        assert_eq!(pattern(&always, 100).len(), 100);
    }

    #[test]
    fn conditions_on_sender_and_recipient_all_hold_and_the_first_rule_decides() {
        let script = script(json!([
            {"match": {"to": "+5511900000001"}, "action": {"error": {"code": 131026}}},
            {"match": {"to_prefix": "+55", "phone_number_id": "1"}, "action": "garbage"}
        ]));
        let struck = |id: &str, number: &str| script.strike(id, &to(number)).map(|(index, _)| index);
        assert_eq!(struck("1", "+5511900000001"), Some(0));
        assert_eq!(struck("1", "+5511900000002"), Some(1));
        assert_eq!(struck("2", "+5511900000002"), None);
        assert_eq!(struck("1", "+4915100000000"), None);
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_its_number() {
        for rule in [
            json!({"match": {"every": 0}, "action": "garbage"}),
            json!({"match": {"probability": 1.5}, "action": "garbage"}),
            json!({"action": {"status": {"http": 101}}}),
            json!({"action": {"status": {"http": 500, "headers": {"bad name": "x"}}}}),
            json!({"action": {"slow_body": {}}}),
        ] {
            let rules = vec![FaultRule::always(Action::Garbage), serde_json::from_value(rule.clone()).unwrap()];
            let refused = FaultScript::arm(rules).unwrap_err();
            assert!(refused.starts_with("fault rule 1: "), "{rule}: {refused}");
        }
    }

    #[test]
    fn whether_a_struck_message_is_accepted_follows_the_action_unless_said() {
        let accepts = |rule: Value| serde_json::from_value::<FaultRule>(rule).unwrap().accepts();
        assert!(!accepts(json!({"action": "html_502"})));
        assert!(accepts(json!({"action": "html_502", "accept": true})));
        assert!(accepts(json!({"action": {"slow_body": {"total_ms": 1}}})));
        assert!(!accepts(json!({"action": {"hang": {"ms": 1}}})));
        assert!(accepts(json!({"action": "reset_after_accept", "accept": false})));
        assert!(!accepts(json!({"action": "reset_before_accept", "accept": true})));
    }
}
