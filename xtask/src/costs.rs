//! `cargo xtask costs`: what it costs to take kvroute in: building it, its size, its dependencies, its start, and a
//! router whose pods hold nothing.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::steps::Context;
use crate::tool::{cargo, command, output, run};
use crate::{dependencies, library, python};

/// Processes that a start is the median of.
const STARTS: usize = 15;

/// From nothing to a decision, in Python.
const FIRST_DECISION: &str = "
import time
start = time.perf_counter_ns()
import kvroute
pods = [{'name': f'pod-{n}', 'domain': 'm'} for n in range(64)]
router = kvroute.Router({'domains': {'m': {'block_size': 16}}, 'pods': pods})
router.decide(list(range(8192)))
print(time.perf_counter_ns() - start)
";

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    if let Some(argument) = arguments.first() {
        eprintln!("error: unknown option `{argument}`; `cargo xtask costs` takes none");
        return ExitCode::from(2);
    }
    match measure() {
        Ok(lines) => {
            println!();
            lines.iter().for_each(|(what, figure)| println!("{what:<58} {figure}"));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Lines of the table.
type Lines = Vec<(String, String)>;

fn measure() -> Result<Lines, String> {
    let context = Context::new(0)?;
    let root = context.root();
    let folder = library::target_folder(root).join("costs");
    // All of it is built anew: that is what is measured.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
    run(&mut cargo("fetch --locked"))?;
    let mut lines = Lines::new();
    let mut put = |what: &str, figure: String| lines.push((what.to_owned(), figure));
    for (what, features) in [("all features", "--all-features"), ("none", "--no-default-features")] {
        let count = dependencies::count("kvroute-core", features)?;
        put(&format!("dependencies of the core, with {what}"), format!("{count} crates"));
    }
    of_library(&folder, &mut put)?;
    if let Err(why) = of_wheel(root, &folder, &mut put) {
        println!("Python is left out: {why}");
    }
    Ok(lines)
}

fn of_library(folder: &Path, put: &mut impl FnMut(&str, String)) -> Result<(), String> {
    let prefix = folder.join("installed");
    let start = Instant::now();
    // By a process of its own, as cargo's folder is a variable of the environment.
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut install = command(&[own]);
    install.args(["install", "--prefix"]).arg(&prefix).env("CARGO_TARGET_DIR", folder.join("library"));
    run(&mut install)?;
    put("libkvroute, built from nothing (release)", seconds(start));
    put("libkvroute.so or .dylib", megabytes(&prefix.join("lib").join(shared()))?);
    put("libkvroute.a", megabytes(&prefix.join("lib/libkvroute.a"))?);

    let program = folder.join("costs");
    let mut compile = command(&["cc", "-O2", "-s", "-std=c99", "benches/costs/costs.c", "-o"]);
    compile.arg(&program).arg("-I").arg(prefix.join("include")).arg(prefix.join("lib/libkvroute.a"));
    run(compile.args(library::native_libraries().split_whitespace()))?;
    put("a C program with it inside, stripped", megabytes(&program)?);
    let of = |pods: &str| median_of(|| output(command(&[&program]).arg(pods)));
    let [start, few, _, _] = of("64")?;
    put("C: from nothing to a decision among 64 pods", format!("{:.2} ms", start / 1e6));
    let [start, many, decide, threads] = of("1000")?;
    put("the same among 1000 pods", format!("{:.2} ms", start / 1e6));
    put("resident for a router with 1000 pods that hold nothing", format!("{:.0} kB", many / 1e3));
    put("each pod's part of that", format!("{:.1} kB", (many - few) / (1000.0 - 64.0) / 1e3));
    put("threads of that process, which has one of its own", format!("{threads:.0}"));
    put("a decision of 8k tokens there", format!("{:.1} us", decide / 1e3));
    Ok(())
}

fn of_wheel(root: &Path, folder: &Path, put: &mut impl FnMut(&str, String)) -> Result<(), String> {
    let tools = python::tools(root, &folder.join("tools"))?;
    let start = Instant::now();
    let wheel = python::wheel_from_nothing(&tools, root, folder)?;
    put("Python wheel, built from nothing (release)", seconds(start));
    put("Python wheel", megabytes(Path::new(&wheel))?);
    let installed = python::environment(&folder.join("clean"), &[&wheel])?;
    let [start] = median_of(|| output(installed.python().args(["-c", FIRST_DECISION])))?;
    put("Python: from nothing to a decision among 64 pods", format!("{:.1} ms", start / 1e6));
    Ok(())
}

/// The library's file name here.
fn shared() -> &'static str {
    if cfg!(target_os = "macos") { "libkvroute.dylib" } else { "libkvroute.so" }
}

/// The figures that a program prints on one line, each the median over some processes.
fn median_of<const N: usize>(
    mut printed: impl FnMut() -> Result<String, String>,
) -> Result<[f64; N], String> {
    let mut figures = [const { Vec::new() }; N];
    for _ in 0..STARTS {
        let line = printed()?;
        let mut values = line.split_whitespace().map(str::parse);
        for figure in &mut figures {
            let value = values.next().and_then(Result::ok);
            figure.push(value.ok_or_else(|| format!("`{}` is not {N} numbers", line.trim()))?);
        }
    }
    Ok(figures.map(|mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    }))
}

fn seconds(start: Instant) -> String {
    format!("{:.0} s", start.elapsed().as_secs_f64())
}

fn megabytes(file: &Path) -> Result<String, String> {
    let bytes = fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?.len();
    Ok(format!("{:.2} MB", bytes as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_number_by_number_and_other_output_is_refused() {
        let mut n = 0.0;
        let result = median_of(|| {
            n += 1.0;
            Ok(format!("{n} {}\n", -n))
        });
        assert_eq!(result, Ok([8.0, -8.0]));
        assert_eq!(median_of::<2>(|| Ok("1".to_owned())), Err("`1` is not 2 numbers".to_owned()));
    }
}
