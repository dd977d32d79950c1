//! The order of a crate's top-level modules: a module uses only those before it, so the edges `crate::other`
//! between them form no circle.
//!
//! Looked at are all paths that begin with `crate`, or with as many `super` as lead to the root, outside
//! tests. Names re-exported by `lib.rs` count as the module they come from. `lib.rs` itself may name all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{self, File, Token, group, starts_with};

/// Which module uses which, each with the first place that does.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

/// Checks the crate whose sources lie in `folder`; answers its modules in order, the one that uses none of
/// the others first.
///
/// # Errors
/// The circle, with a place in the source for each of its edges; or what makes the check blind.
pub(crate) fn check(folder: &Path) -> Result<Vec<String>, String> {
    let files = source::read(folder)?;
    let edges = edges(&files, folder)?;
    order(&edges).map_err(|circle| {
        let mut text = format!("the modules {} form a circle:", circle.join(" -> "));
        for pair in circle.windows(2) {
            text.push_str(&format!("\n    {} uses {} at {}", pair[0], pair[1], edges[&pair[0]][&pair[1]]));
        }
        text
    })
}

fn edges(files: &[File], folder: &Path) -> Result<Edges, String> {
    let root = files.iter().find(|file| file.module.is_empty()).ok_or("no lib.rs")?;
    let modules: BTreeSet<String> = files.iter().filter_map(|file| file.module.first().cloned()).collect();
    let exported = exported(&root.tokens, &modules)?;
    let mut edges: Edges = modules.iter().map(|module| (module.clone(), BTreeMap::new())).collect();
    for file in files {
        let Some(from) = file.module.first() else { continue };
        for (name, line) in root_names(&file.tokens, file.module.len()) {
            let path = file.path.strip_prefix(folder).unwrap_or(&file.path).display();
            let place = format!("{path}:{line}");
            if name == "*" {
                return Err(format!("{place} imports everything from the crate's root: name the items"));
            }
            let to = if modules.contains(&name) { Some(&name) } else { exported.get(&name) };
            if let Some(to) = to.filter(|to| *to != from) {
                edges.entry(from.clone()).or_default().entry(to.clone()).or_insert(place);
            }
        }
    }
    Ok(edges)
}

/// The names that the root takes from its modules, each with that module.
fn exported(root: &[Token], modules: &BTreeSet<String>) -> Result<BTreeMap<String, String>, String> {
    let mut exported = BTreeMap::new();
    for at in 0..root.len() {
        if root[at].text != "use" {
            continue;
        }
        let mut path = &root[at + 1..];
        for prefix in ["crate : :", "self : :"] {
            if starts_with(path, prefix) {
                path = &path[3..];
            }
        }
        let Some(module) = path.first().filter(|token| modules.contains(&token.text)) else { continue };
        let end = path.iter().position(|token| token.text == ";").unwrap_or(path.len());
        for token in &path[1..end] {
            if token.text == "*" {
                return Err(format!("lib.rs:{} takes all of `{}`: name the items", token.line, module.text));
            }
            // Inner modules and the words before `as` are harmless extras.
            exported.insert(token.text.clone(), module.text.clone());
        }
    }
    Ok(exported)
}

/// The first names of all paths from the crate's root in a file `depth` modules below it, with their lines.
fn root_names(tokens: &[Token], depth: usize) -> Vec<(String, usize)> {
    let supers = vec!["super : :"; depth].join(" ");
    let mut names = Vec::new();
    for at in 0..tokens.len() {
        let path = &tokens[at..];
        let after = if starts_with(path, "crate : :") {
            3
        } else if starts_with(path, &supers) && !(at >= 3 && starts_with(&tokens[at - 3..], "super : :")) {
            3 * depth
        } else {
            continue;
        };
        let path = &path[after..];
        if !starts_with(path, "{") {
            names.extend(path.first().map(|token| (token.text.clone(), token.line)));
            continue;
        }
        let list = &path[1..group(path).saturating_sub(1).max(1)];
        let (mut at, mut is_first) = (0, true);
        while at < list.len() {
            if is_first {
                names.push((list[at].text.clone(), list[at].line));
            }
            is_first = list[at].text == ",";
            at += if list[at].text == "{" { group(&list[at..]) } else { 1 };
        }
    }
    names
}

/// The modules in order, users after what they use; ties by name.
///
/// # Errors
/// A circle, its first module repeated at its end.
fn order(edges: &Edges) -> Result<Vec<String>, Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    while order.len() < edges.len() {
        let is_free = |module: &&String| {
            !order.contains(module) && edges[*module].keys().all(|used| order.contains(used))
        };
        match edges.keys().find(is_free) {
            Some(module) => order.push(module.clone()),
            None => return Err(circle(edges, &order)),
        }
    }
    Ok(order)
}

/// Follows edges among the modules not in `order`, of which each uses another, until one comes again.
fn circle(edges: &Edges, order: &[String]) -> Vec<String> {
    let left = |module: &&String| !order.contains(module);
    let mut walk: Vec<String> = edges.keys().find(left).cloned().into_iter().collect();
    while let Some(used) = walk.last().and_then(|module| edges[module].keys().find(left)) {
        let seen = walk.iter().position(|module| module == used);
        walk.push(used.clone());
        if let Some(start) = seen {
            return walk.split_off(start);
        }
    }
    walk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(module: &str, text: &str) -> File {
        let module: Vec<String> = module.split_whitespace().map(str::to_owned).collect();
        let (tokens, _) = source::without_tests(&source::tokens(text));
        File { path: format!("{}.rs", module.join("/")).into(), module, tokens }
    }

    fn checked(files: &[File]) -> Result<Vec<String>, Vec<String>> {
        order(&edges(files, Path::new("")).unwrap())
    }

    #[test]
    fn modules_come_out_in_order_of_use() {
        let files = [
            file("", "mod id; mod hash; mod index; pub use id::{BlockHash, Tier};"),
            file("hash", "use crate::{BlockHash, Tier}; #[cfg(test)] mod tests { use crate::index::I; }"),
            file("id", "// crate::index"),
            file("index", "fn f() { super::hash::f(); }"),
            file("index run", "use super::super::hash; use super::{Deeper}; use crate::index::x;"),
        ];
        assert_eq!(checked(&files).unwrap(), ["id", "hash", "index"]);
    }

    #[test]
    fn a_circle_is_found_through_a_reexport_and_a_nested_file() {
        let files = [
            file("", "pub use index::coverage::Held;"),
            file("id", ""),
            file("hash", "use crate::{id::{A, B}, Held};"),
            file("index", ""),
            file("index run", "use crate::hash;"),
            file("score", "use crate::index;"),
        ];
        assert_eq!(checked(&files).unwrap_err(), ["hash", "index", "hash"]);
        let edges = edges(&files, Path::new("")).unwrap();
        assert_eq!(edges["index"]["hash"], "index/run.rs:1");
    }

    #[test]
    fn globs_that_hide_names_are_refused() {
        let root = file("", "pub use id::*;");
        assert!(edges(&[root, file("id", "")], Path::new("")).unwrap_err().contains("lib.rs:1"));
        let files = [file("", ""), file("id", "\nuse crate::*;")];
        assert!(edges(&files, Path::new("")).unwrap_err().contains("id.rs:2"));
    }
}
