//! The people a business portfolio has written to in the last 24 hours.
//!
//! [`crate::tier`] says how many different ones there may be; this counts them, in memory, from the times at which messages
//! left. It is filled once from storage and then kept up by whoever sends. Times are microseconds since an epoch of the
//! caller's choice. Source: Meta, "Messaging limits".

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// 24 hours, in microseconds.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// Meta's day begins when the message reaches it, which may be later than its slot: by its way through the network, and by
/// the longest time that a request may take. So a recipient is counted a minute longer.
pub const SLACK_US: i64 = 60 * 1_000_000;

/// How long a recipient counts after the last message to it.
pub const WINDOW_US: i64 = DAY_US + SLACK_US;

/// A recipient: the digits of an E.164 number, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Recipient(u64);

impl Recipient {
    /// E.164 numbers have up to fifteen digits.
    const MOST_DIGITS: usize = 15;

    /// Reads `+5511987654321` or `5511987654321`. `None` unless it is one to fifteen digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let well_formed = (1..=Self::MOST_DIGITS).contains(&digits.len()) && digits.bytes().all(|d| d.is_ascii_digit());
        if well_formed { digits.parse().ok().map(Self) } else { None }
    }

    /// For a `bigint` column.
    #[must_use]
    pub fn to_i64(self) -> i64 {
        // Fifteen digits always fit.
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// What [`Recipient::to_i64`] gave. `None` for a negative number and for one of more than fifteen digits.
    #[must_use]
    pub fn from_i64(number: i64) -> Option<Self> {
        u64::try_from(number).ok().filter(|number| *number < 10_u64.pow(15)).map(Self)
    }
}

/// The unique recipients of a rolling day.
///
/// One entry each in a map (when it ends) and in a heap (by when to look at it). A recipient written to again only changes in
/// the map; the heap learns of it when the entry comes up.
#[derive(Debug, Clone)]
pub struct Recipients {
    ends: HashMap<Recipient, i64>,
    /// Never later than the map says, and exact for the first.
    order: BinaryHeap<Reverse<(i64, Recipient)>>,
    counted_at_us: i64,
}

impl Default for Recipients {
    fn default() -> Self {
        Self { ends: HashMap::new(), order: BinaryHeap::new(), counted_at_us: i64::MIN }
    }
}

impl Recipients {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nobody yet, with room for so many: 100,000 take 4 MB.
    #[must_use]
    pub fn with_capacity(recipients: usize) -> Self {
        Self {
            ends: HashMap::with_capacity(recipients),
            order: BinaryHeap::with_capacity(recipients),
            ..Self::default()
        }
    }

    /// How many count at `now_us`. Forgets those whose day is over; a clock set back does not bring them back.
    pub fn count(&mut self, now_us: i64) -> u32 {
        self.counted_at_us = now_us;
        while let Some(&Reverse((ends, recipient))) = self.order.peek() {
            if ends > now_us {
                break;
            }
            self.order.pop();
            self.ends.remove(&recipient);
            self.settle();
        }
        u32::try_from(self.ends.len()).unwrap_or(u32::MAX)
    }

    /// Whether this recipient is among those that the last [`Recipients::count`] counted or was added since: another message
    /// to it does not make them more.
    #[must_use]
    pub fn contains(&self, recipient: Recipient) -> bool {
        self.ends.contains_key(&recipient)
    }

    /// Notes a message with its slot, in any order of time. The latest one decides how long the recipient counts; a slot in
    /// the future counts at once. One whose day was over at the last count changes nothing.
    pub fn add(&mut self, recipient: Recipient, at_us: i64) {
        let ends = at_us.saturating_add(WINDOW_US);
        if ends <= self.counted_at_us {
            return;
        }
        match self.ends.entry(recipient) {
            Entry::Occupied(known) if *known.get() >= ends => {}
            Entry::Occupied(mut known) => {
                known.insert(ends);
                self.settle();
            }
            Entry::Vacant(new) => {
                new.insert(ends);
                self.order.push(Reverse((ends, recipient)));
            }
        }
    }

    /// When at least `n` of those who count will have left, if nobody is written to in between. `None` when there are fewer.
    /// An `n` of zero counts as one. Takes constant time for the first, and a look at each of them for others.
    #[must_use]
    pub fn frees_at(&self, n: u32) -> Option<i64> {
        let index = usize::try_from(n).ok()?.saturating_sub(1);
        if index == 0 {
            return self.order.peek().map(|Reverse((ends, _))| *ends);
        }
        let mut ends: Vec<i64> = self.ends.values().copied().collect();
        if index >= ends.len() {
            return None;
        }
        Some(*ends.select_nth_unstable(index).1)
    }

    /// When each of those who count will leave, earliest first. For [`crate::eta`].
    #[must_use]
    pub fn ends(&self) -> Vec<i64> {
        let mut ends: Vec<i64> = self.ends.values().copied().collect();
        ends.sort_unstable();
        ends
    }

