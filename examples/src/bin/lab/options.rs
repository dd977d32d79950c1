//! The command line.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;

use kvroute_examples::capture::Result;
use kvroute_examples::lab::{Candidate, Kind, LOADS, Part, Plan, WORKLOADS, Workload, committed_trace};
use kvroute_sim::workload::MooncakeTrace;
use lexopt::{Arg, Parser, ValueExt};

pub(super) const USAGE: &str = "\
usage: cargo lab [--quick] [--html FILE] [--png DIR] [--json [FILE]] [...]

Compares routing policies on simulated pods: kvroute's presets, configurations that are tried, and policies
that know no caches, on every workload at three loads. Prints one table a workload.

  --quick            two loads, three seeds, fewer requests: minutes
  --workload NAME    this workload alone (may be repeated; --list names them)
  --load NAME        this load alone (may be repeated): light, busy, saturated
  --rate R           instead of the loads: so many arrivals a second (may be repeated)
  --only POLICY      this policy alone (may be repeated)
  --policy NAME=FILE another policy: the policy and router options of a kvroute configuration in YAML
                     (may be repeated)
  --seeds N          runs of each policy in each cell (5; quick: 3)
  --size X           requests of a run, against the quick number (2.5; quick: 1)
  --trace FILE       a whole Mooncake trace (JSON lines) in place of the 2000 requests that are committed
  --jobs N           threads (one a core); results do not depend on it
  --html FILE        a report with plots, in one file
  --png DIR          plots as PNG
  --json             one JSON line at the end: how the default policy compares with the best of every cell
  --json FILE        all results as JSON; - for a line of standard output instead of the table
  --logs FOLDER      writes the decision log of every run of kvroute, for `cargo whatif`: a file each,
                     WORKLOAD-RATE-POLICY-SEED.jsonl
  --list             names of workloads and policies";

/// What was asked for.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) plan: Plan,
    pub(super) list: bool,
    pub(super) html: Option<OsString>,
    pub(super) png: Option<OsString>,
    /// Whether the verdict is the last line.
    pub(super) verdict: bool,
    /// Where all results go; `-` is standard output.
    pub(super) json: Option<OsString>,
}

/// Arguments as they were given.
#[derive(Default)]
struct Given {
    quick: bool,
    list: bool,
    workloads: Vec<String>,
    loads: Vec<String>,
    rates: Vec<f64>,
    only: Vec<String>,
    policies: Vec<Candidate>,
    seeds: Option<u64>,
    size: Option<f64>,
    trace: Option<OsString>,
    jobs: Option<usize>,
    logs: Option<OsString>,
    html: Option<OsString>,
    png: Option<OsString>,
    verdict: bool,
    json: Option<OsString>,
}

impl Options {
    /// `None`: help was asked for.
    pub(super) fn parse() -> Result<Option<Self>> {
        let Some(given) = Given::parse(Parser::from_env())? else { return Ok(None) };
        let quick = given.quick;
        let seeds = given.seeds.unwrap_or(if quick { 3 } else { 5 });
        let size = given.size.unwrap_or(if quick { 1.0 } else { 2.5 });
        let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = given.jobs.unwrap_or_else(cores);
        let parts = given.parts()?;
        let experiment = parts.iter().any(|part| part.workload.name == "three-pods");
        let candidates = given.candidates()?;
        let trace = match &given.trace {
            None => committed_trace()?,
            Some(file) => MooncakeTrace::parse(&read(file)?)?,
        };
        let logs = given.logs.as_ref().map(PathBuf::from);
        let plan = Plan { parts, candidates, seeds, size, threads, trace, experiment, logs };
        let Given { list, html, png, verdict, json, .. } = given;
        Ok(Some(Self { plan, list, html, png, verdict, json }))
    }
}

