//! `whatsapp_holds`, and what Meta's answers say about recipients (`whatsapp_contacts`).

use cloud_api::holds::{Hold, Scope};
use pgrx::Uuid;

use crate::error::Result;
use crate::store;
use crate::time::Timestamp;

/// Refusals of Meta's pair limit that lie further apart are not in a row.
const PAIR_MEMORY: &str = "24 hours";

/// What is held back for an organizer and a number, whoever's number it is.
pub fn active(organizer: &Uuid, phone_number_id: &str) -> Result<Vec<Hold>> {
    const SQL: &str = "
        SELECT h.scope, h.subject, h.code, h.reason, h.until, h.source = 'meta'
        FROM @extschema@.whatsapp_holds AS h WHERE h.user_id = $1
        UNION ALL
        SELECT h.scope, h.subject, h.code, h.reason, h.until, h.source = 'meta'
        FROM @extschema@.whatsapp_holds AS h
        WHERE h.scope = 'number' AND h.subject = $2 AND h.user_id <> $1";
    let holds = store::read(SQL, &[(*organizer).into(), phone_number_id.into()], |row| {
        let scope: String = row.get(1)?;
        Ok(Hold {
            // The check constraint knows the same names; an unknown one holds everything rather than nothing.
            scope: Scope::parse(&scope).unwrap_or(Scope::Account),
            subject: row.get(2)?,
            code: row.opt(3)?,
            reason: row.get(4)?,
            until_us: row.get::<Timestamp>(5)?.0,
            is_metas: row.get(6)?,
        })
    })?;
    Ok(holds)
}

/// A hold that an answer of Meta's asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// The organizer.
    pub organizer: Uuid,
    /// What kind of thing is held.
    pub scope: Scope,
    /// Which one.
    pub subject: String,
    /// Meta's code.
    pub code: String,
    /// Why, what it means, what to do.
    pub reason: String,
    /// One message is tried then; [`Timestamp::INFINITY`]: until a person ends it.
    pub until: Timestamp,
}

/// Places or prolongs a hold; true when it was not there before.
pub fn stop(stop: &Stop, now: Timestamp) -> Result<bool> {
    const SQL: &str = "
        INSERT INTO @extschema@.whatsapp_holds AS h (user_id, scope, subject, source, code, reason, held_at, until)
        VALUES ($1, $2, $3, 'meta', $4, $5, $6, $7)
        ON CONFLICT (user_id, scope, subject, source) DO UPDATE
        SET code = excluded.code, reason = excluded.reason, until = greatest(h.until, excluded.until),
            strikes = h.strikes + 1
        RETURNING xmax = 0";
    let rows = store::write(
        SQL,
        &[
            stop.organizer.into(),
            stop.scope.as_str().into(),
            stop.subject.as_str().into(),
            stop.code.as_str().into(),
            stop.reason.as_str().into(),
            now.into(),
            stop.until.into(),
        ],
        |row| row.get(1),
    )?;
    Ok(rows.into_iter().next().unwrap_or(false))
}

/// A message is being tried: nobody else tries one before this moment.
pub fn begin_probe(organizer: &Uuid, hold: &Hold, until: Timestamp) -> Result<()> {
    const SQL: &str = "UPDATE @extschema@.whatsapp_holds SET until = $4
                       WHERE source = 'meta' AND scope = $2 AND subject = $3 AND (user_id = $1 OR scope = 'number')";
    let args = [(*organizer).into(), hold.scope.as_str().into(), hold.subject.as_str().into(), until.into()];
    store::execute(SQL, &args).map(drop)
}

/// Meta took the message that was tried: the holds it was tried for are over. Answers how many.
pub fn end_probed(organizer: &Uuid, phone_number_id: &str, template: &str, category: Option<&str>) -> Result<u64> {
    const SQL: &str = "
        DELETE FROM @extschema@.whatsapp_holds AS h
        WHERE h.source = 'meta' AND h.until < 'infinity'
          AND ((h.user_id = $1 AND (h.scope = 'account'
                                    OR (h.scope = 'template' AND split_part(h.subject, '/', 1) = $3)
                                    OR (h.scope = 'category' AND h.subject = $4)))
               OR (h.scope = 'number' AND h.subject = $2))";
    store::execute(SQL, &[(*organizer).into(), phone_number_id.into(), template.into(), category.into()])
}

