//! Identifiers that Meta invents: wamids and trace ids.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Makes ids that never repeat within one simulator, and hardly between two.
#[derive(Debug)]
pub(crate) struct Ids {
    seed: u64,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self { seed: RandomState::new().hash_one(0u8), next: AtomicU64::new(0) }
    }

    /// A message id; like Meta's it embeds the recipient, so it is personal data.
    pub(crate) fn wamid(&self, recipient: &str) -> String {
        let mut bytes = vec![0x1d, 0x18, u8::try_from(recipient.len()).unwrap_or(u8::MAX)];
        bytes.extend_from_slice(recipient.as_bytes());
        bytes.extend_from_slice(&[0x15, 0x02, 0x00, 0x11, 0x18, 0x10]);
        bytes.extend_from_slice(&self.unique());
        bytes.push(0);
        format!("wamid.{}", STANDARD.encode(bytes))
    }

    /// Value of `fbtrace_id` and `x-fb-trace-id`.
    pub(crate) fn trace(&self) -> String {
        format!("A{}", URL_SAFE_NO_PAD.encode(self.unique()))
    }

    /// Sixteen bytes: the seed makes them differ between runs, the counter within one.
    fn unique(&self) -> [u8; 16] {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        // An odd factor maps counters to well-spread words one to one.
        let spread = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed;
        let mut bytes = [0; 16];
        for (byte, value) in bytes.iter_mut().zip(self.seed.to_be_bytes().into_iter().chain(spread.to_be_bytes())) {
            *byte = value;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn wamids_are_base64_with_the_recipient_inside_and_never_repeat() {
        let ids = Ids::new();
        let wamids: HashSet<_> = (0..10_000).map(|_| ids.wamid("5511900000000")).collect();
        assert_eq!(wamids.len(), 10_000);
        let wamid = wamids.iter().next().unwrap();
        let bytes = STANDARD.decode(wamid.strip_prefix("wamid.").unwrap()).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains("5511900000000"));
    }
}
