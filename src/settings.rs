//! The settings of `whatsapp_pg` (docs/settings.md): private statics, one `init`, and [`Settings`], a plain value that
//! the rest of the code works with. Nothing else reads a GUC, so sender threads cannot (a GUC read off the main
//! thread can crash the cluster), and `wa_process_batch` can hand the caller's values to its worker.

use std::ffi::{CStr, CString};
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};
use serde::{Deserialize, Serialize};

/// Whether messages leave at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum, Serialize, Deserialize)]
pub enum Mode {
    /// Messages leave.
    #[name = c"live"]
    Live,
    /// Everything works, nothing leaves.
    #[name = c"off"]
    Off,
}

static MODE: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::Live);
static ONLY_TO: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"*"));
static GRAPH_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"https://graph.facebook.com"));
/// v25.0 is served until 29 July 2028 (Meta: Graph API changelog).
static GRAPH_VERSION: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"v25.0"));
static CA_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static NOTIFY_CHANNEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// 64 calls in flight carry 320 messages/s at 200 ms a call: four numbers at Meta's default 80/s.
static SENDER_THREADS: GucSetting<i32> = GucSetting::<i32>::new(64);
static BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(100);
static POLL_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10);
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5_000);
static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
static UNKNOWN_WAIT: GucSetting<i32> = GucSetting::<i32>::new(300);
static MAX_RETRIES: GucSetting<i32> = GucSetting::<i32>::new(3);
static RETRY_DELAY: GucSetting<i32> = GucSetting::<i32>::new(300);

/// All settings at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether messages leave at all.
    pub mode: Mode,
    /// When not empty, only these numbers (E.164) are written to.
    pub only_to: Vec<String>,
    /// Where the Graph API is.
    pub graph_url: String,
    /// Its version, `v25.0`.
    pub graph_version: String,
    /// PEM file of the certificate authority to trust instead of the built-in ones.
    pub ca_file: Option<String>,
    /// File with the encryption keys, instead of the table.
    pub key_file: Option<String>,
    /// Where NOTIFY tells of holds; None: nowhere.
    pub notify_channel: Option<String>,
    /// Calls in flight at most.
    pub sender_threads: usize,
    /// Rows per organizer and claim at most.
    pub batch_size: u32,
    /// The worker looks at the queue at least this often.
    pub poll_interval: Duration,
    /// DNS, TCP and TLS together.
    pub connect_timeout: Duration,
    /// A whole call, from looking up the name to the last byte read.
    pub request_timeout: Duration,
    /// How long an unknown outcome waits for a webhook.
    pub unknown_wait: Duration,
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// Wait before the first retry.
    pub retry_delay: Duration,
}

impl Settings {
    /// The values in force in this process.
    pub fn current() -> Self {
        Self {
            mode: MODE.get(),
            only_to: list(&ONLY_TO),
            graph_url: text(&GRAPH_URL),
            graph_version: text(&GRAPH_VERSION),
            ca_file: optional(&CA_FILE),
            key_file: optional(&KEY_FILE),
            notify_channel: optional(&NOTIFY_CHANNEL),
            sender_threads: SENDER_THREADS.get().unsigned_abs() as usize,
            batch_size: BATCH_SIZE.get().unsigned_abs(),
            poll_interval: Duration::from_secs(POLL_INTERVAL.get().unsigned_abs().into()),
            connect_timeout: Duration::from_millis(CONNECT_TIMEOUT.get().unsigned_abs().into()),
            request_timeout: Duration::from_millis(REQUEST_TIMEOUT.get().unsigned_abs().into()),
            unknown_wait: Duration::from_secs(UNKNOWN_WAIT.get().unsigned_abs().into()),
            max_retries: MAX_RETRIES.get().unsigned_abs(),
            retry_delay: Duration::from_secs(RETRY_DELAY.get().unsigned_abs().into()),
        }
    }
}

/// Where the keys lie; read by itself because secrets are handled outside the worker too.
pub fn key_file() -> Option<String> {
    optional(&KEY_FILE)
}

/// Whether the worker serves the database of this name.
pub fn serves_database(name: &str) -> bool {
    list(&DATABASES).iter().any(|entry| entry == "*" || entry == name)
}

fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().map(|value| value.to_string_lossy().trim().to_owned()).unwrap_or_default()
}

fn optional(setting: &GucSetting<Option<CString>>) -> Option<String> {
    Some(text(setting)).filter(|value| !value.is_empty())
}

fn list(setting: &GucSetting<Option<CString>>) -> Vec<String> {
    text(setting)
        .split([',', ' ', '\n', '\t'])
        .map(|entry| entry.trim_matches('"').to_owned())
        .filter(|entry| !entry.is_empty())
        .collect()
}

