//! When a backlog will be done.
//!
//! An estimate on the safe side, from the limits as they stand: every message counts as a new recipient of the day, what left in
//! the minute that runs is not looked at, and a throttled rate is taken to stay as it is (its recovery, see
//! [`crate::throttle`], makes it sooner). Nobody else is expected to send. Times are microseconds since an epoch of the caller's
//! choice.
//!
//! Message k leaves no earlier than the hold and the day's freed recipients let it, than one interval after message k − 1, than
//! a minute after message k − (limit of the minute), and than a day after message k − (limit of the day). So the last one
//! leaves at the end of the longest chain of such waits.

use crate::pacing::Pace;
use crate::recipients::WINDOW_US;
use std::cmp::Reverse;

/// One minute, in microseconds.
const MINUTE_US: i128 = 60 * 1_000_000;

const _: () = assert!(WINDOW_US as i128 % MINUTE_US == 0, "see Limits::wait");

/// What is to be sent, and the limits.
#[derive(Debug, Clone, Copy)]
pub struct Backlog<'a> {
    /// Now.
    pub now_us: i64,
    /// Messages queued before these.
    pub ahead: u64,
    /// How many messages the question is about. Zero of them are done now.
    pub n: u64,
    /// The rate in effect.
    pub pace: Pace,
    /// At most so many in any minute.
    pub per_minute: Option<u32>,
    /// At most so many different recipients in any day.
    pub day: Option<DayLimit<'a>>,
    /// Nothing leaves before this. `i64::MAX`: no end is known.
    pub held_until: Option<i64>,
}

/// The limit of the rolling day and how much of it is used.
#[derive(Debug, Clone, Copy)]
pub struct DayLimit<'a> {
    /// Different recipients in any 24 hours ([`crate::Tier::daily_recipients`]).
    pub limit: u32,
    /// How many count now ([`crate::Recipients::count`]).
    pub used: u32,
    /// When they leave, earliest first ([`crate::Recipients::ends`]). Those not listed leave a whole day from now.
    pub ends: &'a [i64],
}

/// When a backlog will be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eta {
    /// When the last message leaves. `None`: never, as things stand.
    pub done_us: Option<i64>,
    /// What decides: the limit without which it would be done soonest.
    pub limited_by: LimitedBy,
}

/// What decides when a backlog is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitedBy {
    /// Messages per second.
    Pace,
    /// Messages per minute.
    Minute,
    /// Recipients per day.
    Day,
    /// A hold.
    Hold,
}

impl LimitedBy {
    /// A stable name for tables: `pace`, `minute`, `day`, `hold`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pace => "pace",
            Self::Minute => "minute",
            Self::Day => "day",
            Self::Hold => "hold",
        }
    }
}

impl Backlog<'_> {
    /// When the last of the `n` messages leaves, and what decides it.
    #[must_use]
    pub fn eta(&self) -> Eta {
        if self.n == 0 {
            return Eta { done_us: Some(self.now_us), limited_by: LimitedBy::Pace };
        }
        if let Some(limited_by) = self.never() {
            return Eta { done_us: None, limited_by };
        }
        let limits = self.limits();
        let unheld = Limits { start: self.now_us, ..limits };
        let pace = Limits { per_minute: None, day: None, ..unheld };
        // Without which limit it would be done soonest; of those that make no difference, the one that alone takes longest.
        let (limited_by, ..) = [
            (LimitedBy::Pace, Limits { interval: 0, ..limits }, pace),
            (
                LimitedBy::Minute,
                Limits { per_minute: None, ..limits },
                Limits { per_minute: limits.per_minute, ..pace },
            ),
            (LimitedBy::Day, Limits { day: None, ..limits }, Limits { day: limits.day, ..pace }),
            (LimitedBy::Hold, unheld, Limits { start: limits.start, ..pace }),
        ]
        .into_iter()
        .min_by_key(|(_, without, alone)| (without.done(), Reverse(alone.done())))
        .unwrap_or((LimitedBy::Pace, limits, limits));
        Eta { done_us: Some(i64::try_from(limits.done()).unwrap_or(i64::MAX)), limited_by }
    }

    fn never(&self) -> Option<LimitedBy> {
        if self.held_until == Some(i64::MAX) {
            Some(LimitedBy::Hold)
        } else if self.pace.per_second == 0 {
            Some(LimitedBy::Pace)
        } else if self.per_minute == Some(0) {
            Some(LimitedBy::Minute)
        } else if self.day.is_some_and(|day| day.limit == 0) {
            Some(LimitedBy::Day)
        } else {
            None
        }
    }

    fn limits(&self) -> Limits<'_> {
        Limits {
            now: self.now_us,
            start: self.held_until.map_or(self.now_us, |until| until.max(self.now_us)),
            messages: i128::from(self.ahead) + i128::from(self.n),
            interval: i128::from(self.pace.interval_us()),
            per_minute: self.per_minute.map(i128::from),
            day: self.day,
        }
    }
}

