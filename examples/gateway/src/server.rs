//! Connections of clients, and what is answered on which path.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::AnswerBody;
use crate::error::ApiError;
use crate::explain::explain;
use crate::forward::forward;
use crate::gateway::Gateway;
use crate::stall::StallGuard;
use crate::tls::Tls;
use crate::watch;

/// How a server came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All requests that were in flight ended.
    Whole,
    /// So many connections were closed because their time was over.
    CutOff(usize),
}

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Requests, which go to pods, and all else.
    Api,
    /// What people and probes look at, and `/explain`: nothing goes to pods.
    Watch,
}

/// Serves clients until `stop`; then takes no more connections, lets the requests in flight end, and closes what is left
/// when the time for that is over.
pub async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    tls: Option<Tls>,
    stop: impl Future<Output = ()>,
) -> Drained {
    serve_some(gateway, Serves::Api, listener, tls, stop).await
}

/// [`serve`], of all or of some paths.
pub async fn serve_some(
    gateway: Arc<Gateway>,
    serves: Serves,
    listener: TcpListener,
    tls: Option<Tls>,
    stop: impl Future<Output = ()>,
) -> Drained {
    let limits = gateway.settings().limits;
    let places = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            // First a place: who finds none waits in the listener's queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            () = &mut stop => break,
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => (place, stream),
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
        };
        let connection =
            serve_connection(Arc::clone(&gateway), serves, stream, tls.clone(), graceful.watcher());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    gateway.start_draining();
    let drain = Duration::from_millis(gateway.settings().timeouts.drain_ms);
    let ended = timeout(drain, async {
        graceful.shutdown().await;
        while connections.join_next().await.is_some() {}
    });
    if ended.await.is_ok() {
        return Drained::Whole;
    }
    let left = connections.len();
    connections.shutdown().await;
    Drained::CutOff(left)
}

/// Errors of one connection are its own; where the process has no more files, accepting again at once would spin.
async fn pause_after(error: &io::Error) {
    let is_of_one = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    if !is_of_one {
        tracing::warn!(%error, "connections cannot be accepted");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn serve_connection(
    gateway: Arc<Gateway>,
    serves: Serves,
    stream: TcpStream,
    tls: Option<Tls>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let settings = gateway.settings();
    let head = Duration::from_millis(settings.timeouts.head_ms);
    let write = Duration::from_millis(settings.timeouts.write_ms);
    // Tokens are small, and each is to leave at once.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_header_size(settings.limits.max_head_bytes);
    let service = service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(answer(gateway, serves, request).await) }
    });
    let result = match tls {
        None => {
            watcher.watch(http.serve_connection(TokioIo::new(StallGuard::new(stream, write)), service)).await
        }
        Some(tls) => match timeout(head, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let io = TokioIo::new(StallGuard::new(stream, write));
                watcher.watch(http.serve_connection(io, service)).await
            }
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        },
    };
    if let Err(error) = result {
        // hyper has answered malformed requests with 400 by itself.
        tracing::debug!(%error, "a client's connection ended");
    }
}

/// What is answered on which path.
async fn answer(gateway: Arc<Gateway>, serves: Serves, request: Request<Incoming>) -> Response<AnswerBody> {
    let path = request.uri().path();
    let expected = match path {
        "/health" | "/ready" | "/v1/models" => &[Method::GET, Method::HEAD][..],
        path if watch::serves(path) => &[Method::GET, Method::HEAD],
        "/explain" => &[Method::POST],
        path if serves == Serves::Watch => return ApiError::unknown_path(path).into_response(),
        "/v1/completions" | "/v1/chat/completions" | "/v1/responses" => &[Method::POST],
        // Whatever else engines have: theirs to judge.
        "/tokenize" | "/detokenize" => &[],
        path if path.starts_with("/v1/") => &[],
        path => return ApiError::unknown_path(path).into_response(),
    };
    if !expected.is_empty() && !expected.contains(request.method()) {
        return ApiError::wrong_method(expected[0].as_str()).into_response();
    }
    match path {
        "/health" => json_response(StatusCode::OK, &json!({ "status": "ok" })),
        "/ready" => ready(&gateway),
        "/v1/models" => json_response(StatusCode::OK, &models(&gateway)),
        path if watch::serves(path) => watch::answer(&gateway, path).await,
        "/explain" => explain(&gateway, request).await.unwrap_or_else(ApiError::into_response),
        _ => forward(gateway, request).await,
    }
}

/// Whether requests can be taken: some pod takes them, and the gateway is not about to stop.
fn ready(gateway: &Gateway) -> Response<AnswerBody> {
    let pods = gateway.router().pods();
    let accepting = pods.iter().filter(|pod| pod.is_accepting()).count();
    let is_ready = accepting > 0 && !gateway.is_draining();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_response(
        status,
        &json!({ "ready": is_ready, "draining": gateway.is_draining(), "pods": pods.len(), "accepting": accepting }),
    )
}

/// All models and adapters that some pod serves, in OpenAI's form with vLLM's fields (0.32).
fn models(gateway: &Gateway) -> Value {
    let data = gateway.fleet().models().into_iter().map(|model| {
        json!({
            "id": model.name, "object": "model", "created": 0, "owned_by": "kvroute",
            "root": model.root, "parent": model.base, "max_model_len": model.max_model_len,
        })
    });
    json!({ "object": "list", "data": data.collect::<Vec<_>>() })
}

fn json_response(status: StatusCode, value: &Value) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Whole(Full::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
