//! What has been given away of Meta's limits: sending time per number, and slices of it per portfolio that say how much
//! and to whom. Both are read and changed under row locks taken without waiting: who finds them taken comes back later,
//! so workers never wait for each other and cannot deadlock. The limits themselves are `cloud_api::admission`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use cloud_api::admission::{Given, Usage};
use cloud_api::recipients::Recipient;
use cloud_api::throttle::{self, Throttle};
use pgrx::Uuid;

use crate::error::Result;
use crate::store;
use crate::time::{self, Timestamp};

/// Slices are kept for so long: a day, and an hour for clocks and stragglers.
const KEPT: Duration = Duration::from_secs(25 * 60 * 60);
/// The seed's gate: never more than the tier's figure in this span.
pub const MINUTE: Duration = Duration::from_secs(60);
/// What one recipient's rate looks back on; a portfolio without a daily limit needs no more.
const RECENT: Duration = Duration::from_secs(10 * 60);

/// A number's time and its portfolio's slices, locked.
#[derive(Clone, Copy, Debug)]
pub struct Locked {
    /// The number's first free moment.
    pub next_free: Timestamp,
    /// Its rate after Meta's last 130429.
    pub throttle: Option<Throttle>,
    /// The portfolio's last slice.
    pub last_slice: i64,
}

/// Locks what a claim gives away; None while another worker holds it.
pub fn lock(phone_number_id: &str, portfolio: &str) -> Result<Option<Locked>> {
    const LOCK: &str = "
        SELECT p.next_free, p.throttled_per_second, p.throttled_at, b.last_slice
        FROM @extschema@.whatsapp_pacing AS p CROSS JOIN @extschema@.whatsapp_budget AS b
        WHERE p.phone_number_id = $1 AND b.portfolio = $2 FOR UPDATE OF p, b SKIP LOCKED";
    const ARE_THERE: &str = "
        SELECT true FROM @extschema@.whatsapp_pacing AS p CROSS JOIN @extschema@.whatsapp_budget AS b
        WHERE p.phone_number_id = $1 AND b.portfolio = $2";
    const MAKE_PACING: &str =
        "INSERT INTO @extschema@.whatsapp_pacing (phone_number_id) VALUES ($1) ON CONFLICT DO NOTHING";
    const MAKE_BUDGET: &str = "INSERT INTO @extschema@.whatsapp_budget (portfolio) VALUES ($1) ON CONFLICT DO NOTHING";
    let args = [phone_number_id.into(), portfolio.into()];
    let lock = || {
        store::write(LOCK, &args, |row| {
            let throttle = match (row.opt::<i32>(2)?, row.opt::<Timestamp>(3)?) {
                (Some(per_second), Some(since)) => {
                    Some(Throttle { per_second: per_second.unsigned_abs(), since_us: since.0 })
                }
                _ => None,
            };
            Ok(Locked { next_free: row.get(1)?, throttle, last_slice: row.get(4)? })
        })
    };
    let locked = lock()?.pop();
    if locked.is_some() || store::read(ARE_THERE, &args, |row| row.get::<bool>(1))?.pop().is_some() {
        return Ok(locked);
    }
    store::execute(MAKE_PACING, &[phone_number_id.into()])?;
    store::execute(MAKE_BUDGET, &[portfolio.into()])?;
    Ok(lock()?.pop())
}

/// A number's state without locking it.
pub fn number(phone_number_id: &str) -> Result<Option<(Timestamp, Option<Throttle>)>> {
    const SQL: &str = "SELECT next_free, throttled_per_second, throttled_at FROM @extschema@.whatsapp_pacing
                       WHERE phone_number_id = $1";
    let rows = store::read(SQL, &[phone_number_id.into()], |row| {
        let throttle = match (row.opt::<i32>(2)?, row.opt::<Timestamp>(3)?) {
            (Some(per_second), Some(since)) => {
                Some(Throttle { per_second: per_second.unsigned_abs(), since_us: since.0 })
            }
            _ => None,
        };
        Ok((row.get(1)?, throttle))
    })?;
    Ok(rows.into_iter().next())
}

