//! Requests' bodies: read whole before they are routed, within bounds of size, time and memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use crate::error::ApiError;
use crate::gateway::Gateway;

/// Bytes that are held of requests' bodies, all together; given back when dropped.
#[derive(Debug)]
pub struct Held {
    gateway: Arc<Gateway>,
    bytes: usize,
}

impl Held {
    fn hold(&mut self, bytes: usize) -> Result<(), ApiError> {
        let most = self.gateway.settings().limits.max_buffered_bytes;
        let before = self.gateway.buffered.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > most {
            return Err(ApiError::unavailable("Too many large requests at once").closing());
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gateway.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a body.
///
/// # Errors
///
/// 413, 408, 503 if all requests together are too large; 400 if it breaks off.
pub(crate) async fn read_body(gateway: &Arc<Gateway>, body: Incoming) -> Result<(Bytes, Held), ApiError> {
    let settings = gateway.settings();
    let body_ms = settings.timeouts.body_ms;
    let read =
        timeout(Duration::from_millis(body_ms), collect(gateway, body, settings.limits.max_body_bytes));
    read.await.unwrap_or_else(|_| Err(ApiError::slow_request(body_ms)))
}

async fn collect(
    gateway: &Arc<Gateway>,
    mut body: Incoming,
    limit: usize,
) -> Result<(Bytes, Held), ApiError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::too_large(limit));
    }
    let mut intake = Intake::new(gateway, limit);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("The request breaks off: {error}"), None).closing()
        })?;
        if let Ok(piece) = frame.into_data() {
            intake.push(piece)?;
        }
    }
    Ok(intake.finish())
}

/// A body that arrives piece by piece.
#[derive(Debug)]
pub struct Intake {
    held: Held,
    limit: usize,
    /// The first piece: mostly the only one, and then not copied.
    first: Bytes,
    whole: BytesMut,
}

impl Intake {
    /// Nothing of it is there yet; `limit` bytes are the most.
    #[must_use]
    pub fn new(gateway: &Arc<Gateway>, limit: usize) -> Self {
        let held = Held { gateway: Arc::clone(gateway), bytes: 0 };
        Self { held, limit, first: Bytes::new(), whole: BytesMut::new() }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// 413 if the body is longer than its limit, 503 if all requests together are too large.
    pub fn push(&mut self, piece: Bytes) -> Result<(), ApiError> {
        self.held.hold(piece.len())?;
        if self.held.bytes > self.limit {
            return Err(ApiError::too_large(self.limit));
        }
        if self.first.is_empty() && self.whole.is_empty() {
            self.first = piece;
        } else {
            self.whole.extend_from_slice(&std::mem::take(&mut self.first));
            self.whole.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// All that came, and what keeps its bytes counted.
    #[must_use]
    pub fn finish(self) -> (Bytes, Held) {
        let bytes = if self.whole.is_empty() { self.first } else { self.whole.freeze() };
        (bytes, self.held)
    }
}
