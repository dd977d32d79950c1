//! What all streams share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kvroute_core::Error;
use kvroute_gateway::gateway::Gateway;
use kvroute_gateway::outcome::Observer;

use crate::config::{Document, EppConfig};

/// An endpoint picker: a gateway that chooses, and leaves the sending to Envoy.
#[derive(Debug)]
pub struct Picker {
    gateway: Arc<Gateway>,
    config: EppConfig,
    streams: AtomicUsize,
}

impl Picker {
    /// Starts what a configuration describes; to be called inside a tokio runtime. It serves nobody yet
    /// ([`serve`](crate::server::serve)).
    ///
    /// # Errors
    ///
    /// Those of [`Gateway::start`].
    pub fn start(document: &Document, observers: Vec<Box<dyn Observer>>) -> Result<Arc<Self>, Error> {
        let gateway = Gateway::start(&document.base, observers)?;
        Ok(Arc::new(Self { gateway, config: document.epp.clone(), streams: AtomicUsize::new(0) }))
    }

    /// The gateway whose parts choose.
    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// What is said of the picker alone.
    #[must_use]
    pub fn config(&self) -> &EppConfig {
        &self.config
    }

    /// Streams, and so HTTP requests, that have begun and not ended.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether requests can be taken: some pod takes them, and the picker is not about to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.gateway.is_draining() && self.gateway.router().pods().iter().any(|pod| pod.is_accepting())
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Entered(Arc::clone(self))
    }
}

/// A stream that has begun.
#[derive(Debug)]
pub(crate) struct Entered(pub(crate) Arc<Picker>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
