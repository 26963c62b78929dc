//! The decision attacked: random arrivals, restarts, reservers taking turns.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::pacing::Pace;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

const NOW: i64 = 1_800_000_000_000_000;
const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;
const HORIZON_US: i64 = 200_000;
const NUMBER: &str = "1060";
const NOBODY: Contact = Contact {
    window_until_us: None,
    held_until_us: None,
    marketing_held_until_us: None,
    marketing_code: None,
    suppressed_code: None,
};

fn phone(n: u32) -> String {
    format!("+57300{n:07}")
}

fn candidate<'a>(recipient: &'a str, contact: &'a Contact) -> Candidate<'a> {
    Candidate {
        id: "m1",
        recipient,
        template: "reminder",
        language: Some("en"),
        category: Some("UTILITY"),
        event: Some("e1"),
        task: Some("t1"),
        campaign: Some("c1"),
        expires_us: None,
        contact,
    }
}

fn hold(scope: Scope, subject: &str, until_us: i64, is_metas: bool) -> Hold {
    Hold { scope, subject: subject.into(), code: Some("7".into()), reason: "held".into(), until_us, is_metas }
}

/// Decides about these candidates at one desk with plenty of slots and no other limit than these.
fn at_desk(limits: Limits, candidates: &[Candidate]) -> Vec<Decision> {
    let mut usage = Usage::known_since(NOW - DAY_US);
    let slice = Pace { per_second: 1_000 }.reserve(0, NOW, 10 * SECOND_US, 1_000);
    let mut desk = Desk::open(&mut usage, NUMBER, limits, slice, NOW);
    candidates.iter().map(|candidate| desk.decide(candidate)).collect()
}

fn decide(holds: &[Hold], candidate: &Candidate) -> Decision {
    at_desk(Limits { holds, ..Limits::default() }, &[*candidate]).remove(0)
}

fn sends(decision: &Decision) -> bool {
    matches!(decision, Decision::Send { .. })
}

/// What the tables keep: slices in the order in which they were given away, and each number's first free moment.
#[derive(Default)]
struct Tables {
    slices: Vec<(String, i64, i64, u32, Vec<i64>)>,
    next_free: BTreeMap<String, i64>,
}

/// A worker: what it remembers of the tables.
#[derive(Default)]
struct Worker {
    usage: Option<Usage>,
    known: usize,
}

/// A message in the queue.
#[derive(Clone)]
struct Queued {
    number: String,
    recipient: u32,
    window_until_us: Option<i64>,
}

/// A message that was given a slot.
#[derive(Clone, Copy, Debug)]
struct Left {
    at_us: i64,
    recipient: u32,
    in_window: bool,
}

struct World {
    daily: Option<u32>,
    per_second: u32,
    tables: Tables,
    queue: Vec<Queued>,
    left: BTreeMap<String, Vec<Left>>,
}

impl World {
    fn new(daily: Option<u32>, per_second: u32) -> Self {
        Self { daily, per_second, tables: Tables::default(), queue: Vec::new(), left: BTreeMap::new() }
    }

