//! What will happen in a round, drawn from its seed alone: the same seed gives the same organizers, troubles, kills and
//! pauses. What the machine makes of them is its own affair, so a failing seed is run a few times.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// How large a round is.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Scenes of a round; each has one kill.
    pub scenes: usize,
    /// The longest outage of Meta's in a round.
    pub longest_outage: Duration,
    /// Most messages to one and the same recipient.
    pub to_one_recipient: u32,
    /// The queue must be done this long after the last trouble.
    pub patience: Duration,
}

impl Form {
    /// What `make test` runs.
    pub const SHORT: Self = Self {
        scenes: 5,
        longest_outage: Duration::from_millis(1_500),
        to_one_recipient: 40,
        patience: Duration::from_secs(60),
    };
    /// What `make chaos` runs.
    pub const LONG: Self = Self {
        scenes: 26,
        longest_outage: Duration::from_secs(60),
        to_one_recipient: 50,
        patience: Duration::from_secs(240),
    };
}

/// What goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing but the kill.
    None,
    /// Connections are reset before Meta has taken the message.
    ResetBeforeAccept,
    /// Connections are reset after Meta has taken the message.
    ResetAfterAccept,
    /// No answer comes for longer than a call may take.
    Hang,
    /// HTTP 500 and 503 with Meta's error object.
    ServerErrors,
    /// HTTP 502 with a proxy's page; some of the messages were passed on to Meta.
    ProxyErrors,
    /// 130429: the number sends too fast.
    TooFast,
    /// 190: the access token has expired. Ends with a new one.
    TokenExpired,
    /// Nothing reaches Meta.
    Unreachable,
    /// As many `wa_process_batch()` calls as take every background worker's slot.
    NoWorkerSlots,
    /// Nothing can be written into `whatsapp_delivery_logs`.
    LogRefuses,
    /// The server's clock is set by so many seconds.
    ClockSet(i64),
    /// The server is restarted properly.
    Restart,
    /// Settings change, so the drainer makes a new pool.
    SettingsChange,
}

impl Trouble {
    const ALL: [Self; 16] = [
        Self::None,
        Self::ResetBeforeAccept,
        Self::ResetAfterAccept,
        Self::Hang,
        Self::ServerErrors,
        Self::ProxyErrors,
        Self::TooFast,
        Self::TokenExpired,
        Self::Unreachable,
        Self::NoWorkerSlots,
        Self::LogRefuses,
        Self::ClockSet(3_600),
        Self::ClockSet(-3_600),
        Self::ClockSet(25 * 3_600),
        Self::Restart,
        Self::SettingsChange,
    ];
}

/// Who gets SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Victim {
    /// The background worker that sends.
    Drainer,
    /// A backend in the middle of `wa_enqueue()`.
    Enqueuer,
    /// The background worker of a `wa_process_batch()`, or its caller.
    Batch,
    /// The whole server.
    Postmaster,
}

impl Victim {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Drainer, Self::Enqueuer, Self::Batch, Self::Postmaster];
}

/// One trouble with one kill in it.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// What goes wrong.
    pub trouble: Trouble,
    /// So long it goes on before the kill,
    pub before: Duration,
    /// of this process,
    pub victim: Victim,
    /// and so long after it.
    pub after: Duration,
}

/// A round.
#[derive(Debug)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// 1 to 3.
    pub organizers: usize,
    /// Whether Meta's statuses are handed in as they come, or all at the end.
    pub reports_at_once: bool,
    /// What happens, in this order.
    pub scenes: Vec<Scene>,
}

impl Plan {
    /// Draws a round.
    pub fn draw(seed: u64, form: &Form) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut troubles = Deck::of(&Trouble::ALL);
        let mut victims = Deck::of(&Victim::ALL);
        let organizers = rng.usize(1..=3);
        let reports_at_once = rng.bool();
        let mut scenes: Vec<Scene> = (0..form.scenes)
            .map(|_| Scene {
                trouble: troubles.draw(&mut rng),
                before: Duration::from_millis(rng.u64(150..1_200)),
                victim: victims.draw(&mut rng),
                after: Duration::from_millis(rng.u64(150..1_200)),
            })
            .collect();
        if let Some(outage) = scenes.iter_mut().find(|scene| scene.trouble == Trouble::Unreachable) {
            outage.after = form.longest_outage;
        }
        Self { seed, organizers, reports_at_once, scenes }
    }
}

/// Cards in random order; every kind comes before any comes again.
struct Deck<T: 'static> {
    kinds: &'static [T],
    left: Vec<T>,
}

impl<T: Copy> Deck<T> {
    fn of(kinds: &'static [T]) -> Self {
        Self { kinds, left: Vec::new() }
    }

    fn draw(&mut self, rng: &mut Rng) -> T {
        if self.left.is_empty() {
            self.left = self.kinds.to_vec();
            rng.shuffle(&mut self.left);
        }
        self.left.pop().expect("there are kinds")
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trouble, before, victim, after } = self;
        write!(f, "{trouble:?} for {before:.1?}, kill -9 of {victim:?}, {after:.1?} more")
    }
}
