//! What the shared library exports, three times the same: its dynamic symbols, the header's functions, and the
//! committed list, whose changes are the interface's. And that no function lets a panic out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::library::{KVROUTE, KVROUTE_IO, Library, abi_version, install, install_io, target_folder};
use crate::source;
use crate::tool::{command, output};

/// Functions that cannot panic, and so need no guard.
const INFALLIBLE: &[&str] =
    &["kvroute_abi_1", "kvroute_abi_version", "kvroute_status_name", "kvroute_version"];

/// Compares the three lists of libkvroute, and looks for functions without a guard.
///
/// # Errors
/// The names that one list has and another has not.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let prefix = install(root, &target_folder(root).join("c/prefix"))?;
    let names = lists(root, &KVROUTE, "kvroute-ffi")?;
    compare(root, &prefix, &KVROUTE, &names)
}

/// The same of libkvroute_io, which has all of libkvroute besides.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_io(root: &Path) -> Result<String, String> {
    let prefix = install_io(root, &target_folder(root).join("c-io/prefix"))?;
    let mut names = lists(root, &KVROUTE_IO, "kvroute-ffi/io")?;
    names.extend(lists(root, &KVROUTE, "kvroute-ffi")?);
    compare(root, &prefix, &KVROUTE_IO, &names)
}

fn compare(
    root: &Path,
    prefix: &Path,
    library: &Library,
    names: &BTreeSet<String>,
) -> Result<String, String> {
    let shared = prefix.join(format!("lib/lib{}.so", library.name)).display().to_string();
    let exported = exported(&output(&mut command(&["nm", "-D", "--defined-only", &shared]))?);
    same("the shared library", &exported, "the committed list", names)?;
    let dynamic = output(&mut command(&["readelf", "-d", &shared]))?;
    let soname = format!("[lib{}.so.{}]", library.name, abi_version(root)?);
    if !dynamic.contains(&soname) {
        return Err(format!("{shared} is not called {soname}"));
    }
    Ok(format!("{} functions", exported.len()))
}

/// What a crate's header, committed list and source say alike. A function may be added to the list, never taken away
/// within one ABI version.
fn lists(root: &Path, library: &Library, folder: &str) -> Result<BTreeSet<String>, String> {
    let read = |file: &str| fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"));
    let (list, source) = (format!("{folder}/symbols.txt"), format!("{folder}/src"));
    let listed: BTreeSet<String> = read(&list)?.lines().map(str::to_owned).collect();
    same(library.header, &declared(&read(library.header)?), &list, &listed)?;
    same(&source, &guarded(&source::read(&root.join(&source))?)?, &list, &listed)?;
    Ok(listed)
}

fn same(one: &str, names: &BTreeSet<String>, other: &str, others: &BTreeSet<String>) -> Result<(), String> {
    let difference = |left: &BTreeSet<String>, right: &BTreeSet<String>| {
        left.difference(right).cloned().collect::<Vec<_>>().join(", ")
    };
    let (more, less) = (difference(names, others), difference(others, names));
    match (more.as_str(), less.as_str()) {
        ("", "") => Ok(()),
        (more, "") => Err(format!("{one} has, and {other} has not: {more}")),
        (_, less) => Err(format!("{other} has, and {one} has not: {less}")),
    }
}

/// The names in a list of `nm`, whatever they are: nothing else may be exported.
fn exported(listing: &str) -> BTreeSet<String> {
    listing.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

/// The functions that a header declares: the name before the first bracket of a line that is no comment.
fn declared(header: &str) -> BTreeSet<String> {
    let code = header.lines().filter(|line| !line.trim_start().starts_with(['/', '*', '#', ' ']));
    let names = code.filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next());
    names.filter(|name| name.starts_with("kvroute_")).map(str::to_owned).collect()
}

/// The functions that a crate gives to C, each of which must run its body in a guard.
fn guarded(files: &[source::File]) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for file in files {
        let tokens = &file.tokens;
        // `extern "C" fn`: texts are left out of the tokens.
        for at in (0..tokens.len()).filter(|&at| source::starts_with(&tokens[at..], "extern fn")) {
            let Some(name) = tokens.get(at + 2) else { continue };
            let body =
                tokens[at..].iter().position(|token| token.text == "{").map(|open| &tokens[at + open..]);
            let body = body.map_or(&[][..], |body| &body[..source::group(body)]);
            let is_guarded = (0..body.len()).any(|at| source::starts_with(&body[at..], "guard : :"));
            if is_guarded == INFALLIBLE.contains(&name.text.as_str()) {
                let (place, line, name) = (file.path.display(), name.line, &name.text);
                return Err(format!("{place}:{line}: {name} runs outside a guard, or needs none"));
            }
            names.insert(name.text.clone());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn files(text: &str) -> Vec<source::File> {
        vec![source::File { path: "x.rs".into(), module: Vec::new(), tokens: source::tokens(text) }]
    }

    #[test]
    fn functions_of_a_header_are_found() {
        let header = "/// See kvroute_c (below).\ntypedef struct kvroute_x kvroute_x;\nconst char *kvroute_a(void);\n\
                      int32_t kvroute_b(struct kvroute_x *x,\n                  int y);\n";
        assert_eq!(declared(header), names(&["kvroute_a", "kvroute_b"]));
    }

    #[test]
    fn whatever_else_is_exported_is_named() {
        let found = exported("00001 T kvroute_a\n00002 B rust_global\n");
        let error = same("library", &found, "header", &names(&["kvroute_a"])).unwrap_err();
        assert_eq!(error, "library has, and header has not: rust_global");
    }

    #[test]
    fn a_function_without_a_guard_is_found() {
        let with = "pub extern \"C\" fn kvroute_a() -> i32 { unsafe { guard::status(error, || Ok(())) } }";
        assert_eq!(guarded(&files(with)).unwrap(), names(&["kvroute_a"]));
        let without = "pub extern \"C\" fn kvroute_a(x: [u8; 2]) -> i32 { 0 }";
        assert!(guarded(&files(without)).unwrap_err().starts_with("x.rs:1: kvroute_a"));
    }
}
