//! What filters and scorers see: the request, and one row a pod.

use alloc::sync::Arc;
use core::time::Duration;

use crate::credits::Credits;
use crate::index::{PodId, TierBlocks, TrustLevel};
use crate::load::{AdapterFit, Bookings, LoadReport};
use crate::pod::RoutedPod;
use crate::request::Request;

/// What was found out about a pod for one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Place of the pod in the roster.
    pub(crate) pod: u32,
    pub(crate) matched: TierBlocks,
    /// Leading blocks that this router sent to it.
    pub(crate) predicted: u32,
    /// Leading blocks that this router sent to it a moment ago, which its events cannot tell of yet.
    pub(crate) speculative: u32,
    /// Leading blocks that it has by hearsay; they are in `matched`.
    pub(crate) known: u32,
    /// Blocks of the prompt that could be matched at most.
    pub(crate) searchable: u32,
    /// Tokens a block, as the prompt was cut for this pod.
    pub(crate) block_size: u32,
    pub(crate) load: Option<LoadReport>,
    /// What this router has in flight on it.
    pub(crate) own: Bookings,
    /// The same and what its peers have.
    pub(crate) booked: Bookings,
    /// Requests it has, as well as can be told.
    pub(crate) in_flight: u64,
    pub(crate) accepting: bool,
    pub(crate) overloaded: bool,
    /// Of the request's adapter, if it asks for one.
    pub(crate) adapter: Option<AdapterFit>,
    /// Requests that failed in a row, and when the last of them was dispatched.
    pub(crate) failures: (u32, Duration),
    /// Prefill tokens that were ever booked.
    pub(crate) ever_booked: u64,
    pub(crate) cold_turn: u64,
    pub(crate) trust: TrustLevel,
    /// Whether its events tell what it has of this prompt: they come, and the prompt is not only a text.
    pub(crate) events_tell: bool,
}

impl Facts {
    pub(crate) fn matched_tokens(&self) -> usize {
        self.matched.total() as usize * self.block_size as usize
    }

    /// Leading blocks that the pod has or will have without its events saying so: what was sent to it a moment ago;
    /// where they say nothing, whatever was sent to it.
    fn expected_blocks(&self) -> u32 {
        if self.events_tell { self.speculative } else { self.predicted.max(self.speculative) }
    }

    /// Leading blocks it will have when this request gets there, as well as can be told.
    pub(crate) fn cached_blocks(&self) -> u32 {
        self.matched.total().max(self.expected_blocks())
    }

    /// Tokens of a prompt of `prompt_tokens` that the pod has to compute, as well as can be told.
    pub(crate) fn uncached_tokens(&self, prompt_tokens: usize) -> usize {
        prompt_tokens.saturating_sub(self.cached_blocks() as usize * self.block_size as usize)
    }

    /// The same, with what a matched block counts for; tokens.
    fn credited_uncached(&self, prompt_tokens: usize, credits: &Credits) -> f64 {
        let cached = credits.of(self.matched, self.trust).max(f64::from(self.expected_blocks()));
        (prompt_tokens as f64 - cached * f64::from(self.block_size)).max(0.0)
    }
}

/// The rows of one decision. Filters see all pods that are considered, scorers those that the filters kept.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) prompt_tokens: usize,
    /// Tokens that a pod computes at most; what goes beyond is computed elsewhere.
    pub(crate) most_computed: f64,
    pub(crate) now: Duration,
    pub(crate) pods: &'a [Arc<RoutedPod>],
    /// Of the pods that are considered, in the order of `pods`.
    pub(crate) facts: &'a [Facts],
    /// Which of the facts are rows, in order.
    pub(crate) rows: &'a [u32],
    /// Which of the facts are those of the pod that served the session last.
    pub(crate) session: Option<u32>,
    /// The pod that answers, where one is looked for that prefills.
    pub(crate) peer: Option<&'a RoutedPod>,
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

    /// The time of the decision.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no pod at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, in the order of every score column.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Candidate<'a>> + Clone + use<'a> {
        let Self { pods, facts, prompt_tokens, most_computed, .. } = *self;
        self.rows.iter().map(move |&row| {
            let facts = &facts[row as usize];
            Candidate { pod: &pods[facts.pod as usize], facts, prompt_tokens, most_computed }
        })
    }

    /// Row of a pod.
    #[must_use]
    pub fn row(&self, pod: PodId) -> Option<usize> {
        let id = |&row: &u32| self.pods[self.facts[row as usize].pod as usize].id();
        let row = self.rows.binary_search_by_key(&pod.slot(), |row| id(row).slot()).ok()?;
        (id(&self.rows[row]) == pod).then_some(row)
    }

    /// Row of the pod that served the request's session last.
    #[must_use]
    pub fn session_row(&self) -> Option<usize> {
        self.rows.binary_search(&self.session?).ok()
    }

    /// The pod that will answer, where one is looked for that prefills.
    #[must_use]
    pub fn peer(&self) -> Option<&'a RoutedPod> {
        self.peer
    }
}

