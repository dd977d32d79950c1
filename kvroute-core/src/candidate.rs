//! What filters and scorers see: the request, and one row a pod.

use alloc::sync::Arc;

use crate::Tier;
use crate::index::{PodId, TierBlocks, TrustLevel};
use crate::pod::{Bookings, LoadReport, RoutedPod};
use crate::request::Request;

/// What was found out about a pod for one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) matched: TierBlocks,
    /// Leading blocks that this router sent to it.
    pub(crate) predicted: u32,
    /// Blocks of the prompt that could be matched at most.
    pub(crate) searchable: u32,
    /// Tokens a block, as the prompt was cut for this pod.
    pub(crate) block_size: u32,
    pub(crate) load: Option<LoadReport>,
    pub(crate) booked: Bookings,
    /// Requests it has, as well as can be told.
    pub(crate) in_flight: u64,
    pub(crate) accepting: bool,
    pub(crate) trust: TrustLevel,
    /// Whether its events tell what it has of this prompt: they come, and the prompt is not only a text.
    pub(crate) events_tell: bool,
}

impl Facts {
    pub(crate) fn matched_tokens(&self) -> usize {
        self.matched.total() as usize * self.block_size as usize
    }

    pub(crate) fn predicted_tokens(&self) -> usize {
        self.predicted as usize * self.block_size as usize
    }

    /// Tokens of a prompt of `prompt_tokens` that the pod has to compute, as well as can be told: by what its
    /// events say, or, where they do not say enough, by what was sent to it.
    pub(crate) fn uncached_tokens(&self, prompt_tokens: usize) -> usize {
        let cached = if self.events_tell {
            self.matched_tokens()
        } else {
            self.matched_tokens().max(self.predicted_tokens())
        };
        prompt_tokens.saturating_sub(cached)
    }
}

/// The rows of one decision.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) prompt_tokens: usize,
    pub(crate) pods: &'a [Arc<RoutedPod>],
    pub(crate) facts: &'a [Facts],
    pub(crate) session_row: Option<usize>,
}

impl<'a> Candidates<'a> {
    /// The request.
    #[must_use]
    pub fn request(&self) -> &'a Request<'a> {
        self.request
    }

    /// Length of its prompt, tokens; of a text, an estimate.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether there is no pod at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// The rows, in the order of every score column.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Candidate<'a>> + use<'a> {
        let prompt_tokens = self.prompt_tokens;
        self.pods.iter().zip(self.facts).map(move |(pod, facts)| Candidate { pod, facts, prompt_tokens })
    }

    /// Row of a pod.
    #[must_use]
    pub fn row(&self, pod: PodId) -> Option<usize> {
        let row = self.pods.binary_search_by_key(&pod.slot(), |pod| pod.id().slot()).ok()?;
        (self.pods[row].id() == pod).then_some(row)
    }

    /// Row of the pod that served the request's session last.
    #[must_use]
    pub fn session_row(&self) -> Option<usize> {
        self.session_row
    }
}

/// One pod, and what is known of it for the request at hand.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pod: &'a RoutedPod,
    facts: &'a Facts,
    prompt_tokens: usize,
}

impl<'a> Candidate<'a> {
    /// The pod itself. Its load and state may have changed since; the ones here have not.
    #[must_use]
    pub fn pod(&self) -> &'a RoutedPod {
        self.pod
    }

    /// Leading blocks of the prompt it can take from its cache, by tier.
    #[must_use]
    pub fn matched(&self) -> TierBlocks {
        self.facts.matched
    }

    /// Tokens in those blocks.
    #[must_use]
    pub fn matched_tokens(&self) -> usize {
        self.facts.matched_tokens()
    }

    /// Leading blocks of the prompt that this router sent to it before, whatever its events say.
    #[must_use]
    pub fn predicted_blocks(&self) -> u32 {
        self.facts.predicted
    }

    /// Blocks of the prompt it could take from a full cache: an engine always computes the last token.
    #[must_use]
    pub fn searchable_blocks(&self) -> u32 {
        self.facts.searchable
    }

    /// Tokens of the prompt it has to compute, as well as can be told.
    #[must_use]
    pub fn uncached_tokens(&self) -> usize {
        self.facts.uncached_tokens(self.prompt_tokens)
    }

    /// Its load when the decision began.
    #[must_use]
    pub fn load(&self) -> Option<LoadReport> {
        self.facts.load
    }

    /// What this router had in flight on it when the decision began.
    #[must_use]
    pub fn bookings(&self) -> Bookings {
        self.facts.booked
    }

    /// Requests it has, as well as can be told: those it reported, and what this router sent and saw finish
    /// since; never fewer than this router has in flight there.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.facts.in_flight
    }

    /// How far its view was to be believed.
    #[must_use]
    pub fn trust(&self) -> TrustLevel {
        self.facts.trust
    }

    /// Whether it took new requests when the decision began.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.facts.accepting
    }

    /// The share of the searchable blocks that is matched, tier by tier multiplied by `credits`; 0..=1.
    #[must_use]
    pub fn credited_share(&self, credits: &[(Tier, f64)]) -> f64 {
        let blocks: f64 =
            credits.iter().map(|&(tier, c)| c * f64::from(self.facts.matched.in_tier(tier))).sum();
        self.share(blocks)
    }

    /// The share of the searchable blocks that this router sent to it; 0..=1.
    #[must_use]
    pub fn predicted_share(&self) -> f64 {
        self.share(f64::from(self.facts.predicted))
    }

    fn share(&self, blocks: f64) -> f64 {
        if self.facts.searchable == 0 { 0.0 } else { blocks / f64::from(self.facts.searchable) }
    }
}
