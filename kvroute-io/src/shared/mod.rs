//! What several routers share, over Redis or Valkey.
//!
//! - [`connection`]: one connection that is kept up.
//! - peers: each router tells the others, by a stream, what it has in flight, sent a moment ago, and where conversations are
//!   at home ([`Router::report_to_peers`]), so that N routers each see the whole fleet's load.
//! - snapshots: one router stores what it knows, so that one that starts begins warm.
//!
//! Everything here goes on in tasks of its own. No decision waits for it: what is shared is applied to the router as it
//! comes, and where it does not come, the router decides by what it knows itself, [`SharedStatus::trust`] says so, and all
//! of it goes on by itself when the server is back.
//!
//! Whoever can write there can make routers believe anything of each other's load and of pods' caches, and so send requests
//! to the wrong pods; nothing worse. Keep the server where the configuration is kept, or behind a password and TLS.

pub mod config;
pub mod connection;
pub mod index;
mod peers;
mod snapshots;
mod status;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use kvroute_core::{Error, PeerOptions, RestoreReport, Router};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use config::SharedConfig;
pub use status::{PeerCounters, SharedStatus, SharedTrust, SnapshotCounters};

use crate::fleet::Clock;
use connection::Connection;
use peers::Peering;
use snapshots::Snapshots;

/// From when on what others know of this router counts as late.
const LATE: Duration = Duration::from_secs(2);

/// A router's part in what is shared. Its tasks end when it is dropped; [`leave`](Self::leave) says so to the others.
#[derive(Debug)]
pub struct SharedState {
    config: SharedConfig,
    replica: String,
    router: Arc<Router>,
    clock: Clock,
    writer: Connection,
    peering: Option<Arc<Peering>>,
    snapshots: Option<Arc<Snapshots>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl SharedState {
    /// Joins the others; to be called inside a tokio runtime. Answers at once, whether the server is there or not.
    /// `clock` is the one whose time the router is given.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the configuration is wrong.
    pub fn start(router: Arc<Router>, clock: Clock, config: &SharedConfig) -> Result<Self, Error> {
        config.checked().map_err(|problem| Error::from(problem.at("shared")))?;
        let life = RandomState::new().hash_one("life");
        let replica = config.replica.clone().unwrap_or_else(|| format!("{life:016x}"));
        let writer = Connection::start(config.connection())?;
        let (mut peering, mut tasks) = (None, Vec::new());
        if config.peers {
            let options = PeerOptions {
                silence: Duration::from_millis(config.reports.silence_ms),
                max_blocks: config.reports.max_blocks,
                ..PeerOptions::default()
            };
            router.join_peers(life, &replica, options)?;
            let joined = Arc::new(Peering {
                router: Arc::clone(&router),
                clock,
                config: config.reports.clone(),
                stream: config.key("peers"),
                writer: writer.clone(),
                reader: Connection::start(config.connection())?,
                state: Default::default(),
            });
            tasks.push(tokio::spawn(peers::write(Arc::clone(&joined))));
            tasks.push(tokio::spawn(peers::read(Arc::clone(&joined))));
            peering = Some(joined);
        }
        let snapshots = config.snapshots.as_ref().map(|snapshots| {
            Arc::new(Snapshots {
                router: Arc::clone(&router),
                clock,
                connection: writer.clone(),
                shared: config.clone(),
                config: snapshots.clone(),
                life,
                counters: Default::default(),
            })
        });
        Ok(Self {
            config: config.clone(),
            replica,
            router,
            clock,
            writer,
            peering,
            snapshots,
            tasks: Mutex::new(tasks),
        })
    }

    /// Loads the newest snapshot that any router stored, waiting for the server for `patience` at most; `None` if there is
    /// none. To be called before the pods' events come ([`crate::fleet::Fleet::start_held`]).
    ///
    /// # Errors
    ///
    /// What is wrong with it, or that the server does not answer; then nothing was changed.
    pub async fn load_snapshot(&self, patience: Duration) -> Result<Option<RestoreReport>, Error> {
        let Some(snapshots) = &self.snapshots else { return Ok(None) };
        let _ = timeout(patience, self.writer.ready()).await;
        snapshots::load(&self.writer, &self.config, &snapshots.config, &self.router, self.clock).await
    }

    /// Begins to store snapshots, if that is configured: when this router knows something.
    pub fn store_snapshots(&self) {
        if let Some(snapshots) = &self.snapshots {
            self.tasks.lock().push(tokio::spawn(snapshots::store_now_and_then(Arc::clone(snapshots))));
        }
    }

    /// Tells the others that this router stops, for as long as a command may take at most.
    pub async fn leave(&self) {
        self.stop();
        if let Some(peering) = &self.peering {
            peering.leave().await;
        }
    }

    fn stop(&self) {
        self.tasks.lock().iter().for_each(JoinHandle::abort);
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> SharedStatus {
        let writer = self.writer.status();
        let reader = self.peering.as_ref().map(|peering| peering.reader.status());
        let peers = self.router.peers(self.clock.now());
        let snapshots = self.snapshots.as_ref().map(|snapshots| snapshots.counters.lock().clone());
        let (mut lag, mut refused, mut reports, mut is_heard) = (None, None, PeerCounters::default(), true);
        if let Some(peering) = &self.peering {
            let state = peering.state.lock();
            (lag, reports) = (state.lag(), state.counters);
            refused = state.refused.as_ref().map(ToString::to_string);
            is_heard = state.heard.is_some_and(|heard| heard.elapsed() < LATE);
        }
        reports.peers = peers.len();
        let is_connected = writer.is_connected && reader.as_ref().is_none_or(|reader| reader.is_connected);
        let trust = if !is_connected || !is_heard {
            SharedTrust::Local
        } else if refused.is_some()
            || lag.is_some_and(|lag| lag >= LATE)
            || peers.iter().any(|peer| !peer.is_whole)
        {
            SharedTrust::Degraded
        } else {
            SharedTrust::Shared
        };
        SharedStatus {
            replica: self.replica.clone(),
            trust,
            writer,
            reader,
            lag,
            refused,
            peers,
            reports,
            snapshots: snapshots.unwrap_or_default(),
        }
    }
}

impl Drop for SharedState {
    fn drop(&mut self) {
        self.stop();
    }
}
