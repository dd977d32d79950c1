//! Colours of the policies.

use kvroute_plot::Brush;
use plotters::style::RGBColor;

use crate::lab::{Baseline, Row};

/// kvroute's policies: strong colours that stand out on white and on black.
const STRONG: [RGBColor; 8] = [
    RGBColor(34, 119, 238),
    RGBColor(232, 89, 12),
    RGBColor(18, 158, 110),
    RGBColor(214, 51, 108),
    RGBColor(112, 72, 232),
    RGBColor(214, 152, 0),
    RGBColor(12, 150, 170),
    RGBColor(150, 90, 30),
];

/// The brushes of these rows, in order; a policy has the same one in every cell.
pub(super) fn brushes(rows: &[Row]) -> Vec<Brush> {
    let mut strong = STRONG.into_iter().cycle();
    let brush = |row: &Row| {
        let muted =
            Baseline::ALL.into_iter().find(|baseline| !row.is_kvroute && baseline.name() == row.policy);
        match muted {
            Some(baseline) => Brush { color: muted_color(baseline), is_strong: false },
            None => Brush { color: strong.next().unwrap_or(STRONG[0]), is_strong: true },
        }
    };
    rows.iter().map(brush).collect()
}

fn muted_color(baseline: Baseline) -> RGBColor {
    match baseline {
        Baseline::RoundRobin => RGBColor(134, 142, 150),
        Baseline::Random => RGBColor(178, 156, 110),
        Baseline::LeastLoaded => RGBColor(166, 108, 100),
        Baseline::SessionHash => RGBColor(108, 160, 130),
        Baseline::Chwbl => RGBColor(160, 130, 185),
    }
}
