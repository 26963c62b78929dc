//! `whatsapp_config`: the organizers' accounts.

use std::time::Duration;

use pgrx::Uuid;

use crate::error::Result;
use crate::store::{self, installation};

/// An organizer's account as admission and sending need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The organizer.
    pub organizer: Uuid,
    /// Meta's id of the number.
    pub phone_number_id: String,
    /// The sealed token or a reference to it.
    pub token: String,
    /// Whether the organizer wants to send.
    pub is_active: bool,
    /// The messaging tier as it was written.
    pub tier: String,
    /// Throughput of the number.
    pub per_second: u32,
    /// Under what the 24 h limit is counted: the portfolio, or the business account when none is named.
    pub portfolio: String,
    /// Language when a template has several and the caller names none.
    pub default_language: Option<String>,
    /// Whether this database may send for it; false in a copy.
    pub is_here: bool,
    /// The organizer's own number of retries.
    pub max_retries: Option<u32>,
    /// The organizer's own wait before the first retry.
    pub retry_delay: Option<Duration>,
}

/// What a copy of a database says until somebody adopts it.
pub const COPY: &str =
    "this database is a copy: nothing is sent until wa_adopt_copy() says that it is the one that sends";

/// Under what the 24 h limit of an account is counted: its portfolio, or its business account when none is named.
pub fn portfolio_key(portfolio_id: Option<&str>, business_account_id: &str) -> String {
    match portfolio_id {
        Some(portfolio) => format!("portfolio {portfolio}"),
        None => format!("account {business_account_id}"),
    }
}

/// The account of an organizer. Columns that came after 0.1.0 are read in a way that works without them: messages must
/// be queued between the installation of a new library and ALTER EXTENSION UPDATE.
pub fn account(organizer: &Uuid) -> Result<Option<Account>> {
    const SQL: &str = "
        SELECT c.phone_number_id, c.access_token_encrypted, c.status = 'active', c.rate_limit_tier, c.messages_per_second,
               c.portfolio_id, c.business_account_id, c.default_language,
               coalesce(c.sender_installation = i.id AND c.sender_database = $2, false),
               (to_jsonb(c) ->> 'max_retries')::int,
               (extract(epoch FROM (to_jsonb(c) ->> 'retry_delay')::interval) * 1000000)::bigint
        FROM @extschema@.whatsapp_config AS c
        LEFT JOIN @extschema@.whatsapp_installation AS i ON true
        WHERE c.user_id = $1";
    let rows = store::read(SQL, &[(*organizer).into(), installation::database().into()], |row| {
        Ok(Account {
            organizer: *organizer,
            phone_number_id: row.get(1)?,
            token: row.get(2)?,
            is_active: row.get(3)?,
            tier: row.get(4)?,
            per_second: row.get::<i32>(5)?.unsigned_abs(),
            portfolio: portfolio_key(row.opt::<String>(6)?.as_deref(), &row.get::<String>(7)?),
            default_language: row.opt(8)?,
            is_here: row.get(9)?,
            max_retries: row.opt::<i32>(10)?.map(i32::unsigned_abs),
            retry_delay: row.opt::<i64>(11)?.map(|micros| Duration::from_micros(micros.unsigned_abs())),
        })
    })?;
    Ok(rows.into_iter().next())
}

/// What `wa_configure` writes; a None keeps what an existing row has.
pub struct Change<'a> {
    /// The organizer.
    pub organizer: Uuid,
    /// Meta's id of the number.
    pub phone_number_id: &'a str,
    /// Meta's id of the business account.
    pub business_account_id: &'a str,
    /// Sealed token or reference.
    pub token: &'a str,
    /// Webhook verify token.
    pub verify_token: &'a str,
    /// Sealed app secret or reference.
    pub app_secret: Option<&'a str>,
    /// Messaging tier.
    pub tier: &'a str,
    /// Throughput of the number.
    pub per_second: i32,
    /// Portfolio.
    pub portfolio_id: Option<&'a str>,
    /// Default language.
    pub default_language: Option<&'a str>,
    /// active or inactive.
    pub status: &'a str,
}

