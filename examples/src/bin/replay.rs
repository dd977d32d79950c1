//! `cargo replay CAPTURE`: replays a capture of a real engine and compares every answer with the engine's.

use std::path::PathBuf;
use std::process::ExitCode;

use kvroute_core::index::CopyPolicy;
use kvroute_examples::capture::{self, Mode, Result};
use kvroute_examples::replay::{ReplayOptions, Summary, replay};

const USAGE: &str = "\
usage: cargo replay CAPTURE [--mode native|translated] [--copies infer|count|set]

  CAPTURE   a kvsim file (.jsonl, .jsonl.gz) or the directory of a live capture
  --mode    native: by the engine's own hashes (default); translated: hashed anew from token ids
  --copies  what a store of a block means that the pod holds already (default: infer)

Prints a summary, the answers that differ, and as the last line one JSON object.";

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)).and_then(|(path, options)| run(&path, options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::from(2)
        }
    }
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<(PathBuf, ReplayOptions)> {
    let mut options = ReplayOptions { mode: Mode::Native, copies: CopyPolicy::Infer };
    let mut path = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value\n\n{USAGE}"));
        match argument.as_str() {
            "--mode" => {
                options.mode = match value()?.as_str() {
                    "native" => Mode::Native,
                    "translated" => Mode::Translated,
                    other => return Err(format!("--mode is native or translated, not \"{other}\"").into()),
                }
            }
            "--copies" => {
                options.copies = match value()?.as_str() {
                    "infer" => CopyPolicy::Infer,
                    "count" => CopyPolicy::Count,
                    "set" => CopyPolicy::Set,
                    other => return Err(format!("--copies is infer, count or set, not \"{other}\"").into()),
                }
            }
            "-h" | "--help" => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option}\n\n{USAGE}").into());
            }
            _ if path.is_none() => path = Some(PathBuf::from(argument)),
            _ => return Err(format!("one capture at a time: \"{argument}\" is a second\n\n{USAGE}").into()),
        }
    }
    Ok((path.ok_or(USAGE)?, options))
}

fn run(path: &std::path::Path, options: ReplayOptions) -> Result<()> {
    let capture = capture::read(path)?;
    let summary = replay(&capture, options)?;
    print(path, &options, &summary);
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

fn print(path: &std::path::Path, options: &ReplayOptions, summary: &Summary) {
    println!("{} ({:?}, copies: {:?})", path.display(), options.mode, options.copies);
    println!(
        "  {} batches, {} events, {} blocks stored or removed, {:.2} M blocks/s from raw bytes",
        summary.batches,
        summary.events,
        summary.blocks,
        summary.blocks_per_second / 1e6
    );
    println!(
        "  {} queries, {} answers ({} with a hit): {} exact, {} over, {} under",
        summary.queries, summary.answers, summary.hits, summary.exact, summary.over, summary.under
    );
    if summary.lost > 0 {
        println!("  {} gaps that the capture cannot fill: those pods' views were dropped", summary.lost);
    }
    const SHOWN: usize = 20;
    for difference in summary.differences.iter().take(SHOWN) {
        let engine = &difference.engine;
        let full = engine.full.map_or(String::new(), |full| format!(" (of {full})"));
        println!(
            "    {} on {}: index {} (of {}), engine {}{full}  {}",
            difference.query,
            difference.pod,
            difference.index.0,
            difference.index.1,
            engine.cached,
            engine.exception.unwrap_or("")
        );
    }
    if summary.differences.len() > SHOWN {
        println!("    and {} more", summary.differences.len() - SHOWN);
    }
}
