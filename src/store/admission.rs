//! What has been given away of Meta's limits: sending time per number, unique recipients per portfolio, and messages
//! per minute. Each is read and changed under one row's lock, taken without waiting: who finds it taken comes back
//! later, so workers never wait for each other and cannot deadlock.

use std::time::Duration;

use pgrx::Uuid;

use crate::error::Result;
use crate::store;
use crate::time::Timestamp;

/// Meta counts unique recipients over this span.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The seed's gate: never more than the tier's figure in this span.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Locks a number's sending time and answers its first free moment; None when another worker holds it.
pub fn lock_pace(phone_number_id: &str) -> Result<Option<Timestamp>> {
    const MAKE: &str = "INSERT INTO @extschema@.whatsapp_pacing (phone_number_id) VALUES ($1) ON CONFLICT DO NOTHING";
    const LOCK: &str = "SELECT next_free FROM @extschema@.whatsapp_pacing WHERE phone_number_id = $1
                        FOR UPDATE SKIP LOCKED";
    const IS_THERE: &str = "SELECT true FROM @extschema@.whatsapp_pacing WHERE phone_number_id = $1";
    let locked = store::write(LOCK, &[phone_number_id.into()], |row| row.get(1))?.pop();
    if locked.is_some() || store::read(IS_THERE, &[phone_number_id.into()], |row| row.get::<bool>(1))?.pop().is_some() {
        return Ok(locked);
    }
    store::execute(MAKE, &[phone_number_id.into()])?;
    Ok(store::write(LOCK, &[phone_number_id.into()], |row| row.get(1))?.pop())
}

/// Gives away a number's time up to this moment, and counts the slice.
pub fn give_pace(
    phone_number_id: &str,
    next_free: Timestamp,
    portfolio: &str,
    organizer: &Uuid,
    starts: Timestamp,
    ends: Timestamp,
    messages: i32,
) -> Result<()> {
    const SQL: &str = "
        WITH paced AS (
            UPDATE @extschema@.whatsapp_pacing SET next_free = $2 WHERE phone_number_id = $1
        )
        INSERT INTO @extschema@.whatsapp_usage (portfolio, user_id, starts, ends, messages) VALUES ($3, $4, $5, $6, $7)";
    let args = [
        phone_number_id.into(),
        next_free.into(),
        portfolio.into(),
        (*organizer).into(),
        starts.into(),
        ends.into(),
        messages.into(),
    ];
    store::execute(SQL, &args).map(drop)
}

/// The first free moment of a number, without locking it.
pub fn pace(phone_number_id: &str) -> Result<Option<Timestamp>> {
    const SQL: &str = "SELECT next_free FROM @extschema@.whatsapp_pacing WHERE phone_number_id = $1";
    Ok(store::read(SQL, &[phone_number_id.into()], |row| row.get(1))?.pop())
}

/// Locks a portfolio's budget, forgets recipients whose day is over, and answers how many count now; None when another
/// worker holds it.
pub fn lock_budget(portfolio: &str, now: Timestamp) -> Result<Option<u32>> {
    const MAKE: &str = "INSERT INTO @extschema@.whatsapp_budget (portfolio) VALUES ($1) ON CONFLICT DO NOTHING";
    const LOCK: &str = "SELECT recipients FROM @extschema@.whatsapp_budget WHERE portfolio = $1 FOR UPDATE SKIP LOCKED";
    const IS_THERE: &str = "SELECT true FROM @extschema@.whatsapp_budget WHERE portfolio = $1";
    const FORGET: &str = "
        WITH over AS (
            SELECT r.recipient_phone FROM @extschema@.whatsapp_recipients AS r
            WHERE r.portfolio = $1 AND r.last_sent <= $2 ORDER BY r.last_sent LIMIT 10000
        ), gone AS (
            DELETE FROM @extschema@.whatsapp_recipients AS r USING over AS o
            WHERE r.portfolio = $1 AND r.recipient_phone = o.recipient_phone RETURNING 1
        )
        UPDATE @extschema@.whatsapp_budget SET recipients = recipients - (SELECT count(*) FROM gone)::int
        WHERE portfolio = $1 RETURNING recipients";
    let lock = || store::write(LOCK, &[portfolio.into()], |row| row.get::<i32>(1)).map(|mut rows| rows.pop());
    let mut used = lock()?;
    if used.is_none() && store::read(IS_THERE, &[portfolio.into()], |row| row.get::<bool>(1))?.is_empty() {
        store::execute(MAKE, &[portfolio.into()])?;
        used = lock()?;
    }
    let day_ago = Timestamp(now.0.saturating_sub(micros(DAY)));
    if used.is_some() && first_recipient_at(portfolio)?.is_some_and(|first| first <= day_ago) {
        used = store::write(FORGET, &[portfolio.into(), day_ago.into()], |row| row.get(1))?.pop();
    }
    Ok(used.map(|used| used.max(0).unsigned_abs()))
}

