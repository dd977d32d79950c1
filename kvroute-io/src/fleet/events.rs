//! The streams of events of the pods in the router.

use kvroute_core::PodId;

use crate::pods::EventStream;

/// Subscribes to pods' events.
#[derive(Debug)]
pub(super) struct Events;

impl Events {
    /// Subscribes to a stream.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub(super) fn add(&self, pod: PodId, stream: &EventStream) -> Result<(), String> {
        let _ = (pod, stream);
        Ok(())
    }

    /// Ends the subscription, if there is one.
    pub(super) fn remove(&self, pod: PodId) {
        let _ = pod;
    }
}