/// What Meta said about a recipient.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Too many messages for one recipient (131056): the wait grows with each refusal in a row.
    Pair,
    /// Not delivered; after so many in a row, one a day counted, nothing more is tried.
    Undeliverable(u32),
    /// Marketing waits until then; [`Timestamp::INFINITY`]: the person wants none.
    Marketing(Timestamp),
}

/// Takes note of what Meta said about a recipient. For [`Word::Pair`], answers how many refusals in a row that makes.
pub fn note(organizer: &Uuid, phone: &str, word: &Word, code: &str, reason: &str, now: Timestamp) -> Result<u32> {
    const PAIR: &str = "
        INSERT INTO @extschema@.whatsapp_contacts AS c
            (user_id, phone, pair_failures, pair_failed_at, held_code, held_reason, updated_at)
        VALUES ($1, $2, 1, $3, $4, $5, $3)
        ON CONFLICT (user_id, phone) DO UPDATE
        SET pair_failures = CASE WHEN c.pair_failed_at > $3 - $6::interval THEN c.pair_failures + 1 ELSE 1 END,
            pair_failed_at = $3, held_code = excluded.held_code, held_reason = excluded.held_reason, updated_at = $3
        RETURNING c.pair_failures";
    const UNDELIVERABLE: &str = "
        INSERT INTO @extschema@.whatsapp_contacts AS c
            (user_id, phone, undeliverable, undeliverable_at, suppressed_at, suppressed_code, updated_at)
        VALUES ($1, $2, 1, $3, CASE WHEN $5 <= 1 THEN $3 END, CASE WHEN $5 <= 1 THEN $4 END, $3)
        ON CONFLICT (user_id, phone) DO UPDATE
        SET undeliverable = c.undeliverable + 1, undeliverable_at = $3, updated_at = $3,
            suppressed_at = CASE WHEN c.undeliverable + 1 >= $5 THEN $3 ELSE c.suppressed_at END,
            suppressed_code = CASE WHEN c.undeliverable + 1 >= $5 THEN $4 ELSE c.suppressed_code END
        WHERE $5 <= 1 OR c.undeliverable_at IS NULL OR c.undeliverable_at < $3 - interval '20 hours'";
    const MARKETING: &str = "
        INSERT INTO @extschema@.whatsapp_contacts AS c
            (user_id, phone, marketing_held_until, marketing_held_code, updated_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_id, phone) DO UPDATE
        SET marketing_held_until = greatest(c.marketing_held_until, excluded.marketing_held_until),
            marketing_held_code = excluded.marketing_held_code, updated_at = $5";
    let (organizer, phone) = ((*organizer).into(), phone.into());
    match word {
        Word::Pair => {
            let args = [organizer, phone, now.into(), code.into(), reason.into(), PAIR_MEMORY.into()];
            let rows = store::write(PAIR, &args, |row| row.get::<i32>(1))?;
            Ok(rows.into_iter().next().unwrap_or(1).unsigned_abs())
        }
        Word::Undeliverable(failures) => {
            let failures = i32::try_from(*failures).unwrap_or(i32::MAX);
            store::execute(UNDELIVERABLE, &[organizer, phone, now.into(), code.into(), failures.into()])?;
            Ok(0)
        }
        Word::Marketing(until) => {
            store::execute(MARKETING, &[organizer, phone, (*until).into(), code.into(), now.into()])?;
            Ok(0)
        }
    }
}

