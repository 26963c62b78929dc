//! Smooth pacing of one phone number: which instants its next messages may leave at.
//!
//! The generic cell rate algorithm without burst: slots lie so far apart that no second of any alignment ever holds more
//! than the rate, also when arrivals jitter by [`JITTER_US`]. State is one number, the first free slot, kept wherever the reservers of a
//! phone number can all see it. Times are microseconds since an epoch of the caller's choice.
//! Source of the limits: Meta, "Throughput".

use std::time::Duration;

/// One second, in microseconds.
const SECOND_US: i64 = 1_000_000;

/// The receiver counts arrivals, and two messages that left a second apart may arrive a little closer. So a second's
/// slots are spread over this much more than a second: 80/s leave as 79.6/s, 1,000/s as 995/s.
pub const JITTER_US: i64 = 5_000;

/// For slow numbers, where a fifth of the distance between two slots is more than that, up to twice as much: it costs a
/// hundredth of the rate at the most.
const SLOW_JITTER_US: i64 = 2 * JITTER_US;

/// No reservation reaches further ahead than this, whatever horizon is asked for: one minute.
///
/// So a first free slot further ahead than this was not written by this clock: the clock was set back since. Then
/// pacing starts again one minute ahead, after everything reserved before, instead of sleeping until the old time
/// comes round. For the same reason a longer hold on a number must not be written as its first free slot.
pub const FARTHEST_US: i64 = 60 * SECOND_US;

/// The rate of one phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Messages per second. Zero lets nothing pass.
    pub per_second: u32,
}

/// A run of slots that belong to whoever stores `next_free_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The first slot. When `count` is zero: the earliest slot somebody could have.
    pub first_us: i64,
    /// How many slots there are; slot k lies at `first_us + k * interval_us`.
    pub count: u32,
    /// Distance between two slots.
    pub interval_us: i64,
    /// What to store: the first slot that is still free.
    pub next_free_us: i64,
}

impl Slice {
    /// The slots, earliest first.
    pub fn slots(self) -> impl Iterator<Item = i64> {
        (0..i64::from(self.count)).map(move |k| self.first_us.saturating_add(k.saturating_mul(self.interval_us)))
    }
}

fn jitter_us(rate: i64) -> i64 {
    (SECOND_US / rate / 5).clamp(JITTER_US, SLOW_JITTER_US)
}

impl Pace {
    /// Distance between two slots: one second and the jitter allowed for, divided by the rate, rounded up. The whole of
    /// time when the rate is zero.
    #[must_use]
    pub fn interval_us(self) -> i64 {
        match i64::from(self.per_second) {
            0 => i64::MAX,
            rate => (SECOND_US + jitter_us(rate) + rate - 1) / rate,
        }
    }

    /// How long any `per_second` + 1 requests take at least on their way out: a second and most of the jitter allowed for. A
    /// tenth of it is given up, so that who is late need not stay late.
    #[must_use]
    pub fn window(self) -> Duration {
        let jitter = jitter_us(i64::from(self.per_second).max(1)) / 10 * 9;
        Duration::from_micros((SECOND_US + jitter).unsigned_abs())
    }

    /// How close two messages may leave when earlier ones were late: delays are made good a quarter faster than the rate,
    /// never in a bunch.
    #[must_use]
    pub fn hurried_gap(self) -> Duration {
        Duration::from_micros((SECOND_US / i64::from(self.per_second).max(1) / 5 * 4).unsigned_abs())
    }

