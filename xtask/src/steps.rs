//! The steps of `cargo xtask test`, in the order they run: cheap and telling ones first.

use std::env;
use std::path::{Path, PathBuf};

use crate::tool::{
    self, CARGO_DENY, CARGO_FUZZ, CC, CHROMIUM, CLIPPY, CXX, GO, GO_FOR_PLUGIN, MIRI, PKG_CONFIG, PROMETHEUS,
    PYTHON, REDIS, RUST_SRC, RUSTFMT, TEST_ALL, Tool, VALGRIND, WASM, WASM_TARGET, cargo,
};
use crate::{
    c, dependencies, envoy, events, fuzz, golang, library, manifests, modules, python, redis, source,
    symbols, templates, versions, versus,
};

/// The crate whose purity is checked.
const CORE: &str = "kvroute-core";

/// The package with the benchmarks, and its folder.
const BENCHES: (&str, &str) = ("kvroute-benches", "benches");

/// One check.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What it checks, one line for the heading.
    pub(crate) what: &'static str,
    pub(crate) run: Run,
    pub(crate) needs: &'static [&'static Tool],
    pub(crate) check: fn(&Context) -> Verdict,
}

/// When a step runs, unless `--only` chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Always,
    /// Left out by `--quick`.
    NotQuick,
    /// Only when asked for by name.
    OnRequest,
}

/// How a step ended, with a remark.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed(String),
    Failed(String),
    Skipped(String),
}

impl Verdict {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Passed(_) => "ok",
            Self::Failed(_) => "FAIL",
            Self::Skipped(_) => "SKIP",
        }
    }

    pub(crate) fn remark(&self) -> &str {
        match self {
            Self::Passed(remark) | Self::Failed(remark) | Self::Skipped(remark) => remark,
        }
    }
}

impl From<Result<String, String>> for Verdict {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(remark) => Self::Passed(remark),
            Err(why) => Self::Failed(why),
        }
    }
}

/// What a step may know.
pub(crate) struct Context {
    /// Root of the repository; also the current folder.
    root: PathBuf,
    /// Nobody watches: tools are installed, and a missing one is a failure.
    pub(crate) ci: bool,
    fuzz_seconds: u32,
}

