//! The rows that matter most, for the README: a table and a picture of what each peer takes as a multiple of kvroute.

use std::fmt::Write;
use std::path::Path;

use kvroute_plot::{Axis, Brush, Multiples, PAPER, RGBColor, legend, multiples, picture};

use crate::row::Row;
use crate::subject::Kind;
use crate::workload::{Better, better};

/// What is shown: a line's name, the workload and the figure it is.
const HEADLINES: &[(&str, &str, &str)] = &[
    ("decision, 1k tokens, 64 pods", "decide-1k", "64 pods"),
    ("decision, 8k tokens, 64 pods", "decide-8k", "64 pods"),
    ("decision, 32k tokens, 64 pods", "decide-32k", "64 pods"),
    ("decision, 32k tokens, 512 pods", "decide-32k", "512 pods"),
    ("decision, 128k tokens, 64 pods", "decide-128k", "64 pods"),
    ("decision, 240k tokens in blocks of 64, 96 pods", "decide-240k", "96 pods"),
    ("lookup, 64 blocks, all matched", "tree", "lookup 64 full"),
    ("lookup, 512 blocks, all matched", "tree", "lookup 512 full"),
    ("lookup, 512 blocks, half matched", "tree", "lookup 512 half"),
    ("lookup, 4096 blocks, all matched", "tree", "lookup 4096 full"),
    ("the same, native", "tree-hashes", "lookup 4096 full"),
    ("lookup, Mooncake's requests, mean", "trace", "query mean, wall"),
    ("lookup, 512 blocks, 1000 pods have all", "all-shared", "hit"),
    ("store, 512-block events", "tree", "store 512"),
    ("the same, native", "tree-hashes", "store 512"),
    ("store, 1-block events", "tree", "store 1"),
    ("the same, native", "tree-hashes", "store 1"),
    ("remove, 32-block events", "tree", "remove 32"),
    ("the same, native", "tree-hashes", "remove 32"),
    ("remove, 1-block events", "tree", "remove 1"),
    ("the same, native", "tree-hashes", "remove 1"),
    ("store, Mooncake's requests", "trace", "store"),
    ("remove, Mooncake's requests", "trace", "remove"),
    ("vLLM's bytes to index, 480-block batches", "raw", "480-block batches"),
    ("vLLM's bytes to index, 1-block batches", "raw", "1-block batches"),
    ("memory, 1.9 pods a chain", "heap-tree", "held"),
    ("the same, native", "heap-tree-hashes", "held"),
    ("memory, nothing shared", "heap-unshared", "held"),
    ("the same, native", "heap-unshared-hashes", "held"),
    ("memory after Mooncake's requests", "heap-trace", "at the end"),
    ("lookups by 1 reader beside a writer", "scale", "1 reader beside a writer"),
    ("lookups by 15 readers beside a writer", "scale", "15 readers beside a writer"),
    ("event blocks, 1 reader and 1 writer", "scale", "2 threads, event blocks"),
    ("event blocks, 8 readers and 8 writers", "scale", "16 threads, event blocks"),
];

/// Where the README has the table.
const MARKS: [&str; 2] = ["<!-- versus -->\n", "<!-- /versus -->"];

fn shown(rows: &[Row]) -> impl Iterator<Item = (&'static str, &Row)> {
    HEADLINES.iter().filter_map(|&(name, workload, measure)| {
        let row = rows.iter().find(|row| row.workload == workload && row.measure == measure)?;
        Some((name, row))
    })
}

/// The table in Markdown, where the rest of the record in `folder` is, and its picture.
#[must_use]
pub fn markdown(rows: &[Row], folder: &Path) -> String {
    let mut text = String::from("| | kvroute | best peer | times better |\n| --- | --- | --- | --- |\n");
    for (name, row) in shown(rows) {
        let Some((best, value)) = best(row) else { continue };
        let ratio = row.ratio_to_best_peer.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let ratio = if row.ratio_to_best_peer.is_some_and(|ratio| ratio < 1.0) {
            format!("**{ratio}**")
        } else {
            ratio
        };
        let [own, value] = [row.kvroute, value].map(|value| with_unit(value, &row.unit));
        let _ = writeln!(text, "| {name} | {own} | {value}, {} | {ratio} |", best.title());
    }
    let folder = folder.display();
    let _ = writeln!(text, "\nAll of it: [table]({folder}/table.txt), [machine]({folder}/machine.txt).");
    let _ = writeln!(text, "\n![What each peer takes, in multiples of kvroute]({folder}/versus.png)");
    text
}

/// The peer with the best value.
fn best(row: &Row) -> Option<(Kind, f64)> {
    let better = better(&row.workload, &row.measure)?;
    let peers = Kind::ALL.into_iter().filter(|kind| kind.is_peer());
    let values = peers.filter_map(|kind| Some((kind, row.value(kind)?)));
    values.reduce(|one, other| if better.is_better(other.1, one.1) { other } else { one })
}

/// A value as people say it.
fn with_unit(value: f64, unit: &str) -> String {
    let (value, said) = match unit {
        "ns" if value < 1000.0 => (value, "ns"),
        "ns" => (value / 1000.0, "us"),
        "ns/block" => (value, "ns a block"),
        "B/entry" => (value, "bytes an entry"),
        "queries/s" => (value / 1e6, "M a second"),
        "blocks/s" => (value / 1e6, "M a second"),
        other => (value, other),
    };
    let digits = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {said}")
}

