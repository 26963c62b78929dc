//! What becomes of one accepted message, and when: the plan's chances thrown.

use super::plan::{StatusKind, WebhookPlan};
use crate::clock::{Micros, micros};
use crate::faults::chance;
use crate::graph::number::Recipient;

/// Meta's code for a free-form message outside the recipient's service window.
pub(crate) const NO_OPEN_WINDOW: i64 = 131_047;

/// A status that a message reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Status(StatusKind),
    Failed(i64),
}

/// One status of a message's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) reached: Reached,
    /// When it happened: its timestamp.
    pub(crate) at: Micros,
    /// When its webhook is due.
    pub(crate) due: Micros,
    /// Order among webhooks due at the same time; equal ones keep theirs.
    pub(crate) tie: u64,
    /// Whether it tells the price: `sent` does, and the first of `delivered` and `read`.
    pub(crate) priced: bool,
}

/// Chances of one message: they depend on the seed and its turn alone.
#[derive(Debug)]
pub(crate) struct Draws {
    seed: u64,
    turn: u64,
}

impl Draws {
    pub(crate) fn new(seed: u64, turn: u64) -> Self {
        Self { seed, turn }
    }

    /// The next number in `0..1`.
    pub(crate) fn draw(&mut self) -> f64 {
        // An odd factor gives each draw of a turn a stream of its own.
        self.seed = self.seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x2545_f491_4f6c_dd1d);
        chance(self.seed, self.turn)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((self.draw() * bound as f64) as usize).min(bound.saturating_sub(1))
    }
}

/// The statuses of a message whose first one counts its delay from `base`. `undeliverable` is the code of a message
/// that cannot arrive whatever the plan says.
pub(crate) fn fate(
    plan: &WebhookPlan,
    to: &Recipient,
    undeliverable: Option<i64>,
    base: Micros,
    draws: &mut Draws,
) -> Vec<Happening> {
    let failure = plan.failures.iter().find(|failure| {
        let strikes = draws.draw() < failure.share;
        strikes && failure.to.as_ref().is_none_or(|exact| *exact == to.input)
    });
    let (failed, after_sent) = match (undeliverable, failure) {
        (Some(code), _) => (Some((code, 0)), false),
        (None, Some(failure)) => (Some((failure.code, failure.delay_ms)), failure.after_sent),
        (None, None) => (None, true),
    };
    let mut happenings = Vec::with_capacity(plan.statuses.len() + 1);
    let mut at = base;
    let mut delivered = false;
    for step in &plan.statuses {
        if failed.is_some() && !(after_sent && step.status == StatusKind::Sent) {
            continue;
        }
        at =
            at.saturating_add(millis(step.delay_ms.into()) + millis((f64::from(step.jitter_ms) * draws.draw()) as u64));
        if draws.draw() >= step.share {
            continue;
        }
        let priced = step.status == StatusKind::Sent || !delivered;
        delivered |= step.status != StatusKind::Sent;
        happenings.push(Happening { reached: Reached::Status(step.status), at, due: at, tie: 0, priced });
    }
    if let Some((code, delay_ms)) = failed {
        let at = at.saturating_add(millis(delay_ms.into()));
        happenings.push(Happening { reached: Reached::Failed(code), at, due: at, tie: 0, priced: false });
    }
    if plan.shuffle {
        shuffle(&mut happenings, draws);
    }
    double(plan, &mut happenings, draws);
    happenings
}

/// Deals the due times out again, and ties at random.
fn shuffle(happenings: &mut [Happening], draws: &mut Draws) {
    let mut dues: Vec<_> = happenings.iter().map(|happening| happening.due).collect();
    for happening in happenings {
        happening.due = dues.swap_remove(draws.below(dues.len()));
        happening.tie = (draws.draw() * u64::MAX as f64) as u64;
    }
}

fn double(plan: &WebhookPlan, happenings: &mut Vec<Happening>, draws: &mut Draws) {
    if plan.duplicates <= 0.0 {
        return;
    }
    for index in 0..happenings.len() {
        if draws.draw() < plan.duplicates
            && let Some(&first) = happenings.get(index)
        {
            let due = first.due.saturating_add(millis(plan.duplicate_after_ms.into()));
            happenings.push(Happening { due, ..first });
        }
    }
}

