//! The blocking client: one call, one answer about one message, in bounded time and memory.
//!
//! One client serves any number of threads, which share its connections. What it promises beyond an ordinary HTTP client:
//!
//! - A call says truthfully whether its request may have left ([`Outcome::NotSent`] or [`Outcome::Unknown`]), and another
//!   thread can see it, or take the call back, while it runs ([`Call::written`]).
//! - A call ends by its deadline whatever the server does. No thread is started for it.
//! - Nothing is ever sent elsewhere: redirects are not followed, proxy variables of the environment are not read, and plain
//!   HTTP goes to this machine only.
//! - The token appears in one place, the Authorization header, and in no error or formatted value.
//!
//! A client must not be carried over a fork.

use crate::gate::Gate;
use crate::guard::{self, Limits, Stage};
use crate::outcome::{Outcome, Phase, TransportError, parse_cut_response, parse_response};
use crate::pacing::Pace;
use crate::resolver::{CachingResolver, literal};
use crate::transport::GuardedConnector;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, HeaderValue, Request, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Error};

/// Longest answer that is read. Meta's have less than a kilobyte.
const MAX_ANSWER: usize = 64 * 1024;
/// Size of a connection's buffers, one in each direction. ureq's own are eight times as large, which a thousand feel.
const BUFFER: usize = 16 * 1024;
/// An idle connection that is older is closed instead of used again: the other side may just be closing it.
const MAX_IDLE_AGE: Duration = Duration::from_secs(15);
/// No limit of time is longer, whatever is configured.
const LONGEST_LIMIT: Duration = Duration::from_secs(3600);

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where Graph is: `https://graph.facebook.com`, a path behind it allowed. `http://` for loopback hosts only.
    pub base_url: String,
    /// The API version: `v25.0`.
    pub version: String,
    /// PEM certificates to trust *instead of* the built-in Mozilla roots.
    pub ca_pem: Option<Vec<u8>>,
    /// Limit for name lookup, connection and TLS handshake together.
    pub connect_timeout: Duration,
    /// Limit for the whole call, from start to the last byte of the answer.
    pub request_timeout: Duration,
    /// The User-Agent header.
    pub user_agent: String,
    /// How many idle connections are kept; as many as there are threads.
    pub max_idle: usize,
}

/// Why a client cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not a URL, or one with parts that have no place in it.
    #[error("\"{url}\" is not a usable address: {reason}")]
    BadUrl {
        /// What was given, without credentials.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Plain HTTP to another machine.
    #[error("plain http is for this machine only, not for \"{0}\": use https")]
    Insecure(String),
    /// Not an API version.
    #[error("\"{0}\" is not an API version; write it like v25.0")]
    BadVersion(String),
    /// The certificates to trust cannot be read.
    #[error("the certificates to trust cannot be used: {0}")]
    BadCertificates(String),
    /// A User-Agent that no header can carry.
    #[error("the user agent contains characters that a header cannot carry")]
    BadUserAgent,
    /// A limit of no time at all.
    #[error("{0} must be longer than 0")]
    ZeroTimeout(&'static str),
}

/// One message to send.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Id of the sending phone number, which is not the number itself.
    pub phone_number_id: &'a str,
    /// The access token.
    pub token: &'a str,
    /// The JSON body, from [`crate::message::template_message`].
    pub body: &'a str,
    /// Must be false when the call starts. The client swaps it to true just before the first byte of the request goes out,
    /// so another thread that reads false knows that nothing was written so far.
    ///
    /// Whoever swaps it first owns the call. A thread that swaps it to true and gets false back has *taken the call back*:
    /// nothing was and nothing will be written, and the call ends with [`TransportError::Revoked`].
    pub written: &'a AtomicBool,
    /// The number's gate and its rate; `None`: at once.
    pub gate: Option<(&'a Gate, Pace)>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What became of the message.
    pub outcome: Outcome,
    /// The HTTP status, when an answer came.
    pub http_status: Option<u16>,
    /// From the start of the call to its end.
    pub latency: Duration,
    /// The id under which Meta's support finds the call.
    pub fbtrace_id: Option<String>,
    /// The API version that answered. Meta serves an expired version by the oldest living one without a word.
    pub api_version: Option<String>,
    /// How long a `Retry-After` header asks to wait.
    pub retry_after: Option<Duration>,
}

/// A blocking client, cheap to clone.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    connector: GuardedConnector,
    resolver: CachingResolver,
    /// Base address and version: `https://graph.facebook.com/v25.0`.
    root: Arc<str>,
    limits: Limits,
}

/// An answer as it came, its body perhaps not in full.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Result<Vec<u8>, Error>,
}

