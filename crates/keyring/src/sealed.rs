//! Sealing and opening: XChaCha20-Poly1305 with the key's id in the value and its place as associated data.
//!
//! A sealed value reads `wa1:<key id>:<base64url>`; the last part holds the nonce (24 bytes), the ciphertext with its tag
//! and four bytes of a checksum over everything before. The checksum protects nothing: it tells a value that was cut or
//! mistyped from one that was moved to another row, which the cipher alone cannot.

use crate::error::KeyError;
use crate::key::{Key, KeyId};
use crate::secret::Secret;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Marks a sealed value and its format.
const PREFIX: &str = "wa1:";
const NONCE_BYTES: usize = 24;
const CHECK_BYTES: usize = 4;

/// Where a sealed value belongs. It opens nowhere else: copying one organizer's ciphertext to another's row is useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// The organizer's uuid, as its 16 bytes.
    pub organizer: [u8; 16],
    /// The column, for example `access_token`.
    pub column: &'a str,
}

/// The keys of a database: the first one seals, all of them open.
#[derive(Debug, Clone)]
pub struct Keyring {
    sealing: Key,
    older: Vec<Key>,
}

/// Whether a value is meant to be a sealed one. It may still be damaged: then [`Keyring::open`] says so.
#[must_use]
pub fn is_sealed(value: &str) -> bool {
    value.starts_with(PREFIX)
}

/// The id of the key a value was sealed under, to see what a rotation has left to do.
///
/// # Errors
/// [`KeyError::NotSealed`] or [`KeyError::Damaged`].
pub fn key_of(sealed: &str) -> Result<KeyId, KeyError> {
    parts(sealed).map(|(key, _)| key)
}

/// The key id and the base64 of a sealed value.
fn parts(sealed: &str) -> Result<(KeyId, &str), KeyError> {
    let rest = sealed.strip_prefix(PREFIX).ok_or(KeyError::NotSealed)?;
    let (written, text) = rest.split_once(':').ok_or(KeyError::Damaged)?;
    // One value has one spelling: an id in capitals was not written by us.
    let id = written.parse().ok().filter(|id: &KeyId| id.to_string() == written).ok_or(KeyError::Damaged)?;
    Ok((id, text))
}

impl Keyring {
    /// A keyring that seals with the first key and opens with all.
    ///
    /// # Errors
    /// [`KeyError::Empty`] without a key, [`KeyError::Twice`] when one is repeated.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyError> {
        for (position, key) in keys.iter().enumerate() {
            if keys.iter().take(position).any(|earlier| earlier == key) {
                return Err(KeyError::Twice(key.id()));
            }
        }
        let mut keys = keys.into_iter();
        let sealing = keys.next().ok_or(KeyError::Empty)?;
        Ok(Self { sealing, older: keys.collect() })
    }

    /// A keyring from text: one key a line, the sealing one first; blank lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`KeyError::BadLine`] with the line's number, or those of [`Keyring::new`].
    pub fn from_file_text(text: &str) -> Result<Self, KeyError> {
        let keys = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, key)| {
                Key::parse(key).map_err(|problem| KeyError::BadLine { line, problem: Box::new(problem) })
            })
            .collect::<Result<Vec<Key>, KeyError>>()?;
        Self::new(keys)
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn sealing_key(&self) -> KeyId {
        self.sealing.id()
    }

    /// The same keyring, with further keys that open.
    #[must_use]
    pub fn also_opening(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        for key in keys {
            if self.keys().all(|known| known.id() != key.id()) {
                self.older.push(key);
            }
        }
        self
    }

    /// The ids of all keys, the sealing one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys().map(Key::id)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.sealing).chain(&self.older)
    }

    /// Seals a secret for one place. Two calls never give the same text.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`]; [`KeyError::TooLong`] beyond what memory holds.
    pub fn seal(&self, plain: &str, context: &Context<'_>) -> Result<String, KeyError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
        let id = self.sealing.id();
        let place = associated_data(id, context);
        let ciphertext = cipher(&self.sealing)
            .encrypt(&XNonce::from(nonce), Payload { msg: plain.as_bytes(), aad: &place })
            .map_err(|_| KeyError::TooLong)?;
        let mut bytes = [nonce.as_slice(), &ciphertext].concat();
        bytes.extend(checksum(id, &bytes));
        Ok(format!("{PREFIX}{id}:{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Opens a sealed value at the place it was sealed for.
    ///
    /// # Errors
    /// [`KeyError::NotSealed`], [`KeyError::Damaged`], [`KeyError::UnknownKey`] or [`KeyError::WrongContext`].
    pub fn open(&self, sealed: &str, context: &Context<'_>) -> Result<Secret, KeyError> {
        let (id, text) = parts(sealed)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Damaged)?;
        let (bytes, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(KeyError::Damaged)?;
        if checksum(id, bytes) != *check {
            return Err(KeyError::Damaged);
        }
        let (nonce, ciphertext) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(KeyError::Damaged)?;
        let key = self.keys().find(|key| key.id() == id).ok_or(KeyError::UnknownKey(id))?;
        let place = associated_data(id, context);
        let plain = cipher(key)
            .decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: &place })
            .map(Zeroizing::new)
            .map_err(|_| KeyError::WrongContext)?;
        // Only text is ever sealed, so anything else was sealed by somebody else's program.
        let plain = std::str::from_utf8(&plain).map_err(|_| KeyError::Damaged)?;
        Ok(Secret::new(plain.to_owned()))
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.bytes().into())
}

