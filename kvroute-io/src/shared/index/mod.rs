//! Which pods hold which blocks, in Redis: for gateways that want no subscription to events of their own.
//!
//! Who follows the events writes ([`IndexWriter`]); any number of others ask ([`IndexReader`]) and give what they learn
//! to the router as [`KnownPrefix`](kvroute_core::KnownPrefix). An index that llm-d writes can be asked as well
//! ([`LlmdSource`]).
//!
//! # Layout
//!
//! | key | type | content |
//! | --- | --- | --- |
//! | `{name}:b:<hash>` | set of integers | who holds the block: life times 8, plus the tier |
//! | `{name}:l:<life>` | string | whose life it is: domain, rank, name |
//! | `{name}:p:<domain>:<rank>:<name>` | string | who writes of this pod: owner, life |
//!
//! A *life* is a number of 52 bits, drawn when a writer begins with a pod, and again whenever all that was said of it
//! is void: the engine restarted or cleared its cache, events were lost, the writer lost touch with Redis. Members of a
//! life that has no key any more count for nothing, so clearing a pod is one command however much it held. Lives and
//! leases are kept up while their writer lives and end [`IndexOptions::lease`] after it; blocks end
//! [`IndexOptions::ttl`] after they were last confirmed, and members of dead lives are swept when a block is.
//!
//! `<hash>` is the block's hash xor the domain's fingerprint ([`CacheDomain::fingerprint`]), so that domains never
//! meet. All keys have one hash tag: in a cluster an index lies in one slot, so every command and script is allowed
//! there; several indexes, under names of their own, spread over nodes.
//!
//! # What it says
//!
//! Quiescent, a lookup answers just what the writer's own index would, for pods with one full-attention group
//! ([`HeldSince::is_plain`](kvroute_core::index::HeldSince::is_plain)); others are not written. A block that Redis
//! evicted or had no room for is missing: that undercounts, and heals when blocks are confirmed. While a writer has lost
//! Redis, readers that have not see what it wrote last, for a lease at most.

mod command;
mod config;
mod keys;
mod llmd;
mod lookup;
mod part;
mod reader;
mod status;
mod writer;

use std::time::Duration;

#[cfg(doc)]
use kvroute_core::CacheDomain;
use kvroute_core::config::Problem;

pub use config::{IndexConfig, Layout, LlmdConfig};
pub use keys::{Keys, Life};
pub use llmd::{LlmdAlgorithm, LlmdSource};
pub use part::{IndexStatus, SharedIndex};
pub use reader::{IndexReader, ReaderOptions, Unanswered};
pub use status::{ReaderStatus, WriterStatus};
pub use writer::IndexWriter;

/// How an index is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// Names it, in all its keys. No braces.
    pub name: String,
    /// How long a block stays that nobody confirms. Each is confirmed three times in that.
    pub ttl: Duration,
    /// How long after a writer's end others may write of its pods, and what it wrote is believed.
    pub lease: Duration,
    /// How often pods are asked what changed.
    pub interval: Duration,
    /// Changes of a pod that may wait; 16 bytes each. Beyond, the pod is listed anew.
    pub max_changes: usize,
}

impl Default for IndexOptions {
    /// Blocks stay an hour, writers' pods ten seconds, changes are written every 20 ms, 65 536 of each pod may wait.
    fn default() -> Self {
        Self {
            name: "kvroute".to_owned(),
            ttl: Duration::from_secs(3600),
            lease: Duration::from_secs(10),
            interval: Duration::from_millis(20),
            max_changes: 65_536,
        }
    }
}

impl IndexOptions {
    /// Finds what is wrong with them.
    ///
    /// # Errors
    ///
    /// The first thing that is.
    pub fn checked(&self) -> Result<(), Problem> {
        if self.name.is_empty() || self.name.contains(['{', '}']) {
            return Err(Problem::found(format!("{:?}", self.name), "a name without braces").at("name"));
        }
        let times = [("ttl", self.ttl), ("lease", self.lease), ("interval", self.interval)];
        if let Some((key, _)) = times.iter().find(|(_, time)| time.as_millis() == 0) {
            return Err(Problem::new("a millisecond at least").at(*key));
        }
        if self.max_changes == 0 {
            return Err(Problem::found(0, "1 or more").at("max_changes"));
        }
        Ok(())
    }
}
