//! The only door to SQL: one file per noun, functions named by verbs, queries as constants with `@extschema@` where the
//! extension's schema goes. Functions take and return plain values, run in the caller's transaction, and never do HTTP.
//!
//! Plans are prepared once per process. A transaction that only reads gets no transaction id ([`read`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::datum::DatumWithOid;
use pgrx::spi::{OwnedPreparedStatement, SpiHeapTupleData};
use pgrx::{FromDatum, IntoDatum, PgOid, Spi, pg_sys};

use crate::error::{Error, Kind, Result};

pub mod admission;
pub mod claims;
pub mod clock;
pub mod config;
pub mod database;
pub mod effects;
pub mod holds;
pub mod host;
pub mod idempotency;
pub mod installation;
pub mod keys;
pub mod ledger;
pub mod limits;
pub mod locks;
pub mod message;
pub mod notices;
pub mod outcomes;
pub mod queue;
pub mod reports;
pub mod roles;
pub mod statuses;
pub mod tasks;
pub mod templates;

/// One row of a result.
pub struct Row<'a>(SpiHeapTupleData<'a>);

impl Row<'_> {
    /// Column `n` (from 1), which the query promises not to be NULL.
    pub fn get<T: FromDatum + IntoDatum>(&self, n: usize) -> Result<T> {
        self.opt(n)?.ok_or_else(|| Error::new(Kind::Internal, format!("column {n} of a query is null")))
    }

    /// Column `n` (from 1), or None for NULL.
    pub fn opt<T: FromDatum + IntoDatum>(&self, n: usize) -> Result<Option<T>> {
        Ok(self.0.get(n)?)
    }
}

/// Runs a query that changes nothing and takes no row locks.
pub fn read<T>(sql: &'static str, args: &[DatumWithOid], row: impl FnMut(Row) -> Result<T>) -> Result<Vec<T>> {
    run(sql, args, false, row)
}

/// Runs a statement that writes or locks, and reads what it returns.
pub fn write<T>(sql: &'static str, args: &[DatumWithOid], row: impl FnMut(Row) -> Result<T>) -> Result<Vec<T>> {
    run(sql, args, true, row)
}

/// Runs a statement that writes; answers how many rows it touched.
pub fn execute(sql: &'static str, args: &[DatumWithOid]) -> Result<u64> {
    Spi::connect_mut(|client| {
        with_statement(client, sql, args, true, |client, statement| {
            client.update(statement, None, args)?;
            // SAFETY: set by the SPI call just made.
            Ok(unsafe { pg_sys::SPI_processed })
        })
    })
}

fn run<T>(
    sql: &'static str,
    args: &[DatumWithOid],
    writes: bool,
    mut row: impl FnMut(Row) -> Result<T>,
) -> Result<Vec<T>> {
    Spi::connect_mut(|client| {
        with_statement(client, sql, args, writes, |client, statement| {
            let table =
                if writes { client.update(statement, None, args)? } else { client.select(statement, None, args)? };
            let mut rows = Vec::with_capacity(table.len());
            for tuple in table {
                rows.push(row(Row(tuple))?);
            }
            Ok(rows)
        })
    })
}

struct Statements {
    installed: Installed,
    prepared: HashMap<(usize, bool), std::rc::Rc<OwnedPreparedStatement>>,
}

thread_local! {
    static STATEMENTS: RefCell<Option<Statements>> = const { RefCell::new(None) };
}

fn with_statement<'conn, R>(
    client: &mut pgrx::spi::SpiClient<'conn>,
    sql: &'static str,
    args: &[DatumWithOid],
    writes: bool,
    run: impl FnOnce(&mut pgrx::spi::SpiClient<'conn>, &OwnedPreparedStatement) -> Result<R>,
) -> Result<R> {
    let schema = installed()?.schema;
    let key = (sql.as_ptr() as usize, writes);
    let known = STATEMENTS.with_borrow(|all| all.as_ref().and_then(|all| all.prepared.get(&key).cloned()));
    let statement = match known {
        Some(statement) => statement,
        None => {
            let text = sql.replace("@extschema@", &schema);
            let types: Vec<PgOid> = args.iter().map(|arg| PgOid::from(arg.oid())).collect();
            let statement = if writes {
                client.prepare_mut(text.as_str(), &types)?
            } else {
                client.prepare(text.as_str(), &types)?
            };
            let statement = std::rc::Rc::new(statement.keep());
            STATEMENTS.with_borrow_mut(|all| {
                if let Some(all) = all {
                    all.prepared.insert(key, statement.clone());
                }
            });
            statement
        }
    };
    run(client, &statement)
}

