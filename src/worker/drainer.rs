//! The process that serves one database, from the moment the launcher starts it until the database, the extension or
//! the server goes.

use std::time::{Duration, Instant};

use pgrx::{PgSqlErrorCode, ereport, pg_guard, pg_sys};

use crate::settings::Settings;
use crate::shared::{self, State};
use crate::store;
use crate::time::Timestamp;
use crate::worker::drain::Drain;
use crate::worker::{rescue, session, signals};
use crate::{tx, wake};

/// The database's lock and the shared entry are looked after this often.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Running calls get this long when the process must go: a fast shutdown is over within a second.
const GRACE: Duration = Duration::from_millis(500);
/// After this many failures in a row the process gives up; the launcher starts it afresh.
const FAILURES: u32 = 5;

/// Entry point of the background worker; the argument is the database's oid.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn whatsapp_pg_drainer_main(argument: pg_sys::Datum) {
    let database = pg_sys::Oid::from(u32::try_from(argument.value()).unwrap_or(0));
    signals::install();
    session::connect(database, concat!("whatsapp_pg ", env!("CARGO_PKG_VERSION")));
    // SAFETY: reads this process's id.
    let pid = unsafe { pg_sys::MyProcPid };
    shared::update(database.to_u32(), |entry| {
        entry.pid = pid;
        entry.started_at = Timestamp::now().0;
    });
    let state = serve();
    shared::update(database.to_u32(), |entry| {
        if entry.pid == pid {
            entry.pid = 0;
            entry.in_flight = 0;
        }
        entry.state = state;
    });
}

/// Works until there is a reason to go; answers what the launcher should know.
fn serve() -> State {
    match tx::transaction(store::find_installed) {
        Ok(Some(installed)) => tell_version(&installed.version),
        Ok(None) => return State::Absent,
        Err(error) => {
            warn("whatsapp_pg could not look for its extension", &error.one_line());
            return State::Down;
        }
    }
    shared::update(wake::own_database(), |entry| entry.state = State::Serving);
    let run = match rescue::begin_run() {
        Ok(run) => run,
        Err(error) => {
            warn("whatsapp_pg could not begin its work", &error.one_line());
            return State::Down;
        }
    };
    let mut loop_ = Loop::new(run);
    let state = loop_.run();
    session::report_activity(None);
    state
}

struct Loop {
    run: i32,
    drain: Option<Drain>,
    housekept: Option<Instant>,
    polled: Option<Instant>,
    failures: u32,
    told: Option<String>,
}

impl Loop {
    fn new(run: i32) -> Self {
        Self { run, drain: None, housekept: None, polled: None, failures: 0, told: None }
    }

    fn run(&mut self) -> State {
        loop {
            if signals::stop_requested() {
                self.stop();
                return State::Down;
            }
            if signals::reload_requested() {
                self.housekept = None;
            }
            if self.housekept.is_none_or(|at| at.elapsed() >= HOUSEKEEPING) {
                if let Some(state) = self.keep_house() {
                    self.stop();
                    return state;
                }
                self.housekept = Some(Instant::now());
            }
            let worked = self.work();
            if self.failures >= FAILURES {
                self.stop();
                return State::Down;
            }
            if !worked {
                self.rest();
            }
        }
    }

    /// Whether the process must go, and what else is due once in a while.
    fn keep_house(&mut self) -> Option<State> {
        if session::must_leave_database() {
            return Some(State::Down);
        }
        match tx::transaction(store::find_installed) {
            Ok(Some(_)) => {}
            Ok(None) => return Some(State::Absent),
            Err(error) => {
                self.fail("look for its extension", &error.one_line());
                return None;
            }
        }
        self.set_up();
        let poll_interval = Settings::current().poll_interval;
        if !session::is_read_only() && self.polled.is_none_or(|at| at.elapsed() >= poll_interval) {
            self.polled = Some(Instant::now());
            if let Some(drain) = &mut self.drain {
                drain.look_again();
            }
            if let Err(error) = rescue::rescue(self.run) {
                self.fail("clean up after dead workers", &error.one_line());
            }
        }
        self.publish();
        None
    }

