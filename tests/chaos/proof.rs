//! What must hold when everything has come to rest: every message is accounted for, in the database, at the simulator and
//! in the clients' book, and the three agree.

use std::collections::{BTreeMap, HashMap, HashSet};

use harness::Session;
use uuid::Uuid;

use crate::book::{Call, Ending};
use crate::stage::{Role, Stage};

/// What was found wrong, in words.
pub type Problems = Vec<String>;

/// No more examples than this of one kind.
const EXAMPLES: usize = 3;

/// What a look at everything found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Rows by status.
    pub states: BTreeMap<String, usize>,
    /// Rows of unknown outcome that Meta took, and those that it did not.
    pub unknown: (Vec<Uuid>, Vec<Uuid>),
    /// Messages that Meta took.
    pub accepted: usize,
    /// Committed messages that are gone, or that are sent without having been taken.
    pub lost: usize,
    /// Messages taken more often than they should.
    pub twice: usize,
    /// Messages that were never committed, and the calls whose end only the database knows.
    pub rolled_back: usize,
    /// What is wrong.
    pub problems: Problems,
}

impl Findings {
    fn complain(&mut self, what: &str, whom: &[Uuid]) {
        if !whom.is_empty() {
            let examples: Vec<_> = whom.iter().take(EXAMPLES).map(Uuid::to_string).collect();
            self.problems.push(format!("{} messages {what}, such as {}", whom.len(), examples.join(", ")));
        }
    }
}

/// Compares rows, acceptances and the clients' book. `forced`: rows that a person sent again though they may have been
/// taken before.
pub fn look(stage: &Stage<'_>, session: &mut Session, forced: &HashSet<Uuid>) -> Findings {
    let mut findings = Findings::default();
    let accepted: HashMap<Uuid, u32> = stage
        .simulator
        .accepted_ids()
        .into_iter()
        .filter_map(|(id, count)| Some((Uuid::parse_str(&id).ok()?, count)))
        .collect();
    findings.accepted = accepted.len();
    let rows: HashMap<Uuid, (String, Option<Uuid>)> = session
        .rows("SELECT id, status, event_id FROM whatsapp_queue", &[])
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();

    let [mut not_taken, mut taken, mut at_work] = [Vec::new(), Vec::new(), Vec::new()];
    for (id, (status, _)) in &rows {
        *findings.states.entry(status.clone()).or_default() += 1;
        let count = accepted.get(id).copied().unwrap_or(0);
        match status.as_str() {
            "sent" if count == 0 => not_taken.push(*id),
            "sent" => {}
            "unknown" if count == 0 => findings.unknown.1.push(*id),
            "unknown" => findings.unknown.0.push(*id),
            "failed" | "cancelled" if count == 0 || forced.contains(id) => {}
            "failed" | "cancelled" => taken.push(*id),
            _ => at_work.push(*id),
        }
    }
    findings.lost = not_taken.len();
    findings.complain("are sent though Meta never took them", &not_taken);
    findings.complain("failed or were cancelled though Meta took them", &taken);
    findings.complain("are neither done nor unknown", &at_work);

    let allowed = |id: &Uuid| if forced.contains(id) { 2 } else { 1 };
    let twice: Vec<Uuid> = accepted.iter().filter(|(id, count)| **count > allowed(id)).map(|(id, _)| *id).collect();
    findings.twice = twice.len();
    findings.complain("were taken by Meta twice", &twice);
    let strangers: Vec<Uuid> = accepted.keys().filter(|id| !rows.contains_key(id)).copied().collect();
    findings.complain("were taken by Meta though nobody queued them", &strangers);

    compare_with_book(&stage.book.calls(), &rows, &accepted, &mut findings);
    findings.problems.extend(audit(session));
    findings.problems.extend(limits(stage));
    findings
}

/// Committed calls are there in full, those rolled back left nothing, and those in doubt are all there or not at all.
fn compare_with_book(
    calls: &[Call],
    rows: &HashMap<Uuid, (String, Option<Uuid>)>,
    accepted: &HashMap<Uuid, u32>,
    findings: &mut Findings,
) {
    let mut by_tag: HashMap<Uuid, usize> = HashMap::new();
    rows.values().filter_map(|(_, tag)| *tag).for_each(|tag| *by_tag.entry(tag).or_default() += 1);
    let [mut gone, mut ghosts, mut halves] = [Vec::new(), Vec::new(), Vec::new()];
    for call in calls {
        let there = by_tag.remove(&call.tag).unwrap_or(0);
        match call.ending {
            Ending::Committed => gone.extend(call.ids.iter().filter(|id| !rows.contains_key(id))),
            Ending::RolledBack => {
                findings.rolled_back += call.ids.len();
                ghosts.extend(call.ids.iter().filter(|id| rows.contains_key(id) || accepted.contains_key(id)));
                if there > 0 {
                    halves.push(call.tag);
                }
            }
            Ending::InDoubt if there == 0 => {
                findings.rolled_back += call.size;
                ghosts.extend(call.ids.iter().filter(|id| accepted.contains_key(id)));
            }
            Ending::InDoubt if there != call.size => halves.push(call.tag),
            Ending::InDoubt => {}
        }
    }
    findings.lost += gone.len();
    findings.complain("were committed and are gone", &gone);
    findings.complain("were rolled back and are there, or at Meta", &ghosts);
    findings.complain("(calls, by event_id) are there in part, or were rolled back and are there", &halves);
    let unasked: Vec<Uuid> = by_tag.into_keys().collect();
    findings.complain("(calls, by event_id) are there though no client made them", &unasked);
}

/// The database's own proof.
fn audit(session: &mut Session) -> Problems {
    let checks: i64 = session.value("SELECT count(*) FROM wa_audit(true)", &[]);
    let mut problems: Problems = session
        .rows("SELECT check_name, expected, found, meaning FROM wa_audit(true) WHERE NOT ok", &[])
        .iter()
        .map(|row| {
            let (check, meaning): (&str, &str) = (row.get(0), row.get(3));
            let (expected, found): (i64, i64) = (row.get(1), row.get(2));
            format!("wa_audit(true), {check}: {expected} expected, {found} found. {meaning}")
        })
        .collect();
    if checks == 0 {
        problems.push("wa_audit(true) checked nothing".to_owned());
    }
    problems
}

/// The simulator counted every limit.
fn limits(stage: &Stage<'_>) -> Problems {
    let violations = stage.simulator.violations();
    stage
        .organizers
        .iter()
        .filter_map(|(role, organizer)| {
            let number = violations.numbers.get(&organizer.phone_number_id)?;
            (number.total() > 0).then(|| format!("limits of the {role:?} organizer were exceeded: {number:?}"))
        })
        .collect()
}

/// How far the messages per second of the busy organizer went.
pub fn worst_second(stage: &Stage<'_>) -> u64 {
    let violations = stage.simulator.violations();
    let number = stage.organizer(Role::Busy).and_then(|busy| violations.numbers.get(&busy.phone_number_id));
    number.map_or(0, |number| number.worst_second)
}
