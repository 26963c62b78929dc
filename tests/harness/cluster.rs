//! Temporary clusters: own directory, own socket, no TCP port, gone with the test.
//!
//! `initdb` runs once per test run; clusters are copies of its result. Copies share the system identifier;
//! [`Builder::own_identity`] asks for a fresh one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use graph_simulator::Simulator;

use crate::database::Database;
use crate::keeper;
use crate::processes::{is_alive, parent_of};
use crate::programs::{finish, programs};
use crate::scratch;
use crate::session::Session;
use crate::wait::{PATIENCE, wait_until};
use crate::wall_clock::WallClock;

/// The port only names the socket file: the directory is the cluster's own, so it cannot collide.
pub(crate) const PORT: u16 = 5432;

/// Settings of every cluster; a test's own come later and win. Durability is off because a killed *process*
/// loses nothing that it handed to the kernel; tests about disks turn it on.
/// No test must ever reach the real Graph API: unless told otherwise, messages go where nobody listens.
const SETTINGS: [(&str, &str); 11] = [
    ("whatsapp_pg.graph_url", "'http://127.0.0.1:1'"),
    ("listen_addresses", "''"),
    ("fsync", "off"),
    ("max_connections", "60"),
    ("max_worker_processes", "64"),
    ("shared_buffers", "64MB"),
    ("max_wal_size", "2GB"),
    ("autovacuum_naptime", "5s"),
    ("log_min_messages", "info"),
    ("log_line_prefix", "'%m [%p] %b %d: '"),
    ("log_timezone", "'UTC'"),
];

/// How to stop a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Disconnect everybody and write a checkpoint (SIGINT).
    Fast,
    /// As in a crash: no checkpoint, recovery at the next start (SIGQUIT).
    Immediate,
}

/// What a cluster should be like before it starts.
#[derive(Debug)]
pub struct Builder {
    settings: Vec<(String, String)>,
    own_identity: bool,
    settable_clock: bool,
}

/// A server of our own. Stops, and its files vanish, when dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    settings: Mutex<Vec<(String, String)>>,
    server: Mutex<Option<Child>>,
    clock: Option<WallClock>,
}

impl Builder {
    /// One line of postgresql.conf; the value as it stands there (quote text yourself).
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Loads the extension's library at server start, as the documentation tells a DBA to.
    #[must_use]
    pub fn preloaded(self) -> Self {
        programs().require_extension();
        self.setting("shared_preload_libraries", "'whatsapp_pg'")
    }

    /// Runs `initdb` for this cluster alone, so that its system identifier differs from all others.
    #[must_use]
    pub fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    /// Gives the server a wall clock that [`Cluster::set_clock`] sets while it runs.
    #[must_use]
    pub fn settable_clock(mut self) -> Self {
        self.settable_clock = true;
        self
    }

    /// Makes the cluster's files without starting it.
    pub fn create(self) -> Cluster {
        let dir = scratch::directory();
        let data = dir.join("data");
        if self.own_identity {
            initdb(&data);
        } else {
            copy_tree(template(), &data);
        }
        let clock = self.settable_clock.then(|| WallClock::new(&dir));
        let mut cluster = Cluster::adopt(dir, self.settings);
        cluster.clock = clock;
        cluster
    }

    /// Makes the cluster and starts it.
    pub fn start(self) -> Cluster {
        let cluster = self.create();
        cluster.start();
        cluster
    }
}

impl Cluster {
    /// A cluster to be described and started.
    pub fn builder() -> Builder {
        Builder { settings: Vec::new(), own_identity: false, settable_clock: false }
    }

