//! The simulator as a value: started, steered, asked and stopped by the program that owns it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::faults::{FaultRule, FaultScript};
use crate::graph::version::Version;
use crate::inbound::{self, Inbound};
use crate::options::{Latency, Options};
use crate::recent::RecordedRequest;
use crate::registry::{Account, Template};
use crate::server;
use crate::state::State;
use crate::stats::Stats;
use crate::tls::{self, CaFile};
use crate::violations::Violations;
use crate::webhooks::courier;
use crate::webhooks::plan::{ArmedPlan, WebhookPlan};
use crate::webhooks::wire::SignedBody;

/// Why a simulator did not start, or did not take what it was given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is reachable from other machines and `allow_remote` is off.
    #[error("{0} can be reached from other machines; allow remote access to listen there")]
    NotLoopback(SocketAddr),
    /// Neither plain HTTP nor TLS was asked for.
    #[error("there is no address to listen on")]
    NoAddress,
    /// The default version is not written like `v25.0`, or does not exist.
    #[error("\"{0}\" is not a Graph API version")]
    Version(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The CA certificate cannot be written.
    #[error("cannot write {}", path.display())]
    WriteCa {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificates could not be made.
    #[error("cannot make a certificate")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Threads could not be started.
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
    /// A fault rule makes no sense.
    #[error("{0}")]
    Fault(String),
    /// A webhook plan makes no sense.
    #[error("webhooks: {0}")]
    Webhooks(String),
    /// An inbound message makes no sense.
    #[error("{0}")]
    Inbound(String),
}

/// What may come of starting or steering a simulator.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long stopping waits for threads that run.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A running simulator. It has threads of its own, so it may be started from anywhere; dropping it
/// closes its listeners and every connection before the drop returns.
#[derive(Debug)]
pub struct Simulator {
    state: Arc<State>,
    address: Option<SocketAddr>,
    tls_address: Option<SocketAddr>,
    ca_file: Option<CaFile>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts a simulator; it answers when this returns.
    ///
    /// # Errors
    /// Addresses that cannot be listened on or are not loopback, an unwritable TLS directory, a
    /// malformed default version, a webhook plan that makes no sense.
    pub fn start(options: Options) -> Result<Self> {
        check_addresses(&options)?;
        let default_version = Version::parse(&options.default_version)
            .filter(|version| version.served().is_ok())
            .ok_or_else(|| Error::Version(options.default_version.clone()))?;
        let webhooks = options.webhooks.clone().map(|plan| arm(plan, &options)).transpose()?;
        let state = Arc::new(State::new(options, default_version, webhooks));
        let options = &state.options;
        let (acceptor, ca_file) = match options.tls_listen {
            Some(_) => {
                let (acceptor, ca_file) = tls::prepare(options.tls_dir.as_deref())?;
                (Some(acceptor), Some(ca_file))
            }
            None => (None, None),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.worker_threads.max(1))
            .thread_name("graph-simulator")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;

        // The runtime lives on a thread of its own: it must not be dropped where blocking is forbidden,
        // and the caller may be such a place.
        let (stop, stopped) = oneshot::channel();
        let (report, started) = mpsc::channel();
        let served = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("graph-simulator".to_owned())
            .spawn(move || {
                let listening = listen(&runtime, &served, acceptor);
                let failed = listening.is_err();
                drop(report.send(listening));
                if !failed {
                    // An error means that the handle is gone, which is also a reason to stop.
                    drop(runtime.block_on(stopped));
                }
                runtime.shutdown_timeout(STOP_TIMEOUT);
            })
            .map_err(Error::Threads)?;
        let mut simulator =
            Self { state, address: None, tls_address: None, ca_file, stop: Some(stop), thread: Some(thread) };
        match started.recv() {
            Ok(listening) => {
                (simulator.address, simulator.tls_address) = listening?;
                Ok(simulator)
            }
            Err(_) => Err(Error::Threads(io::Error::other("the thread has ended"))),
        }
    }

    /// Base URL for plain HTTP, like `http://127.0.0.1:40001`; that of TLS when there is no plain HTTP.
    pub fn url(&self) -> String {
        match (self.address, self.tls_address) {
            (Some(address), _) => format!("http://{address}"),
            (None, Some(address)) => format!("https://{address}"),
            (None, None) => String::new(),
        }
    }

    /// Base URL for HTTPS, when TLS is on. The certificate is good for this address and `localhost`.
    pub fn tls_url(&self) -> Option<String> {
        self.tls_address.map(|address| format!("https://{address}"))
    }

    /// Address of plain HTTP, when it is on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Address of HTTPS, when TLS is on.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// The CA certificate that clients must trust, when TLS is on.
    pub fn ca_pem_path(&self) -> Option<&Path> {
        self.ca_file.as_ref().map(CaFile::path)
    }

    /// When the simulator started: the zero of [`arrivals`](Self::arrivals) and `at_us`.
    pub fn started_at(&self) -> SystemTime {
        self.state.clock.started_at
    }

    /// Registers an account, or replaces the one of the same phone number id.
    pub fn put_account(&self, account: Account) {
        self.state.change_registry(|registry| registry.put_account(account));
    }

    /// Replaces all registered accounts.
    pub fn set_accounts(&self, accounts: Vec<Account>) {
        self.state.change_registry(|registry| registry.set_accounts(accounts));
    }

    /// Registers a template, or replaces the one of the same account, name and language.
    pub fn put_template(&self, template: Template) {
        self.state.change_registry(|registry| registry.put_template(template));
    }

    /// Replaces all registered templates.
    pub fn set_templates(&self, templates: Vec<Template>) {
        self.state.change_registry(|registry| registry.set_templates(templates));
    }

    /// Replaces the fault script; an empty one ends all faults.
    ///
    /// # Errors
    /// [`Error::Fault`] names the rule that makes no sense; the old script then stays.
    pub fn set_faults(&self, rules: Vec<FaultRule>) -> Result<()> {
        self.state.set_faults(FaultScript::arm(rules).map_err(Error::Fault)?);
        Ok(())
    }

    /// Sets the latency of requests that arrive from now on.
    pub fn set_latency(&self, latency: Latency) {
        self.state.set_latency(latency);
    }

    /// Follows another webhook plan from now on; `None` ends webhooks and drops those that wait.
    ///
    /// # Errors
    /// [`Error::Webhooks`] says what makes no sense; the old plan then stays.
    pub fn set_webhooks(&self, plan: Option<WebhookPlan>) -> Result<()> {
        let armed = plan.map(|plan| arm(plan, &self.state.options)).transpose()?;
        self.state.webhooks.set_plan(armed);
        Ok(())
    }

    /// Takes up to `max` webhooks that are due, in their order: each is one POST's body with its signature.
    /// What is taken is not POSTed, and the other way round.
    pub fn take_webhooks(&self, max: usize) -> Vec<SignedBody> {
        self.state.webhooks.take(max, self.state.clock.now())
    }

    /// Lets a user write: it fills the number's second, opens the service window for 24 hours, and makes a
    /// webhook if there is a plan for them. Returns the message's wamid.
    ///
    /// # Errors
    /// [`Error::Inbound`] says what makes no sense.
    pub fn receive(&self, message: Inbound) -> Result<String> {
        inbound::receive(&self.state, message).map_err(Error::Inbound)
    }

    /// What exceeded Meta's limits.
    pub fn violations(&self) -> Violations {
        self.state.traffic.violations()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// How often the message with this callback data (or wamid) was accepted.
    pub fn accepted(&self, id: &str) -> u32 {
        self.state.ledger.count(id)
    }

    /// Every accepted id with its count.
    pub fn accepted_ids(&self) -> HashMap<String, u32> {
        self.state.ledger.all().into_iter().collect()
    }

    /// Ids accepted more than once, with their counts, in order.
    pub fn duplicates(&self) -> Vec<(String, u32)> {
        self.state.ledger.duplicates()
    }

    /// The last `limit` requests in full, oldest first.
    pub fn messages(&self, limit: usize) -> Vec<RecordedRequest> {
        self.state.recent.last(limit)
    }

    /// Arrival times of a number's requests since [`started_at`](Self::started_at), in order.
    pub fn arrivals(&self, phone_number_id: &str) -> Vec<Duration> {
        let arrivals = self.state.traffic.arrivals(phone_number_id);
        arrivals.into_iter().map(Duration::from_micros).collect()
    }

    /// Forgets what happened: counters, ledger, recorded requests, limit and service windows, waiting webhooks
    /// and the turns of fault rules. What was registered, the script itself, the latency and the webhook
    /// plan stay.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Stops: listeners and connections are closed when this returns.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed; there is nobody to tell it here.
            drop(thread.join());
        }
    }
}

