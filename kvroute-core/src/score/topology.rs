//! How near a pod is.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Scorer;
use crate::Error;
use crate::candidate::Candidates;

/// `1 - distance`, 0..=1, where the distance is that of the nearest level at which the pod and the place that asks
/// carry the same label, and 1 if they share none.
///
/// The place that asks is the pod that answers, where one is looked for that prefills: KV travels between the two.
/// Otherwise it is where the gateway stands ([`near`](Self::near)).
///
/// The default levels are those of llm-d-router ebab687's `topology-affinity-scorer`, by Kubernetes' well-known labels:
/// the same host 0, rack 0.8, zone 0.95, region 0.98.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologyScorer {
    /// Label and distance, nearest first.
    levels: Vec<(String, f64)>,
    near: BTreeMap<String, String>,
}

impl Default for TopologyScorer {
    fn default() -> Self {
        let levels = [
            ("kubernetes.io/hostname", 0.0),
            ("topology.kubernetes.io/rack", 0.8),
            ("topology.kubernetes.io/zone", 0.95),
            ("topology.kubernetes.io/region", 0.98),
        ];
        Self {
            levels: levels.map(|(label, distance)| (label.into(), distance)).into(),
            near: BTreeMap::new(),
        }
    }
}

impl TopologyScorer {
    /// Labels with the distance of pods that share them; in any order, each once.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for no level, a label that is there twice, and a distance that is not in 0..=1.
    pub fn new(levels: impl IntoIterator<Item = (String, f64)>) -> Result<Self, Error> {
        let mut levels: Vec<_> = levels.into_iter().collect();
        if levels.is_empty() {
            return Err(Error::invalid("topology scorer: no level"));
        }
        for (at, (label, distance)) in levels.iter().enumerate() {
            if !(0.0..=1.0).contains(distance) {
                return Err(Error::invalid(format!("topology scorer: \"{label}\": 0 to 1, not {distance}")));
            }
            if levels[..at].iter().any(|(other, _)| other == label) {
                return Err(Error::invalid(format!("topology scorer: \"{label}\" is there twice")));
            }
        }
        levels.sort_by(|a, b| a.1.total_cmp(&b.1));
        Ok(Self { levels, near: BTreeMap::new() })
    }

    /// The same with the labels of the place where the gateway stands.
    #[must_use]
    pub fn near(mut self, labels: BTreeMap<String, String>) -> Self {
        self.near = labels;
        self
    }
}

impl Scorer for TopologyScorer {
    fn name(&self) -> &'static str {
        "topology"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let place = candidates.peer().map_or(&self.near, |peer| peer.labels());
        for (candidate, score) in candidates.iter().zip(scores) {
            let labels = candidate.pod().labels();
            let is_shared = |label: &String| place.get(label).is_some_and(|v| labels.get(label) == Some(v));
            let nearest = self.levels.iter().find(|(label, _)| is_shared(label));
            *score = 1.0 - nearest.map_or(1.0, |(_, distance)| *distance);
        }
    }
}
