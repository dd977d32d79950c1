//! Questions to pods over HTTP: with bounds on time and size, over connections that are kept.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::pods::PodUrl;

/// Asks pods. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub(crate) struct HttpClient {
    plain: Client<HttpConnector, Empty<Bytes>>,
    /// Made when it is first needed, because that reads all root certificates; or why there is none.
    tls: Arc<OnceLock<Result<TlsClient, String>>>,
}

type TlsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient(..)")
    }
}

/// How long and how much an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) timeout: Duration,
    pub(crate) max_bytes: usize,
}

/// How many pods are asked at one time. Those that did not answer last time wait in a line of their own: pods that hang,
/// each until its time is over, would keep all others waiting.
#[derive(Debug)]
pub(crate) struct Lines {
    trusted: Semaphore,
    suspect: Semaphore,
}

impl Lines {
    /// `concurrency` pods at one time, and a quarter as many suspects.
    pub(crate) fn new(concurrency: usize) -> Self {
        let line = |places: usize| Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS));
        Self { trusted: line(concurrency), suspect: line(concurrency / 4) }
    }

    /// Waits for a place, which is given back when the answer is dropped.
    pub(crate) async fn enter(&self, is_suspect: bool) -> Option<SemaphorePermit<'_>> {
        let line = if is_suspect { &self.suspect } else { &self.trusted };
        // The semaphores are never closed.
        line.acquire().await.ok()
    }
}

/// What a pod answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl HttpClient {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { plain: builder().build(connector), tls: Arc::default() }
    }

    fn tls(&self) -> Result<&TlsClient, HttpError> {
        let make = || {
            let tls = HttpsConnectorBuilder::new().with_native_roots();
            tls.map(|tls| builder().build(tls.https_only().enable_http1().build()))
                .map_err(|error| format!("no root certificates for TLS: {error}"))
        };
        self.tls.get_or_init(make).as_ref().map_err(|why| HttpError::Unreachable(why.clone()))
    }

    /// What the pod answers to GET `path`, whatever its status.
    ///
    /// # Errors
    ///
    /// If it did not answer within the bounds.
    pub(crate) async fn get(
        &self,
        url: &PodUrl,
        path: &str,
        token: Option<&HeaderValue>,
        bounds: Bounds,
    ) -> Result<Answer, HttpError> {
        let unspeakable = |error: hyper::http::Error| HttpError::Unreachable(error.to_string());
        let uri: Uri =
            format!("{url}{path}").parse().map_err(|e| unspeakable(hyper::http::Error::from(e)))?;
        let mut request =
            Request::get(uri).header(USER_AGENT, concat!("kvroute/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Empty::new()).map_err(unspeakable)?;
        let answer = async {
            let response = self.send(url, request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), bounds.max_bytes).collect().await;
            let body = body.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    HttpError::TooLong(bounds.max_bytes)
                } else {
                    HttpError::Broken(with_causes(&*error))
                }
            })?;
            Ok(Answer { status, body: body.to_bytes() })
        };
        tokio::time::timeout(bounds.timeout, answer).await.unwrap_or(Err(HttpError::Timeout(bounds.timeout)))
    }

    async fn send(
        &self,
        url: &PodUrl,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        let sent = if url.is_https() {
            self.tls()?.request(request).await
        } else {
            self.plain.request(request).await
        };
        sent.map_err(|error: legacy::Error| {
            if error.is_connect() {
                HttpError::Unreachable(with_causes(&error))
            } else {
                HttpError::Broken(with_causes(&error))
            }
        })
    }
}

fn builder() -> legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    // Servers close idle connections by themselves, uvicorn after 5 s; a request that meets a closed one is sent again
    // over a new one.
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60));
    builder.pool_max_idle_per_host(1);
    builder
}

/// Why a pod did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpError {
    /// It could not be connected to.
    Unreachable(String),
    /// What it answered is no HTTP, or broke off.
    Broken(String),
    /// It took longer than this.
    Timeout(Duration),
    /// It answered more than so many bytes.
    TooLong(usize),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Broken(why) => write!(f, "the answer broke off or is no HTTP: {why}"),
            Self::Timeout(time) => write!(f, "no answer within {} ms", time.as_millis()),
            Self::TooLong(bytes) => write!(f, "an answer of more than {bytes} bytes"),
        }
    }
}

impl std::error::Error for HttpError {}

/// An error and what it came from, on one line.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.contains(&error_text) {
            text.push_str(": ");
            text.push_str(&error_text);
        }
        cause = error.source();
    }
    text
}
