//! Figures as multiples of one another: a line a row, a mark a competitor, on a logarithmic axis.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::{Brush, Canvas, Failure, Theme, letters};

const SMALL: i32 = 14;
const LARGE: i32 = 16;

/// The axis of multiples. What lies beyond its ticks is drawn at the last one, which says so.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// Where it says how many times, in rising order; at least two.
    pub ticks: &'a [f64],
    /// Whether less than the first tick is drawn there, too, and not only more than the last.
    pub goes_below: bool,
}

/// A plot of multiples.
#[derive(Clone, Debug)]
pub struct Multiples<'a> {
    /// What is shown.
    pub caption: &'a str,
    /// The axis.
    pub axis: Axis<'a>,
    /// From the top: a name, and its marks, the most important first.
    pub rows: Vec<(String, Vec<(f64, Brush)>)>,
    /// Pixels for the names.
    pub name_width: u32,
}

/// Draws the rows.
///
/// # Errors
///
/// What the canvas says.
pub fn multiples<B: DrawingBackend>(
    canvas: &Canvas<B>,
    plot: &Multiples<'_>,
    theme: Theme,
) -> Result<(), Failure<B>> {
    let Multiples { caption, axis, rows, name_width } = plot;
    let (least, most) =
        (axis.ticks.first().copied().unwrap_or(1.0), axis.ticks.last().copied().unwrap_or(2.0));
    let count = rows.len();
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) if *place < count => rows[count - 1 - place].0.clone(),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(canvas)
        .margin(12)
        .caption(caption, letters(LARGE, theme.text))
        .x_label_area_size(28)
        .y_label_area_size(*name_width)
        .build_cartesian_2d(
            (least * 0.93..most * 1.1).log_scale(),
            (0..count.saturating_sub(1)).into_segmented(),
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_x_mesh()
        .axis_style(theme.grid)
        .label_style(letters(SMALL, theme.text))
        .y_labels(count)
        .x_label_formatter(&|_| String::new())
        .y_label_formatter(&name)
        .draw()?;
    // The axis of a logarithmic scale has no ticks of its own that a reader would choose.
    for &tick in axis.ticks {
        let ends = [(tick, SegmentValue::Exact(0)), (tick, SegmentValue::Last)];
        // One times is what all else is compared with.
        let line =
            if tick == 1.0 && axis.goes_below { theme.text.stroke_width(1) } else { theme.grid.into() };
        chart.draw_series(LineSeries::new(ends, line))?;
        let style = letters(SMALL, theme.text).pos(Pos::new(HPos::Center, VPos::Top));
        let label = Text::new(label(tick, axis), (0, 6), style);
        chart.draw_series([EmptyElement::at((tick, SegmentValue::Exact(0))) + label])?;
    }
    for (place, (_, marks)) in rows.iter().enumerate() {
        for &(multiple, brush) in marks.iter().rev() {
            let at = (multiple.clamp(least, most), SegmentValue::CenterOf(count - 1 - place));
            chart.draw_series([brush.mark(at)])?;
        }
    }
    Ok(())
}

fn label(tick: f64, axis: &Axis<'_>) -> String {
    match axis.ticks {
        [.., last] if *last == tick => format!("{tick}+"),
        [first, ..] if *first == tick && axis.goes_below => format!("<{tick}"),
        _ => format!("{tick}×"),
    }
}

/// Names beside their marks, in lines as wide as the canvas.
///
/// # Errors
///
/// What the canvas says.
pub fn legend<'a, B: DrawingBackend>(
    canvas: &Canvas<B>,
    names: impl Iterator<Item = (&'a str, Brush)>,
    theme: Theme,
) -> Result<(), Failure<B>> {
    let style = letters(SMALL, theme.text).pos(Pos::new(HPos::Left, VPos::Center));
    let width = canvas.dim_in_pixel().0 as i32;
    let (mut x, mut y) = (20, 14);
    for (name, brush) in names {
        let text = canvas.estimate_text_size(name, &style)?.0 as i32;
        if x + text + 24 > width {
            (x, y) = (20, y + 20);
        }
        canvas.draw(&brush.mark((x, y)))?;
        canvas.draw(&Text::new(name.to_owned(), (x + 10, y), style.clone()))?;
        x += text + 34;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PAPER, svg};

    #[test]
    fn what_lies_beyond_the_axis_is_drawn_at_its_end() {
        let brush = Brush { color: RGBColor(9, 8, 7), is_strong: true };
        let drawn = |multiple: f64| {
            let rows = vec![("a".to_owned(), vec![(multiple, brush)]), ("b".to_owned(), vec![])];
            let axis = Axis { ticks: &[0.5, 1.0, 2.0], goes_below: true };
            let plot = Multiples { caption: "times", axis, rows, name_width: 40 };
            svg(300, 120, |canvas| multiples(canvas, &plot, PAPER)).unwrap()
        };
        assert!(drawn(1.0).contains("&lt;0.5") && drawn(1.0).contains("2+"));
        assert_eq!(drawn(7.0), drawn(2.0));
        assert_eq!(drawn(0.01), drawn(0.5));
        assert_ne!(drawn(1.0), drawn(2.0));
    }
}
