//! The server that is measured, set up as a DBA would run it: durable, with memory for a queue of this size.

use std::time::Duration;

use harness::cluster::Builder;
use harness::fixtures::{REMINDER, reminder_variables, wait_for_drainer};
use harness::{Cluster, Organizer, Session};

use crate::table::Table;

/// Longer than anything here takes; a stuck run still ends.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// What differs from the server's own defaults, the extension's settings aside.
const SETTINGS: [(&str, &str); 4] =
    [("fsync", "on"), ("shared_buffers", "1GB"), ("max_wal_size", "8GB"), ("autovacuum_naptime", "1min")];

/// A durable server with the extension preloaded, sending to `url` with so many threads; nothing leaves until
/// [`go_live`].
pub fn server(url: &str, threads: usize) -> Builder {
    let mut builder = Cluster::builder().preloaded().setting("log_min_messages", "warning");
    for (name, value) in SETTINGS {
        builder = builder.setting(name, value);
    }
    builder
        .setting("whatsapp_pg.graph_url", &format!("'{url}'"))
        .setting("whatsapp_pg.sender_threads", &threads.to_string())
        .setting("whatsapp_pg.mode", "off")
}

/// Adds the server's settings to the table's conditions, as the server has them.
pub fn note_settings(table: &mut Table, session: &mut Session) {
    let shown: Vec<String> = session.values(
        "SELECT name || ' ' || pg_catalog.current_setting(name) FROM pg_settings
         WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers',
                        'max_wal_size', 'whatsapp_pg.batch_size')
         ORDER BY name <> 'server_version', name",
        &[],
    );
    table.condition(format!("PostgreSQL: {}; the rest as initdb leaves it", shown.join(", ")));
}

/// Lets messages leave.
pub fn go_live(cluster: &Cluster) {
    cluster.configure("whatsapp_pg.mode", "live");
    cluster.reload();
}

/// So many organizers, each with a number of its own at 1,000 messages per second and no daily limit.
pub fn organizers(session: &mut Session, count: usize) -> Vec<Organizer> {
    (0..count).map(|_| Organizer::create(session)).collect()
}

/// Numbers that differ for every `from`.
pub fn numbers(from: u32, count: u32) -> Vec<String> {
    (from..from + count).map(|n| format!("+573{n:09}")).collect()
}

/// Queues one reminder for each recipient.
pub fn enqueue(session: &mut Session, organizer: &Organizer, recipients: &[String]) {
    session.execute_with(
        "SELECT count(*) FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)",
        &[&organizer.id, &recipients, &REMINDER, &reminder_variables()],
    );
}

/// Shares so many reminders out among the organizers; the server is then as quiet as a server gets.
pub fn fill(session: &mut Session, organizers: &[Organizer], total: u32) {
    let each = total / u32::try_from(organizers.len()).expect("few");
    for organizer in organizers {
        enqueue(session, organizer, &numbers(0, each));
    }
    session.run("VACUUM ANALYZE whatsapp_queue");
    session.run("CHECKPOINT");
    wait_for_drainer(session);
}
