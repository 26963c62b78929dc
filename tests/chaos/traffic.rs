//! The clients of a round: each organizer's application, a second drain loop, and the front end that takes webhooks. They
//! go on through every crash, as clients with a connection pool do, and write down what they were told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use harness::fixtures::{numbers, reminder_variables};
use postgres::Client;
use uuid::Uuid;

use crate::book::{Call, Ending};
use crate::plan::{Form, Plan};
use crate::stage::{BREATH, Role, Stage, TEMPLATE};

/// Messages per second that the busy organizer's application queues on the average.
const BUSY_PER_SECOND: f64 = 100.0;

/// What was taken from Meta is handed in for so long after everything else is over.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// What `wa_enqueue()` is called with.
pub const ENQUEUE: &str =
    "SELECT id FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4,
                                                     event_id => $5)";

/// Runs until `is_over`: an organizer's application.
pub fn application(stage: &Stage<'_>, place: usize, plan: &Plan, form: &Form, is_over: &AtomicBool) {
    let Some((role, organizer)) = stage.organizers.get(place) else { return };
    let mut rng = Rng::with_seed(plan.seed ^ (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut recipients = Recipients { role: *role, next: 0, left: form.to_one_recipient };
    let mut client = None;
    let began = Instant::now();
    let mut queued = 0_usize;
    while !is_over.load(Ordering::SeqCst) {
        let is_ahead = queued as f64 > began.elapsed().as_secs_f64() * BUSY_PER_SECOND;
        let wanted = if rng.u8(..) < 12 { 200 } else { rng.usize(1..20) };
        let to = if is_ahead && *role == Role::Busy { Vec::new() } else { recipients.take(wanted) };
        if to.is_empty() {
            thread::sleep(BREATH);
            continue;
        }
        let Some(connected) = client.get_or_insert_with(|| stage.try_connect()) else {
            client = None;
            thread::sleep(BREATH);
            recipients.give_back(to.len());
            continue;
        };
        queued += to.len();
        let commits = rng.u8(..) >= 50;
        if enqueue(stage, organizer.id, connected, &to, commits).is_none() {
            client = None;
        }
    }
}

/// Whom a role writes to.
struct Recipients {
    role: Role,
    next: u32,
    left: u32,
}

impl Recipients {
    fn take(&mut self, wanted: usize) -> Vec<String> {
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        match self.role {
            Role::Busy => {
                let first = self.next;
                self.next += wanted;
                (first..self.next).map(|n| format!("+57301{n:07}")).collect()
            }
            // One call collapses equal numbers, so one at a time.
            Role::Faithful => {
                let count = self.left.min(1);
                self.left -= count;
                numbers(count)
            }
            // A fifth of it is rolled back; what is left is still more than the tier admits.
            Role::Small => {
                let first = self.next;
                self.next = (first + wanted).min(400);
                (first..self.next).map(|n| format!("+57302{n:07}")).collect()
            }
        }
    }

    /// Nothing was tried.
    fn give_back(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match self.role {
            Role::Faithful => self.left += count,
            Role::Busy | Role::Small => self.next -= count,
        }
    }
}

/// Queues messages in a transaction, with others in a savepoint that is rolled back. None when the connection broke.
fn enqueue(stage: &Stage<'_>, organizer: Uuid, client: &mut Client, to: &[String], commits: bool) -> Option<()> {
    let mut call = Call { tag: Uuid::new_v4(), size: to.len(), ids: Vec::new(), ending: Ending::RolledBack };
    let mut given_up = Call { tag: Uuid::new_v4(), ..call.clone() };
    let done: Result<(), postgres::Error> = (|| {
        let mut transaction = client.transaction()?;
        let mut savepoint = transaction.savepoint("doubt")?;
        let ask = |tag: Uuid, client: &mut postgres::Transaction<'_>| -> Result<Vec<Uuid>, postgres::Error> {
            let rows = client.query(ENQUEUE, &[&organizer, &to, &TEMPLATE, &reminder_variables(), &tag])?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        };
        given_up.ids = ask(given_up.tag, &mut savepoint)?;
        savepoint.rollback()?;
        call.ids = ask(call.tag, &mut transaction)?;
        if commits {
            call.ending = Ending::InDoubt;
            transaction.commit()?;
            call.ending = Ending::Committed;
            Ok(())
        } else {
            transaction.rollback()
        }
    })();
    stage.book.write(given_up);
    stage.book.write(call);
    done.ok()
}

/// Runs until `is_over`: the second drain loop.
pub fn batches(stage: &Stage<'_>, seed: u64, is_over: &AtomicBool) {
    let mut rng = Rng::with_seed(!seed);
    let mut client = None;
    while !is_over.load(Ordering::SeqCst) {
        let size = rng.i32(1..60);
        let asked = client
            .get_or_insert_with(|| stage.try_connect())
            .as_mut()
            .map(|client| client.execute("SELECT wa_process_batch($1)", &[&size]));
        if !matches!(asked, Some(Ok(_))) {
            client = None;
            thread::sleep(BREATH);
        }
    }
}

/// Runs until `is_over`: hands Meta's statuses in, each until it was taken, like a front end that answers Meta with what
/// the database says.
pub fn front_end(stage: &Stage<'_>, delivered: &AtomicU64, is_over: &AtomicBool) {
    let mut client = None;
    let mut waiting = Vec::new();
    let mut over_since = None;
    // When all is over, what was taken is still handed in; a server that a failed round has left broken takes nothing.
    loop {
        if is_over.load(Ordering::SeqCst) {
            let since = *over_since.get_or_insert_with(Instant::now);
            if waiting.is_empty() || since.elapsed() > LAST_PATIENCE {
                return;
            }
        }
        if waiting.is_empty() {
            waiting = stage.simulator.take_webhooks(10);
        }
        let Some(webhook) = waiting.first() else {
            thread::sleep(BREATH);
            continue;
        };
        let taken = client.get_or_insert_with(|| stage.try_connect()).as_mut().map(|client| {
            client.query_one("SELECT wa_webhook_receive($1, $2)", &[&webhook.body.as_bytes(), &webhook.signature])
        });
        match taken {
            Some(Ok(row)) => {
                assert_eq!(row.get::<_, i32>(0), 200, "Meta's own signature was not believed");
                waiting.remove(0);
                delivered.fetch_add(1, Ordering::SeqCst);
            }
            Some(Err(error)) if error.as_db_error().is_some_and(|refusal| !is_passing(refusal)) => {
                panic!("a webhook was refused: {error:?}")
            }
            _ => {
                client = None;
                thread::sleep(BREATH);
            }
        }
    }
}

/// Whether an error comes from a server that is going down, up or under fire, and the next try may succeed.
pub fn is_passing(refusal: &postgres::error::DbError) -> bool {
    // Connection exceptions, operator intervention, transaction rollback, and the log that refuses lines.
    ["08", "57", "40", "23514"].iter().any(|class| refusal.code().code().starts_with(class))
}

/// Runs until `is_over`: more callers of `wa_process_batch()` than there are slots for background workers.
pub fn occupy_slots(stage: &Stage<'_>, is_over: &AtomicBool) {
    const CALLERS: usize = 6;
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    // Most are refused for want of a slot, some end with the server.
                    drop(stage.try_connect().map(|mut client| client.execute("SELECT wa_process_batch(20)", &[])));
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
}
