//! One round: a server, its clients, the scenes of the plan, then peace and the proof.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use harness::{Relay, Session};
use uuid::Uuid;

use crate::deeds::{self, Over};
use crate::plan::{Form, Plan, Victim};
use crate::proof::{self, Findings, Problems};
use crate::stage::{self, Role, Stage};
use crate::traffic;

/// So many messages of unknown outcome are forced, of those that Meta took and of those that it did not.
const FORCED: usize = 3;

/// What a round came to.
#[derive(Debug)]
pub struct Report {
    /// What it was drawn from.
    pub seed: u64,
    /// Who was killed how often.
    pub kills: BTreeMap<Victim, usize>,
    /// When everything had come to rest, before late words of Meta's.
    pub at_rest: Findings,
    /// After them, and after a person had sent again what was still unknown.
    pub at_last: Findings,
    /// Messages that a person sent again.
    pub forced: usize,
    /// The most messages of the busy organizer in a second.
    pub worst_second: u64,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// All that is wrong.
    pub fn problems(&self) -> Problems {
        let at_rest = self.at_rest.problems.iter().map(|problem| format!("at rest: {problem}"));
        at_rest.chain(self.at_last.problems.iter().map(|problem| format!("at last: {problem}"))).collect()
    }
}

/// Plays a round; `tell` hears what is going on.
pub fn play(seed: u64, form: &Form, tell: &dyn Fn(&str)) -> Report {
    let began = Instant::now();
    let plan = Plan::draw(seed, form);
    let simulator = stage::simulator();
    let relay = Relay::to(simulator.address().expect("plain HTTP"));
    let cluster = stage::cluster(&relay);
    let database = cluster.database();
    let stage = Stage::set(&plan, &cluster, &database, &simulator, &relay);
    tell(&format!("seed {seed}: {} organizers, statuses {}", plan.organizers, when(&plan)));

    let kills = run(&stage, &plan, form, tell);
    tell("at rest");
    let mut session = database.connect();
    let mut forced = HashSet::new();
    let mut at_rest = proof::look(&stage, &mut session, &forced);
    let (taken, not_taken) = std::mem::take(&mut at_rest.unknown);
    force(&stage, &mut session, &taken[..taken.len().min(FORCED)], &mut forced);
    at_rest.problems.extend(hear(&stage, &mut session, &taken));
    force(&stage, &mut session, &not_taken[..not_taken.len().min(FORCED)], &mut forced);
    at_rest.unknown = (taken, not_taken);

    let at_last = proof::look(&stage, &mut session, &forced);
    let worst_second = proof::worst_second(&stage);
    for problem in at_rest.problems.iter().chain(&at_last.problems) {
        explain(&mut session, problem, tell);
    }
    Report { seed, kills, at_rest, at_last, forced: forced.len(), worst_second, took: began.elapsed() }
}

fn when(plan: &Plan) -> &'static str {
    if plan.reports_at_once { "at once" } else { "at the end" }
}

/// Clients and scenes, until everything has come to rest.
fn run(stage: &Stage<'_>, plan: &Plan, form: &Form, tell: &dyn Fn(&str)) -> BTreeMap<Victim, usize> {
    let [no_more_messages, at_rest] = [AtomicBool::new(false), AtomicBool::new(false)];
    let delivered = AtomicU64::new(0);
    thread::scope(|scope| {
        let (_rest, last_message) = (Over(&at_rest), Over(&no_more_messages));
        for place in 0..stage.organizers.len() {
            scope.spawn({
                let over = &no_more_messages;
                move || traffic::application(stage, place, plan, form, over)
            });
        }
        scope.spawn(|| traffic::batches(stage, plan.seed, &at_rest));
        if plan.reports_at_once {
            scope.spawn(|| traffic::front_end(stage, &delivered, &at_rest));
        }
        let mut kills = BTreeMap::new();
        let mut rng = Rng::with_seed(plan.seed.rotate_left(32));
        for (number, scene) in plan.scenes.iter().enumerate() {
            tell(&format!("{:>4}. {scene}", number + 1));
            *kills.entry(deeds::play(stage, number, scene, &mut rng)).or_default() += 1;
        }
        drop(last_message);
        calm_down(stage, form);
        kills
    })
}

