//! One workload at one load: every policy's figures, and how they compare.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Candidate, Interval, Measured, Routing, Workload};

/// A figure by which policies are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// [`Measured::hit_rate`].
    HitRate,
    /// [`Measured::ttft_p50`], milliseconds.
    TtftP50,
    /// [`Measured::ttft_p90`], milliseconds.
    TtftP90,
    /// [`Measured::ttft_p99`], milliseconds.
    TtftP99,
    /// [`Measured::end_to_end_p50`], milliseconds.
    EndToEndP50,
    /// [`Measured::inter_token_p50`], milliseconds.
    InterTokenP50,
    /// [`Measured::request_spread`].
    RequestSpread,
    /// [`Measured::busy_spread`].
    BusySpread,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::HitRate,
        Self::TtftP50,
        Self::TtftP90,
        Self::TtftP99,
        Self::EndToEndP50,
        Self::InterTokenP50,
        Self::RequestSpread,
        Self::BusySpread,
    ];

    /// Its value in one run.
    #[must_use]
    pub fn of(self, run: &Measured) -> f64 {
        match self {
            Self::HitRate => run.hit_rate,
            Self::TtftP50 => run.ttft_p50,
            Self::TtftP90 => run.ttft_p90,
            Self::TtftP99 => run.ttft_p99,
            Self::EndToEndP50 => run.end_to_end_p50,
            Self::InterTokenP50 => run.inter_token_p50,
            Self::RequestSpread => run.request_spread,
            Self::BusySpread => run.busy_spread,
        }
    }

    /// Whether `one` is better than `other`: hit rates are better the higher, all else the lower.
    #[must_use]
    pub fn is_better(self, one: f64, other: f64) -> bool {
        if self == Self::HitRate { one > other } else { one < other }
    }
}

/// A figure of one policy in one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// Mean over the seeds, with its interval.
    #[serde(flatten)]
    pub value: Interval,
    /// Whether no policy of the cell has a better mean.
    pub is_best: bool,
    /// Whether the best one's lead over it could be chance: 0 lies in the 95 % interval of the differences,
    /// seed by seed.
    pub is_tied: bool,
}

/// One policy in one cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub policy: String,
    /// Whether it is kvroute.
    pub is_kvroute: bool,
    /// Its figures.
    pub figures: BTreeMap<Metric, Figure>,
    /// Whether no other policy of the cell has both a higher hit rate and engines that are more evenly busy:
    /// the Pareto front.
    pub is_on_front: bool,
    /// Requests that failed, all seeds together.
    pub failed: usize,
    /// Its runs, a seed each.
    pub runs: Vec<Measured>,
}

/// One workload at one load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The workload's name.
    pub workload: String,
    /// What it is.
    pub what: String,
    /// The load's name.
    pub load: String,
    /// Arrivals a second.
    pub rate: f64,
    /// Hit rate of one cache of unlimited size.
    pub bound: Interval,
    /// The policies, in the order in which they were given.
    pub rows: Vec<Row>,
}

impl Row {
    /// One of its figures.
    #[must_use]
    pub fn figure(&self, metric: Metric) -> Figure {
        self.figures.get(&metric).copied().unwrap_or_default()
    }

    /// The mean of one of its figures.
    #[must_use]
    pub fn mean(&self, metric: Metric) -> f64 {
        self.figure(metric).value.mean
    }

    /// What only kvroute can say: means over the seeds, and all mismatches.
    #[must_use]
    pub fn routing(&self) -> Option<Routing> {
        let all: Vec<&Routing> = self.runs.iter().filter_map(|run| run.routing.as_ref()).collect();
        let mean =
            |of: fn(&Routing) -> f64| all.iter().map(|routing| of(routing)).sum::<f64>() / all.len() as f64;
        (!all.is_empty()).then(|| Routing {
            mismatches: all.iter().map(|routing| routing.mismatches).sum(),
            overhead_us_p50: mean(|routing| routing.overhead_us_p50),
            overhead_us_p99: mean(|routing| routing.overhead_us_p99),
        })
    }

    /// One of its figures, run by run.
    #[must_use]
    pub fn values(&self, metric: Metric) -> Vec<f64> {
        self.runs.iter().map(|run| metric.of(run)).collect()
    }
}

impl Cell {
    /// `runs`: bound and measurements, seed by seed and in each the candidates in order.
    pub(super) fn new(
        workload: &Workload,
        (load, rate): &(String, f64),
        candidates: &[Candidate],
        runs: &[(f64, Measured)],
    ) -> Self {
        let bounds: Vec<f64> = runs.iter().step_by(candidates.len()).map(|(bound, _)| *bound).collect();
        let row = |(place, candidate): (usize, &Candidate)| {
            let of_it = runs.iter().skip(place).step_by(candidates.len());
            let runs: Vec<Measured> = of_it.map(|(_, run)| run.clone()).collect();
            Row {
                policy: candidate.name.clone(),
                is_kvroute: candidate.is_kvroute(),
                figures: BTreeMap::new(),
                is_on_front: false,
                failed: runs.iter().map(|run| run.failed).sum(),
                runs,
            }
        };
        let mut rows: Vec<Row> = candidates.iter().enumerate().map(row).collect();
        for metric in Metric::ALL {
            compare(&mut rows, metric);
        }
        mark_front(&mut rows);
        Self {
            workload: workload.name.into(),
            what: workload.what.into(),
            load: load.clone(),
            rate: *rate,
            bound: Interval::of(&bounds),
            rows,
        }
    }

    /// A policy's row.
    #[must_use]
    pub fn row(&self, policy: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.policy == policy)
    }

    /// The best mean of a figure.
    #[must_use]
    pub fn best(&self, metric: Metric) -> f64 {
        self.rows.iter().find(|row| row.figure(metric).is_best).map_or(0.0, |row| row.mean(metric))
    }
}

/// Fills in one figure of all rows.
fn compare(rows: &mut [Row], metric: Metric) {
    let values: Vec<Vec<f64>> = rows.iter().map(|row| row.values(metric)).collect();
    let intervals: Vec<Interval> = values.iter().map(|values| Interval::of(values)).collect();
    let mut best = 0;
    for place in 1..rows.len() {
        if metric.is_better(intervals[place].mean, intervals[best].mean) {
            best = place;
        }
    }
    for (place, row) in rows.iter_mut().enumerate() {
        let value = intervals[place];
        let is_best = value.mean == intervals[best].mean;
        let is_tied = is_best || Interval::paired(&values[place], &values[best]).holds_zero();
        row.figures.insert(metric, Figure { value, is_best, is_tied });
    }
}

/// Finds the policies that no other beats in hit rate and balance at once.
fn mark_front(rows: &mut [Row]) {
    let points: Vec<(f64, f64)> =
        rows.iter().map(|row| (row.mean(Metric::HitRate), row.mean(Metric::BusySpread))).collect();
    for (row, &(hits, spread)) in rows.iter_mut().zip(&points) {
        let beats = |&(other_hits, other_spread): &(f64, f64)| {
            other_hits >= hits && other_spread <= spread && (other_hits, other_spread) != (hits, spread)
        };
        row.is_on_front = !points.iter().any(beats);
    }
}
