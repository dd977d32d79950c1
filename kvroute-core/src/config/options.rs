//! Bounds and sizes: the index, sessions, requests in flight.

use alloc::string::ToString;
use core::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::value::key;
use crate::index::IndexOptions;
use crate::load::Overload;
use crate::{Router, SessionKey};

/// Bounds and sizes of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IndexConfig {
    /// Locks the index is spread over; rounded up to a power of two.
    #[schemars(range(min = 1, max = 4096))]
    pub shards: u32,
    /// Bytes for blocks and their holders. Once reached, new ones are refused and counted, and the pods
    /// they belong to are degraded; what is known stays.
    pub max_bytes: u64,
    /// Blocks a pod of which it is remembered that they were sent there, the least recently used going
    /// first; 0 remembers none.
    pub max_predicted: u64,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self { shards: 256, max_bytes: 4 << 30, max_predicted: 31_250 }
    }
}

impl IndexConfig {
    pub(super) fn options(&self) -> Result<IndexOptions, Problem> {
        if !(1..=4096).contains(&self.shards) {
            return Err(Problem::found(self.shards, "1 to 4096").at("shards"));
        }
        Ok(IndexOptions {
            shards: count(self.shards.into()),
            max_bytes: count(self.max_bytes),
            max_predicted: count(self.max_predicted),
        })
    }
}

/// What is remembered of conversations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsConfig {
    /// How long a session is remembered after its last request, and a session token counts; seconds.
    #[schemars(range(min = 1))]
    pub ttl_seconds: u64,
    /// Most sessions remembered by id; those used longest ago go first.
    pub max: u64,
    /// Secret that session tokens are sealed with: 64 hexadecimal digits, the same for every router that
    /// shall understand them. Absent: no session tokens.
    #[serde(skip_serializing_if = "Option::is_none", with = "key")]
    #[schemars(with = "alloc::string::String", regex(pattern = "^[0-9a-fA-F]{64}$"))]
    pub key: Option<SessionKey>,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self { ttl_seconds: 300, max: 100_000, key: None }
    }
}

/// What is kept of requests in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestsConfig {
    /// How long a request may be in flight before it is forgotten and its bookings are given back;
    /// seconds.
    #[schemars(range(min = 1))]
    pub ttl_seconds: u64,
    /// Most requests in flight. Beyond them requests are still decided, but neither booked nor tracked.
    #[schemars(range(max = 262_144))]
    pub max: u64,
    /// How long what was sent to a pod counts as if it were there, until the first token at most, where the pod's
    /// events do not say so yet; milliseconds, 0 is not at all.
    pub speculation_ms: u64,
}

impl Default for RequestsConfig {
    fn default() -> Self {
        Self { ttl_seconds: 600, max: Router::MAX_REQUESTS as u64, speculation_ms: 2000 }
    }
}

impl RequestsConfig {
    pub(super) fn most(&self) -> Result<usize, Problem> {
        match count(self.max) {
            most if most <= Router::MAX_REQUESTS => Ok(most),
            most => {
                let expected = alloc::format!("{} at most", Router::MAX_REQUESTS);
                Err(Problem::found(most, expected).at("max"))
            }
        }
    }
}

/// From when on a pod counts as overloaded: if a load report reaches any of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverloadConfig {
    /// Requests that wait; 0 is never.
    pub waiting: u32,
    /// Share of the KV cache in use; above 1 is never.
    #[schemars(range(min = 0.0))]
    pub kv_usage: f32,
}

impl Default for OverloadConfig {
    fn default() -> Self {
        let Overload { waiting, kv_usage } = Overload::default();
        Self { waiting, kv_usage }
    }
}

impl OverloadConfig {
    pub(super) fn overload(&self) -> Result<Overload, Problem> {
        let Self { waiting, kv_usage } = *self;
        if !kv_usage.is_finite() || kv_usage < 0.0 {
            return Err(Problem::found(kv_usage, "a finite number, 0 or more").at("kv_usage"));
        }
        Ok(Overload { waiting, kv_usage })
    }
}

pub(super) fn ttl(seconds: u64) -> Result<Duration, Problem> {
    match seconds {
        0 => Err(Problem::found(0, "1 or more").at("ttl_seconds")),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// A bound as this machine counts; one that is beyond it is never reached.
pub(super) fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
