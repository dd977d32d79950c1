//! Questions to the Kubernetes API.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::KubernetesConfig;
use crate::pods::PodUrl;

/// Longest page of a list that is read; bytes. 500 pods with all their annotations.
const MAX_LIST: usize = 64 << 20;
/// Longest line of a watch; bytes. etcd keeps no object above 1.5 MiB.
const MAX_LINE: usize = 4 << 20;

/// Why the API did not say what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// It has forgotten the version that was asked for (410): all is to be listed again.
    Gone,
    /// Something else.
    Other(String),
}

/// The API server.
#[derive(Debug)]
pub(super) struct Api {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: PodUrl,
    token_file: std::path::PathBuf,
    pub(super) timeout: Duration,
}

impl Api {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If the certificates that it is to be trusted by cannot be read.
    pub(super) fn new(config: &KubernetesConfig) -> Result<Self, String> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", config.ca_file.display());
        let builder = HttpsConnectorBuilder::new();
        let builder = if config.ca_file.exists() {
            let mut roots = RootCertStore::empty();
            let certificates =
                CertificateDer::pem_file_iter(&config.ca_file).map_err(|error| fail(&error))?;
            for certificate in certificates {
                let added = certificate.map(|certificate| roots.add(certificate));
                added.map_err(|error| fail(&error))?.map_err(|error| fail(&error))?;
            }
            if roots.is_empty() {
                return Err(fail(&"there is no certificate in it"));
            }
            let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            builder.with_tls_config(tls)
        } else {
            builder.with_native_roots().map_err(|error| format!("no root certificates for TLS: {error}"))?
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let timeout = Duration::from_millis(config.timeout_ms);
        http.set_connect_timeout(Some(timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(builder.https_or_http().enable_http1().wrap_connector(http));
        Ok(Self { client, url: config.api.clone(), token_file: config.token_file.clone(), timeout })
    }

    async fn ask(&self, path: &str) -> Result<Response<Incoming>, ApiError> {
        let other = |error: &dyn std::fmt::Display| ApiError::Other(format!("{}: {error}", self.url));
        let uri: Uri = format!("{}{path}", self.url).parse().map_err(|error| other(&error))?;
        let mut request = Request::get(uri)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("kvroute/", env!("CARGO_PKG_VERSION")));
        // It is exchanged once an hour or so.
        let file = self.token_file.clone();
        let token = tokio::task::spawn_blocking(move || std::fs::read_to_string(file).ok()).await;
        if let Ok(Some(token)) = token {
            let header = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut header = header.map_err(|_| other(&"the token's file holds no token"))?;
            header.set_sensitive(true);
            request = request.header(AUTHORIZATION, header);
        }
        let request = request.body(Empty::new()).map_err(|error| other(&error))?;
        let answer = timeout(self.timeout, self.client.request(request)).await;
        let answer = answer.map_err(|_| other(&"it did not answer in time"))?;
        let answer = answer.map_err(|error| other(&causes(&error)))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::GONE => Err(ApiError::Gone),
            status => {
                let path = path.split('?').next().unwrap_or_default();
                Err(other(&format_args!("{status} for {path}")))
            }
        }
    }

    /// A page of a list, whole.
    pub(super) async fn list(&self, path: &str) -> Result<Bytes, ApiError> {
        let answer = self.ask(path).await?;
        let body = timeout(self.timeout, Limited::new(answer.into_body(), MAX_LIST).collect()).await;
        let body = body.map_err(|_| ApiError::Other(format!("{}: a list took too long", self.url)))?;
        let body = body.map_err(|error| ApiError::Other(format!("{}: {error}", self.url)))?;
        Ok(body.to_bytes())
    }

    /// A watch, whose lines come as they come.
    pub(super) async fn watch(&self, path: &str) -> Result<Lines, ApiError> {
        let body = self.ask(path).await?.into_body();
        Ok(Lines { body, read: BytesMut::new(), searched: 0 })
    }
}

/// hyper's own words alone say little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Lines of an answer.
#[derive(Debug)]
pub(super) struct Lines {
    body: Incoming,
    read: BytesMut,
    /// Bytes of `read` that hold no end of a line.
    searched: usize,
}

impl Lines {
    /// The next line; `None` at the end. What does not end with a line's end is left out: it is half of something.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if let Some(end) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(self.searched + end + 1).freeze();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.read.len();
            if self.read.len() > MAX_LINE {
                return Err(ApiError::Other(format!("a line of a watch is longer than {MAX_LINE} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(ApiError::Other(format!("a watch broke off: {error}"))),
            }
        }
    }
}