    /// One claim, as a worker that holds the locks makes it; answers when it is worth coming back.
    fn claim(&mut self, worker: &mut Worker, number: &str, now_us: i64, wanted: u32) -> i64 {
        let since = now_us - 25 * HOUR_US;
        let usage = worker.usage.get_or_insert_with(|| Usage::known_since(since));
        for (phone_number_id, starts_us, ends_us, messages, recipients) in &self.tables.slices[worker.known..] {
            if *ends_us > since {
                usage.replay(Given {
                    phone_number_id,
                    starts_us: *starts_us,
                    ends_us: *ends_us,
                    messages: *messages,
                    recipients,
                });
            }
        }
        worker.known = self.tables.slices.len();
        usage.forget(now_us);
        let mut wanted = wanted;
        if let Some(limit) = self.daily {
            let (used, frees_at) = usage.minute(now_us);
            let left = u32::try_from(u64::from(limit).saturating_sub(used)).unwrap();
            if left == 0 {
                return frees_at.unwrap();
            }
            wanted = wanted.min(left);
        }
        let next_free = self.tables.next_free.get(number).copied().unwrap_or(0);
        let slice = Pace { per_second: self.per_second }.reserve(next_free, now_us, HORIZON_US, wanted);
        if slice.count == 0 {
            return slice.first_us - HORIZON_US / 2;
        }
        let limits = Limits { daily_recipients: self.daily, ..Limits::default() };
        let mut desk = Desk::open(usage, number, limits, slice, now_us);
        let mut again = i64::MAX;
        let mut kept = Vec::new();
        for message in std::mem::take(&mut self.queue) {
            if message.number != number || !desk.has_room() {
                kept.push(message);
                continue;
            }
            let contact = Contact { window_until_us: message.window_until_us, ..NOBODY };
            match desk.decide(&candidate(&phone(message.recipient), &contact)) {
                Decision::Send { at_us, .. } => {
                    let in_window = message.window_until_us.is_some_and(|until| until > at_us);
                    let left = Left { at_us, recipient: message.recipient, in_window };
                    self.left.entry(number.to_owned()).or_default().push(left);
                }
                Decision::Wait { until_us } => {
                    again = again.min(until_us.unwrap());
                    kept.push(message);
                }
                Decision::Fail { code, .. } => panic!("{code}"),
            }
        }
        self.queue = kept;
        let (taken, recipients) = (desk.taken(), desk.given().to_vec());
        drop(desk);
        if taken == 0 {
            return again;
        }
        let next_free = slice.first_us + slice.interval_us * i64::from(taken);
        self.tables.next_free.insert(number.to_owned(), next_free);
        let ends = next_free - slice.interval_us;
        self.tables.slices.push((number.to_owned(), slice.first_us, ends, taken, recipients));
        // It is in this worker's usage already.
        worker.known = self.tables.slices.len();
        if taken < slice.count { again } else { next_free - HORIZON_US / 2 }
    }

    fn assert_nothing_exceeded(&self) {
        for left in self.left.values() {
            assert_rate(left, self.per_second);
            assert_pairs(left);
        }
        if let Some(limit) = self.daily {
            let mut all: Vec<Left> = self.left.values().flatten().copied().collect();
            all.sort_unstable_by_key(|left| left.at_us);
            assert_day(&all, limit as usize);
            assert_minute(&all, limit as usize);
        }
    }
}

fn assert_rate(left: &[Left], per_second: u32) {
    let mut times: Vec<i64> = left.iter().map(|left| left.at_us).collect();
    times.sort_unstable();
    let full = per_second as usize;
    for window in times.windows(full + 1) {
        assert!(window[full] - window[0] > SECOND_US, "{} messages in {} µs", full + 1, window[full] - window[0]);
    }
}

/// Meta's own bucket: 45, one more each six seconds.
fn assert_pairs(left: &[Left]) {
    let mut by_recipient: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for left in left {
        by_recipient.entry(left.recipient).or_default().push(left.at_us);
    }
    for (recipient, mut times) in by_recipient {
        times.sort_unstable();
        let mut full_at = i64::MIN;
        for at in times {
            full_at = full_at.max(at) + 6 * SECOND_US;
            assert!(full_at - at <= 45 * 6 * SECOND_US, "recipient {recipient} at {at}");
        }
    }
}

fn assert_day(all: &[Left], limit: usize) {
    let mut last: BTreeMap<u32, i64> = BTreeMap::new();
    for left in all.iter().filter(|left| !left.in_window) {
        last.retain(|_, at| left.at_us - *at < DAY_US);
        last.insert(left.recipient, left.at_us);
        assert!(last.len() <= limit, "{} recipients in the day before {}", last.len(), left.at_us);
    }
}

fn assert_minute(all: &[Left], limit: usize) {
    for window in all.windows(limit + 1) {
        let span = window[limit].at_us - window[0].at_us;
        assert!(span >= MINUTE_US, "{} messages in {span} µs", limit + 1);
    }
}

