//! What all requests share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use kvroute_core::{Error, Router};

use crate::client::{Client, client};
use crate::config::{Document, GatewayConfig, Routing};
use crate::decision_log::DecisionLog;
use crate::outcome::{Observer, RequestOutcome};
use crate::request::Asked;
use crate::shared;
use crate::snapshots;
use crate::tokenizers::Tokenizers;
use crate::watch::Watch;
use kvroute_io::fleet::Fleet;
use kvroute_io::shared::SharedState;
use kvroute_io::shared::index::SharedIndex;

/// A gateway: pods, a router that knows what they hold, and how requests get from clients to them.
pub struct Gateway {
    fleet: Fleet,
    client: Client,
    tokenizers: Tokenizers,
    settings: ArcSwap<GatewayConfig>,
    observers: Vec<Box<dyn Observer>>,
    decision_log: Option<DecisionLog>,
    watch: Watch,
    shared: Option<SharedState>,
    index: Option<SharedIndex>,
    is_draining: AtomicBool,
    /// Bytes of requests' bodies that are held.
    pub(crate) buffered: AtomicUsize,
    /// Requests that were sent in turn.
    pub(crate) turn: AtomicUsize,
}

impl Gateway {
    /// Starts what a configuration describes, from a snapshot if there is one; to be called inside a tokio runtime. It serves nobody yet
    /// ([`serve`](crate::server::serve)).
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration, a tokenizer that cannot be read, a decision log that cannot be written.
    pub fn start(document: &Document, observers: Vec<Box<dyn Observer>>) -> Result<Arc<Self>, Error> {
        let router = Arc::new(document.router.build()?);
        let snapshot = document.gateway.snapshot.as_ref().filter(|snapshot| snapshot.path.exists());
        let fleet = Fleet::start_held(Arc::clone(&router), document.fleet.clone())?;
        let shared = shared::join(Arc::clone(&router), &fleet, &document.shared)?;
        let index = SharedIndex::start(router, &document.shared)?;
        let is_stored = shared.is_some() && document.shared.snapshots.is_some();
        let gateway = Arc::new(Self {
            tokenizers: Tokenizers::load(&document.tokenizers)?,
            client: client(&document.gateway)?,
            decision_log: document.gateway.decision_log.as_ref().map(DecisionLog::open).transpose()?,
            fleet,
            shared,
            index,
            watch: Watch::start(&document.gateway)?,
            settings: ArcSwap::from_pointee(document.gateway.clone()),
            observers,
            is_draining: AtomicBool::new(false),
            buffered: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        });
        let path = snapshot.map(|snapshot| snapshot.path.clone());
        if path.is_some() || is_stored {
            tokio::spawn(snapshots::restore_then_release(path, Arc::clone(&gateway)));
        } else {
            gateway.fleet.release_events();
        }
        Ok(gateway)
    }

    /// Pods and what feeds the router.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The router.
    #[must_use]
    pub fn router(&self) -> &Router {
        self.fleet.router()
    }

    /// What tokenizes prompts.
    #[must_use]
    pub fn tokenizers(&self) -> &Tokenizers {
        &self.tokenizers
    }

    /// How it is configured now.
    #[must_use]
    pub fn settings(&self) -> Arc<GatewayConfig> {
        self.settings.load_full()
    }

    pub(crate) fn set_settings(&self, settings: GatewayConfig) {
        self.settings.store(Arc::new(settings));
    }

    /// The file of decisions, if one is written.
    #[must_use]
    pub fn decision_log(&self) -> Option<&DecisionLog> {
        self.decision_log.as_ref()
    }

    /// What people see of it: metrics, the status page, traces.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What is shared with other gateways, if anything is.
    #[must_use]
    pub fn shared(&self) -> Option<&SharedState> {
        self.shared.as_ref()
    }

    /// Its part in the index that gateways share, if it has one.
    #[must_use]
    pub fn index(&self) -> Option<&SharedIndex> {
        self.index.as_ref()
    }

    /// Bytes of requests' bodies that are held now.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Whether it was told to stop, and takes no more requests.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// It takes no more requests from now on.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Writes what is to be found at the next start: the decision log's end, the snapshot. Errors are logged.
    pub fn close(&self) {
        if let Some(log) = &self.decision_log {
            log.close();
        }
        if let Some(snapshot) = &self.settings().snapshot
            && let Err(error) = snapshots::write(self.router(), self.now(), &snapshot.path)
        {
            tracing::error!(%error, "no snapshot was written");
        }
    }

    /// The same, once the last request has ended; those who share with it are told that it goes, and what watchers wait for
    /// is sent.
    pub async fn end(&self) {
        self.close();
        if let Some(shared) = &self.shared {
            shared.leave().await;
        }
        self.watch.flush().await;
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Puts token ids in place of a prompt's text, where that can be done. Answers how long it took, where a tokenizer
    /// was asked.
    pub async fn tokenize(&self, asked: &mut Asked, body: &Bytes) -> Option<Duration> {
        let model = asked.model.as_deref().and_then(|name| self.fleet.model(name))?;
        if self.settings.load().routing != Routing::Policy {
            return None;
        }
        let (begun, was_text) = (Instant::now(), asked.prompt.name());
        self.tokenizers.tokenize(model.served(), asked, body).await;
        let was_asked = asked.untokenized.is_some() || asked.prompt.name() != was_text;
        was_asked.then(|| begun.elapsed())
    }

    /// The time that the router is given.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.fleet.clock().now()
    }

    pub(crate) fn wants_explanations(&self) -> bool {
        let watch: &dyn Observer = &self.watch;
        self.observers.iter().map(|observer| &**observer).chain([watch]).any(Observer::wants_explanations)
    }

    pub(crate) fn observe(&self, outcome: &RequestOutcome) {
        self.observers.iter().for_each(|observer| observer.finished(outcome));
        self.watch.finished(outcome);
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("settings", &self.settings).finish_non_exhaustive()
    }
}
