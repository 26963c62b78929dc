//! Which part of the simulator a request is for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use crate::answer::{Answer, Break};
use crate::control;
use crate::graph::error::GraphError;
use crate::graph::messages::{self, Call};
use crate::graph::version::Version;
use crate::reply::{REDIRECT_TARGET, Reply};
use crate::simulator::is_loopback;
use crate::state::State;

const HELP: &str = "\
graph-simulator: a stand-in for Meta's Graph API. Nothing sent here reaches anybody.

POST /{version}/{phone-number-id}/messages   send a message, as to graph.facebook.com

GET  /_control/stats                         counters
GET  /_control/accepted?id=ID                how often a message was accepted
GET  /_control/duplicates                    messages accepted more than once
GET  /_control/messages?limit=N              the last requests in full
GET  /_control/arrivals?phone_number_id=ID   arrival times
GET|PUT /_control/accounts                   registered phone numbers
GET|PUT /_control/templates                  registered templates
GET|PUT /_control/faults                     the fault script
GET|PUT /_control/latency                    {\"ms\": 120, \"jitter_ms\": 40}
GET  /_control/violations                    what exceeded a limit
POST /_control/inbound                       let a user write
GET|PUT /_control/webhooks                   which webhooks are made
GET  /_control/webhooks/next?max=N           take webhooks that are due
POST /_control/reset                         forget what happened
";

/// Answers one request from `peer`.
pub(crate) async fn route(state: Arc<State>, peer: SocketAddr, request: Request<Incoming>) -> Result<Answer, Break> {
    let path = request.uri().path();
    if path == "/" {
        return Reply::text(StatusCode::OK, HELP).answer();
    }
    if path == REDIRECT_TARGET {
        state.redirects_followed.fetch_add(1, Ordering::Relaxed);
        return Reply::text(StatusCode::OK, "followed\n").answer();
    }
    if path.starts_with(control::PREFIX) {
        // Whoever the simulator listens to, only its own machine steers it.
        if !is_loopback(peer.ip()) {
            return Reply::text(StatusCode::FORBIDDEN, "control is for the local machine\n").answer();
        }
        return control::handle(state, request).await;
    }
    graph(state, request).await
}

async fn graph(state: Arc<State>, request: Request<Incoming>) -> Result<Answer, Break> {
    let arrived = state.clock.now();
    let mut segments: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let asked_version = segments.first().and_then(|first| Version::parse(first));
    if asked_version.is_some() {
        segments.remove(0);
    }
    let asked_version = asked_version.unwrap_or(state.default_version);
    let refuse = |error: GraphError| Reply::error(error, &state.ids).answer();
    let version = match asked_version.served() {
        Ok(version) => version,
        Err(error) => return refuse(error),
    };
    let phone_number_id = match segments.as_slice() {
        [id, "messages"] if !id.is_empty() => (*id).to_owned(),
        other => return refuse(GraphError::unknown_path(&other.join("/"))),
    };
    let in_flight = state.in_flight.enter();
    let (head, body) = request.into_parts();
    let limit = state.options.max_body_bytes;
    let body = match read(body, limit).await {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(GraphError::body_too_large(limit)),
        Err(gone) => return Err(gone),
    };
    let call =
        Call { version, asked_version, phone_number_id, method: head.method, headers: head.headers, arrived, body };
    messages::handle(state, call, in_flight).await
}

/// Reads a body of at most `limit` bytes; `None` when it is larger, an error when the client has gone.
pub(crate) async fn read(body: Incoming, limit: usize) -> Result<Option<Bytes>, Break> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(Some(collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(_) => Err(Break::Close),
    }
}
