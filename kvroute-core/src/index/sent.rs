//! What this router sent to a pod, in two lanes: *predicted*, until others push it out; and *speculative*, for the
//! moment until the pod's events tell.
//!
//! Between a dispatch and the event that its blocks are stored, the view knows nothing of them, and a burst of requests
//! with one new prefix would be spread over all pods. So they count as if they were there: until the request's first
//! token, by when the engine has announced them, and for a bounded time in case nobody says when that came.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::chains::Chains;
use super::predicted::{Prediction, Predictions};

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) predicted: Predictions,
    pub(super) speculative: Predictions,
    /// When speculations end, in order of their coming.
    due: VecDeque<(Duration, Prediction)>,
}

impl Sent {
    /// At most `capacity` blocks in each lane.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            predicted: Predictions::new(capacity),
            speculative: Predictions::new(capacity),
            due: VecDeque::new(),
        }
    }

    /// Notes when a speculation ends.
    pub(super) fn end_at(&mut self, end: Duration, speculation: Prediction) {
        self.due.push_back((end, speculation));
    }

    /// Drops the speculations that end by `now`; answers when the next does.
    pub(super) fn expire(&mut self, chains: &Chains, now: Duration) -> Option<Duration> {
        while let Some(&(_, speculation)) = self.due.front().filter(|(end, _)| *end <= now) {
            self.speculative.revoke(chains, speculation);
            self.due.pop_front();
        }
        self.due.front().map(|(end, _)| *end)
    }

    /// Drops a speculation before its end.
    pub(super) fn end(&mut self, chains: &Chains, speculation: Prediction) {
        self.speculative.revoke(chains, speculation);
        // Rarely another than the oldest, and then it stays until its end, and does nothing.
        self.due.pop_front_if(|(_, oldest)| *oldest == speculation);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, chains: &Chains) {
        self.predicted.clear(chains);
        self.speculative.clear(chains);
        self.due = VecDeque::new();
    }

    /// Forgets everything for good: the pod is being removed.
    pub(super) fn leave(&mut self, chains: &Chains) {
        self.predicted.leave(chains);
        self.speculative.leave(chains);
        self.due = VecDeque::new();
    }

    pub(super) fn bytes(&self) -> usize {
        let due = self.due.capacity() * size_of::<(Duration, Prediction)>();
        self.predicted.bytes() + self.speculative.bytes() + due
    }
}
