//! Copies of a cluster or a database, made the ways that DBAs make them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, PORT, Stop};
use crate::programs::{finish, programs};
use crate::scratch;
use crate::wait::{PATIENCE, wait_until};

impl Cluster {
    /// A streaming standby of this server, made by pg_basebackup and started.
    pub fn standby(&self) -> Self {
        let copy = self.base_backup(&["--write-recovery-conf"]);
        copy.start();
        copy
    }

    /// A physical copy that is a server of its own (as a restored backup is), not started.
    pub fn physical_copy(&self) -> Self {
        self.base_backup(&[])
    }

    fn base_backup(&self, options: &[&str]) -> Self {
        let dir = scratch::directory();
        let mut command = programs().command("pg_basebackup");
        command.args(["--checkpoint=fast", "--no-sync", "--wal-method=stream", "--username=postgres"]);
        command.arg("--host").arg(self.dir()).arg("--port").arg(PORT.to_string());
        command.arg("--pgdata").arg(dir.join("data")).args(options);
        finish(command);
        Self::adopt(dir, self.settings())
    }

    /// Turns a standby into a primary and waits until it takes writes.
    pub fn promote(&self) {
        assert!(self.connect("postgres").value::<bool>("SELECT pg_promote(wait => true)", &[]));
    }

    /// Waits until `standby` has replayed everything that this server has written so far.
    pub fn wait_for_replay(&self, standby: &Self) {
        let target: String = self.connect("postgres").value("SELECT pg_current_wal_flush_lsn()::text", &[]);
        let mut session = standby.connect("postgres");
        wait_until("the standby to catch up", PATIENCE, || {
            let replayed: Option<String> = session.value("SELECT pg_last_wal_replay_lsn()::text", &[]);
            let caught_up: Option<bool> =
                session.value(&format!("SELECT pg_last_wal_replay_lsn() >= '{target}'::pg_lsn"), &[]);
            if caught_up == Some(true) { Ok(()) } else { Err((replayed, target.clone())) }
        });
    }

    /// A custom-format dump of one database; `options` as for pg_dump.
    pub fn dump(&self, database: &str, options: &[&str]) -> PathBuf {
        let file = self.path(&format!("{database}.dump"));
        let mut command = self.client("pg_dump");
        command.args(["--format=custom", "--file"]).arg(&file).args(options).arg(database);
        finish(command);
        file
    }

    /// The SQL text of a dump of one database; `options` as for pg_dump.
    pub fn dump_text(&self, database: &str, options: &[&str]) -> String {
        let mut command = self.client("pg_dump");
        command.args(options).arg(database);
        String::from_utf8(finish(command).stdout).expect("a dump in UTF-8")
    }

    /// Restores a dump into an existing database; any error fails the test.
    pub fn restore(&self, dump: &Path, database: &str, options: &[&str]) {
        let mut command = self.client("pg_restore");
        command.args(["--exit-on-error", "--dbname", database]).args(options).arg(dump);
        finish(command);
    }

    /// Stops this server and moves its content to a new one by pg_upgrade, with the same settings; answers the
    /// new server, not started. (Any installation can "upgrade" to its own version: it takes all the same steps.)
    ///
    /// # Panics
    /// When pg_upgrade fails; the message has the end of its logs.
    pub fn upgraded(&self) -> Self {
        let settings = self.settings();
        self.stop(Stop::Fast);
        let new = settings.iter().fold(Self::builder().own_identity(), |b, (name, value)| b.setting(name, value));
        let new = new.create();
        new.write_settings();

        let bin = programs().bin();
        let mut command = programs().command("pg_upgrade");
        command.current_dir(new.dir()).arg("--username=postgres").arg("--socketdir").arg(new.dir());
        command.arg("--old-bindir").arg(bin).arg("--new-bindir").arg(bin);
        command.arg("--old-datadir").arg(self.data()).arg("--new-datadir").arg(new.data());
        let out = command.output().expect("pg_upgrade runs");
        assert!(
            out.status.success(),
            "pg_upgrade ended with {}\n{}{}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
            upgrade_logs(&new.data())
        );
        new
    }

    fn client(&self, program: &str) -> std::process::Command {
        let mut command = programs().command(program);
        command.arg("--username=postgres").arg("--host").arg(self.dir()).arg("--port").arg(PORT.to_string());
        command
    }
}

/// What pg_upgrade wrote below the new data directory (it removes its logs when all went well).
fn upgrade_logs(data: &Path) -> String {
    let mut text = String::new();
    let mut open = vec![data.join("pg_upgrade_output.d")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(log) = fs::read_to_string(&path) {
                text += &format!("--- {}\n{log}\n", path.display());
            }
        }
    }
    text
}
