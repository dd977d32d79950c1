//! Rows: medians over repetitions, and kvroute's ratio to the best peer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::median;
use crate::subject::Kind;
use crate::workload::{Better, Measure, Workload};

/// Values of one figure, by subject.
pub type Values = BTreeMap<Kind, Vec<f64>>;

/// One figure of a workload for all subjects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The workload.
    pub workload: String,
    /// The figure.
    pub measure: String,
    /// Its unit.
    pub unit: String,
    /// kvroute's median.
    pub kvroute: f64,
    /// The peers' medians.
    pub peers: BTreeMap<String, f64>,
    /// Those of the yardsticks that are no peers.
    pub others: BTreeMap<String, f64>,
    /// Least and largest value of each subject.
    pub spread: BTreeMap<String, (f64, f64)>,
    /// How many times better than the best peer kvroute is; above 1 is better. Absent where a value is 0 or no peer
    /// takes part.
    pub ratio_to_best_peer: Option<f64>,
    /// Least and largest of that ratio, repetition by repetition, to the same peer.
    pub ratio_spread: Option<(f64, f64)>,
    /// The ratio aimed at.
    pub target: Option<f64>,
}

impl Row {
    /// The row of these values; `None` if kvroute has none.
    #[must_use]
    pub fn new(workload: &Workload, measure: &Measure, values: &Values) -> Option<Self> {
        let medians: BTreeMap<Kind, f64> =
            values.iter().map(|(&kind, values)| (kind, median(values.clone()))).collect();
        let kvroute = *medians.get(&Kind::Kvroute)?;
        let those = |are_peers: bool| {
            let of = medians
                .iter()
                .filter(move |(kind, _)| **kind != Kind::Kvroute && kind.is_peer() == are_peers);
            of.map(|(kind, &value)| (kind.name().to_owned(), value)).collect::<BTreeMap<_, _>>()
        };
        let peers = medians.iter().filter(|(kind, _)| kind.is_peer());
        let best =
            peers.reduce(|one, other| if measure.better.is_better(*other.1, *one.1) { other } else { one });
        Some(Self {
            workload: workload.name.to_owned(),
            measure: measure.name.to_owned(),
            unit: measure.unit.to_owned(),
            kvroute,
            ratio_to_best_peer: best.and_then(|(_, &best)| ratio(measure.better, kvroute, best)),
            ratio_spread: best.and_then(|(best, _)| {
                let both = values[&Kind::Kvroute].iter().zip(&values[best]);
                let ratios: Option<Vec<_>> =
                    both.map(|(own, best)| ratio(measure.better, *own, *best)).collect();
                ratios.map(|ratios| spread(&ratios))
            }),
            peers: those(true),
            others: those(false),
            spread: values.iter().map(|(kind, values)| (kind.name().to_owned(), spread(values))).collect(),
            target: measure.target,
        })
    }

    /// A subject's median.
    #[must_use]
    pub fn value(&self, kind: Kind) -> Option<f64> {
        match kind {
            Kind::Kvroute => Some(self.kvroute),
            other => self.peers.get(other.name()).or(self.others.get(other.name())).copied(),
        }
    }

    /// Whether the ratio falls short of what is aimed at.
    #[must_use]
    pub fn misses(&self) -> bool {
        self.ratio_to_best_peer.zip(self.target).is_some_and(|(ratio, target)| ratio < target)
    }
}

/// How many times better kvroute is.
fn ratio(better: Better, kvroute: f64, best: f64) -> Option<f64> {
    if kvroute <= 0.0 || best <= 0.0 {
        return None;
    }
    Some(if better == Better::Lower { best / kvroute } else { kvroute / best })
}

/// The least and the largest.
fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::ALL;

    fn row(better: Better, kvroute: f64, values: &[(Kind, f64)]) -> Row {
        let measure = Measure { name: "x", unit: "ns", better, target: Some(2.0) };
        let mut all: Values = values.iter().map(|&(kind, value)| (kind, vec![value; 3])).collect();
        all.insert(Kind::Kvroute, vec![kvroute, 1000.0, 0.5]);
        Row::new(ALL[0], &measure, &all).unwrap()
    }

    #[test]
    fn the_ratio_is_that_of_the_medians_to_the_best_peer_and_its_spread_that_of_the_repetitions() {
        let row = row(Better::Lower, 10.0, &[(Kind::Crtc, 50.0), (Kind::ChainIndex, 15.0)]);
        assert_eq!((row.kvroute, row.ratio_to_best_peer, row.misses()), (10.0, Some(1.5), true));
        assert_eq!((row.spread["kvroute"], row.ratio_spread), ((0.5, 1000.0), Some((0.015, 30.0))));
    }

    #[test]
    fn rates_are_better_when_they_are_higher() {
        let row = row(Better::Higher, 10.0, &[(Kind::Crtc, 5.0), (Kind::ChainIndex, 2.0)]);
        assert_eq!((row.ratio_to_best_peer, row.misses()), (Some(2.0), false));
    }

    #[test]
    fn yardsticks_are_no_peers() {
        let row = row(Better::Lower, 10.0, &[(Kind::Dashmap, 1.0), (Kind::Oracle, 2.0)]);
        assert_eq!((row.ratio_to_best_peer, row.misses()), (None, false));
        assert_eq!(row.others.len(), 2);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        assert_eq!(row(Better::Lower, 10.0, &[(Kind::Crtc, 0.0)]).ratio_to_best_peer, None);
    }
}
