//! Pods that are not there: HTTP servers on the loopback interface that answer as they are told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kvroute_core::{Decision, Error, HashContext, Router, Workspace};
use kvroute_io::fleet::{Fleet, FleetConfig, PodState, PodStatus};
use kvroute_io::pods::{PodConfig, PodUrl};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// What a server answers to a path.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Body(Bytes),
    Status(u16),
    /// Nothing, for ever.
    Hang,
}

impl Reply {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Body(Bytes::from(text.into()))
    }
}

pub(crate) const MODELS: &str = include_str!("../../../testdata/pods/vllm-connect-0/models.json");
pub(crate) const MODELS_WITH_LORA_B: &str =
    include_str!("../../../testdata/pods/vllm-connect-0/models-with-lora-b.json");
pub(crate) const METRICS: &str = include_str!("../../../testdata/pods/vllm-connect-0/metrics.txt");

/// A page of a vLLM that computes so many requests, and started then.
pub(crate) fn metrics(running: u32, started: u32) -> Reply {
    let page = METRICS.replace(
        "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 0.0",
        &format!("vllm:num_requests_running{{engine=\"0\",model_name=\"tiny\"}} {running}.0"),
    );
    Reply::text(page.replace(
        "process_start_time_seconds 1.79533560102e+09",
        &format!("process_start_time_seconds {started}"),
    ))
}

/// For each path, how often it was asked for, and with which key last.
type Asked = Arc<Mutex<BTreeMap<String, (u64, Option<String>)>>>;

/// An HTTP server; paths it was told nothing of are not there.
#[derive(Debug)]
pub(crate) struct FakePod {
    pub(crate) url: PodUrl,
    answers: Arc<Mutex<BTreeMap<String, Reply>>>,
    asked: Asked,
    server: JoinHandle<()>,
}

impl FakePod {
    /// A pod that answers what a real vLLM 0.32 did, of whose events nothing is known.
    pub(crate) async fn vllm() -> Self {
        let pod = Self::silent().await;
        pod.answer("/v1/models", Reply::text(MODELS));
        pod.answer("/version", Reply::text("{\"version\":\"0.32.0\"}"));
        pod.answer("/metrics", metrics(0, 1000));
        pod
    }

    /// A server without any answers.
    pub(crate) async fn silent() -> Self {
        Self::at(0).await
    }

    pub(crate) async fn at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (answers, asked) = (Arc::default(), Arc::default());
        let server = tokio::spawn(serve(listener, Arc::clone(&answers), Arc::clone(&asked)));
        Self { url, answers, asked, server }
    }

    pub(crate) fn answer(&self, path: &str, reply: Reply) {
        self.answers.lock().insert(path.into(), reply);
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> u64 {
        self.asked.lock().get(path).map_or(0, |asked| asked.0)
    }

    /// The key that a path was last asked for with.
    pub(crate) fn key(&self, path: &str) -> Option<String> {
        self.asked.lock().get(path)?.1.clone()
    }

    pub(crate) fn name(&self) -> String {
        self.url.authority()
    }

    /// Ends the server with all its connections. Answers what it would have said.
    pub(crate) async fn stop(self) -> BTreeMap<String, Reply> {
        self.server.abort();
        let _ = self.server.await;
        self.answers.lock().clone()
    }
}

async fn serve(listener: TcpListener, answers: Arc<Mutex<BTreeMap<String, Reply>>>, asked: Asked) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
        let service = service_fn(move |request: Request<Incoming>| {
            let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
            async move {
                let path = request.uri().path().to_string();
                let key = request.headers().get("authorization");
                let key = key.map(|key| key.to_str().unwrap().to_string());
                {
                    let mut asked = asked.lock();
                    let asked = asked.entry(path.clone()).or_default();
                    *asked = (asked.0 + 1, key);
                }
                let reply = answers.lock().get(&path).cloned().unwrap_or(Reply::Status(404));
                let (status, body) = match reply {
                    Reply::Body(body) => (200, body),
                    Reply::Status(status) => (status, Bytes::new()),
                    Reply::Hang => std::future::pending().await,
                };
                let response = Response::builder().status(status).body(Full::new(body));
                Ok::<_, Infallible>(response.unwrap())
            }
        });
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A configuration that is quick enough for tests.
pub(crate) fn config(pods: &[&FakePod]) -> FleetConfig {
    let urls = pods.iter().map(|pod| PodConfig::new(pod.url.clone()));
    let mut config = FleetConfig { pods: urls.collect(), ..FleetConfig::default() };
    (config.learn.interval_ms, config.learn.timeout_ms) = (200, 500);
    (config.learn.retry_ms, config.learn.max_retry_ms) = (50, 200);
    (config.scrape.interval_ms, config.scrape.timeout_ms, config.scrape.stale_ms) = (50, 200, 400);
    config.drain_ms = 5000;
    config
}

pub(crate) fn start(config: FleetConfig) -> Fleet {
    Fleet::start(Arc::new(Router::default()), config).unwrap()
}

pub(crate) fn pod(fleet: &Fleet, name: &str) -> Option<PodStatus> {
    fleet.status().pods.into_iter().find(|pod| pod.name == name)
}

/// Waits until `find` finds something.
pub(crate) async fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a pod is in this state.
pub(crate) async fn until_state(fleet: &Fleet, name: &str, state: PodState) -> PodStatus {
    let is_there = || pod(fleet, name).filter(|pod| pod.state == state);
    let waiting = until("it is", is_there);
    match tokio::time::timeout(Duration::from_secs(15), waiting).await {
        Ok(pod) => pod,
        Err(_) => panic!("{name} does not become {state:?}: {:#?}", pod(fleet, name)),
    }
}

/// Where a prompt would go.
pub(crate) fn decide(fleet: &Fleet, seed: u32) -> Result<Decision, Error> {
    let (prompt, context): (Vec<u32>, _) = ((seed..seed + 100).collect(), HashContext::default());
    let request = kvroute_core::Request::new(&prompt, &context);
    fleet.router().decide(&request, fleet.clock().now(), &mut Workspace::default())
}

/// Names of the pods that twenty prompts would go to.
pub(crate) fn chosen(fleet: &Fleet) -> Vec<String> {
    let mut names: Vec<_> = (0..20)
        .filter_map(|seed| Some(fleet.target(decide(fleet, seed * 1000).ok()?.pod)?.name.clone()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// As a name for a test's own files.
pub(crate) fn directory(test: &str) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("kvroute-fleet-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Keeps a future's output short of the time a test may take.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("{what} takes for ever"))
}
