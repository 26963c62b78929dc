//! The host application's tables, bound by oid in `whatsapp_host`. They are somebody else's: they are read with their
//! owner's rights, restricted, so that neither their policies nor their views run with ours.

use pgrx::spi::SpiCursor;
use pgrx::{JsonB, Spi, Uuid, pg_sys};

use crate::caller;
use crate::error::{Error, Kind, Result};
use crate::store::{self, Row};
use crate::time::Timestamp;

/// The tables a fan-out reads.
pub struct Host {
    events: Relation,
    orders: Relation,
    attendees: Relation,
}

struct Relation {
    name: String,
    owner: pg_sys::Oid,
}

/// What a task needs to know of its event.
pub struct Event {
    /// The organizer.
    pub organizer: Uuid,
    /// The event's fields, with event_name and event_time as templates call them.
    pub fields: JsonB,
}

/// One attendee, as the fan-out needs it.
pub struct Attendee {
    /// Phone number as written; None or blank when there is none.
    pub phone: Option<String>,
    /// The variables the template asks for, as far as anything has them.
    pub variables: String,
}

/// Counts the usage of finished minutes in the application's `rate_limits`, as the seed did message by message: a row
/// per organizer and minute. Without that table nothing is mirrored.
pub fn mirror_usage(now: Timestamp) -> Result<()> {
    const TABLE: &str = "SELECT c.oid::pg_catalog.regclass::text, c.relowner
                         FROM @extschema@.whatsapp_host AS h JOIN pg_catalog.pg_class AS c ON c.oid = h.rate_limits";
    const TAKE: &str = "
        WITH finished AS (
            UPDATE @extschema@.whatsapp_usage AS u SET mirrored = true
            WHERE NOT u.mirrored AND u.ends < date_trunc('minute', $1::timestamptz)
            RETURNING u.user_id, date_trunc('minute', u.starts) AS minute, u.messages
        )
        SELECT f.user_id, f.minute, sum(f.messages)::int FROM finished AS f GROUP BY f.user_id, f.minute";
    let table = store::read(TABLE, &[], |row| Ok(Relation { name: row.get(1)?, owner: row.get(2)? }))?.pop();
    let Some(table) = table else { return Ok(()) };
    let minutes = store::write(TAKE, &[now.into()], |row| {
        Ok((row.get::<Uuid>(1)?, row.get::<Timestamp>(2)?, row.get::<i32>(3)?))
    })?;
    if minutes.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {} (user_id, service, endpoint, count, window_start)
         SELECT m.organizer, 'whatsapp', 'send_message', m.messages, m.minute
         FROM unnest($1::uuid[], $2::timestamptz[], $3::int[]) AS m (organizer, minute, messages)",
        table.name
    );
    caller::as_restricted(table.owner, || {
        Spi::connect_mut(|client| {
            let args = [
                minutes.iter().map(|minute| minute.0).collect::<Vec<_>>().into(),
                minutes.iter().map(|minute| minute.1).collect::<Vec<_>>().into(),
                minutes.iter().map(|minute| minute.2).collect::<Vec<_>>().into(),
            ];
            client.update(sql.as_str(), None, &args)?;
            Ok(())
        })
    })
}

/// The linked tables; an error that says what to do when there are none.
pub fn linked() -> Result<Host> {
    const SQL: &str = "
        SELECT e.oid::pg_catalog.regclass::text, e.relowner, o.oid::pg_catalog.regclass::text, o.relowner,
               a.oid::pg_catalog.regclass::text, a.relowner
        FROM @extschema@.whatsapp_host AS h
        JOIN pg_catalog.pg_class AS e ON e.oid = h.ai_events
        JOIN pg_catalog.pg_class AS o ON o.oid = h.orders
        JOIN pg_catalog.pg_class AS a ON a.oid = h.attendees";
    let found = store::read(SQL, &[], |row| {
        let relation = |n| -> Result<Relation> { Ok(Relation { name: row.get(n)?, owner: row.get(n + 1)? }) };
        Ok(Host { events: relation(1)?, orders: relation(3)?, attendees: relation(5)? })
    })?;
    found.into_iter().next().ok_or_else(|| {
        Error::new(Kind::NotReady, "the application's tables are not linked")
            .detail("A fan-out reads ai_events, orders and attendees.")
            .hint("Run wa_link_host() as the owner of the extension.")
    })
}