    /// Takes new settings into use as soon as nothing is in flight under the old ones.
    fn set_up(&mut self) {
        let settings = Settings::current();
        match &self.drain {
            Some(drain) if *drain.settings() == settings || drain.leased() > 0 => return,
            _ => {}
        }
        match Drain::new(settings, self.run) {
            Ok(drain) => self.drain = Some(drain),
            Err(error) => {
                self.drain = None;
                self.tell(&error.one_line());
            }
        }
    }

    /// One turn; false when there was nothing to do.
    fn work(&mut self) -> bool {
        if session::is_read_only() {
            self.tell("the database is read-only: nothing is sent");
            return false;
        }
        let Some(drain) = &mut self.drain else { return false };
        session::report_activity(Some("draining whatsapp_queue"));
        let turned = drain.turn();
        session::report_activity(None);
        session::report_statistics();
        match turned {
            Ok(worked) => {
                self.failures = 0;
                if let Some(note) = self.drain.as_ref().and_then(|drain| drain.note().map(str::to_owned)) {
                    self.tell(&note);
                }
                worked
            }
            Err(error) => {
                self.fail("work on the queue", &error.one_line());
                false
            }
        }
    }

    fn rest(&mut self) {
        let now = Timestamp::now();
        let (wait, descriptor) = match &self.drain {
            Some(drain) => (drain.idle_for(now, HOUSEKEEPING), Some(drain.event_fd())),
            None => (HOUSEKEEPING, None),
        };
        let wait = if self.failures > 0 { wait.max(Duration::from_millis(100) * self.failures) } else { wait };
        if signals::wait(wait, descriptor)
            && let Some(drain) = &mut self.drain
        {
            drain.look_again();
        }
    }

    fn stop(&mut self) {
        if let Some(mut drain) = self.drain.take() {
            if let Err(error) = drain.stop(GRACE) {
                warn("whatsapp_pg could not record all outcomes before it stopped", &error.one_line());
            }
            self.drain = Some(drain);
            self.publish();
        }
    }

    fn publish(&self) {
        let tally = self.drain.as_ref().map(Drain::tally).unwrap_or_default();
        let in_flight = self.drain.as_ref().map_or(0, Drain::leased);
        let note = self.drain.as_ref().and_then(Drain::note).or(self.told.as_deref().filter(|_| self.drain.is_none()));
        let note = note.unwrap_or_default().to_owned();
        shared::update(wake::own_database(), |entry| {
            entry.last_pass_at = Timestamp::now().0;
            entry.claimed = tally.claimed;
            entry.sent = tally.sent;
            entry.failed = tally.failed;
            entry.rescheduled = tally.rescheduled;
            entry.unknown = tally.unknown;
            entry.in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
            entry.set_note(&note);
        });
    }

    /// Says a thing once in the server's log.
    fn tell(&mut self, note: &str) {
        if self.told.as_deref() != Some(note) {
            ereport!(LOG, PgSqlErrorCode::ERRCODE_WARNING, format!("whatsapp_pg: {note}"));
            self.told = Some(note.to_owned());
        }
    }

    fn fail(&mut self, what: &str, reason: &str) {
        self.failures += 1;
        warn(&format!("whatsapp_pg failed to {what}"), reason);
    }
}

fn tell_version(catalog: &str) {
    if catalog != env!("CARGO_PKG_VERSION") {
        ereport!(
            LOG,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!(
                "whatsapp_pg: the library is version {}, the catalog {catalog}: run ALTER EXTENSION whatsapp_pg UPDATE",
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}

fn warn(what: &str, reason: &str) {
    ereport!(WARNING, PgSqlErrorCode::ERRCODE_WARNING, what.to_owned(), reason.to_owned());
}

