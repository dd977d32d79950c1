//! What routers that serve one fleet tell each other.
//!
//! ```text
//! dispatch, first_token, finish -> journal -> Report -> bytes  ~~>  bytes -> Report -> loads, predictions, sessions
//! ```
//!
//! A router writes down what it booked and gave back ([`journal`]), in the order in which that happened to each request,
//! and gives it out as reports ([`wire`]); what carries them is the embedder's. A report names the *life* of its sender, a
//! number drawn at its start, and counts up; so a report that comes twice, or is missing, is noticed. From time to time it
//! also states all that is in flight, and whatever was lost before is put right by that.
//!
//! Pods are named by a hash of name and rank, which is the same in every router.

mod journal;
mod wire;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub(crate) use journal::Journal;
pub(crate) use wire::MAX_NAME;

use crate::request::Finish;

/// A pod's part in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The pod's identity.
    pub(crate) pod: u64,
    /// Tokens it has to compute before the first one.
    pub(crate) prefill_tokens: u64,
}

/// Blocks that a request brings to a pod's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentBlocks {
    /// What they are hashes of: equal where cache domain and hasher are.
    pub(crate) domain: u64,
    /// Whether the pod's events tell of them, so that they count for a moment only.
    pub(crate) is_speculative: bool,
    pub(crate) hashes: Arc<[u64]>,
}

/// A request that was dispatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Booked {
    pub(crate) decode: Share,
    pub(crate) decode_blocks: Option<SentBlocks>,
    pub(crate) prefill: Option<Share>,
    pub(crate) prefill_blocks: Option<SentBlocks>,
    /// What its session is kept under.
    pub(crate) session: Option<u128>,
    /// No pod had anything of it.
    pub(crate) is_cold: bool,
}

/// What happened to a request; those of one router are told apart by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Booked(u64, Booked),
    /// Its first token came.
    Started(u64),
    Finished(u64, Finish),
}

/// A request in flight, as a statement has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) request: u64,
    pub(crate) decode: Share,
    /// Until the first token.
    pub(crate) prefill: Option<Share>,
}

/// One message from a router to all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of its sender.
    pub(crate) life: u64,
    /// Its name, for people.
    pub(crate) name: String,
    /// Counts the sender's reports, from 1.
    pub(crate) sequence: u64,
    /// The sender stops: nothing of it is in flight any more.
    pub(crate) is_last: bool,
    /// What happened since the report before.
    pub(crate) entries: Vec<Entry>,
    /// All that is in flight after that.
    pub(crate) statement: Option<Vec<Stated>>,
}
