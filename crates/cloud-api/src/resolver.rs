//! Name lookup for many threads: one thread that asks the system, one small cache that everybody reads.
//!
//! The system's lookup can block for half a minute and cannot be interrupted, so no sending thread ever calls it. Addresses
//! are used for [`FRESH`] as they are; then for up to [`USABLE`] while newer ones are fetched in the background, so that
//! neither a slow nor a failing name server stops a sender that knows where to send. Literal addresses need none of this.
//!
//! The thread starts with the first name and blocks every signal: in a host process the signal handlers must run on the
//! host's own thread.

use crate::guard::{self, Stage};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, Timeout};

/// How long addresses are used without looking again. The system does not tell how long they are good for.
pub(crate) const FRESH: Duration = Duration::from_secs(30);
/// How old addresses may be to be used while newer ones are fetched.
pub(crate) const USABLE: Duration = Duration::from_secs(10 * 60);
/// How long a failed lookup is not repeated.
pub(crate) const FAILED: Duration = Duration::from_secs(1);
/// Most addresses kept of one name: as many as ureq takes.
const MAX_ADDRESSES: usize = 16;
/// Enough for the system's lookup, which runs foreign plug-ins.
const STACK: usize = 512 * 1024;

/// A host's name and port.
type Host = (String, u16);
/// How the system is asked; another in tests.
pub(crate) type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// A resolver with a cache, which its clones share.
#[derive(Clone)]
pub(crate) struct CachingResolver {
    cache: Arc<Cache>,
    /// Where the lookup thread gets its work; empty until it was started. It ends when this is dropped.
    requests: Arc<Mutex<Option<Sender<Host>>>>,
}

struct Cache {
    hosts: Mutex<HashMap<Host, Entry>>,
    changed: Condvar,
    lookup: Box<Lookup>,
}

/// What is known about one name.
#[derive(Default)]
struct Entry {
    addresses: Vec<SocketAddr>,
    found: Option<Instant>,
    failed: Option<(Instant, String)>,
    pending: bool,
}

impl Entry {
    fn younger_than(&self, age: Duration, now: Instant) -> bool {
        self.found.is_some_and(|found| now.saturating_duration_since(found) < age)
    }

    fn recent_failure(&self, now: Instant) -> Option<&str> {
        let (failed, reason) = self.failed.as_ref()?;
        (now.saturating_duration_since(*failed) < FAILED).then_some(reason)
    }
}

impl Default for CachingResolver {
    fn default() -> Self {
        Self::new(Box::new(|name, port| Ok((name, port).to_socket_addrs()?.collect())))
    }
}

impl CachingResolver {
    pub(crate) fn new(lookup: Box<Lookup>) -> Self {
        let cache = Cache { hosts: Mutex::default(), changed: Condvar::new(), lookup };
        Self { cache: Arc::new(cache), requests: Arc::default() }
    }

