//! What exceeded Meta's limits, in one report: what a test of a sender asserts to be nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Breaches since the start or the last reset, refused or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violations {
    /// All of them.
    pub total: u64,
    /// By phone number id.
    pub numbers: BTreeMap<String, NumberViolations>,
    /// By portfolio id, or by phone number id for a number that is in none. Only where the limit is set.
    pub portfolios: BTreeMap<String, PortfolioViolations>,
}

/// Breaches of one phone number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberViolations {
    /// The limit that its last request was measured by; `None`: there is none, and `over_rate` counts nothing.
    pub messages_per_second: Option<u32>,
    /// The most that any one second has seen, in and out. It may be above the limit without a breach when the last
    /// ones came from users: nobody can hold them back.
    pub worst_second: u64,
    /// When that second ended, in microseconds since the simulator's start.
    pub worst_second_at_us: u64,
    /// Sends that found the second full.
    pub over_rate: u64,
    /// Inbound messages that found the second full: no breach, and not in the total.
    pub inbound_over_rate: u64,
    /// Messages above the pair limit, which is always watched.
    pub over_pair: u64,
    /// Messages above the unique recipients in 24 hours.
    pub over_daily: u64,
}

impl NumberViolations {
    /// Breaches of all limits.
    pub fn total(&self) -> u64 {
        self.over_rate + self.over_pair + self.over_daily
    }
}

/// Breaches of the limit that the numbers of a portfolio share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortfolioViolations {
    /// The limit that the last message was measured by.
    pub daily_recipients: Option<u32>,
    /// The most unique recipients outside service windows that any 24 hours have seen.
    pub most_recipients: u64,
    /// Messages above it.
    pub over_daily: u64,
}