impl Given {
    fn parse(mut parser: Parser) -> Result<Option<Self>> {
        let mut given = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("quick") => given.quick = true,
                Arg::Long("list") => given.list = true,
                Arg::Long("workload") => given.workloads.push(parser.value()?.string()?),
                Arg::Long("load") => given.loads.push(parser.value()?.string()?),
                Arg::Long("rate") => given.rates.push(positive(&mut parser, "--rate")?),
                Arg::Long("only") => given.only.push(parser.value()?.string()?),
                Arg::Long("policy") => given.policies.push(candidate(&parser.value()?.string()?)?),
                Arg::Long("seeds") => given.seeds = Some(number(&mut parser, "--seeds")?),
                Arg::Long("size") => given.size = Some(positive(&mut parser, "--size")?),
                Arg::Long("trace") => given.trace = Some(parser.value()?),
                Arg::Long("logs") => given.logs = Some(parser.value()?),
                Arg::Long("jobs") => given.jobs = Some(number(&mut parser, "--jobs")?),
                Arg::Long("html") => given.html = Some(parser.value()?),
                Arg::Long("png") => given.png = Some(parser.value()?),
                Arg::Long("json") => match file(&mut parser) {
                    Some(file) => given.json = Some(file),
                    None => given.verdict = true,
                },
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(format!("{}\n\n{USAGE}", other.unexpected()).into()),
            }
        }
        Ok(Some(given))
    }

    /// The workloads with their loads.
    fn parts(&self) -> Result<Vec<Part>> {
        let names = WORKLOADS.each_ref().map(|workload| workload.name);
        known("--workload", &self.workloads, &names)?;
        known("--load", &self.loads, &LOADS)?;
        let is_asked = |load: &str| match self.loads.as_slice() {
            [] => !self.quick || load != LOADS[0],
            loads => loads.iter().any(|name| name == load),
        };
        let loads = |workload: &Workload| -> Vec<(String, f64)> {
            let named = LOADS.iter().zip(workload.rates).filter(|(load, _)| is_asked(load));
            match self.rates.as_slice() {
                [] => named.map(|(&load, rate)| (load.to_owned(), rate)).collect(),
                rates => rates.iter().map(|rate| (format!("{rate}/s"), *rate)).collect(),
            }
        };
        let workloads = WORKLOADS.into_iter();
        let asked = workloads.filter(|workload| includes(&self.workloads, workload.name));
        Ok(asked.map(|workload| Part { loads: loads(&workload), workload }).collect())
    }

    /// The policies.
    fn candidates(&self) -> Result<Vec<Candidate>> {
        let mut all = self.policies.clone();
        all.extend(Candidate::all());
        // Configurations stand behind the presets, before what is not kvroute.
        all.sort_by_key(|candidate| match candidate.kind {
            Kind::Preset(_) => 0,
            Kind::Config(_) => 1,
            Kind::Baseline(_) => 2,
        });
        let names: Vec<&str> = all.iter().map(|candidate| candidate.name.as_str()).collect();
        if let Some(twice) = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
            return Err(format!("--policy {}: that name is taken", twice.1).into());
        }
        known("--only", &self.only, &names)?;
        Ok(all.into_iter().filter(|candidate| includes(&self.only, &candidate.name)).collect())
    }
}

/// Whether a list names it, or nothing.
fn includes(asked: &[String], name: &str) -> bool {
    asked.is_empty() || asked.iter().any(|other| other == name)
}

fn known(option: &str, asked: &[String], names: &[&str]) -> Result<()> {
    match asked.iter().find(|asked| !names.contains(&asked.as_str())) {
        Some(unknown) => Err(format!("{option} {unknown}: one of {}", names.join(", ")).into()),
        None => Ok(()),
    }
}

/// A policy from `NAME=FILE`.
fn candidate(argument: &str) -> Result<Candidate> {
    let (name, file) = argument.split_once('=').ok_or("--policy NAME=FILE, as in wide=wide.yaml")?;
    Candidate::from_yaml(name, &read(file.as_ref())?).map_err(|error| format!("{file}: {error}").into())
}

fn read(file: &OsStr) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// The next argument, if it is a file and no option.
fn file(parser: &mut Parser) -> Option<OsString> {
    if let Some(value) = parser.optional_value() {
        return Some(value);
    }
    let mut rest = parser.try_raw_args()?;
    let is_file = rest.peek()?.to_str().is_none_or(|next| next == "-" || !next.starts_with('-'));
    is_file.then(|| rest.next()).flatten()
}

fn number<T: FromStr>(parser: &mut Parser, option: &str) -> Result<T> {
    let value = parser.value()?;
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("{option} {value:?}: a number is needed").into())
}

fn positive(parser: &mut Parser, option: &str) -> Result<f64> {
    let value: f64 = number(parser, option)?;
    let is_positive = value.is_finite() && value > 0.0;
    is_positive.then_some(value).ok_or_else(|| format!("{option} {value}: above 0").into())
}
