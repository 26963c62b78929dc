//! Every refusal of this extension as one type, and the only place that maps it to an SQLSTATE with message, DETAIL
//! and HINT (PostgreSQL: Error Message Style Guide). Custom SQLSTATEs are impossible in pgrx, so standard ones are used.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;

/// The standard code an error carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An argument has a value that cannot be used (22023).
    InvalidParameter,
    /// An argument that is needed is NULL (22004).
    Null,
    /// A named thing does not exist (02000 has no place in errors; 42704).
    UndefinedObject,
    /// Something must be done first (55000).
    NotReady,
    /// The caller may not (42501).
    Privilege,
    /// A limit of the server's configuration (53400).
    ConfigurationLimit,
    /// An idempotency key was used for something else (23505).
    Conflict,
    /// The server is read-only or in recovery (25006).
    ReadOnly,
    /// A setting has a value that cannot be used (F0000).
    ConfigFile,
    /// The encryption key cannot open or seal (58000 for files, 22023 otherwise): a system error outside SQL.
    System,
    /// Our own mistake (XX000).
    Internal,
}

/// A refusal with everything its reader needs.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Error {
    /// An error of this kind; the message is lower-case and without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: None, hint: None }
    }

    /// Adds the DETAIL: whole sentences, the facts.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the HINT: what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A required argument is NULL.
    pub fn null(argument: &str) -> Self {
        Self::new(Kind::Null, format!("{argument} must not be null"))
            .detail("A null is never taken for a value here, so that no message is lost silently.")
            .hint(format!("Pass {argument}, or leave it out where it has a default."))
    }

    /// Message, detail and hint in one line, for rows, notes and logs that keep the reason.
    pub fn one_line(&self) -> String {
        let mut line = self.message.clone();
        if let Some(detail) = &self.detail {
            line = format!("{line}: {detail}");
        }
        if let Some(hint) = &self.hint {
            let stop = if line.ends_with('.') { "" } else { "." };
            line = format!("{line}{stop} {hint}");
        }
        line
    }

    /// Message, detail and hint, the missing ones empty, for handing an error to another process.
    pub fn parts(&self) -> [&str; 3] {
        [&self.message, self.detail.as_deref().unwrap_or_default(), self.hint.as_deref().unwrap_or_default()]
    }

    fn code(&self) -> PgSqlErrorCode {
        match self.kind {
            Kind::InvalidParameter => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Kind::Null => PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Kind::UndefinedObject => PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            Kind::NotReady => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Kind::Privilege => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Kind::ConfigurationLimit => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            Kind::Conflict => PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
            Kind::ReadOnly => PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            Kind::ConfigFile => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
            Kind::System => PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
            Kind::Internal => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        }
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let code = error.code();
        let mut report = ErrorReport::new(code, error.message, "");
        if let Some(detail) = error.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint {
            report = report.set_hint(hint);
        }
        report
    }
}

impl From<pgrx::spi::SpiError> for Error {
    fn from(error: pgrx::spi::SpiError) -> Self {
        Self::new(Kind::Internal, format!("failed to read a query's result: {error}"))
    }
}

impl From<keyring::KeyError> for Error {
    fn from(error: keyring::KeyError) -> Self {
        Self::new(Kind::System, error.to_string())
    }
}

/// What fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