/// Puts the table between the marks of a text.
///
/// # Errors
///
/// That there are no marks.
pub fn put(text: &str, table: &str) -> Result<String, String> {
    let [start, end] = MARKS;
    let (before, rest) =
        text.split_once(start).ok_or_else(|| format!("there is no line {}", start.trim()))?;
    let (_, after) = rest.split_once(end).ok_or_else(|| format!("there is no line {end}"))?;
    Ok(format!("{before}{start}{table}{end}{after}"))
}

/// The picture, PNG.
///
/// # Errors
///
/// What the plotter says.
pub fn drawn(rows: &[Row]) -> Result<Vec<u8>, String> {
    const NAMES: u32 = 330;
    const LEGEND: u32 = 30;
    let lines: Vec<_> = shown(rows).map(|(name, row)| (name.to_owned(), marks(row))).collect();
    let height = LEGEND + 90 + 22 * lines.len() as u32;
    let caption = "times kvroute's time, memory or time for each of a rate: left of 1× a peer is better";
    let axis = Axis { ticks: &[0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0], goes_below: true };
    let plot = Multiples { caption, axis, rows: lines, name_width: NAMES };
    let names = Kind::ALL.into_iter().filter_map(|kind| Some((kind.title(), brush(kind)?)));
    picture(980, height, |canvas| {
        let (top, below) = canvas.split_vertically(LEGEND);
        legend(&top, names, PAPER)?;
        multiples(&below, &plot, PAPER)
    })
}

/// kvroute at 1, and its peers.
fn marks(row: &Row) -> Vec<(f64, Brush)> {
    let times = |value: f64| match better(&row.workload, &row.measure) {
        Some(Better::Higher) => row.kvroute / value,
        _ => value / row.kvroute,
    };
    let mark = |kind| Some((times(row.value(kind)?), brush(kind)?));
    let marks = Kind::ALL.into_iter().filter_map(mark);
    marks.filter(|(multiple, _)| multiple.is_finite() && *multiple > 0.0).collect()
}

/// How a subject is drawn; yardsticks are not.
fn brush(kind: Kind) -> Option<Brush> {
    let color = match kind {
        Kind::Kvroute => RGBColor(34, 119, 238),
        Kind::ChainIndex => RGBColor(232, 89, 12),
        Kind::RadixTree => RGBColor(18, 158, 110),
        Kind::Crtc => RGBColor(112, 72, 232),
        Kind::DynamoTree => RGBColor(160, 130, 185),
        Kind::Dashmap | Kind::Oracle => return None,
    };
    Some(Brush { color, is_strong: kind == Kind::Kvroute })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record;

    fn row(workload: &str, measure: &str, unit: &str, kvroute: f64, crtc: f64) -> Row {
        Row {
            workload: workload.to_owned(),
            measure: measure.to_owned(),
            unit: unit.to_owned(),
            kvroute,
            peers: BTreeMap::from([("crtc".to_owned(), crtc)]),
            others: BTreeMap::new(),
            spread: BTreeMap::new(),
            ratio_to_best_peer: Some(crtc / kvroute),
            ratio_spread: None,
            target: None,
        }
    }

    #[test]
    fn every_headline_is_a_figure_of_a_workload() {
        for (name, workload, measure) in HEADLINES {
            assert!(better(workload, measure).is_some(), "{name}: {workload}, {measure}");
        }
    }

    #[test]
    fn the_table_names_the_best_peer_and_marks_where_it_is_ahead() {
        let rows = [
            row("tree", "store 512", "ns/block", 20.0, 10.0),
            row("heap-tree", "held", "B/entry", 20.0, 41.0),
        ];
        let text = markdown(&rows, Path::new("r"));
        assert!(text.contains(
            "| store, 512-block events | 20.0 ns a block | 10.0 ns a block, Dynamo CRTC | **0.50** |"
        ));
        assert!(text.contains(
            "| memory, 1.9 pods a chain | 20.0 bytes an entry | 41.0 bytes an entry, Dynamo CRTC | 2.05 |"
        ));
        assert!(text.ends_with("(r/versus.png)\n"));
    }

    #[test]
    fn the_table_takes_the_place_between_the_marks() {
        let text = "a\n<!-- versus -->\nold\n<!-- /versus -->\nb\n";
        assert_eq!(put(text, "new\n").unwrap(), "a\n<!-- versus -->\nnew\n<!-- /versus -->\nb\n");
        assert_eq!(put("a", "new").unwrap_err(), "there is no line <!-- versus -->");
    }

    #[test]
    fn the_picture_is_drawn_of_rates_and_of_times() {
        let rows = [
            row("tree", "store 512", "ns/block", 2.0, 1.0),
            row("scale", "2 threads, event blocks", "blocks/s", 2e6, 0.0),
        ];
        assert!(drawn(&rows).unwrap().starts_with(b"\x89PNG"));
        assert_eq!(marks(&rows[0]).iter().map(|mark| mark.0).collect::<Vec<_>>(), [1.0, 0.5]);
        assert_eq!(marks(&rows[1]).len(), 1, "nothing is divided by zero");
    }

    #[test]
    fn the_readme_shows_the_record_that_it_names() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        // Until the first record is shown, other figures stand between the marks.
        let Some((before, _)) = readme.split_once("/versus.png)") else { return };
        let name = before.rsplit_once('(').unwrap().1;
        let rows = record::read(&root.join(name)).unwrap();
        let table = markdown(&rows, Path::new(name));
        assert_eq!(put(&readme, &table).unwrap(), readme, "cargo versus --redraw {name} --readme README.md");
    }
}