type Listening = (Option<SocketAddr>, Option<SocketAddr>);

fn listen(runtime: &Runtime, state: &Arc<State>, acceptor: Option<tokio_rustls::TlsAcceptor>) -> Result<Listening> {
    let _context = runtime.enter();
    let open = |address: Option<SocketAddr>| match address {
        Some(address) => server::bind(address)
            .and_then(|listener| Ok(Some((listener.local_addr()?, listener))))
            .map_err(|source| Error::Listen { address, source }),
        None => Ok(None),
    };
    let plain = open(state.options.listen)?;
    let tls = open(state.options.tls_listen)?;
    runtime.spawn(courier::run(Arc::clone(state)));
    let addresses = (plain.as_ref().map(|(address, _)| *address), tls.as_ref().map(|(address, _)| *address));
    if let Some((_, listener)) = plain {
        runtime.spawn(server::accept(listener, None, Arc::clone(state)));
    }
    if let Some((_, listener)) = tls {
        runtime.spawn(server::accept(listener, acceptor, Arc::clone(state)));
    }
    Ok(addresses)
}

fn arm(plan: WebhookPlan, options: &Options) -> Result<ArmedPlan> {
    ArmedPlan::arm(plan, options.allow_remote).map_err(Error::Webhooks)
}

fn check_addresses(options: &Options) -> Result<()> {
    let mut addresses = [options.listen, options.tls_listen].into_iter().flatten().peekable();
    if addresses.peek().is_none() {
        return Err(Error::NoAddress);
    }
    match addresses.find(|address| !options.allow_remote && !is_loopback(address.ip())) {
        Some(remote) => Err(Error::NotLoopback(remote)),
        None => Ok(()),
    }
}

/// Whether only this machine can be at, or reach, an address.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    // An IPv4 peer of an IPv6 socket comes as ::ffff:127.0.0.1.
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        for (text, expected) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("192.168.1.2", false),
            ("::ffff:192.168.1.2", false),
        ] {
            assert_eq!(is_loopback(text.parse().unwrap()), expected, "{text}");
        }
    }
}