/// Sending time given away with a claim.
pub struct Slice<'a> {
    /// The number.
    pub phone_number_id: &'a str,
    /// Its first free moment from now on.
    pub next_free: Timestamp,
    /// Under what the tier is counted.
    pub portfolio: &'a str,
    /// The number of the slice: the portfolio's last and one.
    pub slice: i64,
    /// The organizer.
    pub organizer: Uuid,
    /// The first slot.
    pub starts: Timestamp,
    /// The last slot.
    pub ends: Timestamp,
    /// How many messages.
    pub messages: i32,
    /// To whom, in the order of the slots; negative inside an open service window.
    pub recipients: Vec<i64>,
}

/// Gives away a slice. The caller holds the locks.
pub fn give(slice: Slice) -> Result<()> {
    const SQL: &str = "
        WITH paced AS (
            UPDATE @extschema@.whatsapp_pacing SET next_free = $2 WHERE phone_number_id = $1
        ), numbered AS (
            UPDATE @extschema@.whatsapp_budget SET last_slice = $4 WHERE portfolio = $3
        )
        INSERT INTO @extschema@.whatsapp_usage
            (portfolio, slice, user_id, phone_number_id, starts, ends, messages, recipients)
        VALUES ($3, $4, $5, $1, $6, $7, $8, $9)";
    let args = [
        slice.phone_number_id.into(),
        slice.next_free.into(),
        slice.portfolio.into(),
        slice.slice.into(),
        slice.organizer.into(),
        slice.starts.into(),
        slice.ends.into(),
        slice.messages.into(),
        slice.recipients.into(),
    ];
    store::execute(SQL, &args).map(drop)
}

/// Moves a number's first free moment, when it lies where no clock of ours can have written it. The caller holds the lock.
pub fn set_next_free(phone_number_id: &str, next_free: Timestamp) -> Result<()> {
    const SQL: &str = "UPDATE @extschema@.whatsapp_pacing SET next_free = $2 WHERE phone_number_id = $1";
    store::execute(SQL, &[phone_number_id.into(), next_free.into()]).map(drop)
}

/// Inbound messages use up the number's throughput too (Meta: "Throughput").
pub fn take_inbound(phone_number_id: &str, messages: u32, now: Timestamp, interval_us: i64) -> Result<()> {
    const SQL: &str = "UPDATE @extschema@.whatsapp_pacing
                       SET next_free = greatest(next_free, $2) + $3 * interval '1 microsecond' WHERE phone_number_id = $1";
    let span = interval_us.saturating_mul(i64::from(messages));
    store::execute(SQL, &[phone_number_id.into(), now.into(), span.into()]).map(drop)
}

/// What a portfolio has used, kept in this process and brought up to date from the slices.
#[derive(Default)]
pub struct Book {
    usage: Option<Usage>,
    last_slice: Option<i64>,
    has_day: bool,
}

impl Book {
    /// The usage as of this slice, reading what other workers gave away since. `with_day`: there is a daily limit.
    pub fn as_of(&mut self, portfolio: &str, last_slice: i64, with_day: bool, now: Timestamp) -> Result<&mut Usage> {
        if self.last_slice.is_some_and(|known| known > last_slice) || (with_day && !self.has_day) {
            *self = Self::default();
        }
        let since = now.minus(if with_day { KEPT } else { RECENT });
        if self.usage.is_none() || self.last_slice != Some(last_slice) {
            self.has_day = with_day;
            let usage = self.usage.get_or_insert_with(|| Usage::known_since(now.minus(RECENT).0));
            read(usage, portfolio, self.last_slice, with_day, since)?;
            self.last_slice = Some(last_slice);
        }
        let usage = self.usage.get_or_insert_with(|| Usage::known_since(now.minus(RECENT).0));
        usage.forget(now.0);
        Ok(usage)
    }

