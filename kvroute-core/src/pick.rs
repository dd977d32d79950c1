//! Pickers: from totals to one pod.

use core::fmt::Debug;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::index::PodId;

/// A pod that may be picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Its row.
    pub row: usize,
    /// The pod.
    pub pod: PodId,
    /// Weighted sum of its scores.
    pub total: f64,
}

/// Chooses among scored pods. Pure: all randomness comes from `draw`, a hash of the profile's seed and
/// the request's nonce.
pub trait Picker: Debug + Send + Sync {
    /// Name in explanations.
    fn name(&self) -> &str;

    /// The row of the pod to use; `None` if there is none.
    fn pick(&self, pods: &mut dyn Iterator<Item = Scored>, draw: u64) -> Option<usize>;
}

/// The highest total. Even totals are decided by hashing the draw with the pod: reproducible, spread over
/// pods, and the same whichever other pods there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaxScorePicker;

impl Picker for MaxScorePicker {
    fn name(&self) -> &'static str {
        "max-score"
    }

    fn pick(&self, pods: &mut dyn Iterator<Item = Scored>, draw: u64) -> Option<usize> {
        let ticket = |pod: PodId| {
            let identity = (pod.slot() as u64) << 32 | u64::from(pod.generation());
            xxh3_64_with_seed(&identity.to_le_bytes(), draw)
        };
        let better = |pod: &Scored, best: &Scored| {
            pod.total > best.total || (pod.total == best.total && ticket(pod.pod) > ticket(best.pod))
        };
        let best = pods.reduce(|best, pod| if better(&pod, &best) { pod } else { best });
        best.map(|pod| pod.row)
    }
}
