//! Recipients: E.164 numbers and business-scoped user ids.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipient {
    /// As the request wrote it.
    pub(crate) input: String,
    /// The digits of a phone number; `None` for a user id.
    pub(crate) wa_id: Option<String>,
}

impl Recipient {
    /// A phone number in E.164: plus, no leading zero, 7 to 15 digits.
    ///
    /// Stricter than Meta, on purpose: Meta tolerates spaces and hyphens, and takes a number without
    /// plus for a national one of the sender's country, so such a message may reach a stranger.
    pub(crate) fn phone(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+')?;
        let well_formed = (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        well_formed.then(|| Self { input: text.to_owned(), wa_id: Some(digits.to_owned()) })
    }

    /// A business-scoped user id: country, dot, letters and digits; a parent one has `ENT` between.
    pub(crate) fn user_id(text: &str) -> Option<Self> {
        let (country, id) = text.split_once('.')?;
        let id = id.strip_prefix("ENT.").unwrap_or(id);
        let well_formed = country.len() == 2
            && country.bytes().all(|byte| byte.is_ascii_uppercase())
            && (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        well_formed.then(|| Self { input: text.to_owned(), wa_id: None })
    }

    /// One word that stands for the recipient in limits. Exact for phone numbers (15 digits fit);
    /// the highest bit keeps hashed user ids apart from them.
    pub(crate) fn key(&self) -> u64 {
        match self.wa_id.as_ref().and_then(|digits| digits.parse().ok()) {
            Some(number) => number,
            None => {
                let mut hasher = DefaultHasher::new();
                self.input.hash(&mut hasher);
                hasher.finish() | 1 << 63
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_e164_with_a_plus_is_a_phone_number() {
        assert_eq!(Recipient::phone("+5511900000000").unwrap().wa_id.as_deref(), Some("5511900000000"));
        let refused = [
            "5511900000000",
            "+0987654321",
            "+123456",
            "+1234567890123456",
            "+55 11 90000-0000",
            "+55119٠٠٠٠٠",
            "+",
            "",
        ];
        for text in refused {
            assert_eq!(Recipient::phone(text), None, "{text}");
        }
    }

    #[test]
    fn a_user_id_is_a_country_and_letters_and_digits() {
        assert!(Recipient::user_id("US.13491208655302741918").is_some());
        assert!(Recipient::user_id("US.ENT.11815799212886844830").is_some());
        for text in ["us.1", "US.", "US", "US.a b", "USA.1"] {
            assert_eq!(Recipient::user_id(text), None, "{text}");
        }
    }

    #[test]
    fn keys_tell_recipients_apart() {
        let phone = Recipient::phone("+5511900000000").unwrap();
        assert_eq!(phone.key(), 5_511_900_000_000);
        assert!(Recipient::user_id("US.1").unwrap().key() > u64::MAX / 2);
    }
}
