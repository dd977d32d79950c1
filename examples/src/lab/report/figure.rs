//! The plots of one cell.

use kvroute_plot::{Brush, Canvas, Failure, Theme, letters};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::lab::{Cell, Metric, Row, WINDOWS};

const SMALL: i32 = 13;
const LARGE: i32 = 15;

/// Share of the requests that had their first token within a time.
pub(super) fn distribution<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cell: &Cell,
    brushes: &[Brush],
    theme: Theme,
) -> Result<(), Failure<B>> {
    let quantiles: Vec<Vec<f64>> = cell.rows.iter().map(mean_quantiles).collect();
    let least = quantiles.iter().filter_map(|times| times.first()).fold(f64::INFINITY, |a, b| a.min(*b));
    let most = quantiles.iter().filter_map(|times| times.last()).fold(0.0, |a: f64, b| a.max(*b));
    let least = if least.is_finite() { least.max(1.0) * 0.9 } else { 1.0 };
    let most = most.max(least * 2.0);
    let mut chart = ChartBuilder::on(canvas)
        .margin(10)
        .caption("time to first token, ms: share of requests below, %", letters(LARGE, theme.text))
        .x_label_area_size(24)
        .y_label_area_size(40)
        .build_cartesian_2d((least..most).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(theme.grid)
        .light_line_style(TRANSPARENT)
        .axis_style(theme.grid)
        .label_style(letters(SMALL, theme.text))
        .x_label_formatter(&|_| String::new())
        .y_label_formatter(&|share| format!("{share:.0}"))
        .y_labels(6)
        .draw()?;
    let below = letters(SMALL, theme.text).pos(Pos::new(HPos::Center, VPos::Top));
    for time in ticks(least, most) {
        chart.draw_series(LineSeries::new([(time, 0.0), (time, 100.0)], theme.grid))?;
        let label = Text::new(brief(time), (0, 6), below.clone());
        chart.draw_series([EmptyElement::at((time, 0.0)) + label])?;
    }
    for (times, brush) in quantiles.iter().zip(brushes).rev() {
        let steps = (times.len() as f64 - 1.0).max(1.0);
        let points = times.iter().enumerate().map(|(n, time)| (*time, 100.0 * n as f64 / steps));
        line(&mut chart, points, *brush)?;
    }
    Ok(())
}

/// Hit rate in the course of the run, and what an unlimited cache would have had after the warm-up.
pub(super) fn over_time<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cell: &Cell,
    brushes: &[Brush],
    theme: Theme,
) -> Result<(), Failure<B>> {
    let most = top(cell);
    let mut chart = ChartBuilder::on(canvas)
        .margin(10)
        .caption("hit rate in the course of the run, %", letters(LARGE, theme.text))
        .x_label_area_size(24)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..100.0, 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(theme.grid)
        .light_line_style(TRANSPARENT)
        .axis_style(theme.grid)
        .label_style(letters(SMALL, theme.text))
        .x_labels(6)
        .x_label_formatter(&|share| format!("{share:.0} %"))
        .y_label_formatter(&|share| format!("{share:.0}"))
        .y_labels(6)
        .draw()?;
    let bound = [0.0, 100.0].map(|x| (x, cell.bound.mean * 100.0));
    chart.draw_series(DashedLineSeries::new(bound, 2, 4, theme.text.stroke_width(1)))?;
    for (row, brush) in cell.rows.iter().zip(brushes).rev() {
        let points = (0..WINDOWS).filter_map(|n| {
            let hits: Vec<f64> = row.runs.iter().filter_map(|run| run.windows[n]).collect();
            let mean = hits.iter().sum::<f64>() / hits.len() as f64;
            (!hits.is_empty()).then_some((100.0 * (n as f64 + 0.5) / WINDOWS as f64, mean * 100.0))
        });
        line(&mut chart, points.collect::<Vec<_>>().into_iter(), *brush)?;
    }
    Ok(())
}

/// The busiest pod against the mean: by time that its engine worked (discs), by requests (rings).
pub(super) fn spread<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cell: &Cell,
    brushes: &[Brush],
    theme: Theme,
) -> Result<(), Failure<B>> {
    let both = [Metric::BusySpread, Metric::RequestSpread];
    let most = cell.rows.iter().flat_map(|row| both.map(|metric| row.mean(metric))).fold(1.2, f64::max);
    let rows = cell.rows.len();
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) if *place < rows => cell.rows[rows - 1 - place].policy.clone(),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(canvas)
        .margin(10)
        .caption("busiest pod against the mean: disc busy time, ring requests", letters(LARGE, theme.text))
        .x_label_area_size(24)
        .y_label_area_size(100)
        .build_cartesian_2d(1.0..1.0 + (most - 1.0) * 1.05, (0..rows.saturating_sub(1)).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .bold_line_style(theme.grid)
        .light_line_style(TRANSPARENT)
        .axis_style(theme.grid)
        .label_style(letters(SMALL, theme.text))
        .x_labels(6)
        .y_labels(rows)
        .x_label_formatter(&|value| format!("{value:.1}"))
        .y_label_formatter(&name)
        .draw()?;
    for (place, (row, brush)) in cell.rows.iter().zip(brushes).enumerate() {
        let at = |metric| (row.mean(metric), SegmentValue::CenterOf(rows - 1 - place));
        let (busy, requests) = (at(Metric::BusySpread), at(Metric::RequestSpread));
        chart.draw_series(LineSeries::new([busy.clone(), requests.clone()], brush.color.mix(0.5)))?;
        chart.draw_series([Circle::new(requests, 4, brush.color.stroke_width(2))])?;
        chart.draw_series([Circle::new(busy, 5, brush.color.filled())])?;
    }
    Ok(())
}

