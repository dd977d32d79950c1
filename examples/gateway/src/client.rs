//! The way to pods: connections that are kept, and what a request to one looks like.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kvroute_core::Error;

use crate::config::GatewayConfig;
use crate::headers::{PREFILLER, RANK};
use crate::route::Destination;

/// Sends requests to pods, over HTTP/1.1.
pub(crate) type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How long an idle connection is kept. uvicorn, vLLM's server, closes them after 5 s (vLLM 0.32,
/// `VLLM_HTTP_TIMEOUT_KEEP_ALIVE`); one that it closes while a request is on its way costs a retry.
const KEEP_IDLE: Duration = Duration::from_secs(4);

/// Makes the client.
///
/// # Errors
///
/// If the machine's certificates cannot be read.
pub(crate) fn client(config: &GatewayConfig) -> Result<Client, Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(Duration::from_millis(config.timeouts.connect_ms)));
    let https = HttpsConnectorBuilder::new().with_native_roots();
    let https =
        https.map_err(|error| crate::config::invalid(format!("the machine's certificates: {error}")))?;
    let connector = https.https_or_http().enable_http1().wrap_connector(http);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEEP_IDLE)
        .build(connector))
}

/// A request as it is sent to pods: all of it but which pod.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Outgoing {
    /// The request for this pod.
    pub(crate) fn to(&self, pod: &Destination) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri(pod, &self.path);
        request.headers_mut().clone_from(&self.headers);
        if pod.names_rank {
            request.headers_mut().insert(RANK, HeaderValue::from(pod.rank));
        }
        request
    }
}

fn uri(pod: &Destination, path: &PathAndQuery) -> Uri {
    let scheme = if pod.url.is_https() { "https" } else { "http" };
    let uri =
        Uri::builder().scheme(scheme).authority(pod.url.authority()).path_and_query(path.clone()).build();
    // The parts were parts of URLs before.
    uri.unwrap_or_default()
}

/// A pod's answer.
pub(crate) type Answer = Response<Incoming>;

/// Takes out the headers that concern one connection only (RFC 9110, section 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    let always = [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in always.iter().chain(&named) {
        headers.remove(name);
    }
}

/// The headers of a client's request as a pod gets them: its own connection has another host and length, and which
/// pods compute it is not the client's to say.
pub(crate) fn outgoing_headers(mut headers: HeaderMap) -> HeaderMap {
    strip_hop_by_hop(&mut headers);
    for name in [HOST, CONTENT_LENGTH, EXPECT, RANK, PREFILLER] {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_do_not_travel_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("host", "gateway"),
            ("content-length", "7"),
            ("expect", "100-continue"),
            ("x-data-parallel-rank", "1"),
            ("x-prefiller-host-port", "h:1"),
            ("authorization", "Bearer k"),
            ("x-request-id", "r"),
        ] {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let left = outgoing_headers(headers);
        let mut names: Vec<&str> = left.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "x-request-id"]);
    }
}
