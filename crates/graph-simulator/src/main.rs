//! The simulator as a program, to rehearse a campaign at no cost.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use graph_simulator::{Options, Simulator, WebhookPlan};
use lexopt::prelude::*;

const HELP: &str = "\
graph-simulator: a stand-in for Meta's Graph API. Nothing sent to it reaches anybody.

Usage: graph-simulator [options]

  --listen ADDRESS           plain HTTP (default 127.0.0.1:8090; \"off\" for none)
  --tls-listen ADDRESS       HTTPS with a throwaway certificate (default: none)
  --tls-dir DIR              where ca.pem is written (default: a temporary directory)
  --allow-remote             allow addresses that other machines can reach
  --latency-ms N             time that every send takes (default 0)
  --latency-jitter-ms N      random time on top, 0 to N (default 0)
  --strict                   refuse phone numbers and templates that are not registered
  --messages-per-second N    refuse above N in a second per number (Meta: 80)
  --daily-recipients N       refuse above N unique recipients in 24 hours
  --pair-limit               refuse above one message per 6 s and recipient after a burst of 45
  --count-only               count what exceeds these limits, refuse nothing
  --throttle-status N        HTTP status of throttling errors (default 400)
  --keep-messages N          how many requests /_control/messages can show (default 1000)
  --idle-timeout-ms N        close connections idle for this long (default: never)
  --app-secret SECRET        make signed webhooks: each message is sent, delivered and read
  --webhook-url URL          POST them there; without it they wait to be taken
  --threads N                worker threads (default 2)
  --help, --version

GET / on the plain address lists the control API.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            drop(writeln!(io::stderr(), "graph-simulator: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let Some(options) = parse(std::env::args_os().skip(1))? else {
        return Ok(());
    };
    // A thousand senders need a thousand descriptors; where the limit cannot be raised it stays.
    drop(rlimit::increase_nofile_limit(u64::MAX));
    let signals = Signals::new().map_err(|error| format!("cannot watch signals: {error}"))?;
    let simulator = Simulator::start(options).map_err(|error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })?;
    if simulator.address().is_some() {
        say(format_args!("Graph API stand-in on {}", simulator.url()))?;
    }
    if let (Some(url), Some(ca)) = (simulator.tls_url(), simulator.ca_pem_path()) {
        say(format_args!("Graph API stand-in on {url} (trust {})", ca.display()))?;
    }
    signals.wait();
    let stats = simulator.stats();
    simulator.stop();
    say(format_args!(
        "stopped: {} messages accepted, {} of them distinct, {} limit violations",
        stats.accepted,
        stats.accepted_distinct,
        stats.violations()
    ))
}

fn say(line: impl Display) -> Result<(), String> {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// SIGINT and SIGTERM, watched from the start so that none is missed.
struct Signals {
    runtime: tokio::runtime::Runtime,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (interrupt, terminate) = {
            let _context = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        Ok(Self { runtime, interrupt, terminate })
    }

    fn wait(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        });
    }
}

/// Reads the command line; `None` when it only asked for help or the version.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Options>, String> {
    let mut options = Options { listen: Some(([127, 0, 0, 1], 8090).into()), ..Options::default() };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Long("listen") => {
                let text: String = value(&mut parser, "listen")?;
                options.listen = match text.as_str() {
                    "off" => None,
                    text => Some(
                        text.parse()
                            .map_err(|_| format!("--listen takes an address like 127.0.0.1:8090, not \"{text}\""))?,
                    ),
                };
            }
            Long("tls-listen") => options.tls_listen = Some(value(&mut parser, "tls-listen")?),
            Long("tls-dir") => {
                let dir = parser.value().map_err(|error| error.to_string())?;
                options.tls_dir = Some(dir.into());
            }
            Long("allow-remote") => options.allow_remote = true,
            Long("latency-ms") => options.latency.ms = value(&mut parser, "latency-ms")?,
            Long("latency-jitter-ms") => {
                options.latency.jitter_ms = value(&mut parser, "latency-jitter-ms")?;
            }
            Long("strict") => options.strict = true,
            Long("messages-per-second") => {
                options.default_limits.messages_per_second = Some(value(&mut parser, "messages-per-second")?);
            }
            Long("daily-recipients") => {
                options.default_limits.daily_recipients = Some(value(&mut parser, "daily-recipients")?);
            }
            Long("pair-limit") => options.default_limits.pair = true,
            Long("count-only") => options.default_limits.count_only = true,
            Long("throttle-status") => {
                options.throttle_http_status = value(&mut parser, "throttle-status")?;
            }
            Long("keep-messages") => options.keep_messages = value(&mut parser, "keep-messages")?,
            Long("idle-timeout-ms") => {
                let ms = value(&mut parser, "idle-timeout-ms")?;
                options.idle_timeout = Some(Duration::from_millis(ms));
            }
            Long("app-secret") => {
                webhooks(&mut options).app_secret = value(&mut parser, "app-secret")?;
            }
            Long("webhook-url") => {
                webhooks(&mut options).target = Some(value(&mut parser, "webhook-url")?);
            }
            Long("threads") => options.worker_threads = value(&mut parser, "threads")?,
            Short('h') | Long("help") => {
                say(HELP.trim_end())?;
                return Ok(None);
            }
            Short('V') | Long("version") => {
                say(concat!("graph-simulator ", env!("CARGO_PKG_VERSION")))?;
                return Ok(None);
            }
            other => return Err(format!("{}; see --help", other.unexpected())),
        }
    }
    Ok(Some(options))
}

fn webhooks(options: &mut Options) -> &mut WebhookPlan {
    options.webhooks.get_or_insert_default()
}

fn value<T: FromStr>(parser: &mut lexopt::Parser, name: &str) -> Result<T, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("--{name} does not take {value:?}; see --help"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parsed(line: &str) -> Result<Option<Options>, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_command_line_sets_the_options() {
        let options = parsed(
            "--listen 127.0.0.1:0 --tls-listen [::1]:0 --tls-dir /tmp/x --latency-ms 120 \
             --latency-jitter-ms=40 --strict --messages-per-second 80 --daily-recipients 1000 \
             --pair-limit --count-only --throttle-status 429 --idle-timeout-ms 5000 --app-secret s \
             --webhook-url http://127.0.0.1:1/x",
        )
        .unwrap()
        .unwrap();
        assert_eq!((options.latency.ms, options.latency.jitter_ms), (120, 40));
        assert_eq!(options.tls_listen.unwrap().to_string(), "[::1]:0");
        assert_eq!(options.default_limits.messages_per_second, Some(80));
        assert_eq!(options.throttle_http_status, 429);
        assert!(options.strict && options.default_limits.pair && options.default_limits.count_only);
        let plan = options.webhooks.unwrap();
        assert_eq!((plan.app_secret.as_str(), plan.target.as_deref()), ("s", Some("http://127.0.0.1:1/x")));
        assert_eq!(options.idle_timeout, Some(Duration::from_secs(5)));
    }

    #[test]
    fn plain_http_can_be_off() {
        assert_eq!(parsed("--listen off").unwrap().unwrap().listen, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (line, word) in [
            ("--latency-ms soon", "latency-ms"),
            ("--listen nowhere", "nowhere"),
            ("--speed", "speed"),
            ("extra", "extra"),
        ] {
            let message = parsed(line).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
    }
}
