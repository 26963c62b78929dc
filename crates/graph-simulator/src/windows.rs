//! Customer service windows: 24 hours from a user's last message, per number and user (Meta: "Sending messages").

use std::collections::HashMap;

use crate::clock::{DAY, Micros};

/// The open windows of one number.
#[derive(Debug, Default)]
pub(crate) struct ServiceWindows {
    open_until: HashMap<u64, Micros>,
    prune_above: usize,
}

impl ServiceWindows {
    /// A message of `user` that was written `ago` before `now`. It never shortens a window.
    pub(crate) fn open(&mut self, user: u64, now: Micros, ago: Micros) {
        if self.open_until.len() > self.prune_above.max(1_024) {
            self.open_until.retain(|_, until| *until > now);
            self.prune_above = self.open_until.len() * 2;
        }
        let until = now.saturating_add(DAY).saturating_sub(ago);
        let known = self.open_until.entry(user).or_insert(0);
        *known = until.max(*known);
    }

    /// Whether the window of `user` is open.
    pub(crate) fn is_open(&self, user: u64, now: Micros) -> bool {
        !self.open_until.is_empty() && self.open_until.get(&user).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_open_for_24_hours_from_the_last_message() {
        let mut windows = ServiceWindows::default();
        assert!(!windows.is_open(1, 0));
        windows.open(1, 10, 0);
        assert!(windows.is_open(1, 10) && windows.is_open(1, DAY + 9) && !windows.is_open(1, DAY + 10));
        assert!(!windows.is_open(2, 10));
        windows.open(1, 20, 0);
        assert!(windows.is_open(1, DAY + 19) && !windows.is_open(1, DAY + 20));
    }

    #[test]
    fn an_old_message_opens_what_is_left_and_shortens_nothing() {
        let mut windows = ServiceWindows::default();
        windows.open(1, 0, DAY - 5);
        assert!(windows.is_open(1, 4) && !windows.is_open(1, 5));
        windows.open(2, 0, DAY);
        assert!(!windows.is_open(2, 0));
        windows.open(3, 0, 0);
        windows.open(3, 0, DAY);
        assert!(windows.is_open(3, DAY - 1));
    }

    #[test]
    fn windows_that_have_closed_are_forgotten() {
        let mut windows = ServiceWindows::default();
        for user in 0..5_000 {
            windows.open(user, user * DAY, 0);
        }
        assert!(windows.open_until.len() < 2_000, "{}", windows.open_until.len());
    }
}
