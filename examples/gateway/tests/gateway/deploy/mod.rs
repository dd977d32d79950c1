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

/// The rows of the guide's tables of sizes, by cells.
fn sizes(guide: &str) -> Vec<Vec<&str>> {
    let table = guide::marked(guide, "sizing", "sizing");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").collect()).collect()
}

/// The number that a cell begins with.
fn number(cell: &str) -> f64 {
    cell.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{cell}"))
}
