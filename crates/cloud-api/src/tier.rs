//! Messaging limits: how many different people a business portfolio may write to in any 24 hours.
//!
//! Meta spells the levels in several ways (`TIER_1K` from the phone number, an integer in some webhooks) and settings
//! spell them as `tier_1000`. This is the one place that reads them all.
//! Source: Meta, "Messaging limits".

use std::fmt;
use std::str::FromStr;

/// Every limit that exists or existed, smallest first.
const LEVELS: [u32; 6] = [50, 250, 1_000, 2_000, 10_000, 100_000];

/// A portfolio's messaging limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// At most this many different recipients in any 24 hours.
    Limited(u32),
    /// No limit on recipients. The number's throughput still applies.
    Unlimited,
}

/// A tier nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a messaging tier; accepted are tier_50, tier_250, tier_1000, tier_2000, tier_10000, tier_100000 and tier_unlimited"
)]
pub struct UnknownTier(pub String);

impl Tier {
    /// Reads `tier_1000`, `TIER_1K`, `1k`, `1000`, `tier_unlimited`, `unlimited` or `-1`, in any case, with blanks around it.
    ///
    /// # Errors
    /// [`UnknownTier`], which lists what is accepted. Meta's `TIER_NOT_SET` is unknown too: the caller decides.
    pub fn parse(text: &str) -> Result<Self, UnknownTier> {
        let unknown = || UnknownTier(text.chars().take(40).collect());
        let lower = text.trim().to_ascii_lowercase();
        let level = lower.strip_prefix("tier_").unwrap_or(&lower);
        // Meta's older webhooks write -1 for "no limit".
        if matches!(level, "unlimited" | "-1") {
            return Ok(Self::Unlimited);
        }
        let (digits, factor) = match level.strip_suffix('k') {
            Some(digits) => (digits, 1_000),
            None => (level, 1),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unknown());
        }
        digits
            .parse::<u32>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .filter(|number| LEVELS.contains(number))
            .map(Self::Limited)
            .ok_or_else(unknown)
    }

    /// How many different recipients any 24 hours may see; `None` when there is no limit.
    #[must_use]
    pub fn daily_recipients(self) -> Option<u32> {
        match self {
            Self::Limited(recipients) => Some(recipients),
            Self::Unlimited => None,
        }
    }
}

impl fmt::Display for Tier {
    /// The spelling used in settings and tables: `tier_1000`, `tier_unlimited`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited(recipients) => write!(f, "tier_{recipients}"),
            Self::Unlimited => f.write_str("tier_unlimited"),
        }
    }
}

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, UnknownTier> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_a_level_means_the_same() {
        for text in ["tier_1000", "TIER_1K", "1000", "1k", " Tier_1k ", "TIER_1000"] {
            assert_eq!(Tier::parse(text), Ok(Tier::Limited(1_000)), "{text}");
        }
        for text in ["tier_unlimited", "TIER_UNLIMITED", "unlimited", "-1"] {
            assert_eq!(Tier::parse(text), Ok(Tier::Unlimited), "{text}");
        }
        for (text, level) in
            [("TIER_50", 50), ("TIER_250", 250), ("TIER_2K", 2_000), ("TIER_10K", 10_000), ("TIER_100K", 100_000)]
        {
            assert_eq!(Tier::parse(text).unwrap().daily_recipients(), Some(level));
        }
    }

    #[test]
    fn an_unknown_tier_lists_the_accepted_ones() {
        for text in ["", "tier_", "k", "tier_999", "gold", "TIER_NOT_SET", "+1000", "1000kk", "4294968k", "-250"] {
            let error = Tier::parse(text).unwrap_err().to_string();
            assert!(error.contains("tier_1000") && error.contains("tier_unlimited"), "{error}");
        }
    }

    #[test]
    fn unlimited_has_no_daily_figure_and_sorts_last() {
        assert_eq!(Tier::Unlimited.daily_recipients(), None);
        assert!(Tier::Unlimited > Tier::Limited(100_000));
    }

    #[test]
    fn what_is_displayed_parses_to_the_same_tier() {
        for tier in LEVELS.map(Tier::Limited).into_iter().chain([Tier::Unlimited]) {
            assert_eq!(tier.to_string().parse::<Tier>(), Ok(tier));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Tier::parse(&text);
        }
    }
}
