//! `cargo whatif LOG --config B.yaml`: what another policy would have decided.

mod table;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;

use kvroute_core::{Config, Policy};
use kvroute_examples::capture::Result;
use kvroute_examples::whatif::WhatIf;
use lexopt::{Arg, Parser};

const USAGE: &str = "\
usage: cargo whatif LOG --config B.yaml [--was A.yaml] [--json]

Makes every decision of a log again by the policy of a configuration, and says what would have gone elsewhere,
and why.

  LOG              a decision log (JSON lines); - for standard input. `cargo demo --log FILE` writes one
  --config B.yaml  the policy that is tried (YAML or JSON). Only `policy` of it counts: what pods there were, and
                   whether they were overloaded, is in the log
  --was A.yaml     the policy that made the log: checks first that it makes the same decisions again, bit for bit
  --json           one JSON object, nothing else

Lines that are no good are counted and passed over.";

/// What was asked for.
#[derive(Debug)]
struct Options {
    log: OsString,
    config: OsString,
    was: Option<OsString>,
    json: bool,
}

impl Options {
    /// `None`: help was asked for.
    fn parse() -> Result<Option<Self>> {
        let (mut log, mut config, mut was, mut json) = (None, None, None, false);
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("config") => config = Some(parser.value()?),
                Arg::Long("was") => was = Some(parser.value()?),
                Arg::Long("json") => json = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                Arg::Value(file) if log.is_none() => log = Some(file),
                other => return Err(format!("{}\n\n{USAGE}", other.unexpected()).into()),
            }
        }
        let log = log.ok_or_else(|| format!("LOG is missing\n\n{USAGE}"))?;
        let config = config.ok_or_else(|| format!("--config is missing\n\n{USAGE}"))?;
        Ok(Some(Self { log, config, was, json }))
    }
}

fn main() -> ExitCode {
    match Options::parse().and_then(|options| options.map_or_else(help, |options| run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("whatif: {error}");
            ExitCode::from(2)
        }
    }
}

fn help() -> Result<()> {
    println!("{USAGE}");
    Ok(())
}

fn run(options: &Options) -> Result<()> {
    let was = options.was.as_deref().map(policy).transpose()?;
    let whatif = WhatIf::new(policy(&options.config)?, was);
    let named = |error: &dyn Display| format!("{}: {error}", options.log.display());
    let log: Box<dyn BufRead> = if options.log == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&options.log).map_err(|error| named(&error))?))
    };
    let report = whatif.read(log).map_err(|error| named(&error))?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        // Whoever closes the pipe (`| head`) has seen enough.
        let _ = table::print(&mut io::stdout().lock(), &report);
    }
    Ok(())
}

/// The policy of a configuration.
fn policy(file: &OsStr) -> Result<Policy> {
    let named = |error: &dyn Display| format!("{}: {error}", file.display());
    let document = std::fs::read_to_string(file).map_err(|error| named(&error))?;
    let config = Config::parse(&document).map_err(|error| named(&error))?;
    Ok(config.policy().map_err(|error| named(&error))?)
}
