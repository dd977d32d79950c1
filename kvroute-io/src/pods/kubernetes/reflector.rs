//! All objects of a kind, kept as the API has them: listed, then watched.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::api::{Api, ApiError};
use super::config::encoded;
use super::objects::{List, Object, Status, WatchEvent, read};
use super::{MAX_RETRY, RETRY};

/// Objects of a page.
const PAGE: usize = 500;
/// How long the server is asked to let a watch run; seconds. Shorter than what proxies usually allow.
const WATCH_SECONDS: u64 = 240;

/// What is known of a kind.
#[derive(Clone, Debug)]
pub(super) struct Kept<T> {
    /// By name.
    pub(super) objects: BTreeMap<String, T>,
    /// Objects of the last list that could not be read.
    pub(super) unreadable: usize,
    /// Why the API could not be asked last, if it could not.
    pub(super) error: Option<String>,
    /// When it last said something; `None`: never, and then `objects` says nothing.
    pub(super) read: Option<Instant>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), unreadable: 0, error: None, read: None }
    }
}

/// How a watch ended.
enum Ended {
    /// The server let it run out, or the connection ended: another one from this version on.
    From(String),
    /// The version is forgotten.
    Gone,
}

/// Keeps `kept` as the API has it, for ever. `path` is that of the list, with a query.
pub(super) async fn reflect<T: Object>(api: &Api, path: &str, kept: &watch::Sender<Kept<T>>) {
    let mut wait = RETRY;
    let mut version: Option<String> = None;
    loop {
        let (begun, was_watch) = (Instant::now(), version.is_some());
        let result = match version.take() {
            None => list(api, path, kept).await.map(Some),
            Some(from) => match follow(api, path, &from, kept).await {
                Ok(Ended::From(version)) => Ok(Some(version)),
                Ok(Ended::Gone) | Err((ApiError::Gone, _)) => Ok(None),
                Err((error, reached)) => {
                    version = Some(reached);
                    Err(error)
                }
            },
        };
        match result {
            Ok(next) => {
                version = next;
                // Watches that end at once, again and again, are as good as errors.
                if was_watch && begun.elapsed() < RETRY {
                    sleep(wait).await;
                    wait = (wait * 2).min(MAX_RETRY);
                } else if was_watch {
                    wait = RETRY;
                }
            }
            Err(error) => {
                let why = match error {
                    ApiError::Gone => "the API forgets faster than it lists".to_owned(),
                    ApiError::Other(why) => why,
                };
                tracing::debug!(error = why, "the Kubernetes API");
                kept.send_modify(|kept| kept.error = Some(why));
                sleep(wait).await;
                wait = (wait * 2).min(MAX_RETRY);
            }
        }
    }
}

/// Lists all, page by page; answers the list's version. Nothing changes before all of it came.
async fn list<T: Object>(api: &Api, path: &str, kept: &watch::Sender<Kept<T>>) -> Result<String, ApiError> {
    let (mut objects, mut unreadable) = (BTreeMap::new(), 0);
    let mut next = String::new();
    loop {
        let page = api.list(&format!("{path}&limit={PAGE}&continue={}", encoded(&next))).await?;
        let page: List<'_> = serde_json::from_slice(&page)
            .map_err(|error| ApiError::Other(format!("a list cannot be read: {error}")))?;
        for object in page.items {
            match read::<T>(object) {
                Some(object) => drop(objects.insert(object.metadata().name.clone(), object)),
                None => unreadable += 1,
            }
        }
        next = page.metadata.next;
        if next.is_empty() {
            kept.send_replace(Kept { objects, unreadable, error: None, read: Some(Instant::now()) });
            return Ok(page.metadata.resource_version);
        }
    }
}

/// Takes over changes, until the watch ends; an error comes with the version that was reached.
async fn follow<T: Object>(
    api: &Api,
    path: &str,
    from: &str,
    kept: &watch::Sender<Kept<T>>,
) -> Result<Ended, (ApiError, String)> {
    let mut version = from.to_owned();
    let query = format!(
        "{path}&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
        encoded(from)
    );
    let mut lines = match api.watch(&query).await {
        Ok(lines) => lines,
        Err(error) => return Err((error, version)),
    };
    kept.send_modify(|kept| (kept.error, kept.read) = (None, Some(Instant::now())));
    // A connection that died without a word is found out when the server should have ended the watch.
    let longest = Duration::from_secs(WATCH_SECONDS) + api.timeout;
    let end = Instant::now() + longest;
    loop {
        let line = match timeout(end.saturating_duration_since(Instant::now()), lines.next()).await {
            Err(_) | Ok(Ok(None)) => return Ok(Ended::From(version)),
            Ok(Ok(Some(line))) => line,
            Ok(Err(error)) => return Err((error, version)),
        };
        match take(&line, kept) {
            Ok(Some(reached)) => version = reached,
            Ok(None) => {}
            Err(ApiError::Gone) => return Ok(Ended::Gone),
            Err(error) => return Err((error, version)),
        }
    }
}

/// Takes over one line of a watch; answers the version that it brings.
fn take<T: Object>(line: &[u8], kept: &watch::Sender<Kept<T>>) -> Result<Option<String>, ApiError> {
    let unreadable = |error: serde_json::Error| ApiError::Other(format!("a watch cannot be read: {error}"));
    let event: WatchEvent<'_> = serde_json::from_slice(line).map_err(unreadable)?;
    match event.kind.as_str() {
        kind @ ("ADDED" | "MODIFIED" | "DELETED") => {
            let Some(object) = read::<T>(event.object) else { return Ok(None) };
            let version = object.metadata().resource_version.clone();
            kept.send_modify(|kept| {
                let name = object.metadata().name.clone();
                if kind == "DELETED" {
                    kept.objects.remove(&name);
                } else {
                    kept.objects.insert(name, object);
                }
                kept.read = Some(Instant::now());
            });
            Ok(Some(version).filter(|version| !version.is_empty()))
        }
        "BOOKMARK" => {
            #[derive(serde::Deserialize)]
            struct Bookmark {
                metadata: super::objects::Metadata,
            }
            let bookmark: Bookmark = serde_json::from_str(event.object.get()).map_err(unreadable)?;
            kept.send_modify(|kept| kept.read = Some(Instant::now()));
            Ok(Some(bookmark.metadata.resource_version).filter(|version| !version.is_empty()))
        }
        "ERROR" => {
            let status: Status = serde_json::from_str(event.object.get()).map_err(unreadable)?;
            match status.code {
                410 => Err(ApiError::Gone),
                _ => Err(ApiError::Other(format!("the watch ended: {}", status.message))),
            }
        }
        // What the API may come to say.
        _ => Ok(None),
    }
}
