//! What is answered to Envoy.

use bytes::Bytes;
use kvroute_gateway::error::ApiError;
use prost_types::Struct;

use crate::headers::Changes;
use crate::proto::{
    BodyMutation, BodyResponse, CommonResponse, HeadersResponse, HttpStatus, ImmediateResponse, Mutation,
    ProcessingResponse, Reply, StreamedBodyResponse, TrailersResponse,
};

/// Longest piece of a body; bytes. Envoy takes no message above 64 KiB in this direction by default, and llm-d cuts there.
pub(crate) const PIECE: usize = 62_000;

/// Says why a request was not taken (llm-d-router ebab687).
const DROPPED: &str = "x-llm-d-request-dropped-reason";

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the pod.
    Request,
    /// Back.
    Response,
}

/// Goes on, with these changes.
fn common(changes: Changes) -> CommonResponse {
    let mutation = changes.into_mutation();
    let is_empty = mutation.set_headers.is_empty() && mutation.remove_headers.is_empty();
    CommonResponse { header_mutation: (!is_empty).then_some(mutation), ..CommonResponse::default() }
}

fn reply(reply: Reply) -> ProcessingResponse {
    ProcessingResponse { reply: Some(reply), dynamic_metadata: None }
}

/// The head of a request goes on as it is.
pub(crate) fn request_head() -> ProcessingResponse {
    reply(Reply::RequestHeaders(HeadersResponse::default()))
}

/// A request goes there: with its head, or, where that has gone on, with its whole body.
pub(crate) fn destination(changes: Changes, metadata: Struct, with_body: bool) -> ProcessingResponse {
    let response = Some(CommonResponse { clear_route_cache: true, ..common(changes) });
    let reply = if with_body {
        Reply::RequestBody(BodyResponse { response })
    } else {
        Reply::RequestHeaders(HeadersResponse { response })
    };
    ProcessingResponse { reply: Some(reply), dynamic_metadata: Some(metadata) }
}

/// The head of an answer goes on.
pub(crate) fn response_head(changes: Changes) -> ProcessingResponse {
    reply(Reply::ResponseHeaders(HeadersResponse { response: Some(common(changes)) }))
}

/// A piece of a body goes on as it is.
pub(crate) fn body(way: Way) -> ProcessingResponse {
    reply(match way {
        Way::Request => Reply::RequestBody(BodyResponse::default()),
        Way::Response => Reply::ResponseBody(BodyResponse::default()),
    })
}

/// Trailers go on as they are.
pub(crate) fn trailers(way: Way) -> ProcessingResponse {
    reply(match way {
        Way::Request => Reply::RequestTrailers(TrailersResponse::default()),
        Way::Response => Reply::ResponseTrailers(TrailersResponse::default()),
    })
}

/// A body, in pieces that Envoy takes. Nothing is copied.
pub(crate) fn pieces(way: Way, mut body: Bytes, is_end: bool) -> impl Iterator<Item = ProcessingResponse> {
    let mut left = body.len().div_ceil(PIECE).max(usize::from(is_end));
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let piece = body.split_to(body.len().min(PIECE));
        let piece = StreamedBodyResponse { body: piece, end_of_stream: is_end && left == 0 };
        let mutation = Some(BodyMutation { mutation: Some(Mutation::Streamed(piece)) });
        let response = Some(CommonResponse { body_mutation: mutation, ..CommonResponse::default() });
        Some(reply(match way {
            Way::Request => Reply::RequestBody(BodyResponse { response }),
            Way::Response => Reply::ResponseBody(BodyResponse { response }),
        }))
    })
}

/// The client gets this error.
pub(crate) fn refusal(error: &ApiError) -> ProcessingResponse {
    let mut changes = Changes::default();
    changes.set("content-type", "application/json");
    match error.status().as_u16() {
        429 => {
            changes.set("retry-after", "1");
            changes.set(DROPPED, "rejected-saturated");
        }
        503 => changes.set("retry-after", "1"),
        _ => {}
    }
    reply(Reply::Immediate(ImmediateResponse {
        status: Some(HttpStatus { code: error.status().as_u16().into() }),
        headers: Some(changes.into_mutation()),
        body: error.body().into(),
        details: "kvroute_epp".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(length: usize, is_end: bool) -> Vec<(usize, bool)> {
        let body = Bytes::from((0..length).map(|at| at as u8).collect::<Vec<_>>());
        let mut together = Vec::new();
        let pieces = pieces(Way::Request, body.clone(), is_end).map(|piece| {
            let Some(Reply::RequestBody(BodyResponse { response: Some(common) })) = piece.reply else {
                panic!("no piece of a request")
            };
            let Some(BodyMutation { mutation: Some(Mutation::Streamed(piece)) }) = common.body_mutation
            else {
                panic!("no piece of a stream")
            };
            together.extend_from_slice(&piece.body);
            (piece.body.len(), piece.end_of_stream)
        });
        let pieces = pieces.collect();
        assert_eq!(together, body);
        pieces
    }

    #[test]
    fn bodies_are_cut_into_pieces_of_which_the_last_says_so() {
        assert_eq!(cut(0, true), [(0, true)]);
        assert_eq!(cut(0, false), []);
        assert_eq!(cut(1, true), [(1, true)]);
        assert_eq!(cut(PIECE, true), [(PIECE, true)]);
        assert_eq!(cut(PIECE + 1, true), [(PIECE, false), (1, true)]);
        assert_eq!(cut(2 * PIECE, false), [(PIECE, false), (PIECE, false)]);
    }
}
