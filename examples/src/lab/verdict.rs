//! What all cells say of the default policy, in one line.

use serde::Serialize;

use super::{Baseline, Cell, Interval, Lab, Metric};

/// The workload in which nothing is shared.
const UNIQUE: &str = "unique";

/// A difference that nobody would notice: 3 %.
const UNNOTICED: f64 = 0.03;

/// How the default policy compares with the best of each cell. What needs a policy or workload that was left out
/// is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The default policy's preset.
    pub default_preset: &'static str,
    /// By how much its hit rate is below the best one's, 0 to 1, where that is most.
    pub worst_hit_rate_gap_to_best: Option<f64>,
    /// Its median time to first token, divided by the best one's, where that is most.
    pub worst_ttft_p50_ratio_to_best: Option<f64>,
    /// The same for the 99th percentile.
    pub worst_ttft_p99_ratio_to_best: Option<f64>,
    /// Whether, where nothing is shared, its median and 99th percentile of the time to first token are nowhere
    /// above the least loaded pod's by more than 3 % and more than the 95 % interval of the differences.
    pub never_worse_than_least_loaded: Option<bool>,
    /// How far the simulation of the measured experiment is off: the largest |simulated / measured - 1|.
    pub h200_table_max_error: Option<f64>,
}

impl Verdict {
    /// Of these results.
    #[must_use]
    pub fn of(lab: &Lab) -> Self {
        let default = lab.default_preset;
        let worst = |of_cell: fn(&Cell, f64, Metric) -> f64, metric: Metric| {
            let cells = lab.cells.iter();
            let values =
                cells.filter_map(|cell| Some(of_cell(cell, cell.row(default)?.mean(metric), metric)));
            values.max_by(f64::total_cmp)
        };
        let ratio = |cell: &Cell, mean: f64, metric: Metric| mean / cell.best(metric);
        let unique = lab.cells.iter().filter(|cell| cell.workload == UNIQUE);
        let compared: Vec<bool> = unique.filter_map(|cell| never_worse(cell, default)).collect();
        Self {
            default_preset: default,
            worst_hit_rate_gap_to_best: worst(|cell, mean, metric| cell.best(metric) - mean, Metric::HitRate),
            worst_ttft_p50_ratio_to_best: worst(ratio, Metric::TtftP50),
            worst_ttft_p99_ratio_to_best: worst(ratio, Metric::TtftP99),
            never_worse_than_least_loaded: (!compared.is_empty())
                .then(|| compared.iter().all(|&holds| holds)),
            h200_table_max_error: lab.experiment_error,
        }
    }
}

/// Whether a policy is not slower than the least loaded pod; `None` if one of them did not run.
fn never_worse(cell: &Cell, policy: &str) -> Option<bool> {
    let (row, least_loaded) = (cell.row(policy)?, cell.row(Baseline::LeastLoaded.name())?);
    Some([Metric::TtftP50, Metric::TtftP99].into_iter().all(|metric| {
        let difference = Interval::paired(&row.values(metric), &least_loaded.values(metric));
        difference.mean <= difference.half.max(UNNOTICED * least_loaded.mean(metric))
    }))
}
