//! A record of a run: what machine it was, the table, the rows.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::headline;
use crate::options::Options;
use crate::row::Row;
use crate::table::table;

/// The peers' versions are those of this file.
const LOCK: &str = include_str!("../Cargo.lock");
const PEERS: [&str; 4] = ["kv-index", "smg-radix-tree", "dynamo-kv-router", "dashmap"];

/// What the figures depend on besides the code: machine, compiler, peers, options.
#[must_use]
pub fn machine(options: &Options) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let mut text = String::new();
    let said = |program: &str, arguments: &[&str]| {
        said(program, arguments).unwrap_or_else(|| "not at hand".to_owned())
    };
    let _ = writeln!(text, "date: {}", said("date", &["-u", "+%F"]));
    let _ = writeln!(text, "commit: {}", said("git", &["describe", "--always", "--dirty"]));
    let processor = field(&cpus, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let _ = writeln!(
        text,
        "processor: {processor}, {} threads",
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    let _ = writeln!(text, "memory: {}", field(&memory, "MemTotal").unwrap_or_default());
    let _ = writeln!(text, "load average at the end: {}", read("/proc/loadavg").trim());
    let _ = writeln!(text, "compiler: {}", said("rustc", &["--version"]));
    let peers = PEERS.map(|name| format!("{name} {}", version(LOCK, name).unwrap_or("?")));
    let _ = writeln!(text, "peers: {}", peers.join(", "));
    let size = if options.quick { "quick sizes" } else { "full sizes" };
    let _ = writeln!(text, "{size}, {} processes each", options.repetitions);
    text
}

/// What a program says, if it is there and has something to say.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// The version of a package in a lock file.
fn version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let rest = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?.1;
    rest.split('"').next()
}

const ROWS: &str = "rows.jsonl";

/// Writes the record of a run into a folder, which is made.
///
/// # Errors
///
/// The file that cannot be written.
pub fn write(folder: &Path, rows: &[Row], options: &Options) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    put(&folder.join("machine.txt"), machine(options))?;
    put(&folder.join(ROWS), json_lines(rows)?)?;
    draw(folder, rows)
}

/// Writes what a record shows of its rows: table and picture.
///
/// # Errors
///
/// The file that cannot be written.
pub fn draw(folder: &Path, rows: &[Row]) -> Result<(), String> {
    put(&folder.join("table.txt"), table(rows))?;
    put(&folder.join("versus.png"), headline::drawn(rows)?)
}

/// The rows of a record.
///
/// # Errors
///
/// The file that cannot be read, or its line.
pub fn read(folder: &Path) -> Result<Vec<Row>, String> {
    let path = folder.join(ROWS);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let row = |(n, line)| {
        serde_json::from_str(line).map_err(|error| format!("{}:{}: {error}", path.display(), n + 1))
    };
    text.lines().enumerate().map(row).collect()
}

/// Puts the record's headlines into a README.
///
/// # Errors
///
/// The file that cannot be read or written, or has no place for them.
pub fn show(readme: &Path, rows: &[Row], folder: &Path) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", readme.display());
    let text = std::fs::read_to_string(readme).map_err(|error| named(&error))?;
    put(readme, headline::put(&text, &headline::markdown(rows, folder)).map_err(|error| named(&error))?)
}

fn put(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    std::fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}

/// One JSON object a row.
///
/// # Errors
///
/// Never in practice: rows are plain data.
pub fn json_lines(rows: &[Row]) -> Result<String, String> {
    let lines: Result<Vec<_>, _> = rows.iter().map(serde_json::to_string).collect();
    lines.map(|lines| lines.join("\n") + "\n").map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_version_in_the_lock_file() {
        for peer in PEERS {
            let version = version(LOCK, peer);
            assert!(
                version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())),
                "{peer}"
            );
        }
    }
}
