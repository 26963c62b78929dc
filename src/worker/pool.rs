//! Sender threads: each takes a message when its time has come, makes one blocking call and leaves the answer.
//!
//! Nothing here touches Postgres: a pgrx call off the main thread can crash the cluster. Threads have all signals
//! blocked, so Postgres' handlers run on the main thread, and they are made as they are needed. Every wait inside a
//! call has a deadline (`cloud_api::client`), so a thread always comes back. A panic costs the thread's call its answer,
//! never the message: it is reported like a broken connection.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cloud_api::client::{Attempt, Call, Client};
use cloud_api::gate::Gate;
use cloud_api::pacing::Pace;
use cloud_api::phone::PhoneNumber;
use cloud_api::template::Template;
use keyring::Secret;

use crate::worker::timetable::Timetable;

/// Enough for a TLS handshake and a call; only what is touched costs memory.
const STACK_BYTES: usize = 512 * 1024;

/// Who sends: the same for all messages of a claim.
pub struct Sender {
    /// Meta's id of the number.
    pub phone_number_id: String,
    /// The opened token.
    pub token: Secret,
    /// Where its requests leave, one after the other.
    pub gate: Arc<Gate>,
}

/// One message to send.
pub struct Job {
    /// Its id.
    pub id: [u8; 16],
    /// The claim it belongs to.
    pub lease: i64,
    /// Admission says: not before.
    pub not_before: Instant,
    /// How fast its number may send now.
    pub pace: Pace,
    /// On whose behalf.
    pub sender: Arc<Sender>,
    /// What.
    pub template: Arc<Template>,
    /// Variables as JSON.
    pub variables: String,
    /// To whom, as stored.
    pub recipient: String,
    /// Travels to Meta and back.
    pub callback_data: String,
}

/// What came of a job.
pub struct Answer {
    /// The message.
    pub id: [u8; 16],
    /// The claim it belongs to.
    pub lease: i64,
    /// What happened.
    pub event: Event,
}

/// What happened to a job.
pub enum Event {
    /// A call was made.
    Called(Box<Attempt>),
    /// It cannot be rendered: our code for it, and the reason.
    Refused(&'static str, String),
    /// It was handed back before a thread took it, or before anything was written.
    Returned,
    /// No answer will come; the request may have been written.
    Lost(String),
}

/// The threads and what they share with the main thread.
pub struct Pool {
    shared: Arc<Shared>,
    client: Client,
    max_threads: usize,
    threads: usize,
}

struct Shared {
    timetable: Timetable,
    answers: Mutex<Vec<Answer>>,
    /// What each thread is doing, so that a shutdown can say of every call whether it may have been written. A thread
    /// has a place of its own: the lock on it is free when the thread wants it.
    places: Mutex<Vec<Arc<Place>>>,
    event: OwnedFd,
    is_announced: AtomicBool,
}

/// The call a thread is making.
#[derive(Default)]
struct Place {
    call: Mutex<Option<Running>>,
    /// Swapped to true by whoever owns the call: the sender before its first byte, or who takes the call back.
    written: AtomicBool,
}

#[derive(Clone, Copy)]
struct Running {
    id: [u8; 16],
    lease: i64,
}

impl Running {
    fn of(job: &Job) -> Self {
        Self { id: job.id, lease: job.lease }
    }