/// One pod, and what is known of it for the request at hand.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pod: &'a RoutedPod,
    facts: &'a Facts,
    prompt_tokens: usize,
    most_computed: f64,
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

    /// Leading blocks of the prompt that this router sent to it a moment ago
    /// ([`RouterOptions::speculation_ttl`](crate::RouterOptions::speculation_ttl)).
    #[must_use]
    pub fn speculative_blocks(&self) -> u32 {
        self.facts.speculative
    }

    /// Leading blocks of the prompt that the request says it has
    /// ([`Request::known`](crate::Request::known)); [`matched`](Self::matched) has them, too.
    #[must_use]
    pub fn known_blocks(&self) -> u32 {
        self.facts.known
    }

    /// Blocks of the prompt it could take from a full cache: an engine always computes the last token.
    #[must_use]
    pub fn searchable_blocks(&self) -> u32 {
        self.facts.searchable
    }

    /// The share of the searchable blocks that it will have when this request gets there, as well as can be told;
    /// 0..=1.
    #[must_use]
    pub fn cached_share(&self) -> f64 {
        self.share(f64::from(self.facts.cached_blocks()))
    }

    /// Tokens of the prompt it has to compute, as well as can be told.
    #[must_use]
    pub fn uncached_tokens(&self) -> usize {
        self.facts.uncached_tokens(self.prompt_tokens)
    }

    /// The same, with what a matched block counts for; tokens. What was sent to it a moment ago, and where no events
    /// tell whatever was sent to it, counts in full. Where a prompt with so many is computed by a prefill pod, no more
    /// than from which on ([`PrefillPolicy::max_uncached_tokens`](crate::PrefillPolicy::max_uncached_tokens)).
    #[must_use]
    pub fn credited_uncached(&self, credits: &Credits) -> f64 {
        self.facts.credited_uncached(self.prompt_tokens, credits).min(self.most_computed)
    }

    /// Its load report when the decision began.
    #[must_use]
    pub fn load(&self) -> Option<LoadReport> {
        self.facts.load
    }

    /// What this router and its peers had in flight on it when the decision began.
    #[must_use]
    pub fn bookings(&self) -> Bookings {
        self.facts.booked
    }

    /// Requests it has, as well as can be told: those it reported, and what this router and its peers sent and saw
    /// finish since; never fewer than they have in flight there.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.facts.in_flight
    }

    /// The same for a pod of capacity 1; finite.
    #[must_use]
    pub fn relative_load(&self) -> f64 {
        (self.facts.in_flight as f64 / self.pod.capacity()).min(f64::MAX)
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

    /// Whether its last load report reached the router's bounds ([`Overload`](crate::load::Overload)).
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.facts.overloaded
    }

    /// How it stands to the adapter that the request asks for; `None` if it asks for none.
    #[must_use]
    pub fn adapter(&self) -> Option<AdapterFit> {
        self.facts.adapter
    }

    /// Requests that failed since it last answered one, and when the last of them was dispatched.
    #[must_use]
    pub fn failures(&self) -> (u32, Duration) {
        self.facts.failures
    }

    /// Prefill tokens that this router and its peers ever sent to it.
    #[must_use]
    pub fn ever_booked(&self) -> u64 {
        self.facts.ever_booked
    }

    /// When it last got a request of which no pod held anything, as a number that counts up; 0 never.
    #[must_use]
    pub fn cold_turn(&self) -> u64 {
        self.facts.cold_turn
    }

    /// The share of the searchable blocks that is matched, with what a block counts for; 0..=1.
    #[must_use]
    pub fn credited_share(&self, credits: &Credits) -> f64 {
        self.share(credits.of(self.facts.matched, self.facts.trust))
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
