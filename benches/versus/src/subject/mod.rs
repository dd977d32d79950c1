//! What is compared: kvroute, its peers, and two yardsticks that are none.
//!
//! Every subject keeps its own types and idiom; inputs are made before the clock starts. A peer's hashes are given to
//! it or made by its own functions, as the workload says ([`Feed`]).

mod chain_index;
mod crtc;
mod dashmap;
mod dynamo_tree;
mod kvroute;
mod oracle;
mod radix_tree;

use std::sync::Barrier;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::chain_index::ChainIndexSubject;
pub use self::crtc::CrtcSubject;
pub use self::dashmap::DashMapSubject;
pub use self::dynamo_tree::DynamoTreeSubject;
pub use self::kvroute::KvrouteSubject;
pub use self::oracle::OracleSubject;
pub use self::radix_tree::RadixTreeSubject;
use crate::change::{Chain, Change};

/// The subjects, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// This project.
    Kvroute,
    /// kv-index's `ChainIndex`.
    ChainIndex,
    /// smg-radix-tree's `RadixTree`.
    RadixTree,
    /// dynamo-kv-router's `ConcurrentRadixTreeCompressed`.
    Crtc,
    /// dynamo-kv-router's `RadixTree`.
    DynamoTree,
    /// A plain concurrent map of blocks; not a peer.
    Dashmap,
    /// A set of blocks a pod, which defines what is right; not a peer.
    Oracle,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Kvroute,
        Self::ChainIndex,
        Self::RadixTree,
        Self::Crtc,
        Self::DynamoTree,
        Self::Dashmap,
        Self::Oracle,
    ];

    /// Its name on the command line and in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvroute => "kvroute",
            Self::ChainIndex => "chain-index",
            Self::RadixTree => "radix-tree",
            Self::Crtc => "crtc",
            Self::DynamoTree => "dynamo-tree",
            Self::Dashmap => "dashmap",
            Self::Oracle => "oracle",
        }
    }

    /// Its name for readers who do not know the others' types.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::ChainIndex => "kv-index",
            Self::RadixTree => "smg-radix-tree",
            Self::Crtc => "Dynamo CRTC",
            Self::DynamoTree => "Dynamo RadixTree",
            Self::Kvroute | Self::Dashmap | Self::Oracle => self.name(),
        }
    }

    /// The subject of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether kvroute's ratio counts it.
    #[must_use]
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Kvroute | Self::Dashmap | Self::Oracle)
    }
}

/// What each subject is, and where it does less or more than kvroute.
pub const DIFFERENCES: &[(Kind, &str)] = &[
    (
        Kind::Kvroute,
        "Exact with holes, copies counted, tiers and groups, any number of pods; from tokens: events hashed anew and \
         engine hashes translated; from hashes: a native domain, where every hash of a query is compared. Decisions are \
         whole ones.",
    ),
    (
        Kind::ChainIndex,
        "kv-index 2.0 ChainIndex. Exact with holes; no tiers, no copies, one hash namespace, 1024 pods at most; the \
         caller keeps a block map a pod. score_into: no result map. No decision.",
    ),
    (
        Kind::RadixTree,
        "smg-radix-tree 0.1 RadixTree. Exact with holes; one writer and no readers meanwhile; no tiers, no copies, no \
         hashing (kv-index's is used), no decision.",
    ),
    (
        Kind::Crtc,
        "dynamo-kv-router 1.6 ConcurrentRadixTreeCompressed, Dynamo's default. Over-credits after evictions out of \
         order; events through a channel to a thread, whose time it is; a result map a query. No decision in the crate.",
    ),
    (
        Kind::DynamoTree,
        "dynamo-kv-router 1.6 RadixTree. One thread for reads and writes; forgets what follows a hole; queries by \
         value (copied), a result map a query. No decision in the crate.",
    ),
    (
        Kind::Dashmap,
        "dashmap 6: block hash -> bits of pods, one probe a block, every block probed. No translation, no order.",
    ),
    (Kind::Oracle, "A hash set of blocks a pod, asked block by block: what is right."),
];

/// Which form events have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Block hashes that requests compute alike. Peers get contents' hashes with them; kvroute needs none.
    Hashes,
    /// Engine's names and token ids, as they come off the wire: everyone hashes for itself.
    Tokens,
}

/// What a subject is set up for.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Number of pods.
    pub pods: usize,
    /// Tokens a block.
    pub block_size: u32,
    /// Form of the events.
    pub feed: Feed,
    /// Threads that will write, each its share of the pods: `pod % writers`.
    pub writers: usize,
    /// A block stored again is the same one, not a further copy.
    pub as_set: bool,
}

/// A prefix index.
pub trait Subject: Sized {
    /// An event, in its own form.
    type Event: Send;
    /// A prompt's blocks, in its own form.
    type Query: Send + Sync;
    /// What a thread that asks keeps.
    type Scratch: Default;

    /// An empty index with pods `0..setup.pods`.
    fn new(setup: &Setup) -> Self;

    /// Makes an event; not timed.
    fn event(&self, change: &Change<'_>) -> Self::Event;

    /// Applies events in order; answers the processor time that took.
    fn apply(&mut self, events: Vec<Self::Event>) -> Duration;

    /// Makes a query; not timed.
    fn query(&self, chain: &Chain) -> Self::Query;

    /// Hashes a prompt into a query, as its users do for each request.
    fn hash(&self, token_ids: &[u32], scratch: &mut Self::Scratch) -> Self::Query;

    /// Looks a query up; answers how many pods have any of it.
    fn find(&self, query: &Self::Query, scratch: &mut Self::Scratch) -> usize;

    /// The same with a query that nobody needs afterwards.
    fn find_once(&self, query: Self::Query, scratch: &mut Self::Scratch) -> usize {
        self.find(&query, scratch)
    }

    /// The answer: (pod, leading blocks), in order of pods, without zeros; not timed.
    fn answer(&self, query: &Self::Query) -> Vec<(usize, u32)>;

    /// What it does to tidy up in the background; not timed.
    fn tidy(&mut self) {}
}

/// One that can be read while it is written.
pub trait Shared: Subject + Sync {
    /// Applies the events of writer `writer`'s pods after all have met at `start`; returns when the last is applied. What
    /// hashing they need is done after `start`, too, and no more than one thread works at a time.
    fn write(&self, writer: usize, events: Vec<Self::Event>, start: &Barrier);
}

/// One that reads what engines publish.
pub trait Wire: Subject {
    /// Decodes and applies published batches, (pod, number, payload); answers the processor time that took.
    fn apply_published(&mut self, batches: &[(usize, u64, Vec<u8>)]) -> Duration;
}

/// The subjects under the names of their kinds, for [`with_subject!`](crate::with_subject).
pub mod of_kind {
    pub use super::{
        ChainIndexSubject as ChainIndex, CrtcSubject as Crtc, DashMapSubject as Dashmap,
        DynamoTreeSubject as DynamoTree, KvrouteSubject as Kvroute, OracleSubject as Oracle,
        RadixTreeSubject as RadixTree,
    };
}

/// Calls a function with the type of a kind, out of those listed; returns an error for others.
#[macro_export]
macro_rules! with_subject {
    ($kind:expr, [$($name:ident),*], $run:ident $arguments:tt) => {
        match $kind {
            $($crate::subject::Kind::$name => $run::<$crate::subject::of_kind::$name> $arguments,)*
            #[allow(unreachable_patterns, reason = "where all are listed")]
            other => return Err(format!("{} is not part of this workload", other.name())),
        }
    };
}

#[cfg(test)]
mod tests;