pub(crate) fn millis(ms: u64) -> Micros {
    micros(std::time::Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use serde_json::{Value, json};

    fn plan(mut members: Value) -> WebhookPlan {
        members["app_secret"] = json!("s");
        serde_json::from_value(members).unwrap()
    }

    fn fates(plan: &WebhookPlan, count: u64) -> Vec<Vec<Happening>> {
        let to = Recipient::phone("+5511900000000").unwrap();
        (0..count).map(|turn| fate(plan, &to, None, 0, &mut Draws::new(plan.seed, turn))).collect()
    }

    fn reached(happenings: &[Happening]) -> Vec<Reached> {
        happenings.iter().map(|happening| happening.reached).collect()
    }

    const SENT: Reached = Reached::Status(StatusKind::Sent);
    const DELIVERED: Reached = Reached::Status(StatusKind::Delivered);
    const READ: Reached = Reached::Status(StatusKind::Read);

    #[test]
    fn statuses_come_after_one_another_by_their_delays() {
        let plan = plan(json!({"statuses": [
            {"status": "sent", "delay_ms": 10}, {"status": "delivered", "delay_ms": 20, "jitter_ms": 5},
            {"status": "read", "delay_ms": 30}]}));
        for life in fates(&plan, 100) {
            assert_eq!(reached(&life), [SENT, DELIVERED, READ]);
            assert_eq!(life[0].at, 10_000);
            assert!((30_000..=35_000).contains(&life[1].at), "{life:?}");
            assert_eq!(life[2].at, life[1].at + 30_000);
            assert!(life.iter().all(|happening| happening.at == happening.due));
        }
    }

    #[test]
    fn the_price_is_told_on_sent_and_on_the_first_of_delivered_and_read() {
        let priced = |members: Value| -> Vec<_> {
            let life = fates(&plan(members), 1).remove(0);
            life.iter().filter(|happening| happening.priced).map(|happening| happening.reached).collect()
        };
        assert_eq!(priced(json!({})), [SENT, DELIVERED]);
        assert_eq!(priced(json!({"statuses": [{"status": "read"}]})), [READ]);
        assert_eq!(priced(json!({"failures": [{"code": 131026, "after_sent": true}]})), [SENT]);
    }

    #[test]
    fn shares_are_kept_and_repeat_with_the_seed() {
        let plan = plan(json!({"seed": 3, "statuses": [{"status": "sent"}, {"status": "read", "share": 0.6}],
            "failures": [{"code": 131049, "share": 0.1}, {"code": 131026, "share": 0.5}]}));
        let lives = fates(&plan, 10_000);
        let count = |wanted: Reached| lives.iter().filter(|life| reached(life).contains(&wanted)).count();
        assert!((850..1_150).contains(&count(Reached::Failed(131049))), "{}", count(Reached::Failed(131049)));
        // Half of the nine tenths that the first failure left.
        assert!((4_300..4_700).contains(&count(Reached::Failed(131026))), "{}", count(Reached::Failed(131026)));
        assert!((2_500..2_900).contains(&count(READ)), "{}", count(READ));
        assert_eq!(lives, fates(&plan, 10_000));
    }

    #[test]
    fn a_failed_message_is_nothing_else_unless_it_was_sent_before() {
        let failed = |members: Value| reached(&fates(&plan(members), 1)[0]);
        assert_eq!(failed(json!({"failures": [{"code": 131026}]})), [Reached::Failed(131026)]);
        let after_sent = json!({"failures": [{"code": 131053, "after_sent": true}]});
        assert_eq!(failed(after_sent), [SENT, Reached::Failed(131053)]);
        let other = json!({"failures": [{"code": 131026, "to": "+5511900000001"}]});
        assert_eq!(failed(other), [SENT, DELIVERED, READ]);
    }

    #[test]
    fn what_cannot_arrive_fails_whatever_the_plan_says() {
        let to = Recipient::phone("+5511900000000").unwrap();
        let life = fate(&plan(json!({})), &to, Some(NO_OPEN_WINDOW), 7, &mut Draws::new(0, 0));
        assert_eq!((reached(&life), life[0].at), (vec![Reached::Failed(NO_OPEN_WINDOW)], 7));
    }

    #[test]
    fn shuffled_statuses_come_in_every_order_with_true_timestamps() {
        let plan = plan(json!({"shuffle": true, "statuses": [
            {"status": "sent"}, {"status": "delivered", "delay_ms": 1}, {"status": "read", "delay_ms": 1}]}));
        let mut orders = std::collections::HashSet::new();
        for mut life in fates(&plan, 200) {
            assert_eq!(life.iter().map(|happening| happening.at).collect::<Vec<_>>(), [0, 1_000, 2_000]);
            life.sort_by_key(|happening| happening.due);
            assert_eq!(life.iter().map(|happening| happening.due).collect::<Vec<_>>(), [0, 1_000, 2_000]);
            orders.insert(format!("{:?}", reached(&life)));
        }
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn duplicates_are_equal_but_for_their_time() {
        let plan = plan(json!({"duplicates": 1.0, "duplicate_after_ms": 5, "statuses": [{"status": "sent"}]}));
        let life = fates(&plan, 1).remove(0);
        assert_eq!((life[1].reached, life[1].at, life[1].due), (SENT, 0, 5_000));
    }
}
