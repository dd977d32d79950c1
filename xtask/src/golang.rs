//! The Go package: its tests in all their ways, its example, and a program outside the repository that uses it.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::library;
use crate::tool::{command, output, run};

/// Where the package is, and a program that uses it from a module of its own.
const PACKAGE: &str = "go";
const EXAMPLE: &str = "examples/go";

/// A scorer for an endpoint picker that is written in Go. It is a module of its own, because what it is built against
/// brings Kubernetes' libraries.
const PLUGIN: &str = "examples/go/plugin";

/// The shared library as a program names it that needs it when it starts.
const SHARED: &str = if cfg!(target_os = "macos") { "libkvroute.1.dylib" } else { "libkvroute.so.1" };

/// Where programs look for shared libraries besides the system's places.
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") { "DYLD_LIBRARY_PATH" } else { "LD_LIBRARY_PATH" };

/// Checks everything of Go; answers what was run.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let prefix = library::install(root, &library::target_folder(root).join("go-prefix"))?;
    let go = Go::new(root, prefix);
    go.formatted()?;
    run(&mut go.go(&go.package, "vet ./..."))?;
    run(&mut go.go(&go.package, "vet -tags debug,kvroute_shared ./..."))?;
    run(&mut go.go(&go.example, "vet ."))?;

    let tests = count_tests(&mut go.go(&go.package, "test -v -count=1 ."))?;
    let raced = count_tests(&mut go.go(&go.package, "test -v -count=1 -race ."))?;
    // Whatever the collector could free too soon is freed at once.
    let debug = "test -v -count=1 -short -tags debug .";
    let collected = count_tests(go.go(&go.package, debug).env("GOGC", "1").env("GODEBUG", "cgocheck=1"))?;
    // Every write of a Go pointer into C's memory is found.
    let checked =
        count_tests(go.go(&go.package, "test -v -count=1 -short .").env("GOEXPERIMENT", "cgocheck2"))?;
    let shared = "test -v -count=1 -short -tags kvroute_shared .";
    let shared = count_tests(go.go(&go.package, shared).env(LIBRARY_PATH, go.prefix.join("lib")))?;
    run(&mut go.go(&go.package, "test -run ^$ -bench . -benchtime 1x ."))?;

    go.programs()?;
    let io = check_io(root)?;
    Ok(format!(
        "{tests} tests; {raced} with -race, {collected} with GOGC=1, {checked} with cgocheck2, {shared} shared; \
         a module outside; {io}"
    ))
}

/// Checks the scorer; answers what was run.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn check_plugin(root: &Path) -> Result<String, String> {
    let prefix = library::install_io(root, &library::target_folder(root).join("go-io-prefix"))?;
    let go = Go::new(root, prefix);
    let plugin = root.join(PLUGIN);
    // The one check that needs modules of others: fetched once, at the versions and sums in go.mod and go.sum.
    run(go.go(&plugin, "mod download").env_remove("GOPROXY"))?;
    run(&mut go.go(&plugin, "mod verify"))?;
    run(&mut go.go(&plugin, "vet -tags kvroute_io ./..."))?;
    let tests = count_tests(&mut go.go(&plugin, "test -v -count=1 -tags kvroute_io ./..."))?;
    Ok(format!("{tests} tests"))
}

/// The package with libkvroute_io, whose tests are those without it and more.
fn check_io(root: &Path) -> Result<String, String> {
    let prefix = library::install_io(root, &library::target_folder(root).join("go-io-prefix"))?;
    let go = Go::new(root, prefix);
    run(&mut go.go(&go.package, "vet -tags kvroute_io ./..."))?;
    let tests = count_tests(&mut go.go(&go.package, "test -v -count=1 -tags kvroute_io ."))?;
    let raced = "test -v -count=1 -short -race -tags kvroute_io .";
    let raced = count_tests(&mut go.go(&go.package, raced))?;
    let shared = "test -v -count=1 -short -tags kvroute_io,kvroute_shared .";
    let shared = count_tests(go.go(&go.package, shared).env(LIBRARY_PATH, go.prefix.join("lib")))?;
    Ok(format!("with kvroute_io {tests} tests, {raced} with -race, {shared} shared"))
}

/// What the commands need to know.
struct Go {
    /// Where the library is installed.
    prefix: PathBuf,
    package: PathBuf,
    example: PathBuf,
    /// `CGO_CFLAGS`: the default ones, and what makes them others for another header or prefix. Go does not look
    /// whether those changed (golang.org/issue/24355, golang.org/issue/24544), but it compiles again for other flags.
    flags: String,
}

impl Go {
    fn new(root: &Path, prefix: PathBuf) -> Self {
        let mut hasher = DefaultHasher::new();
        prefix.hash(&mut hasher);
        for library in [&library::KVROUTE, &library::KVROUTE_IO] {
            // The other's is there if that was installed.
            fs::read(prefix.join(library.header)).ok().hash(&mut hasher);
        }
        let flags = format!("-O2 -g -DKVROUTE_INSTALLED={:x}", hasher.finish());
        Self { prefix, package: root.join(PACKAGE), example: root.join(EXAMPLE), flags }
    }

