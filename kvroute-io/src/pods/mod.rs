//! Which pods there are, and what each says of itself.
//!
//! [`PodConfig`] is a pod as documents name it; a pod's URL is enough. What it is, it says itself: `/v1/models`,
//! `/version`, `/kv_event_sources`, `/metrics` (vLLM 0.32; other engines and versions answer a part of it). What it
//! cannot say is configured ([`KnownConfig`]). [`Knowledge`] is both joined, each [`Fact`] with its origin; from it
//! follow the pod's streams of events and its cache domain.

mod answers;
pub(crate) mod config;
pub(crate) mod domain;
mod endpoint;
mod fact;
mod knowledge;
pub(crate) mod kubernetes;
pub(crate) mod learn;
mod said;
pub(crate) mod source;
mod url;

pub use config::{Hashing, KnownConfig, PodConfig};
pub use fact::{Fact, Origin};
pub use knowledge::{EventStream, Knowledge, SeedStatus, ServedModel};
pub use kubernetes::{KubernetesConfig, PoolVersion};
pub use source::SourceStatus;
pub use url::PodUrl;
