//! One call with 100,000 recipients, as the client's clock sees it: parameters sent, rows committed, answer read.

use std::time::Instant;

use harness::Organizer;
use harness::fixtures::{REMINDER, reminder_variables};

use crate::Scale;
use crate::server::{numbers, server};
use crate::table::{Table, Target, median};

const ROWS: u32 = 100_000;

pub fn measure(scale: Scale, table: &mut Table) {
    // Nothing is sent here, so there is nobody to send to.
    let cluster = server("http://127.0.0.1:1", 8).start();
    let database = cluster.database();
    let mut session = database.connect();
    crate::server::note_settings(table, &mut session);
    let organizer = Organizer::create(&mut session);
    let mut from = 0;
    let mut seconds = |columns: &str| {
        let recipients = numbers(from, ROWS);
        from += ROWS;
        let began = Instant::now();
        session.rows(
            &format!(
                "SELECT {columns} FROM wa_enqueue(user_id => $1, recipients => $2, template_name => $3, variables => $4)"
            ),
            &[&organizer.id, &recipients, &REMINDER, &reminder_variables()],
        );
        began.elapsed().as_secs_f64()
    };
    let runs = scale.pick(5, 3);
    let counted: Vec<f64> = (0..runs).map(|_| seconds("count(*)")).collect();
    let returned: Vec<f64> = (0..runs).map(|_| seconds("*")).collect();
    table.add(
        "enqueue: 100,000 recipients in one call, rows/s",
        Target::AtLeast(50_000.0),
        counted.iter().map(|seconds| f64::from(ROWS) / seconds).collect(),
        format!("the call takes {:.2} s for the client, commit included", median(&counted)),
    );
    table.add(
        "  the same, all rows sent back to the client, rows/s",
        Target::None,
        returned.iter().map(|seconds| f64::from(ROWS) / seconds).collect(),
        format!("{:.2} s", median(&returned)),
    );
}
