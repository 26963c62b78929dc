//! Sender threads: each takes a message when its time has come, makes one blocking call and leaves the answer.
//!
//! Nothing here touches Postgres: a pgrx call off the main thread can crash the cluster. Threads have all signals
//! blocked, so Postgres' handlers run on the main thread, and they are made as they are needed. Every wait inside a
//! call has a deadline (`cloud_api::client`), so a thread always comes back. A panic costs the thread's call its answer,
//! never the message: it is reported like a broken connection.

use std::collections::{BinaryHeap, HashMap};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cloud_api::client::{Attempt, Call, Client};
use cloud_api::phone::PhoneNumber;
use cloud_api::template::Template;
use keyring::Secret;

/// Enough for a TLS handshake and a call; only what is touched costs memory.
const STACK_BYTES: usize = 512 * 1024;

/// Who sends: the same for all messages of a claim.
pub struct Sender {
    /// Meta's id of the number.
    pub phone_number_id: String,
    /// The opened token.
    pub token: Secret,
    /// Two messages of this number leave at least so far apart.
    pub least_gap: Duration,
}

/// One message to send.
pub struct Job {
    /// Its id.
    pub id: [u8; 16],
    /// The claim it belongs to.
    pub lease: i64,
    /// Retries so far.
    pub retry_count: u32,
    /// Admission says: not before.
    pub not_before: Instant,
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
    /// Retries before this attempt.
    pub retry_count: u32,
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
    waiting: Mutex<Waiting>,
    available: Condvar,
    answers: Mutex<Vec<Answer>>,
    /// Calls being made, so that a shutdown can say of each whether it may have been written.
    calls: Mutex<HashMap<[u8; 16], Running>>,
    event: OwnedFd,
    announced: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    jobs: BinaryHeap<Timed>,
    /// When the next message of each number may be taken: a late one must not leave together with the one after it.
    not_before: HashMap<String, Instant>,
    idle: usize,
    order: u64,
    /// The one thread that waits for the first job's time; the others wait for it to be taken.
    leader: Option<u64>,
    turns: u64,
    closed: bool,
}

impl Waiting {
    /// Takes the first job, unless its number sent one so recently that it must wait a little longer.
    fn pop_in_turn(&mut self) -> Option<Job> {
        let Timed { order, job, .. } = self.jobs.pop()?;
        let now = Instant::now();
        match self.not_before.get_mut(&job.sender.phone_number_id) {
            Some(at) if *at > now => {
                let at = *at;
                self.jobs.push(Timed { at, order, job });
                return None;
            }
            Some(at) => *at = now + job.sender.least_gap,
            None => {
                self.not_before.insert(job.sender.phone_number_id.clone(), now + job.sender.least_gap);
            }
        }
        Some(job)
    }
}

struct Running {
    lease: i64,
    retry_count: u32,
    written: Arc<AtomicBool>,
}

