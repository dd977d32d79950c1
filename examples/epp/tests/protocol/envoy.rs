//! What Envoy says on one stream, and what it hears.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use kvroute_epp::metadata::{DESTINATION, NAMESPACE, SERVED, SUBSET, SUBSET_NAMESPACE};
use kvroute_epp::proto::{
    BodyMutation, BodySendMode, CommonResponse, Event, HeaderMap, HeaderMutation, HeaderValue, HttpBody,
    HttpHeaders, HttpTrailers, ImmediateResponse, Metadata, Mutation, ProcessingRequest, ProcessingResponse,
    ProtocolConfiguration, Reply, StreamedBodyResponse,
};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream.
pub(crate) struct Talk {
    to: Option<Sender<ProcessingRequest>>,
    from: Streaming<ProcessingResponse>,
    modes: Option<ProtocolConfiguration>,
}

/// A request as it goes on to a pod.
#[derive(Debug, Default)]
pub(crate) struct Forwarded {
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) removed: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// Lengths of its pieces.
    pub(crate) pieces: Vec<usize>,
}

impl Forwarded {
    pub(crate) fn destination(&self) -> &str {
        &self.set[DESTINATION]
    }
}

/// What a request came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Forwarded(Forwarded),
    Refused(ImmediateResponse),
}

impl Outcome {
    pub(crate) fn forwarded(self) -> Forwarded {
        match self {
            Self::Forwarded(forwarded) => forwarded,
            Self::Refused(refusal) => panic!("it is refused: {refusal:?}"),
        }
    }

    /// Status and message of a refusal, in OpenAI's form.
    pub(crate) fn refused(self) -> (i32, String) {
        let Self::Refused(refusal) = self else { panic!("it is not refused: {self:?}") };
        let body: serde_json::Value = serde_json::from_slice(&refusal.body).expect("a refusal is JSON");
        let message = body["error"]["message"].as_str().expect("an error has a message").to_owned();
        let headers = set(refusal.headers.as_ref());
        assert_eq!(headers.get("content-type").map(String::as_str), Some("application/json"));
        (refusal.status.expect("it has a status").code, message)
    }
}

impl Talk {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::with_modes(address, BodySendMode::FullDuplexStreamed, BodySendMode::FullDuplexStreamed).await
    }

    pub(crate) async fn with_modes(
        address: SocketAddr,
        request: BodySendMode,
        response: BodySendMode,
    ) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).expect("it is a URL");
        let channel = channel.connect().await.expect("the picker listens");
        Self::over_with_modes(channel, request, response).await
    }

    /// Beside others on one connection.
    pub(crate) async fn over(channel: Channel) -> Self {
        let duplex = BodySendMode::FullDuplexStreamed;
        Self::over_with_modes(channel, duplex, duplex).await
    }

    async fn over_with_modes(channel: Channel, request: BodySendMode, response: BodySendMode) -> Self {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.expect("it is ready");
        let (to, messages) = channel_of();
        let path = PathAndQuery::from_static("/envoy.service.ext_proc.v3.ExternalProcessor/Process");
        let codec = ProstCodec::<ProcessingRequest, ProcessingResponse>::default();
        let from =
            grpc.streaming(Request::new(messages), path, codec).await.expect("it answers").into_inner();
        let modes =
            ProtocolConfiguration { request_body_mode: request.into(), response_body_mode: response.into() };
        Self { to: Some(to), from, modes: Some(modes) }
    }

    pub(crate) async fn say(&mut self, event: Option<Event>, metadata: Option<Metadata>) {
        let message = ProcessingRequest {
            event,
            metadata_context: metadata,
            observability_mode: false,
            protocol_config: self.modes.take(),
        };
        self.send(message).await;
    }

    pub(crate) async fn send(&mut self, message: ProcessingRequest) {
        let to = self.to.as_ref().expect("this end is open");
        // It may have closed its end, and then what it said last is looked at.
        let _ = to.send(message).await;
    }

    /// The head of a request.
    pub(crate) async fn request(&mut self, path: &str, headers: &[(&str, &str)], metadata: Option<Metadata>) {
        let mut all = vec![(":method", "POST"), (":path", path), (":authority", "envoy")];
        all.extend_from_slice(headers);
        let head = HttpHeaders { headers: Some(header_map(&all)), end_of_stream: false };
        self.say(Some(Event::RequestHeaders(head)), metadata).await;
    }

    pub(crate) async fn piece(&mut self, piece: impl Into<Bytes>, end_of_stream: bool) {
        self.say(Some(Event::RequestBody(HttpBody { body: piece.into(), end_of_stream })), None).await;
    }

    pub(crate) async fn trailers(&mut self) {
        self.say(Some(Event::RequestTrailers(HttpTrailers::default())), None).await;
    }

    /// A whole request, and what comes of it.
    pub(crate) async fn ask(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        metadata: Option<Metadata>,
        body: &str,
    ) -> Outcome {
        self.request(path, headers, metadata).await;
        self.piece(body.to_owned(), true).await;
        self.outcome(true).await
    }

    /// What comes of a request; `has_body`: it goes on with one, and no trailers.
    pub(crate) async fn outcome(&mut self, has_body: bool) -> Outcome {
        let first = self.hear().await;
        let head = match first.reply {
            Some(Reply::RequestHeaders(head)) => head.response.expect("it is changed"),
            Some(Reply::Immediate(refusal)) => return Outcome::Refused(refusal),
            other => panic!("first comes the head: {other:?}"),
        };
        assert!(head.clear_route_cache);
        let mut forwarded = Forwarded {
            set: set(head.header_mutation.as_ref()),
            removed: head.header_mutation.map(|mutation| mutation.remove_headers).unwrap_or_default(),
            ..Forwarded::default()
        };
        let metadata = first.dynamic_metadata.expect("the destination is in the metadata too");
        assert_eq!(text(&metadata, NAMESPACE, DESTINATION), forwarded.set[DESTINATION]);
        let mut is_whole = !has_body;
        while !is_whole {
            let reply = self.hear().await.reply;
            let Some(Reply::RequestBody(body)) = reply else { panic!("then the body: {reply:?}") };
            let piece = streamed(body.response);
            forwarded.pieces.push(piece.body.len());
            forwarded.body.extend_from_slice(&piece.body);
            is_whole = piece.end_of_stream;
        }
        Outcome::Forwarded(forwarded)
    }

    /// The head of an answer; answers the headers that are set.
    pub(crate) async fn answer(
        &mut self,
        status: u16,
        kind: &str,
        metadata: Option<Metadata>,
    ) -> BTreeMap<String, String> {
        let status = status.to_string();
        let headers = header_map(&[(":status", &status), ("content-type", kind)]);
        let head = HttpHeaders { headers: Some(headers), end_of_stream: false };
        self.say(Some(Event::ResponseHeaders(head)), metadata).await;
        let reply = self.hear().await.reply;
        let Some(Reply::ResponseHeaders(head)) = reply else { panic!("the answer's head: {reply:?}") };
        set(head.response.and_then(|response| response.header_mutation).as_ref())
    }

    /// A piece of an answer, which must come back as it is.
    pub(crate) async fn answer_piece(&mut self, piece: &str, end_of_stream: bool) {
        let body = HttpBody { body: Bytes::from(piece.to_owned()), end_of_stream };
        self.say(Some(Event::ResponseBody(body)), None).await;
        let reply = self.hear().await.reply;
        let Some(Reply::ResponseBody(body)) = reply else { panic!("the answer's body: {reply:?}") };
        let back = streamed(body.response);
        assert_eq!((&*back.body, back.end_of_stream), (piece.as_bytes(), end_of_stream));
    }

    /// A whole answer: JSON.
    pub(crate) async fn answer_all(&mut self, body: &str, metadata: Option<Metadata>) {
        self.answer(200, "application/json", metadata).await;
        self.answer_piece(body, true).await;
        self.end().await;
    }

    pub(crate) async fn hear(&mut self) -> ProcessingResponse {
        self.try_hear().await.expect("no error").expect("the stream goes on")
    }

    pub(crate) async fn try_hear(&mut self) -> Result<Option<ProcessingResponse>, Status> {
        timeout(PATIENCE, self.from.message()).await.expect("an answer comes in time")
    }

    /// Closes this end.
    pub(crate) fn close(&mut self) {
        self.to = None;
    }

    /// Closes this end; nothing more must come.
    pub(crate) async fn end(&mut self) {
        self.close();
        let last = self.try_hear().await;
        assert!(matches!(last, Ok(None)), "{last:?}");
    }
}