    /// Makes the first of the heap exact: entries that were moved since go back to where they belong.
    fn settle(&mut self) {
        while let Some(mut first) = self.order.peek_mut() {
            let Reverse((ends, recipient)) = *first;
            match self.ends.get(&recipient) {
                Some(later) if *later > ends => *first = Reverse((*later, recipient)),
                _ => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const NOW: i64 = 1_800_000_000_000_000;

    fn recipient(number: i64) -> Recipient {
        Recipient::from_i64(number).unwrap()
    }

    #[test]
    fn a_number_is_the_same_recipient_with_and_without_a_plus() {
        assert_eq!(Recipient::parse("+5511987654321"), Recipient::parse("5511987654321"));
        assert_eq!(Recipient::parse("+5511987654321").unwrap().to_i64(), 5_511_987_654_321);
        assert_eq!(Recipient::parse("999999999999999").map(Recipient::to_i64), Some(999_999_999_999_999));
    }

    #[test]
    fn what_is_not_one_to_fifteen_digits_is_no_recipient() {
        for text in ["", "+", "++49", "1234567890123456", "12 34", "-12", "12a", "١٢٣", "US.13491208655302741918"] {
            assert_eq!(Recipient::parse(text), None, "{text}");
        }
        assert_eq!(Recipient::from_i64(-1), None);
        assert_eq!(Recipient::from_i64(1_000_000_000_000_000), None);
    }

    #[test]
    fn a_recipient_counts_for_a_day_and_a_minute_after_the_last_message() {
        let mut recipients = Recipients::new();
        recipients.add(recipient(1), NOW);
        recipients.add(recipient(2), NOW + 10);
        assert_eq!(recipients.frees_at(1), Some(NOW + WINDOW_US));
        assert_eq!(recipients.count(NOW + WINDOW_US - 1), 2);
        assert_eq!(recipients.count(NOW + WINDOW_US), 1);
        assert!(!recipients.contains(recipient(1)) && recipients.contains(recipient(2)));
    }

    #[test]
    fn a_second_message_moves_the_end_and_an_earlier_one_does_not() {
        let mut recipients = Recipients::new();
        recipients.add(recipient(1), NOW);
        recipients.add(recipient(2), NOW + 10);
        recipients.add(recipient(1), NOW + 20);
        recipients.add(recipient(1), NOW - 20);
        assert_eq!(recipients.count(NOW), 2);
        assert_eq!(recipients.ends(), [NOW + 10 + WINDOW_US, NOW + 20 + WINDOW_US]);
        assert_eq!(recipients.frees_at(1), Some(NOW + 10 + WINDOW_US));
        assert_eq!(recipients.frees_at(2), Some(NOW + 20 + WINDOW_US));
        assert_eq!(recipients.frees_at(3), None);
    }

    #[test]
    fn a_message_in_the_future_counts_at_once_and_until_its_own_end() {
        let mut recipients = Recipients::new();
        recipients.add(recipient(1), NOW + DAY_US);
        assert_eq!(recipients.count(NOW), 1);
        assert_eq!(recipients.count(NOW + WINDOW_US), 1);
        assert_eq!(recipients.count(NOW + DAY_US + WINDOW_US), 0);
    }

    /// The same in its plainest form.
    #[derive(Default)]
    struct Model {
        last: BTreeMap<Recipient, i64>,
        now: Option<i64>,
    }

    impl Model {
        fn forget(&mut self) {
            let now = self.now;
            self.last.retain(|_, at| now.is_none_or(|now| at.saturating_add(WINDOW_US) > now));
        }

        fn add(&mut self, recipient: Recipient, at: i64) {
            self.last.entry(recipient).and_modify(|last| *last = at.max(*last)).or_insert(at);
            self.forget();
        }

        fn ends(&self) -> Vec<i64> {
            let mut ends: Vec<i64> = self.last.values().map(|at| at.saturating_add(WINDOW_US)).collect();
            ends.sort_unstable();
            ends
        }
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![
            20 => (-30..30_i64).prop_map(|hour| NOW + hour * DAY_US / 24),
            5 => (-2 * DAY_US..2 * DAY_US).prop_map(|offset| NOW + offset),
            1 => any::<i64>(),
        ]
    }

    #[derive(Debug, Clone)]
    enum Event {
        Add(i64, i64),
        Count(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..12_i64, time()).prop_map(|(number, at)| Event::Add(number, at)),
            1 => time().prop_map(Event::Count),
        ]
    }

    proptest! {
        #[test]
        fn it_counts_like_the_plainest_model(events in prop::collection::vec(event(), 1..200), n in 0..15_u32) {
            let (mut recipients, mut model) = (Recipients::new(), Model::default());
            for event in events {
                match event {
                    Event::Add(number, at) => {
                        recipients.add(recipient(number), at);
                        model.add(recipient(number), at);
                    }
                    Event::Count(now) => {
                        model.now = Some(now);
                        model.forget();
                        prop_assert_eq!(recipients.count(now) as usize, model.last.len());
                    }
                }
                for number in 0..12 {
                    let recipient = recipient(number);
                    prop_assert_eq!(recipients.contains(recipient), model.last.contains_key(&recipient));
                }
                let ends = model.ends();
                prop_assert_eq!(recipients.frees_at(n), ends.get(n.max(1) as usize - 1).copied());
                prop_assert_eq!(recipients.frees_at(1), ends.first().copied());
                prop_assert_eq!(recipients.ends(), ends);
            }
        }

        #[test]
        fn at_the_promised_moment_so_many_have_left(times in prop::collection::vec(time(), 1..50), n in 1..50_u32) {
            let mut recipients = Recipients::new();
            for (number, at) in (0..).zip(&times) {
                recipients.add(recipient(number), *at);
            }
            let before = recipients.count(NOW);
            if let Some(moment) = recipients.frees_at(n) {
                prop_assert!(recipients.clone().count(moment) <= before - n);
                prop_assert!(recipients.count(moment - 1) > before - n);
            } else {
                prop_assert!(before < n);
            }
        }

        #[test]
        fn numbers_survive_the_way_through_a_column(number in 0..1_000_000_000_000_000_i64) {
            prop_assert_eq!(Recipient::from_i64(number).map(Recipient::to_i64), Some(number));
            prop_assert_eq!(Recipient::parse(&number.to_string()), Recipient::from_i64(number));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Recipient::parse(&text);
        }
    }
}
