//! Counters as the control API and the library show them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What has happened since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Requests to the messages endpoint, whatever became of them.
    pub requests: u64,
    /// Messages accepted, duplicates included.
    pub accepted: u64,
    /// Distinct ids accepted.
    pub accepted_distinct: u64,
    /// Ids accepted more than once.
    pub duplicates: u64,
    /// Messages accepted whose id found no room in the ledger (see `Options::max_tracked_ids`).
    pub untracked: u64,
    /// Refusals by Meta's error code, those of fault rules included.
    pub refused: BTreeMap<i64, u64>,
    /// Strikes of each fault rule, in the order of the script.
    pub faults_struck: Vec<u64>,
    /// Requests between arrival and the end of their answer.
    pub in_flight: u64,
    /// The most requests that were in flight at once.
    pub max_in_flight: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// The most connections that were open at once.
    pub max_connections_open: u64,
    /// TLS handshakes that failed.
    pub tls_failures: u64,
    /// Clients that followed the `redirect` fault.
    pub redirects_followed: u64,
    /// Webhooks, since a plan for them was set.
    pub webhooks: WebhookStats,
    /// By phone number id.
    pub numbers: BTreeMap<String, NumberStats>,
}

impl Stats {
    /// Requests that exceeded a limit, over all numbers and limits, refused or not.
    pub fn violations(&self) -> u64 {
        self.numbers.values().map(NumberStats::violations).sum()
    }
}

/// What one phone number has sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberStats {
    /// Requests that reached this number with a token that fits, refused ones included.
    pub arrivals: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Messages from users.
    pub inbound: u64,
    /// The most arrivals in any one second, messages from users included.
    pub worst_second: u64,
    /// Arrivals above the messages per second.
    pub over_rate: u64,
    /// Messages from users that found the second full; nobody's breach.
    pub inbound_over_rate: u64,
    /// Messages above the unique recipients in 24 hours.
    pub over_daily: u64,
    /// Messages above the pair limit.
    pub over_pair: u64,
    /// Unique recipients in the last 24 hours, when that limit is set; of the portfolio if it has one.
    pub daily_recipients: u64,
}

impl NumberStats {
    /// Requests that exceeded a limit, refused or not.
    pub fn violations(&self) -> u64 {
        self.over_rate + self.over_daily + self.over_pair
    }
}

/// What has become of webhooks. An update is one status or one message from a user; a POST may hold many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookStats {
    /// Updates made, duplicates included.
    pub made: u64,
    /// Updates that have not been taken, answered with 200 or given up.
    pub waiting: u64,
    /// Bodies taken by pulling.
    pub taken: u64,
    /// POSTs answered with 200.
    pub posts_delivered: u64,
    /// POSTs answered otherwise or not at all; most are tried again.
    pub posts_failed: u64,
    /// POSTs that failed too often to be tried again.
    pub given_up: u64,
    /// Updates that found no room (see `WebhookPlan::capacity`).
    pub dropped: u64,
}