/// Waits until nothing is left to do. The only thing taken away is what the smallest tier keeps for tomorrow.
fn calm_down(stage: &Stage<'_>, form: &Form) {
    let mut session = stage.database.connect();
    for (_, organizer) in &stage.organizers {
        session.execute_with("SELECT wa_resume(user_id => $1)", &[&organizer.id]);
    }
    let small = stage.organizer(Role::Small).map(|organizer| organizer.id);
    wait_for_rest(&mut session, "all but the smallest tier to be done", small, form.patience);
    if let Some(small) = small {
        session.execute_with("SELECT wa_cancel(user_id => $1)", &[&small]);
    }
    wait_for_rest(&mut session, "everything to be done", None, form.patience);
}

/// Waits until no message is queued or sending, but those of one organizer.
fn wait_for_rest(session: &mut Session, what: &str, but: Option<Uuid>, patience: Duration) {
    const OPEN: &str = "status IN ('queued', 'sending') AND user_id IS DISTINCT FROM $1";
    let until = Instant::now() + patience;
    while session.value(&format!("SELECT count(*) > 0 FROM whatsapp_queue WHERE {OPEN}"), &[&but]) {
        if Instant::now() >= until {
            let left: Vec<String> = session.values(
                &format!(
                    "SELECT format('%s %s rows of %s: %s, due %s to %s', count(*), status, user_id,
                                   coalesce(max(error_message), 'no error'), min(scheduled_for), max(scheduled_for))
                     FROM whatsapp_queue WHERE {OPEN} GROUP BY status, user_id
                     UNION ALL SELECT format('now %s; worker: %s', clock_timestamp(), w) FROM wa_worker_status AS w
                     UNION ALL SELECT format('hold: %s', h) FROM whatsapp_holds AS h
                     UNION ALL SELECT format('pacing: %s', p) FROM whatsapp_pacing AS p
                     UNION ALL SELECT format('clock: %s', c) FROM whatsapp_clock AS c"
                ),
                &[&but],
            );
            panic!("waited {patience:?} for {what}; left are:\n{}", left.join("\n"));
        }
        thread::sleep(stage::BREATH);
    }
}

/// A person sends messages of unknown outcome again.
fn force(stage: &Stage<'_>, session: &mut Session, ids: &[Uuid], forced: &mut HashSet<Uuid>) {
    for id in ids {
        session.execute_with("SELECT wa_retry($1, force => true)", &[id]);
        forced.insert(*id);
    }
    // What the smallest tier keeps for tomorrow waits: then it is given up.
    for id in ids {
        let status: String = session.value("SELECT wa_wait($1, '10 seconds')", &[id]);
        if status == "queued" {
            assert!(stage.organizer(Role::Small).is_some(), "{id} was sent again by hand and does not leave");
            session.execute_with("SELECT wa_cancel(id => $1)", &[id]);
        }
    }
}

/// Hands in every status of Meta's that has not been: whatever Meta took is sent then.
fn hear(stage: &Stage<'_>, session: &mut Session, taken: &[Uuid]) -> Problems {
    let no_more = AtomicBool::new(false);
    let delivered = AtomicU64::new(0);
    thread::scope(|scope| {
        let over = Over(&no_more);
        scope.spawn(|| traffic::front_end(stage, &delivered, &no_more));
        harness::wait_until("Meta's statuses to be handed in", Duration::from_secs(60), || {
            let waiting = stage.simulator.stats().webhooks.waiting;
            if waiting == 0 { Ok(()) } else { Err(waiting) }
        });
        drop(over);
    });
    let left: Vec<Uuid> =
        session.values("SELECT id FROM whatsapp_queue WHERE status = 'unknown' AND id = ANY ($1)", &[&taken]);
    match left.first() {
        None => Vec::new(),
        Some(id) => vec![format!(
            "{} messages are still unknown though Meta's statuses say that it took them, such as {id}",
            left.len()
        )],
    }
}

/// What the extension itself says about the messages a problem names.
fn explain(session: &mut Session, problem: &str, tell: &dyn Fn(&str)) {
    tell(&format!("problem: {problem}"));
    let ids = problem
        .split(|char: char| !char.is_ascii_hexdigit() && char != '-')
        .filter_map(|word| Uuid::parse_str(word).ok());
    for id in ids {
        for line in session.values::<String>(
            "SELECT concat_ws(' ', l.\"timestamp\", l.source, l.status, l.attempt, l.error_code, l.meta_message_id)
             FROM whatsapp_delivery_logs AS l WHERE l.queue_id = $1 ORDER BY 1",
            &[&id],
        ) {
            tell(&format!("    {id}: {line}"));
        }
    }
}