/// Hit rate against balance: the best policies are at the top left. The line joins those that no other beats in
/// both; the dashes are what an unlimited cache would hit.
pub(super) fn front<B: DrawingBackend>(
    canvas: &Canvas<B>,
    cell: &Cell,
    brushes: &[Brush],
    theme: Theme,
    caption: &str,
) -> Result<(), Failure<B>> {
    let most = cell.rows.iter().map(|row| row.mean(Metric::BusySpread)).fold(1.1, f64::max);
    let width = (most - 1.0) * 1.1;
    let mut chart = ChartBuilder::on(canvas)
        .margin(10)
        .caption(caption, letters(LARGE, theme.text))
        .x_label_area_size(24)
        .y_label_area_size(40)
        .build_cartesian_2d(1.0 - width * 0.04..1.0 + width, 0.0..top(cell))?;
    chart
        .configure_mesh()
        .bold_line_style(theme.grid)
        .light_line_style(TRANSPARENT)
        .axis_style(theme.grid)
        .label_style(letters(SMALL, theme.text))
        .x_labels(5)
        .y_labels(6)
        .x_label_formatter(&|value| format!("{value:.2}"))
        .y_label_formatter(&|share| format!("{share:.0}"))
        .draw()?;
    let bound = [1.0 - width * 0.04, 1.0 + width].map(|x| (x, cell.bound.mean * 100.0));
    chart.draw_series(DashedLineSeries::new(bound, 2, 4, theme.text.stroke_width(1)))?;
    let point = |row: &Row| (row.mean(Metric::BusySpread), row.mean(Metric::HitRate) * 100.0);
    let mut on_front: Vec<_> = cell.rows.iter().filter(|row| row.is_on_front).map(point).collect();
    on_front.sort_by(|one, other| one.0.total_cmp(&other.0));
    chart.draw_series(LineSeries::new(on_front, theme.text.mix(0.4)))?;
    for (row, brush) in cell.rows.iter().zip(brushes).rev() {
        chart.draw_series([brush.mark(point(row))])?;
    }
    Ok(())
}

/// A chart with numbers on both axes.
type Plot<'a, B, X> = ChartContext<'a, B, Cartesian2d<X, plotters::coord::types::RangedCoordf64>>;

fn line<B: DrawingBackend, X: Ranged<ValueType = f64>>(
    chart: &mut Plot<'_, B, X>,
    points: impl Iterator<Item = (f64, f64)> + Clone,
    brush: Brush,
) -> Result<(), Failure<B>> {
    if brush.is_strong {
        chart.draw_series(LineSeries::new(points, brush.color.stroke_width(2)))?;
    } else {
        chart.draw_series(DashedLineSeries::new(points, 7, 4, brush.color.stroke_width(2)))?;
    }
    Ok(())
}

/// Mean over the seeds of the time that each hundredth of the requests stays below.
fn mean_quantiles(row: &Row) -> Vec<f64> {
    let points = row.runs.first().map_or(0, |run| run.ttft_quantiles.len());
    let mean = |n: usize| row.runs.iter().map(|run| run.ttft_quantiles[n]).sum::<f64>();
    (0..points).map(|n| mean(n) / row.runs.len() as f64).collect()
}

/// The upper end of an axis of hit rates, %: round, and above all of the cell.
fn top(cell: &Cell) -> f64 {
    let hits = cell.rows.iter().map(|row| row.mean(Metric::HitRate));
    let most = hits.fold(cell.bound.mean, f64::max) * 100.0;
    ((most * 1.05 / 10.0).ceil() * 10.0).clamp(10.0, 100.0)
}

/// Round numbers from `least` to `most`: 1, 2, 5 and so on, or powers of ten if those are many.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let between = |steps: &[f64]| -> Vec<f64> {
        let all = (0..9).flat_map(|power| steps.iter().map(move |step| step * 10.0_f64.powi(power)));
        all.filter(|tick| (least..=most).contains(tick)).collect()
    };
    let fine = between(&[1.0, 2.0, 5.0]);
    if fine.len() > 9 { between(&[1.0]) } else { fine }
}

/// A time in few letters.
fn brief(ms: f64) -> String {
    if ms >= 10_000.0 {
        format!("{:.0}k", ms / 1000.0)
    } else if ms >= 1000.0 {
        format!("{}k", (ms / 100.0).round() / 10.0)
    } else {
        format!("{ms:.0}")
    }
}