    /// `go` in a folder, with the arguments in one string. It finds the library by pkg-config and nothing else, and
    /// fetches nothing: there is nothing to fetch.
    fn go(&self, folder: &Path, arguments: &str) -> Command {
        let mut go = command(&["go"]);
        go.args(arguments.split_whitespace()).current_dir(folder);
        go.env("PKG_CONFIG_PATH", self.prefix.join("lib/pkgconfig")).env("CGO_CFLAGS", &self.flags);
        go.env("GOPROXY", "off").env("GOWORK", "off").env("GOTOOLCHAIN", "local");
        go.env("GOFLAGS", "-buildvcs=false");
        go
    }

    fn formatted(&self) -> Result<(), String> {
        let unformatted = output(command(&["gofmt", "-l"]).arg(&self.package).arg(&self.example))?;
        match unformatted.lines().collect::<Vec<_>>().join(", ") {
            files if files.is_empty() => Ok(()),
            files => Err(format!("gofmt would change {files}")),
        }
    }

    /// Builds the example, and the same program in a module outside the repository, and starts them.
    fn programs(&self) -> Result<(), String> {
        let folder = std::env::temp_dir().join(format!("kvroute-go-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let checked = self.programs_in(&folder);
        let removed = fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()));
        checked.and(removed)
    }

    fn programs_in(&self, folder: &Path) -> Result<(), String> {
        // Not `go run`, which may start a program with the library of yesterday inside.
        let example = folder.join("example");
        run(self.go(&self.example, "build -o").arg(&example))?;
        self.start(&example, false)?;

        // A module that knows nothing of this repository but where the package lies, as a user's would be.
        fs::copy(self.example.join("main.go"), folder.join("main.go")).map_err(|error| error.to_string())?;
        let manifest = format!(
            "module example.com/gateway\n\ngo 1.24\n\nrequire github.com/kvroute/kvroute/go v0.0.0\n\n\
             replace github.com/kvroute/kvroute/go => {:?}\n",
            self.package.display().to_string()
        );
        fs::write(folder.join("go.mod"), manifest).map_err(|error| error.to_string())?;
        run(&mut self.go(folder, "build -o static ."))?;
        self.start(&folder.join("static"), false)?;
        run(&mut self.go(folder, "build -tags kvroute_shared -o shared ."))?;
        self.start(&folder.join("shared"), true)?;
        run(&mut self.go(folder, "mod vendor"))?;
        run(&mut self.go(folder, "build -mod=vendor -o vendored ."))?;
        self.start(&folder.join("vendored"), false)
    }

    /// Sees whether a program needs the shared library to start, starts it, and reads what it says.
    fn start(&self, program: &Path, is_shared: bool) -> Result<(), String> {
        let name = program.display();
        let bytes = fs::read(program).map_err(|error| format!("{name}: {error}"))?;
        if bytes.windows(SHARED.len()).any(|window| window == SHARED.as_bytes()) != is_shared {
            return Err(format!("{name} {} {SHARED}", if is_shared { "does not need" } else { "needs" }));
        }
        let mut program = command(&[program]);
        program.env_remove(LIBRARY_PATH);
        if is_shared {
            program.env(LIBRARY_PATH, self.prefix.join("lib"));
        }
        let said = output(&mut program)?;
        if said.contains("request 1 goes to pod-b: 64 of 104 tokens are cached") {
            return Ok(());
        }
        Err(format!("{name} says something else:\n{said}"))
    }
}

/// Runs `go test -v` and answers how many tests passed, subtests and examples included; shows the others.
fn count_tests(go: &mut Command) -> Result<u64, String> {
    println!("$ {go:?}");
    let mut child = go.stdout(Stdio::piped()).spawn().map_err(|error| format!("{go:?}: {error}"))?;
    let mut passed = 0;
    let stdout = child.stdout.take().ok_or("a pipe that was asked for is not there")?;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        match what(&line) {
            What::Passed => passed += 1,
            What::Noise => {}
            What::News => println!("{line}"),
        }
    }
    match child.wait() {
        Ok(status) if status.success() && passed > 0 => Ok(passed),
        Ok(status) => Err(format!("{go:?}: {passed} tests passed, {status}")),
        Err(error) => Err(format!("{go:?}: {error}")),
    }
}

/// What a line of `go test -v` is.
#[derive(Debug, PartialEq, Eq)]
enum What {
    Passed,
    Noise,
    News,
}

fn what(line: &str) -> What {
    let line = line.trim_start();
    if line.starts_with("--- PASS: ") {
        What::Passed
    } else if line.starts_with("=== ") || line == "PASS" {
        What::Noise
    } else {
        What::News
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_told_from_the_rest() {
        assert_eq!(what("--- PASS: Example (0.00s)"), What::Passed);
        assert_eq!(what("    --- PASS: TestA/of_b (0.00s)"), What::Passed);
        assert_eq!(what("=== RUN   TestA"), What::Noise);
        assert_eq!(what("--- FAIL: TestA (0.00s)"), What::News);
        assert_eq!(what("--- SKIP: TestA (0.00s)"), What::News);
        assert_eq!(what("ok  \texample.com/x\t1.2s"), What::News);
    }
}
