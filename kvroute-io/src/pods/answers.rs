//! What pods answer, as JSON. Untrusted: bounded by what was read of it, unknown keys passed over.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `GET /v1/models`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ModelsAnswer {
    pub(super) data: Vec<ModelAnswer>,
}

/// A model or adapter (`ModelCard` of vLLM 0.32).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ModelAnswer {
    pub(super) id: String,
    /// Path of the weights, or of the adapter.
    pub(super) root: Option<String>,
    /// The model that an adapter adapts.
    pub(super) parent: Option<String>,
    pub(super) max_model_len: Option<u64>,
}

/// `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct VersionAnswer {
    pub(super) version: String,
}

/// `GET /kv_event_sources` (vLLM 0.32): the publisher of each data-parallel rank.
pub(super) type SourcesAnswer = BTreeMap<String, SourceAnswer>;

/// A publisher (`KVEventsConfig` of vLLM 0.32).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct SourceAnswer {
    #[serde(default)]
    pub(super) enable_kv_cache_events: bool,
    /// `zmq` or `null`.
    pub(super) publisher: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) replay_endpoint: Option<String>,
    pub(super) topic: Option<String>,
}
