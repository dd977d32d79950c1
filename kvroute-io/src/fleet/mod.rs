//! A router with everything that feeds it.
//!
//! A [`Fleet`] keeps a [`Router`] in step with reality: pods come from a list, a file, DNS and the Kubernetes API; each is
//! asked what it is before it gets its first request; its KV events are subscribed to, its load is scraped; one that does
//! not answer gets no requests until it does; one that leaves the list is drained and removed.
//!
//! ```text
//! list, file, DNS, Kubernetes -> reconcile -> a task per pod: learn -> join -> scrape, learn again ... -> drain -> leave
//! ```
//!
//! Each pod has a task of its own, so that one that hangs or answers garbage disturbs no other.

mod clock;
mod config;
mod directory;
mod member;
mod model;
mod pod;
mod reconcile;
mod record;
mod standalone;
mod status;

use std::sync::Arc;

use kvroute_core::config::Problem;
use kvroute_core::{Error, PodId, Router};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use clock::Clock;
pub use config::{
    DnsConfig, EventsConfig, FileConfig, FleetConfig, FleetDocument, LearnConfig, ScrapeConfig,
};
pub use model::{Model, ModelStatus};
pub use standalone::{StandaloneFleet, StandaloneOptions};
pub use status::{FleetStatus, PodState, PodStatus, RankStatus, ScrapeStatus};

use crate::events::Subscriber;
use crate::pods::PodUrl;
use directory::Directory;
use member::Shared;
use reconcile::{Reconciler, Seen};

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

/// A router in step with its pods. When it is dropped its tasks end by themselves, and the pods leave the router;
/// [`shutdown`](Self::shutdown) waits for that.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    clock: Clock,
    /// What the reconciler goes by; it ends when this is gone.
    configs: watch::Sender<Arc<FleetConfig>>,
    seen: Arc<Mutex<Seen>>,
    reconciler: JoinHandle<()>,
}

impl Fleet {
    /// Starts to feed a router, which has the cache domains of the configuration and no pods. To be called inside a
    /// tokio runtime; answers at once, while the pods are being asked.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the configuration is wrong, or the system gives no threads or sockets for the events.
    pub fn start(router: Arc<Router>, config: FleetConfig) -> Result<Self, Error> {
        let fleet = Self::start_held(router, config)?;
        fleet.release_events();
        Ok(fleet)
    }

    /// The same, but that no events are subscribed to before [`release_events`](Self::release_events): for those who
    /// restore a snapshot, which only pods without events take in ([`kvroute_core::Restore`]).
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub fn start_held(router: Arc<Router>, config: FleetConfig) -> Result<Self, Error> {
        check(&router, &config)?;
        let subscriber = Subscriber::start(Arc::clone(&router), config.events.options());
        let subscriber =
            subscriber.map_err(|error| Problem::new(error.to_string()).at("events").at("fleet"))?;
        let held = Mutex::new(Some(Vec::new()));
        let shared = Arc::new(Shared { router, directory: Directory::default(), subscriber, held });
        let (clock, config, seen) = (Clock::new(), Arc::new(config), Arc::default());
        let (configs, receiver) = watch::channel(Arc::clone(&config));
        let reconciler = Reconciler::new(Arc::clone(&shared), clock, config, Arc::clone(&seen));
        let reconciler = tokio::spawn(reconciler.run(receiver));
        Ok(Self { shared, clock, configs, seen, reconciler })
    }

    /// Subscribes to the events of all pods that are there, and from now on to those of others as they come.
    pub fn release_events(&self) {
        self.shared.release();
    }

    /// Goes on by another configuration: pods that are no longer named are drained, new ones are asked, those that are
    /// described otherwise join anew, all others stay as they are. What `events` says only counts at the start.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is wrong; then nothing changes.
    pub fn reconfigure(&self, config: FleetConfig) -> Result<(), Error> {
        check(&self.shared.router, &config)?;
        self.configs.send_replace(Arc::new(config));
        Ok(())
    }

    /// The router.
    #[must_use]
    pub fn router(&self) -> &Arc<Router> {
        &self.shared.router
    }

    /// The clock whose time this fleet gives to the router; give it no other.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Where a pod of the router is; `None` if it left, or is joining this very moment.
    #[must_use]
    pub fn target(&self, pod: PodId) -> Option<Arc<Target>> {
        self.shared.directory.target(pod)
    }

    /// Where all pods of the router are, in no order.
    #[must_use]
    pub fn targets(&self) -> Vec<Arc<Target>> {
        self.shared.directory.targets()
    }

    /// The model or adapter of this name; `None` if no pod says that it serves it.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<Arc<Model>> {
        self.shared.directory.model(name)
    }

    /// All models and adapters that some pod serves, by name.
    #[must_use]
    pub fn models(&self) -> Vec<Arc<Model>> {
        self.shared.directory.all_models()
    }

    /// What its sources, pods and models are at. Costs what the pods are; for a look now and then.
    #[must_use]
    pub fn status(&self) -> FleetStatus {
        let (sources, records) = {
            let seen = self.seen.lock();
            (seen.sources.clone(), seen.records.clone())
        };
        let pods = records.iter().map(|(name, record)| record.lock().status(name)).collect();
        let (models, events) = (self.shared.directory.status(), self.shared.subscriber.status());
        FleetStatus { sources, pods, models, events }
    }

    /// Stops all tasks and takes the pods out of the router.
    pub async fn shutdown(self) {
        drop(self.configs);
        // If it panicked, its pods' tasks are gone with it.
        let _ = self.reconciler.await;
        for id in self.shared.directory.ids() {
            member::leave(&self.shared, &[id]);
        }
    }
}

fn check(router: &Router, config: &FleetConfig) -> Result<(), Error> {
    let checked = config.check(|name| router.domain(name).is_some());
    checked.map_err(|problem: Problem| problem.at("fleet").into())
}
