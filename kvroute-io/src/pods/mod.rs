//! Which pods there are, and what each says of itself.

pub(crate) mod config;
mod fact;
mod url;

use serde::Serialize;

pub use config::{Binding, Hashing, KnownConfig, PodConfig};
pub use fact::{Fact, Origin};
pub use url::PodUrl;

use crate::load::Engine;

/// What is known of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Knowledge {
    /// What computes there.
    pub engine: Fact<Engine>,
    /// Its version.
    pub version: Fact<String>,
    /// Path or name of the weights.
    pub model_root: Fact<String>,
    /// Tokens a block.
    pub block_size: Fact<u32>,
    /// Blocks its cache has; per rank.
    pub blocks: Fact<u64>,
}

/// Where pods come from, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SourceStatus {
    /// What it is: `list`, `file PATH` or `dns NAME`.
    pub source: String,
    /// Pods it names; the last good answer.
    pub pods: usize,
    /// Why it could not be read last, if it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Seconds since it was last read well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_seconds_ago: Option<f64>,
}