/// Everything before the column has a fixed length, so two places never give the same bytes.
fn associated_data(id: KeyId, context: &Context<'_>) -> Vec<u8> {
    [format!("{PREFIX}{id}:").as_bytes(), &context.organizer, context.column.as_bytes()].concat()
}

fn checksum(id: KeyId, bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest: [u8; 32] = Sha256::new().chain_update(id.to_string()).chain_update(bytes).finalize().into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const HERE: Context<'_> = Context { organizer: [1; 16], column: "access_token" };

    fn key(byte: u8) -> Key {
        Key::from_bytes(&[byte; 32]).unwrap()
    }

    fn ring(bytes: &[u8]) -> Keyring {
        Keyring::new(bytes.iter().copied().map(key).collect()).unwrap()
    }

    #[test]
    fn a_sealed_value_carries_the_sealing_keys_id_and_not_the_secret() {
        let sealed = ring(&[1, 2]).seal("EAAGtoken", &HERE).unwrap();
        assert!(is_sealed(&sealed));
        assert!(sealed.starts_with(&format!("wa1:{}:", key(1).id())));
        assert_eq!(key_of(&sealed), Ok(key(1).id()));
        assert!(!sealed.contains("EAAG") && !sealed.contains(&BASE64_URL_SAFE_NO_PAD.encode("EAAGtoken")));
    }

    #[test]
    fn the_same_secret_never_seals_to_the_same_text() {
        let ring = ring(&[1]);
        assert_ne!(ring.seal("x", &HERE).unwrap(), ring.seal("x", &HERE).unwrap());
    }

    #[test]
    fn after_a_rotation_old_values_still_open_and_new_ones_use_the_new_key() {
        let old = ring(&[1]).seal("secret", &HERE).unwrap();
        let rotated = ring(&[2, 1]);
        assert_eq!(rotated.open(&old, &HERE).unwrap().expose(), "secret");
        assert_eq!(key_of(&rotated.seal("secret", &HERE).unwrap()), Ok(rotated.sealing_key()));
        assert_eq!(rotated.ids().collect::<Vec<_>>(), [key(2).id(), key(1).id()]);
    }

    #[test]
    fn another_organizer_or_column_cannot_open_it() {
        let ring = ring(&[1]);
        let sealed = ring.seal("secret", &HERE).unwrap();
        let elsewhere = [Context { organizer: [2; 16], ..HERE }, Context { column: "app_secret", ..HERE }];
        for context in elsewhere {
            assert_eq!(ring.open(&sealed, &context), Err(KeyError::WrongContext));
        }
    }

    #[test]
    fn a_missing_key_is_named_so_that_it_can_be_imported() {
        let sealed = ring(&[1]).seal("secret", &HERE).unwrap();
        let error = ring(&[2]).open(&sealed, &HERE).unwrap_err();
        assert_eq!(error, KeyError::UnknownKey(key(1).id()));
        assert!(error.to_string().contains(&key(1).id().to_string()) && error.to_string().contains("import"));
    }

    #[test]
    fn a_forged_key_id_does_not_open() {
        let sealed = ring(&[1]).seal("secret", &HERE).unwrap();
        let forged = sealed.replace(&key(1).id().to_string(), &key(2).id().to_string());
        assert_eq!(ring(&[1, 2]).open(&forged, &HERE), Err(KeyError::Damaged));
    }

    #[test]
    fn plain_text_is_not_sealed_and_stumps_are_damaged() {
        let ring = ring(&[1]);
        assert_eq!(ring.open("EAAGtoken", &HERE), Err(KeyError::NotSealed));
        for stump in [
            "wa1:",
            "wa1::",
            "wa1:zz:AAAA",
            "wa1:0011223344556677",
            "wa1:0011223344556677:",
            "wa1:0011223344556677:%%%%",
        ] {
            assert!(is_sealed(stump));
            assert_eq!(ring.open(stump, &HERE), Err(KeyError::Damaged), "{stump}");
        }
    }

    #[test]
    fn a_keyring_without_a_key_or_with_one_twice_is_refused() {
        assert_eq!(Keyring::new(Vec::new()).unwrap_err(), KeyError::Empty);
        assert_eq!(Keyring::new(vec![key(1), key(2), key(1)]).unwrap_err(), KeyError::Twice(key(1).id()));
    }

    #[test]
    fn a_key_file_has_a_key_a_line_and_comments() {
        let text = format!("# made in March\n{}\n\n  # older\r\n{}\r\n", key(1).to_export(), "02".repeat(32));
        let ring = Keyring::from_file_text(&text).unwrap();
        assert_eq!(ring.ids().collect::<Vec<_>>(), [key(1).id(), key(2).id()]);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_not_quoted() {
        let error = Keyring::from_file_text("# first\nhunter2hunter2\n").unwrap_err().to_string();
        assert!(error.starts_with("line 2:") && !error.contains("hunter2"), "{error}");
        assert_eq!(Keyring::from_file_text("# nothing\n\n").unwrap_err(), KeyError::Empty);
    }

    proptest! {
        #[test]
        fn every_secret_opens_where_it_was_sealed(
            plain in ".*", organizer in any::<[u8; 16]>(), column in "[a-z_]{0,20}", byte in any::<u8>()
        ) {
            let ring = ring(&[byte]);
            let context = Context { organizer, column: &column };
            let sealed = ring.seal(&plain, &context).unwrap();
            let opened = ring.open(&sealed, &context).unwrap();
            prop_assert_eq!(opened.expose(), plain);
        }

        #[test]
        fn no_changed_character_goes_unnoticed(plain in ".{0,40}", position in any::<prop::sample::Index>(), to in "[0-9A-Za-z_:-]") {
            let ring = ring(&[1]);
            let sealed = ring.seal(&plain, &HERE).unwrap();
            let at = position.index(sealed.len());
            let mut changed = sealed.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != sealed);
            let error = ring.open(&changed, &HERE).unwrap_err();
            prop_assert!(matches!(error, KeyError::NotSealed | KeyError::Damaged), "{error}");
        }

        #[test]
        fn no_cut_value_opens(plain in ".{0,40}", keep in any::<prop::sample::Index>()) {
            let ring = ring(&[1]);
            let sealed = ring.seal(&plain, &HERE).unwrap();
            let cut = &sealed[..keep.index(sealed.len())];
            prop_assert!(matches!(ring.open(cut, &HERE), Err(KeyError::NotSealed | KeyError::Damaged)));
        }

        #[test]
        fn no_text_panics(text in "(wa1:)?.*") {
            let _ = ring(&[1]).open(&text, &HERE);
            let _ = Keyring::from_file_text(&text);
        }
    }
}