/// Messages to this recipient wait until then.
pub fn hold_recipient(organizer: &Uuid, phone: &str, until: Timestamp) -> Result<()> {
    const SQL: &str = "UPDATE @extschema@.whatsapp_contacts
                       SET held_until = greatest(held_until, $3) WHERE user_id = $1 AND phone = $2";
    store::execute(SQL, &[(*organizer).into(), phone.into(), until.into()]).map(drop)
}

/// What wa_pause() and wa_resume() mean.
pub struct Subject {
    /// The organizer.
    pub organizer: Uuid,
    /// What kind of thing.
    pub scope: Scope,
    /// Which one.
    pub subject: String,
}

/// Holds something by hand.
pub fn pause(what: &Subject, until: Timestamp, reason: &str, by: &str) -> Result<()> {
    const SQL: &str = "
        INSERT INTO @extschema@.whatsapp_holds (user_id, scope, subject, source, reason, until, held_by)
        VALUES ($1, $2, $3, 'person', $4, $5, $6)
        ON CONFLICT (user_id, scope, subject, source) DO UPDATE
        SET reason = excluded.reason, until = excluded.until, held_by = excluded.held_by, held_at = now()";
    let args = [
        what.organizer.into(),
        what.scope.as_str().into(),
        what.subject.as_str().into(),
        reason.into(),
        until.into(),
        by.into(),
    ];
    store::execute(SQL, &args).map(drop)
}

/// Ends holds, Meta's and people's. Resuming an account resumes its number, categories and countries too, which cannot be
/// named by themselves. Answers how many holds ended.
pub fn resume(what: &Subject) -> Result<u64> {
    const SQL: &str = "
        DELETE FROM @extschema@.whatsapp_holds AS h
        WHERE h.user_id = $1
          AND ((h.scope = $2 AND (h.subject = $3 OR (h.scope = 'template' AND split_part(h.subject, '/', 1) = $3)))
               OR ($2 = 'account' AND h.scope IN ('number', 'category', 'country')))";
    store::execute(SQL, &[what.organizer.into(), what.scope.as_str().into(), what.subject.as_str().into()])
}

/// Holds messages to a recipient by hand.
pub fn pause_recipient(organizer: &Uuid, phone: &str, until: Timestamp, reason: &str) -> Result<()> {
    const SQL: &str = "
        INSERT INTO @extschema@.whatsapp_contacts AS c (user_id, phone, held_until, held_reason)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (user_id, phone) DO UPDATE
        SET held_until = excluded.held_until, held_reason = excluded.held_reason, held_code = NULL, updated_at = now()";
    store::execute(SQL, &[(*organizer).into(), phone.into(), until.into(), reason.into()]).map(drop)
}

/// Lets messages to a recipient leave again: ends pauses, Meta's waits and the suppression of a number that could not be
/// reached. What the person said about marketing stays. Answers whether there was anything to end.
pub fn resume_recipient(organizer: &Uuid, phone: &str) -> Result<bool> {
    const SQL: &str = "
        UPDATE @extschema@.whatsapp_contacts AS c
        SET held_until = NULL, held_code = NULL, held_reason = NULL, suppressed_at = NULL, suppressed_code = NULL,
            undeliverable = 0, pair_failures = 0, updated_at = now()
        WHERE c.user_id = $1 AND c.phone = $2
          AND (c.held_until > now() OR c.suppressed_at IS NOT NULL)";
    Ok(store::execute(SQL, &[(*organizer).into(), phone.into()])? > 0)
}

/// A new token or number was configured: what Meta held for the old one is over.
pub fn forget_for_account(organizer: &Uuid) -> Result<()> {
    const SQL: &str = "DELETE FROM @extschema@.whatsapp_holds
                       WHERE user_id = $1 AND source = 'meta' AND scope IN ('account', 'number')";
    store::execute(SQL, &[(*organizer).into()]).map(drop)
}

/// Forgets people's holds that are over.
pub fn forget_ended(now: Timestamp) -> Result<()> {
    const SQL: &str = "DELETE FROM @extschema@.whatsapp_holds WHERE source = 'person' AND until <= $1";
    store::execute(SQL, &[now.into()]).map(drop)
}
