//! Answers, and everything that is done to them: bodies that drip, swell or break off, and connections
//! that end without an HTTP answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::traffic::InFlight;

/// A response of the simulator.
pub(crate) type Answer = Response<AnswerBody>;

/// Ends a connection without an HTTP answer. It is the service's error, because that is how a service
/// tells hyper to write nothing; the connection loop then does what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// TCP reset.
    Reset,
    /// Orderly close.
    Close,
    /// Bytes that are not HTTP, then close.
    Garbage,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection broken on purpose: {self:?}")
    }
}

impl std::error::Error for Break {}

/// A body on its way out; holds the request's place among those in flight until it is sent.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    kind: Kind,
    _in_flight: Option<InFlight>,
}

#[derive(Debug)]
enum Kind {
    Whole(Bytes),
    /// Blanks after the body: still the same JSON, only larger.
    Padded {
        head: Bytes,
        padding: u64,
    },
    Drip {
        rest: Bytes,
        interval: Duration,
        next: Pin<Box<Sleep>>,
    },
    /// Promises `promised` more bytes after `head`, and breaks off.
    Cut {
        head: Bytes,
        promised: u64,
    },
}

static BLANKS: [u8; 16 * 1024] = [b' '; 16 * 1024];

impl AnswerBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::of(Kind::Whole(bytes.into()))
    }

    pub(crate) fn padded(head: Bytes, total: u64) -> Self {
        let padding = total.saturating_sub(head.len() as u64);
        Self::of(Kind::Padded { head, padding })
    }

    /// Sends each byte after `interval`.
    pub(crate) fn drip(bytes: Bytes, interval: Duration) -> Self {
        Self::of(Kind::Drip { rest: bytes, interval, next: Box::pin(sleep_until(Instant::now() + interval)) })
    }

    /// Sends the first half.
    pub(crate) fn cut(mut bytes: Bytes) -> Self {
        let head = bytes.split_to(bytes.len() / 2);
        let promised = bytes.len() as u64;
        Self::of(Kind::Cut { head, promised })
    }

    pub(crate) fn keep(mut self, in_flight: InFlight) -> Self {
        self._in_flight = Some(in_flight);
        self
    }

    fn of(kind: Kind) -> Self {
        Self { kind, _in_flight: None }
    }
}

/// The connection breaks in the middle of a body.
#[derive(Debug)]
pub(crate) struct CutOff;

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("body cut off on purpose")
    }
}

impl std::error::Error for CutOff {}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let data = match &mut self.kind {
            Kind::Whole(bytes) => std::mem::take(bytes),
            Kind::Padded { head, padding } if head.is_empty() => {
                let size = (*padding).min(BLANKS.len() as u64);
                *padding -= size;
                Bytes::from_static(&BLANKS).slice(..size as usize)
            }
            Kind::Padded { head, .. } => std::mem::take(head),
            Kind::Drip { rest, interval, next } => {
                if !rest.is_empty() {
                    std::task::ready!(next.as_mut().poll(cx));
                    let again = next.deadline() + *interval;
                    next.as_mut().reset(again);
                }
                rest.split_to(rest.len().min(1))
            }
            Kind::Cut { head, .. } if head.is_empty() => return Poll::Ready(Some(Err(CutOff))),
            Kind::Cut { head, .. } => std::mem::take(head),
        };
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Padded { head, padding } => head.is_empty() && *padding == 0,
            Kind::Drip { rest, .. } => rest.is_empty(),
            Kind::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.kind {
            Kind::Whole(bytes) => bytes.len() as u64,
            Kind::Padded { head, padding } => head.len() as u64 + padding,
            Kind::Drip { rest, .. } => rest.len() as u64,
            Kind::Cut { head, promised } => head.len() as u64 + promised,
        })
    }
}
