//! Pods with a simulated engine: they hold, evict and announce blocks as vLLM does, over real HTTP and ZeroMQ.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kvroute_core::HashContext;
use kvroute_io::tokenize::{Endpoint, TokenizedPrompt, Tokenizer, TokenizerOptions};
use kvroute_sim::engine::{Engine, EngineOptions, EngineRequest};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// How long a token takes to prefill.
const PREFILL: Duration = Duration::from_micros(20);

/// What streams are tokenized by, as gateways are that have it.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tokenize");
    Tokenizer::from_dir(&folder, &TokenizerOptions::default()).expect("a tokenizer")
});

pub(crate) struct SimPod {
    address: SocketAddr,
    /// Where it publishes its events.
    endpoint: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

struct State {
    engine: Engine,
    publisher: zmq::Socket,
    is_subscribed: bool,
    next: u64,
    requests: u64,
}

impl SimPod {
    pub(crate) fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), "tcp://127.0.0.1:*")
    }

    /// Where it is, and where it publishes its events, for another one in its place.
    pub(crate) fn place(&self) -> (SocketAddr, String) {
        (self.address, self.endpoint.clone())
    }

    /// One with an empty cache at this place. Dropping it ends all connections to it.
    pub(crate) fn at(address: SocketAddr, endpoint: &str) -> Self {
        let listener = StdListener::bind(address).expect("a port is free");
        listener.set_nonblocking(true).expect("an option");
        let address = listener.local_addr().expect("it is bound");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let publisher = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
        publisher.set_linger(0).expect("an option");
        let begin = Instant::now();
        // The socket of the one before is closed by a thread of its own.
        while let Err(error) = publisher.bind(endpoint) {
            assert!(begin.elapsed() < Duration::from_secs(5), "{endpoint}: {error}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let endpoint = publisher.get_last_endpoint().expect("it is bound").expect("it is text");
        let port = endpoint.rsplit(':').next().expect("a port").to_owned();
        let engine =
            Engine::new(EngineOptions { num_blocks: 2000, ..EngineOptions::default() }).expect("an engine");
        let state =
            Arc::new(Mutex::new(State { engine, publisher, is_subscribed: false, next: 0, requests: 0 }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (state, port) = (Arc::clone(&shared), port.clone());
                let service = service_fn(move |request| respond(request, Arc::clone(&state), port.clone()));
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, endpoint, state, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether somebody gets its events; what it publishes before is lost.
    pub(crate) fn is_subscribed(&self) -> bool {
        let mut state = self.state.lock().expect("no panic");
        state.is_subscribed |=
            state.publisher.recv_bytes(zmq::DONTWAIT).is_ok_and(|told| told.first() == Some(&1));
        state.is_subscribed
    }

    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for SimPod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    port: String,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let streams = serde_json::from_slice::<Value>(&body).is_ok_and(|value| value["stream"] == true);
    if streams {
        return Ok(stream(&path, &body, &state).await);
    }
    let (status, text) = match &*path {
        "/v1/models" => {
            (200, json!({"data": [{"id": "m", "root": "/weights/m", "max_model_len": 30000}]}).to_string())
        }
        "/version" => (200, json!({"version": "0.32.0"}).to_string()),
        "/kv_event_sources" => {
            let endpoint = format!("tcp://*:{port}");
            let source = json!({"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": endpoint, "topic": ""});
            (200, json!({ "0": source }).to_string())
        }
        "/metrics" => (200, state.lock().expect("no panic").metrics()),
        "/v1/completions" => match serde_json::from_slice::<Value>(&body) {
            Ok(value) if value["fail"] == true => (503, json!({"error": {"message": "busy"}}).to_string()),
            Ok(value) => {
                // Of a text its bytes: what it costs matters here, not what it says.
                let token_ids: Vec<u32> = match value["prompt"].as_str() {
                    Some(text) => text.bytes().map(u32::from).collect(),
                    None => serde_json::from_value(value["prompt"].clone()).expect("token ids"),
                };
                let (cached, computed) = state.lock().expect("no panic").complete(&token_ids);
                sleep(PREFILL * computed).await;
                let usage = json!({"prompt_tokens": token_ids.len(), "completion_tokens": 1,
                                   "prompt_tokens_details": {"cached_tokens": cached}});
                (200, json!({"choices": [{"index": 0, "text": "x"}], "usage": usage}).to_string())
            }
            Err(error) => (400, json!({"error": {"message": error.to_string()}}).to_string()),
        },
        _ => (404, "{}".to_owned()),
    };
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::from(text)).expect("it is a response"))
}

/// A stream of one token and the usage, of a request that is tokenized as engines do.
async fn stream(path: &str, body: &[u8], state: &Mutex<State>) -> Response<Full<Bytes>> {
    let endpoint = if path.contains("chat") { Endpoint::ChatCompletions } else { Endpoint::Completions };
    let prompts = TOKENIZER.prompts(endpoint, body, SystemTime::now()).expect("a request");
    let [TokenizedPrompt::TokenIds(token_ids)] = &*prompts else { panic!("one prompt: {prompts:?}") };
    let (cached, computed) = state.lock().expect("no panic").complete(token_ids);
    sleep(PREFILL * computed).await;
    let token = json!({"choices": [{"index": 0, "text": "x", "delta": {"content": "x"}, "token_ids": [7]}]});
    let usage = json!({"prompt_tokens": token_ids.len(), "completion_tokens": 1,
                       "prompt_tokens_details": {"cached_tokens": cached}});
    let text =
        format!("data: {token}\n\ndata: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage}));
    let response = Response::builder().header("content-type", "text/event-stream; charset=utf-8");
    response.body(Full::from(text)).expect("it is a response")
}

impl State {
    /// Computes a prompt and one token; answers how much was cached, and how much was not.
    fn complete(&mut self, token_ids: &[u32]) -> (usize, u32) {
        let cached = self.engine.cached_tokens(token_ids, &HashContext::default()).expect("it can be hashed");
        self.requests += 1;
        let token_ids = token_ids.to_vec();
        let length = token_ids.len();
        let request = EngineRequest {
            id: self.requests,
            token_ids: token_ids.into(),
            max_tokens: 1,
            ..Default::default()
        };
        self.engine.add_request(request).expect("it fits");
        while self.engine.begin_step().is_some() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
            if let Some((_, payload)) = self.engine.end_step(now, |_| 7).batch {
                let frames: [&[u8]; 3] = [b"", &self.next.to_be_bytes(), &payload];
                self.publisher.send_multipart(frames, 0).expect("it publishes");
                self.next += 1;
            }
        }
        (cached, (length - cached) as u32)
    }

    fn metrics(&self) -> String {
        let counters = self.engine.counters();
        format!(
            "vllm:num_requests_running{{engine=\"0\",model_name=\"m\"}} {}\n\
             vllm:num_requests_waiting{{engine=\"0\",model_name=\"m\"}} {}\n\
             vllm:kv_cache_usage_perc{{engine=\"0\",model_name=\"m\"}} {}\n\
             vllm:prefix_cache_queries_total{{engine=\"0\",model_name=\"m\"}} {}\n\
             vllm:prefix_cache_hits_total{{engine=\"0\",model_name=\"m\"}} {}\n\
             vllm:cache_config_info{{block_size=\"16\",num_gpu_blocks=\"2000\",engine=\"0\",\
             enable_prefix_caching=\"True\",prefix_caching_hash_algo=\"sha256_cbor\"}} 1.0\n",
            self.engine.running(),
            self.engine.waiting(),
            self.engine.kv_usage(),
            counters.prefix_queries,
            counters.prefix_hits,
        )
    }
}
