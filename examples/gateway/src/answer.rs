//! The body of an answer on its way to the client.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::flight::Flight;
use crate::forward::Deadlines;

/// What ends a body before its end.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// A body: the gateway's own, or a pod's that passes by.
#[derive(Debug)]
pub enum AnswerBody {
    /// The gateway's own, whole.
    Whole(Full<Bytes>),
    /// A pod's.
    Passing(Box<PassingBody>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Passing(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Passing(body) => body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Passing(body) => body.body.size_hint(),
        }
    }
}

/// A pod's body that passes by, piece by piece as it comes, unchanged. Dropping it, which is what happens when the
/// client goes away, closes the connection to the pod, and that cancels the request there.
pub struct PassingBody {
    body: Incoming,
    flight: Flight,
    timer: Pin<Box<Sleep>>,
    /// When the next piece must have come. The timer may ring before: it is not set anew for each piece.
    due: Instant,
    idle: Duration,
    /// When all of it must have come.
    end: Instant,
}

impl PassingBody {
    /// Each piece after the first must come within `idle`.
    pub(crate) fn new(body: Incoming, mut flight: Flight, deadlines: Deadlines, idle: Duration) -> Self {
        if body.is_end_stream() {
            // Nobody asks a body that has nothing.
            flight.completed();
        }
        let due = deadlines.first_byte;
        Self { body, flight, timer: Box::pin(sleep_until(due)), due, idle, end: deadlines.end }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(piece) = frame.data_ref() {
                    self.flight.passes(piece);
                }
                if self.body.is_end_stream() {
                    self.flight.completed();
                }
                self.due = (Instant::now() + self.idle).min(self.end);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.flight.failed();
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.flight.completed();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_timer(cx),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let due = self.due;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.timer.deadline() >= due {
                self.flight.failed();
                return Poll::Ready(Some(Err("the pod took too long".into())));
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl std::fmt::Debug for PassingBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassingBody").field("body", &self.body).finish_non_exhaustive()
    }
}
