//! The work that is measured, each piece declared in one place: who takes part, what is measured, what is aimed at.

mod decide;
mod eviction;
mod fleet;
mod hash;
mod heap;
mod instructions;
mod raw;
mod scale;
mod table;
mod trace;
mod tree;

use std::path::PathBuf;

use crate::change::Change;
use crate::measure::Reading;
use crate::subject::{Kind, Subject};

pub use self::instructions::{COUNTED_ITEMS, MOST_PASSES};

/// What a child is told besides workload and subject.
#[derive(Clone, Debug)]
pub struct Job {
    /// Smaller sizes.
    pub quick: bool,
    /// Distinguishes repetitions.
    pub seed: u64,
    /// Timed passes over the queries.
    pub passes: usize,
    /// Most threads of the workloads with several.
    pub threads: usize,
    /// A Mooncake trace; without one, the committed part.
    pub trace: Option<PathBuf>,
    /// Live bytes of the heap, in the binary that counts them.
    pub live: Option<fn() -> u64>,
}

impl Job {
    /// One size or the other.
    fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Times, bytes, errors.
    Lower,
    /// Rates.
    Higher,
}

impl Better {
    /// Whether one value is better than another.
    #[must_use]
    pub fn is_better(self, one: f64, other: f64) -> bool {
        match self {
            Self::Lower => one < other,
            Self::Higher => one > other,
        }
    }
}

/// One figure of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Its name within the workload.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which way it is better.
    pub better: Better,
    /// How many times better than the best peer kvroute is meant to be.
    pub target: Option<f64>,
}

const fn lower(name: &'static str, unit: &'static str, target: Option<f64>) -> Measure {
    Measure { name, unit, better: Better::Lower, target }
}

const fn higher(name: &'static str, unit: &'static str, target: Option<f64>) -> Measure {
    Measure { name, unit, better: Better::Higher, target }
}

/// What a child is run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Nothing in between: it takes its times.
    Time,
    /// The binary that counts its heap.
    Heap,
    /// Callgrind: it says nothing, and instructions are the difference that more passes make, for each of
    /// [`COUNTED_ITEMS`].
    Instructions,
}

/// A piece of work.
#[derive(Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// What it is, for the table.
    pub what: &'static str,
    /// Who takes part.
    pub subjects: &'static [Kind],
    /// What is measured.
    pub measures: &'static [Measure],
    /// How the parent comes by its figures.
    pub counts: Counts,
    /// Does it.
    pub run: fn(Kind, &Job, &mut Report) -> Result<(), String>,
}

/// All of them, in the order they are run.
pub const ALL: &[&Workload] = &[
    &table::SHORT,
    &table::MIDDLE,
    &table::LONG,
    &table::LONG_HASHES,
    &tree::TOKENS,
    &tree::HASHES,
    &trace::TAILS,
    &trace::RANDOM,
    &eviction::TAILS,
    &eviction::HEADS,
    &eviction::RANDOM,
    &fleet::HUNDRED,
    &fleet::THOUSAND,
    &fleet::ALL_SHARED,
    &fleet::UNSHARED,
    &heap::SHARED,
    &heap::SHARED_HASHES,
    &heap::UNSHARED,
    &heap::UNSHARED_HASHES,
    &heap::TRACE,
    &heap::IDLE,
    &raw::TOKENS,
    &raw::HASHES,
    &hash::HASH,
    &decide::IDLE,
    &decide::TOKENS_1K,
    &decide::TOKENS_8K,
    &decide::TOKENS_32K,
    &decide::TOKENS_128K,
    &decide::TOKENS_240K,
    &scale::SCALE,
    &instructions::LOOKUP_64,
    &instructions::LOOKUP_512,
    &instructions::LOOKUP_4096,
    &instructions::WRITE,
];

/// Which way a workload's figure is better; `None` if there is no such figure.
#[must_use]
pub fn better(workload: &str, measure: &str) -> Option<Better> {
    let workload = ALL.iter().find(|known| known.name == workload)?;
    workload.measures.iter().find(|known| known.name == measure).map(|measure| measure.better)
}

/// What a child found.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order they were taken.
    pub readings: Vec<Reading>,
}

impl Report {
    fn put(&mut self, measure: &str, value: f64) {
        self.readings.push(Reading { measure: measure.to_owned(), value });
    }
}

/// Applies changes, some hundred at a time; answers nanoseconds of processor time a block.
fn apply<S: Subject>(subject: &mut S, changes: &[Change<'_>]) -> f64 {
    let mut nanoseconds = 0;
    for piece in changes.chunks(512) {
        let events = piece.iter().map(|change| subject.event(change)).collect();
        nanoseconds += subject.apply(events).as_nanos();
    }
    let blocks: usize = changes.iter().map(Change::blocks).sum();
    nanoseconds as f64 / blocks as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_runs_for_everyone_and_fills_its_measures() {
        let job = Job { quick: true, seed: 3, passes: 1, threads: 2, trace: None, live: Some(|| 7) };
        // The small ones: this is about the declarations.
        let small = [
            &table::SHORT,
            &fleet::HUNDRED,
            &raw::TOKENS,
            &hash::HASH,
            &decide::TOKENS_1K,
            &heap::UNSHARED,
            &heap::IDLE,
        ];
        for workload in small {
            for &kind in workload.subjects {
                let mut report = Report::default();
                (workload.run)(kind, &job, &mut report).unwrap();
                let declared: Vec<_> = workload.measures.iter().map(|measure| measure.name).collect();
                let taken: Vec<_> = report.readings.iter().map(|reading| &*reading.measure).collect();
                assert_eq!(taken, declared, "{} {}", workload.name, kind.name());
                assert!(report.readings.iter().all(|reading| reading.value.is_finite()));
            }
        }
    }

    #[test]
    fn names_are_unique_and_kvroute_takes_part_in_everything() {
        let mut names: Vec<_> = ALL.iter().map(|workload| workload.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|workload| workload.subjects.contains(&Kind::Kvroute)));
    }

    #[test]
    fn whoever_does_not_take_part_is_refused_by_name() {
        let job = Job { quick: true, seed: 3, passes: 1, threads: 2, trace: None, live: None };
        let refused = (scale::SCALE.run)(Kind::Oracle, &job, &mut Report::default());
        assert_eq!(refused, Err("oracle is not part of this workload".to_owned()));
    }
}
