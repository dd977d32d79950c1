//! The table for people.

use std::fmt::Write;

use crate::row::Row;
use crate::subject::{DIFFERENCES, Kind};
use crate::workload::ALL;

/// The rows as a table, and what the subjects do differently.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let takes_part = |kind: &Kind| rows.iter().any(|row| row.value(*kind).is_some());
    let subjects: Vec<Kind> = Kind::ALL.into_iter().filter(takes_part).collect();
    let mut text = String::new();
    let width = rows.iter().map(|row| row.measure.len() + row.unit.len() + 3).max().unwrap_or(0);
    for workload in ALL {
        let mut rows = rows.iter().filter(|row| row.workload == workload.name).peekable();
        if rows.peek().is_none() {
            continue;
        }
        let _ = writeln!(text, "{}: {}", workload.name, workload.what);
        let _ = write!(text, "  {:width$}", "");
        for kind in subjects.iter().filter(|kind| workload.subjects.contains(kind)) {
            let _ = write!(text, " {:>12}", kind.name());
        }
        let _ = writeln!(text, "   to best peer");
        for row in rows {
            let _ = write!(text, "  {:width$}", format!("{} ({})", row.measure, row.unit));
            for kind in subjects.iter().filter(|kind| workload.subjects.contains(kind)) {
                let _ = write!(text, " {:>12}", row.value(*kind).map_or("-".to_owned(), number));
            }
            let ratio = row.ratio_to_best_peer.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x"));
            let (least, most) = row.ratio_spread.unwrap_or_default();
            let spread = row.ratio_spread.map_or(String::new(), |_| format!("({least:.2}-{most:.2})"));
            let mark = if row.misses() { "  below " } else { "" };
            let target =
                row.target.filter(|_| row.misses()).map_or(String::new(), |target| target.to_string());
            let _ = writeln!(text, "   {}", format!("{ratio:>8} {spread:<13}{mark}{target}").trim_end());
        }
        let _ = writeln!(text);
    }
    let _ = writeln!(
        text,
        "Medians over processes, with their least and largest ratio to that peer; above 1x is better than the best peer. \
         dashmap and oracle are no peers."
    );
    for (kind, what) in DIFFERENCES.iter().filter(|(kind, _)| subjects.contains(kind)) {
        let _ = writeln!(text, "  {:<12} {what}", kind.name());
    }
    text
}

/// Three digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e6 => format!("{:.2}M", value / 1e6),
        size if size >= 1e5 => format!("{:.0}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_row_shows_every_subject_its_ratio_and_that_it_misses_its_target() {
        let row = Row {
            workload: ALL[0].name.to_owned(),
            measure: "hit".to_owned(),
            unit: "ns".to_owned(),
            kvroute: 123.4,
            peers: BTreeMap::from([("crtc".to_owned(), 150.0)]),
            others: BTreeMap::new(),
            spread: BTreeMap::new(),
            ratio_to_best_peer: Some(1.2),
            ratio_spread: Some((1.0, 1.3)),
            target: Some(2.0),
        };
        let text = table(&[row]);
        let line = text.lines().find(|line| line.contains("hit (ns)")).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["hit", "(ns)", "123", "150", "1.20x", "(1.00-1.30)", "below", "2"]);
        assert!(text.contains("dynamo-kv-router 1.6 ConcurrentRadixTreeCompressed"));
        assert!(!text.contains("smg-radix-tree 0.1"), "who takes no part is not described");
    }

    #[test]
    fn numbers_keep_about_three_digits() {
        let shown = [0.0, 0.123, 12.34, 1234.5, 123_456.0, 12_345_678.0].map(number);
        assert_eq!(shown, ["0", "0.12", "12.3", "1234", "123k", "12.35M"]);
    }
}
