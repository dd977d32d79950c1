//! What is deployed, and what its guide says: both have to be true of the gateway as it is.

mod guide;
mod manifests;
mod shared;

use std::path::PathBuf;

/// A file of `examples/deploy`.
fn file(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "deploy", name].iter().collect();
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
