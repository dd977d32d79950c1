//! Pods that answer at once.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const COMPLETION: &str = r#"{"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" so it is","logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":2048,"completion_tokens":4,"total_tokens":2052,"prompt_tokens_details":{"cached_tokens":1536}}}"#;
const MODELS: &str = r#"{"object":"list","data":[{"id":"m","object":"model","root":"/weights/m","parent":null,"max_model_len":8192}]}"#;
const METRICS: &str = concat!(
    "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 0.0\n",
    "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 0.0\n",
    "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.1\n",
    "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"30000\",engine=\"0\",enable_prefix_caching=\"True\"} 1.0\n",
);

/// Starts a pod on the current runtime.
pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond)));
        }
    });
    Ok(address)
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    while let Some(Ok(_)) = body.frame().await {}
    let (status, kind, text) = match head.uri.path() {
        "/v1/models" => (200, "application/json", MODELS),
        "/metrics" => (200, "text/plain; version=0.0.4", METRICS),
        "/v1/completions" => (200, "application/json", COMPLETION),
        _ => (404, "application/json", r#"{"detail":"Not Found"}"#),
    };
    let response = Response::builder().status(status).header("content-type", kind);
    // Of constants nothing is wrong.
    Ok(response.body(Full::from(text)).unwrap_or_default())
}
