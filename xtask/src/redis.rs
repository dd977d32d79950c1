//! Shared state, on servers of the tests' own.

use std::process::{Command, Stdio};

use crate::tool::{TEST_ALL, cargo, run_tests};

/// Names the server that the tests start.
const SERVER: &str = "KVROUTE_REDIS_SERVER";

/// Runs the tests that need a server, with Redis and, where there is one, with Valkey; answers how many there were.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn check() -> Result<String, String> {
    let library = "--test shared -- --ignored";
    let gateway = "--test gateway -- --ignored shared";
    let chaos = "--test gateway -- --ignored chaos::";
    let mut counts = Vec::new();
    for server in ["redis-server", "valkey-server"].into_iter().filter(|server| is_there(server)) {
        let mut count = 0;
        for arguments in [library, gateway, chaos] {
            match run_tests(cargo(&format!("{TEST_ALL} {arguments}")).env(SERVER, server))? {
                0 => return Err(format!("`cargo {TEST_ALL} {arguments}` runs no test")),
                tests => count += tests,
            }
        }
        counts.push(format!("{count} tests with {server}"));
    }
    Ok(counts.join(", "))
}

fn is_there(program: &str) -> bool {
    let probe = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}
