//! Pods that answer as they are told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

/// A step of an answer's body.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send(Bytes),
    Wait(Duration),
    /// The connection breaks.
    Break,
}

pub(crate) fn send(text: impl Into<Bytes>) -> Step {
    Step::Send(text.into())
}

pub(crate) fn wait(ms: u64) -> Step {
    Step::Wait(Duration::from_millis(ms))
}

/// An answer: status, content type, body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) delay: Duration,
    pub(crate) body: Vec<Step>,
    pub(crate) length: Option<usize>,
}

impl Answer {
    pub(crate) fn json(value: &Value) -> Self {
        let text = value.to_string();
        let length = Some(text.len());
        Self { status: 200, kind: "application/json", delay: Duration::ZERO, body: vec![send(text)], length }
    }

    pub(crate) fn stream(body: Vec<Step>) -> Self {
        let kind = "text/event-stream; charset=utf-8";
        Self { status: 200, kind, delay: Duration::ZERO, body, length: None }
    }

    pub(crate) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn after(self, ms: u64) -> Self {
        Self { delay: Duration::from_millis(ms), ..self }
    }
}

/// What a completion of so many cached tokens looks like.
pub(crate) fn completion(cached_tokens: usize) -> Answer {
    Answer::json(&json!({
        "id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, "text": " x"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101,
                  "prompt_tokens_details": {"cached_tokens": cached_tokens}},
    }))
}

/// A request as a pod got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

/// What a pod answers to questions about itself; `None`: the path is none.
type Facts = dyn Fn(&str) -> Option<Answer> + Send + Sync;

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    /// Answers that were dropped before their end.
    cancelled: AtomicUsize,
    connections: AtomicUsize,
}

/// A pod that answers what its script says; what it is asked about itself it answers as vLLM does.
pub(crate) struct Pod {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Pod {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::with_facts(about_itself, script).await
    }

    /// One that says other things of itself.
    pub(crate) async fn with_facts(
        facts: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (state, script) = (Arc::new(State::default()), Arc::new(script) as Arc<Script>);
        let task = tokio::spawn(accept(listener, Arc::clone(&state), Arc::new(facts), script));
        Self { address, state, task }
    }

    pub(crate) async fn answering(answer: Answer) -> Self {
        Self::start(move |_| answer.clone()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    /// Requests it got, but for those about itself.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no test panicked here").clone()
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.state.cancelled.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, facts: Arc<Facts>, script: Arc<Script>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (state, facts, script) = (Arc::clone(&state), Arc::clone(&facts), Arc::clone(&script));
        state.connections.fetch_add(1, Ordering::SeqCst);
        let service = service_fn(move |request| {
            respond(request, Arc::clone(&state), Arc::clone(&facts), Arc::clone(&script))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn respond(
    request: Request<Incoming>,
    state: Arc<State>,
    facts: Arc<Facts>,
    script: Arc<Script>,
) -> Result<Response<Scripted>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or_else(String::new, |path| path.to_string());
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = match facts(&path) {
        Some(answer) => answer,
        None => {
            let seen = Seen { path, headers: head.headers, body };
            let answer = script(&seen);
            state.seen.lock().expect("no test panicked here").push(seen);
            answer
        }
    };
    let mut guard = Guard { state, armed: true };
    sleep(answer.delay).await;
    guard.armed = false;
    let mut response = Response::builder().status(answer.status).header("content-type", answer.kind);
    if let Some(length) = answer.length {
        response = response.header("content-length", length);
    }
    let state = Arc::clone(&guard.state);
    let guard = Guard { state, armed: true };
    Ok(response
        .header("x-from-pod", "yes")
        .body(Scripted { steps: answer.body.into_iter().collect(), timer: None, guard })
        .expect("it is a response"))
}

/// What vLLM says of itself.
fn about_itself(path: &str) -> Option<Answer> {
    match path {
        "/v1/models" => Some(Answer::json(&json!({"object": "list", "data": [
            {"id": "m", "object": "model", "created": 1, "owned_by": "vllm", "root": "/weights/m", "parent": null,
             "max_model_len": 4096},
        ]}))),
        "/version" => Some(Answer::json(&json!({"version": "0.32.0"}))),
        "/kv_event_sources" => Some(Answer::json(&json!({"detail": "Not Found"})).status(404)),
        "/metrics" => {
            let page = concat!(
                "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 0.0\n",
                "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 0.0\n",
                "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.1\n",
                "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1000\",engine=\"0\",",
                "enable_prefix_caching=\"True\",prefix_caching_hash_algo=\"sha256\"} 1.0\n",
            );
            Some(Answer {
                kind: "text/plain; version=0.0.4",
                length: None,
                ..Answer::stream(vec![send(page)])
            })
        }
        "/health" => Some(Answer::stream(vec![])),
        _ => None,
    }
}

/// Counts what is dropped before its end.
struct Guard {
    state: Arc<State>,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.state.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct Scripted {
    steps: std::collections::VecDeque<Step>,
    timer: Option<Pin<Box<Sleep>>>,
    guard: Guard,
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(timer) = &mut self.timer {
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.timer = None;
            }
            match self.steps.pop_front() {
                None => {
                    self.guard.armed = false;
                    return Poll::Ready(None);
                }
                Some(Step::Send(bytes)) => {
                    // With a length in the head nobody asks for the end.
                    self.guard.armed = !self.steps.is_empty();
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Wait(time)) => self.timer = Some(Box::pin(sleep(time))),
                Some(Step::Break) => {
                    return Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())));
                }
            }
        }
    }
}

/// A pod that speaks no HTTP: it does this with each connection, after what it was asked about itself.
pub(crate) struct RawPod {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// What a raw pod does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// Closes the connection.
    Reset,
    /// Answers these bytes and closes it.
    Say(&'static [u8]),
    /// Says nothing.
    Hang,
}

impl RawPod {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    let _ = misbehave(stream, manner, &counter).await;
                });
            }
        });
        Self { address, connections, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that came, but for those about itself.
    pub(crate) fn requests(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawPod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn misbehave(mut stream: TcpStream, manner: Manner, counter: &AtomicUsize) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default();
        if let Some(answer) = about_itself(path) {
            let body: Vec<u8> = answer
                .body
                .iter()
                .flat_map(|step| match step {
                    Step::Send(bytes) => bytes.to_vec(),
                    _ => Vec::new(),
                })
                .collect();
            let head = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n\r\n", answer.status, body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
            continue;
        }
        counter.fetch_add(1, Ordering::SeqCst);
        match manner {
            Manner::Reset => return Ok(()),
            Manner::Say(bytes) => return stream.write_all(bytes).await,
            Manner::Hang => sleep(Duration::from_secs(60)).await,
        }
    }
}
