//! What is held back: by Meta's answers, or by a person. A hold is looked at when messages are chosen; it never touches
//! the messages themselves, so that it costs the same for one as for a million.
//!
//! A person's hold ends at its time. One that Meta caused does not end by the clock alone: at its time one message is
//! tried, and only if Meta takes it the hold is over (a circuit breaker, half open).

use std::fmt;

/// What kind of thing is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everything of an organizer.
    Account,
    /// Everything from one phone number.
    Number,
    /// One template, in one language (`name/language`) or in all (`name`).
    Template,
    /// Templates of one category.
    Category,
    /// Recipients in one country (`+55`): their messages fail.
    Country,
    /// Messages of one event.
    Event,
    /// Messages of one task.
    Task,
    /// Messages of one campaign.
    Campaign,
    /// One message.
    Message,
}

impl Scope {
    const ALL: [Self; 9] = [
        Self::Account,
        Self::Number,
        Self::Template,
        Self::Category,
        Self::Country,
        Self::Event,
        Self::Task,
        Self::Campaign,
        Self::Message,
    ];

    /// The name tables use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Number => "number",
            Self::Template => "template",
            Self::Category => "category",
            Self::Country => "country",
            Self::Event => "event",
            Self::Task => "task",
            Self::Campaign => "campaign",
            Self::Message => "message",
        }
    }

    /// Reads the name tables use.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }

    /// Whether it stops everything an organizer sends.
    #[must_use]
    pub fn stops_everything(self) -> bool {
        matches!(self, Self::Account | Self::Number)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What kind of thing.
    pub scope: Scope,
    /// Which one.
    pub subject: String,
    /// Meta's code for it; None when a person did it.
    pub code: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// Until when, in microseconds of any epoch; `i64::MAX`: until somebody ends it.
    pub until_us: i64,
    /// Whether Meta caused it: then one message is tried at its end.
    pub is_metas: bool,
}

/// What a hold means for a message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Nothing passes.
    Blocks,
    /// One message may be tried.
    Probes,
    /// It is over.
    Over,
}

impl Hold {
    /// What it means at this moment.
    #[must_use]
    pub fn at(&self, now_us: i64) -> Holding {
        if self.until_us > now_us {
            Holding::Blocks
        } else if self.is_metas {
            Holding::Probes
        } else {
            Holding::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_is_read_back_from_its_name() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::parse("galaxy"), None);
    }

    #[test]
    fn a_persons_hold_ends_by_the_clock_and_metas_by_a_message_that_passes() {
        let mut hold = Hold {
            scope: Scope::Account,
            subject: String::new(),
            code: None,
            reason: String::new(),
            until_us: 10,
            is_metas: false,
        };
        assert_eq!((hold.at(9), hold.at(10)), (Holding::Blocks, Holding::Over));
        hold.is_metas = true;
        assert_eq!((hold.at(9), hold.at(10)), (Holding::Blocks, Holding::Probes));
        hold.until_us = i64::MAX;
        assert_eq!(hold.at(i64::MAX - 1), Holding::Blocks);
    }
}
