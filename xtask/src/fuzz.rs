//! The fuzz targets: replay of the committed corpus, and fuzzing proper.
//!
//! Targets are the `[[bin]]` tables of `fuzz/Cargo.toml`: a new one needs nothing here.

use std::fs;
use std::path::Path;

use crate::tool::{self, cargo};

/// One allocation larger than this is a finding: the inputs are some kilobytes.
const MALLOC_LIMIT_MB: u32 = 64;

/// The names of the targets, as `fuzz/Cargo.toml` lists them.
///
/// # Errors
/// The file is missing or has no target.
pub(crate) fn targets(root: &Path) -> Result<Vec<String>, String> {
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml"))
        .map_err(|error| format!("fuzz/Cargo.toml: {error}"))?;
    let targets = bins(&manifest);
    if targets.is_empty() { Err("fuzz/Cargo.toml has no [[bin]]".to_owned()) } else { Ok(targets) }
}

fn bins(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_bin = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_bin = line == "[[bin]]";
        } else if in_bin && let Some(value) = line.strip_prefix("name") {
            names.extend(value.split('"').nth(1).map(str::to_owned));
        }
    }
    names
}

/// Runs every committed input through its target, without libFuzzer.
///
/// # Errors
/// The command that failed.
pub(crate) fn replay(root: &Path) -> Result<String, String> {
    let targets = targets(root)?;
    for target in &targets {
        let mut command = cargo("run --quiet --manifest-path fuzz/Cargo.toml --no-default-features --locked");
        command.args(["--bin", "replay_corpus", "--", target]).current_dir(root);
        tool::run(&mut command)?;
    }
    Ok(targets.join(", "))
}

/// Fuzzes every target for `seconds`. Inputs found on the way go to `fuzz/target/corpus`, never among the
/// committed ones.
///
/// # Errors
/// The targets that failed; cargo-fuzz has printed how to reproduce each.
pub(crate) fn fuzz(root: &Path, seconds: u32) -> Result<String, String> {
    let targets = targets(root)?;
    let mut failures = Vec::new();
    for target in &targets {
        let found = format!("fuzz/target/corpus/{target}");
        fs::create_dir_all(root.join(&found)).map_err(|error| format!("{found}: {error}"))?;
        let mut command = cargo("fuzz run");
        command
            .args([target, &found, &format!("fuzz/corpus/{target}"), "--"])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-malloc_limit_mb={MALLOC_LIMIT_MB}"))
            // Silent until the end: a line for every new input is thousands of lines.
            .args(["-verbosity=0", "-print_final_stats=1"])
            // The sanitizer flags are unstable; this lets the stable compiler take them.
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(root);
        failures.extend(tool::run(&mut command).err());
    }
    if failures.is_empty() {
        Ok(format!("{}, {seconds} s each", targets.join(", ")))
    } else {
        Err(failures.join("\n    "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_bin_tables() {
        let manifest = "[package]\nname = \"f\"\n[[bin]]\nname = \"decode\"\npath = \"x\"\n\n[[bin]]\nname=\"index\"\n[lib]\nname = \"no\"\n";
        assert_eq!(bins(manifest), ["decode", "index"]);
    }
}