/// The extension as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its oid: another one after DROP and CREATE EXTENSION.
    pub oid: pg_sys::Oid,
    /// Its schema, quoted where it must be.
    pub schema: String,
    /// Its owner, whose rights the entry points take.
    pub owner: pg_sys::Oid,
    /// The version of the catalog.
    pub version: String,
    namespace: pg_sys::Oid,
    name: CString,
}

/// What is due when the library is newer than the catalog.
pub const OUTDATED: &str =
    "the catalog is older than the library: nothing is sent until ALTER EXTENSION whatsapp_pg UPDATE has run";

impl Installed {
    /// Whether the catalog is as new as this library. Until ALTER EXTENSION UPDATE has run, messages can be queued as before
    /// and nothing is sent.
    pub fn is_current(&self) -> bool {
        self.version == env!("CARGO_PKG_VERSION")
    }
}

/// The extension in this database; an error when it is not there.
pub fn installed() -> Result<Installed> {
    find_installed()?.ok_or_else(|| {
        Error::new(Kind::UndefinedObject, "extension whatsapp_pg is not installed in this database")
            .hint("Run CREATE EXTENSION whatsapp_pg.")
    })
}

/// The extension in this database, if it is there. Remembered until it is dropped, made anew or its schema renamed; an old
/// version is not remembered, because an update changes nothing else.
pub fn find_installed() -> Result<Option<Installed>> {
    // SAFETY: a catalog look-up in a transaction; true: no error when it is missing.
    let oid = unsafe { pg_sys::get_extension_oid(c"whatsapp_pg".as_ptr(), true) };
    if oid == pg_sys::InvalidOid {
        STATEMENTS.set(None);
        return Ok(None);
    }
    let known = STATEMENTS.with_borrow(|all| all.as_ref().map(|all| all.installed.clone()));
    if let Some(installed) = known
        && installed.oid == oid
        && installed.is_current()
        && is_named(installed.namespace, &installed.name)
    {
        return Ok(Some(installed));
    }
    let installed = read_installed()?;
    STATEMENTS.set(installed.clone().map(|installed| Statements { installed, prepared: HashMap::new() }));
    Ok(installed)
}

fn is_named(namespace: pg_sys::Oid, name: &CString) -> bool {
    // SAFETY: get_namespace_name answers NULL or a palloc'd C string.
    unsafe {
        let current = pg_sys::get_namespace_name(namespace);
        !current.is_null() && std::ffi::CStr::from_ptr(current) == name.as_c_str()
    }
}

fn read_installed() -> Result<Option<Installed>> {
    const SQL: &str =
        "SELECT e.oid, pg_catalog.quote_ident(n.nspname), e.extowner, e.extversion, n.oid, n.nspname::text
                       FROM pg_catalog.pg_extension AS e
                       JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
                       WHERE e.extname OPERATOR(pg_catalog.=) 'whatsapp_pg'";
    Spi::connect(|client| {
        let mut found = None;
        for tuple in client.select(SQL, Some(1), &[])? {
            let row = Row(tuple);
            found = Some(Installed {
                oid: row.get(1)?,
                schema: row.get(2)?,
                owner: row.get(3)?,
                version: row.get(4)?,
                namespace: row.get(5)?,
                name: CString::new(row.get::<String>(6)?).unwrap_or_default(),
            });
        }
        Ok(found)
    })
}

/// Runs a statement and hands each row of its result, as the executor formed it, to a set-returning function's sink.
pub fn write_into(sql: &'static str, args: &[DatumWithOid], sink: &mut crate::srf::Sink) -> Result<u64> {
    Spi::connect_mut(|client| {
        with_statement(client, sql, args, true, |client, statement| {
            client.update(statement, None, args)?;
            // SAFETY: the SPI call just made left its result in SPI_tuptable, which lives until SPI is left.
            unsafe {
                let table = pg_sys::SPI_tuptable;
                let count = pg_sys::SPI_processed;
                if !table.is_null() {
                    for n in 0..usize::try_from(count).unwrap_or(0) {
                        sink.put(*(*table).vals.add(n));
                    }
                }
                Ok(count)
            }
        })
    })
}
