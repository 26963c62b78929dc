//! The last requests in full, for a look at what really was on the wire.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hyper::HeaderMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Micros;

/// A request to the messages endpoint, without its token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedRequest {
    /// Microseconds from the simulator's start to the arrival.
    pub at_us: u64,
    /// Sender, from the path.
    pub phone_number_id: String,
    /// Version that the path asked for, or the default one.
    pub version: String,
    /// Headers in lower case; `authorization` is left out.
    pub headers: BTreeMap<String, String>,
    /// The body; a JSON string when it was no JSON.
    pub body: Value,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether the message was accepted, which the client may not have learned.
    pub accepted: bool,
    /// HTTP status of the answer; `None` when a fault ended the connection without one.
    pub http: Option<u16>,
    /// Meta's error code, for a refusal.
    pub code: Option<i64>,
    /// Id given to an accepted message.
    pub wamid: Option<String>,
    /// Place in the script of the fault rule that struck.
    pub fault: Option<usize>,
}

/// A request as it is kept; made readable only when somebody looks.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) at: Micros,
    pub(crate) phone_number_id: String,
    pub(crate) version: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) outcome: Outcome,
}

impl Kept {
    fn readable(&self) -> RecordedRequest {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        RecordedRequest {
            at_us: self.at,
            phone_number_id: self.phone_number_id.clone(),
            version: self.version.clone(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
                .collect(),
            body: serde_json::from_slice(&self.body).unwrap_or_else(|_| Value::String(text(&self.body))),
            outcome: self.outcome.clone(),
        }
    }
}

/// The last `capacity` requests.
#[derive(Debug)]
pub(crate) struct Recent {
    capacity: usize,
    kept: Mutex<VecDeque<Kept>>,
}

impl Recent {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, kept: Mutex::default() }
    }

    pub(crate) fn keeps_any(&self) -> bool {
        self.capacity > 0
    }

    pub(crate) fn keep(&self, mut request: Kept) {
        request.headers.remove(hyper::header::AUTHORIZATION);
        // A copy: the original shares the connection's read buffer, which is much larger.
        request.body = Bytes::copy_from_slice(&request.body);
        let dropped = {
            let mut kept = self.kept.lock();
            let dropped = if kept.len() >= self.capacity { kept.pop_front() } else { None };
            kept.push_back(request);
            dropped
        };
        drop(dropped);
    }

    /// The last `limit` requests, oldest first.
    pub(crate) fn last(&self, limit: usize) -> Vec<RecordedRequest> {
        let kept = self.kept.lock();
        let skip = kept.len().saturating_sub(limit);
        kept.iter().skip(skip).map(Kept::readable).collect()
    }

    pub(crate) fn reset(&self) {
        self.kept.lock().clear();
    }
}
