//! What a decision is, and why it came out that way.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::index::{PodId, TierBlocks};

/// Where a request should go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The pod.
    pub pod: PodId,
    /// Its weighted sum of scores.
    pub total: f64,
    /// Leading blocks it is expected to take from its cache.
    pub matched: TierBlocks,
    /// Tokens in those blocks.
    pub matched_tokens: usize,
    /// How many pods were considered, before filters.
    pub candidates: usize,
}

/// Why a request went where it went: every pod with what was known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The profile that decided.
    pub profile: String,
    /// Its picker.
    pub picker: String,
    /// Length of the prompt, tokens.
    pub prompt_tokens: usize,
    /// Row of the pod that was picked, in `pods`; `None` if every one was dropped.
    pub picked: Option<usize>,
    /// All pods.
    pub pods: Vec<PodExplanation>,
}

/// One pod's part in a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodExplanation {
    /// Its name.
    pub pod: String,
    /// Its data-parallel rank.
    pub dp_rank: u32,
    /// How far its view is to be believed: "exact", "degraded" or "load-only".
    pub trust: &'static str,
    /// Tokens a block.
    pub block_size: u32,
    /// Blocks of the prompt it could have held at most.
    pub searchable_blocks: u32,
    /// Leading blocks it holds, by tier, nearest first; tiers without any are left out.
    pub matched_blocks: Vec<(&'static str, u32)>,
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
            for score in &pod.scores {
                write!(f, "  {} {:.3} x {}", score.scorer, score.value, score.weight)?;
            }
            if let Some(filter) = &pod.dropped_by {
                write!(f, "  dropped by {filter}")?;
            }
            if pod.trust != "exact" {
                write!(f, "  ({})", pod.trust)?;
            }
            if let Some(note) = &pod.note {
                write!(f, "  {note}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
