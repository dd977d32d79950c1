//! Pods from the Kubernetes API: those that an InferencePool selects, as they come, become ready, and go.
//!
//! ```text
//! pool:  list, watch -> selector, ports ──┐
//! pods:  list, watch (by that selector) ──┴-> PodConfig of each ready pod and port
//! ```
//!
//! A client of a few hundred lines (`api`, `reflector`), over the HTTP client that is here anyway: two kinds of objects are
//! listed and watched, and nothing is written, which is not worth a Kubernetes library of some hundred crates. It follows
//! the rules of the API's "Efficient detection of changes": a list first, a watch from its version on, another list where
//! the server has forgotten that version (410), and the same connection's end, errors and silence are no reason to forget
//! a pod. What is known stays until the API says otherwise.

mod api;
mod config;
mod objects;
mod reflector;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::PodConfig;
use api::Api;
pub use config::{KubernetesConfig, PoolVersion};
use objects::{InferencePool, Pod, Pool};
use reflector::{Kept, reflect};

/// What the API says now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The pods that are ready, by name.
    pub(crate) pods: Vec<PodConfig>,
    /// Why it could not be asked last, if it could not.
    pub(crate) error: Option<String>,
    /// When it last answered.
    pub(crate) read: Option<Instant>,
}

/// A watch of a pool and its pods, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) config: KubernetesConfig,
    pub(crate) seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Begins to watch; inside a tokio runtime.
    pub(crate) fn start(config: KubernetesConfig) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(follow(config.clone(), sender));
        Self { config, seen, task }
    }
}

/// How long to wait after an error, the first time; twice as long each time after.
const RETRY: Duration = Duration::from_millis(200);
/// The longest such wait.
const MAX_RETRY: Duration = Duration::from_secs(15);

async fn follow(config: KubernetesConfig, seen: watch::Sender<Seen>) {
    let mut wait = RETRY;
    let api = loop {
        match Api::new(&config) {
            Ok(api) => break api,
            // Files of a service account may come a moment later than their container.
            Err(error) => seen.send_modify(|seen| seen.error = Some(error)),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(MAX_RETRY);
    };
    match config.fixed_pool() {
        Some(pool) => follow_pods(&api, &config, &pool, &seen).await,
        None => follow_pool(&api, &config, &seen).await,
    }
}

/// Watches the pool, and the pods by what it says.
async fn follow_pool(api: &Api, config: &KubernetesConfig, seen: &watch::Sender<Seen>) {
    let (sender, mut pools) = watch::channel(Kept::<InferencePool>::default());
    let path = config.pool_path();
    let watching = reflect(api, &path, &sender);
    let following = async {
        let mut current: Option<Pool> = None;
        loop {
            let next = next_pool(&mut pools, current.as_ref(), config, seen);
            current = match &current {
                Some(pool) => tokio::select! {
                    () = follow_pods(api, config, pool, seen) => None,
                    next = next => next,
                },
                None => next.await,
            };
        }
    };
    tokio::select! {
        () = watching => {}
        () = following => {}
    }
}

/// Waits until the pool says something else than `current`; `None`: it is gone. One that makes no sense, or cannot be asked
/// for, changes nothing.
async fn next_pool(
    pools: &mut watch::Receiver<Kept<InferencePool>>,
    current: Option<&Pool>,
    config: &KubernetesConfig,
    seen: &watch::Sender<Seen>,
) -> Option<Pool> {
    while pools.changed().await.is_ok() {
        let kept = pools.borrow_and_update().clone();
        let why = match (kept.objects.values().next().map(|pool| pool.spec.pool()), kept.error) {
            (Some(Ok(pool)), _) if Some(&pool) != current => return Some(pool),
            (Some(Ok(_)), error) => error,
            (Some(Err(why)), _) => Some(why),
            (None, Some(why)) => Some(why),
            (None, None) if kept.unreadable > 0 => Some("the InferencePool cannot be read".to_owned()),
            (None, None) => {
                let why = format!("there is no InferencePool `{}`", config.pool.as_deref().unwrap_or(""));
                seen.send_replace(Seen { pods: Vec::new(), error: Some(why), read: kept.read });
                return None;
            }
        };
        if why.is_some() {
            seen.send_modify(|seen| seen.error = why);
        }
    }
    // Its sender lives as long as the watch, and this.
    std::future::pending().await
}

/// Watches the pods of a pool, for ever.
async fn follow_pods(api: &Api, config: &KubernetesConfig, pool: &Pool, seen: &watch::Sender<Seen>) {
    let (sender, mut pods) = watch::channel(Kept::<Pod>::default());
    let path = config.pods_path(&pool.selector);
    let watching = reflect(api, &path, &sender);
    let telling = async {
        while pods.changed().await.is_ok() {
            let kept = pods.borrow_and_update().clone();
            let listed = kept.read.is_some().then(|| configs(config, pool, &kept.objects));
            seen.send_modify(|seen| {
                seen.pods = listed.unwrap_or_else(|| std::mem::take(&mut seen.pods));
                (seen.error, seen.read) = (kept.error, kept.read.or(seen.read));
            });
        }
    };
    tokio::select! {
        () = watching => {}
        () = telling => {}
    }
}

/// A pod of ours for each ready pod and port. What has no address, or serves no requests, is left out.
fn configs(config: &KubernetesConfig, pool: &Pool, pods: &BTreeMap<String, Pod>) -> Vec<PodConfig> {
    let mut configs = Vec::new();
    for pod in pods.values().filter(|pod| pod.is_ready()) {
        let Some(role) = pod.role(&config.role_label) else { continue };
        for (rank, port) in pool.ports.iter().enumerate() {
            let Some(url) = pod.url(*port) else { continue };
            // As llm-d names them (llm-d-router ebab687, `pkg/epp/datastore`).
            let name = match pool.ports.len() {
                1 => pod.metadata.name.clone(),
                _ => format!("{}-rank-{rank}", pod.metadata.name),
            };
            let labels = pod.metadata.labels.clone();
            configs.push(PodConfig { name: Some(name), role, labels, ..PodConfig::new(url) });
        }
    }
    configs
}