    /// The addresses of a name, waiting for them until `deadline` if none are known.
    fn addresses(&self, host: &Host, deadline: Option<Instant>) -> Result<Vec<SocketAddr>, Error> {
        let asked = Instant::now();
        let mut hosts = self.cache.lock();
        loop {
            let now = Instant::now();
            let entry = hosts.entry(host.clone()).or_default();
            if entry.younger_than(FRESH, now) {
                return Ok(entry.addresses.clone());
            }
            let failure = entry.recent_failure(now).map(str::to_owned);
            if failure.is_none() && !entry.pending {
                self.request(host.clone())?;
                entry.pending = true;
            }
            if entry.younger_than(USABLE, asked) {
                return Ok(entry.addresses.clone());
            }
            if let Some(reason) = failure {
                return Err(Error::Io(io::Error::other(reason)));
            }
            let left = deadline.map_or(USABLE, |deadline| deadline.saturating_duration_since(now));
            if left.is_zero() {
                return Err(Error::Timeout(Timeout::Resolve));
            }
            hosts = self.cache.changed.wait_timeout(hosts, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands a name to the lookup thread, which is started if need be.
    fn request(&self, host: Host) -> io::Result<()> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let host = match requests.as_ref().map(|sender| sender.send(host.clone())) {
            Some(Ok(())) => return Ok(()),
            // Not started yet, or it died.
            Some(Err(_)) | None => host,
        };
        let (sender, receiver) = channel();
        let cache = Arc::clone(&self.cache);
        without_signals(|| {
            thread::Builder::new()
                .name("wa-resolver".to_owned())
                .stack_size(STACK)
                .spawn(move || cache.serve(&receiver))
        })?;
        sender.send(host).map_err(io::Error::other)?;
        *requests = Some(sender);
        Ok(())
    }
}

/// Runs `start` with every signal blocked; a thread started meanwhile inherits that.
fn without_signals<R>(start: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let result = start();
    before.thread_set_mask()?;
    result
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, HashMap<Host, Entry>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lookup thread: until there is nobody left to ask.
    fn serve(&self, requests: &Receiver<Host>) {
        while let Ok(host) = requests.recv() {
            let result = (self.lookup)(&host.0, host.1);
            let now = Instant::now();
            let mut hosts = self.lock();
            let entry = hosts.entry(host).or_default();
            entry.pending = false;
            match result {
                Ok(addresses) if !addresses.is_empty() => {
                    entry.addresses = addresses;
                    entry.addresses.truncate(MAX_ADDRESSES);
                    entry.found = Some(now);
                    entry.failed = None;
                }
                Ok(_) => entry.failed = Some((now, "the name has no address".to_owned())),
                Err(error) => entry.failed = Some((now, error.to_string())),
            }
            drop(hosts);
            self.changed.notify_all();
        }
    }
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        guard::enter(Stage::Resolve);
        let plain = uri.scheme() == Some(&Scheme::HTTP);
        let name = uri.host().ok_or(Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let mut addresses = match literal(name) {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => self.addresses(&(name.to_ascii_lowercase(), port), guard::deadline())?,
        };
        // A token in clear never leaves this machine, whatever `localhost` is made to mean.
        if plain {
            addresses.retain(|address| address.ip().is_loopback());
        }
        let mut resolved = self.empty();
        for address in addresses {
            resolved.push(address);
        }
        if resolved.is_empty() {
            return Err(Error::HostNotFound);
        }
        guard::enter(Stage::Connect);
        Ok(resolved)
    }
}

/// The address a host is, when it is one: `127.0.0.1` or `[::1]`.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

impl fmt::Debug for CachingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingResolver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;
    use crate::guard::{Limits, supervise};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    const HERE: &str = "192.0.2.1:443";

    fn resolver(lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> CachingResolver {
        CachingResolver::new(Box::new(lookup))
    }

    fn resolve(resolver: &CachingResolver, uri: &str, limit: Duration) -> Result<Vec<SocketAddr>, Error> {
        let limits = Limits { connect: limit, total: limit };
        let timeout = NextTimeout::default();
        let ask = || resolver.resolve(&uri.parse().unwrap(), &Config::default(), timeout);
        supervise(&AtomicBool::new(false), None, limits, ask).0.map(|addresses| addresses.iter().copied().collect())
    }

    /// Pretends that everything known was learnt so long ago.
    fn age(resolver: &CachingResolver, by: Duration) {
        for entry in resolver.cache.lock().values_mut() {
            entry.found = entry.found.and_then(|found| found.checked_sub(by));
            entry.failed = entry.failed.take().and_then(|(failed, reason)| Some((failed.checked_sub(by)?, reason)));
        }
    }

    fn until(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(10), "it never happened");
            thread::yield_now();
        }
    }

    #[test]
    fn literal_addresses_need_no_lookup_and_no_thread() {
        let resolver = resolver(|_, _| panic!("looked up"));
        let second = Duration::from_secs(1);
        assert_eq!(resolve(&resolver, "https://192.0.2.1", second).unwrap(), [HERE.parse().unwrap()]);
        assert_eq!(
            resolve(&resolver, "https://[2001:db8::1]:8443", second).unwrap(),
            ["[2001:db8::1]:8443".parse().unwrap()]
        );
        assert!(resolver.requests.lock().unwrap().is_none());
    }

