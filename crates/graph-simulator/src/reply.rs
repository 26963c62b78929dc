//! A reply before it is sent: what the verdict decided, with the headers that Graph puts on every answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::answer::{Answer, AnswerBody, Break};
use crate::graph::error::GraphError;
use crate::graph::version::Version;
use crate::graph::wamid::Ids;
use crate::traffic::InFlight;

/// Path that the `redirect` fault points to.
pub(crate) const REDIRECT_TARGET: &str = "/_redirected";

/// Page of a proxy whose backend has gone.
pub(crate) const BAD_GATEWAY: &str = "<!DOCTYPE html>\n<html><head><title>Error</title></head>\
    <body><h1>Sorry, something went wrong.</h1><p>502 Bad Gateway</p></body></html>\n";

/// A reply and how it goes out.
#[derive(Debug)]
pub(crate) struct Reply {
    kind: Kind,
    after: Duration,
}

#[derive(Debug)]
enum Kind {
    Http { status: StatusCode, headers: HeaderMap, body: Bytes, shape: Shape },
    Broken(Break),
}

#[derive(Debug)]
enum Shape {
    Whole,
    Padded(u64),
    Dripping(Duration),
    Cut,
}

impl Reply {
    fn http(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { kind: Kind::Http { status, headers, body, shape: Shape::Whole }, after: Duration::ZERO }
    }

    pub(crate) fn json(status: StatusCode, body: Bytes) -> Self {
        Self::http(status, "application/json", body)
    }

    pub(crate) fn html(status: StatusCode, page: &'static str) -> Self {
        Self::http(status, "text/html; charset=utf-8", Bytes::from_static(page.as_bytes()))
    }

    pub(crate) fn text(status: StatusCode, text: &'static str) -> Self {
        Self::http(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
    }

    /// An error with the challenge that Graph adds to it.
    pub(crate) fn error(error: GraphError, ids: &Ids) -> Self {
        let status = StatusCode::from_u16(error.http).unwrap_or(StatusCode::BAD_REQUEST);
        let reply = Self::json(status, error.body(&ids.trace()));
        let kind = if status == StatusCode::UNAUTHORIZED { "invalid_token" } else { "invalid_request" };
        let message = error.message.replace(['"', '\\'], "'");
        let challenge = format!("OAuth \"Facebook Platform\" \"{kind}\" \"{message}\"");
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => reply.header(WWW_AUTHENTICATE, challenge),
            Err(_) => reply,
        }
    }

    pub(crate) fn redirect(target: &'static str) -> Self {
        Self::json(StatusCode::TEMPORARY_REDIRECT, Bytes::new()).header(LOCATION, HeaderValue::from_static(target))
    }

    pub(crate) fn broken(how: Break) -> Self {
        Self { kind: Kind::Broken(how), after: Duration::ZERO }
    }

    /// Sends it this much later.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    pub(crate) fn padded(self, total: u64) -> Self {
        self.shaped(Shape::Padded(total))
    }

    pub(crate) fn dripping(self, interval: Duration) -> Self {
        self.shaped(Shape::Dripping(interval))
    }

    pub(crate) fn cut(self) -> Self {
        self.shaped(Shape::Cut)
    }

    pub(crate) fn closing(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Adds headers that a fault script names; it was armed only if HTTP allows them.
    pub(crate) fn with_headers(mut self, extra: BTreeMap<String, String>) -> Self {
        for (name, value) in extra {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                self = self.header(name, value);
            }
        }
        self
    }

    fn shaped(mut self, new: Shape) -> Self {
        if let Kind::Http { shape, .. } = &mut self.kind {
            *shape = new;
        }
        self
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Kind::Http { headers, .. } = &mut self.kind {
            headers.insert(name, value);
        }
        self
    }

    /// HTTP status; `None` when there will be no HTTP answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match &self.kind {
            Kind::Http { status, .. } => Some(status.as_u16()),
            Kind::Broken(_) => None,
        }
    }

    /// Sends the answer of a Graph endpoint.
    pub(crate) async fn send(self, ids: &Ids, version: Version, in_flight: InFlight) -> Result<Answer, Break> {
        if !self.after.is_zero() {
            tokio::time::sleep(self.after).await;
        }
        let mut answer = self.answer()?;
        let headers = answer.headers_mut();
        for (name, value) in [
            ("facebook-api-version", version.to_string()),
            ("x-fb-request-id", ids.trace()),
            ("x-fb-trace-id", ids.trace()),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        Ok(answer.map(|body| body.keep(in_flight)))
    }

    /// The bare answer.
    pub(crate) fn answer(self) -> Result<Answer, Break> {
        let (status, headers, body, shape) = match self.kind {
            Kind::Http { status, headers, body, shape } => (status, headers, body, shape),
            Kind::Broken(how) => return Err(how),
        };
        let body = match shape {
            Shape::Whole => AnswerBody::whole(body),
            Shape::Padded(total) => AnswerBody::padded(body, total),
            Shape::Dripping(interval) => AnswerBody::drip(body, interval),
            Shape::Cut => AnswerBody::cut(body),
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}
