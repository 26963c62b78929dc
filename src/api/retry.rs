//! `wa_retry` and `wa_wait`: deciding about one message, and waiting for it.

use std::time::{Duration, Instant};

use pgrx::datum::Interval;
use pgrx::{JsonB, Uuid, pg_extern, pg_sys};
use serde_json::Value;

use super::enqueue::variables_error;
use super::{Answer, check_writable, required};
use crate::caller::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::srf::Sink;
use crate::store::message::{self, Message};
use crate::store::{config, roles, templates};

/// The state is looked at after this, and then less and less often.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LATER_LOOKS: Duration = Duration::from_millis(200);

/// Queues a message again.
#[pg_extern(sql = false)]
fn wa_retry(
    id: Option<Uuid>,
    variables: Option<JsonB>,
    force: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Answer<()> {
    // SAFETY: declared RETURNS SETOF whatsapp_queue.
    let mut sink = unsafe { Sink::new(fcinfo) };
    Ok(retry(id, variables, force, &mut sink)?)
}

/// Waits for a message.
#[pg_extern(sql = false)]
fn wa_wait(id: Option<Uuid>, timeout: Option<Interval>) -> Answer<String> {
    Ok(wait(id, timeout)?)
}

fn retry(id: Option<Uuid>, variables: Option<JsonB>, force: Option<bool>, sink: &mut Sink) -> Result<()> {
    check_writable("queue a message again")?;
    let id = required(id, "id")?;
    let force = required(force, "force")?;
    let caller = Caller::current()?;
    let by = roles::current()?;
    caller::as_owner(|| {
        let message = find(&id, &caller, true)?;
        refuse(&message, force)?;
        let variables = variables.map(|given| mend(&message, given)).transpose()?;
        message::requeue_into(&id, variables.as_deref(), &by, sink)
    })
}

/// The message, if the caller may see it. Another organizer's message does not exist for him.
fn find(id: &Uuid, caller: &Caller, lock: bool) -> Result<Message> {
    let found = message::find(id, lock)?.filter(|message| caller.check_may_act_for(&message.organizer).is_ok());
    found.ok_or_else(|| {
        Error::new(Kind::UndefinedObject, format!("message {id} does not exist"))
            .detail("whatsapp_queue has no such row, or it belongs to an organizer the current role does not act for.")
            .hint("Messages are in whatsapp_messages; ids are what wa_enqueue() answered.")
    })
}

fn refuse(message: &Message, force: bool) -> Result<()> {
    match message.status.as_str() {
        "sending" => Err(Error::new(Kind::NotReady, "the message is being sent")
            .detail("A worker holds it; its outcome is recorded in a moment.")
            .hint("Wait for it with wa_wait(id).")),
        "sent" => Err(Error::new(Kind::NotReady, "the message was accepted by Meta")
            .detail("Sending it again would deliver and bill it twice.")
            .hint("To write to the person again, queue a new message with wa_enqueue().")),
        "unknown" if !force => Err(Error::new(Kind::NotReady, "it is not known whether Meta has the message")
            .detail("The request may have been written, and no answer was recorded. Its status may still come by webhook; if it is sent again, the person may get it twice.")
            .hint("Look at it with wa_explain(id); to send it again all the same, pass force => true.")),
        _ => Ok(()),
    }
}

/// The message's variables with those given over them, if the template takes them.
fn mend(message: &Message, given: JsonB) -> Result<String> {
    let Value::Object(given) = given.0 else {
        return Err(Error::new(Kind::InvalidParameter, "variables must be a JSON object")
            .detail("They replace or complete the message's own.")
            .hint("For example: {\"attendee_name\": \"Ada\"}"));
    };
    let mut merged = match serde_json::from_str(&message.variables) {
        Ok(Value::Object(own)) => own,
        _ => serde_json::Map::new(),
    };
    merged.extend(given);
    let default = config::account(&message.organizer)?.and_then(|account| account.default_language);
    let template =
        templates::find(&message.organizer, &message.template, message.language.as_deref(), default.as_deref())?
            .parse()?;
    template.check(&merged).map_err(|violations| variables_error(&template, &violations))?;
    Ok(Value::Object(merged).to_string())
}

fn wait(id: Option<Uuid>, timeout: Option<Interval>) -> Result<String> {
    let id = required(id, "id")?;
    let micros = required(timeout, "timeout")?.as_micros();
    let timeout = u64::try_from(micros).map(Duration::from_micros).map_err(|_| {
        Error::new(Kind::InvalidParameter, "timeout must not be negative")
            .detail("It says how long to wait.")
            .hint("For example: '30 seconds'.")
    })?;
    let caller = Caller::current()?;
    let until = Instant::now() + timeout;
    let mut pause = FIRST_LOOK;
    let mut is_first = true;
    loop {
        let message = caller::as_owner(|| find(&id, &caller, false))?;
        if matches!(message.status.as_str(), "sent" | "failed" | "cancelled") {
            return Ok(message.status);
        }
        if std::mem::take(&mut is_first) {
            check_can_change(&message)?;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(message.status);
        }
        sleep(pause.min(left));
        pause = (pause * 2).min(LATER_LOOKS);
    }
}

fn check_can_change(message: &Message) -> Result<()> {
    if message.is_own {
        return Err(Error::new(Kind::NotReady, "the message was queued in this very transaction")
            .detail("It leaves after COMMIT, so waiting for it here would never end.")
            .hint("Commit first, then call wa_wait()."));
    }
    // SAFETY: reads the transaction's isolation level.
    if unsafe { pg_sys::XactIsoLevel } >= pg_sys::XACT_REPEATABLE_READ.cast_signed() {
        return Err(Error::new(Kind::NotReady, "a REPEATABLE READ transaction would never see the message change")
            .detail("All its statements look at the same moment.")
            .hint("Call wa_wait() in a READ COMMITTED transaction, or outside one."));
    }
    Ok(())
}

/// Sleeps, and wakes for a cancellation.
fn sleep(span: Duration) {
    let milliseconds = i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(1);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: waits on this process's own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events.cast_signed(), milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
