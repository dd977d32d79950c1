//! A pod's answers, as far as something follows from several of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kvroute_core::BlockHasher;

use super::answers::SourceAnswer;
use super::learn::Learnt;
use super::{Fact, Origin};
use crate::events::rank_endpoint;
use crate::load::Metrics;

/// A pod's answers, looked at together.
pub(super) struct Said<'a> {
    learnt: &'a Learnt,
    pub(super) metrics: Cow<'a, Metrics>,
    /// The publishers that publish, by rank.
    sources: BTreeMap<u32, &'a SourceAnswer>,
}

impl<'a> Said<'a> {
    pub(super) fn new(learnt: &'a Learnt) -> Self {
        let metrics = learnt.metrics.as_ref();
        let sources = learnt.sources.iter().flatten().filter_map(|(rank, source)| {
            let rank = rank.parse().ok().filter(|rank| *rank < Metrics::MAX_RANKS)?;
            let publishes = source.enable_kv_cache_events && source.publisher.as_deref() == Some("zmq");
            publishes.then_some((rank, source))
        });
        Self {
            metrics: metrics.map_or_else(Default::default, Cow::Borrowed),
            sources: sources.collect(),
            learnt,
        }
    }

    pub(super) fn model_root(&self) -> Option<String> {
        let base = self.learnt.models.iter().flatten().find(|model| model.parent.is_none())?;
        base.root.clone().or_else(|| Some(base.id.clone()))
    }

    pub(super) fn block_size(&self) -> Option<u32> {
        let size = self.metrics.cache.as_ref()?.block_size?;
        (1..=BlockHasher::MAX_BLOCK_SIZE).contains(&size).then_some(size)
    }

    pub(super) fn hash_algorithm(&self) -> Option<String> {
        self.metrics.cache.as_ref()?.hash_algorithm.clone()
    }

    pub(super) fn ranks(&self) -> Option<Vec<u32>> {
        let of_sources: Vec<u32> = self.sources.keys().copied().collect();
        let of_metrics = || self.metrics.ranks.iter().map(|rank| rank.rank).collect::<Vec<_>>();
        Some(of_sources)
            .filter(|ranks| !ranks.is_empty())
            .or_else(|| Some(of_metrics()).filter(|r| !r.is_empty()))
    }

    /// What the publisher of the first rank says.
    pub(super) fn first(&self, of: impl FnOnce(&SourceAnswer) -> Option<String>) -> Option<String> {
        self.sources.first_key_value().and_then(|(_, source)| of(source))
    }

    /// The endpoint of a rank: its publisher's own, if that is told; else the port is moved.
    pub(super) fn of_rank(
        &self,
        rank: u32,
        fact: &Fact<String>,
        of: impl Fn(&SourceAnswer) -> Option<&str>,
    ) -> Result<Option<String>, String> {
        let Some(endpoint) = &fact.value else { return Ok(None) };
        let moved = |endpoint: &str, rank| match rank_endpoint(endpoint, rank) {
            Ok(endpoint) => Ok(Some(endpoint)),
            Err(error) => Err(error.to_string()),
        };
        if fact.origin == Origin::Configured {
            return moved(endpoint, rank);
        }
        let own = self.sources.get(&rank).copied().and_then(&of);
        // Publishers that all say the same say what they were configured with.
        let first = self.sources.first_key_value();
        let is_moved = first.is_some_and(|(first, source)| *first == rank || of(source) != own);
        match own {
            Some(own) if is_moved => Ok(Some(own.into())),
            Some(own) => moved(own, rank),
            None => moved(endpoint, rank),
        }
    }

    pub(super) fn why_no_events(&self) -> String {
        match &self.learnt.sources {
            None => {
                "no events: the pod has no /kv_event_sources; `known.events_endpoint` can say where they are"
            }
            Some(_) => "no events: the pod does not publish any over ZeroMQ (vLLM: --kv-events-config)",
        }
        .into()
    }
}
