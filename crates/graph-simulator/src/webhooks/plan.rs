//! What webhooks the simulator makes and where they go: the plan as people write it, and checked.

use std::net::IpAddr;

use hyper::Uri;
use serde::{Deserialize, Serialize};

use super::wire::SigningKey;
use crate::simulator::is_loopback;

/// Updates that Meta puts into one POST at most (Meta: "Webhooks overview").
pub(crate) const MAX_BATCH: usize = 1_000;

/// Connections that one target may be given.
const MAX_CONNECTIONS: usize = 64;

/// Which webhooks are made of accepted and inbound messages, and how they reach their reader.
///
/// With a `target` they are POSTed there and tried again until HTTP 200; without one they wait to be taken
/// ([`Simulator::take_webhooks`](crate::Simulator::take_webhooks)). Without a plan there are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookPlan {
    /// Key of `X-Hub-Signature-256`. Required, and never shown again by the control API.
    #[serde(skip_serializing)]
    pub app_secret: String,
    /// `http://` URL that webhooks are POSTed to; of this machine unless `Options::allow_remote`.
    pub target: Option<String>,
    /// Connections that POST at the same time, 1 to 64.
    pub connections: usize,
    /// Milliseconds that the target has to answer; then the POST counts as failed.
    pub timeout_ms: u64,
    /// Milliseconds before the second repetition of a POST that did not get 200; the first is made at once, and
    /// each gap after that is twice as long, up to an hour.
    pub retry_ms: u64,
    /// How often a POST is tried in all before it is given up. Meta gives up after 7 days.
    pub max_attempts: u32,
    /// What a message goes through, in this order.
    pub statuses: Vec<StatusStep>,
    /// Messages that fail after they were accepted; the first entry that strikes decides.
    pub failures: Vec<AsyncFailure>,
    /// Whether `failed` statuses carry `biz_opaque_callback_data`. Meta documents it for every status, but no
    /// published sample of a failed one has it.
    pub callback_data_on_failed: bool,
    /// Counts delays from the arrival of the send instead of from its answer: with some latency, statuses come
    /// before the answer.
    pub early: bool,
    /// Sends the statuses of a message in any order. Their timestamps stay true.
    pub shuffle: bool,
    /// Share of webhooks that come twice, 0 to 1.
    pub duplicates: f64,
    /// How much later the second one comes, in milliseconds.
    pub duplicate_after_ms: u32,
    /// Updates in one POST at most, 1 to 1,000; there are fewer when fewer are due or 3 MB are reached.
    pub batch: usize,
    /// Service and utility messages inside an open window are `free_customer_service`, as they were at Meta until
    /// 30 September 2026; else everything is `regular`.
    pub free_in_window: bool,
    /// Updates that may wait; more are dropped, and counted as such.
    pub capacity: usize,
    /// Seed of all chances: the same seed gives the n-th accepted message the same fate.
    pub seed: u64,
}

impl Default for WebhookPlan {
    fn default() -> Self {
        Self {
            app_secret: String::new(),
            target: None,
            connections: 4,
            timeout_ms: 10_000,
            retry_ms: 1_000,
            max_attempts: 20,
            statuses: vec![
                StatusStep::now(StatusKind::Sent),
                StatusStep::now(StatusKind::Delivered),
                StatusStep::now(StatusKind::Read),
            ],
            failures: Vec::new(),
            callback_data_on_failed: true,
            early: false,
            shuffle: false,
            duplicates: 0.0,
            duplicate_after_ms: 0,
            batch: MAX_BATCH,
            free_in_window: false,
            capacity: 1_000_000,
            seed: 0,
        }
    }
}

impl WebhookPlan {
    /// Every message is sent, delivered and read at once; webhooks wait to be taken.
    pub fn signed_with(app_secret: &str) -> Self {
        Self { app_secret: app_secret.to_owned(), ..Self::default() }
    }
}

/// A status on a message's way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusStep {
    /// Which one.
    pub status: StatusKind,
    /// Milliseconds after the one before it; the first: after the answer to the send.
    #[serde(default)]
    pub delay_ms: u32,
    /// Random milliseconds on top, 0 to this.
    #[serde(default)]
    pub jitter_ms: u32,
    /// Share of messages that get it, 0 to 1: who turned read receipts off never reads.
    #[serde(default = "all")]
    pub share: f64,
}

impl StatusStep {
    /// A status that every message gets without delay.
    pub fn now(status: StatusKind) -> Self {
        Self { status, delay_ms: 0, jitter_ms: 0, share: all() }
    }
}

/// What may become of a message that is not failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusKind {
    /// On its way to the phone.
    Sent,
    /// On the phone.
    Delivered,
    /// Seen.
    Read,
}

/// Accepted messages that fail later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AsyncFailure {
    /// Meta's error code, such as 131026, 131042 or 131049.
    pub code: i64,
    /// Share of the messages that it strikes, 0 to 1.
    #[serde(default = "all")]
    pub share: f64,
    /// Only messages to this recipient, as the request writes it.
    #[serde(default)]
    pub to: Option<String>,
    /// Milliseconds after the status before it, or after the answer.
    #[serde(default)]
    pub delay_ms: u32,
    /// Whether the plan's `sent` status comes before it.
    #[serde(default)]
    pub after_sent: bool,
}

impl AsyncFailure {
    /// Every message fails with this code.
    pub fn always(code: i64) -> Self {
        Self { code, share: all(), to: None, delay_ms: 0, after_sent: false }
    }
}

