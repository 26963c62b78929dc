//! pg_upgrade from an older major version: that of `PG_CONFIG_OLD`, where the extension must be installed too. Without
//! it the installation under test plays both parts, which takes the same steps.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use graph_simulator::Account;
use harness::fixtures::{TOKEN, numbers, reminder_variables, serving, simulator};
use harness::programs::{finish, programs};
use harness::wait::PATIENCE;
use harness::{Cluster, Organizer, Session, keeper, scratch, wait_until};

/// What the new server must have kept, secrets included.
const CONTENT: &str = "
    SELECT format('%s %s %s %s', id, recipient_phone, status, template_variables) FROM whatsapp_queue
    UNION ALL SELECT format('%s %s', user_id, access_token_encrypted) FROM whatsapp_config
    UNION ALL SELECT format('%s %s %s', id, queue_id, status) FROM whatsapp_delivery_logs
    UNION ALL SELECT id::text FROM whatsapp_installation
    UNION ALL SELECT wa_export_key()
    ORDER BY 1";

#[test]
fn the_new_server_has_the_keys_and_the_queue_and_goes_on_sending_by_itself() {
    let simulator = simulator();
    let old = OldServer::start(&simulator.url());
    old.connect("postgres").run("CREATE DATABASE app");
    let mut session = old.connect("app");
    session.run("CREATE EXTENSION whatsapp_pg");
    let organizer = Organizer::with_account(&mut session, "messages_per_second => 1000");
    simulator.put_account(Account {
        phone_number_id: organizer.phone_number_id.clone(),
        token: Some(TOKEN.into()),
        ..Account::default()
    });
    organizer.enqueue(&mut session, &numbers(20));
    organizer.wait_for_count(&mut session, "sent", 20);
    session.execute_with(
        "SELECT wa_enqueue(user_id => $1, recipients => $2, template_name => 'event_reminder_24h', variables => $3,
                           scheduled_for => now() + interval '1 day')",
        &[&organizer.id, &numbers(30), &reminder_variables()],
    );
    let content: Vec<String> = session.values(CONTENT, &[]);
    let recipients = recipients_of_24_hours(&mut session, &organizer);
    drop(session);

    let new = serving(&simulator).own_identity().create();
    old.upgrade_to(&new);
    new.start();

    let mut session = new.connect("app");
    assert_eq!(session.values::<String>(CONTENT, &[]), content);
    assert_eq!(recipients_of_24_hours(&mut session, &organizer), recipients);
    assert!(session.value::<bool>("SELECT wa_rate_ok($1)", &[&organizer.id]), "not taken for a copy");
    session.run("UPDATE whatsapp_queue SET scheduled_for = now() WHERE status = 'queued'");
    organizer.enqueue(&mut session, &["+447400123456".into()]);
    organizer.wait_for_count(&mut session, "sent", 51);
    assert_eq!((simulator.stats().accepted, simulator.stats().duplicates), (51, 0));
}

fn recipients_of_24_hours(session: &mut Session, organizer: &Organizer) -> i64 {
    const SQL: &str = "SELECT used FROM wa_rate_status($1) WHERE limit_name = 'recipients per 24 hours'";
    session.value(SQL, &[&organizer.id])
}

/// A preloaded server of the old installation; the harness knows only the one under test.
struct OldServer {
    bin: PathBuf,
    dir: PathBuf,
    process: Child,
}

impl OldServer {
    fn start(graph_url: &str) -> Self {
        let (bin, dir) = (old_bin(), scratch::directory());
        let data = dir.join("data");
        let command = |program: &str| {
            let mut command = Command::new(bin.join(program));
            programs().unprivileged(&mut command);
            command
        };
        let mut initdb = command("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]);
        // pg_upgrade wants page checksums on both sides or on neither, and initdb of 18 turns them on.
        if programs().major >= 18 {
            initdb.arg("--data-checksums");
        }
        initdb.arg("--pgdata").arg(&data);
        finish(initdb);
        let settings = [
            "listen_addresses = ''",
            &format!("unix_socket_directories = '{}'", dir.display()),
            "fsync = off",
            "shared_preload_libraries = 'whatsapp_pg'",
            &format!("whatsapp_pg.graph_url = '{graph_url}'"),
        ];
        fs::write(data.join("postgresql.auto.conf"), settings.join("\n") + "\n").expect("a directory of ours");

        let mut postgres = command("postgres");
        postgres.arg("-D").arg(&data).stderr(File::create(dir.join("server.log")).expect("a directory of ours"));
        let process = keeper::spawn(postgres).expect("postgres runs");
        let server = Self { bin, dir, process };
        wait_until("the old server to let clients in", PATIENCE, || {
            server.config("postgres").connect(postgres::NoTls).map(drop)
        });
        server
    }

    fn connect(&self, database: &str) -> Session {
        Session::open(&self.config(database))
    }

    fn config(&self, database: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config.host_path(&self.dir).user("postgres").dbname(database);
        config
    }

    /// Stops it and moves its content to a cluster that has not been started yet.
    fn upgrade_to(mut self, new: &Cluster) {
        // SAFETY: kill has no memory effects, and the child has not been waited for. SIGINT: a fast shutdown.
        unsafe { libc::kill(self.process.id().cast_signed(), libc::SIGINT) };
        assert!(self.process.wait().expect("it is our child").success());

        // Writes the configuration that pg_upgrade starts the new server with.
        new.configure("shared_preload_libraries", "'whatsapp_pg'");
        let mut upgrade = programs().command("pg_upgrade");
        upgrade.current_dir(&self.dir).arg("--username=postgres").arg("--socketdir").arg(&self.dir);
        upgrade.arg("--old-bindir").arg(&self.bin).arg("--old-datadir").arg(self.dir.join("data"));
        upgrade.arg("--new-bindir").arg(programs().bin()).arg("--new-datadir").arg(new.data());
        finish(upgrade);
    }
}

fn old_bin() -> PathBuf {
    match std::env::var_os("PG_CONFIG_OLD") {
        Some(pg_config) => Path::new(&pg_config).parent().expect("a path with a directory").into(),
        None => programs().bin().into(),
    }
}
