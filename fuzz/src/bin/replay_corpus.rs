//! Runs inputs through a fuzz target without libFuzzer: `replay_corpus <target> [file or folder]...`, by
//! default the target's committed corpus. Panics as the target does, after naming the input.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use kvroute_fuzz::TARGETS;

fn main() -> ExitCode {
    match replay(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn replay(arguments: &[String]) -> Result<String, String> {
    let known = TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let (name, paths) = arguments.split_first().ok_or(format!("no target given; known: {known}"))?;
    let (_, target) = TARGETS
        .iter()
        .find(|(target, _)| target == name)
        .ok_or(format!("no target `{name}` in TARGETS of fuzz/src/lib.rs; known: {known}"))?;

    let mut inputs = Vec::new();
    if paths.is_empty() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        collect(&corpus, &mut inputs)?;
    }
    for path in paths {
        collect(Path::new(path), &mut inputs)?;
    }
    if inputs.is_empty() {
        return Err(format!("target `{name}` has no inputs"));
    }
    for input in &inputs {
        let data = fs::read(input).map_err(|error| format!("{}: {error}", input.display()))?;
        let named = Named(input);
        target(&data);
        std::mem::forget(named);
    }
    Ok(format!("{name}: {} inputs", inputs.len()))
}

/// Files in and below a path, sorted.
fn collect(path: &Path, inputs: &mut Vec<PathBuf>) -> Result<(), String> {
    if path.is_file() {
        inputs.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().try_for_each(|path| collect(path, inputs))
}

/// Names its input when dropped, which happens only while a panic unwinds.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        eprintln!("the input was {}", self.0.display());
    }
}
