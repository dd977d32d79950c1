//! Plots over all workloads.

use kvroute_plot::{Axis, Brush, Canvas, Failure, Multiples, Theme};
use plotters::prelude::*;

use super::figure::front;
use crate::lab::{Cell, Metric};

/// What a figure is called, in a caption.
fn caption(metric: Metric) -> &'static str {
    match metric {
        Metric::TtftP50 => "median time to first token, times the best policy's",
        Metric::TtftP99 => "99th percentile of the time to first token, times the best policy's",
        _ => "times the best policy's",
    }
}

/// A figure of every policy in every cell, as a multiple of the best one's.
pub(super) fn multiples<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cells: &[&Cell],
    metric: Metric,
    brushes: &[Brush],
    theme: Theme,
) -> Result<(), Failure<B>> {
    let row = |cell: &&Cell| {
        let best = cell.best(metric);
        let marks = cell.rows.iter().zip(brushes).map(|(row, brush)| (row.mean(metric) / best, *brush));
        (cell.workload.clone(), marks.collect())
    };
    let axis = Axis { ticks: &[1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0], goes_below: false };
    let rows = cells.iter().map(row).collect();
    kvroute_plot::multiples(
        canvas,
        &Multiples { caption: caption(metric), axis, rows, name_width: 92 },
        theme,
    )
}

/// Hit rate against balance, one small plot a cell.
pub(super) fn fronts<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cells: &[&Cell],
    brushes: &[Brush],
    theme: Theme,
) -> Result<(), Failure<B>> {
    const COLUMNS: usize = 4;
    let parts = canvas.split_evenly((cells.len().div_ceil(COLUMNS), COLUMNS));
    for (cell, part) in cells.iter().zip(&parts) {
        front(part, cell, brushes, theme, &cell.workload)?;
    }
    Ok(())
}

/// The policies' names beside their marks.
pub(super) fn legend<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cell: &Cell,
    brushes: &[Brush],
    theme: Theme,
) -> Result<(), Failure<B>> {
    let names = cell.rows.iter().zip(brushes).map(|(row, brush)| (&*row.policy, *brush));
    kvroute_plot::legend(canvas, names, theme)
}
