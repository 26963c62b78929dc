//! The server, the simulator, the wire between them and the organizers of a round.

use std::time::Duration;

use graph_simulator::{Account, FaultRule, Latency, Limits, Options, Simulator, WebhookPlan};
use harness::fixtures::{REMINDER, TOKEN};
use harness::{Cluster, Database, Organizer, Relay, Session};

use crate::book::Book;
use crate::plan::Plan;

/// Signs Meta's webhooks.
pub const APP_SECRET: &str = "app-secret-for-tests-only";
/// Recipients in 24 hours of the organizer with the smallest tier.
pub const DAILY: u32 = 250;
/// Calls in flight at most: also the most that one kill can make unknown.
pub const THREADS: usize = 16;

/// What an organizer is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Many messages to many people.
    Busy,
    /// Many messages to one person.
    Faithful,
    /// More people than the tier admits in a day.
    Small,
}

impl Role {
    /// In the order in which rounds have them.
    pub const ALL: [Self; 3] = [Self::Busy, Self::Faithful, Self::Small];

    /// Messages per second of its number.
    pub fn per_second(self) -> u32 {
        match self {
            Self::Busy => 200,
            Self::Faithful => 20,
            Self::Small => 80,
        }
    }

    fn tier(self) -> &'static str {
        if self == Self::Small { "tier_250" } else { "unlimited" }
    }

    /// What the simulator holds against it. Arrivals on a busy machine are stamped late, by more than the pacing's allowance:
    /// a tenth more than the rate still shows every real excess. The other limits are exact.
    fn limits(self) -> Limits {
        Limits {
            messages_per_second: Some(self.per_second() + self.per_second().div_ceil(10)),
            daily_recipients: (self == Self::Small).then_some(DAILY),
            pair: true,
            count_only: false,
        }
    }
}

/// Everything a round works on.
pub struct Stage<'a> {
    /// The server.
    pub cluster: &'a Cluster,
    /// The database with the extension.
    pub database: &'a Database<'a>,
    /// Meta.
    pub simulator: &'a Simulator,
    /// The way there.
    pub relay: &'a Relay,
    /// Who sends.
    pub organizers: Vec<(Role, Organizer)>,
    /// What the clients know.
    pub book: Book,
}

/// A simulator that counts limits and reports every message's fate.
pub fn simulator() -> Simulator {
    let options = Options {
        latency: Latency { ms: 5, jitter_ms: 40 },
        webhooks: Some(WebhookPlan::signed_with(APP_SECRET)),
        ..Options::default()
    };
    Simulator::start(options).expect("the simulator starts")
}

/// A server with few worker slots, short waits, and a clock that can be set.
pub fn cluster(relay: &Relay) -> Cluster {
    Cluster::builder()
        .preloaded()
        .settable_clock()
        .setting("whatsapp_pg.graph_url", &format!("'{}'", relay.url()))
        .setting("whatsapp_pg.poll_interval", "'1s'")
        .setting("whatsapp_pg.sender_threads", &THREADS.to_string())
        .setting("whatsapp_pg.request_timeout", "'1s'")
        .setting("whatsapp_pg.connect_timeout", "'500ms'")
        .setting("whatsapp_pg.retry_delay", "'1s'")
        .setting("max_worker_processes", "6")
        .setting("max_parallel_workers_per_gather", "0")
        .start()
}

impl<'a> Stage<'a> {
    /// Configures the organizers of the plan, here and at Meta.
    pub fn set(
        plan: &Plan,
        cluster: &'a Cluster,
        database: &'a Database<'a>,
        simulator: &'a Simulator,
        relay: &'a Relay,
    ) -> Self {
        let mut session = database.connect();
        let organizers =
            Role::ALL.into_iter().take(plan.organizers).map(|role| (role, Organizer::create(&mut session))).collect();
        let stage = Self { cluster, database, simulator, relay, organizers, book: Book::default() };
        stage.change_token(TOKEN);
        stage.configure(&mut session, TOKEN);
        stage
    }

    /// Meta takes this token from now on.
    pub fn change_token(&self, token: &str) {
        for (role, organizer) in &self.organizers {
            self.simulator.put_account(Account {
                phone_number_id: organizer.phone_number_id.clone(),
                waba_id: format!("2{}", organizer.phone_number_id),
                token: Some(token.to_owned()),
                portfolio_id: None,
                limits: Some(role.limits()),
            });
        }
    }

    /// The organizers use this token from now on.
    pub fn configure(&self, session: &mut Session, token: &str) {
        for (role, organizer) in &self.organizers {
            let (per_second, tier) = (i32::try_from(role.per_second()).expect("small"), role.tier());
            let waba = format!("2{}", organizer.phone_number_id);
            session.execute_with(
                "SELECT wa_configure(user_id => $1, phone_number_id => $2, business_account_id => $3, access_token => $4,
                     webhook_verify_token => 'verify-me', app_secret => $5, rate_limit_tier => $6,
                     messages_per_second => $7)",
                &[&organizer.id, &organizer.phone_number_id, &waba, &token, &APP_SECRET, &tier, &per_second],
            );
        }
    }

    /// Replaces the simulator's faults.
    pub fn set_faults(&self, rules: Vec<FaultRule>) {
        self.simulator.set_faults(rules).expect("a script that makes sense");
    }

    /// A session that may fail to come about while the server is down.
    pub fn try_connect(&self) -> Option<postgres::Client> {
        self.database.config().connect(postgres::NoTls).ok()
    }

    /// The organizer in this role, if the round has one.
    pub fn organizer(&self, role: Role) -> Option<&Organizer> {
        self.organizers.iter().find(|known| known.0 == role).map(|(_, organizer)| organizer)
    }
}

/// The template every organizer has.
pub const TEMPLATE: &str = REMINDER;

/// Between two tries to reach a server that is down.
pub const BREATH: Duration = Duration::from_millis(20);
