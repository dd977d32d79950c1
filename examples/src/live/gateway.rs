//! What the gateway says of itself and its pods: whether they are there, and whether their events have settled.

use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::sleep;

use super::client::Client;
use crate::capture::Result;

/// How long it is waited for events to settle. Where others use the gateway too it may never come.
const MAX_UNSETTLED: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The part of `/status.json` that is looked at.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    pub(super) gateway: Gateway,
    fleet: Fleet,
    router: Router,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Gateway {
    pub(super) version: String,
    in_flight: i64,
}

#[derive(Clone, Debug, Deserialize)]
struct Fleet {
    pods: Vec<Pod>,
    events: Events,
}

/// A pod of the fleet.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) url: String,
    state: String,
    error: Option<String>,
    known: Option<Known>,
}

#[derive(Clone, Debug, Deserialize)]
struct Known {
    engine: Fact<String>,
    version: Fact<String>,
    block_size: Fact<usize>,
    blocks: Fact<usize>,
}

#[derive(Clone, Debug, Deserialize)]
struct Fact<T> {
    value: Option<T>,
}

#[derive(Clone, Debug, Deserialize)]
struct Events {
    streams: Vec<Stream>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Stream {
    pod: String,
    connected: bool,
    last_sequence: Option<u64>,
    batches: u64,
    replayed: u64,
    replaying: bool,
    held: usize,
}

#[derive(Clone, Debug, Deserialize)]
struct Router {
    pods: Vec<RoutedPod>,
}

#[derive(Clone, Debug, Deserialize)]
struct RoutedPod {
    name: String,
    stream: Counters,
}

#[derive(Clone, Debug, Deserialize)]
struct Counters {
    blocks_stored: u64,
    blocks_removed: u64,
}

impl Status {
    /// # Errors
    ///
    /// A gateway that does not answer, or has its status page switched off.
    pub(super) async fn of(client: &Client) -> Result<Self> {
        client.get("/status.json").await
    }

    pub(super) fn pods(&self) -> &[Pod] {
        &self.fleet.pods
    }

    /// Whether a pod gets requests, and its events come in.
    pub(super) fn is_ready(&self, name: &str) -> bool {
        let is_up = self.fleet.pods.iter().any(|pod| pod.name == name && pod.state == "ready");
        is_up && self.streams(name).all(|stream| stream.connected && !stream.replaying)
    }

    fn streams(&self, name: &str) -> impl Iterator<Item = &Stream> {
        self.fleet.events.streams.iter().filter(move |stream| stream.pod == name)
    }

    /// Whether a pod publishes events.
    pub(super) fn has_events(&self, name: &str) -> bool {
        self.streams(name).next().is_some()
    }

    /// Blocks that a pod holds as far as its events say.
    pub(super) fn blocks(&self, name: &str) -> u64 {
        let of = self.router.pods.iter().filter(|pod| pod.name == name);
        of.map(|pod| pod.stream.blocks_stored.saturating_sub(pod.stream.blocks_removed)).sum()
    }

    /// Tokens that all pods together have room for; `None` if one does not tell.
    pub(super) fn capacity(&self) -> Option<usize> {
        let room = |pod: &Pod| {
            let known = pod.known.as_ref()?;
            Some(known.blocks.value? * known.block_size.value?)
        };
        self.fleet.pods.iter().map(room).sum()
    }

    /// What computes in the pods, such as "vllm 0.32.0".
    pub(super) fn engines(&self) -> Vec<String> {
        let known = self.fleet.pods.iter().filter_map(|pod| pod.known.as_ref());
        let mut engines: Vec<_> = known
            .map(|known| {
                let of = |fact: &Fact<String>| fact.value.clone().unwrap_or_else(|| "?".to_owned());
                format!("{} {}", of(&known.engine), of(&known.version))
            })
            .collect();
        engines.sort_unstable();
        engines.dedup();
        engines
    }

    /// What is wrong with the pods that are not ready.
    fn troubles(&self) -> String {
        let waiting = self.fleet.pods.iter().filter(|pod| !self.is_ready(&pod.name));
        let lines = waiting.map(|pod| {
            format!(
                "{} is {} ({})",
                pod.name,
                pod.state,
                pod.error.as_deref().unwrap_or("its events do not come")
            )
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}

/// Waits until every pod is ready.
///
/// # Errors
///
/// Which pods are not after so long, and why; or that the gateway does not answer.
pub(super) async fn until_ready(client: &Client, patience: Duration) -> Result<Status> {
    let end = Instant::now() + patience;
    loop {
        let late = Instant::now() >= end;
        match Status::of(client).await {
            Ok(status)
                if !status.pods().is_empty()
                    && status.pods().iter().all(|pod| status.is_ready(&pod.name)) =>
            {
                return Ok(status);
            }
            Ok(status) if late => {
                return Err(format!("not ready after {patience:?}: {}", status.troubles()).into());
            }
            Err(error) if late => return Err(error),
            _ => sleep(LOOK * 10).await,
        }
    }
}

/// Waits until `holds`; answers whether it came to be within so long.
///
/// # Errors
///
/// That the gateway does not answer.
pub(super) async fn until(
    client: &Client,
    patience: Duration,
    holds: impl Fn(&Status) -> bool,
) -> Result<bool> {
    let end = Instant::now() + patience;
    loop {
        if holds(&Status::of(client).await?) {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
}

/// Waits until nothing is in flight and no event came for `quiet`; answers whether it came to be.
///
/// # Errors
///
/// That the gateway does not answer.
pub(super) async fn until_settled(client: &Client, quiet: Duration) -> Result<bool> {
    let begin = Instant::now();
    let (mut since, mut before) = (begin, None);
    while begin.elapsed() < MAX_UNSETTLED {
        let status = Status::of(client).await?;
        let streams = status.fleet.events.streams;
        let is_busy =
            status.gateway.in_flight > 0 || streams.iter().any(|stream| stream.replaying || stream.held > 0);
        if is_busy || before.as_ref() != Some(&streams) {
            (since, before) = (Instant::now(), Some(streams));
        } else if since.elapsed() >= quiet {
            return Ok(true);
        }
        sleep(LOOK).await;
    }
    Ok(false)
}
