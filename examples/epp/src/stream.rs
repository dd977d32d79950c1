//! A gRPC stream: Envoy's messages in, what is answered out.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::time::sleep_until;
use tonic::{Status, Streaming};

use crate::exchange::{Answers, Exchange};
use crate::picker::Entered;
use crate::proto::{ProcessingRequest, ProcessingResponse};

/// Answers that may wait before the next message is read. A request's body, which is held anyway, may wait beyond that;
/// of an answer's, Envoy sends no more than it gets rid of.
const WAITING: usize = 32;

/// Leads a stream to its end. Both directions go on at the same time: a pod may answer before it has read its request.
pub(crate) async fn converse(
    picker: Entered,
    mut messages: Streaming<ProcessingRequest>,
    answers: Sender<Result<ProcessingResponse, Status>>,
) {
    let mut exchange = Exchange::new(Arc::clone(&picker.0));
    let mut waiting = Answers::new();
    let mut has_more = true;
    // As long as the request's body is being sent back, what Envoy says of its answer must be heard.
    let mut request_left = 0_usize;
    loop {
        if waiting.is_empty() && (!has_more || exchange.is_over()) {
            return;
        }
        let deadline = exchange.deadline();
        tokio::select! {
            permit = answers.reserve(), if !waiting.is_empty() => match (permit, waiting.pop_front()) {
                (Ok(permit), Some(answer)) => {
                    request_left = request_left.saturating_sub(1);
                    if request_left == 0 {
                        exchange.request_is_sent();
                    }
                    permit.send(Ok(answer));
                }
                _ => return,
            },
            message = messages.message(), if has_more && waiting.len() <= request_left + WAITING => match message {
                Ok(Some(message)) => {
                    let before = waiting.len();
                    let is_sending = exchange.deadline().is_some();
                    if let Err(status) = exchange.take(message, &mut waiting).await {
                        tracing::warn!(%status, "a stream makes no sense");
                        let _ = answers.send(Err(status)).await;
                        return;
                    }
                    if is_sending {
                        request_left += waiting.len() - before;
                    }
                }
                Ok(None) => has_more = false,
                // It was reset: the client went away, or Envoy did.
                Err(_) => return,
            },
            () = async { sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await }, if deadline.is_some() => {
                exchange.too_late(&mut waiting);
            }
            () = answers.closed() => return,
        }
    }
}
