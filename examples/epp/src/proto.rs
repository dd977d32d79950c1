//! The messages of Envoy's external processing (`envoy.service.ext_proc.v3`), as far as an endpoint picker has to do with
//! them.
//!
//! They are written by hand, with the tags of Envoy's `external_processor.proto`, `base.proto` and `http_status.proto`
//! (1.40): a crate with all of Envoy's interfaces takes minutes to build for these few, and copies each body once more.
//! What Envoy sends beyond them is passed over, as protobuf has it. A real Envoy is in the tests.

use std::collections::HashMap;

use bytes::Bytes;
use prost::{Message, Oneof};
use prost_types::Struct;

/// What Envoy sends.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessingRequest {
    /// What it is about; `None` for a kind that is not known here.
    #[prost(oneof = "Event", tags = "2, 3, 4, 5, 6, 7")]
    pub event: Option<Event>,
    /// Dynamic metadata of the request, as far as Envoy is configured to forward it.
    #[prost(message, optional, tag = "8")]
    pub metadata_context: Option<Metadata>,
    /// Envoy only lets us look, and takes no answers.
    #[prost(bool, tag = "10")]
    pub observability_mode: bool,
    /// How bodies are sent; in the first message of a stream.
    #[prost(message, optional, tag = "11")]
    pub protocol_config: Option<ProtocolConfiguration>,
}

/// What a [`ProcessingRequest`] is about.
#[derive(Clone, PartialEq, Oneof)]
pub enum Event {
    /// A request begins.
    #[prost(message, tag = "2")]
    RequestHeaders(HttpHeaders),
    /// Its answer begins.
    #[prost(message, tag = "3")]
    ResponseHeaders(HttpHeaders),
    /// A piece of the request.
    #[prost(message, tag = "4")]
    RequestBody(HttpBody),
    /// A piece of the answer.
    #[prost(message, tag = "5")]
    ResponseBody(HttpBody),
    /// The request ends with trailers.
    #[prost(message, tag = "6")]
    RequestTrailers(HttpTrailers),
    /// The answer ends with trailers.
    #[prost(message, tag = "7")]
    ResponseTrailers(HttpTrailers),
}

/// How Envoy sends bodies.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ProtocolConfiguration {
    /// Of requests.
    #[prost(enumeration = "BodySendMode", tag = "1")]
    pub request_body_mode: i32,
    /// Of answers.
    #[prost(enumeration = "BodySendMode", tag = "2")]
    pub response_body_mode: i32,
}

/// A way of sending bodies (`ProcessingMode.BodySendMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum BodySendMode {
    /// Not at all.
    None = 0,
    /// Piece by piece, each to be answered.
    Streamed = 1,
    /// Whole.
    Buffered = 2,
    /// Whole, or as much as fits.
    BufferedPartial = 3,
    /// Piece by piece, and what comes back is a stream of its own.
    FullDuplexStreamed = 4,
    /// As gRPC messages.
    Grpc = 5,
}

/// The head of a request or answer.
#[derive(Clone, PartialEq, Message)]
pub struct HttpHeaders {
    /// Its headers; `:path`, `:method` and `:status` among them.
    #[prost(message, optional, tag = "1")]
    pub headers: Option<HeaderMap>,
    /// There is no body.
    #[prost(bool, tag = "3")]
    pub end_of_stream: bool,
}

/// A piece of a body.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HttpBody {
    /// Its bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub body: Bytes,
    /// It is the last one, and no trailers follow.
    #[prost(bool, tag = "2")]
    pub end_of_stream: bool,
}

/// Trailers.
#[derive(Clone, PartialEq, Message)]
pub struct HttpTrailers {
    /// What they say.
    #[prost(message, optional, tag = "1")]
    pub trailers: Option<HeaderMap>,
}

/// Headers in their order.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderMap {
    /// All of them.
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<HeaderValue>,
}

/// A header.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HeaderValue {
    /// Its name, in small letters.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value, where it is text; Envoy uses the other one.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Its value.
    #[prost(bytes = "bytes", tag = "3")]
    pub raw_value: Bytes,
}

/// Dynamic metadata.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// By namespace.
    #[prost(map = "string, message", tag = "1")]
    pub filter_metadata: HashMap<String, Struct>,
}

/// What is answered.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessingResponse {
    /// To what, and what is to become of it.
    #[prost(oneof = "Reply", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub reply: Option<Reply>,
    /// Dynamic metadata for the filters behind this one, by namespace.
    #[prost(message, optional, tag = "8")]
    pub dynamic_metadata: Option<Struct>,
}

