//! Troubles made and ended, and processes killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use graph_simulator::{Action, FaultRule, Match, StatusAnswer};
use harness::fixtures::{numbers, reminder_variables};
use uuid::Uuid;

use crate::book::{Call, Ending};
use crate::plan::{Scene, Trouble, Victim};
use crate::stage::{Role, Stage, TEMPLATE, THREADS};
use crate::traffic;

/// Plays one scene; answers who was killed in the end.
pub fn play(stage: &Stage<'_>, number: usize, scene: &Scene, rng: &mut Rng) -> Victim {
    if scene.trouble == Trouble::NoWorkerSlots {
        let is_over = AtomicBool::new(false);
        return thread::scope(|scope| {
            let _over = Over(&is_over);
            scope.spawn(|| traffic::occupy_slots(stage, &is_over));
            kill_within(stage, scene, rng)
        });
    }
    begin(stage, number, scene.trouble, rng);
    let killed = kill_within(stage, scene, rng);
    end(stage, number, scene.trouble);
    killed
}

/// Tells threads to end, also when this one panics.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn kill_within(stage: &Stage<'_>, scene: &Scene, rng: &mut Rng) -> Victim {
    thread::sleep(scene.before);
    let killed = kill(stage, scene.victim, rng);
    thread::sleep(scene.after);
    killed
}

/// A fault that strikes this share of the requests.
fn sometimes(share: f64, rng: &mut Rng, action: Action, accept: Option<bool>) -> FaultRule {
    let matching = Match { probability: Some(share), seed: rng.u64(..), ..Match::default() };
    FaultRule { matching, action, accept }
}

fn begin(stage: &Stage<'_>, number: usize, trouble: Trouble, rng: &mut Rng) {
    let error = |code| Action::Error { code, subcode: None, details: None };
    let status = |http, code| Action::Status(StatusAnswer { http, code, ..StatusAnswer::default() });
    let hang = Action::Hang { ms: 2_500 };
    match trouble {
        Trouble::None | Trouble::NoWorkerSlots => {}
        Trouble::ResetBeforeAccept => stage.set_faults(vec![sometimes(0.5, rng, Action::ResetBeforeAccept, None)]),
        Trouble::ResetAfterAccept => stage.set_faults(vec![sometimes(0.5, rng, Action::ResetAfterAccept, None)]),
        Trouble::Hang => stage
            .set_faults(vec![sometimes(0.2, rng, hang.clone(), Some(false)), sometimes(0.2, rng, hang, Some(true))]),
        Trouble::ServerErrors => stage.set_faults(vec![
            sometimes(0.5, rng, error(131_000), None),
            sometimes(0.5, rng, status(503, Some(131_016)), None),
        ]),
        Trouble::ProxyErrors => stage.set_faults(vec![
            sometimes(0.3, rng, Action::Html502, Some(false)),
            sometimes(0.3, rng, Action::Html502, Some(true)),
            sometimes(0.2, rng, status(504, None), Some(true)),
        ]),
        Trouble::TooFast => stage.set_faults(vec![sometimes(0.5, rng, error(130_429), None)]),
        Trouble::TokenExpired => stage.change_token(&token(number)),
        Trouble::Unreachable => stage.relay.cut(),
        Trouble::LogRefuses => stage
            .database
            .connect()
            .run("ALTER TABLE whatsapp_delivery_logs ADD CONSTRAINT disk_is_full CHECK (false) NOT VALID"),
        Trouble::ClockSet(seconds) => stage.cluster.set_clock(seconds),
        Trouble::Restart => stage.cluster.restart(),
        Trouble::SettingsChange => {
            stage.cluster.configure("whatsapp_pg.sender_threads", &rng.usize(4..=THREADS).to_string());
            stage.cluster.reload();
        }
    }
}

fn end(stage: &Stage<'_>, number: usize, trouble: Trouble) {
    stage.set_faults(Vec::new());
    match trouble {
        Trouble::TokenExpired => stage.configure(&mut stage.database.connect(), &token(number)),
        Trouble::Unreachable => stage.relay.mend(),
        Trouble::LogRefuses => {
            stage.database.connect().run("ALTER TABLE whatsapp_delivery_logs DROP CONSTRAINT disk_is_full");
        }
        Trouble::ClockSet(_) => stage.cluster.set_clock(0),
        _ => {}
    }
}

fn token(number: usize) -> String {
    format!("EAAGtokenOfScene{number:04}0123456789abcdef")
}

/// SIGKILL; answers who got it in the end.
fn kill(stage: &Stage<'_>, victim: Victim, rng: &mut Rng) -> Victim {
    let killed = match victim {
        Victim::Postmaster => {
            stage.cluster.kill9_postmaster();
            stage.cluster.start();
            true
        }
        Victim::Drainer => kill_drainer(stage),
        Victim::Enqueuer => kill_enqueuer(stage, rng),
        Victim::Batch => kill_batch(stage, rng),
    };
    if killed {
        return victim;
    }
    // It ended too soon, or no worker runs at this moment; then a backend at rest does as well.
    let mut resting = stage.database.connect();
    stage.cluster.kill9_backend(resting.backend_pid());
    Victim::Enqueuer
}

/// The worker of this type, once there is one; None when none comes in good time.
fn worker(stage: &Stage<'_>, backend_type: &str) -> Option<i32> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut session = stage.database.connect();
    let until = Instant::now() + PATIENCE;
    loop {
        let pids: Vec<i32> = session.values(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = $1 AND datname = current_database()",
            &[&backend_type],
        );
        if let Some(pid) = pids.first() {
            return Some(*pid);
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn kill_drainer(stage: &Stage<'_>) -> bool {
    worker(stage, "whatsapp_pg drainer").is_some_and(|pid| stage.cluster.kill9_backend_if_alive(pid))
}

/// A backend somewhere in a `wa_enqueue()` of many messages that commits by itself.
fn kill_enqueuer(stage: &Stage<'_>, rng: &mut Rng) -> bool {
    const MESSAGES: u32 = 300;
    let mut session = stage.database.connect();
    let pid = session.backend_pid();
    let organizer = stage.organizer(Role::Busy).expect("every round has a busy organizer").id;
    let wait = Duration::from_micros(rng.u64(500..25_000));
    thread::scope(|scope| {
        scope.spawn(move || {
            let recipients = numbers(MESSAGES);
            let mut call =
                Call { tag: Uuid::new_v4(), size: recipients.len(), ids: Vec::new(), ending: Ending::InDoubt };
            let args: harness::session::Params<'_> =
                &[&organizer, &recipients, &TEMPLATE, &reminder_variables(), &call.tag];
            if let Ok(rows) = session.query(traffic::ENQUEUE, args) {
                call.ids = rows.iter().map(|row| row.get(0)).collect();
                call.ending = Ending::Committed;
            }
            stage.book.write(call);
        });
        thread::sleep(wait);
        stage.cluster.kill9_backend_if_alive(pid)
    })
}

/// The worker of a `wa_process_batch()`, or the backend that waits for it.
fn kill_batch(stage: &Stage<'_>, rng: &mut Rng) -> bool {
    let mut session = stage.database.connect();
    let pid = session.backend_pid();
    let kills_caller = rng.bool();
    let wait = Duration::from_millis(rng.u64(1..300));
    thread::scope(|scope| {
        scope.spawn(move || session.execute("SELECT wa_process_batch(200)", &[]).is_ok());
        thread::sleep(wait);
        let pid = if kills_caller { Some(pid) } else { worker(stage, "whatsapp_pg batch") };
        pid.is_some_and(|pid| stage.cluster.kill9_backend_if_alive(pid))
    })
}
