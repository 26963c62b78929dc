//! How densely messages arrived.

use std::time::Duration;

/// The most arrivals in any window of this length. Limits are checked over a little less than their second: what left a
/// second apart may arrive closer together when the machine is busy, and twice the rate would still show.
pub fn most_within(arrivals: &[Duration], window: Duration) -> usize {
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable();
    let from = |first: usize| sorted[first..].iter().take_while(|at| **at - sorted[first] < window).count();
    (0..sorted.len()).map(from).max().unwrap_or(0)
}
