//! What applying events and looking up answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvroute_core::index::{self, IgnoreReason, Outcome, ResyncReason};
use kvroute_core::pod::RoutedPod;
use pyo3::prelude::*;

use crate::decision::TierBlocks;
use crate::event::{Skipped, skipped};
use crate::output::quoted;

/// What became of one batch.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApplyReport(pub(crate) index::ApplyReport);

#[pymethods]
impl ApplyReport {
    /// The gravest outcome of any event in it: "applied"; "parked" (its blocks wait for their parent); "ignored"
    /// (some or all of it was left out); or "resync" (the pod's view is no longer what the engine has: batches
    /// are needed that were not there).
    #[getter]
    fn outcome(&self) -> &'static str {
        match self.0.outcome {
            Outcome::Applied => "applied",
            Outcome::Parked => "parked",
            Outcome::Ignored(_) => "ignored",
            Outcome::NeedsResync(_) => "resync",
            _ => "unknown",
        }
    }

    /// Why, for "ignored" ("duplicate", "block-size", ...) and "resync": "gap" (batches are missing), "restarted"
    /// (so did the engine; replay from 0 if that can be had), or "undecodable" (nothing is to be done). Else None.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        match self.0.outcome {
            Outcome::Ignored(reason) => Some(reason.name()),
            Outcome::NeedsResync(ResyncReason::Gap { .. }) => Some("gap"),
            Outcome::NeedsResync(ResyncReason::Restarted) => Some("restarted"),
            Outcome::NeedsResync(ResyncReason::Undecodable) => Some("undecodable"),
            _ => None,
        }
    }

    /// For a gap: the first sequence number to replay. Else None.
    #[getter]
    fn replay_from(&self) -> Option<u64> {
        match self.0.outcome {
            Outcome::NeedsResync(ResyncReason::Gap { replay_from }) => Some(replay_from),
            _ => None,
        }
    }

    /// Events that were applied, parked or ignored.
    #[getter]
    fn events(&self) -> u64 {
        self.0.events
    }

    /// Blocks stored, further copies included.
    #[getter]
    fn blocks_stored(&self) -> u64 {
        self.0.blocks_stored
    }

    /// Blocks removed, copies included.
    #[getter]
    fn blocks_removed(&self) -> u64 {
        self.0.blocks_removed
    }

    /// How much of it was left out, by reason; empty if nothing was.
    #[getter]
    fn ignored(&self) -> BTreeMap<&'static str, u64> {
        let counts = IgnoreReason::ALL.map(|reason| (reason.name(), self.0.ignored_for(reason)));
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// What was wrong with a batch that could not be read, or None.
    #[getter]
    fn error(&self) -> Option<String> {
        self.0.error.as_ref().map(ToString::to_string)
    }

    /// The events that could not be read.
    #[getter]
    fn skipped(&self) -> Vec<Skipped> {
        skipped(&self.0.skipped)
    }

    fn __repr__(&self) -> String {
        let index::ApplyReport { events, blocks_stored, blocks_removed, .. } = &self.0;
        let reason = self.reason().map_or(String::new(), |reason| format!(", reason='{reason}'"));
        let replay = self.replay_from().map_or(String::new(), |from| format!(", replay_from={from}"));
        let error = self.error().map_or(String::new(), |error| format!(", error={error:?}"));
        format!(
            "ApplyReport('{}'{reason}{replay}, events={events}, blocks_stored={blocks_stored}, \
             blocks_removed={blocks_removed}{error})",
            self.outcome()
        )
    }
}

/// What one pod has of a prompt.
#[pyclass(frozen, module = "kvroute")]
#[derive(Debug)]
pub(crate) struct PodMatch {
    pub(crate) pod: Arc<RoutedPod>,
    pub(crate) found: index::PodMatch,
}

#[pymethods]
impl PodMatch {
    /// Name of the pod.
    #[getter]
    fn pod(&self) -> &str {
        self.pod.name()
    }

    /// Its data-parallel rank.
    #[getter]
    fn dp_rank(&self) -> u32 {
        self.pod.dp_rank()
    }

    /// Its id.
    #[getter]
    fn pod_id(&self) -> u64 {
        self.found.pod.as_u64()
    }

    /// Leading blocks it can use, by tier.
    #[getter]
    fn blocks(&self) -> TierBlocks {
        TierBlocks(self.found.blocks)
    }

    /// Leading blocks that this router sent to it, whatever its events say.
    #[getter]
    fn predicted(&self) -> u32 {
        self.found.predicted
    }

    /// Those of them that were sent a moment ago, and that its events do not tell of yet.
    #[getter]
    fn speculative(&self) -> u32 {
        self.found.speculative
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (pod, rank) = (quoted(py, self.pod.name())?, self.pod.dp_rank());
        let (blocks, index::PodMatch { predicted, speculative, .. }) = (self.blocks().__repr__(), self.found);
        Ok(format!(
            "PodMatch({pod}, dp_rank={rank}, blocks={blocks}, predicted={predicted}, speculative={speculative})"
        ))
    }
}
