//! Plots over all workloads.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figure::{Canvas, Failure, front, mark};
use super::theme::{Brush, Theme, letters};
use crate::lab::{Cell, Metric};

const SMALL: i32 = 14;
const LARGE: i32 = 16;

/// What a figure is called, in a caption.
fn caption(metric: Metric) -> &'static str {
    match metric {
        Metric::TtftP50 => "median time to first token, times the best policy's",
        Metric::TtftP99 => "99th percentile of the time to first token, times the best policy's",
        _ => "times the best policy's",
    }
}

/// A figure of every policy in every cell, as a multiple of the best one's: each cell a line, each policy a
/// mark. Multiples beyond `most` are drawn at the edge.
pub(super) fn multiples<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cells: &[&Cell],
    metric: Metric,
    brushes: &[Brush],
    theme: Theme,
) -> Result<(), Failure<B>> {
    const MOST: f64 = 30.0;
    let rows = cells.len();
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) if *place < rows => cells[rows - 1 - place].workload.clone(),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(canvas)
        .margin(12)
        .caption(caption(metric), letters(LARGE, theme.text))
        .x_label_area_size(28)
        .y_label_area_size(92)
        .build_cartesian_2d((0.93..MOST * 1.1).log_scale(), (0..rows.saturating_sub(1)).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_x_mesh()
        .axis_style(theme.grid)
        .label_style(letters(SMALL, theme.text))
        .y_labels(rows)
        .x_label_formatter(&|_| String::new())
        .y_label_formatter(&name)
        .draw()?;
    // The axis of a logarithmic scale has no ticks of its own that a reader would choose.
    for tick in [1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, MOST] {
        let ends = [(tick, SegmentValue::Exact(0)), (tick, SegmentValue::Last)];
        chart.draw_series(LineSeries::new(ends, theme.grid))?;
        let label = if tick == MOST { format!("{tick}+") } else { format!("{tick}×") };
        let style = letters(SMALL, theme.text).pos(Pos::new(HPos::Center, VPos::Top));
        let below = EmptyElement::at((tick, SegmentValue::Exact(0))) + Text::new(label, (0, 6), style);
        chart.draw_series([below])?;
    }
    for (place, cell) in cells.iter().enumerate() {
        let best = cell.best(metric);
        for (row, brush) in cell.rows.iter().zip(brushes).rev() {
            let multiple = (row.mean(metric) / best).clamp(1.0, MOST);
            mark(&mut chart, (multiple, SegmentValue::CenterOf(rows - 1 - place)), *brush)?;
        }
    }
    Ok(())
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

/// The policies' names beside their marks, in lines as wide as the canvas.
pub(super) fn legend<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cell: &Cell,
    brushes: &[Brush],
    theme: Theme,
) -> Result<(), Failure<B>> {
    let style = letters(SMALL, theme.text).pos(Pos::new(HPos::Left, VPos::Center));
    let width = canvas.dim_in_pixel().0 as i32;
    let (mut x, mut y) = (20, 14);
    for (row, brush) in cell.rows.iter().zip(brushes) {
        let text = canvas.estimate_text_size(&row.policy, &style)?.0 as i32;
        if x + text + 24 > width {
            (x, y) = (20, y + 20);
        }
        let shape = if brush.is_strong { brush.color.filled() } else { brush.color.stroke_width(2) };
        canvas.draw(&Circle::new((x, y), if brush.is_strong { 5 } else { 4 }, shape))?;
        canvas.draw(&Text::new(row.policy.clone(), (x + 10, y), style.clone()))?;
        x += text + 34;
    }
    Ok(())
}