/// The limits as the arithmetic wants them. No limit is zero, there is at least one message.
#[derive(Clone, Copy)]
struct Limits<'a> {
    now: i64,
    start: i64,
    messages: i128,
    interval: i128,
    per_minute: Option<i128>,
    day: Option<DayLimit<'a>>,
}

impl Limits<'_> {
    /// When the last message leaves: the end of the longest chain that begins where a message is first let go.
    fn done(&self) -> i128 {
        let chain = |first: i128, at: i64| i128::from(at.max(self.start)) + self.wait(self.messages - first);
        let undisturbed = chain(1, self.start);
        let Some(day) = self.day else {
            return undisturbed;
        };
        // Message k of the first `limit` waits until all but `limit` − k of those who count have left.
        let (limit, used) = (i128::from(day.limit), i128::from(day.used));
        let last = limit.min(self.messages);
        let leaver = |leaver: i128| leaver + limit - used;
        let listed = (1..).zip(day.ends.iter().take(day.used as usize));
        let listed = listed.map(|(nth, end)| (leaver(nth), *end)).filter(|(k, _)| (1..=last).contains(k));
        let unlisted = leaver(day.ends.len() as i128 + 1).max(1);
        let unlisted = (unlisted <= last && (day.ends.len() as i128) < used)
            .then(|| chain(unlisted, self.now.saturating_add(WINDOW_US)));
        listed.map(|(k, end)| chain(k, end)).chain(unlisted).fold(undisturbed, i128::max)
    }

    /// The longest that `messages` further messages can take after one has left: as many days as there can be, then minutes,
    /// then intervals, or none of the longer when the shorter add up to more. That no mixture is longer holds for a window of
    /// whole minutes.
    fn wait(&self, messages: i128) -> i128 {
        let Some(day) = self.day else {
            return self.wait_within_a_day(messages);
        };
        let limit = i128::from(day.limit);
        if self.wait_within_a_day(limit) <= i128::from(WINDOW_US) {
            messages / limit * i128::from(WINDOW_US) + self.wait_within_a_day(messages % limit)
        } else {
            // A day's quota takes more than a day: the other limits decide.
            self.wait_within_a_day(messages)
        }
    }

    fn wait_within_a_day(&self, messages: i128) -> i128 {
        match self.binding_minute() {
            Some(limit) => messages / limit * MINUTE_US + messages % limit * self.interval,
            None => messages * self.interval,
        }
    }

    /// The limit of the minute, when the pace alone would not keep below it.
    fn binding_minute(&self) -> Option<i128> {
        self.per_minute.filter(|limit| limit * self.interval < MINUTE_US)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000_000_000;
    const SECOND_US: i64 = 1_000_000;
    const HOUR_US: i64 = 3_600 * SECOND_US;

    fn backlog(n: u64) -> Backlog<'static> {
        Backlog {
            now_us: NOW,
            ahead: 0,
            n,
            pace: Pace { per_second: 80 },
            per_minute: None,
            day: None,
            held_until: None,
        }
    }

    /// Seconds from now, and what decides.
    fn answer(backlog: Backlog<'_>) -> (Option<i64>, LimitedBy) {
        let eta = backlog.eta();
        (eta.done_us.map(|done| (done - NOW) / SECOND_US), eta.limited_by)
    }

    #[test]
    fn the_limit_that_costs_most_is_named() {
        let ends: Vec<i64> = (1..=900).map(|n| NOW + HOUR_US + n * SECOND_US).collect();
        let day = |used: u32| Some(DayLimit { limit: 1_000, used, ends: &ends[..used as usize] });
        let window = WINDOW_US / SECOND_US;
        let cases = [
            ("nothing asked", backlog(0), (Some(0), LimitedBy::Pace)),
            ("one", backlog(1), (Some(0), LimitedBy::Pace)),
            ("a hundred seconds' worth", backlog(7_961), (Some(100), LimitedBy::Pace)),
            ("those ahead count", Backlog { ahead: 7_960, ..backlog(1) }, (Some(100), LimitedBy::Pace)),
            ("held", Backlog { held_until: Some(NOW + HOUR_US), ..backlog(10) }, (Some(3_600), LimitedBy::Hold)),
            ("a hold that is over", Backlog { held_until: Some(NOW - 1), ..backlog(10) }, (Some(0), LimitedBy::Pace)),
            (
                "a short hold",
                Backlog { held_until: Some(NOW + SECOND_US), ..backlog(7_961) },
                (Some(101), LimitedBy::Pace),
            ),
            ("the minute", Backlog { per_minute: Some(100), ..backlog(250) }, (Some(120), LimitedBy::Minute)),
            ("within the minute", Backlog { per_minute: Some(100), ..backlog(100) }, (Some(1), LimitedBy::Pace)),
            ("a loose minute", Backlog { per_minute: Some(5_000), ..backlog(7_961) }, (Some(100), LimitedBy::Pace)),
            ("room in the day", Backlog { day: day(900), ..backlog(100) }, (Some(1), LimitedBy::Pace)),
            ("the first to leave", Backlog { day: day(900), ..backlog(101) }, (Some(3_601), LimitedBy::Day)),
            ("the 400th to leave", Backlog { day: day(900), ..backlog(500) }, (Some(4_000), LimitedBy::Day)),
            (
                "held until the first leaves",
                Backlog {
                    held_until: Some(NOW + HOUR_US + SECOND_US),
                    day: Some(DayLimit { limit: 900, used: 900, ends: &ends }),
                    ..backlog(1)
                },
                (Some(3_601), LimitedBy::Day),
            ),
            ("the second day", Backlog { day: day(0), ..backlog(1_001) }, (Some(window), LimitedBy::Day)),
            ("the fourth day", Backlog { day: day(0), ..backlog(3_001) }, (Some(3 * window), LimitedBy::Day)),
            (
                "nobody says when they leave",
                Backlog { day: Some(DayLimit { limit: 10, used: 10, ends: &[] }), ..backlog(1) },
                (Some(window), LimitedBy::Day),
            ),
            (
                "more used than the limit is now",
                Backlog { day: Some(DayLimit { limit: 100, used: 900, ends: &ends }), ..backlog(1) },
                (Some(3_600 + 801), LimitedBy::Day),
            ),
        ];
        for (name, backlog, expected) in cases {
            assert_eq!(answer(backlog), expected, "{name}");
        }
    }

    #[test]
    fn a_limit_of_zero_and_a_hold_without_end_mean_never() {
        let never = |backlog: Backlog<'_>, limited_by| {
            assert_eq!(backlog.eta(), Eta { done_us: None, limited_by });
        };
        never(Backlog { held_until: Some(i64::MAX), ..backlog(1) }, LimitedBy::Hold);
        never(Backlog { pace: Pace { per_second: 0 }, ..backlog(1) }, LimitedBy::Pace);
        never(Backlog { per_minute: Some(0), ..backlog(1) }, LimitedBy::Minute);
        never(Backlog { day: Some(DayLimit { limit: 0, used: 0, ends: &[] }), ..backlog(1) }, LimitedBy::Day);
    }

    #[test]
    fn no_number_overflows() {
        let ends = [i64::MIN, i64::MAX];
        let day = Some(DayLimit { limit: 1, used: u32::MAX, ends: &ends });
        let all = Backlog { ahead: u64::MAX, n: u64::MAX, day, per_minute: Some(1), ..backlog(1) };
        for now_us in [i64::MIN, i64::MAX] {
            assert_eq!(Backlog { now_us, ..all }.eta().done_us, Some(i64::MAX));
        }
    }

    /// Sends one message after the other as soon as every limit lets it.
    fn simulated(backlog: Backlog<'_>) -> i64 {
        let start = backlog.held_until.unwrap_or(NOW).max(NOW);
        let mut sent: Vec<i64> = Vec::new();
        let mut leaves: Vec<i64> = backlog.day.map_or(Vec::new(), |day| {
            let missing = (day.used as usize).saturating_sub(day.ends.len());
            let unlisted = std::iter::repeat_n(NOW + WINDOW_US, missing);
            day.ends.iter().take(day.used as usize).copied().chain(unlisted).collect()
        });
        for k in 0..usize::try_from(backlog.ahead + backlog.n).unwrap() {
            let mut at = start;
            if let Some(last) = sent.last() {
                at = at.max(last + backlog.pace.interval_us());
            }
            if let Some(before) = backlog.per_minute.and_then(|limit| k.checked_sub(limit as usize)) {
                at = at.max(sent[before] + 60 * SECOND_US);
            }
            if let Some(day) = backlog.day {
                if let Some(leaver) = leaves.len().checked_sub(day.limit as usize) {
                    at = at.max(leaves[leaver]);
                }
                leaves.push(at + WINDOW_US);
            }
            sent.push(at);
        }
        sent.last().copied().unwrap_or(NOW)
    }

    #[derive(Debug, Clone)]
    struct Case {
        ahead: u64,
        n: u64,
        per_second: u32,
        per_minute: Option<u32>,
        day: Option<(u32, u32)>,
        ends: Vec<i64>,
        held_until: Option<i64>,
    }

    impl Case {
        fn backlog(&self) -> Backlog<'_> {
            Backlog {
                now_us: NOW,
                ahead: self.ahead,
                n: self.n,
                pace: Pace { per_second: self.per_second },
                per_minute: self.per_minute,
                day: self.day.map(|(limit, used)| DayLimit { limit, used, ends: &self.ends }),
                held_until: self.held_until,
            }
        }
    }

    fn case() -> impl Strategy<Value = Case> {
        let end = prop_oneof![NOW..NOW + WINDOW_US, NOW..NOW + 60 * SECOND_US];
        (
            0..300_u64,
            1..300_u64,
            prop_oneof![1..5_u32, 1..100_u32],
            prop::option::of(1..200_u32),
            prop::option::of((1..200_u32, 0..250_u32)),
            prop::collection::vec(end, 0..250),
            prop::option::of(NOW - HOUR_US..NOW + 40 * HOUR_US),
        )
            .prop_map(|(ahead, n, per_second, per_minute, day, mut ends, held_until)| {
                ends.sort_unstable();
                Case { ahead, n, per_second, per_minute, day, ends, held_until }
            })
    }

    proptest! {
        #[test]
        fn it_says_what_a_simulation_of_every_message_says(case in case()) {
            let backlog = case.backlog();
            prop_assert_eq!(backlog.eta().done_us, Some(simulated(backlog)));
        }

        #[test]
        fn a_simulation_agrees_where_a_day_and_the_other_limits_let_about_the_same_pass(
            n in 1..20_000_u64, per_minute in prop::option::of(1..4_u32), minutes in 1_430..1_450_u32, odd in 0..4_u32
        ) {
            let limit = per_minute.map_or(85_600, |per_minute| per_minute * minutes) + odd;
            let day = Some(DayLimit { limit, used: 0, ends: &[] });
            let backlog = Backlog { day, per_minute, pace: Pace { per_second: 1 }, ..backlog(n * 10) };
            prop_assert_eq!(backlog.eta().done_us, Some(simulated(backlog)));
        }

        #[test]
        fn more_messages_are_never_done_earlier_and_none_before_the_pace_lets_them(case in case(), more in 0..1_000_000_u64) {
            let one = case.backlog();
            let other = Backlog { n: one.n + more, ..one };
            prop_assert!(one.eta().done_us <= other.eta().done_us);
            let gaps = i64::try_from(other.ahead + other.n).unwrap() - 1;
            prop_assert!(other.eta().done_us.unwrap() >= NOW + gaps * other.pace.interval_us());
        }

        #[test]
        fn without_the_limit_that_decides_it_is_done_no_later(case in case()) {
            let backlog = case.backlog();
            let eta = backlog.eta();
            let without = match eta.limited_by {
                LimitedBy::Pace => Backlog { pace: Pace { per_second: u32::MAX }, ..backlog },
                LimitedBy::Minute => Backlog { per_minute: None, ..backlog },
                LimitedBy::Day => Backlog { day: None, ..backlog },
                LimitedBy::Hold => Backlog { held_until: None, ..backlog },
            };
            prop_assert!(without.eta().done_us <= eta.done_us);
        }
    }
}
