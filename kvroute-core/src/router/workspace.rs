//! Room for one decision at a time.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use super::board::Board;
use super::roster::Roster;
use crate::candidate::Facts;
use crate::index::{MatchTable, PodId, TierBlocks};
use crate::pod::RoutedPod;
use crate::policy::Policy;
use crate::published::Seen;
use crate::request::Request;
use crate::{BlockHash, CacheDomain, Error, Tier};

/// Room for one decision at a time, reused so that deciding allocates nothing once warm; and what the last
/// decision saw, for [`Router::explain`](crate::Router::explain). One per thread.
#[derive(Debug, Default)]
pub struct Workspace {
    /// A text, four bytes a word.
    pub(super) words: Vec<u32>,
    /// The prompt's blocks, once for each way of hashing.
    pub(super) hashed: Vec<Hashed>,
    pub(super) table: MatchTable,
    /// Pods that have something of the prompt, by row.
    pub(super) hits: Vec<Hit>,
    /// What was found out elsewhere: row, tier, leading blocks.
    pub(super) told: Vec<(u32, Tier, u32)>,
    /// How the prompt was cut for each domain of the roster.
    pub(super) searched: Vec<Searched>,
    pub(super) holders: Vec<(Reverse<u32>, u64, u32)>,
    /// Rows of the pods that are looked at.
    pub(super) rows: Vec<u32>,
    pub(super) facts: Vec<Facts>,
    pub(super) decode: Board,
    pub(super) prefill: Board,
    pub(super) roster: Option<Seen<Roster>>,
    pub(super) policy: Option<Seen<Policy>>,
    pub(super) prompt_tokens: usize,
    pub(super) now: Duration,
    pub(super) session: SessionRows,
    /// Distinguishes the request where a choice is even.
    pub(super) nonce: u64,
    /// Pods that are not looked at.
    pub(super) not_sampled: usize,
    pub(super) fallbacks: Vec<PodId>,
    /// Domains that the request could not be hashed for, by name.
    pub(super) unhashed: Vec<(String, Error)>,
}

#[derive(Debug, Default)]
pub(super) struct Hashed {
    /// Of the hasher.
    pub(super) identity: u64,
    pub(super) blocks: Vec<BlockHash>,
}

/// What a pod has of the prompt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hit {
    pub(super) row: u32,
    pub(super) matched: TierBlocks,
    pub(super) predicted: u32,
    pub(super) speculative: u32,
    /// Leading blocks that it has by hearsay.
    pub(super) known: u32,
    /// Whether its own events say less.
    pub(super) is_hearsay: bool,
}

impl Hit {
    /// Blocks it will have without its events saying so.
    pub(super) fn expected(&self, events_tell: bool) -> u32 {
        if events_tell { self.speculative } else { self.predicted.max(self.speculative) }
    }

    /// Adds what others say the pod has, of `searchable` blocks.
    pub(super) fn hear(&mut self, told: &[(u32, Tier, u32)], searchable: u32) {
        let (mut merged, mut own, mut reached) = (TierBlocks::default(), 0, 0);
        for tier in Tier::ALL {
            own += self.matched.in_tier(tier);
            let so_far = told.iter().filter(|(_, farthest, _)| *farthest <= tier).map(|told| told.2);
            self.known = so_far.max().unwrap_or(0).min(searchable);
            let to = reached.max(own).max(self.known);
            merged.add(tier, to - reached);
            reached = to;
        }
        (self.is_hearsay, self.matched) = (merged != self.matched, merged);
    }
}

/// How a prompt was cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Searched {
    /// Blocks that could be matched at most.
    pub(super) blocks: u32,
    /// Tokens each.
    pub(super) block_size: u32,
}

/// The pods that served the request's session last, if they are here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SessionRows {
    pub(super) decode: Option<usize>,
    pub(super) prefill: Option<usize>,
    /// The same among the facts.
    pub(super) places: [Option<usize>; 2],
    /// Why there is none.
    pub(super) missing: Option<&'static str>,
}

impl Workspace {
    /// A pod that was there at the last decision, also if it was removed since.
    #[must_use]
    pub fn pod(&self, id: PodId) -> Option<&Arc<RoutedPod>> {
        let roster = self.roster.as_ref()?.value();
        roster.row(id).map(|row| &roster.pods[row])
    }

    /// The next best pods for the last decision, best first, as many as its profile asks for
    /// ([`ProfileBuilder::fallbacks`](crate::profile::ProfileBuilder::fallbacks)): where to turn if the decision's pod
    /// does not answer.
    #[must_use]
    pub fn fallbacks(&self) -> &[PodId] {
        &self.fallbacks
    }

    /// How far the best total of the last decision is ahead of the next best: 0 where the choice was even. `None` if
    /// there was only one pod to choose from, or none.
    #[must_use]
    pub fn margin(&self) -> Option<f64> {
        self.decode.margin()
    }

    /// All full blocks of the prompt as `domain` hashes them; empty if it cannot.
    pub(super) fn blocks(&self, domain: &CacheDomain) -> &[BlockHash] {
        let identity = domain.hasher().identity();
        self.hashed.iter().find(|hashed| hashed.identity == identity).map_or(&[], |hashed| &hashed.blocks)
    }

    /// Begins a decision.
    pub(super) fn begin(&mut self, request: &Request<'_>, now: Duration) {
        (self.prompt_tokens, self.now, self.not_sampled) = (request.prompt.tokens(), now, 0);
        self.session = SessionRows::default();
        self.unhashed.clear();
        self.searched.clear();
        self.hits.clear();
        self.facts.clear();
        self.fallbacks.clear();
        self.decode.clear();
        self.prefill.clear();
    }

    /// What is known of a pod, if it was looked at.
    pub(super) fn facts_of(&self, roster: &Roster, id: PodId) -> Option<&Facts> {
        let row = roster.row(id)? as u32;
        self.rows.binary_search(&row).ok().and_then(|place| self.facts.get(place))
    }
}