/// Defines all settings and reserves the prefix. SUSET settings can also be set for one database
/// (`ALTER DATABASE staging SET whatsapp_pg.mode = off`), and only by a superuser or a role granted SET on them.
pub fn init() {
    let superuser = GucContext::Suset;
    let plain = GucFlags::default();
    let hidden = GucFlags::SUPERUSER_ONLY;
    GucRegistry::define_enum_guc(
        c"whatsapp_pg.mode",
        c"live sends; off queues and records everything but sends nothing.",
        c"",
        &MODE,
        superuser,
        plain,
    );
    strings(&[
        (
            c"whatsapp_pg.only_to",
            c"Numbers (E.164, comma-separated) that may be written to; everything else stays queued. Empty: everybody.",
            &ONLY_TO,
            plain,
        ),
        (c"whatsapp_pg.graph_url", c"Base URL of the Graph API.", &GRAPH_URL, plain),
        (c"whatsapp_pg.graph_version", c"Version of the Graph API, as it stands in the URL.", &GRAPH_VERSION, plain),
        (
            c"whatsapp_pg.ca_file",
            c"PEM file of the certificate authority to trust; empty: the built-in ones.",
            &CA_FILE,
            hidden,
        ),
        (
            c"whatsapp_pg.key_file",
            c"File with the keys that encrypt tokens; empty: the keys lie in the table whatsapp_keys.",
            &KEY_FILE,
            hidden,
        ),
        (
            c"whatsapp_pg.notify_channel",
            c"Channel on which NOTIFY tells of holds; empty: none. Everybody who can connect can listen.",
            &NOTIFY_CHANNEL,
            hidden,
        ),
    ]);
    GucRegistry::define_string_guc(
        c"whatsapp_pg.databases",
        c"Databases the worker serves, comma-separated; * serves all that have the extension.",
        c"",
        &DATABASES,
        GucContext::Sighup,
        plain,
    );
    integers(&[
        (
            c"whatsapp_pg.sender_threads",
            c"Calls to the Graph API in flight at most, per database.",
            &SENDER_THREADS,
            1,
            4096,
            plain,
        ),
        (
            c"whatsapp_pg.batch_size",
            c"Messages claimed for one organizer at a time at most.",
            &BATCH_SIZE,
            1,
            10_000,
            plain,
        ),
        (
            c"whatsapp_pg.poll_interval",
            c"The worker looks at the queue at least this often.",
            &POLL_INTERVAL,
            1,
            3_600,
            GucFlags::UNIT_S,
        ),
        (
            c"whatsapp_pg.connect_timeout",
            c"Time for DNS, TCP and TLS of one call.",
            &CONNECT_TIMEOUT,
            10,
            600_000,
            GucFlags::UNIT_MS,
        ),
        (
            c"whatsapp_pg.request_timeout",
            c"Time for one whole call, from looking up the name to the last byte read.",
            &REQUEST_TIMEOUT,
            10,
            600_000,
            GucFlags::UNIT_MS,
        ),
        (
            c"whatsapp_pg.unknown_wait",
            c"How long a message of unknown outcome waits for a status webhook before the organizer's policy applies.",
            &UNKNOWN_WAIT,
            1,
            604_800,
            GucFlags::UNIT_S,
        ),
        (
            c"whatsapp_pg.max_retries",
            c"Retries of a transient error after the first attempt.",
            &MAX_RETRIES,
            0,
            100,
            plain,
        ),
        (
            c"whatsapp_pg.retry_delay",
            c"Wait before the first retry of a transient error; it doubles with each further one.",
            &RETRY_DELAY,
            1,
            86_400,
            GucFlags::UNIT_S,
        ),
    ]);
    // SAFETY: called once from _PG_init on the main thread with a static C string.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"whatsapp_pg".as_ptr()) };
}

type StringSetting = (&'static CStr, &'static CStr, &'static GucSetting<Option<CString>>, GucFlags);

fn strings(settings: &[StringSetting]) {
    for &(name, description, setting, flags) in settings {
        GucRegistry::define_string_guc(name, description, c"", setting, GucContext::Suset, flags);
    }
}

type IntegerSetting = (&'static CStr, &'static CStr, &'static GucSetting<i32>, i32, i32, GucFlags);

fn integers(settings: &[IntegerSetting]) {
    for &(name, description, setting, min, max, flags) in settings {
        GucRegistry::define_int_guc(name, description, c"", setting, min, max, GucContext::Suset, flags);
    }
}
