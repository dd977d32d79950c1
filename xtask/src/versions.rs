//! One Rust version: the `rust-version` of the workspace is the toolchain that the workflows install and the container is
//! built with, so the oldest supported compiler is the one that is tested.

use std::fs;
use std::path::{Path, PathBuf};

/// What is built in a container.
const CONTAINER_FILE: &str = "examples/deploy/Containerfile";

/// Compares every manifest, workflow and the container file with the root manifest; answers the version.
///
/// # Errors
/// Each file that says another version, or a workflow that installs none.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let manifest = read(&root.join("Cargo.toml"))?;
    let version = declared(&manifest).ok_or("Cargo.toml: no rust-version")?.to_owned();

    let mut problems = Vec::new();
    for path in files(root, "Cargo.toml", 1) {
        if let Some(other) = declared(&read(&path)?).filter(|other| *other != version) {
            problems.push(format!("{}: rust-version {other}, not {version}", path.display()));
        }
    }
    let workflows = files(&root.join(".github/workflows"), ".yml", 0);
    if workflows.is_empty() {
        problems.push("no workflow in .github/workflows".to_owned());
    }
    for path in workflows {
        let text = read(&path)?;
        let installed = installed(&text);
        if installed.is_empty() {
            problems.push(format!("{}: installs no Rust toolchain", path.display()));
        }
        for other in installed.into_iter().filter(|other| !is_release_of(other, &version)) {
            problems.push(format!("{}: Rust {other}, but rust-version is {version}", path.display()));
        }
    }
    let container = root.join(CONTAINER_FILE);
    match image(&read(&container)?) {
        Some(release) if is_release_of(release, &version) => {}
        found => problems.push(format!("{}: Rust image {found:?}, not of {version}", container.display())),
    }
    if problems.is_empty() { Ok(version) } else { Err(problems.join("\n    ")) }
}

/// Files in `folder` and `depth` levels below whose name ends with `end`.
fn files(folder: &Path, end: &str, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && depth > 0 {
            found.extend(files(&path, end, depth - 1));
        } else if path.is_file() && path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The value of a manifest's `rust-version = "..."`.
fn declared(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix("rust-version"))?;
    line.trim_start().strip_prefix('=')?.trim().split('"').nth(1)
}

/// The stable toolchains a workflow installs, `rustup toolchain install <version>`; named channels are not
/// looked at.
fn installed(workflow: &str) -> Vec<&str> {
    workflow
        .split("rustup toolchain install ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next())
        .filter(|version| version.starts_with(|first: char| first.is_ascii_digit()))
        .collect()
}

/// The release of the image that a container file builds with, `FROM docker.io/library/rust:1.95.0-bookworm`.
fn image(container_file: &str) -> Option<&str> {
    let from = container_file.lines().find_map(|line| line.strip_prefix("FROM docker.io/library/rust:"))?;
    from.split(['-', ' ']).next()
}

/// Whether `release` is `version`, or a patch release of it: 1.95.0 of 1.95.
fn is_release_of(release: &str, version: &str) -> bool {
    release.strip_prefix(version).is_some_and(|patch| patch.is_empty() || patch.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_manifests_and_workflows() {
        assert_eq!(declared("[package]\nrust-version = \"1.95\"\n"), Some("1.95"));
        assert_eq!(declared("rust-version.workspace = true"), None);
        let workflow =
            "run: |\n  rustup toolchain install 1.95.0 --profile minimal\n  rustup toolchain install nightly";
        assert_eq!(installed(workflow), ["1.95.0"]);
        assert_eq!(image("# x\nFROM docker.io/library/rust:1.95.0-bookworm AS build\n"), Some("1.95.0"));
        assert_eq!(image("FROM debian\n"), None);
    }

    #[test]
    fn a_patch_release_counts_as_its_version() {
        assert!(is_release_of("1.95.0", "1.95") && is_release_of("1.95", "1.95"));
        assert!(!is_release_of("1.950.0", "1.95") && !is_release_of("1.96.0", "1.95"));
    }
}
