//! What a matched block counts for.

use alloc::format;

use crate::index::{TierBlocks, TrustLevel};
use crate::{Error, Tier};

/// What a matched block counts for: by where it lies, and by how far the pod's view is to be believed. Each is 0..=1,
/// and they multiply.
///
/// Default tier credits are vllm-router 0.1.17's (device 1, host 0.8, external 0.6, disk 0.3). Default trust credits:
/// exact 1, degraded 0.9, so that among equal matches the one that is sure wins, approximate 0.5, load-only 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Credits {
    tiers: [f64; Tier::ALL.len()],
    trust: [f64; TrustLevel::ALL.len()],
}

impl Default for Credits {
    fn default() -> Self {
        let mut credits = Self { tiers: [0.0; Tier::ALL.len()], trust: [0.0; TrustLevel::ALL.len()] };
        for (tier, credit) in [(Tier::Gpu, 1.0), (Tier::Cpu, 0.8), (Tier::Disk, 0.3), (Tier::External, 0.6)] {
            credits.tiers[tier as usize] = credit;
        }
        let trust = [(TrustLevel::Exact, 1.0), (TrustLevel::Degraded, 0.9), (TrustLevel::Approximate, 0.5)];
        for (level, credit) in trust {
            credits.trust[level as usize] = credit;
        }
        credits
    }
}

impl Credits {
    /// The same with another credit for a tier.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `credit` is not in 0..=1.
    pub fn with_tier(mut self, tier: Tier, credit: f64) -> Result<Self, Error> {
        self.tiers[tier as usize] = share(credit, tier.name())?;
        Ok(self)
    }

    /// The same with another credit for a trust level.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `credit` is not in 0..=1.
    pub fn with_trust(mut self, level: TrustLevel, credit: f64) -> Result<Self, Error> {
        self.trust[level as usize] = share(credit, level.name())?;
        Ok(self)
    }

    /// What these blocks count for in a view of this trust level; blocks.
    #[must_use]
    pub fn of(&self, blocks: TierBlocks, trust: TrustLevel) -> f64 {
        let blocks =
            Tier::ALL.iter().map(|&tier| self.tiers[tier as usize] * f64::from(blocks.in_tier(tier)));
        self.trust[trust as usize] * blocks.sum::<f64>()
    }
}

fn share(credit: f64, of: &str) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&credit) {
        return Ok(credit);
    }
    Err(Error::invalid(format!("credit of {of}: 0 to 1, not {credit}")))
}
