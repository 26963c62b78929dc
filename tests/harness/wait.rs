//! Waiting for a condition: never a fixed sleep, and a failure that says what the last look showed.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until `look` answers `Ok`, and returns what it found.
///
/// # Panics
/// When `timeout` has passed: the message has `what` and the last `Err`, the state that was seen instead.
pub fn wait_until<T, S: Debug>(what: &str, timeout: Duration, mut look: impl FnMut() -> Result<T, S>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        match look() {
            Ok(found) => return found,
            Err(state) if Instant::now() >= deadline => {
                panic!("waited {timeout:?} for {what}; the last look showed {state:?}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// The usual patience: far more than anything here needs, little enough that a hang is noticed.
pub const PATIENCE: Duration = Duration::from_secs(30);
