//! The parent: starts children one after the other, subjects in turn, and gathers what they say.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::child;
use crate::measure::Reading;
use crate::options::{Options, USAGE};
use crate::record;
use crate::row::{Row, Values};
use crate::subject::Kind;
use crate::table::table;
use crate::workload::{ALL, COUNTED_ITEMS, Counts, Job, MOST_PASSES, Workload};

/// Longest a child may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The main function of `versus`.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == child::MARK) {
        return child::main(None);
    }
    match run() {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let options =
        Options::parse(std::env::args_os().skip(1)).map_err(|error| format!("{error}\n\n{USAGE}"))?;
    if options.help {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &options.redraw {
        let rows = record::read(folder)?;
        record::draw(folder, &rows)?;
        return show(&options, &rows, folder).map(|()| ExitCode::SUCCESS);
    }
    let is_asked = |name: &str| {
        let is_in = |part: &String| match part.strip_prefix('=') {
            Some(whole) => name == whole,
            None => name.contains(&**part),
        };
        options.only.is_empty() || options.only.iter().any(is_in)
    };
    let is_wanted = |workload: &&Workload| {
        is_asked(workload.name) && (options.instructions || workload.counts != Counts::Instructions)
    };
    let workloads: Vec<&Workload> = ALL.iter().copied().filter(is_wanted).collect();
    if workloads.is_empty() {
        return Err(format!("no workload's name contains {}; --list names them", options.only.join(" or ")));
    }
    if options.list {
        workloads.iter().for_each(|workload| println!("{:<22} {}", workload.name, workload.what));
        return Ok(ExitCode::SUCCESS);
    }
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for workload in workloads {
        rows.extend(measured(workload, &options, &mut failures));
        // Each time anew: a long run may be broken off.
        if let Some(folder) = &options.record {
            record::write(folder, &rows, &options)?;
        }
    }
    if options.json {
        print!("{}", record::json_lines(&rows)?);
    } else {
        print!("{}\n{}", table(&rows), record::machine(&options));
    }
    if let Some(folder) = &options.record {
        show(&options, &rows, folder)?;
    }
    for row in rows.iter().filter(|row| is_wrong(row)) {
        let (workload, measure, unit) = (&row.workload, &row.measure, &row.unit);
        failures.push(format!("kvroute's answers are wrong: {workload}, {measure}: {} {unit}", row.kvroute));
    }
    failures.iter().for_each(|failure| eprintln!("error: {failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts the headlines where they are asked for.
fn show(options: &Options, rows: &[Row], folder: &Path) -> Result<(), String> {
    options.readme.as_ref().map_or(Ok(()), |readme| record::show(readme, rows, folder))
}

/// Whether a row says that kvroute answered wrongly.
fn is_wrong(row: &Row) -> bool {
    row.unit.starts_with('%') && row.kvroute > 0.0
}

/// The rows of a workload; a run that fails is noted and left out.
fn measured(workload: &Workload, options: &Options, failures: &mut Vec<String>) -> Vec<Row> {
    let kinds: Vec<Kind> =
        workload.subjects.iter().copied().filter(|kind| options.subjects.contains(kind)).collect();
    let mut values: BTreeMap<String, Values> = BTreeMap::new();
    for repetition in 0..options.repetitions {
        for &kind in in_turn(&kinds, repetition).iter() {
            eprint!("\r\x1b[K{} {}/{} {}", workload.name, repetition + 1, options.repetitions, kind.name());
            let job = Job {
                quick: options.quick,
                seed: repetition as u64 + 1,
                passes: 5,
                threads: options.threads,
                trace: options.trace.clone(),
                live: None,
            };
            let readings = match workload.counts {
                Counts::Instructions => instructions(workload, kind, &job).map(Vec::from),
                Counts::Time | Counts::Heap => child(workload, kind, &job),
            };
            let readings = readings.unwrap_or_else(|failure| {
                failures.push(format!("{} {}: {failure}", workload.name, kind.name()));
                Vec::new()
            });
            for reading in readings {
                values.entry(reading.measure).or_default().entry(kind).or_default().push(reading.value);
            }
        }
    }
    eprint!("\r\x1b[K");
    let row = |measure| Row::new(workload, measure, values.get(measure.name)?);
    workload.measures.iter().filter_map(row).collect()
}

/// Instructions an item: what more passes of a child take, under callgrind.
fn instructions(workload: &Workload, kind: Kind, job: &Job) -> Result<[Reading; 1], String> {
    let counted = |passes| {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program(workload)?);
        child::arguments(&mut command, workload, kind, &Job { passes, quick: true, ..job.clone() });
        let output = command.output().map_err(|error| format!("valgrind: {error}"))?;
        collected(&String::from_utf8_lossy(&output.stderr))
            .ok_or_else(|| "valgrind counted nothing".to_owned())
    };
    let (few, many) = (counted(1)?, counted(MOST_PASSES)?);
    let value = (many as f64 - few as f64) / ((MOST_PASSES - 1) * COUNTED_ITEMS) as f64;
    Ok([Reading { measure: workload.measures[0].name.to_owned(), value }])
}

/// What callgrind says it counted.
fn collected(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

/// The subjects, each time another one first.
fn in_turn(kinds: &[Kind], repetition: usize) -> Vec<Kind> {
    let mut kinds = kinds.to_vec();
    let by = repetition % kinds.len().max(1);
    kinds.rotate_left(by);
    kinds
}

fn program(workload: &Workload) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    if workload.counts != Counts::Heap {
        return Ok(own);
    }
    let sibling = own.with_file_name(format!("versus-heap{}", std::env::consts::EXE_SUFFIX));
    if sibling.exists() {
        Ok(sibling)
    } else {
        Err(format!("{} is not there: build both", sibling.display()))
    }
}

fn child(workload: &Workload, kind: Kind, job: &Job) -> Result<Vec<Reading>, String> {
    let mut command = Command::new(program(workload)?);
    child::arguments(&mut command, workload, kind, job);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    wait(&mut child)?;
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text).map_err(|error| error.to_string())?;
    }
    Ok(text.lines().filter_map(child::reading).collect())
}

/// Waits for a child, whose few lines fit into the pipe, and no longer than [`PATIENCE`].
fn wait(child: &mut Child) -> Result<(), String> {
    let start = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            None => {
                let stopped = child.kill().and_then(|()| child.wait());
                return Err(format!(
                    "not done after {PATIENCE:?}, {}",
                    stopped.map_err(|error| error.to_string())?
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_counted_is_read_off_its_last_words() {
        let text = "==7== Events    : Ir\n==7== Collected : 123456\n==7==\n";
        assert_eq!(collected(text), Some(123_456));
        assert_eq!(collected("valgrind: no such program"), None);
    }

    #[test]
    fn each_repetition_begins_with_another_subject() {
        let kinds = [Kind::Kvroute, Kind::Crtc, Kind::Oracle];
        assert_eq!(in_turn(&kinds, 1), [Kind::Crtc, Kind::Oracle, Kind::Kvroute]);
        assert_eq!(in_turn(&kinds, 3), kinds);
        assert_eq!(in_turn(&[], 2), []);
    }
}