impl Context {
    /// Finds the repository and goes there.
    ///
    /// # Errors
    /// The folder that cannot be entered.
    pub(crate) fn new(fuzz_seconds: u32) -> Result<Self, String> {
        let xtask = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = xtask.parent().unwrap_or(Path::new(".")).to_owned();
        env::set_current_dir(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let ci = env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        Ok(Self { root, ci, fuzz_seconds })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        what: "cargo fmt changes nothing",
        run: Run::Always,
        needs: &[&RUSTFMT],
        check: |_| {
            each(&[
                "fmt --all --check",
                "fmt --manifest-path fuzz/Cargo.toml --check",
                "fmt --manifest-path benches/versus/Cargo.toml --check",
                "fmt --manifest-path kvroute-core/loom/Cargo.toml --check",
            ])
        },
    },
    Step {
        name: "modules",
        what: "the core's modules use each other in one direction only",
        run: Run::Always,
        needs: &[],
        check: |context| {
            let order = modules::check(&context.root.join(CORE).join("src"));
            order.map(|order| order.join(", ")).into()
        },
    },
    Step {
        name: "deps",
        what: "the core depends on nothing that xtask/core-dependencies.txt does not allow",
        run: Run::Always,
        needs: &[],
        check: |context| {
            dependencies::check(&context.root, CORE).map(|count| format!("{count} crates")).into()
        },
    },
    Step {
        name: "msrv",
        what: "manifests and workflows name one Rust version",
        run: Run::Always,
        needs: &[],
        check: |context| versions::check(&context.root).map(|version| format!("Rust {version}")).into(),
    },
    Step {
        name: "clippy",
        what: "no warning from rustc or clippy, tests, benches and fuzz targets included",
        run: Run::Always,
        needs: &[&CLIPPY],
        check: |_| clippy(),
    },
    Step {
        name: "purity",
        what: "the core is no_std and names no clock, file, socket, environment or thread",
        run: Run::Always,
        needs: &[&CLIPPY],
        check: |context| purity(context).into(),
    },
    Step {
        name: "test",
        what: "unit, integration and doc tests, all features",
        run: Run::Always,
        needs: &[],
        check: |_| {
            let tests = tool::run_tests(&mut cargo(&format!("{TEST_ALL} --no-fail-fast")));
            tests.map(|count| format!("{count} tests")).into()
        },
    },
    Step {
        name: "docs",
        what: "rustdoc has no warning",
        run: Run::Always,
        needs: &[],
        check: |_| {
            let mut command = cargo("doc --workspace --no-deps --all-features --locked");
            tool::run(command.env("RUSTDOCFLAGS", "-D warnings")).map(|()| String::new()).into()
        },
    },
    Step {
        name: "wasm",
        what: "the core builds for wasm32-unknown-unknown",
        run: Run::Always,
        needs: &[&WASM],
        check: |_| {
            let build = format!("build --package {CORE} --target {WASM_TARGET} --locked");
            each(&[&build, &format!("{build} --all-features")])
        },
    },
    Step {
        name: "header",
        what: "include/kvroute.h and kvroute_io.h are what the source makes",
        run: Run::Always,
        needs: &[],
        check: |_| library::check_headers().into(),
    },
    Step {
        name: "c",
        what: "C and C++ tests and examples, with the shared and the static library",
        run: Run::Always,
        needs: &[&CC, &CXX, &PKG_CONFIG],
        check: |context| c::check(&context.root).into(),
    },
    Step {
        name: "io",
        what: "C and C++ programs of libkvroute_io, and of libkvroute with it; what it exports",
        run: Run::Always,
        needs: &[&CC, &CXX, &PKG_CONFIG],
        check: |context| {
            let both = c::io(&context.root).and_then(|said| {
                symbols::check_io(&context.root).map(|exported| format!("{said}, {exported}"))
            });
            both.into()
        },
    },
    Step {
        name: "symbols",
        what: "libkvroute exports what its header declares, and every function is guarded",
        run: Run::Always,
        needs: &[&CC],
        check: |context| symbols::check(&context.root).into(),
    },
    Step {
        name: "go",
        what: "the Go package in all its ways, its example, and a module outside the repository",
        run: Run::Always,
        needs: &[&GO, &CC, &PKG_CONFIG],
        check: |context| golang::check(&context.root).into(),
    },
    Step {
        name: "goplugin",
        what: "the scorer for a Go endpoint picker, against the picker's own interfaces",
        run: Run::NotQuick,
        needs: &[&GO_FOR_PLUGIN, &CC, &CXX, &PKG_CONFIG],
        check: |context| golang::check_plugin(&context.root).into(),
    },
    Step {
        name: "manifests",
        what: "the container file is linted, and Kubernetes' own schemas know all that the manifests say",
        run: Run::Always,
        needs: &[&PYTHON, &GO],
        check: |context| manifests::check(&context.root).into(),
    },
    Step {
        name: "python",
        what: "the Python wheel, built, installed in clean environments and tested; types, style, example",
        run: Run::Always,
        needs: &[&PYTHON],
        check: |context| python::check(&context.root).into(),
    },
    Step {
        name: "events",
        what: "subscriptions to KV events, against pyzmq publishers that are killed, lose and drop",
        run: Run::Always,
        needs: &[&PYTHON],
        check: |context| events::check(&context.root).into(),
    },
    Step {
        name: "redis",
        what: "shared state on a real Redis, and on Valkey where there is one, that is killed, hangs, is full, fails over",
        run: Run::Always,
        needs: &[&REDIS],
        check: |_| redis::check().into(),
    },
    Step {
        name: "templates",
        what: "chat templates of published models render as in transformers",
        run: Run::NotQuick,
        needs: &[&PYTHON],
        check: |context| templates::check(&context.root).into(),
    },
    Step {
        name: "envoy",
        what: "the endpoint picker behind a real Envoy: streams, large bodies, a dead picker, reloads under load",
        run: Run::NotQuick,
        needs: &[&PYTHON],
        check: |context| envoy::check(&context.root).into(),
    },
    Step {
        name: "prometheus",
        what: "a real Prometheus has data for every panel of the dashboard, and takes the alert rules",
        run: Run::NotQuick,
        needs: &[&PROMETHEUS],
        check: |_| ignored_tests_of_the_gateway("watch::prometheus"),
    },
    Step {
        name: "page",
        what: "a real browser shows the gateway's status page",
        run: Run::NotQuick,
        needs: &[&CHROMIUM],
        check: |_| ignored_tests_of_the_gateway("watch::page"),
    },
    Step {
        name: "corpus",
        what: "every committed fuzz input passes its target",
        run: Run::Always,
        needs: &[],
        check: |context| fuzz::replay(&context.root).into(),
    },
    Step {
        name: "benches",
        what: "every benchmark runs once",
        run: Run::NotQuick,
        needs: &[],
        check: benches,
    },
    Step {
        name: "deny",
        what: "licences, sources and versions of all dependencies",
        run: Run::NotQuick,
        needs: &[&CARGO_DENY],
        // deny reads the sources of every target's dependencies: fetch them, then stay offline.
        check: |_| {
            each(&["fetch --locked", "deny --offline --all-features --locked check bans licenses sources"])
        },
    },
    Step {
        name: "fuzz",
        what: "every fuzz target, for some seconds each",
        run: Run::NotQuick,
        needs: &[&CARGO_FUZZ],
        check: |context| fuzz::fuzz(&context.root, context.fuzz_seconds).into(),
    },
    Step {
        name: "valgrind",
        what: "the C and C++ programs under valgrind, without a leak",
        run: Run::NotQuick,
        needs: &[&CC, &CXX, &PKG_CONFIG, &VALGRIND],
        check: |context| c::valgrind(&context.root).into(),
    },
    Step {
        name: "asan",
        what: "the same programs and the library with AddressSanitizer and UBSan",
        run: Run::NotQuick,
        needs: &[&CC, &CXX, &PKG_CONFIG],
        check: |context| c::address(&context.root).into(),
    },
    Step {
        name: "tsan",
        what: "threads on one router with ThreadSanitizer",
        run: Run::NotQuick,
        needs: &[&CC, &PKG_CONFIG, &RUST_SRC],
        check: |context| c::thread(&context.root).into(),
    },
    Step {
        name: "loom",
        what: "the index's lock in every order in which few threads can run it",
        run: Run::NotQuick,
        needs: &[],
        check: |_| each(&["run --manifest-path kvroute-core/loom/Cargo.toml --locked"]),
    },
    Step {
        name: "miri",
        what: "the core's tests named miri_ and the C ABI's own, under Miri",
        run: Run::OnRequest,
        needs: &[&MIRI],
        check: |_| miri().into(),
    },
    Step {
        name: "versus",
        what: "kvroute beside its peers at small sizes, and right where they may not be; builds the peers",
        // Some four and a half minutes of processor time to build from nothing, clippy not counted; under one to run.
        run: Run::OnRequest,
        needs: &[&CLIPPY],
        check: |context| versus::check(&context.root).into(),
    },
];

/// Tests that need a tool, by the module they are in.
fn ignored_tests_of_the_gateway(module: &str) -> Verdict {
    let arguments = format!("{TEST_ALL} --test gateway -- --ignored {module}");
    match tool::run_tests(&mut cargo(&arguments)) {
        Ok(0) => Verdict::Failed(format!("there is no ignored test in {module}")),
        result => result.map(|tests| format!("{tests} tests")).into(),
    }
}

/// Runs `cargo` with each of the arguments, all of them whatever fails.
fn each(commands: &[&str]) -> Verdict {
    let failures: Vec<String> =
        commands.iter().filter_map(|arguments| tool::run(&mut cargo(arguments)).err()).collect();
    if failures.is_empty() {
        Verdict::Passed(String::new())
    } else {
        Verdict::Failed(failures.join("\n    "))
    }
}

/// The disallowed lists of kvroute-core/clippy.toml bind the library, not its tests: the purity step's.
fn clippy() -> Verdict {
    let flags = "-- -D warnings -A clippy::disallowed_methods -A clippy::disallowed_types";
    each(&[
        &format!("clippy --workspace --all-targets --all-features --locked {flags}"),
        // Without libFuzzer, which is C++ and slow to build; the targets' bodies are in the library.
        &format!("clippy --manifest-path fuzz/Cargo.toml --no-default-features --locked {flags}"),
    ])
}

fn purity(context: &Context) -> Result<String, String> {
    no_std(&source::read(&context.root.join(CORE).join("src"))?)?;
    let lints = "-D clippy::disallowed_methods -D clippy::disallowed_types";
    tool::run(&mut cargo(&format!("clippy --package {CORE} --lib --all-features --locked -- {lints}")))?;
    Ok(String::new())
}

/// With `no_std` on the crate and no `extern crate std` in it, `std::` does not compile.
fn no_std(files: &[source::File]) -> Result<(), String> {
    let holds = |tokens: &[source::Token], pattern: &str| {
        (0..tokens.len()).find(|&at| source::starts_with(&tokens[at..], pattern)).map(|at| tokens[at].line)
    };
    let root = files.iter().find(|file| file.module.is_empty()).ok_or("no lib.rs")?;
    if holds(&root.tokens, "# ! [ no_std ]").is_none() {
        return Err(format!("{} has no `#![no_std]`", root.path.display()));
    }
    for file in files {
        if let Some(line) = holds(&file.tokens, "extern crate std") {
            let place = file.path.display();
            return Err(format!("{place}:{line}: `extern crate std` outside cfg(test)"));
        }
    }
    Ok(())
}

fn benches(context: &Context) -> Verdict {
    let (package, folder) = BENCHES;
    let manifest = std::fs::read_to_string(context.root.join(folder).join("Cargo.toml")).unwrap_or_default();
    if !manifest.contains("[[bench]]") {
        return Verdict::Skipped(format!("{package} has no [[bench]]"));
    }
    // The test profile: no link-time optimisation to wait for, and debug assertions are on.
    each(&[&format!("bench --package {package} --profile test --locked -- --test")])
}

fn miri() -> Result<String, String> {
    let core =
        tool::run_tests(&mut cargo(&format!("+nightly miri test --package {CORE} --lib --locked -- miri_")))?;
    let ffi = tool::run_tests(&mut cargo("+nightly miri test --package kvroute-ffi --lib --locked"))?;
    if core == 0 || ffi == 0 {
        Err(format!("{core} tests of the core are named miri_, {ffi} are the C ABI's"))
    } else {
        Ok(format!("{} tests", core + ffi))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Vec<source::File> {
        let (tokens, _) = source::without_tests(&source::tokens(text));
        vec![source::File { path: "lib.rs".into(), module: Vec::new(), tokens }]
    }

    #[test]
    fn no_std_needs_the_attribute_and_no_way_around_it() {
        assert!(no_std(&root("#![no_std]\nextern crate alloc;\n#[cfg(test)]\nextern crate std;")).is_ok());
        assert!(no_std(&root("//! #![no_std]\nextern crate alloc;")).is_err());
        assert!(no_std(&root("#![cfg_attr(not(test), no_std)]")).is_err());
        let found = no_std(&root("#![no_std]\n#[cfg(feature = \"x\")]\nextern crate std;")).unwrap_err();
        assert_eq!(found, "lib.rs:3: `extern crate std` outside cfg(test)");
    }

    #[test]
    fn step_names_are_unique_words() {
        for (at, step) in STEPS.iter().enumerate() {
            assert!(step.name.chars().all(|letter| letter.is_ascii_lowercase()), "{}", step.name);
            assert!(STEPS[..at].iter().all(|other| other.name != step.name), "{}", step.name);
        }
    }
}