impl Host {
    /// The event with this id.
    pub fn event(&self, id: &Uuid) -> Result<Option<Event>> {
        let sql = format!(
            "SELECT e.organizer_id,
                    to_jsonb(e) || jsonb_build_object(
                        'event_name', e.name,
                        'event_time', to_char(e.start_date::timestamptz AT TIME ZONE
                            coalesce(nullif(to_jsonb(e) ->> 'timezone', ''), nullif(to_jsonb(e) ->> 'time_zone', ''), 'UTC'),
                            'YYYY-MM-DD HH12:MI AM'))
             FROM {} AS e WHERE e.id = $1",
            self.events.name
        );
        caller::as_restricted(self.events.owner, || {
            Spi::connect(|client| {
                let mut found = None;
                for tuple in client.select(sql.as_str(), Some(1), &[(*id).into()])? {
                    let row = Row(tuple);
                    found = Some(Event { organizer: row.get(1)?, fields: row.get(2)? });
                }
                Ok(found)
            })
        })
    }

    /// Keys of a filter that neither a column nor any attendee of the event has. Without attendees nothing is unknown.
    pub fn unknown_keys(&self, event: &Uuid, filter: &JsonB) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT k.key FROM jsonb_object_keys($2) AS k (key)
             WHERE EXISTS (SELECT FROM ({people}) AS p)
               AND NOT EXISTS (SELECT FROM ({people}) AS p WHERE p.names ? k.key)",
            people = self.people()
        );
        caller::as_restricted(self.attendees.owner, || {
            Spi::connect(|client| {
                let args = [(*event).into(), JsonB(filter.0.clone()).into()];
                client.select(sql.as_str(), None, &args)?.map(|tuple| Row(tuple).get(1)).collect()
            })
        })
    }

    /// Reads the event's attendees that pass the filter, a chunk at a time: memory stays flat however many they are.
    pub fn each_attendee(
        &self,
        event: &Uuid,
        common: &JsonB,
        filter: &JsonB,
        variables: &[String],
        chunk: i64,
        mut take: impl FnMut(Vec<Attendee>) -> Result<()>,
    ) -> Result<()> {
        // A scalar must be equal, a list names what is allowed, an object must be contained.
        let sql = format!(
            "SELECT p.phone,
                    (SELECT coalesce(jsonb_object_agg(v.name, coalesce(p.fields -> v.name, $3 -> v.name)), '{{}}')
                     FROM unnest($4::text[]) AS v (name)
                     WHERE coalesce(p.fields -> v.name, $3 -> v.name) IS NOT NULL)::text
             FROM ({people}) AS p
             WHERE NOT EXISTS (
                 SELECT FROM jsonb_each($2) AS f (key, value)
                 WHERE NOT coalesce(CASE jsonb_typeof(f.value)
                     WHEN 'array' THEN EXISTS (SELECT FROM jsonb_array_elements_text(f.value) AS e (text)
                                               WHERE e.text = p.fields ->> f.key)
                     WHEN 'object' THEN p.fields -> f.key @> f.value
                     WHEN 'null' THEN p.fields ->> f.key IS NULL
                     ELSE p.fields ->> f.key = f.value #>> '{{}}' END, false))",
            people = self.people()
        );
        Spi::connect(|client| {
            let owner = self.attendees.owner;
            let args = [
                (*event).into(),
                JsonB(filter.0.clone()).into(),
                JsonB(common.0.clone()).into(),
                variables.to_vec().into(),
            ];
            let mut cursor = caller::as_restricted(owner, || Ok(client.try_open_cursor(sql.as_str(), &args)?))?;
            loop {
                let rows = caller::as_restricted(owner, || fetch(&mut cursor, chunk))?;
                if rows.is_empty() {
                    return Ok(());
                }
                take(rows)?;
            }
        })
    }

    /// The event's people: `fields` has every value a filter or template may ask for, attendee_info first, then attendee,
    /// then order, where a null does not hide what the next one has; `names` has every name there is.
    fn people(&self) -> String {
        format!(
            "SELECT a.attendee_info ->> 'phone' AS phone,
                    jsonb_strip_nulls(to_jsonb(o)) || jsonb_strip_nulls(to_jsonb(a) - 'attendee_info')
                    || jsonb_strip_nulls(coalesce(a.attendee_info::jsonb, '{{}}'))
                    || jsonb_strip_nulls(jsonb_build_object('attendee_name', a.attendee_info ->> 'name')) AS fields,
                    to_jsonb(o) || to_jsonb(a) || coalesce(a.attendee_info::jsonb, '{{}}') AS names
             FROM {attendees} AS a JOIN {orders} AS o ON o.id = a.order_id WHERE o.event_id = $1",
            attendees = self.attendees.name,
            orders = self.orders.name
        )
    }
}

fn fetch(cursor: &mut SpiCursor, chunk: i64) -> Result<Vec<Attendee>> {
    cursor
        .fetch(chunk)?
        .map(|tuple| {
            let row = Row(tuple);
            Ok(Attendee { phone: row.opt(1)?, variables: row.get(2)? })
        })
        .collect()
}
