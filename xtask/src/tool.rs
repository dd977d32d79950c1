//! Running other programs, and the tools that the steps need besides `cargo`.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// A program or toolchain part that a machine may lack.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    /// Succeeds when the tool is there.
    probe: &'static [&'static str],
    /// What installs it, the version pinned.
    install: &'static [&'static str],
    /// Small enough to install on a person's machine without asking.
    small: bool,
}

pub(crate) const RUSTFMT: Tool = Tool {
    name: "rustfmt",
    probe: &["cargo", "fmt", "--version"],
    install: &["rustup", "component", "add", "rustfmt"],
    small: false,
};

pub(crate) const CLIPPY: Tool = Tool {
    name: "clippy",
    probe: &["cargo", "clippy", "--version"],
    install: &["rustup", "component", "add", "clippy"],
    small: false,
};

pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The standard library of [`WASM_TARGET`]; found by [`wasm_is_installed`], not by a probe.
pub(crate) const WASM: Tool =
    Tool { name: WASM_TARGET, probe: &[], install: &["rustup", "target", "add", WASM_TARGET], small: true };

pub(crate) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    probe: &["cargo", "deny", "--version"],
    install: &["cargo", "install", "cargo-deny", "--version", "0.20.2", "--locked"],
    small: false,
};

pub(crate) const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    probe: &["cargo", "fuzz", "--version"],
    install: &["cargo", "install", "cargo-fuzz", "--version", "0.13.2", "--locked"],
    small: false,
};

pub(crate) const MIRI: Tool = Tool {
    name: "miri",
    probe: &["cargo", "+nightly", "miri", "--version"],
    install: &[
        "rustup",
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "miri",
        "--component",
        "rust-src",
    ],
    small: false,
};

pub(crate) const REDIS: Tool = Tool {
    name: "redis-server",
    probe: &["redis-server", "--version"],
    install: &["sudo", "apt-get", "install", "--yes", "redis-server"],
    small: false,
};

pub(crate) const PYTHON: Tool = Tool {
    name: "Python 3.11 or later",
    probe: &[
        "sh",
        "-c",
        "for p in python3 python3.14 python3.13 python3.12 python3.11; do $p -c 'import sys, venv; assert sys.version_info >= (3, 11)' && exit; done; exit 1",
    ],
    install: &["sudo", "apt-get", "install", "--yes", "python3", "python3-venv"],
    small: false,
};

pub(crate) const GO: Tool = Tool {
    name: "Go 1.24 or later",
    probe: &["sh", "-c", "go version | grep -Eq 'go1\\.(2[4-9]|[3-9][0-9])'"],
    install: &["sudo", "apt-get", "install", "--yes", "golang-go"],
    small: false,
};

/// What the Gateway API Inference Extension asks for (1.4.0).
pub(crate) const GO_FOR_PLUGIN: Tool = Tool {
    name: "Go 1.25 or later",
    probe: &["sh", "-c", "go version | grep -Eq 'go1\\.(2[5-9]|[3-9][0-9])'"],
    install: &["sudo", "apt-get", "install", "--yes", "golang-go"],
    small: false,
};

pub(crate) const PKG_CONFIG: Tool = Tool {
    name: "pkg-config",
    probe: &["pkg-config", "--version"],
    install: &["sudo", "apt-get", "install", "--yes", "pkg-config"],
    small: false,
};

pub(crate) const CC: Tool = Tool {
    name: "a C compiler",
    probe: &["cc", "--version"],
    install: &["sudo", "apt-get", "install", "--yes", "gcc"],
    small: false,
};

pub(crate) const CXX: Tool = Tool {
    name: "a C++ compiler",
    probe: &["c++", "--version"],
    install: &["sudo", "apt-get", "install", "--yes", "g++"],
    small: false,
};

pub(crate) const VALGRIND: Tool = Tool {
    name: "valgrind",
    probe: &["valgrind", "--version"],
    install: &["sudo", "apt-get", "install", "--yes", "valgrind"],
    small: false,
};

pub(crate) const PROMETHEUS: Tool = Tool {
    name: "Prometheus",
    probe: &["sh", "-c", "prometheus --version && promtool --version"],
    install: &["sudo", "apt-get", "install", "--yes", "--no-install-recommends", "prometheus"],
    small: false,
};

pub(crate) const CHROMIUM: Tool = Tool {
    name: "Chromium",
    probe: &["chromium", "--version"],
    install: &["sudo", "apt-get", "install", "--yes", "--no-install-recommends", "chromium"],
    small: false,
};

/// The standard library's source, which sanitizers need instrumented.
pub(crate) const RUST_SRC: Tool = Tool {
    name: "rust-src",
    probe: &["sh", "-c", "test -e \"$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.toml\""],
    install: &["rustup", "component", "add", "rust-src"],
    small: true,
};

