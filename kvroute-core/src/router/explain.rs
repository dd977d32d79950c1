//! Why a decision came out as it did.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::board::{Board, filter_name};
use super::{Router, Workspace};
use crate::Tier;
use crate::candidate::Facts;
use crate::decision::{Explanation, PodExplanation, ScoreExplanation};
use crate::index::{IgnoreReason, TierBlocks, TrustLevel};
use crate::pod::RoutedPod;
use crate::profile::Profile;
use crate::published::Seen;

impl Router {
    /// Explains the last decision made with `workspace` by this router. What it scored is told as the
    /// decision saw it; notes are those of now. If the last one was another router's, or failed before pods were
    /// looked at, no pods are in it.
    #[must_use]
    pub fn explain(&self, workspace: &Workspace) -> Explanation {
        let Some(policy) = workspace.policy.as_ref().map(Seen::value) else { return Explanation::default() };
        let mut explanation = self.explain_profile(&policy.decode, &workspace.decode, workspace);
        explanation.session = workspace.session.missing;
        if let Some(policy) = policy.prefill.as_ref().filter(|_| workspace.prefill.used) {
            let prefill = self.explain_profile(&policy.profile, &workspace.prefill, workspace);
            explanation.prefill = Some(Box::new(prefill));
        }
        explanation
    }

    fn explain_profile(&self, profile: &Profile, board: &Board, workspace: &Workspace) -> Explanation {
        // Of another router's decision nothing is known here.
        let seen = workspace.roster.iter().filter(|seen| board.used && self.roster.is_owner_of(seen));
        let pods = seen.flat_map(|seen| {
            let pods = &seen.value().pods;
            let explain = |(place, facts): (usize, &Facts)| {
                self.explain_pod(profile, board, workspace, place, &pods[facts.pod as usize])
            };
            workspace.facts.iter().enumerate().map(explain)
        });
        let pods: Vec<_> = pods.collect();
        Explanation {
            profile: profile.name.clone(),
            picker: profile.picker.name().to_string(),
            prompt_tokens: workspace.prompt_tokens,
            session: None,
            picked: board.picked.filter(|_| !pods.is_empty()),
            reason: board.reason.name(),
            overruled: board.overruled,
            unused: board.unused,
            fallbacks: board.fallbacks.clone(),
            not_sampled: workspace.not_sampled,
            pods,
            prefill: None,
        }
    }

    fn explain_pod(
        &self,
        profile: &Profile,
        board: &Board,
        workspace: &Workspace,
        place: usize,
        pod: &RoutedPod,
    ) -> PodExplanation {
        let facts = &workspace.facts[place];
        let tiers = Tier::ALL.into_iter().map(|tier| (tier.name(), facts.matched.in_tier(tier)));
        let dropped_by = board.dropped_by[place].map(|position| filter_name(profile, position));
        let total = board.total(place);
        let scores = total.iter().flat_map(|&(row, _)| {
            let columns = profile.scorers.iter().zip(&board.columns);
            columns.map(move |((scorer, weight), column)| ScoreExplanation {
                scorer: scorer.name().to_string(),
                value: column[row],
                weight: *weight,
            })
        });
        PodExplanation {
            id: pod.id.as_u64(),
            pod: pod.name.clone(),
            dp_rank: pod.dp_rank,
            role: pod.role().name(),
            trust: facts.trust.name(),
            block_size: facts.block_size,
            searchable_blocks: facts.searchable,
            matched_blocks: tiers.filter(|&(_, blocks)| blocks > 0).collect(),
            predicted_blocks: facts.predicted,
            speculative_blocks: facts.speculative,
            known_blocks: facts.known,
            uncached_tokens: facts.uncached_tokens(workspace.prompt_tokens),
            booked: facts.booked,
            load: facts.load,
            in_flight: facts.in_flight,
            capacity: pod.capacity(),
            overloaded: facts.overloaded,
            adapter: facts.adapter,
            scores: scores.collect(),
            total: total.map_or(0.0, |(_, total)| total),
            dropped_by: dropped_by.map(ToString::to_string),
            note: self.why_nothing(pod, facts, workspace),
        }
    }

    /// The most telling reason why a pod matches nothing.
    fn why_nothing(&self, pod: &RoutedPod, facts: &Facts, workspace: &Workspace) -> Option<String> {
        if facts.matched != TierBlocks::default() {
            return None;
        }
        let unhashed = workspace.unhashed.iter().find(|(domain, _)| domain == pod.domain.name());
        if let Some((domain, error)) = unhashed {
            return Some(format!("the prompt cannot be hashed for its domain \"{domain}\": {error}"));
        }
        let (size, prompt_tokens) = (facts.block_size, workspace.prompt_tokens);
        if facts.searchable == 0 {
            return Some(format!(
                "{prompt_tokens} tokens have no whole block of {size} before the last token, which engines always \
                 compute"
            ));
        }
        let Ok(counters) = self.index.counters(pod.id) else { return Some("the pod is gone".into()) };
        let trust = self.index.trust(pod.id);
        let wrong_size = counters.ignored_for(IgnoreReason::BlockSize);
        let wrong_rank = counters.ignored_for(IgnoreReason::OtherRank);
        Some(if counters.batches == 0 {
            "no KV events came from this pod yet".into()
        } else if trust == Ok(TrustLevel::LoadOnly) {
            "its events describe a KV-cache group of an unknown kind, which is never credited".into()
        } else if wrong_rank > 0 && counters.blocks_stored == 0 {
            format!("its {wrong_rank} batches carry another data-parallel rank than {}", pod.dp_rank)
        } else if wrong_size > 0 && counters.blocks_stored == 0 {
            format!("its events have blocks of another size than its domain's {size}: {wrong_size} ignored")
        } else if counters.blocks_stored == 0 {
            format!("none of its {} events stored a block", counters.events)
        } else {
            "it does not hold the prompt's first block".into()
        })
    }
}
