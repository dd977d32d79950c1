//! A decision log under another policy: what would have gone elsewhere, and why.
//!
//! Every recorded decision is made again as it was: with the caches, loads and bookings of its moment. That is exact for
//! one decision. It is not a simulation: had a request gone elsewhere, later caches and loads would have been others.

mod change;
mod expectation;
mod lines;
mod report;

use std::io::BufRead;

use kvroute_core::record::{DecisionRecord, LogLine};
use kvroute_core::router::{Replay, Replayed};
use kvroute_core::{ErrorKind, Policy};

use crate::capture::Result;

pub use change::{Change, Route};
pub use expectation::Expectations;
pub use report::{BadLine, Move, Pair, PodShare, Report, Reproduced, Spread};

use expectation::Awaited;
use lines::Lines;

/// A log that is being read.
#[derive(Debug)]
pub struct WhatIf {
    policy: Policy,
    /// The policy that made the log.
    was: Option<Policy>,
    awaited: Awaited,
    report: Report,
}

impl WhatIf {
    /// Asks what `policy` would have decided; `was` is the policy that did decide, if it is known, and has to decide the
    /// same again.
    #[must_use]
    pub fn new(policy: Policy, was: Option<Policy>) -> Self {
        let report = Report { reproduced: was.as_ref().map(|_| Reproduced::default()), ..Report::default() };
        Self { policy, was, awaited: Awaited::default(), report }
    }

    /// Reads a log to its end. Memory does not grow with it.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or has no good line at all. Single bad lines are counted.
    pub fn read(mut self, log: impl BufRead) -> Result<Report> {
        let mut lines = Lines::new(log);
        while let Some((number, line)) = lines.next()? {
            let parsed = line.and_then(|line| LogLine::parse(line).map_err(|error| error.to_string()));
            if let Err(error) = parsed.and_then(|line| self.take(number, &line)) {
                self.report.note_bad(number, error);
            }
        }
        if self.report.decisions + self.report.outcomes == 0 {
            let first = self.report.bad.first().map(|bad| format!("; line {}: {}", bad.line, bad.error));
            return Err(format!("the log has no good line{}", first.unwrap_or_default()).into());
        }
        Ok(self.report.finished())
    }

    fn take(&mut self, number: usize, line: &LogLine) -> std::result::Result<(), String> {
        match line {
            LogLine::Decision(record) => self.decision(number, record).map_err(|error| error.to_string())?,
            LogLine::Outcome(outcome) => {
                self.report.outcomes += 1;
                self.awaited.end(outcome, &mut self.report.expectations);
            }
            other => return Err(format!("{other:?} is nothing to replay")),
        }
        Ok(())
    }

    fn decision(&mut self, number: usize, record: &DecisionRecord<'static>) -> Result<()> {
        let Self { policy, was, awaited, report } = self;
        let mut replay = Replay::new(record)?;
        report.decisions += 1;
        report.sampled += u64::from(record.not_sampled > 0);
        awaited.begin(record);
        if let (Some(was), Some(reproduced)) = (was, &mut report.reproduced) {
            reproduced.note(number, is_reproduced(record, replay.choose(was))?);
        }
        let now = replay.choose(policy);
        if record.decode.picked.is_none() {
            report.failed_then += 1;
            report.failed_then_only += u64::from(now.is_ok());
            return Ok(());
        }
        match now {
            Ok(now) => report.compare(number, record, &now),
            Err(error) if error.kind() == ErrorKind::NoCandidate && record.not_sampled > 0 => {
                report.beyond_record += 1;
            }
            Err(error) if error.kind() == ErrorKind::NoCandidate => {
                report.failed_now += 1;
                report.first_failure.get_or_insert_with(|| format!("line {number}: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Whether the policy that is said to have made the record makes it again.
fn is_reproduced(
    record: &DecisionRecord<'_>,
    replayed: std::result::Result<Replayed<'_>, kvroute_core::Error>,
) -> Result<bool> {
    match replayed {
        Ok(replayed) => Ok(replayed.is_as_recorded(record)),
        Err(error) if error.kind() == ErrorKind::NoCandidate => Ok(record.decode.picked.is_none()),
        Err(error) => Err(error.into()),
    }
}