impl Client {
    /// A client. Opens no connection and starts no thread.
    ///
    /// # Errors
    /// [`ClientError`] for an address, version, certificate, limit or User-Agent that cannot be used.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let base = base_url(&config.base_url)?;
        if !is_version(&config.version) {
            return Err(ClientError::BadVersion(config.version));
        }
        if HeaderValue::from_str(&config.user_agent).is_err() {
            return Err(ClientError::BadUserAgent);
        }
        for (limit, name) in [(config.connect_timeout, "connect_timeout"), (config.request_timeout, "request_timeout")]
        {
            if limit.is_zero() {
                return Err(ClientError::ZeroTimeout(name));
            }
        }
        let limits = Limits {
            connect: config.connect_timeout.min(LONGEST_LIMIT),
            total: config.request_timeout.min(LONGEST_LIMIT),
        };
        let roots = match &config.ca_pem {
            Some(pem) => trusted(pem)?,
            None => RootCerts::WebPki,
        };
        // Limits by phase only: with one for the whole call ureq would look up names in a new thread each time. The guard
        // cuts every phase to what is left of the call.
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(config.user_agent)
            .accept("application/json")
            .accept_encoding("")
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_response_header_size(BUFFER)
            .max_idle_connections(config.max_idle)
            .max_idle_connections_per_host(config.max_idle)
            .max_idle_age(MAX_IDLE_AGE)
            .timeout_connect(Some(limits.connect))
            .timeout_send_request(Some(limits.total))
            .timeout_send_body(Some(limits.total))
            .timeout_recv_response(Some(limits.total))
            .timeout_recv_body(Some(limits.total))
            .build();
        let connector = GuardedConnector::default();
        let resolver = CachingResolver::default();
        Ok(Self {
            agent: Agent::with_parts(agent, connector.clone(), resolver.clone()),
            connector,
            resolver,
            root: format!("{base}/{}", config.version).into(),
            limits,
        })
    }

    /// The same client with a connection of its own, for one thread among many: the pool that clones share is searched
    /// under one lock, twice a call, which a thousand threads feel. TLS configuration and name cache stay shared.
    #[must_use]
    pub fn for_one_thread(&self) -> Self {
        let config = self.agent.config().clone();
        Self { agent: Agent::with_parts(config, self.connector.clone(), self.resolver.clone()), ..self.clone() }
    }

    /// Sends a message and waits for what becomes of it, within the limits. Never panics.
    #[must_use]
    pub fn send(&self, call: &Call<'_>) -> Attempt {
        let start = Instant::now();
        let request = match self.request(call) {
            Ok(request) => request,
            Err(problem) => {
                return Attempt::without_answer(Outcome::NotSent(TransportError::BadRequest(problem)), start);
            }
        };
        // A panic here would be a bug of a library: the message's fate is known all the same, and the thread lives on.
        let exchange = || catch_unwind(AssertUnwindSafe(|| self.exchange(request)));
        let (result, stage) = guard::supervise(call.written, call.gate, self.limits, exchange);
        match result {
            Ok(Ok(answer)) => self.attempt(answer, stage, start),
            Ok(Err(error)) => Attempt::without_answer(self.failed(stage, error), start),
            Err(_) => {
                let error = Error::Io(std::io::Error::other("internal error of the HTTP library"));
                Attempt::without_answer(self.failed(stage, error), start)
            }
        }
    }

    /// Breaks off every call that is under way, closes all connections and refuses new calls. For a host that must stop at once:
    /// calls that have written end as unknown.
    pub fn shutdown(&self) {
        self.agent.clone().shutdown();
    }

    fn request<'a>(&self, call: &Call<'a>) -> Result<Request<&'a str>, String> {
        let id = path_segment(call.phone_number_id).ok_or("the phone number id is empty")?;
        let uri: Uri = format!("{}/{id}/messages", self.root).parse().map_err(|_| "the phone number id is too long")?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", call.token))
            .map_err(|_| "the access token contains characters that a header cannot carry")?;
        bearer.set_sensitive(true);
        if call.token.trim().is_empty() {
            return Err("the access token is empty".to_owned());
        }
        Request::post(uri)
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(call.body)
            .map_err(|error| error.to_string())
    }

    fn exchange(&self, request: Request<&str>) -> Result<Answer, Error> {
        let response = self.agent.run(request)?;
        let (parts, mut body) = response.into_parts();
        let mut content = Vec::new();
        // One byte more than allowed, to see that there is more. Reading to the end gives the connection back.
        let body = match body.as_reader().take(MAX_ANSWER as u64 + 1).read_to_end(&mut content) {
            Ok(_) => Ok(content),
            Err(error) => Err(Error::from(error)),
        };
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    fn attempt(&self, answer: Answer, stage: Stage, start: Instant) -> Attempt {
        let outcome = match answer.body {
            Ok(body) if body.len() <= MAX_ANSWER => parse_response(answer.status, &body),
            Ok(_) => parse_cut_response(
                answer.status,
                TransportError::Answer { http_status: answer.status, problem: format!("more than {MAX_ANSWER} bytes") },
            ),
            Err(error) => parse_cut_response(answer.status, self.reason(stage, error)),
        };
        let header = |name: &str| {
            let value = answer.headers.get(name)?.to_str().ok()?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let fbtrace_id = match &outcome {
            Outcome::Rejected(error) => error.fbtrace_id.clone(),
            _ => None,
        };
        Attempt {
            http_status: Some(answer.status),
            latency: start.elapsed(),
            fbtrace_id: fbtrace_id.or_else(|| header("x-fb-trace-id")),
            api_version: header("facebook-api-version"),
            retry_after: header("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs),
            outcome,
        }
    }

    /// The outcome of a call that brought no answer.
    fn failed(&self, stage: Stage, error: Error) -> Outcome {
        let reason = self.reason(stage, error);
        if stage.is_written() { Outcome::Unknown(reason) } else { Outcome::NotSent(reason) }
    }

    fn reason(&self, stage: Stage, error: Error) -> TransportError {
        let timed_out = match &error {
            Error::Timeout(_) => true,
            Error::Io(error) => error.kind() == ErrorKind::TimedOut,
            _ => false,
        };
        let phase = match stage {
            Stage::Prepare | Stage::Resolve => Phase::Resolve,
            Stage::Connect | Stage::Tls => Phase::Connect,
            Stage::Revoked | Stage::Written => Phase::Write,
            Stage::Read => Phase::Read,
        };
        if timed_out {
            let limit = match phase {
                Phase::Resolve | Phase::Connect => self.limits.connect.min(self.limits.total),
                Phase::Write | Phase::Read => self.limits.total,
            };
            return TransportError::Timeout { phase, limit };
        }
        let text = match error {
            Error::Io(error) => error.to_string(),
            Error::HostNotFound => "the name has no usable address".to_owned(),
            error => error.to_string(),
        };
        match stage {
            Stage::Prepare => TransportError::BadRequest(text),
            Stage::Resolve => TransportError::Resolve(text),
            Stage::Connect => TransportError::Connect(text),
            Stage::Tls => TransportError::Tls(text),
            Stage::Revoked => TransportError::Revoked,
            Stage::Written | Stage::Read => TransportError::Broken(text),
        }
    }
}

impl Attempt {
    fn without_answer(outcome: Outcome, start: Instant) -> Self {
        Self {
            outcome,
            http_status: None,
            latency: start.elapsed(),
            fbtrace_id: None,
            api_version: None,
            retry_after: None,
        }
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("phone_number_id", &self.phone_number_id)
            .field("token", &"***")
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("written", &self.written)
            .finish()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("root", &self.root).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The base address without a slash at its end, if it is one that a token may be sent to.
fn base_url(text: &str) -> Result<String, ClientError> {
    let uri: Option<Uri> = text.trim().parse().ok();
    let authority = uri.as_ref().and_then(|uri| uri.authority()).map_or("", |authority| authority.as_str());
    // Whatever stands before an @ may be a password: it is never shown.
    let bad = |reason| {
        let url = if text.contains('@') { "…".to_owned() } else { text.chars().take(200).collect() };
        Err(ClientError::BadUrl { url, reason })
    };
    let Some(uri) = &uri else {
        return bad("it is not a URL");
    };
    let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
        return bad("it names no host");
    };
    if authority.contains('@') {
        return bad("credentials have no place in it");
    }
    if uri.query().is_some() || text.contains('#') {
        return bad("query and fragment have no place in it");
    }
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(host) => {}
        Some("http") => return Err(ClientError::Insecure(host.to_owned())),
        _ => return bad("it must begin with https://"),
    }
    Ok(text.trim().trim_end_matches('/').to_owned())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || literal(host).is_some_and(|address| address.is_loopback())
}

/// `v` and two numbers.
fn is_version(text: &str) -> bool {
    let is_number = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    text.strip_prefix('v')
        .and_then(|numbers| numbers.split_once('.'))
        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// Certificates to trust, each of which must be one.
fn trusted(pem: &[u8]) -> Result<RootCerts, ClientError> {
    let bad = |reason: String| ClientError::BadCertificates(reason);
    let mut store = RootCertStore::empty();
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        certificates.push(Certificate::from_der(&certificate).to_owned());
        store.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if certificates.is_empty() {
        return Err(bad("there is no certificate in PEM form".to_owned()));
    }
    Ok(RootCerts::from(certificates))
}

/// A text as one segment of a path: whatever is not a letter, digit, hyphen or underscore is percent-encoded. `None` when empty.
fn path_segment(text: &str) -> Option<String> {
    let encode = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    (!text.is_empty()).then(|| text.bytes().map(encode).collect())
}
