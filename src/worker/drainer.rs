//! The process that serves one database, from the moment the launcher starts it until the database, the extension or
//! the server goes.

use std::time::{Duration, Instant};

use pgrx::{PgSqlErrorCode, ereport, pg_guard, pg_sys};

use crate::error::Result;
use crate::settings::Settings;
use crate::shared::{self, State};
use crate::store::{self, Installed, database};
use crate::time::Timestamp;
use crate::worker::clock::Clock;
use crate::worker::drain::{Drain, Tally};
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
    let settings = match look() {
        Ok(Some((_, settings))) => settings,
        Ok(None) => return State::Absent,
        Err(error) => {
            warn("whatsapp_pg could not look for its extension", &error.one_line());
            return State::Down;
        }
    };
    shared::update(wake::own_database(), |entry| entry.state = State::Serving);
    let state = Loop::new(settings).run();
    session::report_activity(None);
    state
}

/// The extension, if it is there, and the database's own settings.
fn look() -> Result<Option<(Installed, Vec<String>)>> {
    tx::transaction(|| match store::find_installed()? {
        Some(installed) => Ok(Some((installed, database::settings()?))),
        None => Ok(None),
    })
}

struct Loop {
    /// What the database's own settings were when we connected.
    database_settings: Vec<String>,
    run: Option<i32>,
    clock: Clock,
    drain: Option<Drain>,
    housekept: Option<Instant>,
    polled: Option<Instant>,
    published: Tally,
    failures: u32,
    told: Option<String>,
    note: Option<String>,
}

impl Loop {
    fn new(database_settings: Vec<String>) -> Self {
        Self {
            database_settings,
            run: None,
            clock: Clock::default(),
            drain: None,
            housekept: None,
            polled: None,
            published: Tally::default(),
            failures: 0,
            told: None,
            note: None,
        }
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
                self.housekept = Some(Instant::now());
                if let Some(state) = self.keep_house() {
                    self.stop();
                    return state;
                }
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

    /// What is due once in a while; Some when the process must go.
    fn keep_house(&mut self) -> Option<State> {
        if session::must_leave_database() {
            return Some(State::Down);
        }
        if !session::is_database_served() {
            self.tell("this database is not in whatsapp_pg.databases: nothing is sent from it");
            return Some(State::Down);
        }
        match look() {
            Ok(None) => return Some(State::Absent),
            // The launcher starts a fresh process at once, which connects with the settings that hold now.
            Ok(Some((_, settings))) if settings != self.database_settings => return Some(State::Unknown),
            Ok(Some((installed, _))) if !installed.is_current() => {
                self.drain.take_if(|drain| drain.leased() == 0);
                self.hold(&outdated(&installed.version));
                self.publish();
                return None;
            }
            Ok(Some(_)) => {}
            Err(error) => {
                self.fail("look for its extension", &error.one_line());
                return None;
            }
        }
        if session::is_read_only() {
            self.drain.take_if(|drain| drain.leased() == 0);
            self.hold("the database is read-only: nothing is sent");
        } else if let Err(error) = self.prepare() {
            self.fail("get ready to work", &error.one_line());
        }
        self.publish();
        None
    }

    /// Everything that must be there before the queue can be worked on, and what is repeated at every poll.
    fn prepare(&mut self) -> Result<()> {
        self.clock.look()?;
        let run = match self.run {
            Some(run) => run,
            None => *self.run.insert(rescue::begin_run()?),
        };
        self.set_up(run);
        if self.polled.is_none_or(|at| at.elapsed() >= Settings::current().poll_interval) {
            self.polled = Some(Instant::now());
            if let Some(drain) = &mut self.drain {
                drain.ask_again();
            }
            rescue::rescue(run)?;
            if rescue::settle(&Settings::current())?
                && let Some(drain) = &mut self.drain
            {
                drain.look_again();
            }
            rescue::tidy()?;
            let mirrored = rescue::mirror();
            if let Err(error) = mirrored
                && matches!(look(), Ok(Some(_)))
            {
                self.tell(&format!("usage cannot be written to the application's rate_limits: {}", error.one_line()));
            }
        }
        Ok(())
    }

    /// Takes new settings into use as soon as nothing is in flight under the old ones.
    fn set_up(&mut self, run: i32) {
        let settings = Settings::current();
        if let Some(drain) = &mut self.drain {
            let is_current = *drain.settings() == settings;
            drain.set_retiring(!is_current);
            if is_current || !drain.is_retired() {
                return;
            }
        }
        match Drain::new(settings, run) {
            Ok(drain) => {
                self.drain = Some(drain);
                self.note = None;
            }
            Err(error) => {
                self.drain = None;
                self.hold(&error.one_line());
            }
        }
    }

    /// One turn; false when there was nothing to do.
    fn work(&mut self) -> bool {
        let Some(drain) = &mut self.drain else {
            return false;
        };
        session::report_activity(Some("draining whatsapp_queue"));
        let turned = drain.turn();
        session::report_activity(None);
        session::report_statistics();
        match turned {
            Ok(worked) => {
                self.failures = 0;
                for news in self.drain.as_mut().map(Drain::take_news).unwrap_or_default() {
                    ereport!(LOG, PgSqlErrorCode::ERRCODE_WARNING, format!("whatsapp_pg: {news}"));
                }
                if let Some(note) = self.drain.as_ref().and_then(|drain| drain.note().map(str::to_owned)) {
                    self.tell(&note);
                }
                if self.drain.as_ref().is_some_and(Drain::is_retired) {
                    self.housekept = None;
                }
                if !worked && self.drain.as_ref().is_some_and(|drain| drain.tally() != self.published) {
                    self.publish();
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
            if shared::take_accounts_changed(wake::own_database()) {
                drain.forget_accounts();
            }
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

    fn publish(&mut self) {
        let (tally, in_flight) = self.drain.as_ref().map(|drain| (drain.tally(), drain.leased())).unwrap_or_default();
        let note = self.drain.as_ref().and_then(Drain::note).or(self.note.as_deref()).unwrap_or_default();
        shared::update(wake::own_database(), |entry| {
            entry.last_pass_at = Timestamp::now().0;
            entry.claimed = tally.claimed;
            entry.sent = tally.sent;
            entry.failed = tally.failed;
            entry.rescheduled = tally.rescheduled;
            entry.unknown = tally.unknown;
            entry.in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
            entry.set_note(note);
        });
        self.published = tally;
    }

    /// Nothing can be sent, for this reason: it stands in wa_worker_status, and once in the log.
    fn hold(&mut self, reason: &str) {
        self.note = Some(reason.to_owned());
        self.tell(reason);
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

/// What is due when the library is newer than the catalog: messages can be queued meanwhile.
fn outdated(catalog: &str) -> String {
    format!(
        "the library is version {}, the catalog {catalog}: nothing is sent until ALTER EXTENSION whatsapp_pg UPDATE has run",
        env!("CARGO_PKG_VERSION")
    )
}

fn warn(what: &str, reason: &str) {
    ereport!(WARNING, PgSqlErrorCode::ERRCODE_WARNING, what.to_owned(), reason.to_owned());
}
