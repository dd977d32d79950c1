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
pub(crate) struct Held {
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
    let mut held = Held { gateway: Arc::clone(gateway), bytes: 0 };
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("The request breaks off: {error}"), None).closing()
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        held.hold(piece.len())?;
        if held.bytes > limit {
            return Err(ApiError::too_large(limit));
        }
        if first.is_empty() && whole.is_empty() {
            // Mostly the only one: not copied.
            first = piece;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&piece);
        }
    }
    let bytes = if whole.is_empty() { first } else { whole.freeze() };
    Ok((bytes, held))
}
