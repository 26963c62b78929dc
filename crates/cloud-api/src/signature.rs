//! The signature on Meta's webhooks.
//!
//! `X-Hub-Signature-256` is HMAC-SHA256 over the raw bytes of the body, keyed by the app secret. It must be checked over
//! the bytes as they arrived: parsing and printing the JSON again changes them. Source: Meta, "Webhooks, getting started".

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Whether `header` (`sha256=` and 64 hex digits) signs `body` under `secret` (the app secret, not the access token).
///
/// Takes the same time for every wrong signature of the right form. False for a malformed header and for an empty secret.
#[must_use]
pub fn verify(secret: &str, body: &[u8], header: &str) -> bool {
    let Some(signature) = parse(header) else {
        return false;
    };
    if secret.is_empty() {
        return false;
    }
    // HMAC takes keys of every length; the error exists for other algorithms of the trait.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

/// The 32 bytes of a well-formed header.
fn parse(header: &str) -> Option<[u8; 32]> {
    let digits = header.trim().strip_prefix("sha256=")?.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0_u8, |value, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(value << 4 | u8::try_from(digit).ok()?)
        })?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 4231, test case 2.
    const RFC_SIGNATURE: &str = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    const RFC_BODY: &[u8] = b"what do ya want for nothing?";

    #[test]
    fn the_rfc_example_verifies() {
        assert!(verify("Jefe", RFC_BODY, RFC_SIGNATURE));
        assert!(verify("Jefe", RFC_BODY, &RFC_SIGNATURE.to_uppercase().replace("SHA256=", "sha256=")));
    }

    #[test]
    fn another_secret_body_or_signature_does_not_verify() {
        assert!(!verify("jefe", RFC_BODY, RFC_SIGNATURE));
        assert!(!verify("Jefe", b"what do ya want for nothing!", RFC_SIGNATURE));
        assert!(!verify("Jefe", RFC_BODY, &RFC_SIGNATURE.replace("5bdc", "5bdd")));
    }

    #[test]
    fn malformed_headers_and_an_empty_secret_do_not_verify() {
        let bare = RFC_SIGNATURE.trim_start_matches("sha256=");
        for header in
            ["", "sha256=", bare, "sha1=5bdcc146", &RFC_SIGNATURE[..70], &format!("{RFC_SIGNATURE}0"), "sha256=\u{e9}"]
        {
            assert!(!verify("Jefe", RFC_BODY, header), "{header}");
        }
        assert!(!verify("", RFC_BODY, RFC_SIGNATURE));
    }

    proptest! {
        #[test]
        fn no_header_panics_and_none_is_guessed(header in ".*", body in any::<Vec<u8>>()) {
            prop_assert!(!verify("a secret", &body, &header));
        }

        #[test]
        fn one_flipped_digit_breaks_it(position in 0_usize..64) {
            let mut bytes = RFC_SIGNATURE.as_bytes().to_vec();
            let digit = &mut bytes["sha256=".len() + position];
            *digit = if *digit == b'0' { b'1' } else { b'0' };
            prop_assert!(!verify("Jefe", RFC_BODY, &String::from_utf8_lossy(&bytes)));
        }
    }
}