impl Tool {
    /// Makes sure that the tool is there, installing it where that is allowed.
    ///
    /// # Errors
    /// Why it is missing and how to install it, in one line.
    pub(crate) fn ensure(&self, ci: bool) -> Result<(), String> {
        if self.is_there() {
            return Ok(());
        }
        let install = self.install.join(" ");
        let missing = format!("{} is not installed; install it with `{install}`", self.name);
        if !ci && !self.small {
            return Err(missing);
        }
        println!("{} is not installed: {install}", self.name);
        match self.install() {
            Ok(status) if status.success() && self.is_there() => Ok(()),
            Ok(status) => Err(format!("{missing} (tried: {status})")),
            Err(error) => Err(format!("{missing} (tried: {error})")),
        }
    }

    fn install(&self) -> io::Result<ExitStatus> {
        // Where there is no sudo, as in containers, one is root already.
        let has_sudo = succeeds(&["sudo", "-n", "true"]);
        let words = if has_sudo {
            self.install
        } else {
            self.install.strip_prefix(&["sudo"]).unwrap_or(self.install)
        };
        if let Some(at) = words.iter().position(|word| *word == "apt-get") {
            // Lists of packages that are not there or old name files that are gone; what comes next says so.
            command(&[&words[..=at], &["update"]].concat()).status()?;
        }
        command(words).status()
    }

    fn is_there(&self) -> bool {
        if self.probe.is_empty() { wasm_is_installed() } else { succeeds(self.probe) }
    }
}

fn succeeds(words: &[&str]) -> bool {
    let status = command(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Asks the compiler rather than rustup: a distribution's toolchain has no rustup.
fn wasm_is_installed() -> bool {
    let print = ["rustc", "--print", "target-libdir", "--target", WASM_TARGET];
    output(&mut command(&print)).is_ok_and(|folder| {
        let entries = std::fs::read_dir(Path::new(folder.trim())).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// A command with nothing to read from: no step waits for a person.
pub(crate) fn command<S: AsRef<OsStr>>(words: &[S]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

/// Arguments of cargo that test all there is. Steps that run some of it begin with the same: for a package alone, features
/// are put together anew, and with them most of the workspace is.
pub(crate) const TEST_ALL: &str = "test --workspace --all-features --locked";

/// `cargo` with the given arguments, one string split at spaces.
pub(crate) fn cargo(arguments: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    // Of xtask, by the cargo that runs it. Build scripts that watch them (ring's) would run anew, and all that needs
    // them be compiled again, whenever a build from here follows one by hand.
    let of_xtask = ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_LINKS", "CARGO_MANIFEST_PATH"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || of_xtask.contains(&&*name) {
            command.env_remove(&*name);
        }
    }
    command
}

/// Shows the command, runs it with its output passed through.
///
/// # Errors
/// The command and how it ended.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    println!("$ {}", shown(command));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", shown(command))),
        Err(error) => Err(format!("`{}` could not be started: {error}", shown(command))),
    }
}

/// As [`run`], and hands each line of standard output to `look`.
///
/// # Errors
/// As [`run`].
pub(crate) fn for_each_line(command: &mut Command, mut look: impl FnMut(&str)) -> Result<(), String> {
    println!("$ {}", shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("`{}` could not be started: {error}", shown(command)))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            look(&line);
            println!("{line}");
        }
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", shown(command))),
        Err(error) => Err(format!("`{}` was lost: {error}", shown(command))),
    }
}

/// As [`run`], for a test command: answers how many tests it ran.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_tests(command: &mut Command) -> Result<u64, String> {
    let mut tests = 0;
    for_each_line(command, |line| tests += tests_passed(line))?;
    Ok(tests)
}

/// Reads libtest's closing line, `test result: ok. 12 passed; ...`.
fn tests_passed(line: &str) -> u64 {
    let Some((_, rest)) = line.split_once("test result: ok. ") else { return 0 };
    rest.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Runs the command and answers its standard output; its standard error passes through.
///
/// # Errors
/// The command and how it ended.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("`{}` could not be started: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("`{}` ended with {}", shown(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{}` wrote no UTF-8", shown(command)))
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.to_string_lossy(), quoted(value)));
        }
    }
    words.push(command.get_program().to_string_lossy().into_owned());
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_read_from_the_closing_line() {
        assert_eq!(tests_passed("test result: ok. 12 passed; 0 failed; 0 ignored;"), 12);
        assert_eq!(tests_passed("test result: FAILED. 3 passed; 1 failed;"), 0);
        assert_eq!(tests_passed("running 12 tests"), 0);
    }

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = cargo("doc --no-deps");
        command.env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(shown(&command), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn a_program_that_does_not_exist_is_not_there() {
        assert!(!succeeds(&["kvroute-no-such-program"]));
    }
}
