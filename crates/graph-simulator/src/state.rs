//! Everything that requests share. No lock in here is held across an await.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::clock::Clock;
use crate::faults::{FaultScript, chance};
use crate::graph::version::Version;
use crate::graph::wamid::Ids;
use crate::ledger::Ledger;
use crate::options::{Latency, Options};
use crate::recent::Recent;
use crate::registry::Registry;
use crate::stats::Stats;
use crate::traffic::{Gauge, Traffic};
use crate::webhooks::Webhooks;
use crate::webhooks::plan::ArmedPlan;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) default_version: Version,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) ledger: Ledger,
    pub(crate) recent: Recent,
    pub(crate) traffic: Traffic,
    pub(crate) in_flight: Arc<Gauge>,
    pub(crate) connections: Arc<Gauge>,
    pub(crate) tls_failures: AtomicU64,
    pub(crate) redirects_followed: AtomicU64,
    pub(crate) webhooks: Webhooks,
    registry: RwLock<Arc<Registry>>,
    faults: RwLock<Arc<FaultScript>>,
    latency: RwLock<Latency>,
    latency_turn: AtomicU64,
    refused: Mutex<BTreeMap<i64, u64>>,
}

impl State {
    pub(crate) fn new(options: Options, default_version: Version, webhooks: Option<ArmedPlan>) -> Self {
        Self {
            default_version,
            clock: Clock::start(),
            ids: Ids::new(),
            ledger: Ledger::new(options.max_tracked_ids),
            recent: Recent::new(options.keep_messages),
            traffic: Traffic::default(),
            in_flight: Arc::default(),
            connections: Arc::default(),
            tls_failures: AtomicU64::new(0),
            redirects_followed: AtomicU64::new(0),
            webhooks: Webhooks::new(webhooks),
            registry: RwLock::default(),
            faults: RwLock::default(),
            latency: RwLock::new(options.latency),
            latency_turn: AtomicU64::new(0),
            refused: Mutex::default(),
            options,
        }
    }

    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read())
    }

    pub(crate) fn change_registry(&self, change: impl FnOnce(&mut Registry)) {
        change(Arc::make_mut(&mut self.registry.write()));
    }

    pub(crate) fn faults(&self) -> Arc<FaultScript> {
        Arc::clone(&self.faults.read())
    }

    pub(crate) fn set_faults(&self, script: FaultScript) {
        *self.faults.write() = Arc::new(script);
    }

    pub(crate) fn latency(&self) -> Latency {
        *self.latency.read()
    }

    pub(crate) fn set_latency(&self, latency: Latency) {
        *self.latency.write() = latency;
    }

    /// How long the next send takes.
    pub(crate) fn draw_latency(&self) -> Duration {
        let Latency { ms, jitter_ms } = self.latency();
        let fixed = Duration::from_millis(ms.into());
        if jitter_ms == 0 {
            return fixed;
        }
        let turn = self.latency_turn.fetch_add(1, Ordering::Relaxed);
        fixed + Duration::from_millis(jitter_ms.into()).mul_f64(chance(0, turn))
    }

    pub(crate) fn count_refusal(&self, code: i64) {
        *self.refused.lock().entry(code).or_default() += 1;
    }

    pub(crate) fn stats(&self) -> Stats {
        let totals = self.ledger.totals();
        Stats {
            uptime_ms: self.clock.now() / 1_000,
            requests: self.in_flight.ever(),
            accepted: totals.accepted,
            accepted_distinct: totals.distinct,
            duplicates: totals.duplicated,
            untracked: totals.untracked,
            refused: self.refused.lock().clone(),
            faults_struck: self.faults().strikes(),
            in_flight: self.in_flight.now(),
            max_in_flight: self.in_flight.most(),
            connections: self.connections.ever(),
            connections_open: self.connections.now(),
            max_connections_open: self.connections.most(),
            tls_failures: self.tls_failures.load(Ordering::Relaxed),
            redirects_followed: self.redirects_followed.load(Ordering::Relaxed),
            webhooks: self.webhooks.stats(),
            numbers: self.traffic.stats().into_iter().collect(),
        }
    }

    /// Forgets what happened; what was registered, the fault script, the latency and the webhook plan stay.
    pub(crate) fn reset(&self) {
        self.ledger.reset();
        self.recent.reset();
        self.traffic.reset();
        self.in_flight.reset();
        self.connections.reset();
        self.faults().reset();
        self.webhooks.reset();
        self.tls_failures.store(0, Ordering::Relaxed);
        self.redirects_followed.store(0, Ordering::Relaxed);
        self.refused.lock().clear();
    }
}
