//! A key: 32 random bytes, their text form for files and moves, and the public id that sealed values carry.

use crate::error::KeyError;
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Bytes in a key.
pub(crate) const KEY_BYTES: usize = 32;

/// Padding may be there or not: keys are copied by hand.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// A key. Wiped when dropped; formatting shows its id only.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

/// The public name of a key: the first eight bytes of its SHA-256, as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl Key {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
        Ok(Self(key))
    }

    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::WrongLength`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        bytes.try_into().map(|key| Self(Zeroizing::new(key))).map_err(|_| KeyError::WrongLength(bytes.len()))
    }

    /// Reads base64 (either alphabet, padded or not) or 64 hexadecimal digits, with blanks around it.
    ///
    /// # Errors
    /// [`KeyError::WrongLength`] when it is shorter or longer than a key, [`KeyError::NotAKey`] when it is something else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        // All digits of a plausible length are meant as hexadecimal, although they would also pass as base64.
        let all_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes = if all_hex && (text.len() == 2 * KEY_BYTES || text.len() > 44) {
            decode_hex(text)
        } else {
            BASE64.decode(text).or_else(|_| BASE64_URL.decode(text)).ok().map(Zeroizing::new)
        };
        Self::from_bytes(&bytes.ok_or(KeyError::NotAKey)?)
    }

    /// The key as base64, for export. Whoever sees it can open everything sealed under it.
    #[must_use]
    pub fn to_export(&self) -> String {
        BASE64.encode(self.bytes())
    }

    /// The key's public name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.bytes()).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        KeyId([a, b, c, d, e, f, g, h])
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// Pairs of digits as bytes; `None` for an odd number of digits and for anything that is no digit.
fn decode_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|pair| pair.iter().try_fold(0_u8, |value, byte| Some(value << 4 | digit(byte)?)))
        .collect::<Option<Vec<u8>>>()
        .map(Zeroizing::new)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_hex(text).filter(|_| text.len() == 16).ok_or(KeyError::NotAKeyId)?;
        bytes.as_slice().try_into().map(Self).map_err(|_| KeyError::NotAKeyId)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_generated_keys_differ() {
        assert_ne!(Key::generate().unwrap(), Key::generate().unwrap());
    }

    #[test]
    fn the_id_is_the_start_of_the_keys_sha256() {
        // sha256 of 32 zero bytes.
        assert_eq!(Key::from_bytes(&[0; 32]).unwrap().id().to_string(), "66687aadf862bd77");
    }

    #[test]
    fn base64_with_and_without_padding_and_hexadecimal_are_the_same_key() {
        let key = Key::from_bytes(&[0xfb; 32]).unwrap();
        let export = key.to_export();
        for text in [
            export.clone(),
            export.trim_end_matches('=').to_owned(),
            export.replace('+', "-").replace('/', "_"),
            "fb".repeat(32),
            "FB".repeat(32),
            format!("  {export}\n"),
        ] {
            assert_eq!(Key::parse(&text), Ok(key.clone()), "{text}");
        }
    }

    #[test]
    fn a_key_of_another_length_says_how_long_it_is() {
        assert_eq!(Key::parse("c2hvcnQ="), Err(KeyError::WrongLength(5)));
        assert_eq!(Key::parse(&BASE64.encode([1; 33])), Err(KeyError::WrongLength(33)));
        assert_eq!(Key::parse(&"ab".repeat(31)), Err(KeyError::WrongLength(31)));
        assert_eq!(Key::parse(&"ab".repeat(33)), Err(KeyError::WrongLength(33)));
        assert_eq!(Key::parse(&"a".repeat(63)), Err(KeyError::NotAKey));
        assert_eq!(Key::parse(""), Err(KeyError::WrongLength(0)));
        assert_eq!(Key::from_bytes(&[1; 16]), Err(KeyError::WrongLength(16)));
    }

    #[test]
    fn prose_is_not_a_key() {
        assert_eq!(Key::parse("my secret pass phrase!"), Err(KeyError::NotAKey));
    }

    #[test]
    fn formatting_a_key_shows_its_id_and_no_byte_of_it() {
        let key = Key::from_bytes(&[0xab; 32]).unwrap();
        let shown = format!("{key:?} {key:#?}");
        assert!(shown.contains(&key.id().to_string()));
        assert!(!shown.contains("abab") && !shown.contains("171"));
    }

    proptest! {
        #[test]
        fn every_key_survives_export_and_import(bytes in any::<[u8; 32]>()) {
            let key = Key::from_bytes(&bytes).unwrap();
            prop_assert_eq!(Key::parse(&key.to_export()), Ok(key.clone()));
            prop_assert_eq!(key.id().to_string().parse::<KeyId>(), Ok(key.id()));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (Key::parse(&text), text.parse::<KeyId>());
        }
    }
}
