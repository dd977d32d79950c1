//! The Python package: its wheel is built, installed and tested as a user would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::library;
use crate::tool::{command, for_each_line, run};

const PACKAGE: &str = "kvroute-py";

/// The oldest CPython that the wheel is for.
const OLDEST: &str = "3.11";

/// Checks everything of Python; answers what was run.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let package = root.join(PACKAGE);
    let folder = library::target_folder(root).join("python");
    let folder = if folder.is_absolute() { folder } else { root.join(folder) };
    let tools = tools(root, &folder.join("tools"))?;
    let wheel = wheel(&tools, &package, "release", &folder.join("dist"), None)?;

    // As somebody who only wants to use it.
    let _ = fs::remove_dir_all(folder.join("clean"));
    // With the versions that were tested with, not with whatever is newest today.
    let pinned = shown(&package.join("requirements-dev.txt"));
    let clean = environment(&folder.join("clean"), &["-c", &pinned, &wheel])?;
    run(clean.python().arg(root.join("examples/python/route.py")))?;

    run(tools.python().args(["-m", "pip", "uninstall", "--quiet", "--yes", "kvroute-io"]))?;
    run(tools.python().args(["-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", &wheel]))?;
    let tests = pytest(tools.python().current_dir(&package))?;
    run(tools.python().args(["-m", "mypy"]).current_dir(&package))?;
    let black =
        ["-m", "black", "--quiet", "--config", "pyproject.toml", "--check", ".", "../examples/python"];
    run(tools.python().args(black).current_dir(&package))?;
    let with_io = check_io(&tools, &package, &folder.join("dist-io"))?;
    let name = Path::new(&wheel).file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(format!("{tests}; kvroute-io: {with_io}; {name}"))
}

/// Installs kvroute-io beside kvroute; its tests, and kvroute's own with its extension module. It is built as tests are,
/// from what those have built already.
fn check_io(tools: &Environment, package: &Path, dist: &Path) -> Result<String, String> {
    let io = package.join("io");
    let wheel = wheel(tools, &io, "dev", dist, None)?;
    run(tools.python().args(["-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", &wheel]))?;
    run(tools.python().args(["-m", "pip", "check"]))?;
    let tests = pytest(tools.python().current_dir(&io))?;
    pytest(tools.python().current_dir(package))?;
    run(tools.python().args(["-m", "mypy"]).current_dir(&io))?;
    Ok(tests)
}

/// A virtual environment.
pub(crate) struct Environment(PathBuf);

impl Environment {
    /// Its interpreter.
    pub(crate) fn python(&self) -> Command {
        let mut python = command(&[self.0.join("bin/python")]);
        // The repository's folders stay as they are.
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        python
    }
}

/// Makes the environment unless it is there, and installs `requirements` into it.
///
/// # Errors
/// What pip says, or that there is no Python.
pub(crate) fn environment(folder: &Path, requirements: &[&str]) -> Result<Environment, String> {
    let environment = Environment(folder.to_owned());
    if !folder.join("bin/python").exists() {
        run(command(&[interpreter()?.as_str(), "-m", "venv"]).arg(folder))?;
    }
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(environment.python().args(pip).args(requirements))?;
    Ok(environment)
}

/// A CPython that is new enough.
fn interpreter() -> Result<String, String> {
    let is_new_enough = format!("import sys; assert sys.version_info >= ({})", OLDEST.replace('.', ", "));
    let names = ["python3", "python3.14", "python3.13", "python3.12", "python3.11"];
    let found = names.iter().find(|name| {
        command(&[name, "-c", &is_new_enough])
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    found.map(|name| (*name).to_owned()).ok_or_else(|| format!("no CPython {OLDEST} or later is installed"))
}

/// What the package is built, tested and checked with.
///
/// # Errors
/// Those of [`environment`].
pub(crate) fn tools(root: &Path, folder: &Path) -> Result<Environment, String> {
    environment(folder, &["-r", &shown(&root.join(PACKAGE).join("requirements-dev.txt"))])
}

/// Builds the wheel for users below `folder`, where nothing is built yet; answers its path.
///
/// # Errors
/// What cargo says.
pub(crate) fn wheel_from_nothing(tools: &Environment, root: &Path, folder: &Path) -> Result<String, String> {
    wheel(tools, &root.join(PACKAGE), "release", &folder.join("dist"), Some(&folder.join("wheel")))
}

/// Builds a wheel, in a folder of its own or in cargo's; answers its path.
fn wheel(
    tools: &Environment,
    package: &Path,
    profile: &str,
    dist: &Path,
    target: Option<&Path>,
) -> Result<String, String> {
    let _ = fs::remove_dir_all(dist);
    let mut maturin = tools.python();
    maturin.args(["-m", "maturin", "build", "--profile", profile, "--locked", "--out"]).arg(dist);
    // As the profile "test" has it, so that its dependencies are those that tests use. By that name maturin would get a
    // program with a test harness from cargo.
    maturin.env("CARGO_PROFILE_DEV_OPT_LEVEL", "2").current_dir(package);
    if let Some(target) = target {
        maturin.env("CARGO_TARGET_DIR", target);
    }
    run(&mut maturin)?;
    let wheels = fs::read_dir(dist).map_err(|error| format!("{}: {error}", dist.display()))?;
    let mut wheels = wheels
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "whl"));
    wheels.next().map(|path| shown(&path)).ok_or_else(|| format!("{}: no wheel", dist.display()))
}

/// Runs pytest; answers its closing line, such as "210 passed in 9.8s".
fn pytest(python: &mut Command) -> Result<String, String> {
    let mut closing = String::new();
    let shows = python.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]);
    for_each_line(shows, |line| closing = line.to_owned())?;
    Ok(closing)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
