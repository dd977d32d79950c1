//! What a decision is, and why it came out that way.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::index::{PodId, TierBlocks};
use crate::load::{AdapterFit, Bookings, LoadReport};

/// Where a request should go.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Decision {
    /// The pod.
    pub pod: PodId,
    /// Its weighted sum of scores.
    pub total: f64,
    /// Leading blocks it is expected to take from its cache.
    pub matched: TierBlocks,
    /// Tokens in those blocks.
    pub matched_tokens: usize,
    /// Tokens it has to compute, as well as can be told. Where the pod's events do not say (no event ever
    /// came, its engine keeps having less than they say, or the prompt is only known as text), what this
    /// router sent there counts as cached.
    pub uncached_tokens: usize,
    /// Why this pod.
    pub reason: Reason,
    /// The pod that computes the prompt first, if one does. The decode pod takes the KV from it.
    pub prefill: Option<Prefill>,
    /// How many pods were considered, before filters.
    pub candidates: usize,
}

/// Why a pod was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Reason {
    /// The picker picked it.
    #[default]
    Picked,
    /// The one that the picker picked is much busier than the others ([`LoadGuard`](crate::guard::LoadGuard)).
    Spilled,
    /// It is new, and no pod has much of the prompt ([`WarmUp`](crate::guard::WarmUp)).
    WarmUp,
}

impl Reason {
    /// Name in explanations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Picked => "picked",
            Self::Spilled => "spilled",
            Self::WarmUp => "warm-up",
        }
    }
}

/// Where a prompt should be computed before it is answered elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prefill {
    /// The pod.
    pub pod: PodId,
    /// Its weighted sum of scores.
    pub total: f64,
    /// Leading blocks it is expected to take from its cache.
    pub matched: TierBlocks,
    /// Tokens in those blocks.
    pub matched_tokens: usize,
    /// Tokens it has to compute, as well as can be told.
    pub uncached_tokens: usize,
    /// Why this pod.
    pub reason: Reason,
}

/// Why a request went where it went: every pod that was considered, with what was known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The profile that decided.
    pub profile: String,
    /// Its picker.
    pub picker: String,
    /// Length of the prompt, tokens; of a text, an estimate.
    pub prompt_tokens: usize,
    /// Why the request's session named no pod, where it has a session and did not.
    pub session: Option<&'static str>,
    /// Row of the pod that was taken, in `pods`; `None` if every one was dropped.
    pub picked: Option<usize>,
    /// Why that one: "picked", "spilled" or "warm-up".
    pub reason: &'static str,
    /// Row of the pod that the picker picked, where something else was taken.
    pub overruled: Option<usize>,
    /// Why it is not used after all, of a pod that would prefill.
    pub unused: Option<&'static str>,
    /// Rows of the next best pods, where the profile asks for them.
    pub fallbacks: Vec<usize>,
    /// Number of pods that were not considered.
    pub not_sampled: usize,
    /// The pods that were considered.
    pub pods: Vec<PodExplanation>,
    /// The same for the pod that prefills, where one was looked for.
    pub prefill: Option<Box<Explanation>>,
}

/// One pod's part in a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PodExplanation {
    /// Its id, as a number.
    pub id: u64,
    /// Its name.
    pub pod: String,
    /// Its data-parallel rank.
    pub dp_rank: u32,
    /// Its role.
    pub role: &'static str,
    /// How far its view is to be believed: "exact", "degraded", "approximate" or "load-only".
    pub trust: &'static str,
    /// Tokens a block.
    pub block_size: u32,
    /// Blocks of the prompt it could have held at most.
    pub searchable_blocks: u32,
    /// Leading blocks it holds, by tier, nearest first; tiers without any are left out.
    pub matched_blocks: Vec<(&'static str, u32)>,
    /// Leading blocks that this router sent to it.
    pub predicted_blocks: u32,
    /// Leading blocks that this router sent to it a moment ago.
    pub speculative_blocks: u32,
    /// Leading blocks that the request says it has; `matched_blocks` has them, too.
    pub known_blocks: u32,
    /// Tokens it has to compute, as well as can be told.
    pub uncached_tokens: usize,
    /// What this router had in flight on it.
    pub booked: Bookings,
    /// What it last said of its load.
    pub load: Option<LoadReport>,
    /// Requests it has, as well as can be told.
    pub in_flight: u64,
    /// Its capacity.
    pub capacity: f64,
    /// Whether its last load report reached the router's bounds.
    pub overloaded: bool,
    /// How it stands to the adapter that the request asks for.
    pub adapter: Option<AdapterFit>,
    /// The filter that dropped it.
    pub dropped_by: Option<String>,
    /// Each scorer's part; empty if it was dropped.
    pub scores: Vec<ScoreExplanation>,
    /// Their weighted sum.
    pub total: f64,
    /// Why nothing is matched, where nothing is.
    pub note: Option<String>,
}

/// One scorer's part in a pod's total.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreExplanation {
    /// The scorer.
    pub scorer: String,
    /// What it said, 0..=1.
    pub value: f64,
    /// What that counts.
    pub weight: f64,
}

impl fmt::Display for Explanation {
    /// A line a pod, the picked one marked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "prompt of {} tokens, profile {}, picker {}",
            self.prompt_tokens, self.profile, self.picker
        )?;
        for (row, pod) in self.pods.iter().enumerate() {
            let mark = if self.picked == Some(row) { '>' } else { ' ' };
            let matched: u32 = pod.matched_blocks.iter().map(|m| m.1).sum();
            let name = match pod.dp_rank {
                0 => pod.pod.clone(),
                rank => alloc::format!("{}/{rank}", pod.pod),
            };
            write!(f, "{mark} {name:<16} {:>8.3}  {matched}/{} blocks", pod.total, pod.searchable_blocks)?;
            for (tier, blocks) in &pod.matched_blocks {
                write!(f, " {tier} {blocks}")?;
            }
            if pod.predicted_blocks > 0 {
                write!(f, " predicted {}", pod.predicted_blocks)?;
            }
            if pod.speculative_blocks > matched {
                write!(f, " expected {}", pod.speculative_blocks)?;
            }
            if pod.known_blocks > 0 {
                write!(f, " hearsay {}", pod.known_blocks)?;
            }
            for score in &pod.scores {
                write!(f, "  {} {:.3} x {}", score.scorer, score.value, score.weight)?;
            }
            if let Some(filter) = &pod.dropped_by {
                write!(f, "  dropped by {filter}")?;
            }
            if self.picked == Some(row) && self.overruled.is_some() {
                write!(f, "  ({})", self.reason)?;
            }
            if self.overruled == Some(row) {
                write!(f, "  (overruled)")?;
            }
            if pod.trust != "exact" {
                write!(f, "  ({})", pod.trust)?;
            }
            if let Some(note) = &pod.note {
                write!(f, "  {note}")?;
            }
            writeln!(f)?;
        }
        if self.not_sampled > 0 {
            writeln!(f, "{} pods were not looked at", self.not_sampled)?;
        }
        if let Some(unused) = self.unused {
            writeln!(f, "not used: {unused}")?;
        }
        if let Some(session) = self.session {
            writeln!(f, "session: {session}")?;
        }
        match &self.prefill {
            Some(prefill) => write!(f, "{prefill}"),
            None => Ok(()),
        }
    }
}