/// Counts these recipients as written to at this moment. The caller holds the budget's lock.
pub fn count_recipients(portfolio: &str, recipients: Vec<String>, at: Timestamp) -> Result<()> {
    const SQL: &str = "
        WITH touched AS (
            INSERT INTO @extschema@.whatsapp_recipients AS r (portfolio, recipient_phone, last_sent)
            SELECT DISTINCT $1, p.phone, $3 FROM unnest($2::text[]) AS p (phone)
            ON CONFLICT (portfolio, recipient_phone) DO UPDATE SET last_sent = greatest(r.last_sent, excluded.last_sent)
            RETURNING (r.xmax = 0) AS is_new
        )
        UPDATE @extschema@.whatsapp_budget
        SET recipients = recipients + (SELECT count(*) FROM touched WHERE is_new)::int WHERE portfolio = $1";
    store::execute(SQL, &[portfolio.into(), recipients.into(), at.into()]).map(drop)
}

/// An account counts under another portfolio from now on: its day's recipients count there too. They stay where they
/// were as well, because other accounts may count there.
pub fn follow_portfolio(from: &str, to: &str) -> Result<()> {
    const COPY: &str = "
        INSERT INTO @extschema@.whatsapp_recipients AS r (portfolio, recipient_phone, last_sent)
        SELECT $2, o.recipient_phone, o.last_sent FROM @extschema@.whatsapp_recipients AS o WHERE o.portfolio = $1
        ON CONFLICT (portfolio, recipient_phone) DO UPDATE SET last_sent = greatest(r.last_sent, excluded.last_sent)";
    const COUNT: &str = "
        INSERT INTO @extschema@.whatsapp_budget (portfolio, recipients)
        SELECT $1, count(*) FROM @extschema@.whatsapp_recipients AS r WHERE r.portfolio = $1
        ON CONFLICT (portfolio) DO UPDATE SET recipients = excluded.recipients";
    const LOCK: &str = "INSERT INTO @extschema@.whatsapp_budget (portfolio) VALUES ($1)
                        ON CONFLICT (portfolio) DO UPDATE SET recipients = whatsapp_budget.recipients";
    store::execute(LOCK, &[to.into()])?;
    store::execute(COPY, &[from.into(), to.into()])?;
    store::execute(COUNT, &[to.into()]).map(drop)
}

/// Recipients of the rolling day, without locking.
pub fn recipients_of_day(portfolio: &str, now: Timestamp) -> Result<i64> {
    const SQL: &str = "
        SELECT coalesce((SELECT b.recipients FROM @extschema@.whatsapp_budget AS b WHERE b.portfolio = $1), 0)
               - (SELECT count(*) FROM @extschema@.whatsapp_recipients AS r WHERE r.portfolio = $1 AND r.last_sent <= $2)";
    let day_ago = Timestamp(now.0.saturating_sub(micros(DAY)));
    Ok(store::read(SQL, &[portfolio.into(), day_ago.into()], |row| row.get(1))?.pop().unwrap_or(0))
}

/// When the oldest recipient of the day was last written to.
pub fn first_recipient_at(portfolio: &str) -> Result<Option<Timestamp>> {
    const SQL: &str = "SELECT r.last_sent FROM @extschema@.whatsapp_recipients AS r
                       WHERE r.portfolio = $1 ORDER BY r.last_sent LIMIT 1";
    Ok(store::read(SQL, &[portfolio.into()], |row| row.get(1))?.pop())
}

/// What the last minute has used.
pub struct Minute {
    /// Messages.
    pub messages: i64,
    /// When the oldest of them leave the minute.
    pub frees_at: Option<Timestamp>,
}

/// Messages of the last minute: slices given to claims, and rows that somebody else wrote into the queue as sent.
pub fn minute(portfolio: &str, organizer: &Uuid, now: Timestamp) -> Result<Minute> {
    const SQL: &str = "
        SELECT coalesce(sum(u.messages), 0)::bigint, min(u.ends)
        FROM @extschema@.whatsapp_usage AS u WHERE u.portfolio = $1 AND u.ends > $3
        UNION ALL
        SELECT count(*), min(q.sent_at)
        FROM @extschema@.whatsapp_queue AS q
        WHERE q.user_id = $2 AND q.status = 'sent' AND q.lease IS NULL AND q.sent_at > $3";
    let minute_ago = Timestamp(now.0.saturating_sub(micros(MINUTE)));
    let parts = store::read(SQL, &[portfolio.into(), (*organizer).into(), minute_ago.into()], |row| {
        Ok((row.get::<i64>(1)?, row.opt::<Timestamp>(2)?))
    })?;
    Ok(Minute {
        messages: parts.iter().map(|part| part.0).sum(),
        frees_at: parts.iter().filter_map(|part| part.1).min().map(|oldest| oldest.plus(MINUTE)),
    })
}

/// Forgets slices that no limit looks at any more.
pub fn forget_usage(now: Timestamp) -> Result<()> {
    const SQL: &str = "DELETE FROM @extschema@.whatsapp_usage WHERE ctid = ANY (ARRAY(
                           SELECT u.ctid FROM @extschema@.whatsapp_usage AS u WHERE u.ends < $1 LIMIT 50000))";
    let hour_ago = Timestamp(now.0.saturating_sub(60 * micros(MINUTE)));
    store::execute(SQL, &[hour_ago.into()]).map(drop)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
