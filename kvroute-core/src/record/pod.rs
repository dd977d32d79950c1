//! Pods as a decision saw them.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::candidate::Facts;
use crate::index::{TierBlocks, TrustLevel};
use crate::load::{AdapterFit, Bookings, LoadReport};
use crate::pod::{Role, RoutedPod};
use crate::{CacheDomain, Error, Tier};

/// A cache domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DomainRecord<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Tokens a block.
    pub block_size: u32,
    /// Names of the models its pods serve. Left out if they serve any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub models: Cow<'a, [String]>,
}

impl<'a> DomainRecord<'a> {
    pub(crate) fn new(domain: &'a CacheDomain) -> Self {
        let (name, models) = (Cow::Borrowed(domain.name()), Cow::Borrowed(domain.models()));
        Self { name, block_size: domain.block_size(), models }
    }
}

/// A pod, and what was found out about it for the request. Numbers that are 0, and flags that are false, are left out
/// but for `capacity` and `accepting`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PodRecord<'a> {
    /// Its id; slots (the upper 32 bits) are in order.
    pub id: u64,
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its data-parallel rank.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dp_rank: u32,
    /// What it does.
    pub role: Role,
    /// Its labels.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: Cow<'a, BTreeMap<String, String>>,
    /// Its cache domain: position in the decision's `domains`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub domain: u32,
    /// How fast it computes, as a multiple of an ordinary pod.
    pub capacity: f64,
    /// Tokens a block, as the prompt was cut for it.
    pub block_size: u32,
    /// Blocks of the prompt that could be matched at most.
    #[serde(default, skip_serializing_if = "is_default")]
    pub searchable_blocks: u32,
    /// Leading blocks it held, by tier.
    #[serde(default, skip_serializing_if = "is_default")]
    pub matched_blocks: MatchedBlocks,
    /// Leading blocks that this router had sent to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub predicted_blocks: u32,
    /// Leading blocks that this router had sent to it a moment ago.
    #[serde(default, skip_serializing_if = "is_default")]
    pub speculative_blocks: u32,
    /// Leading blocks that it had by hearsay; `matched_blocks` has them, too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub known_blocks: u32,
    /// What it last said of its load.
    #[serde(default, skip_serializing_if = "is_default")]
    pub load: Option<LoadReport>,
    /// What this router had in flight on it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub booked: Bookings,
    /// Requests it had, as well as could be told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub in_flight: u64,
    /// Whether it took new requests.
    pub accepting: bool,
    /// Whether its last load report reached the router's bounds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overloaded: bool,
    /// How it stood to the adapter that the request asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adapter: Option<AdapterFit>,
    /// Requests that failed since it last answered one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// When the last of them was dispatched; milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub last_failure_ms: u64,
    /// Prefill tokens that this router had ever sent to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ever_booked_tokens: u64,
    /// When it last got a request of which no pod held anything, as a number that counts up.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cold_turn: u64,
    /// How far its view was to be believed.
    pub trust: TrustLevel,
    /// Whether its events told what it had of this prompt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub events_tell: bool,
}

/// Leading blocks by the tier that holds them. Tiers without any are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MatchedBlocks {
    /// In device memory.
    #[serde(skip_serializing_if = "is_default")]
    pub gpu: u32,
    /// In host memory.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu: u32,
    /// In local storage.
    #[serde(skip_serializing_if = "is_default")]
    pub disk: u32,
    /// In a store shared with others.
    #[serde(skip_serializing_if = "is_default")]
    pub external: u32,
}

impl MatchedBlocks {
    fn new(blocks: TierBlocks) -> Self {
        Self {
            gpu: blocks.in_tier(Tier::Gpu),
            cpu: blocks.in_tier(Tier::Cpu),
            disk: blocks.in_tier(Tier::Disk),
            external: blocks.in_tier(Tier::External),
        }
    }

    fn tiers(self) -> [(Tier, u32); Tier::ALL.len()] {
        let Self { gpu, cpu, disk, external } = self;
        [(Tier::Gpu, gpu), (Tier::Cpu, cpu), (Tier::Disk, disk), (Tier::External, external)]
    }

    /// In all tiers together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.tiers().into_iter().map(|(_, blocks)| u64::from(blocks)).sum()
    }
}