    /// The server that tests share when they need nothing special of it: the library is preloaded, each test
    /// has a [`Database`] of its own, and nothing leaves but from [`Self::database_sending_to`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            // Statics are never dropped: stop the server when the process leaves.
            extern "C" fn stop_shared() {
                if let Some(cluster) = SHARED.get() {
                    cluster.end();
                }
            }
            let cluster = Self::builder()
                .preloaded()
                .setting("whatsapp_pg.mode", "off")
                .setting("whatsapp_pg.sender_threads", "8")
                .start();
            // SAFETY: the handler touches only the static above and the file system.
            unsafe { libc::atexit(stop_shared) };
            cluster
        })
    }

    /// Takes over a directory that has a cluster in `data`: copied, restored or upgraded.
    pub(crate) fn adopt(dir: PathBuf, settings: Vec<(String, String)>) -> Self {
        Self { dir, settings: Mutex::new(settings), server: Mutex::new(None), clock: None }
    }

    /// Starts the server and waits until it lets clients in.
    ///
    /// # Panics
    /// When it does not come up; the message has the end of its log.
    pub fn start(&self) {
        let refusal = self.try_start();
        assert!(refusal.is_none(), "the server did not start:\n{}", refusal.unwrap_or_default());
    }

    /// Starts the server; answers its log if it ended instead of letting clients in.
    pub fn try_start(&self) -> Option<String> {
        self.write_settings();
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        programs().give(&self.log_path());
        let mut command = programs().command("postgres");
        command.arg("-D").arg(self.data()).stdin(std::process::Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        *self.lock_server() = Some(keeper::spawn(command).expect("the server's program runs"));

        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            if let Some(status) = self.exited() {
                return Some(format!("ended with {status}\n{}", self.log_tail()));
            }
            if self.connect_config("postgres").connect(postgres::NoTls).is_ok() {
                return None;
            }
            assert!(Instant::now() < deadline, "no connection in {:?}\n{}", 2 * PATIENCE, self.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the server and answers how long that took.
    ///
    /// # Panics
    /// When it is still there after a while.
    pub fn stop(&self, how: Stop) -> Duration {
        let signal = match how {
            Stop::Fast => libc::SIGINT,
            Stop::Immediate => libc::SIGQUIT,
        };
        let began = Instant::now();
        self.signal_server(signal);
        self.wait_for_end();
        began.elapsed()
    }

    /// Stops and starts.
    pub fn restart(&self) {
        self.stop(Stop::Fast);
        self.start();
    }

    /// Waits until the server has ended by itself.
    pub fn wait_for_end(&self) {
        wait_until("the server to end", 2 * PATIENCE, || self.exited().ok_or_else(|| self.log_tail()));
        *self.lock_server() = None;
    }

    /// SIGKILL for one process of this server. The server then ends all others and starts over, as after any
    /// crash; returns when it lets clients in again.
    ///
    /// # Panics
    /// When `pid` is no child of this server.
    pub fn kill9_backend(&self, pid: i32) {
        assert!(self.kill9_backend_if_alive(pid), "{pid} is no process of this server");
    }

    /// The same for a process that may end by itself any moment; false when it had.
    pub fn kill9_backend_if_alive(&self, pid: i32) -> bool {
        const STARTED_OVER: &str = "all server processes terminated; reinitializing";
        let killed = format!("(PID {pid}) was terminated by signal 9");
        let seen = self.log().len();
        let news = |wanted: &str| self.log().get(seen..).is_some_and(|news| news.contains(wanted));
        if !self.children().contains(&pid) {
            return false;
        }
        // SAFETY: kill has no memory effects; the pid was checked to be ours just now.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        wait_until(
            "the process to be gone",
            PATIENCE,
            || if self.children().contains(&pid) { Err(pid) } else { Ok(()) },
        );
        // The server takes note of a process only after it is gone; one that ended by itself is no crash.
        let until = Instant::now() + Duration::from_secs(2);
        while !news(&killed) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        wait_until("the server to start over", PATIENCE, || {
            if news(STARTED_OVER) { Ok(()) } else { Err(self.log_tail()) }
        });
        wait_until("the server to let clients in", PATIENCE, || {
            self.connect_config("postgres").connect(postgres::NoTls).map(drop).map_err(|e| e.to_string())
        });
        true
    }

    /// SIGKILL for the postmaster; returns when its children have noticed and gone too.
    pub fn kill9_postmaster(&self) {
        let children = self.children();
        self.signal_server(libc::SIGKILL);
        self.wait_for_end();
        wait_until("orphaned processes to go", PATIENCE, || {
            let left: Vec<_> = children.iter().filter(|pid| is_alive(**pid)).collect();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }

    /// Changes a line of postgresql.conf; takes effect with [`Self::reload`] or a restart.
    pub fn configure(&self, name: &str, value: &str) {
        self.settings.lock().expect("no panic while held").push((name.into(), value.into()));
        self.write_settings();
    }

    /// Sets the server's wall clock so many seconds before (negative) or after the true time.
    ///
    /// # Panics
    /// When the cluster was built without [`Builder::settable_clock`].
    pub fn set_clock(&self, seconds: i64) {
        self.clock.as_ref().expect("built with a settable clock").set(seconds);
    }

    /// Makes the running server read its files again.
    pub fn reload(&self) {
        self.signal_server(libc::SIGHUP);
    }

    /// A session as superuser in `database`.
    pub fn connect(&self, database: &str) -> Session {
        Session::open(&self.connect_config(database))
    }

    /// What a client of its own needs to reach `database`.
    pub fn connect_config(&self, database: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config.host_path(&self.dir).port(PORT).user("postgres").dbname(database);
        config
    }

    /// A new database with the extension in schema `public`.
    pub fn database(&self) -> Database<'_> {
        let database = self.bare_database();
        database.install("public");
        database
    }

    /// A new database with the extension in a schema of its own (quoted as SQL needs it).
    pub fn database_in(&self, schema: &str) -> Database<'_> {
        let database = self.bare_database();
        database.install(schema);
        database
    }

    /// A new database with the extension, whose messages leave for `simulator`.
    pub fn database_sending_to(&self, simulator: &Simulator) -> Database<'_> {
        let database = self.bare_database();
        database.configure("whatsapp_pg.graph_url", &simulator.url());
        database.configure("whatsapp_pg.mode", "live");
        database.install("public");
        database
    }

    /// A new database without the extension.
    pub fn bare_database(&self) -> Database<'_> {
        Database::create(self)
    }

    /// The cluster's own directory, readable by the server's user: sockets, data, log, and room for files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a new file of this name would lie; see [`Self::dir`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The settings given by the test, for a copy of this cluster.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        self.settings.lock().expect("no panic while held").clone()
    }

    /// The pid of the postmaster.
    pub fn pid(&self) -> i32 {
        let server = self.lock_server();
        i32::try_from(server.as_ref().expect("the server runs").id()).expect("pids are small")
    }

    /// Pids of the server's processes but the postmaster.
    pub fn children(&self) -> Vec<i32> {
        let postmaster = self.pid();
        let entries = fs::read_dir("/proc").expect("/proc is mounted");
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| parent_of(*pid) == Some(postmaster))
            .collect()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    pub(crate) fn write_settings(&self) {
        let mut text = String::from("# Written by the tests.\n");
        let place = [
            ("port".to_owned(), PORT.to_string()),
            ("unix_socket_directories".to_owned(), format!("'{}'", self.dir.display())),
        ];
        let common = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        for (name, value) in common.chain(place).chain(self.settings()) {
            writeln!(text, "{name} = {value}").expect("writing to memory");
        }
        let path = self.data().join("tests.conf");
        fs::write(&path, text).expect("the settings can be written");
        programs().give(&path);
    }

    fn exited(&self) -> Option<std::process::ExitStatus> {
        self.lock_server().as_mut()?.try_wait().expect("the server is our child")
    }

    fn signal_server(&self, signal: i32) {
        // SAFETY: kill has no memory effects. The child was not waited for, so the pid is still its own.
        unsafe { libc::kill(self.pid(), signal) };
    }

    fn lock_server(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Ends the server without ceremony, if it runs.
    fn end(&self) {
        if let Some(server) = self.lock_server().as_mut() {
            if matches!(server.try_wait(), Ok(None)) {
                // SAFETY: as in signal_server.
                unsafe { libc::kill(server.id() as i32, libc::SIGQUIT) };
            }
            let _ = server.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {} ---\n{}", self.dir.display(), self.log_tail());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Copies a directory that the server's user owns, keeping owners and modes.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]).args([from, to]);
    finish(command);
}

pub(crate) fn initdb(data: &Path) {
    let mut command = programs().command("initdb");
    command.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]);
    command.arg("-D").arg(data);
    finish(command);
    let conf = data.join("postgresql.conf");
    let text = fs::read_to_string(&conf).expect("initdb wrote postgresql.conf");
    fs::write(&conf, text + "\ninclude 'tests.conf'\n").expect("our own file");
}

/// The data directory that all clusters are copied from.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let data = scratch::directory().join("data");
        initdb(&data);
        data
    })
}