/// What may happen to a world.
#[derive(Clone, Debug)]
enum Step {
    Arrive { number: usize, recipients: Vec<u32>, window_s: Option<i64> },
    Claim { worker: usize, number: usize, wanted: u32 },
    Restart { worker: usize },
    Pass { us: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let span = prop_oneof![
        4 => 0..SECOND_US,
        3 => SECOND_US..90 * SECOND_US,
        2 => 60 * SECOND_US..2 * HOUR_US,
        1 => HOUR_US..26 * HOUR_US,
    ];
    prop_oneof![
        3 => (0..2_usize, prop::collection::vec(0..40_u32, 1..60), prop::option::weighted(0.2, 1..90_000_i64))
            .prop_map(|(number, recipients, window_s)| Step::Arrive { number, recipients, window_s }),
        6 => (0..2_usize, 0..2_usize, 1..80_u32)
            .prop_map(|(worker, number, wanted)| Step::Claim { worker, number, wanted }),
        1 => (0..2_usize).prop_map(|worker| Step::Restart { worker }),
        4 => span.prop_map(|us| Step::Pass { us }),
    ]
}

proptest! {
    #[test]
    fn no_limit_is_exceeded_at_any_instant_whoever_claims_and_restarts(
        daily in prop::option::weighted(0.8, 3..30_u32),
        per_second in prop_oneof![Just(1_u32), Just(20), Just(80), Just(1_000)],
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let numbers = ["1060", "1061"];
        let mut world = World::new(daily, per_second);
        let mut workers = [Worker::default(), Worker::default()];
        let mut now_us = NOW;
        for step in steps {
            match step {
                Step::Arrive { number, recipients, window_s } => {
                    let window_until_us = window_s.map(|seconds| now_us + seconds * SECOND_US);
                    world.queue.extend(recipients.into_iter().map(|recipient| Queued {
                        number: numbers[number].to_owned(),
                        recipient,
                        window_until_us,
                    }));
                }
                Step::Claim { worker, number, wanted } => {
                    world.claim(&mut workers[worker], numbers[number], now_us, wanted);
                }
                Step::Restart { worker } => workers[worker] = Worker::default(),
                Step::Pass { us } => now_us += us,
            }
        }
        world.assert_nothing_exceeded();
    }

    #[test]
    fn one_recipient_written_to_without_pause_never_overdraws_metas_bucket(
        gaps in prop::collection::vec((0..8 * SECOND_US, any::<bool>(), 0..2_usize), 1..200),
    ) {
        let mut world = World::new(None, 80);
        let mut workers = [Worker::default(), Worker::default()];
        let mut now_us = NOW;
        for (gap_us, restarts, worker) in gaps {
            now_us += gap_us;
            if restarts {
                workers[worker] = Worker::default();
            }
            world.queue.resize(20, Queued { number: NUMBER.to_owned(), recipient: 1, window_until_us: None });
            world.claim(&mut workers[worker], NUMBER, now_us, 20);
        }
        world.assert_nothing_exceeded();
    }

    #[test]
    fn a_slot_is_never_given_to_a_message_that_would_be_late_for_it(expires_in in -SECOND_US..SECOND_US, n in 1..50_usize) {
        let expiring = Candidate { expires_us: Some(NOW + expires_in), ..candidate("+573001000000", &NOBODY) };
        for decision in at_desk(Limits::default(), &vec![expiring; n]) {
            match decision {
                Decision::Send { at_us, .. } => prop_assert!(at_us < NOW + expires_in),
                Decision::Fail { code, .. } => prop_assert_eq!(code, "expired"),
                Decision::Wait { until_us } => prop_assert!(n > 44 && until_us.is_some()),
            }
        }
    }

    #[test]
    fn of_holds_that_are_probed_each_lets_exactly_one_through(
        templates in prop::collection::vec(0..4_usize, 2..40),
        held in prop::collection::vec(any::<bool>(), 4),
        account in any::<bool>(),
        category in any::<bool>(),
        widest_first in any::<bool>(),
    ) {
        let names = ["a", "b", "c", "d"];
        let mut holds: Vec<Hold> = (0..4).filter(|n| held[*n]).map(|n| hold(Scope::Template, names[n], NOW, true)).collect();
        if account { holds.push(hold(Scope::Account, "", NOW, true)) }
        if category { holds.push(hold(Scope::Category, "UTILITY", NOW, true)) }
        if widest_first { holds.reverse() }
        let phones: Vec<String> = (0..40).map(phone).collect();
        let messages: Vec<Candidate> = templates.iter().zip(&phones)
            .map(|(n, phone)| Candidate { template: names[*n], ..candidate(phone, &NOBODY) }).collect();
        let limits = Limits { holds: &holds, ..Limits::default() };
        let decisions = at_desk(limits, &messages);
        for hold in &holds {
            let passed = messages.iter().zip(&decisions).filter(|(m, d)| concerns(hold, m) && sends(d)).count();
            let concerned = messages.iter().any(|message| concerns(hold, message));
            prop_assert!(passed <= 1, "{} {} let {} through", hold.scope, hold.subject, passed);
            prop_assert!(passed == 1 || !concerned || holds.len() > 1, "{} is never tried", hold.scope);
        }
        for (message, decision) in messages.iter().zip(&decisions) {
            let is_held = holds.iter().any(|hold| concerns(hold, message));
            prop_assert_eq!(matches!(decision, Decision::Send { is_probe: true, .. }), is_held && sends(decision));
            prop_assert!(is_held || sends(decision));
        }
    }
}

/// Claims again and again until this moment, with work always at hand, by two workers in turn of which one restarts now
/// and then; answers how many messages left.
fn saturate(world: &mut World, until_us: i64, refill: &mut dyn FnMut(&mut Vec<Queued>)) -> usize {
    let mut workers = [Worker::default(), Worker::default()];
    let (mut now_us, mut turn) = (NOW, 0_usize);
    while now_us < until_us {
        refill(&mut world.queue);
        let again = world.claim(&mut workers[turn % 2], NUMBER, now_us, 100);
        now_us = again.max(now_us + 1_000);
        turn += 1;
        if turn % 97 == 0 {
            workers[turn % 2] = Worker::default();
        }
    }
    world.left.values().map(|left| left.iter().filter(|left| left.at_us < until_us).count()).sum()
}

fn queued(recipient: u32) -> Queued {
    Queued { number: NUMBER.to_owned(), recipient, window_until_us: None }
}

#[test]
fn of_the_rate_at_least_99_percent_are_used() {
    for per_second in [20, 80, 1_000] {
        let mut world = World::new(None, per_second);
        let mut next = 0;
        let left = saturate(&mut world, NOW + 30 * SECOND_US, &mut |queue| {
            while queue.len() < 300 {
                next = (next + 1) % 9_000;
                queue.push(queued(next));
            }
        });
        world.assert_nothing_exceeded();
        assert!(left * 100 >= per_second as usize * 30 * 99, "{left} messages at {per_second}/s in 30 s");
    }
}

#[test]
fn of_the_days_recipients_at_least_99_percent_are_used() {
    let (mut world, mut next) = (World::new(Some(250), 80), 0);
    let days = 10;
    let left = saturate(&mut world, NOW + days * DAY_US, &mut |queue| {
        while queue.len() < 300 {
            next += 1;
            queue.push(queued(next));
        }
    });
    world.assert_nothing_exceeded();
    assert!(left as i64 * 100 >= 250 * days * 99, "{left} recipients in {days} days");
}

#[test]
fn of_the_figure_per_minute_at_least_99_percent_are_used() {
    // The same people again and again: the day is no limit for them.
    let (mut world, mut next) = (World::new(Some(100), 80), 0);
    let minutes = 200;
    let left = saturate(&mut world, NOW + minutes * MINUTE_US, &mut |queue| {
        while queue.len() < 200 {
            next = (next + 1) % 100;
            queue.push(queued(next));
        }
    });
    world.assert_nothing_exceeded();
    assert!(left as i64 * 100 >= 100 * minutes * 99, "{left} messages in {minutes} minutes");
}

#[test]
fn of_one_recipients_rate_at_least_99_percent_are_used() {
    let mut world = World::new(None, 80);
    let left = saturate(&mut world, NOW + HOUR_US, &mut |queue| queue.resize(50, queued(1)));
    world.assert_nothing_exceeded();
    assert!(left * 100 >= (45 + 600) * 99, "{left} messages in an hour");
}

#[test]
fn a_recipient_that_counts_already_is_written_to_when_the_day_is_used_up() {
    let mut usage = Usage::known_since(NOW - DAY_US);
    for n in 0..3 {
        usage.replay_recipient(Recipient::parse(&phone(n)).unwrap(), NOW - HOUR_US);
    }
    let limits = Limits { daily_recipients: Some(3), ..Limits::default() };
    let slice = Pace { per_second: 80 }.reserve(0, NOW, SECOND_US, 10);
    let mut desk = Desk::open(&mut usage, NUMBER, limits, slice, NOW);
    let frees_at = NOW + 23 * HOUR_US + crate::recipients::SLACK_US;
    assert_eq!(desk.decide(&candidate(&phone(7), &NOBODY)), Decision::Wait { until_us: Some(frees_at) });
    assert!(sends(&desk.decide(&candidate(&phone(1), &NOBODY))));
    let open = Contact { window_until_us: Some(NOW + HOUR_US), ..NOBODY };
    assert!(sends(&desk.decide(&candidate(&phone(8), &open))), "inside the service window");
    let over = Contact { window_until_us: Some(NOW), ..NOBODY };
    assert!(!sends(&desk.decide(&candidate(&phone(9), &over))), "the window is over");
    assert!(desk.given()[1] < 0 && desk.given()[0] > 0);
    drop(desk);
    assert_eq!(usage.recipients(NOW), 3);
}

#[test]
fn each_scope_holds_exactly_what_it_names() {
    let message = candidate("+573001000000", &NOBODY);
    let held = [
        (Scope::Account, "whoever", true),
        (Scope::Number, "whatever", true),
        (Scope::Template, "reminder", true),
        (Scope::Template, "reminder/en", true),
        (Scope::Template, "reminder/en_US", false),
        (Scope::Template, "remind", false),
        (Scope::Template, "reminder2/en", false),
        (Scope::Category, "UTILITY", true),
        (Scope::Category, "MARKETING", false),
        (Scope::Country, "+57", true),
        (Scope::Country, "+55", false),
        (Scope::Event, "e1", true),
        (Scope::Event, "e2", false),
        (Scope::Task, "t1", true),
        (Scope::Task, "e1", false),
        (Scope::Campaign, "c1", true),
        (Scope::Campaign, "c2", false),
        (Scope::Message, "m1", true),
        (Scope::Message, "m2", false),
    ];
    for (scope, subject, is_held) in held {
        for (until, is_metas) in [(NOW + 1, true), (NOW + 1, false), (i64::MAX, false)] {
            let decision = decide(&[hold(scope, subject, until, is_metas)], &message);
            assert_eq!(!sends(&decision), is_held, "{scope} {subject}: {decision:?}");
        }
        assert!(sends(&decide(&[hold(scope, subject, NOW, false)], &message)), "{scope}: over");
    }
    // Without a language in the row any language may be chosen; what belongs to nothing is held by nothing.
    let free = Candidate { language: None, category: None, event: None, task: None, campaign: None, ..message };
    assert!(!sends(&decide(&[hold(Scope::Template, "reminder/fr", NOW + 1, true)], &free)));
    for scope in [Scope::Category, Scope::Event, Scope::Task, Scope::Campaign] {
        assert!(sends(&decide(&[hold(scope, "", NOW + 1, true)], &free)), "{scope}");
    }
}

#[test]
fn what_is_held_waits_until_its_hold_ends_and_a_country_fails_at_once() {
    let message = candidate("+573001000000", &NOBODY);
    let until = |until_us, is_metas| decide(&[hold(Scope::Account, "", until_us, is_metas)], &message);
    assert_eq!(until(NOW + 5, true), Decision::Wait { until_us: Some(NOW + 5) });
    assert_eq!(until(i64::MAX, false), Decision::Wait { until_us: None });
    let Decision::Fail { code, reason } = decide(&[hold(Scope::Country, "+57", i64::MAX, true)], &message) else {
        panic!("it does not fail")
    };
    assert_eq!((code.as_str(), reason.as_str()), ("7", "held"));
}

#[test]
fn a_probe_lets_exactly_one_message_through_and_says_that_it_is_one() {
    let holds = [hold(Scope::Template, "reminder", NOW, true)];
    let other = Candidate { template: "other", ..candidate("+573001000001", &NOBODY) };
    let held = candidate("+573001000000", &NOBODY);
    let decisions = at_desk(Limits { holds: &holds, ..Limits::default() }, &[held, held, other, held]);
    let probes: Vec<Option<bool>> = decisions
        .iter()
        .map(|decision| match decision {
            Decision::Send { is_probe, .. } => Some(*is_probe),
            _ => None,
        })
        .collect();
    assert_eq!(probes, [Some(true), None, Some(false), None]);
}

#[test]
fn what_is_known_of_a_person_decides() {
    let with = |contact: &Contact, category| {
        decide(&[], &Candidate { category: Some(category), ..candidate("+573001000000", contact) })
    };
    let code = |decision| match decision {
        Decision::Fail { code, .. } => code,
        other => panic!("{other:?}"),
    };
    let suppressed = Contact { suppressed_code: Some("131026".into()), ..NOBODY };
    assert_eq!(code(with(&suppressed, "UTILITY")), "131026");
    let held = Contact { held_until_us: Some(NOW + 4), ..NOBODY };
    assert_eq!(with(&held, "UTILITY"), Decision::Wait { until_us: Some(NOW + 4) });
    assert!(sends(&with(&Contact { held_until_us: Some(NOW), ..NOBODY }, "UTILITY")));
    assert_eq!(
        with(&Contact { held_until_us: Some(i64::MAX), ..NOBODY }, "UTILITY"),
        Decision::Wait { until_us: None }
    );
    let stopped =
        |until_us| Contact { marketing_held_until_us: Some(until_us), marketing_code: Some("131050".into()), ..NOBODY };
    assert_eq!(code(with(&stopped(i64::MAX), "MARKETING")), "131050");
    assert_eq!(with(&stopped(NOW + 9), "MARKETING"), Decision::Wait { until_us: Some(NOW + 9) });
    assert!(sends(&with(&stopped(NOW), "MARKETING")));
    for category in ["UTILITY", "AUTHENTICATION"] {
        assert!(sends(&with(&stopped(i64::MAX), category)), "{category}");
    }
}

#[test]
fn an_expired_message_fails_even_where_it_is_held_and_nobody_else_is_written_to_in_rehearsals() {
    let expired = Candidate { expires_us: Some(NOW), ..candidate("+573001000000", &NOBODY) };
    let holds = [hold(Scope::Account, "", i64::MAX, false)];
    assert!(matches!(decide(&holds, &expired), Decision::Fail { code, .. } if code == "expired"));
    let only_to = ["+573001000001".to_owned()];
    let limits = Limits { only_to: &only_to, ..Limits::default() };
    let there = [candidate("+573001000000", &NOBODY), candidate("+573001000001", &NOBODY)];
    let passed: HashSet<bool> = at_desk(limits, &there[..1]).iter().map(sends).collect();
    assert_eq!(passed, HashSet::from([false]));
    assert!(at_desk(limits, &there[1..]).iter().all(sends));
}

#[test]
fn what_is_no_number_takes_a_slot_and_no_recipient() {
    let limits = Limits { daily_recipients: Some(1), ..Limits::default() };
    let decisions = at_desk(limits, &[candidate("no number", &NOBODY), candidate("+573001000000", &NOBODY)]);
    assert!(decisions.iter().all(sends));
}
