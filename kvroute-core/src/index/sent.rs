//! What this router sent to a pod, in two lanes: *predicted*, until others push it out; and *speculative*, for the
//! moment until the pod's events tell.
//!
//! Between a dispatch and the event that its blocks are stored, the view knows nothing of them, and a burst of requests
//! with one new prefix would be spread over all pods. So they count as if they were there: until the request's first
//! token, by when the engine has announced them, and for a bounded time in case nobody says when that came.

use super::chains::Chains;
use super::predicted::Predictions;
use super::speculative::Speculations;

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) predicted: Predictions,
    pub(super) speculative: Speculations,
    /// The pod was removed.
    gone: bool,
}

impl Sent {
    /// At most `capacity` blocks in each lane.
    pub(super) fn new(capacity: usize) -> Self {
        Self { predicted: Predictions::new(capacity), speculative: Speculations::new(capacity), gone: false }
    }

    /// Whether the pod was removed.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, chains: &Chains) {
        self.predicted.clear(chains);
        self.speculative.clear(chains);
    }

    /// Forgets everything for good: the pod is being removed.
    pub(super) fn leave(&mut self, chains: &Chains) {
        self.clear(chains);
        self.gone = true;
    }

    pub(super) fn bytes(&self) -> usize {
        self.predicted.bytes() + self.speculative.bytes()
    }
}
