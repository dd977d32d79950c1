//! Asking a pod what it is.

use std::fmt;
use std::path::PathBuf;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::de::DeserializeOwned;

use super::PodUrl;
use super::answers::{ModelAnswer, ModelsAnswer, SourcesAnswer, VersionAnswer};
use crate::http::{Bounds, HttpClient, HttpError};
use crate::load::Metrics;

/// What a pod said of itself. What it has no answer for is missing: older vLLM has no `/kv_event_sources`, other engines
/// no `/version`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Learnt {
    pub(super) models: Option<Vec<ModelAnswer>>,
    pub(super) version: Option<String>,
    pub(super) sources: Option<SourcesAnswer>,
    pub(crate) metrics: Option<Metrics>,
}

impl Learnt {
    /// What is missing here is as it was before: a pod that leaves an answer out for once is no other pod.
    pub(crate) fn fill(&mut self, before: Self) {
        self.models = self.models.take().or(before.models);
        self.version = self.version.take().or(before.version);
        self.sources = self.sources.take().or(before.sources);
        let Some(old) = before.metrics else { return };
        let new = self.metrics.get_or_insert_default();
        new.engine = new.engine.or(old.engine);
        new.cache = new.cache.take().or(old.cache);
        if new.ranks.is_empty() {
            new.ranks = old.ranks;
        }
    }
}

/// Asks a pod; one question after the other, over one connection.
///
/// # Errors
///
/// The first question that was not answered, or with something that makes no sense. A 404 is an answer: there is no
/// such thing.
pub(crate) async fn learn(
    client: &HttpClient,
    url: &PodUrl,
    token: Option<&HeaderValue>,
    bounds: Bounds,
    metrics_bounds: Bounds,
) -> Result<Learnt, LearnError> {
    let ask = Question { client, url, token, bounds };
    let models = ask.json::<ModelsAnswer>("/v1/models").await?.map(|answer| answer.data);
    let version = ask.json::<VersionAnswer>("/version").await?.map(|answer| answer.version);
    let sources = ask.json::<SourcesAnswer>("/kv_event_sources").await?;
    let metrics = Question { bounds: metrics_bounds, ..ask }.get("/metrics").await?;
    let metrics = metrics.map(|page| Metrics::parse(&page));
    Ok(Learnt { models, version, sources, metrics })
}

#[derive(Clone, Copy)]
struct Question<'a> {
    client: &'a HttpClient,
    url: &'a PodUrl,
    token: Option<&'a HeaderValue>,
    bounds: Bounds,
}

impl Question<'_> {
    /// The answer's body; `None` if there is no such thing.
    async fn get(&self, path: &'static str) -> Result<Option<hyper::body::Bytes>, LearnError> {
        let fail = |reason| LearnError { path, reason };
        let answer = self.client.get(self.url, path, self.token, self.bounds).await;
        let answer = answer.map_err(|error| fail(Reason::Http(error)))?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(None),
            status => Err(fail(Reason::Status(status.as_u16()))),
        }
    }

    async fn json<T: DeserializeOwned>(&self, path: &'static str) -> Result<Option<T>, LearnError> {
        let Some(body) = self.get(path).await? else { return Ok(None) };
        let answer = serde_json::from_slice(&body);
        answer.map(Some).map_err(|error| LearnError { path, reason: Reason::Garbage(error.to_string()) })
    }
}

impl LearnError {
    /// Whether the pod did not answer at all, rather than with something that makes no sense.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self.reason, Reason::Http(_))
    }
}

/// The key that pods ask for, as the value of a header.
///
/// # Errors
///
/// Why the file cannot be read, or holds no key.
pub(crate) async fn read_token(path: Option<PathBuf>) -> Result<Option<HeaderValue>, String> {
    let Some(path) = path else { return Ok(None) };
    let fail = |what: String| format!("fleet.learn.token_file {}: {what}", path.display());
    let read = tokio::task::spawn_blocking({
        let path = path.clone();
        move || std::fs::read_to_string(path)
    });
    let text =
        read.await.map_err(|error| fail(error.to_string()))?.map_err(|error| fail(error.to_string()))?;
    let value = HeaderValue::try_from(format!("Bearer {}", text.trim()));
    let mut value = value.map_err(|_| fail("it has characters that no header can have".into()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Why a pod could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LearnError {
    path: &'static str,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Http(HttpError),
    Status(u16),
    Garbage(String),
}

impl fmt::Display for LearnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET {}: ", self.path)?;
        match &self.reason {
            Reason::Http(error) => error.fmt(f),
            Reason::Status(status @ (401 | 403)) => {
                write!(f, "status {status}; `fleet.learn.token_file` names a file with the pods' API key")
            }
            Reason::Status(status) => write!(f, "status {status}"),
            Reason::Garbage(what) => write!(f, "not the JSON that was expected: {what}"),
        }
    }
}
