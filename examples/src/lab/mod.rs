//! Policies compared: kvroute's presets, configurations that are tried, and policies that know no caches, on
//! workloads of many kinds at several loads, on simulated pods.
//!
//! A *cell* is one workload at one load. All policies of a cell get the same requests, seed by seed, so
//! differences between them are taken in pairs. Runs share nothing: they are spread over threads, and what comes
//! out does not depend on how many there are.
//!
//! # What is compared
//!
//! Hit rate, time to first token, balance, and failures ([`Measured`]), as means over seeds with 95 % intervals
//! ([`Interval`]); which policies no other beats in hit rate and balance at once; and what one cache of unlimited
//! size would have held, which bounds every hit rate.
//!
//! Everybody is told the session, as clients that send a session id would do: kvroute and the session hash
//! alike.

mod cell;
mod policy;
mod queue;
pub mod report;
mod run;
mod statistics;
mod verdict;
mod workload;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kvroute_sim::fleet::{MEASURED, Row as Measurement, Summary, ThreePods};
use kvroute_sim::workload::MooncakeTrace;
use serde::Serialize;

pub use cell::{Cell, Figure, Metric, Row};
pub use policy::{Baseline, Candidate, Kind, default_preset};
pub use run::{Measured, QUANTILES, Routing, WINDOWS, run};
pub use statistics::Interval;
pub use verdict::Verdict;
pub use workload::{LOADS, Scene, WORKLOADS, Workload, committed_trace};

use crate::capture::Result;

/// Share of the requests, first come, that figures leave out: caches fill.
pub const WARM_UP: f64 = 0.2;

/// What is to be compared.
#[derive(Debug)]
pub struct Plan {
    /// What is asked, and how much of it.
    pub parts: Vec<Part>,
    /// The policies.
    pub candidates: Vec<Candidate>,
    /// Runs of each policy in each cell, with a seed each from 1 on.
    pub seeds: u64,
    /// Requests of a run, against the usual number.
    pub size: f64,
    /// Threads to run on.
    pub threads: usize,
    /// The trace that one of the workloads takes its requests from.
    pub trace: MooncakeTrace,
    /// Whether the measured experiment is simulated as well, to say how far the simulation is off.
    pub experiment: bool,
    /// Folder for the decision logs of kvroute's runs, a file each, if they are wanted.
    pub logs: Option<PathBuf>,
}

/// A workload to be run.
#[derive(Clone, Debug)]
pub struct Part {
    /// What is asked of which pods.
    pub workload: Workload,
    /// Its loads: a name and the arrivals a second.
    pub loads: Vec<(String, f64)>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lab {
    /// The preset that a router has without being told.
    pub default_preset: &'static str,
    /// Runs of each policy in each cell.
    pub seeds: u64,
    /// Requests of a run, against the usual number.
    pub size: f64,
    /// Every workload at every load.
    pub cells: Vec<Cell>,
    /// The largest |simulated / measured - 1| in the measured experiment, if it was simulated.
    pub experiment_error: Option<f64>,
}

/// One scene of the plan: made when its first run begins, dropped when its last one ended.
struct Slot<'a> {
    workload: &'a Workload,
    rate: f64,
    seed: u64,
    scene: Mutex<Option<Arc<Scene>>>,
    left: AtomicUsize,
}

/// What a thread brings back.
enum Answer {
    Experiment(f64),
    Run(f64, Box<Measured>),
}

impl Plan {
    /// How many pieces of work it has.
    #[must_use]
    pub fn work(&self) -> usize {
        let cells: usize = self.parts.iter().map(|part| part.loads.len()).sum();
        cells * self.seeds as usize * self.candidates.len() + self.experiments()
    }

    fn experiments(&self) -> usize {
        if self.experiment { MEASURED.len() } else { 0 }
    }

    /// Does it. `done` is called after each piece of work, on this thread.
    ///
    /// # Errors
    ///
    /// A policy that cannot be built, or an error of a router; no workload or no policy.
    pub fn run(&self, done: impl FnMut()) -> Result<Lab> {
        let candidates = self.candidates.len();
        let default_preset = default_preset().ok_or("the default policy is no preset")?;
        if candidates == 0 || self.parts.is_empty() || self.seeds == 0 {
            return Err("nothing to compare: no workload, no policy or no seed".into());
        }
        let cells =
            || self.parts.iter().flat_map(|part| part.loads.iter().map(move |load| (&part.workload, load)));
        let slots: Vec<Slot<'_>> = cells()
            .flat_map(|(workload, load)| (1..=self.seeds).map(move |seed| (workload, load.1, seed)))
            .map(|(workload, rate, seed)| Slot {
                workload,
                rate,
                seed,
                scene: Mutex::new(None),
                left: AtomicUsize::new(candidates),
            })
            .collect();
        let experiments = self.experiments();
        let work = |number: usize| -> Result<Answer> {
            let Some(number) = number.checked_sub(experiments) else { return experiment(number) };
            let slot = &slots[number / candidates];
            let scene = slot.scene(self)?;
            let candidate = &self.candidates[number % candidates];
            let log = self.logs.as_ref().map(|folder| folder.join(slot.log_name(candidate)));
            let measured = run(&scene, candidate, slot.seed, log.as_deref())?;
            slot.leave();
            Ok(Answer::Run(scene.bound, Box::new(measured)))
        };
        let answers = queue::spread(
            self.work(),
            self.threads,
            |number| work(number).map_err(|error| error.to_string()),
            done,
        )?;
        let (mut runs, mut experiment_error) = (Vec::new(), None::<f64>);
        for answer in answers {
            match answer {
                Answer::Experiment(error) => {
                    experiment_error = Some(experiment_error.unwrap_or(0.0).max(error));
                }
                Answer::Run(bound, measured) => runs.push((bound, *measured)),
            }
        }
        let cells = cells()
            .zip(runs.chunks(candidates * self.seeds as usize))
            .map(|((workload, load), runs)| Cell::new(workload, load, &self.candidates, runs))
            .collect();
        Ok(Lab { default_preset, seeds: self.seeds, size: self.size, cells, experiment_error })
    }
}

impl Slot<'_> {
    /// The scene; others who want it wait while it is made.
    fn scene(&self, plan: &Plan) -> Result<Arc<Scene>> {
        let mut scene = self.scene.lock().map_err(|_| "another thread panicked")?;
        if let Some(scene) = scene.as_ref() {
            return Ok(Arc::clone(scene));
        }
        let made = Arc::new(self.workload.scene(self.rate, plan.size, self.seed, &plan.trace)?);
        *scene = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Name of a candidate's decision log: workload, arrivals a second, policy, seed.
    fn log_name(&self, candidate: &Candidate) -> String {
        format!("{}-{}-{}-{}.jsonl", self.workload.name, self.rate, candidate.name, self.seed)
    }

    /// One of its runs has ended.
    fn leave(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1
            && let Ok(mut scene) = self.scene.lock()
        {
            *scene = None;
        }
    }
}

/// One row of the measured experiment: how far the simulation is off.
fn experiment(number: usize) -> Result<Answer> {
    let (experiment, measured) = (ThreePods::default(), MEASURED[number]);
    let runs = experiment.simulate(measured.rate, measured.strategy)?;
    let row = Measurement { measured, simulated: Summary::mean(&runs), runs };
    let errors = row.compared().map(|(_, measured, simulated)| (simulated / measured - 1.0).abs());
    Ok(Answer::Experiment(errors.fold(0.0, f64::max)))
}
