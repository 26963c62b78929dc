//! What a simulator is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::webhooks::plan::WebhookPlan;

/// How to start a [`Simulator`](crate::Simulator). `Options::default()` listens on a free loopback
/// port without TLS, in open mode, with no latency.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address for plain HTTP; port 0 takes a free one. `None` leaves plain HTTP out.
    pub listen: Option<SocketAddr>,
    /// Address for HTTPS; `None` leaves TLS out.
    pub tls_listen: Option<SocketAddr>,
    /// Where `ca.pem` is written when TLS is on. `None` makes a directory under the system's
    /// temporary one, which goes away with the simulator.
    pub tls_dir: Option<PathBuf>,
    /// Allows addresses that other machines can reach. The control API stays loopback-only even then.
    pub allow_remote: bool,
    /// Threads of the simulator's own runtime.
    pub worker_threads: usize,
    /// `false` (open mode): any phone number id, token and template is taken, except that what has
    /// been registered is enforced. `true`: what is not registered is refused, as Meta would.
    pub strict: bool,
    /// Time between the arrival of a send and its answer.
    pub latency: Latency,
    /// Limits of accounts that are not registered, or registered without limits of their own.
    pub default_limits: Limits,
    /// HTTP status of throttling errors (4, 80007, 130429, 131048, 131056, 133016). Meta's error page
    /// said 400 while it had such a column, older pages and observers say 429.
    pub throttle_http_status: u16,
    /// Error code for a recipient above the limit of unique recipients in 24 hours. Meta documents none.
    pub daily_limit_code: i64,
    /// Version used for a URL without one, as set in Meta's app dashboard; written like `v25.0`.
    pub default_version: String,
    /// Largest request body in bytes; a larger one is answered with HTTP 413.
    pub max_body_bytes: usize,
    /// How many of the last requests are kept in full for inspection.
    pub keep_messages: usize,
    /// How many arrival times are kept per phone number (8 bytes each); the oldest go first.
    pub keep_arrivals: usize,
    /// How many distinct ids the ledger counts; messages beyond are counted, but not by id.
    pub max_tracked_ids: usize,
    /// Closes a connection that has carried no request for this long, as a load balancer would.
    /// `None` keeps idle connections for ever.
    pub idle_timeout: Option<Duration>,
    /// Which webhooks are made, if any.
    pub webhooks: Option<WebhookPlan>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            tls_listen: None,
            tls_dir: None,
            allow_remote: false,
            worker_threads: 2,
            strict: false,
            latency: Latency::default(),
            default_limits: Limits::default(),
            throttle_http_status: 400,
            daily_limit_code: 131_048,
            default_version: "v25.0".to_owned(),
            max_body_bytes: 1 << 20,
            keep_messages: 1_000,
            keep_arrivals: 1_000_000,
            max_tracked_ids: 4_000_000,
            idle_timeout: None,
            webhooks: None,
        }
    }
}

/// Time that a send takes: `ms` plus a uniformly distributed `0..=jitter_ms`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Milliseconds that every answer takes at least.
    pub ms: u32,
    /// Milliseconds that it may take in addition.
    #[serde(default)]
    pub jitter_ms: u32,
}

impl Latency {
    /// A fixed latency in milliseconds.
    pub fn fixed(ms: u32) -> Self {
        Self { ms, jitter_ms: 0 }
    }
}