fn all() -> f64 {
    1.0
}

/// A plan that has been checked, with what was worked out on the way.
#[derive(Debug)]
pub(crate) struct ArmedPlan {
    pub(crate) plan: WebhookPlan,
    pub(crate) target: Option<Target>,
    pub(crate) key: SigningKey,
}

impl ArmedPlan {
    /// Checks a plan; one that makes no sense is refused in words.
    pub(crate) fn arm(plan: WebhookPlan, allow_remote: bool) -> Result<Self, String> {
        if let Some(complaint) = complaint(&plan) {
            return Err(complaint);
        }
        let target = plan.target.as_deref().map(|url| Target::parse(url, allow_remote)).transpose()?;
        let key = SigningKey::new(&plan.app_secret);
        Ok(Self { plan, target, key })
    }
}

fn complaint(plan: &WebhookPlan) -> Option<String> {
    let shares = plan.statuses.iter().map(|step| step.share).chain(plan.failures.iter().map(|failure| failure.share));
    if plan.app_secret.is_empty() {
        return Some("\"app_secret\" is required".to_owned());
    }
    if !(1..=MAX_BATCH).contains(&plan.batch) {
        return Some(format!("\"batch\" must be 1 to {MAX_BATCH}"));
    }
    if !(1..=MAX_CONNECTIONS).contains(&plan.connections) {
        return Some(format!("\"connections\" must be 1 to {MAX_CONNECTIONS}"));
    }
    if plan.max_attempts == 0 {
        return Some("\"max_attempts\" must be at least 1".to_owned());
    }
    if !shares.chain([plan.duplicates]).all(|share| (0.0..=1.0).contains(&share)) {
        return Some("\"share\" and \"duplicates\" must be between 0 and 1".to_owned());
    }
    let twice = |step: &StatusStep| plan.statuses.iter().filter(|other| other.status == step.status).count() > 1;
    plan.statuses.iter().any(twice).then(|| "a status may be listed once".to_owned())
}

/// Where webhooks are POSTed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host and port, to connect to and for the `host` header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    fn parse(url: &str, allow_remote: bool) -> Result<Self, String> {
        let bad = || format!("\"target\" must be a URL like http://127.0.0.1:8080/webhook, not \"{url}\"");
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(bad)?;
        // What is made up here must not reach somebody's real webhook endpoint by a slip.
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let local = address.map_or(host.eq_ignore_ascii_case("localhost"), is_loopback);
        if !local && !allow_remote {
            return Err(format!("{host} is another machine; allow remote access to send webhooks there"));
        }
        let port = uri.port_u16().unwrap_or(80);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { authority: format!("{host}:{port}"), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::{Value, json};

    fn arm(plan: Value) -> Result<ArmedPlan, String> {
        ArmedPlan::arm(serde_json::from_value(plan).unwrap(), false)
    }

    #[test]
    fn a_plan_that_only_names_a_secret_makes_three_statuses_and_hides_the_secret() {
        let armed = arm(json!({"app_secret": "hush"})).unwrap();
        assert_eq!(armed.plan, WebhookPlan::signed_with("hush"));
        let kinds: Vec<_> = armed.plan.statuses.iter().map(|step| step.status).collect();
        assert_eq!(kinds, [StatusKind::Sent, StatusKind::Delivered, StatusKind::Read]);
        assert!(!serde_json::to_string(&armed.plan).unwrap().contains("hush"));
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused_by_name() {
        for (plan, word) in [
            (json!({}), "app_secret"),
            (json!({"app_secret": "s", "batch": 0}), "batch"),
            (json!({"app_secret": "s", "batch": 1001}), "batch"),
            (json!({"app_secret": "s", "connections": 65}), "connections"),
            (json!({"app_secret": "s", "max_attempts": 0}), "max_attempts"),
            (json!({"app_secret": "s", "duplicates": 1.5}), "duplicates"),
            (json!({"app_secret": "s", "statuses": [{"status": "read", "share": -1.0}]}), "share"),
            (json!({"app_secret": "s", "statuses": [{"status": "read"}, {"status": "read"}]}), "once"),
            (json!({"app_secret": "s", "failures": [{"code": 131026, "share": 2.0}]}), "share"),
            (json!({"app_secret": "s", "target": "nowhere"}), "nowhere"),
            (json!({"app_secret": "s", "target": "https://localhost/x"}), "http://"),
        ] {
            let refused = arm(plan.clone()).unwrap_err();
            assert!(refused.contains(word), "{plan}: {refused}");
        }
    }

    #[test]
    fn a_target_on_another_machine_must_be_allowed() {
        for url in ["http://192.0.2.1/x", "http://[2001:db8::1]:80/x", "http://hooks.example/x"] {
            assert!(Target::parse(url, false).is_err(), "{url}");
            assert!(Target::parse(url, true).is_ok(), "{url}");
        }
        let target = |authority: &str, path: &str| Target { authority: authority.to_owned(), path: path.to_owned() };
        assert_eq!(Target::parse("http://127.0.0.1:80/a?b=c", false), Ok(target("127.0.0.1:80", "/a?b=c")));
        assert_eq!(Target::parse("http://localhost", false), Ok(target("localhost:80", "/")));
        assert_eq!(Target::parse("http://[::1]:8080/x", false), Ok(target("[::1]:8080", "/x")));
    }
}
