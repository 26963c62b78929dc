//! Graph API versions: which exist and which one really serves a call.
//!
//! An expired version is not refused: the oldest usable one serves it, and only the header
//! `facebook-api-version` tells (Meta: "Graph API versioning"). A version that does not exist yet is
//! an unknown path component.

use std::fmt;

use super::error::GraphError;

/// A version such as `v25.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u16,
    minor: u16,
}

/// Oldest version that is still served (v20.0 ended on 24 September 2026).
const OLDEST: Version = Version { major: 21, minor: 0 };
/// Newest version (29 July 2026).
const NEWEST: Version = Version { major: 26, minor: 0 };

/// From here on, bad parameter text is 132018; before, it was 132012 (Meta: error codes).
pub(crate) const TEMPLATE_VALIDATION_CODE: Version = Version { major: 23, minor: 0 };

impl Version {
    /// Reads `v25.0`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
        Some(Self { major: digits(major)?, minor: digits(minor)? })
    }

    /// The version that serves a call to `self`.
    pub(crate) fn served(self) -> Result<Self, GraphError> {
        if self > NEWEST {
            return Err(GraphError::unknown_path(&self.to_string()));
        }
        Ok(self.max(OLDEST))
    }
}

fn digits(text: &str) -> Option<u16> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn served(text: &str) -> String {
        Version::parse(text).unwrap().served().unwrap().to_string()
    }

    #[test]
    fn an_expired_version_is_served_by_the_oldest_usable_one() {
        assert_eq!(served("v18.0"), "v21.0");
        assert_eq!(served("v25.0"), "v25.0");
        assert_eq!(served("v26.0"), "v26.0");
    }

    #[test]
    fn a_version_that_does_not_exist_yet_is_an_unknown_path() {
        let error = Version::parse("v99.0").unwrap().served().unwrap_err();
        assert_eq!(error.code, 2500);
    }

    #[test]
    fn only_a_v_with_two_numbers_is_a_version() {
        for text in ["25.0", "v25", "v+5.0", "v25.", "v.0", "messages", "V25.0"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
