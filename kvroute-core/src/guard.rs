//! What may overrule a picker: spilling over from a busy pod, and warming a new one up.

use crate::Error;
use crate::candidate::{Candidate, Candidates};
use crate::pick::lot;

/// Spills over from a pod that is much busier than the others.
///
/// If the picked pod's requests (by capacity) exceed both `relative * mean` and
/// `mean + min(absolute, max(4, ceil(2 * sqrt(mean))))`, the least busy pod takes the request instead. That one will
/// have the prompt's prefix from then on: a hot prefix spreads over as many pods as it needs, but over
/// `max_replicas` at most. Once so many pods are expected to have at least half of what the picked one has, only the
/// least busy of *them* is spilled to.
///
/// SMG 1.13's spill gate, which has no bound on replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadGuard {
    relative: f64,
    absolute: f64,
    max_replicas: u32,
}

impl Default for LoadGuard {
    /// Half more than the mean, 32 requests more than the mean at most, any number of replicas.
    fn default() -> Self {
        Self { relative: 1.5, absolute: 32.0, max_replicas: u32::MAX }
    }
}

impl LoadGuard {
    /// With these bounds. `absolute`: requests.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `relative` is not finite or below 1, or `max_replicas` is 0.
    pub fn new(relative: f64, absolute: u32, max_replicas: u32) -> Result<Self, Error> {
        if !relative.is_finite() || relative < 1.0 {
            return Err(Error::invalid(alloc::format!("load guard: relative is 1 or more, not {relative}")));
        }
        if max_replicas == 0 {
            return Err(Error::invalid("load guard: max_replicas is 1 or more, not 0"));
        }
        Ok(Self { relative, absolute: f64::from(absolute), max_replicas })
    }

    /// The row to spill over to, where the pod of row `picked` is too busy.
    pub(crate) fn spill(&self, candidates: &Candidates<'_>, picked: usize, draw: u64) -> Option<usize> {
        let mean = candidates.iter().map(|pod| pod.relative_load()).sum::<f64>() / candidates.len() as f64;
        let winner = candidates.iter().nth(picked)?;
        let margin = libm::ceil(2.0 * libm::sqrt(mean)).max(4.0).min(self.absolute);
        let load = winner.relative_load();
        if load <= self.relative * mean || load <= mean + margin {
            return None;
        }
        let enough = winner.cached_share() / 2.0;
        let is_replica = |share: f64| enough > 0.0 && share >= enough;
        let replicas = candidates.iter().filter(|pod| is_replica(pod.cached_share())).count();
        let only_replicas = replicas >= self.max_replicas as usize;
        let pool = candidates.iter().enumerate();
        let pool = pool.filter(|(_, pod)| !only_replicas || is_replica(pod.cached_share()));
        least_busy(pool, draw).filter(|&row| row != picked)
    }
}

/// Sends a share of the requests of which no pod has much to pods that are new, so that they get prefixes of their
/// own before everybody's are elsewhere.
///
/// A request counts if no pod is expected to have half of its prompt. A pod is new while this router has sent fewer
/// than `tokens` of prefill work to it. Of the requests that count, `share` (by lot) go to the least busy new pod, if the
/// picked one is not new itself.
///
/// After SMG 1.13's warm-up slice: a quarter of the misses, for 1024 blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    share: f64,
    tokens: u64,
}

impl Default for WarmUp {
    /// A quarter, 16 384 tokens.
    fn default() -> Self {
        Self { share: 0.25, tokens: 16_384 }
    }
}

impl WarmUp {
    /// With this share of the requests, until this many tokens of prefill work.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `share` is not in 0..=1.
    pub fn new(share: f64, tokens: u64) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::invalid(alloc::format!("warm-up: share is 0 to 1, not {share}")));
        }
        Ok(Self { share, tokens })
    }

    /// The row of the new pod that gets the request instead of that of row `picked`.
    pub(crate) fn divert(&self, candidates: &Candidates<'_>, picked: usize, draw: u64) -> Option<usize> {
        // A number of the request's own, apart from those that decide ties between pods.
        let number = (draw ^ draw >> 32) as u32;
        let is_drawn = f64::from(number) < self.share * (u64::from(u32::MAX) + 1) as f64;
        let is_new = |row: usize| candidates.iter().nth(row).is_some_and(|p| p.ever_booked() < self.tokens);
        if !is_drawn || is_new(picked) || candidates.iter().any(|pod| pod.cached_share() >= 0.5) {
            return None;
        }
        let new = candidates.iter().enumerate().filter(|(_, pod)| pod.ever_booked() < self.tokens);
        least_busy(new, draw)
    }
}

fn least_busy<'a>(pods: impl Iterator<Item = (usize, Candidate<'a>)>, draw: u64) -> Option<usize> {
    let by_load = |a: &(usize, Candidate<'a>), b: &(usize, Candidate<'a>)| {
        let (a, b) = (&a.1, &b.1);
        let lots = || lot(a.pod().id(), draw).cmp(&lot(b.pod().id(), draw));
        a.relative_load().total_cmp(&b.relative_load()).then_with(lots)
    };
    pods.min_by(by_load).map(|(row, _)| row)
}