    /// A slice of our own has been added: it is in the usage already.
    pub fn gave(&mut self, slice: i64) {
        self.last_slice = Some(slice);
    }
}

/// Takes account of what was given away after this slice.
fn read(usage: &mut Usage, portfolio: &str, after: Option<i64>, with_day: bool, since: Timestamp) -> Result<()> {
    const SLICES: &str = "
        SELECT u.phone_number_id, u.starts, u.ends, u.messages, u.recipients
        FROM @extschema@.whatsapp_usage AS u
        WHERE u.portfolio = $1 AND u.slice > $2 AND u.ends > $3 ORDER BY u.slice";
    const OLDER: &str = "SELECT r.recipient_phone, r.last_sent FROM @extschema@.whatsapp_recipients AS r
                         WHERE r.portfolio = $1 AND r.last_sent > $2";
    if after.is_none() && with_day {
        let older = store::read(OLDER, &[portfolio.into(), since.into()], |row| {
            Ok((row.get::<String>(1)?, row.get::<Timestamp>(2)?))
        })?;
        for (phone, at) in older {
            if let Some(recipient) = Recipient::parse(&phone) {
                usage.replay_recipient(recipient, at.0);
            }
        }
    }
    let args = [portfolio.into(), after.unwrap_or(i64::MIN).into(), since.into()];
    store::read(SLICES, &args, |row| {
        let recipients: Vec<i64> = row.get(5)?;
        usage.replay(Given {
            phone_number_id: &row.get::<String>(1)?,
            starts_us: row.get::<Timestamp>(2)?.0,
            ends_us: row.get::<Timestamp>(3)?.0,
            messages: row.get::<i32>(4)?.unsigned_abs(),
            recipients: &recipients,
        });
        Ok(())
    })
    .map(drop)
}

thread_local! {
    /// What this backend has read for questions about limits.
    static BOOKS: RefCell<Books> = RefCell::default();
}

#[derive(Default)]
struct Books {
    /// The extension they were read for, and how the clock stood.
    of: Option<(pgrx::pg_sys::Oid, i64)>,
    books: HashMap<String, Book>,
}

/// Looks at what a portfolio has used, without locking.
pub fn look<R>(portfolio: &str, with_day: bool, now: Timestamp, look: impl FnOnce(&mut Usage) -> R) -> Result<R> {
    let (oid, offset) = (store::installed()?.oid, time::clock_offset());
    let last_slice = last_slice(portfolio)?;
    // Taken out: an error on the way leaves nothing half-read behind.
    let mut book = BOOKS.with_borrow_mut(|all| {
        let is_known = |(of, at): (_, i64)| of == oid && (at - offset).abs() < time::CLOCK_TOLERANCE_US;
        if !all.of.is_some_and(is_known) {
            *all = Books { of: Some((oid, offset)), books: HashMap::new() };
        }
        all.books.remove(portfolio).unwrap_or_default()
    });
    let answer = look(book.as_of(portfolio, last_slice, with_day, now)?);
    BOOKS.with_borrow_mut(|all| all.books.insert(portfolio.to_owned(), book));
    Ok(answer)
}

/// The portfolio's last slice, without locking.
fn last_slice(portfolio: &str) -> Result<i64> {
    const SQL: &str = "SELECT last_slice FROM @extschema@.whatsapp_budget WHERE portfolio = $1";
    Ok(store::read(SQL, &[portfolio.into()], |row| row.get(1))?.pop().unwrap_or(0))
}

