//! The bytes of a webhook: Meta's way of writing JSON, and the signature over it.
//!
//! Meta writes everything outside ASCII as `\u` escapes in lower case, and `/` as `\/` (Meta: "Webhooks", Messenger
//! platform, on validating payloads). Who parses a body and writes it again gets other bytes, and another
//! signature; so the simulator writes as Meta does.

use std::fmt;
use std::io::{self, Write};

use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, Serializer};

/// A webhook as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBody {
    /// The exact text of the body; ASCII only.
    pub body: String,
    /// Value of the header `X-Hub-Signature-256`: `sha256=` and 64 hexadecimal digits.
    pub signature: String,
}

/// The app secret, ready to sign.
#[derive(Debug)]
pub(crate) struct SigningKey(hmac::Key);

impl SigningKey {
    pub(crate) fn new(app_secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, app_secret.as_bytes()))
    }

    /// HMAC-SHA256 over the bytes of the body (Meta: "Webhooks", validating payloads).
    pub(crate) fn sign(&self, body: String) -> SignedBody {
        let tag = hmac::sign(&self.0, body.as_bytes());
        SignedBody { signature: format!("sha256={}", Hex(tag.as_ref())), body }
    }
}

struct Hex<'b>(&'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Writes a value as Meta does.
pub(crate) fn write(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(1024);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, MetaFormatter))?;
    // The formatter writes ASCII only.
    String::from_utf8(bytes).map_err(|error| serde_json::Error::io(io::Error::other(error)))
}

/// How many bytes a text takes on the wire, at most.
pub(crate) fn length(text: &str) -> usize {
    text.chars()
        .map(|char| match char {
            ' '..='~' => 2,
            other => 6 * other.len_utf16(),
        })
        .sum()
}

struct MetaFormatter;

impl Formatter for MetaFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|char: char| !char.is_ascii() || char == '/') {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = special.chars();
            match chars.next() {
                Some('/') => writer.write_all(b"\\/")?,
                Some(other) => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
                None => {}
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_not_ascii_and_slashes_are_escaped_as_meta_does() {
        let text = "São \u{1F600} a/b \"q\" \\ \n \u{1}";
        let written = write(&json!({ "é/": text })).unwrap();
        assert_eq!(written, r#"{"\u00e9\/":"S\u00e3o \ud83d\ude00 a\/b \"q\" \\ \n \u0001"}"#);
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), json!({ "é/": text }));
        assert!(length(text) >= write(&text).unwrap().len() - 2);
    }

    #[test]
    fn a_signature_is_hmac_sha256_in_lower_case_hex() {
        // RFC 4231, test case 2.
        let signed = SigningKey::new("Jefe").sign("what do ya want for nothing?".to_owned());
        assert_eq!(signed.signature, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