/// Earliest first; the heap is a max-heap, so the order is reversed.
struct Timed {
    at: Instant,
    order: u64,
    job: Job,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
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
        Ok(Self {
            shared: Arc::new(Shared {
                waiting: Mutex::default(),
                available: Condvar::new(),
                answers: Mutex::default(),
                calls: Mutex::default(),
                event,
                announced: AtomicBool::new(false),
            }),
            client,
            max_threads,
            threads: 0,
        })
    }

    /// Becomes readable when an answer is there.
    pub fn event_fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }

    /// Threads at most.
    pub fn max_threads(&self) -> usize {
        self.max_threads
    }

    /// Hands over messages.
    pub fn submit(&mut self, jobs: Vec<Job>) {
        let count = jobs.len();
        let idle = {
            let mut waiting = lock(&self.shared.waiting);
            for job in jobs {
                waiting.order += 1;
                let order = waiting.order;
                waiting.jobs.push(Timed { at: job.not_before, order, job });
            }
            // A job that is due before the one the leader waits for needs a new leader.
            waiting.leader = None;
            waiting.idle
        };
        for _ in 0..count.min(idle.max(1)) {
            self.shared.available.notify_one();
        }
        self.grow();
    }

    /// Makes threads for due messages that nobody is free to take.
    pub fn grow(&mut self) {
        let now = Instant::now();
        let wanted = {
            let waiting = lock(&self.shared.waiting);
            let due = waiting.jobs.iter().filter(|timed| timed.at <= now).count();
            due.max(usize::from(!waiting.jobs.is_empty())).saturating_sub(waiting.idle)
        };
        for _ in 0..wanted.min(self.max_threads.saturating_sub(self.threads)) {
            if !self.spawn() {
                break;
            }
        }
    }

    fn spawn(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let client = self.client.clone();
        let blocked = BlockedSignals::new();
        let spawned = std::thread::Builder::new()
            .name("whatsapp sender".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.serve(&client));
        drop(blocked);
        if spawned.is_ok() {
            self.threads += 1;
        }
        spawned.is_ok()
    }

    /// Threads made so far.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The answers that have come since the last time.
    pub fn collect(&self) -> Vec<Answer> {
        self.shared.announced.store(false, Ordering::SeqCst);
        let mut count = [0_u8; 8];
        // SAFETY: reads eight bytes into a buffer of eight; the descriptor does not block.
        unsafe { libc::read(self.event_fd(), count.as_mut_ptr().cast(), count.len()) };
        std::mem::take(&mut *lock(&self.shared.answers))
    }

    /// Hands back what no thread has taken yet. Threads end once they are free.
    pub fn close(&self) -> Vec<Answer> {
        let jobs = {
            let mut waiting = lock(&self.shared.waiting);
            waiting.closed = true;
            std::mem::take(&mut waiting.jobs)
        };
        self.shared.available.notify_all();
        jobs.into_iter()
            .map(|timed| Answer {
                id: timed.job.id,
                lease: timed.job.lease,
                retry_count: timed.job.retry_count,
                event: Event::Returned,
            })
            .collect()
    }

    /// Gives up on the calls still running. Whoever swaps `written` first owns a call: one that has not begun to write is
    /// taken back and never will; of the others nobody knows.
    pub fn abandon(&self) -> Vec<Answer> {
        let calls = std::mem::take(&mut *lock(&self.shared.calls));
        calls
            .into_iter()
            .map(|(id, call)| Answer {
                id,
                lease: call.lease,
                retry_count: call.retry_count,
                event: if call.written.swap(true, Ordering::SeqCst) {
                    Event::Lost("the server was shut down while the call was running".to_owned())
                } else {
                    Event::Returned
                },
            })
            .collect()
    }

    /// Calls running now.
    pub fn running(&self) -> usize {
        lock(&self.shared.calls).len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl Shared {
    fn serve(&self, client: &Client) {
        while let Some(job) = self.take() {
            let written = Arc::new(AtomicBool::new(false));
            let running = Running { lease: job.lease, retry_count: job.retry_count, written: Arc::clone(&written) };
            lock(&self.calls).insert(job.id, running);
            let event = catch_unwind(AssertUnwindSafe(|| self.call(client, &job, &written))).unwrap_or_else(|_| {
                let reason = "the sender thread failed while it made the call".to_owned();
                if written.swap(true, Ordering::SeqCst) { Event::Lost(reason) } else { Event::Returned }
            });
            // Whoever removes the call reports it: this thread, or a shutdown that gave up on it.
            if lock(&self.calls).remove(&job.id).is_some() {
                self.answer(Answer { id: job.id, lease: job.lease, retry_count: job.retry_count, event });
            }
        }
    }

    fn call(&self, client: &Client, job: &Job, written: &AtomicBool) -> Event {
        let body = match render(job) {
            Ok(body) => body,
            Err((code, reason)) => return Event::Refused(code, reason),
        };
        Event::Called(Box::new(client.send(&Call {
            phone_number_id: &job.sender.phone_number_id,
            token: job.sender.token.expose(),
            body: &body,
            written,
        })))
    }

    fn take(&self) -> Option<Job> {
        let mut waiting = lock(&self.waiting);
        waiting.turns += 1;
        let me = waiting.turns;
        loop {
            if waiting.closed {
                return None;
            }
            let wait = match waiting.jobs.peek() {
                None => None,
                Some(first) => match first.at.checked_duration_since(Instant::now()) {
                    Some(wait) if !wait.is_zero() => Some(wait),
                    _ => {
                        let Some(job) = waiting.pop_in_turn() else {
                            continue;
                        };
                        if !waiting.jobs.is_empty() {
                            self.available.notify_one();
                        }
                        return Some(job);
                    }
                },
            };
            waiting.idle += 1;
            waiting = match wait {
                Some(wait) if waiting.leader.is_none() => {
                    waiting.leader = Some(me);
                    let (mut waiting, _) =
                        self.available.wait_timeout(waiting, wait).unwrap_or_else(PoisonError::into_inner);
                    if waiting.leader == Some(me) {
                        waiting.leader = None;
                    }
                    waiting.idle -= 1;
                    waiting
                }
                _ => {
                    let mut waiting = self.available.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                    waiting.idle -= 1;
                    waiting
                }
            };
        }
    }

    fn answer(&self, answer: Answer) {
        lock(&self.answers).push(answer);
        if !self.announced.swap(true, Ordering::SeqCst) {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: writes eight bytes from a buffer of eight; an eventfd this small never blocks.
            unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
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
