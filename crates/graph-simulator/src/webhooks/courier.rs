//! POSTs webhooks to the plan's target and tries again what did not get HTTP 200, as Meta does (Meta: "Webhooks
//! overview": at once, then with growing gaps; several deliveries at the same time).

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::outbox::Post;
use super::plan::{ArmedPlan, Target, WebhookPlan};
use crate::clock::Micros;
use crate::state::State;

/// The longest gap between two tries.
const MAX_GAP: Duration = Duration::from_secs(3_600);

/// An answer's body is read so that the connection can be used again, up to here.
const MAX_ANSWER: usize = 64 << 10;

type Plans = watch::Receiver<Option<Arc<ArmedPlan>>>;

/// Keeps as many couriers at work as the plan in force says; runs for ever.
pub(crate) async fn run(state: Arc<State>) {
    let mut plans = state.webhooks.plan.subscribe();
    loop {
        let plan = plans.borrow_and_update().clone();
        if let Some(armed) = plan
            && armed.target.is_some()
        {
            for _ in 0..armed.plan.connections {
                // Each sees the next change of the plan by itself, ends what it is at, and goes.
                tokio::spawn(carry(Arc::clone(&state), plans.clone(), Arc::clone(&armed)));
            }
        }
        if plans.changed().await.is_err() {
            return;
        }
    }
}

async fn carry(state: Arc<State>, mut plans: Plans, armed: Arc<ArmedPlan>) {
    let Some(target) = &armed.target else { return };
    let webhooks = &state.webhooks;
    let patience = Duration::from_millis(armed.plan.timeout_ms);
    let mut connection = None;
    loop {
        let mut post = tokio::select! {
            biased;
            _ = plans.changed() => {
                // This one may have been the only one that knew of a due time: let another look.
                webhooks.outbox.changed.notify_one();
                return;
            }
            post = next(&state, &armed) => post,
        };
        let answer = timeout(patience, deliver(&mut connection, target, &post)).await;
        if matches!(answer, Ok(Ok(StatusCode::OK))) {
            webhooks.posts_delivered.fetch_add(1, Ordering::Relaxed);
            webhooks.outbox.settle(post.ticket);
            continue;
        }
        if !matches!(answer, Ok(Ok(_))) {
            connection = None;
        }
        webhooks.posts_failed.fetch_add(1, Ordering::Relaxed);
        post.attempts += 1;
        if post.attempts >= armed.plan.max_attempts {
            webhooks.given_up.fetch_add(1, Ordering::Relaxed);
            webhooks.outbox.settle(post.ticket);
        } else {
            let due = state.clock.now().saturating_add(gap(&armed.plan, post.attempts));
            webhooks.outbox.try_again(post, due);
        }
    }
}

/// Waits for a post that is due. Nothing is taken unless it is returned, so it may be dropped at any time.
async fn next(state: &State, armed: &ArmedPlan) -> Post {
    let outbox = &state.webhooks.outbox;
    loop {
        let changed = outbox.changed.notified();
        let now = state.clock.now();
        match state.webhooks.next(armed, now) {
            Ok(post) => {
                // There may be more than one post: let the next courier look.
                outbox.changed.notify_one();
                return post;
            }
            Err(Some(due)) => {
                tokio::select! {
                    () = changed => {}
                    () = sleep(Duration::from_micros(due.saturating_sub(now))) => {}
                }
            }
            Err(None) => changed.await,
        }
    }
}

/// The gap after so many failures: none after the first, then doubling.
fn gap(plan: &WebhookPlan, failures: u32) -> Micros {
    let doublings = failures.saturating_sub(2).min(30);
    let gap = Duration::from_millis(plan.retry_ms).saturating_mul(1 << doublings).min(MAX_GAP);
    if failures < 2 { 0 } else { crate::clock::micros(gap) }
}

type Failed = Box<dyn Error + Send + Sync>;
type Connection = SendRequest<Full<Bytes>>;

async fn deliver(connection: &mut Option<Connection>, target: &Target, post: &Post) -> Result<StatusCode, Failed> {
    let open = match connection.take() {
        Some(mut kept) => kept.ready().await.ok().map(|()| kept),
        None => None,
    };
    let mut open = match open {
        Some(kept) => kept,
        None => connect(target).await?,
    };
    let request = Request::post(&target.path)
        .header(HOST, &target.authority)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, "facebookexternalua")
        .header("x-hub-signature-256", &post.signed.signature)
        .body(Full::new(Bytes::copy_from_slice(post.signed.body.as_bytes())))?;
    let answer = open.send_request(request).await?;
    let status = answer.status();
    // An answer that is too long or breaks off costs the connection, not the webhook.
    if Limited::new(answer.into_body(), MAX_ANSWER).collect().await.is_ok() {
        *connection = Some(open);
    }
    Ok(status)
}

async fn connect(target: &Target) -> Result<Connection, Failed> {
    let stream = TcpStream::connect(&target.authority).await?;
    stream.set_nodelay(true)?;
    let (open, driver) = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_repetition_is_immediate_and_later_gaps_double_up_to_an_hour() {
        let plan = WebhookPlan { retry_ms: 1_000, ..WebhookPlan::default() };
        let gaps: Vec<_> = [1, 2, 3, 4, 40].map(|failures| gap(&plan, failures) / 1_000).to_vec();
        assert_eq!(gaps, [0, 1_000, 2_000, 4_000, 3_600_000]);
    }
}