    fn answer(self, event: Event) -> Answer {
        Answer { id: self.id, lease: self.lease, event }
    }
}

impl Pool {
    /// A pool without threads yet.
    pub fn new(client: Client, max_threads: usize) -> std::io::Result<Self> {
        // SAFETY: eventfd makes a descriptor that nobody else owns, or answers -1.
        let event = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let shared = Shared {
            timetable: Timetable::default(),
            answers: Mutex::default(),
            places: Mutex::default(),
            event,
            is_announced: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared), client, max_threads, threads: 0 })
    }

    /// Readable when an answer is there.
    pub fn event_fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }

    /// Threads at most.
    pub fn max_threads(&self) -> usize {
        self.max_threads
    }

    /// Hands over messages.
    pub fn submit(&mut self, jobs: Vec<Job>) {
        self.shared.timetable.add(jobs);
        self.grow();
    }

    /// Makes threads for due messages that nobody is free to take.
    pub fn grow(&mut self) {
        if self.threads >= self.max_threads {
            return;
        }
        let wanted = self.shared.timetable.unattended().min(self.max_threads - self.threads);
        for _ in 0..wanted {
            if !self.spawn() {
                break;
            }
        }
    }

    fn spawn(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let client = self.client.for_one_thread();
        let place = Arc::<Place>::default();
        lock(&shared.places).push(Arc::clone(&place));
        let blocked = BlockedSignals::new();
        let spawned = std::thread::Builder::new()
            .name("whatsapp sender".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.serve(&client, &place));
        drop(blocked);
        self.threads += usize::from(spawned.is_ok());
        spawned.is_ok()
    }

    /// The answers that have come since the last time.
    pub fn collect(&self) -> Vec<Answer> {
        self.shared.is_announced.store(false, Ordering::SeqCst);
        let mut count = [0_u8; 8];
        // SAFETY: reads eight bytes into a buffer of eight; the descriptor does not block.
        unsafe { libc::read(self.event_fd(), count.as_mut_ptr().cast(), count.len()) };
        std::mem::take(&mut *lock(&self.shared.answers))
    }

    /// Hands back what no thread has taken yet. Threads end once they are free.
    pub fn close(&self) -> Vec<Answer> {
        let jobs = self.shared.timetable.close();
        jobs.iter().map(|job| Running::of(job).answer(Event::Returned)).collect()
    }

    /// Gives up on the calls still running. Whoever swaps `written` first owns a call: one that has not begun to write is
    /// taken back and never will; of the others nobody knows.
    pub fn abandon(&self) -> Vec<Answer> {
        let places = lock(&self.shared.places);
        let calls = places.iter().filter_map(|place| lock(&place.call).take().map(|call| (place, call)));
        calls
            .map(|(place, call)| {
                call.answer(if place.written.swap(true, Ordering::SeqCst) {
                    Event::Lost("the server was shut down while the call was running".to_owned())
                } else {
                    Event::Returned
                })
            })
            .collect()
    }

    /// Calls running now.
    pub fn running(&self) -> usize {
        lock(&self.shared.places).iter().filter(|place| lock(&place.call).is_some()).count()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl Shared {
    fn serve(&self, client: &Client, place: &Place) {
        let begin = |job: &Job| {
            place.written.store(false, Ordering::SeqCst);
            *lock(&place.call) = Some(Running::of(job));
        };
        while let Some(job) = self.timetable.take(begin) {
            let event = catch_unwind(AssertUnwindSafe(|| call(client, &job, &place.written))).unwrap_or_else(|_| {
                let reason = "the sender thread failed while it made the call".to_owned();
                if place.written.swap(true, Ordering::SeqCst) { Event::Lost(reason) } else { Event::Returned }
            });
            // Whoever takes the call from its place reports it: this thread, or a shutdown that gave up on it.
            let running = lock(&place.call).take();
            if let Some(running) = running {
                self.answer(running.answer(event));
            }
        }
    }

    fn answer(&self, answer: Answer) {
        lock(&self.answers).push(answer);
        if !self.is_announced.swap(true, Ordering::SeqCst) {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: writes eight bytes from a buffer of eight; an eventfd this small never blocks.
            unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }
}

fn call(client: &Client, job: &Job, written: &AtomicBool) -> Event {
    match render(job) {
        Err((code, reason)) => Event::Refused(code, reason),
        Ok(body) => Event::Called(Box::new(client.send(&Call {
            phone_number_id: &job.sender.phone_number_id,
            token: job.sender.token.expose(),
            body: &body,
            written,
            gate: Some((&job.sender.gate, job.pace)),
        }))),
    }
}

/// The body of the request, or why there can be none. Rows may be inserted by SQL, so everything is checked here again.
fn render(job: &Job) -> Result<String, (&'static str, String)> {
    let to = PhoneNumber::parse(&job.recipient).map_err(|error| ("invalid_number", error.to_string()))?.number;
    let variables: serde_json::Value =
        serde_json::from_str(&job.variables).map_err(|error| ("invalid_variables", error.to_string()))?;
    let serde_json::Value::Object(variables) = variables else {
        return Err(("invalid_variables", "template_variables is not a JSON object".to_owned()));
    };
    let parameters = job.template.fill(&variables).map_err(|violations| {
        let reasons: Vec<String> = violations.iter().map(ToString::to_string).collect();
        ("invalid_variables", reasons.join("; "))
    })?;
    Ok(cloud_api::message::template_message(&to, &job.template, &parameters, &job.callback_data))
}

/// A lock that a panic elsewhere does not take away: the data are plain values, complete after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Blocks all signals for the threads made while it lives (they inherit the mask), then restores the mask.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> Self {
        // SAFETY: plain calls on local signal sets.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: restores what `new` read.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}
