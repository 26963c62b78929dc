//! Organizers, templates and the example host application, as most tests need them.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use graph_simulator::{Options, Simulator, Stats};
use serde_json::Value;
use uuid::Uuid;

use crate::cluster::{Builder, Cluster};
use crate::session::Session;
use crate::wait::{PATIENCE, wait_until};

/// The access token that fixtures configure; tests about secrets look for it in places where it must not be.
pub const TOKEN: &str = "EAAGtokenForTestsOnly0123456789abcdef";

/// The approved template that fixtures insert: the seed's reminder. The order of its list of variables differs
/// from the order in which jsonb keeps keys (by length).
pub const REMINDER: &str = "event_reminder_24h";

/// An organizer with an account and the template [`REMINDER`].
#[derive(Debug, Clone)]
pub struct Organizer {
    /// `user_id` everywhere.
    pub id: Uuid,
    /// Meta's id of the sending number.
    pub phone_number_id: String,
}

impl Organizer {
    /// Configures an account that pacing does not slow down, and inserts the template.
    pub fn create(session: &mut Session) -> Self {
        Self::with_account(session, "messages_per_second => 1000, rate_limit_tier => 'unlimited'")
    }

    /// The same with other arguments of `wa_configure`, in named notation.
    pub fn with_account(session: &mut Session, arguments: &str) -> Self {
        Self::create_for(session, Uuid::new_v4(), arguments)
    }

    /// The same for a known user.
    pub fn create_for(session: &mut Session, id: Uuid, arguments: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let phone_number_id = format!("1060{:011}", COUNT.fetch_add(1, Ordering::Relaxed));
        let organizer = Self { id, phone_number_id };
        organizer.configure(session, arguments);
        organizer.add_template(
            session,
            REMINDER,
            "en",
            "Hi {{1}}! Your event '{{2}}' starts tomorrow at {{3}}. See you there!",
            &["attendee_name", "event_name", "event_time"],
        );
        organizer
    }

    /// Calls `wa_configure` for this organizer (again).
    pub fn configure(&self, session: &mut Session, arguments: &str) {
        let comma = if arguments.is_empty() { "" } else { ", " };
        session.execute_with(
            &format!(
                "SELECT wa_configure(user_id => $1, phone_number_id => $2, business_account_id => $3,
                                     access_token => $4, webhook_verify_token => 'verify-me'{comma}{arguments})"
            ),
            &[&self.id, &self.phone_number_id, &format!("2{}", self.phone_number_id), &TOKEN],
        );
    }

    /// Inserts an approved UTILITY template.
    pub fn add_template(&self, session: &mut Session, name: &str, language: &str, body: &str, variables: &[&str]) {
        session.execute_with(
            "INSERT INTO whatsapp_templates (user_id, template_name, language, category, status, template_body, variables)
             VALUES ($1, $2, $3, 'UTILITY', 'approved', $4, $5)",
            &[&self.id, &name, &language, &body, &serde_json::json!(variables)],
        );
    }

    /// Queues the reminder for `recipients` by `wa_enqueue`; answers the ids of the rows.
    pub fn enqueue(&self, session: &mut Session, recipients: &[String]) -> Vec<Uuid> {
        session.values(
            "SELECT id FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)",
            &[&self.id, &recipients, &REMINDER, &reminder_variables()],
        )
    }

    /// How many of this organizer's rows are in `status`.
    pub fn count(&self, session: &mut Session, status: &str) -> i64 {
        session.value("SELECT count(*) FROM whatsapp_queue WHERE user_id = $1 AND status = $2", &[&self.id, &status])
    }

    /// Waits until this organizer has `wanted` rows in `status`.
    pub fn wait_for_count(&self, session: &mut Session, status: &str, wanted: i64) {
        session.wait_for_value(
            &wanted,
            "SELECT count(*) FROM whatsapp_queue WHERE user_id = $1 AND status = $2",
            &[&self.id, &status],
        );
    }
}

/// A simulator with its defaults: plain HTTP on loopback, any account and template, no latency.
pub fn simulator() -> Simulator {
    Simulator::start(Options::default()).expect("the simulator starts")
}

/// A server whose worker sends to `simulator` and, once started, does not look at the queue by itself.
pub fn serving(simulator: &Simulator) -> Builder {
    Cluster::builder()
        .preloaded()
        .setting("whatsapp_pg.graph_url", &format!("'{}'", simulator.url()))
        .setting("whatsapp_pg.poll_interval", "'1h'")
}

/// Waits until the drainer of the session's database runs; answers its pid.
pub fn wait_for_drainer(session: &mut Session) -> i32 {
    wait_until("the drainer to run", PATIENCE, || {
        let pids: Vec<i32> = session.values(
            "SELECT pid FROM pg_stat_activity
             WHERE backend_type = 'whatsapp_pg drainer' AND datname = current_database()",
            &[],
        );
        if let [pid] = pids[..] { Ok(pid) } else { Err(pids) }
    })
}

/// Waits until `simulator` has accepted `count` messages in all.
pub fn wait_for_accepted(simulator: &Simulator, count: u64) {
    wait_for_stats(simulator, "messages to be accepted", |stats| stats.accepted >= count);
}

/// Waits until `count` calls are under way at once.
pub fn wait_for_in_flight(simulator: &Simulator, count: u64) {
    wait_for_stats(simulator, "calls to be under way", |stats| stats.in_flight == count);
}

fn wait_for_stats(simulator: &Simulator, what: &str, holds: impl Fn(&Stats) -> bool) {
    wait_until(what, PATIENCE, || {
        let stats = simulator.stats();
        if holds(&stats) { Ok(()) } else { Err(Box::new(stats)) }
    });
}

/// Complete variables for [`REMINDER`].
pub fn reminder_variables() -> Value {
    serde_json::json!({
        "attendee_name": "John Doe",
        "event_name": "Tech Summit 2025",
        "event_time": "2025-03-15 10:00 AM",
    })
}

/// `count` different, valid numbers (Colombian mobiles).
pub fn numbers(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("+57300{:07}", 1_000_000 + n)).collect()
}

/// The organizer of the example host application.
pub const HOST_ORGANIZER: Uuid = Uuid::from_u128(0x0a00_0000_0000_4000_8000_0000_0000_0001);

/// Its event.
pub const HOST_EVENT: Uuid = Uuid::from_u128(0x0e00_0000_0000_4000_8000_0000_0000_0001);

/// Creates the example host application's tables and loads its data.
pub fn load_host_app(session: &mut Session) {
    session.run(&host_app_sql("schema.sql"));
    session.run(&host_app_sql("data.sql"));
}

/// The text of a file of the example host application.
pub fn host_app_sql(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("host_app").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
