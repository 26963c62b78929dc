//! One client session, with the few verbs that tests read well with.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postgres::error::DbError;
use postgres::types::{FromSqlOwned, ToSql};
use postgres::{Client, Config, NoTls, Row};

use crate::wait::{PATIENCE, wait_until};

/// Parameters of a statement.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection. Dereferences to [`postgres::Client`] for everything not said shorter here.
pub struct Session {
    client: Client,
    notices: Arc<Mutex<Vec<Refusal>>>,
}

/// What the server says when it refuses a statement, or in a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The five characters that programs look at.
    pub sqlstate: String,
    /// ERROR, NOTICE, WARNING, …
    pub severity: String,
    /// The primary message.
    pub message: String,
    /// DETAIL, or empty.
    pub detail: String,
    /// HINT, or empty.
    pub hint: String,
}

impl Session {
    /// Opens a session.
    ///
    /// # Panics
    /// When the server does not let it in.
    pub fn open(config: &Config) -> Self {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&notices);
        let mut config = config.clone();
        config.notice_callback(move |notice| heard.lock().expect("never poisoned").push(Refusal::from(&notice)));
        let client = config.connect(NoTls).unwrap_or_else(|e| panic!("connecting: {}", describe(&e)));
        Self { client, notices }
    }

    /// Runs one or more statements without parameters.
    pub fn run(&mut self, sql: &str) {
        self.client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}\n{}", describe(&e)));
    }

    /// Runs one statement; answers how many rows it touched.
    pub fn execute_with(&mut self, sql: &str, params: Params<'_>) -> u64 {
        self.client.execute(sql, params).unwrap_or_else(|e| panic!("{sql}\n{}", describe(&e)))
    }

    /// The rows of one statement.
    pub fn rows(&mut self, sql: &str, params: Params<'_>) -> Vec<Row> {
        self.client.query(sql, params).unwrap_or_else(|e| panic!("{sql}\n{}", describe(&e)))
    }

    /// The first column of the only row.
    pub fn value<T: FromSqlOwned>(&mut self, sql: &str, params: Params<'_>) -> T {
        let rows = self.rows(sql, params);
        assert_eq!(rows.len(), 1, "{sql}\nwas to answer one row");
        rows[0].try_get(0).unwrap_or_else(|e| panic!("{sql}\n{e}"))
    }

    /// The first column of all rows.
    pub fn values<T: FromSqlOwned>(&mut self, sql: &str, params: Params<'_>) -> Vec<T> {
        let rows = self.rows(sql, params);
        rows.iter().map(|row| row.try_get(0).unwrap_or_else(|e| panic!("{sql}\n{e}"))).collect()
    }

    /// The error of a statement that must be refused.
    ///
    /// # Panics
    /// When the server does it.
    pub fn refusal(&mut self, sql: &str, params: Params<'_>) -> Refusal {
        match self.client.query(sql, params) {
            Ok(rows) => panic!("{sql}\nwas to be refused, but answered {} rows: {rows:?}", rows.len()),
            Err(e) => Refusal::of(&e).unwrap_or_else(|| panic!("{sql}\nwas refused by the client: {}", describe(&e))),
        }
    }

    /// Waits until a query that answers one boolean answers true.
    pub fn wait_for(&mut self, what: &str, condition: &str, params: Params<'_>) {
        self.wait_for_within(what, PATIENCE, condition, params);
    }

    /// The same with a patience of one's own.
    pub fn wait_for_within(&mut self, what: &str, patience: Duration, condition: &str, params: Params<'_>) {
        wait_until(what, patience, || {
            // No row yet is no yes yet.
            let holds: Option<bool> = self.values(condition, params).pop().flatten();
            if holds == Some(true) { Ok(()) } else { Err(holds) }
        });
    }

    /// Waits until a query answers `wanted`; a failure shows what it answered last.
    pub fn wait_for_value<T: FromSqlOwned + PartialEq + Debug>(&mut self, wanted: &T, sql: &str, params: Params<'_>) {
        wait_until(&format!("{wanted:?} from {sql}"), PATIENCE, || {
            let found: T = self.value(sql, params);
            if found == *wanted { Ok(()) } else { Err(found) }
        });
    }

    /// Notices and warnings since the last call.
    pub fn notices(&mut self) -> Vec<Refusal> {
        // A notice may arrive after the answer it belongs to; one more round trip brings it in.
        self.run("SELECT 1");
        std::mem::take(&mut *self.notices.lock().expect("never poisoned"))
    }

    /// The pid of the backend that serves this session.
    pub fn backend_pid(&mut self) -> i32 {
        self.value("SELECT pg_backend_pid()", &[])
    }
}

impl Deref for Session {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Refusal {
    /// What the server said, if the error came from there.
    pub fn of(error: &postgres::Error) -> Option<Self> {
        error.as_db_error().map(Self::from)
    }

    /// True if message, detail or hint has `word`.
    pub fn mentions(&self, word: &str) -> bool {
        [&self.message, &self.detail, &self.hint].iter().any(|text| text.contains(word))
    }
}

impl From<&DbError> for Refusal {
    fn from(error: &DbError) -> Self {
        Self {
            sqlstate: error.code().code().to_owned(),
            severity: error.severity().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
        }
    }
}

/// An error with everything the server said about it.
fn describe(error: &postgres::Error) -> String {
    Refusal::of(error).map_or_else(|| error.to_string(), |refusal| format!("{refusal:#?}"))
}
