//! The normal dependencies of the core, against the list of those it may have: one line a crate, its name
//! and the reason. A crate that is not listed fails, and so does a line for a crate that is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::tool;

/// The list, relative to the root of the repository.
pub(crate) const LIST: &str = "xtask/core-dependencies.txt";

/// Compares the tree of `package` with [`LIST`]; answers the number of crates.
///
/// # Errors
/// Each line of the list that is wrong, each crate that is missing there, each that is stale.
pub(crate) fn check(root: &Path, package: &str) -> Result<usize, String> {
    let used = used(package, "--all-features")?;
    let list = fs::read_to_string(root.join(LIST)).map_err(|error| format!("{LIST}: {error}"))?;
    let allowed = parse(&list)?;
    let problems = compare(&used, &allowed);
    if problems.is_empty() { Ok(used.len()) } else { Err(problems.join("\n    ")) }
}

/// How many crates `package` depends on with these features, as arguments of cargo's.
///
/// # Errors
/// What cargo says.
pub(crate) fn count(package: &str, features: &str) -> Result<usize, String> {
    used(package, features).map(|used| used.len())
}

fn used(package: &str, features: &str) -> Result<BTreeSet<String>, String> {
    // All targets: the answer must not depend on whose machine asks.
    let tree = format!(
        "tree --package {package} --edges normal {features} --target all --prefix none --format {{p}} --locked"
    );
    Ok(crates(&tool::output(&mut tool::cargo(&tree))?, package))
}

/// The names in what `cargo tree --prefix none` prints, `package` itself left out.
fn crates(tree: &str, package: &str) -> BTreeSet<String> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != package).map(str::to_owned).collect()
}

/// The list: names with their reasons; empty lines and `#` lines are for the reader.
fn parse(list: &str) -> Result<BTreeMap<String, String>, String> {
    let mut allowed = BTreeMap::new();
    for (at, line) in list.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, reason) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{LIST}:{}: `{line}` has no reason", at + 1))?;
        if allowed.insert(name.to_owned(), reason.trim().to_owned()).is_some() {
            return Err(format!("{LIST}:{}: `{name}` is listed twice", at + 1));
        }
    }
    Ok(allowed)
}

fn compare(used: &BTreeSet<String>, allowed: &BTreeMap<String, String>) -> Vec<String> {
    let unknown = used.iter().filter(|name| !allowed.contains_key(*name)).map(|name| {
        format!("the core depends on `{name}`, which {LIST} does not allow (`cargo tree -i {name}` says why)")
    });
    let stale = allowed
        .keys()
        .filter(|name| !used.contains(*name))
        .map(|name| format!("{LIST} allows `{name}`, which the core no longer depends on: remove the line"));
    unknown.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_stale_crates_are_both_named() {
        let used = crates("core v0.1.0 (/a)\nserde v1.0.0\nsyn v3.0.0 (*)\nsyn v3.0.0\n\n", "core");
        let allowed = parse("# why\n\nserde  reads JSON\nrmp reads msgpack\n").unwrap();
        let problems = compare(&used, &allowed);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("`syn`") && problems[1].contains("`rmp`"), "{problems:?}");
    }

    #[test]
    fn a_line_needs_a_reason_and_a_name_comes_once() {
        assert!(parse("a b\nserde\n").unwrap_err().contains("txt:2: `serde` has no reason"));
        assert!(parse("a b\na c\n").unwrap_err().contains("txt:2: `a` is listed twice"));
    }
}