    #[test]
    fn many_threads_that_ask_at_once_cause_one_lookup() {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let resolver = resolver(move |_, _| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(vec![HERE.parse().unwrap()])
        });
        thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    assert_eq!(resolve(&resolver, "https://EXAMPLE.com", Duration::from_secs(10)).unwrap().len(), 1)
                });
            }
        });
        assert_eq!(resolve(&resolver, "https://example.com", Duration::from_secs(10)).unwrap().len(), 1);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_hanging_lookup_ends_at_the_deadline_and_its_late_result_is_used() {
        let (release, gate) = channel::<()>();
        let gate = Mutex::new(gate);
        let resolver = resolver(move |_, _| {
            let _ = gate.lock().unwrap().recv();
            Ok(vec![HERE.parse().unwrap()])
        });
        let start = Instant::now();
        let error = resolve(&resolver, "https://example.com", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::Timeout(Timeout::Resolve)));
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(release);
        assert_eq!(resolve(&resolver, "https://example.com", Duration::from_secs(10)).unwrap().len(), 1);
    }

    #[test]
    fn a_failure_is_told_at_once_and_soon_tried_again() {
        let works = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&works);
        let resolver = resolver(move |_, _| match switch.load(Ordering::SeqCst) {
            true => Ok(vec![HERE.parse().unwrap()]),
            false => Err(io::Error::other("no such name")),
        });
        let ten = Duration::from_secs(10);
        assert!(resolve(&resolver, "https://example.com", ten).unwrap_err().to_string().contains("no such name"));
        works.store(true, Ordering::SeqCst);
        assert!(resolve(&resolver, "https://example.com", ten).is_err(), "a failure counts for a second");
        age(&resolver, FAILED);
        assert_eq!(resolve(&resolver, "https://example.com", ten).unwrap().len(), 1);
    }

    #[test]
    fn old_addresses_are_used_while_new_ones_are_fetched_or_cannot_be() {
        let answers = Mutex::new(vec![Err(io::Error::other("down")), Ok("192.0.2.2:443"), Ok(HERE)]);
        let resolver = resolver(move |_, _| {
            let answer = answers.lock().unwrap().pop().unwrap_or(Err(io::Error::other("down")));
            answer.map(|address| vec![address.parse().unwrap()])
        });
        let ask = || {
            resolve(&resolver, "https://example.com", Duration::from_secs(10)).map(|addresses| addresses[0].to_string())
        };
        assert_eq!(ask().unwrap(), HERE);
        age(&resolver, FRESH);
        assert_eq!(ask().unwrap(), HERE, "the old one at once");
        until(|| ask().unwrap() == "192.0.2.2:443");
        // Now the name server is down.
        age(&resolver, FRESH);
        assert_eq!(ask().unwrap(), "192.0.2.2:443");
        until(|| resolver.cache.lock().values().all(|entry| entry.failed.is_some()));
        assert_eq!(ask().unwrap(), "192.0.2.2:443");
        // Too old to be trusted.
        age(&resolver, USABLE);
        assert!(ask().is_err());
    }

    #[test]
    fn a_name_without_an_address_is_an_error() {
        let resolver = resolver(|_, _| Ok(Vec::new()));
        let error = resolve(&resolver, "https://example.com", Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("no address"), "{error}");
    }

    #[test]
    fn in_clear_only_loopback_addresses_are_used() {
        let resolver = resolver(|_, port| {
            Ok(vec![
                SocketAddr::new("192.0.2.1".parse().unwrap(), port),
                SocketAddr::new("127.0.0.1".parse().unwrap(), port),
            ])
        });
        let ten = Duration::from_secs(10);
        assert_eq!(resolve(&resolver, "http://localhost:81", ten).unwrap(), ["127.0.0.1:81".parse().unwrap()]);
        assert!(resolve(&resolver, "http://192.0.2.1", ten).is_err());
    }

    #[test]
    fn the_lookup_thread_blocks_every_signal_and_its_starter_keeps_its_mask() {
        let (sender, masks) = channel();
        let sender = Mutex::new(sender);
        let resolver = resolver(move |_, _| {
            sender.lock().unwrap().send(SigSet::thread_get_mask().unwrap()).unwrap();
            Ok(vec![HERE.parse().unwrap()])
        });
        let before = SigSet::thread_get_mask().unwrap();
        resolve(&resolver, "https://example.com", Duration::from_secs(10)).unwrap();
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        let mask = masks.recv().unwrap();
        for signal in
            [nix::sys::signal::SIGTERM, nix::sys::signal::SIGUSR1, nix::sys::signal::SIGALRM, nix::sys::signal::SIGHUP]
        {
            assert!(mask.contains(signal) && !before.contains(signal));
        }
    }

    #[test]
    fn the_thread_ends_with_its_resolver() {
        let resolver = resolver(|_, _| Ok(vec![HERE.parse().unwrap()]));
        resolve(&resolver, "https://example.com", Duration::from_secs(10)).unwrap();
        let cache = Arc::downgrade(&resolver.cache);
        drop(resolver);
        until(|| cache.strong_count() == 0);
    }
}