/// An answer to an [`Event`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Reply {
    /// To the head of a request.
    #[prost(message, tag = "1")]
    RequestHeaders(HeadersResponse),
    /// To the head of an answer.
    #[prost(message, tag = "2")]
    ResponseHeaders(HeadersResponse),
    /// To the body of a request, or a piece of what takes its place.
    #[prost(message, tag = "3")]
    RequestBody(BodyResponse),
    /// To the body of an answer, or a piece of what takes its place.
    #[prost(message, tag = "4")]
    ResponseBody(BodyResponse),
    /// To the trailers of a request.
    #[prost(message, tag = "5")]
    RequestTrailers(TrailersResponse),
    /// To the trailers of an answer.
    #[prost(message, tag = "6")]
    ResponseTrailers(TrailersResponse),
    /// The client gets this answer, and no pod the request.
    #[prost(message, tag = "7")]
    Immediate(ImmediateResponse),
}

/// What becomes of a head.
#[derive(Clone, PartialEq, Message)]
pub struct HeadersResponse {
    /// The changes.
    #[prost(message, optional, tag = "1")]
    pub response: Option<CommonResponse>,
}

/// What becomes of a body.
#[derive(Clone, PartialEq, Message)]
pub struct BodyResponse {
    /// The changes.
    #[prost(message, optional, tag = "1")]
    pub response: Option<CommonResponse>,
}

/// What becomes of trailers.
#[derive(Clone, PartialEq, Message)]
pub struct TrailersResponse {
    /// The changes.
    #[prost(message, optional, tag = "1")]
    pub header_mutation: Option<HeaderMutation>,
}

/// Changes. The tag 1, a status, is always left at "continue".
#[derive(Clone, PartialEq, Message)]
pub struct CommonResponse {
    /// Of headers.
    #[prost(message, optional, tag = "2")]
    pub header_mutation: Option<HeaderMutation>,
    /// Of the body.
    #[prost(message, optional, tag = "3")]
    pub body_mutation: Option<BodyMutation>,
    /// The route is to be chosen anew, by the changed headers.
    #[prost(bool, tag = "5")]
    pub clear_route_cache: bool,
}

/// Changes of headers.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderMutation {
    /// Headers to be set.
    #[prost(message, repeated, tag = "1")]
    pub set_headers: Vec<HeaderValueOption>,
    /// Names of headers to be taken out.
    #[prost(string, repeated, tag = "2")]
    pub remove_headers: Vec<String>,
}

/// A header to be set.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValueOption {
    /// The header.
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    /// What becomes of one that is there.
    #[prost(enumeration = "HeaderAppendAction", tag = "3")]
    pub append_action: i32,
}

/// What becomes of a header that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum HeaderAppendAction {
    /// It stays, and the new one is added.
    AppendIfExistsOrAdd = 0,
    /// It stays, and the new one is left out.
    AddIfAbsent = 1,
    /// The new one takes its place.
    OverwriteIfExistsOrAdd = 2,
    /// The new one takes its place, and is left out if there is none.
    OverwriteIfExists = 3,
}

/// A change of a body.
#[derive(Clone, PartialEq, Message)]
pub struct BodyMutation {
    /// What it becomes.
    #[prost(oneof = "Mutation", tags = "3")]
    pub mutation: Option<Mutation>,
}

/// What a body becomes.
#[derive(Clone, PartialEq, Oneof)]
pub enum Mutation {
    /// A stream, of which this is a piece.
    #[prost(message, tag = "3")]
    Streamed(StreamedBodyResponse),
}

/// A piece of a body that is sent in full-duplex mode.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StreamedBodyResponse {
    /// Its bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub body: Bytes,
    /// It is the last one.
    #[prost(bool, tag = "2")]
    pub end_of_stream: bool,
}

/// An answer that comes from here.
#[derive(Clone, PartialEq, Message)]
pub struct ImmediateResponse {
    /// Its status.
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    /// Its headers.
    #[prost(message, optional, tag = "2")]
    pub headers: Option<HeaderMutation>,
    /// Its body.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
    /// What Envoy's log says of it.
    #[prost(string, tag = "5")]
    pub details: String,
}

/// A status.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HttpStatus {
    /// The number.
    #[prost(int32, tag = "1")]
    pub code: i32,
}
