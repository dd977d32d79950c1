//! A measured experiment beside its simulation, and kvroute in the same place.

use kvroute_sim::fleet::{self, MEASURED, Row, Strategy, Summary, ThreePods};

use super::kvroute;
use crate::capture::Result;

/// What kvroute makes of the experiment at one rate.
#[derive(Clone, Copy, Debug)]
pub struct WithKvroute {
    /// Arrivals a second.
    pub rate: f64,
    /// Mean over the runs.
    pub summary: Summary,
}

/// The experiment's rows, and kvroute on the same pods under the same load: only simulated, for it was not among
/// the policies measured.
///
/// # Errors
///
/// None that these options could bring about.
pub fn three_pods() -> Result<(Vec<Row>, Vec<WithKvroute>)> {
    let experiment = ThreePods::default();
    let rates = MEASURED.iter().filter(|row| row.strategy == Strategy::Sticky).map(|row| row.rate);
    let with_kvroute = |rate: f64| {
        let of_seed = |seed: u64| -> Result<Summary> {
            let requests = experiment.load(rate, seed).requests();
            let records = fleet::run(&experiment.fleet()?, requests, &mut kvroute()?)?;
            Ok(Summary::of(&records[records.len() / 5..]))
        };
        let runs = (0..experiment.runs).map(of_seed).collect::<Result<Vec<_>>>()?;
        Ok(WithKvroute { rate, summary: Summary::mean(&runs) })
    };
    Ok((experiment.rows()?, rates.map(with_kvroute).collect::<Result<_>>()?))
}