    /// Takes up to `wanted` slots, none before `now_us` and none after `now_us + horizon_us`.
    ///
    /// `next_free_us` is what the last reservation said (0 or the past for a fresh number). A horizon beyond
    /// [`FARTHEST_US`] is cut, a negative one counts as zero.
    #[must_use]
    pub fn reserve(self, next_free_us: i64, now_us: i64, horizon_us: i64, wanted: u32) -> Slice {
        let interval_us = self.interval_us();
        if self.per_second == 0 {
            return Slice { first_us: i64::MAX, count: 0, interval_us, next_free_us };
        }
        let farthest = now_us.saturating_add(FARTHEST_US).saturating_add(interval_us);
        let first_us = next_free_us.clamp(now_us, farthest);
        let last = now_us.saturating_add(horizon_us.clamp(0, FARTHEST_US));
        let room = match last.checked_sub(first_us) {
            Some(span) if span >= 0 => span / interval_us + 1,
            _ => 0,
        };
        let count = u32::try_from(room).unwrap_or(u32::MAX).min(wanted);
        let taken = i64::from(count).saturating_mul(interval_us);
        Slice {
            first_us,
            count,
            interval_us,
            // Nothing taken: a stored slot in the past may stay, one from a clock that was set back may not.
            next_free_us: if count == 0 { next_free_us.min(farthest) } else { first_us.saturating_add(taken) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000 * SECOND_US;

    fn pace(per_second: u32) -> Pace {
        Pace { per_second }
    }

    #[test]
    fn a_fresh_number_gets_evenly_spaced_slots_from_now_on() {
        let slice = pace(80).reserve(0, NOW, SECOND_US, 3);
        assert_eq!(slice.slots().collect::<Vec<_>>(), [NOW, NOW + 12_563, NOW + 25_126]);
        assert_eq!(slice.next_free_us, NOW + 37_689);
    }

    #[test]
    fn the_horizon_bounds_how_many_are_taken() {
        // 12,563 µs apart: 0, 12,563, …, 992,477; the next would be at 1,005,040.
        let slice = pace(80).reserve(0, NOW, SECOND_US, 1000);
        assert_eq!(slice.count, 80);
        assert_eq!(slice.slots().last(), Some(NOW + 992_477));
        let next = pace(80).reserve(slice.next_free_us, NOW, SECOND_US, 1000);
        assert_eq!((next.count, next.first_us, next.next_free_us), (0, slice.next_free_us, slice.next_free_us));
    }

    #[test]
    fn time_that_passed_unused_is_not_saved_up() {
        let slice = pace(80).reserve(NOW - 3600 * SECOND_US, NOW, 0, 1000);
        assert_eq!((slice.first_us, slice.count), (NOW, 1));
    }

    #[test]
    fn a_rate_that_does_not_divide_the_second_is_rounded_to_the_safe_side() {
        assert_eq!(pace(3).interval_us(), 336_667);
        assert_eq!(pace(1).interval_us(), SECOND_US + SLOW_JITTER_US);
        assert_eq!(pace(5_000_000).interval_us(), 1);
    }

    #[test]
    fn messages_that_make_up_for_a_delay_hurry_a_little_and_the_second_keeps_its_jitter() {
        assert_eq!(pace(80).hurried_gap(), Duration::from_millis(10));
        assert_eq!(pace(80).window(), Duration::from_micros(1_004_500));
        assert!(pace(80).window() < Duration::from_micros(80 * pace(80).interval_us().unsigned_abs()));
    }

    #[test]
    fn a_rate_of_zero_gives_nothing_and_changes_nothing() {
        let slice = pace(0).reserve(7, NOW, SECOND_US, 10);
        assert_eq!((slice.count, slice.next_free_us), (0, 7));
    }

    #[test]
    fn wanting_nothing_takes_nothing() {
        let slice = pace(80).reserve(5, NOW, SECOND_US, 0);
        assert_eq!((slice.count, slice.next_free_us), (0, 5));
    }

    #[test]
    fn a_clock_set_back_by_a_day_pauses_for_a_minute_and_not_for_a_day() {
        let stored = NOW + 86_400 * SECOND_US;
        let slice = pace(80).reserve(stored, NOW, SECOND_US, 10);
        assert_eq!(slice.count, 0);
        assert_eq!(slice.next_free_us, NOW + FARTHEST_US + 12_563);
        let later = pace(80).reserve(slice.next_free_us, NOW + FARTHEST_US, SECOND_US, 10);
        assert_eq!(later.count, 10);
    }

    /// What happens next in a simulated life of one number.
    #[derive(Debug, Clone)]
    enum Event {
        /// So many microseconds pass.
        Pass(i64),
        /// A reserver takes slots.
        Reserve { horizon_us: i64, wanted: u32 },
        /// All reservers restart: slots they have not used yet are lost, the stored state is not.
        Restart,
        /// The clock is set back.
        SetBack(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let second = SECOND_US;
        prop_oneof![
            4 => (0..3 * second).prop_map(Event::Pass),
            8 => (0..5 * second, 0..400_u32).prop_map(|(horizon_us, wanted)| Event::Reserve { horizon_us, wanted }),
            1 => (0..200 * second, 0..400_u32).prop_map(|(horizon_us, wanted)| Event::Reserve { horizon_us, wanted }),
            1 => Just(Event::Restart),
            1 => prop_oneof![0..2 * second, 0..86_400 * second].prop_map(Event::SetBack),
        ]
    }

    /// The instants, in real time, at which messages leave.
    fn departures(pace: Pace, events: Vec<Event>) -> Vec<i64> {
        let (mut real, mut clock, mut next_free) = (0, NOW, 0);
        let mut departures: Vec<i64> = Vec::new();
        for event in events {
            match event {
                Event::Pass(time) => {
                    real += time;
                    clock += time;
                }
                Event::SetBack(time) => clock -= time,
                Event::Restart => departures.retain(|at| *at < real),
                Event::Reserve { horizon_us, wanted } => {
                    let slice = pace.reserve(next_free, clock, horizon_us, wanted);
                    next_free = slice.next_free_us;
                    departures.extend(slice.slots().map(|slot| real + slot - clock));
                }
            }
        }
        departures.sort_unstable();
        departures
    }

    proptest! {
        #[test]
        fn no_second_of_any_alignment_holds_more_than_the_rate(
            per_second in prop_oneof![1..200_u32, Just(80), Just(1000)],
            events in prop::collection::vec(event(), 1..120)
        ) {
            let departures = departures(pace(per_second), events);
            let rate = usize::try_from(per_second).unwrap_or(usize::MAX);
            for (one, later) in departures.iter().zip(departures.iter().skip(rate)) {
                prop_assert!(later - one >= SECOND_US + JITTER_US, "{per_second} + 1 messages in {} µs", later - one);
            }
        }

        #[test]
        fn slots_in_time_never_wait_for_the_window(per_second in 1..=1000_u32) {
            let pace = pace(per_second);
            let rate = i64::from(per_second);
            prop_assert!(i128::from(pace.interval_us() * rate) >= i128::try_from(pace.window().as_micros()).unwrap_or(0));
            prop_assert!(pace.window() >= Duration::from_micros(1_000_000 + 4_500));
        }

        #[test]
        fn slots_lie_within_now_and_the_horizon(
            next_free in any::<i64>(), now in any::<i64>(), horizon in any::<i64>(), wanted in 0..500_u32, per_second in any::<u32>()
        ) {
            let slice = pace(per_second).reserve(next_free, now, horizon, wanted);
            prop_assert!(slice.count <= wanted);
            for slot in slice.slots() {
                prop_assert!(slot >= now && slot <= now.saturating_add(horizon.clamp(0, FARTHEST_US)));
            }
        }

        #[test]
        fn under_saturation_at_least_99_percent_of_the_rate_is_used(
            per_second in 1..=1000_u32, steps in prop::collection::vec(1_000..900_000_i64, 50..200)
        ) {
            let (mut now, mut next_free, mut taken) = (NOW, 0, 0_i64);
            for step in steps {
                let slice = pace(per_second).reserve(next_free, now, SECOND_US, u32::MAX);
                next_free = slice.next_free_us;
                taken += i64::from(slice.count);
                now += step;
            }
            // Everything before the last free slot was handed out.
            let possible = (next_free - NOW) * i64::from(per_second) / SECOND_US;
            prop_assert!(taken * 100 >= possible * 99, "{taken} of {possible}");
            prop_assert!(next_free >= now, "a slot in the past was left unused");
        }
    }
}
