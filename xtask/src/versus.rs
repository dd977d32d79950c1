//! `cargo xtask versus`, which is `cargo versus`: builds benches/versus, a workspace of its own, and runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::library::target_folder;
use crate::steps::Context;
use crate::tool::{self, cargo};

/// Its folder.
const FOLDER: &str = "benches/versus";

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let status = Context::new(0).and_then(|context| {
        let mut program = built(context.root())?;
        program
            .args(arguments)
            .status()
            .map_err(|error| format!("{}: {error}", program.get_program().display()))
    });
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// Builds the program and its child that counts the heap.
fn built(root: &Path) -> Result<Command, String> {
    let mut build = cargo(&format!("build --quiet --release --locked --manifest-path {FOLDER}/Cargo.toml"));
    match build.status() {
        Ok(status) if status.success() => {}
        Ok(_) => return Err(format!("{FOLDER} does not build")),
        Err(error) => return Err(format!("cargo: {error}")),
    }
    let folder: PathBuf = target_folder(&root.join(FOLDER));
    Ok(Command::new(folder.join("release/versus")))
}

/// Lints and tests it, and runs all of it at small sizes; an answer of kvroute's that is wrong is a failure.
///
/// # Errors
/// What failed.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let manifest = format!("--manifest-path {FOLDER}/Cargo.toml --locked");
    tool::run(&mut cargo(&format!("clippy {manifest} --all-targets -- -D warnings")))?;
    // As it is built to be run: the peers are built once.
    let tests = tool::run_tests(&mut cargo(&format!("test {manifest} --release --no-fail-fast")))?;
    tool::run(built(root)?.args(["--quick", "--repetitions", "1"]))?;
    Ok(format!("{tests} tests"))
}
