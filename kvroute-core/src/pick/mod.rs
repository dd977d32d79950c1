//! Pickers: from totals to one pod.
//!
//! A picker is pure: all randomness is a hash of the profile's seed, the request's nonce and the pod. So a choice can be
//! made again, is spread over pods, and no pod's luck depends on which others are there.

mod random;

use core::cmp::Ordering;
use core::fmt::Debug;

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use random::{PowerOfTwoPicker, SoftmaxPicker, WeightedRandomPicker};

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
    /// The same as a share of what it could be at most, the sum of all weights; 0..=1.
    pub share: f64,
}

/// Chooses among scored pods. `draw` is a hash of the profile's seed and the request's nonce.
pub trait Picker: Debug + Send + Sync {
    /// Name in explanations.
    fn name(&self) -> &str;

    /// The row of the pod to use; `None` if there is none. `pods`: `[n]`, in the order of their rows.
    fn pick(&self, pods: &[Scored], draw: u64) -> Option<usize>;
}

/// The highest total. Even totals are decided by hashing the draw with the pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaxScorePicker;

impl Picker for MaxScorePicker {
    fn name(&self) -> &'static str {
        "max-score"
    }

    fn pick(&self, pods: &[Scored], draw: u64) -> Option<usize> {
        pods.iter().max_by(|a, b| better(a, b, draw)).map(|pod| pod.row)
    }
}

/// A number that is the pod's alone in this draw.
pub(crate) fn lot(pod: PodId, draw: u64) -> u64 {
    let identity = (pod.slot() as u64) << 32 | u64::from(pod.generation());
    xxh3_64_with_seed(&identity.to_le_bytes(), draw)
}

/// Orders by total, and even totals by lot.
fn better(a: &Scored, b: &Scored, draw: u64) -> Ordering {
    a.total.total_cmp(&b.total).then_with(|| lot(a.pod, draw).cmp(&lot(b.pod, draw)))
}
