//! A collector of traces that decodes what arrives.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(super) struct Collector {
    address: SocketAddr,
    got: Arc<Got>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Got {
    requests: AtomicUsize,
    bodies: Mutex<Vec<Value>>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        Self::answering(200).await
    }

    pub(super) async fn refusing() -> Self {
        Self::answering(503).await
    }

    async fn answering(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let got = Arc::new(Got::default());
        let theirs = Arc::clone(&got);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let got = Arc::clone(&theirs);
                let service = service_fn(move |request| take(request, Arc::clone(&got), status));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, got, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    pub(super) fn requests(&self) -> usize {
        self.got.requests.load(Ordering::SeqCst)
    }

    /// All spans that arrived, with the names of their services.
    pub(super) fn spans(&self) -> Vec<(String, Value)> {
        let bodies = self.got.bodies.lock().expect("no test panicked here");
        let list = |value: &Value, key: &str| value[key].as_array().expect(key).clone();
        let mut spans = Vec::new();
        for resource in bodies.iter().flat_map(|body| list(body, "resourceSpans")) {
            let name = &list(&resource["resource"], "attributes")[0];
            assert_eq!(name["key"], "service.name");
            let service = name["value"]["stringValue"].as_str().expect("a text").to_owned();
            let scopes = list(&resource, "scopeSpans");
            spans.extend(
                scopes.iter().flat_map(|scope| list(scope, "spans")).map(|span| (service.clone(), span)),
            );
        }
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(
    request: Request<Incoming>,
    got: Arc<Got>,
    status: u16,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/v1/traces"));
    assert_eq!(request.headers()["content-type"], "application/json");
    let body = request.into_body().collect().await.expect("it is whole").to_bytes();
    got.requests.fetch_add(1, Ordering::SeqCst);
    if status == 200 {
        got.bodies.lock().expect("no test panicked here").push(serde_json::from_slice(&body).expect("JSON"));
    }
    Ok(Response::builder().status(status).body(Full::from("{}")).expect("it is a response"))
}
