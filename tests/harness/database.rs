//! A database per test, so that tests on one server do not see each other's rows.

use std::sync::atomic::{AtomicU32, Ordering};

use postgres::Config;

use crate::cluster::Cluster;
use crate::programs::programs;
use crate::session::Session;

/// A database of its own, dropped at the end of the test.
#[derive(Debug)]
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Database<'a> {
    pub(crate) fn create(cluster: &'a Cluster) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        cluster.connect("postgres").run(&format!("CREATE DATABASE {name}"));
        Self { cluster, name }
    }

    /// Creates the extension in `schema`, and the schema if need be.
    pub fn install(&self, schema: &str) {
        programs().require_extension();
        let mut session = self.connect();
        session.run(&format!("CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION whatsapp_pg SCHEMA {schema}"));
    }

    /// Sets a setting for this database; sessions and workers that start later have it.
    pub fn configure(&self, setting: &str, value: &str) {
        // From outside: this very setting may be one that stops a session in here.
        self.cluster.connect("postgres").run(&format!("ALTER DATABASE {} SET {setting} = '{value}'", self.name));
    }

    /// A session as superuser.
    pub fn connect(&self) -> Session {
        self.cluster.connect(&self.name)
    }

    /// A session as another role, which must exist and be allowed to log in.
    pub fn connect_as(&self, role: &str) -> Session {
        Session::open(self.config().user(role))
    }

    /// What a client of its own needs.
    pub fn config(&self) -> Config {
        self.cluster.connect_config(&self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it lives in.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        // The shared server must not fill up; a server of the test's own may be down, or is about to vanish.
        if let Ok(mut client) = self.cluster.connect_config("postgres").connect(postgres::NoTls) {
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}
