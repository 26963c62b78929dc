//! NOTIFY for whoever listens. Anybody who can connect can listen, so a payload names no recipient and carries no text of
//! Meta's; and it is off unless `whatsapp_pg.notify_channel` names a channel, because NOTIFY makes commits wait for each
//! other (PostgreSQL: NOTIFY).

use crate::error::Result;
use crate::store::{self, holds::Stop};

/// Something was put on hold.
pub fn held(channel: &str, stop: &Stop) -> Result<()> {
    const SQL: &str = "SELECT pg_notify($1, jsonb_build_object('event', 'hold', 'user_id', $2::uuid, 'scope', $3::text,
                              'subject', $4::text, 'code', $5::text, 'until', $6::timestamptz)::text)";
    let args = [
        channel.into(),
        stop.organizer.into(),
        stop.scope.as_str().into(),
        stop.subject.as_str().into(),
        stop.code.as_str().into(),
        stop.until.into(),
    ];
    store::write(SQL, &args, |_| Ok(())).map(drop)
}
