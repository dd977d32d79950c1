//! Subscriptions to KV events, against publishers with libzmq of their own.

use std::path::Path;

use crate::tool::{TEST_ALL, cargo, run_tests};
use crate::{library, python};

/// Runs the tests that need pyzmq, with one installed for them; answers how many there were.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let folder = root.join(library::target_folder(root)).join("python/pyzmq");
    let requirements = root.join("kvroute-io/tests/requirements.txt").display().to_string();
    let environment = python::environment(&folder, &["-r", &requirements])?;
    let mut tests = cargo(&format!("{TEST_ALL} --test events -- --ignored"));
    match run_tests(tests.env("KVROUTE_PYZMQ", environment.python().get_program()))? {
        0 => Err("no test of kvroute-io needs pyzmq".to_owned()),
        count => Ok(format!("{count} tests")),
    }
}
