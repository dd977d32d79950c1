//! `cargo demo`: what routing by cached prefixes does, on simulated pods or on recorded real ones.

mod recorded;
mod simulated;

use std::ffi::OsString;
use std::process::ExitCode;
use std::str::FromStr;

use kvroute_examples::capture::{Mode, Result};
use kvroute_examples::simulated::Size;
use lexopt::Arg;

const USAGE: &str = "\
usage: cargo demo [--decode N] [--prefill M] [--log FILE] [--json]
       cargo demo --scale FROM:TO [--log FILE] [--json]
       cargo demo --trace FILE [--requests N] [--decode N] [--prefill M] [--log FILE] [--json]
       cargo demo --three-pods
       cargo demo --recorded [--mode translated|native] [--json]

Without options: 3 decode and 2 prefill pods, simulated with vLLM's block manager and scheduler and
with timings of an 8B model on H200s. Topics with prefixes of 2k to 16k tokens: populate, hit, miss,
follow-up.

  --decode N      pods that answer (3)
  --prefill M     pods that compute long prompts for them (2; 0 for none)
  --scale A:B     begin with A pods, let more join until there are B, drain one, kill one, bring it back
  --trace FILE    requests of a Mooncake trace (JSON lines)
  --requests N    how many of them (1000)
  --seed N        another load (1)
  --log FILE      writes what was decided as a decision log, for `cargo whatif`
  --three-pods    a measured experiment beside its simulation, and kvroute in the same place
  --recorded      requests recorded from three real vLLM pods, checked against the engines' counts
  --mode MODE     of --recorded. translated: blocks are hashed anew from events' token ids (default);
                  native: by the engines' own hashes
  --json          one JSON object as the last line, nothing else";

/// What was asked for.
#[derive(Debug)]
struct Options {
    size: Size,
    scale: Option<(usize, usize)>,
    trace: Option<OsString>,
    requests: usize,
    seed: u64,
    log: Option<OsString>,
    three_pods: bool,
    recorded: bool,
    mode: Mode,
    json: bool,
}

impl Options {
    /// `None`: help was asked for.
    fn parse() -> Result<Option<Self>> {
        let mut options = Self {
            size: Size { decode: 3, prefill: 2 },
            scale: None,
            trace: None,
            requests: 1000,
            seed: 1,
            log: None,
            three_pods: false,
            recorded: false,
            mode: Mode::Translated,
            json: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("decode") => options.size.decode = number(&mut parser, "--decode")?,
                Arg::Long("prefill") => options.size.prefill = number(&mut parser, "--prefill")?,
                Arg::Long("requests") => options.requests = number(&mut parser, "--requests")?,
                Arg::Long("seed") => options.seed = number(&mut parser, "--seed")?,
                Arg::Long("trace") => options.trace = Some(parser.value()?),
                Arg::Long("scale") => {
                    let value = parser.value()?;
                    let both = value.to_str().and_then(|text| text.split_once(':'));
                    let both = both.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
                    options.scale = Some(both.ok_or("--scale FROM:TO, as in 3:8")?);
                }
                Arg::Long("log") => options.log = Some(parser.value()?),
                Arg::Long("three-pods") => options.three_pods = true,
                Arg::Long("recorded") => options.recorded = true,
                Arg::Long("mode") => {
                    options.mode = match parser.value()?.to_str() {
                        Some("native") => Mode::Native,
                        Some("translated") => Mode::Translated,
                        other => return Err(format!("--mode is translated or native, not {other:?}").into()),
                    }
                }
                Arg::Long("json") => options.json = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(format!("{}\n\n{USAGE}", other.unexpected()).into()),
            }
        }
        if options.size.decode == 0 {
            return Err("--decode 0: somebody has to answer".into());
        }
        if options.log.is_some() && (options.recorded || options.three_pods) {
            return Err("--log: only of the simulated demo, --scale and --trace".into());
        }
        Ok(Some(options))
    }
}

fn number<T: FromStr>(parser: &mut lexopt::Parser, option: &str) -> Result<T> {
    let value = parser.value()?;
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| format!("{option} {value:?}: a number is needed").into())
}

fn main() -> ExitCode {
    match Options::parse().and_then(|options| options.map_or_else(help, run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(2)
        }
    }
}

fn help() -> Result<()> {
    println!("{USAGE}");
    Ok(())
}

fn run(options: Options) -> Result<()> {
    let Options { size, seed, json, ref log, .. } = options;
    let log = log.as_deref();
    if options.recorded {
        return recorded::run(options.mode, json);
    }
    if options.three_pods {
        return simulated::three_pods();
    }
    if let Some((from, to)) = options.scale {
        return simulated::scale(from, to, seed, log, json);
    }
    match options.trace {
        Some(file) => {
            let text =
                std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            simulated::trace(size, &text, options.requests, seed, log, json)
        }
        None => simulated::phases(size, seed, log, json),
    }
}
