//! How much of the prompt a pod holds.

use super::Scorer;
use crate::candidate::Candidates;
use crate::index::TrustLevel;
use crate::{Error, Tier};

/// What a match counts in a view that proved wrong again and again.
const DOUBTED: f64 = 0.5;

/// `trust * sum over tiers of credit * matched blocks / searchable blocks`, 0..=1: 1 if the pod can take all
/// it could ever take from its device memory, 0 if it holds no leading block. `trust` is 1, but 0.5 for a
/// pod whose engine keeps having less than its events said (`TrustLevel::Approximate`).
///
/// An absolute share, not a min-max over pods, so that a small hit among misses stays small. Default credits
/// are vllm-router 0.1.17's (device 1, host 0.8, external 0.6, disk 0.3).
#[derive(Clone, Debug, PartialEq)]
pub struct KvCacheScorer {
    credits: [(Tier, f64); Tier::ALL.len()],
}

impl Default for KvCacheScorer {
    fn default() -> Self {
        Self { credits: [(Tier::Gpu, 1.0), (Tier::Cpu, 0.8), (Tier::Disk, 0.3), (Tier::External, 0.6)] }
    }
}

impl KvCacheScorer {
    /// The same with another credit for a tier.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `credit` is not in 0..=1.
    pub fn with_credit(mut self, tier: Tier, credit: f64) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&credit) {
            let name = tier.name();
            return Err(Error::invalid(alloc::format!("credit of tier {name}: 0 to 1, not {credit}")));
        }
        for known in self.credits.iter_mut().filter(|known| known.0 == tier) {
            known.1 = credit;
        }
        Ok(self)
    }
}

impl Scorer for KvCacheScorer {
    fn name(&self) -> &'static str {
        "kv-cache"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (candidate, score) in candidates.iter().zip(scores) {
            let trust = if candidate.trust() <= TrustLevel::Approximate { DOUBTED } else { 1.0 };
            *score = trust * candidate.credited_share(&self.credits);
        }
    }
}