fn channel_of() -> (Sender<ProcessingRequest>, ReceiverStream<ProcessingRequest>) {
    let (to, messages) = channel(64);
    (to, ReceiverStream::new(messages))
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let header = |(key, value): &(&str, &str)| HeaderValue {
        key: (*key).to_owned(),
        value: String::new(),
        raw_value: Bytes::copy_from_slice(value.as_bytes()),
    };
    HeaderMap { headers: headers.iter().map(header).collect() }
}

pub(crate) fn set(mutation: Option<&HeaderMutation>) -> BTreeMap<String, String> {
    let options = mutation.map(|mutation| &*mutation.set_headers).unwrap_or_default();
    options
        .iter()
        .map(|option| {
            let header = option.header.clone().expect("there is a header");
            (header.key, String::from_utf8(header.raw_value.to_vec()).expect("it is text"))
        })
        .collect()
}

fn streamed(response: Option<CommonResponse>) -> StreamedBodyResponse {
    let mutation = response.and_then(|response| response.body_mutation);
    let Some(BodyMutation { mutation: Some(Mutation::Streamed(piece)) }) = mutation else {
        panic!("a piece of a stream: {mutation:?}")
    };
    piece
}

fn text(metadata: &Struct, namespace: &str, key: &str) -> String {
    let Some(Kind::StructValue(inner)) = &metadata.fields[namespace].kind else { panic!("no namespace") };
    let Some(Kind::StringValue(text)) = &inner.fields[key].kind else { panic!("no text") };
    text.clone()
}

fn of(namespace: &str, key: &str, kind: Kind) -> Option<Metadata> {
    let fields = BTreeMap::from([(key.to_owned(), Value { kind: Some(kind) })]);
    Some(Metadata { filter_metadata: [(namespace.to_owned(), Struct { fields })].into() })
}

/// The metadata that names the pods to choose from.
pub(crate) fn subset(addresses: &[&str]) -> Option<Metadata> {
    let values = addresses.iter().map(|text| Value { kind: Some(Kind::StringValue((*text).into())) });
    of(SUBSET_NAMESPACE, SUBSET, Kind::ListValue(ListValue { values: values.collect() }))
}

/// The metadata that names the pod that answered.
pub(crate) fn served(address: &str) -> Option<Metadata> {
    of(NAMESPACE, SERVED, Kind::StringValue(address.to_owned()))
}