/// Creates or updates an account; answers its id. An update keeps the stamps: a copy is adopted by wa_adopt_copy() only.
pub fn save(change: &Change) -> Result<Uuid> {
    const SQL: &str = "
        INSERT INTO @extschema@.whatsapp_config AS c
            (user_id, phone_number_id, business_account_id, access_token_encrypted, webhook_verify_token,
             app_secret_encrypted, rate_limit_tier, messages_per_second, portfolio_id, default_language, status)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (user_id) DO UPDATE SET
            phone_number_id = excluded.phone_number_id,
            business_account_id = excluded.business_account_id,
            access_token_encrypted = excluded.access_token_encrypted,
            webhook_verify_token = excluded.webhook_verify_token,
            app_secret_encrypted = coalesce(excluded.app_secret_encrypted, c.app_secret_encrypted),
            rate_limit_tier = excluded.rate_limit_tier,
            messages_per_second = excluded.messages_per_second,
            portfolio_id = coalesce(excluded.portfolio_id, c.portfolio_id),
            default_language = coalesce(excluded.default_language, c.default_language),
            status = excluded.status
        RETURNING c.id";
    let rows = store::write(
        SQL,
        &[
            change.organizer.into(),
            change.phone_number_id.into(),
            change.business_account_id.into(),
            change.token.into(),
            change.verify_token.into(),
            change.app_secret.into(),
            change.tier.into(),
            change.per_second.into(),
            change.portfolio_id.into(),
            change.default_language.into(),
            change.status.into(),
        ],
        |row| row.get(1),
    )?;
    rows.into_iter()
        .next()
        .ok_or_else(|| crate::error::Error::new(crate::error::Kind::Internal, "the account was not written"))
}

/// An organizer's policies for failures; what is None stays.
pub struct Policy<'a> {
    /// The organizer.
    pub organizer: Uuid,
    /// Retries after a passing fault.
    pub max_retries: Option<i32>,
    /// Wait before the first retry, in seconds.
    pub retry_delay: Option<f64>,
    /// keep, resend or fail.
    pub on_unknown: Option<&'a str>,
}

/// Writes an organizer's policies; false without an account.
pub fn set_policy(policy: &Policy) -> Result<bool> {
    const SQL: &str = "
        UPDATE @extschema@.whatsapp_config
        SET max_retries = coalesce($2, max_retries), retry_delay = coalesce(make_interval(secs => $3), retry_delay),
            on_unknown = coalesce($4, on_unknown), updated_at = now()
        WHERE user_id = $1";
    let args =
        [policy.organizer.into(), policy.max_retries.into(), policy.retry_delay.into(), policy.on_unknown.into()];
    Ok(store::execute(SQL, &args)? > 0)
}

/// Another organizer who has this number, if any.
pub fn other_organizer_with(phone_number_id: &str, organizer: &Uuid) -> Result<Option<Uuid>> {
    const SQL: &str = "SELECT user_id FROM @extschema@.whatsapp_config
                       WHERE phone_number_id = $1 AND user_id <> $2 LIMIT 1";
    Ok(store::read(SQL, &[phone_number_id.into(), (*organizer).into()], |row| row.get(1))?.pop())
}

/// Whether an account that is now counted under this portfolio would come to share it with another organizer's.
pub fn would_join(organizer: &Uuid, portfolio_id: Option<&str>, business_account_id: &str) -> Result<bool> {
    const SQL: &str = "
        WITH accounts AS (
            SELECT c.user_id, c.portfolio_id,
                   CASE WHEN c.portfolio_id IS NULL THEN 'account ' || c.business_account_id
                        ELSE 'portfolio ' || c.portfolio_id END AS portfolio
            FROM @extschema@.whatsapp_config AS c
        ), wanted AS (
            SELECT coalesce('portfolio ' || coalesce($2, (SELECT a.portfolio_id FROM accounts AS a WHERE a.user_id = $1)),
                            'account ' || $3) AS portfolio
        )
        SELECT EXISTS (SELECT FROM accounts AS a, wanted AS w WHERE a.user_id <> $1 AND a.portfolio = w.portfolio)
               AND NOT EXISTS (SELECT FROM accounts AS a, wanted AS w WHERE a.user_id = $1 AND a.portfolio = w.portfolio)";
    let args = [(*organizer).into(), portfolio_id.into(), business_account_id.into()];
    Ok(store::read(SQL, &args, |row| row.get(1))?.pop().unwrap_or(false))
}

/// Organizer, token and app secret of every account, as stored.
pub fn secrets() -> Result<Vec<(Uuid, String, Option<String>)>> {
    const SQL: &str = "SELECT user_id, access_token_encrypted, app_secret_encrypted
                       FROM @extschema@.whatsapp_config ORDER BY user_id FOR UPDATE";
    store::write(SQL, &[], |row| Ok((row.get(1)?, row.get(2)?, row.opt(3)?)))
}

/// Replaces the stored secrets of an account.
pub fn replace_secrets(organizer: &Uuid, token: &str, app_secret: Option<&str>) -> Result<()> {
    const SQL: &str = "UPDATE @extschema@.whatsapp_config
                       SET access_token_encrypted = $2, app_secret_encrypted = $3 WHERE user_id = $1";
    store::execute(SQL, &[(*organizer).into(), token.into(), app_secret.into()]).map(drop)
}
