//! The child: one workload for one subject, once. Writes a JSON line for each figure.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, ExitCode};

use lexopt::prelude::*;

use crate::measure::Reading;
use crate::subject::Kind;
use crate::workload::{self, Job, Report, Workload};

/// First argument of a child.
pub const MARK: &str = "--child";

/// The arguments that make a child do this.
pub fn arguments(command: &mut Command, workload: &Workload, kind: Kind, job: &Job) {
    command.args([MARK, workload.name, kind.name()]);
    command.args(["--seed", &job.seed.to_string(), "--passes", &job.passes.to_string()]);
    command.args(["--threads", &job.threads.to_string()]);
    if job.quick {
        command.arg("--quick");
    }
    if let Some(trace) = &job.trace {
        command.arg("--trace").arg(trace);
    }
}

/// Reads a child's line.
#[must_use]
pub fn reading(line: &str) -> Option<Reading> {
    serde_json::from_str(line).ok()
}

/// The child's main function; `live` tells the heap's live bytes where they are counted.
#[must_use]
pub fn main(live: Option<fn() -> u64>) -> ExitCode {
    match run(live, std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(live: Option<fn() -> u64>, arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let (workload, kind, job) = parse(live, arguments)?;
    let mut report = Report::default();
    (workload.run)(kind, &job, &mut report)?;
    let mut out = std::io::stdout().lock();
    for reading in &report.readings {
        let line = serde_json::to_string(reading).map_err(|error| error.to_string())?;
        writeln!(out, "{line}").map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn parse(
    live: Option<fn() -> u64>,
    arguments: impl Iterator<Item = OsString>,
) -> Result<(&'static Workload, Kind, Job), String> {
    let fault = |error: lexopt::Error| error.to_string();
    let mut job = Job { quick: false, seed: 0, passes: 5, threads: 2, trace: None, live };
    let (mut workload, mut kind) = (None, None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(fault)? {
        match argument {
            Long("child") => {
                let name = parser.value().and_then(ValueExt::string).map_err(fault)?;
                workload = workload::ALL.iter().find(|workload| workload.name == name);
            }
            Value(name) if kind.is_none() => kind = name.to_str().and_then(Kind::parse),
            Long("seed") => job.seed = parser.value().and_then(|value| value.parse()).map_err(fault)?,
            Long("passes") => job.passes = parser.value().and_then(|value| value.parse()).map_err(fault)?,
            Long("threads") => job.threads = parser.value().and_then(|value| value.parse()).map_err(fault)?,
            Long("trace") => job.trace = Some(parser.value().map_err(fault)?.into()),
            Long("quick") => job.quick = true,
            other => return Err(other.unexpected().to_string()),
        }
    }
    let workload = workload.ok_or("no such workload")?;
    Ok((workload, kind.ok_or("no such subject")?, job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_told_what_its_parent_means() {
        let job = Job { quick: true, seed: 7, passes: 2, threads: 9, trace: Some("x.gz".into()), live: None };
        let mut command = Command::new("versus");
        arguments(&mut command, workload::ALL[3], Kind::Crtc, &job);
        let told = command.get_args().map(OsString::from);
        let (workload, kind, read) = parse(None, told).unwrap();
        assert_eq!((workload.name, kind), (workload::ALL[3].name, Kind::Crtc));
        assert_eq!((read.quick, read.seed, read.passes, read.threads), (true, 7, 2, 9));
        assert_eq!(read.trace, job.trace);
    }

    #[test]
    fn what_a_child_writes_is_read_and_other_lines_are_not() {
        let reading = Reading { measure: "hit".to_owned(), value: 2.5 };
        assert_eq!(super::reading(&serde_json::to_string(&reading).unwrap()), Some(reading));
        assert_eq!(super::reading("warning: hot"), None);
    }
}
