//! `cargo demo`: what routing by cached prefixes does, on simulated pods, on recorded real ones, or before a running
//! gateway.

mod live;
mod recorded;
mod simulated;

use std::ffi::OsString;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kvroute_examples::capture::{Mode, Result};
use kvroute_examples::live::Options as LiveOptions;
use kvroute_examples::simulated::Size;
use lexopt::{Arg, ValueExt};

const USAGE: &str = "\
usage: cargo demo [--decode N] [--prefill M] [--log FILE] [--json]
       cargo demo --scale FROM:TO [--log FILE] [--json]
       cargo demo --trace FILE [--requests N] [--decode N] [--prefill M] [--log FILE] [--json]
       cargo demo --three-pods
       cargo demo --recorded [--mode translated|native] [--json]
       cargo demo --live URL [--model NAME] [--topics N] [--tokens N] [--lose-a-pod] [--overfill] [--json]

Without options: 3 decode and 2 prefill pods, simulated with vLLM's block manager and scheduler and
with timings of an 8B model on H200s. Topics with prefixes of 2k to 16k tokens: populate, hit, miss,
follow-up.

  --decode N      pods that answer (3)
  --prefill M     pods that compute long prompts for them (2; 0 for none)
  --scale A:B     begin with A pods, let more join until there are B, drain one, kill one, bring it back
  --trace FILE    requests of a Mooncake trace (JSON lines)
  --requests N    how many of them (1000)
  --seed N        another load (1; of --live, one that was not asked before)
  --log FILE      writes what was decided as a decision log, for `cargo whatif`
  --three-pods    a measured experiment beside its simulation, and kvroute in the same place
  --recorded      requests recorded from three real vLLM pods, checked against the engines' counts
  --mode MODE     of --recorded. translated: blocks are hashed anew from events' token ids (default);
                  native: by the engines' own hashes
  --live URL      the same phases over HTTP through a running gateway, with answer_headers: true, checked
                  against the engines' counts; fails if one differs once events have settled
  --model NAME    of --live: what to ask for (the first that the gateway names)
  --topics N      of --live: topics that are asked about again (6)
  --tokens N      of --live: length of their prefixes, about (1500)
  --lose-a-pod    of --live: asks for a pod to be stopped and started again, and looks how that heals
  --overfill      of --live: fills the caches until they evict; for small ones
  --patience N    of --live: seconds that pods may take to be ready (60)
  --json          one JSON object as the last line, nothing else";

/// What was asked for.
#[derive(Debug)]
struct Options {
    size: Size,
    scale: Option<(usize, usize)>,
    trace: Option<OsString>,
    requests: usize,
    seed: Option<u64>,
    log: Option<OsString>,
    three_pods: bool,
    recorded: bool,
    mode: Mode,
    /// What `--live` does, if it has a URL.
    live: LiveOptions,
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
            seed: None,
            log: None,
            three_pods: false,
            recorded: false,
            mode: Mode::Translated,
            live: LiveOptions::default(),
            json: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("decode") => options.size.decode = number(&mut parser, "--decode")?,
                Arg::Long("prefill") => options.size.prefill = number(&mut parser, "--prefill")?,
                Arg::Long("requests") => options.requests = number(&mut parser, "--requests")?,
                Arg::Long("seed") => options.seed = Some(number(&mut parser, "--seed")?),
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
                Arg::Long("live") => options.live.url = parser.value()?.string()?,
                Arg::Long("model") => options.live.model = Some(parser.value()?.string()?),
                Arg::Long("topics") => options.live.topics = number(&mut parser, "--topics")?,
                Arg::Long("tokens") => options.live.prefix_tokens = number(&mut parser, "--tokens")?,
                Arg::Long("lose-a-pod") => options.live.loses_a_pod = true,
                Arg::Long("overfill") => options.live.overfills = true,
                Arg::Long("patience") => {
                    options.live.patience = Duration::from_secs(number(&mut parser, "--patience")?);
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
        // A gateway remembers what it was asked before.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        options.live.seed = options.seed.unwrap_or(now.as_nanos() as u64);
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
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(2)
        }
    }
}

fn help() -> Result<ExitCode> {
    println!("{USAGE}");
    Ok(ExitCode::SUCCESS)
}

fn run(options: Options) -> Result<ExitCode> {
    if !options.live.url.is_empty() {
        let is_good = live::run(&options.live, options.json)?;
        return Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    offline(options).map(|()| ExitCode::SUCCESS)
}

/// All that needs nothing but this program.
fn offline(options: Options) -> Result<()> {
    let Options { size, json, ref log, .. } = options;
    let (seed, log) = (options.seed.unwrap_or(1), log.as_deref());
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
