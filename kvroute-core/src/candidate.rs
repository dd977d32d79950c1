//! What filters and scorers see: the request, and one row a pod.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use serde::Serialize;

use crate::hash::HashContext;
use crate::index::{PodId, TierBlocks};
use crate::{CacheDomain, Error, Tier};

/// A request to be routed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The tokenized prompt; `[n]`.
    pub token_ids: &'a [u32],
    /// What else decides whether KV can be shared.
    pub context: &'a HashContext,
    /// Distinguishes requests where a choice is otherwise even. `None`: taken from the prompt, so that
    /// equal prompts are decided equally.
    pub nonce: Option<u64>,
}

impl<'a> Request<'a> {
    /// A request for this prompt.
    #[must_use]
    pub fn new(token_ids: &'a [u32], context: &'a HashContext) -> Self {
        Self { token_ids, context, nonce: None }
    }
}

/// What a pod says of its load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoadReport {
    /// Requests being computed (`vllm:num_requests_running`).
    pub running: u32,
    /// Requests that wait (`vllm:num_requests_waiting`).
    pub waiting: u32,
    /// Share of the KV cache in use, 0..=1 (`vllm:kv_cache_usage_perc`).
    pub kv_usage: f32,
}

impl LoadReport {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if (0.0..=1.0).contains(&self.kv_usage) {
            return Ok(());
        }
        Err(Error::invalid(alloc::format!("kv_usage is a share, 0 to 1, not {}", self.kv_usage)))
    }
}

/// A pod as the router knows it.
#[derive(Debug)]
pub struct RoutedPod {
    pub(crate) id: PodId,
    pub(crate) name: String,
    pub(crate) dp_rank: u32,
    pub(crate) domain: Arc<CacheDomain>,
    accepting: AtomicBool,
    /// running << 32 | waiting; `NO_REPORT` before the first report.
    requests: AtomicU64,
    kv_usage: AtomicU32,
}

const NO_REPORT: u64 = u64::MAX;

impl RoutedPod {
    pub(crate) fn new(id: PodId, name: String, dp_rank: u32, domain: Arc<CacheDomain>) -> Self {
        Self {
            id,
            name,
            dp_rank,
            domain,
            accepting: AtomicBool::new(true),
            requests: AtomicU64::new(NO_REPORT),
            kv_usage: AtomicU32::new(0),
        }
    }

    /// The pod in the index.
    #[must_use]
    pub fn id(&self) -> PodId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data-parallel rank.
    #[must_use]
    pub fn dp_rank(&self) -> u32 {
        self.dp_rank
    }

    /// Its cache domain.
    #[must_use]
    pub fn domain(&self) -> &CacheDomain {
        &self.domain
    }

    /// Whether it takes new requests; a draining pod does not.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_accepting(&self, accepting: bool) {
        self.accepting.store(accepting, Ordering::Relaxed);
    }

    /// Its last load report.
    #[must_use]
    pub fn load(&self) -> Option<LoadReport> {
        let requests = self.requests.load(Ordering::Relaxed);
        let kv_usage = f32::from_bits(self.kv_usage.load(Ordering::Relaxed));
        (requests != NO_REPORT).then_some(LoadReport {
            running: (requests >> 32) as u32,
            waiting: requests as u32,
            kv_usage,
        })
    }

    pub(crate) fn set_load(&self, report: LoadReport) {
        let requests = u64::from(report.running) << 32 | u64::from(report.waiting);
        self.kv_usage.store(report.kv_usage.to_bits(), Ordering::Relaxed);
        self.requests.store(requests.min(NO_REPORT - 1), Ordering::Relaxed);
    }
}

/// What was found out about a pod for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) matched: TierBlocks,
    /// Blocks of the prompt that could be matched at most.
    pub(crate) searchable: u32,
    pub(crate) load: Option<LoadReport>,
    pub(crate) accepting: bool,
}

/// The rows of one decision.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    pub(crate) request: &'a Request<'a>,
    pub(crate) pods: &'a [Arc<RoutedPod>],
    pub(crate) facts: &'a [Facts],
}

impl<'a> Candidates<'a> {
    /// The request.
    #[must_use]
    pub fn request(&self) -> &'a Request<'a> {
        self.request
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
        self.pods.iter().zip(self.facts).map(|(pod, facts)| Candidate { pod, facts })
    }
}

/// One pod, and what is known of it for the request at hand.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pod: &'a RoutedPod,
    facts: &'a Facts,
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
        self.facts.matched.total() as usize * self.pod.domain.block_size() as usize
    }

    /// Blocks of the prompt it could take from a full cache: an engine always computes the last token.
    #[must_use]
    pub fn searchable_blocks(&self) -> u32 {
        self.facts.searchable
    }

    /// Its load when the decision began.
    #[must_use]
    pub fn load(&self) -> Option<LoadReport> {
        self.facts.load
    }

    /// Whether it took new requests when the decision began.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.facts.accepting
    }

    /// Share of the searchable blocks that is matched, tier by tier multiplied by `credits`; 0..=1.
    #[must_use]
    pub fn credited_share(&self, credits: &[(Tier, f64)]) -> f64 {
        if self.facts.searchable == 0 {
            return 0.0;
        }
        let blocks: f64 =
            credits.iter().map(|&(tier, c)| c * f64::from(self.facts.matched.in_tier(tier))).sum();
        blocks / f64::from(self.facts.searchable)
    }
}
