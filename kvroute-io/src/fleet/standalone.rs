//! A fleet for programs without a tokio runtime.

use std::ops::Deref;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use kvroute_core::Error;
use kvroute_core::config::Problem;
use tokio::runtime::{Builder, Runtime};

use super::{Fleet, FleetDocument};

/// How a [`StandaloneFleet`] is started.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StandaloneOptions {
    /// Threads of its runtime, 1 to 256; those that follow events (`fleet.events.threads`) are others.
    pub threads: u32,
    /// Whether events wait for [`Fleet::release_events`], so that a snapshot can be restored before.
    pub hold_events: bool,
}

impl Default for StandaloneOptions {
    fn default() -> Self {
        Self { threads: 2, hold_events: false }
    }
}

/// A router and its [`Fleet`], of one document, on a runtime of their own. When it is dropped the pods leave the router,
/// and the caller waits for that, for [`STOP`](Self::STOP) at most.
#[derive(Debug)]
pub struct StandaloneFleet {
    /// There until it is dropped, as is the runtime.
    running: Option<(Fleet, Runtime)>,
}

impl StandaloneFleet {
    /// Longest time that stopping takes. What hangs longer (a name that the system resolves) is left to itself.
    pub const STOP: Duration = Duration::from_secs(5);

    /// Makes the router of a document, and starts to feed it. Answers at once, while the pods are being asked.
    ///
    /// # Errors
    ///
    /// What is wrong with the document; `InvalidInput` if the system gives no threads or sockets.
    pub fn start(document: &FleetDocument, options: &StandaloneOptions) -> Result<Self, Error> {
        let router = Arc::new(document.router.build()?);
        let problem = |problem: Problem| Error::from(problem.at("threads"));
        let threads = usize::try_from(options.threads).unwrap_or(usize::MAX);
        if !(1..=256).contains(&threads) {
            return Err(problem(Problem::found(options.threads, "1 to 256")));
        }
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("kvroute-fleet").enable_all();
        let runtime = builder.build().map_err(|error| problem(Problem::new(error.to_string())))?;
        let fleet = {
            let _inside = runtime.enter();
            Fleet::start_held(router, document.fleet.clone())?
        };
        if !options.hold_events {
            fleet.release_events();
        }
        Ok(Self { running: Some((fleet, runtime)) })
    }

    /// Goes on by another document: its `fleet` as in [`Fleet::reconfigure`], and the policy of its `router`. All else in
    /// `router` counts only at the start.
    ///
    /// # Errors
    ///
    /// What is wrong with it; then nothing changes.
    pub fn reconfigure(&self, document: &FleetDocument) -> Result<(), Error> {
        let policy = document.router.policy()?;
        self.deref().reconfigure(document.fleet.clone())?;
        self.router().set_policy(policy);
        Ok(())
    }
}

impl Deref for StandaloneFleet {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        let (fleet, _) = self.running.as_ref().expect("it is there until it is dropped");
        fleet
    }
}

impl Drop for StandaloneFleet {
    fn drop(&mut self) {
        let Some((fleet, runtime)) = self.running.take() else { return };
        let (stopping, stopped) = mpsc::channel::<()>();
        // On a thread of its own: what hangs is left behind there, and this one may belong to a runtime, which must not
        // wait for another.
        let stop = move || {
            runtime.block_on(fleet.shutdown());
            runtime.shutdown_timeout(Self::STOP);
            drop(stopping);
        };
        if thread::Builder::new().name("kvroute-stop".into()).spawn(stop).is_ok() {
            let _ = stopped.recv_timeout(Self::STOP);
        }
    }
}