impl<'a> PodRecord<'a> {
    /// Name, and rank where it is not 0.
    #[must_use]
    pub fn shown(&self) -> Cow<'_, str> {
        match self.dp_rank {
            0 => Cow::Borrowed(&self.name),
            rank => Cow::Owned(format!("{}/{rank}", self.name)),
        }
    }

    /// Tokens in the blocks it held.
    #[must_use]
    pub fn matched_tokens(&self) -> usize {
        let tokens = self.matched_blocks.total().saturating_mul(self.block_size.into());
        usize::try_from(tokens).unwrap_or(usize::MAX)
    }

    pub(crate) fn new(pod: &'a RoutedPod, domain: u32, facts: &Facts) -> Self {
        Self {
            id: pod.id().as_u64(),
            name: Cow::Borrowed(pod.name()),
            dp_rank: pod.dp_rank(),
            role: pod.role(),
            labels: Cow::Borrowed(pod.labels()),
            domain,
            capacity: pod.capacity(),
            block_size: facts.block_size,
            searchable_blocks: facts.searchable,
            matched_blocks: MatchedBlocks::new(facts.matched),
            predicted_blocks: facts.predicted,
            speculative_blocks: facts.speculative,
            known_blocks: facts.known,
            load: facts.load,
            booked: facts.booked,
            in_flight: facts.in_flight,
            accepting: facts.accepting,
            overloaded: facts.overloaded,
            adapter: facts.adapter,
            failures: facts.failures.0,
            last_failure_ms: u64::try_from(facts.failures.1.as_millis()).unwrap_or(u64::MAX),
            ever_booked_tokens: facts.ever_booked,
            cold_turn: facts.cold_turn,
            trust: facts.trust,
            events_tell: facts.events_tell,
        }
    }

    /// What a decision about a prompt of so many tokens sees of it; it is the pod at `place`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for blocks that no prompt of this length has.
    pub(crate) fn facts(&self, place: u32, prompt_tokens: usize) -> Result<Facts, Error> {
        let searchable = u64::from(self.searchable_blocks);
        let most = searchable.checked_mul(self.block_size.into());
        if most.is_none_or(|tokens| tokens > prompt_tokens as u64) {
            return Err(self.wrong("searchable_blocks", searchable, "the prompt has"));
        }
        let found = [
            ("matched_blocks", self.matched_blocks.total()),
            ("predicted_blocks", self.predicted_blocks.into()),
            ("speculative_blocks", self.speculative_blocks.into()),
            ("known_blocks", self.known_blocks.into()),
        ];
        if let Some((name, blocks)) = found.into_iter().find(|(_, blocks)| *blocks > searchable) {
            return Err(self.wrong(name, blocks, "could be matched"));
        }
        let mut matched = TierBlocks::default();
        self.matched_blocks.tiers().into_iter().for_each(|(tier, blocks)| matched.add(tier, blocks));
        Ok(Facts {
            pod: place,
            matched,
            predicted: self.predicted_blocks,
            speculative: self.speculative_blocks,
            known: self.known_blocks,
            searchable: self.searchable_blocks,
            block_size: self.block_size,
            load: self.load,
            own: self.booked,
            booked: self.booked,
            in_flight: self.in_flight,
            accepting: self.accepting,
            overloaded: self.overloaded,
            adapter: self.adapter,
            failures: (self.failures, Duration::from_millis(self.last_failure_ms)),
            ever_booked: self.ever_booked_tokens,
            cold_turn: self.cold_turn,
            trust: self.trust,
            events_tell: self.events_tell,
        })
    }

    fn wrong(&self, field: &str, blocks: u64, most: &str) -> Error {
        Error::invalid(format!("pod \"{}\": {field} is {blocks}, more than {most}", self.shown()))
    }
}

/// The domains of these pods, each once, and which is whose; `[pods]`.
pub(crate) fn domains_of<'a>(pods: impl Iterator<Item = &'a RoutedPod>) -> (Vec<DomainRecord<'a>>, Vec<u32>) {
    let (mut domains, mut places) = (Vec::<&CacheDomain>::new(), Vec::with_capacity(pods.size_hint().0));
    for pod in pods {
        // A router knows no two domains of one name.
        let known = domains.iter().position(|domain| core::ptr::eq(*domain, pod.domain()));
        places.push(known.unwrap_or(domains.len()) as u32);
        if known.is_none() {
            domains.push(pod.domain());
        }
    }
    (domains.into_iter().map(DomainRecord::new).collect(), places)
}