/// An account counts under another portfolio from now on: its day's recipients count there too. They stay where they
/// were as well, because other accounts may count there.
pub fn follow_portfolio(from: &str, to: &str) -> Result<()> {
    const LOCK: &str = "INSERT INTO @extschema@.whatsapp_budget AS b (portfolio) VALUES ($1)
                        ON CONFLICT (portfolio) DO UPDATE SET last_slice = b.last_slice";
    const COPY: &str = "
        WITH copied AS (
            INSERT INTO @extschema@.whatsapp_usage
                (portfolio, slice, user_id, phone_number_id, starts, ends, messages, recipients, mirrored)
            SELECT $2, b.last_slice + row_number() OVER (ORDER BY u.slice), u.user_id, u.phone_number_id, u.starts, u.ends, 0,
                   u.recipients, true
            FROM @extschema@.whatsapp_usage AS u
            JOIN @extschema@.whatsapp_budget AS b ON b.portfolio = $2
            WHERE u.portfolio = $1
            RETURNING slice
        )
        UPDATE @extschema@.whatsapp_budget
        SET last_slice = greatest(last_slice, (SELECT max(c.slice) FROM copied AS c)) WHERE portfolio = $2";
    const OLDER: &str = "
        INSERT INTO @extschema@.whatsapp_recipients AS r (portfolio, recipient_phone, last_sent)
        SELECT $2, o.recipient_phone, o.last_sent FROM @extschema@.whatsapp_recipients AS o WHERE o.portfolio = $1
        ON CONFLICT (portfolio, recipient_phone) DO UPDATE SET last_sent = greatest(r.last_sent, excluded.last_sent)";
    let args = [from.into(), to.into()];
    store::execute(LOCK, &[to.into()])?;
    store::execute(COPY, &args)?;
    store::execute(OLDER, &args).map(drop)
}

/// Rows of the last minute that somebody else wrote into the queue as sent (they count as the seed has it), and the time
/// of the oldest.
pub fn sent_elsewhere(organizer: &Uuid, since: Timestamp) -> Result<(i64, Option<Timestamp>)> {
    const SQL: &str = "SELECT count(*), min(q.sent_at) FROM @extschema@.whatsapp_queue AS q
                       WHERE q.user_id = $1 AND q.status = 'sent' AND q.lease IS NULL AND q.sent_at > $2";
    let rows = store::read(SQL, &[(*organizer).into(), since.into()], |row| Ok((row.get(1)?, row.opt(2)?)))?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// A number was told that it sends too fast: it rests, then goes on at half its rate; answers that come together halve it
/// once.
pub fn throttle(phone_number_id: &str, full: u32, now: Timestamp, rest: Duration) -> Result<()> {
    const LOCK: &str = "SELECT throttled_per_second, throttled_at FROM @extschema@.whatsapp_pacing
                        WHERE phone_number_id = $1 FOR UPDATE";
    const SET: &str = "UPDATE @extschema@.whatsapp_pacing
                       SET throttled_per_second = $2, throttled_at = $3, next_free = greatest(next_free, $4)
                       WHERE phone_number_id = $1";
    let before = store::write(LOCK, &[phone_number_id.into()], |row| {
        Ok(match (row.opt::<i32>(1)?, row.opt::<Timestamp>(2)?) {
            (Some(per_second), Some(since)) => {
                Some(Throttle { per_second: per_second.unsigned_abs(), since_us: since.0 })
            }
            _ => None,
        })
    })?;
    let throttle = throttle::halved(before.into_iter().next().flatten(), full, now.0);
    let per_second = i32::try_from(throttle.per_second).unwrap_or(i32::MAX);
    let args = [phone_number_id.into(), per_second.into(), Timestamp(throttle.since_us).into(), now.plus(rest).into()];
    store::execute(SET, &args).map(drop)
}

/// Forgets slices that no limit looks at any more.
pub fn forget_usage(now: Timestamp) -> Result<()> {
    const SLICES: &str = "DELETE FROM @extschema@.whatsapp_usage WHERE ctid = ANY (ARRAY(
                              SELECT u.ctid FROM @extschema@.whatsapp_usage AS u WHERE u.ends < $1 LIMIT 50000))";
    const OLDER: &str = "DELETE FROM @extschema@.whatsapp_recipients AS r WHERE r.last_sent < $1";
    let before = now.minus(KEPT);
    store::execute(SLICES, &[before.into()])?;
    store::execute(OLDER, &[before.into()]).map(drop)
}
