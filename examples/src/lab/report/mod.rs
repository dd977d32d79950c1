//! The results for people: one HTML page with plots, and pictures.
//!
//! The page is one file that loads nothing. Its plots are SVG whose text and lines follow the reader's light or
//! dark theme.

mod figure;
mod overview;
mod page;
mod theme;

use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Cell, Lab, Metric};
use crate::capture::Result;
use theme::{Brush, PAGE, PAPER, REPLACED};

/// The page. `about` says how the results came about, in plain text.
///
/// # Errors
///
/// None that results could bring about.
pub fn html(lab: &Lab, about: &str) -> Result<String> {
    theme::with_letters()?;
    page::page(lab, about)
}

/// Writes the pictures into a folder, which is made if need be: times to first token and hit rate against balance
/// at the highest load of every workload. Says which files.
///
/// # Errors
///
/// A folder that cannot be written to.
pub fn pictures(lab: &Lab, folder: &Path) -> Result<Vec<PathBuf>> {
    theme::with_letters()?;
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let cells = highest(lab);
    let Some(first) = cells.first() else { return Ok(Vec::new()) };
    let brushes = theme::brushes(&first.rows);
    let (legend, line) = (if brushes.len() > 8 { 48 } else { 28 }, 30);
    let plot = 90 + line * cells.len() as u32;
    let times = picture(920, legend + 2 * plot, |canvas| {
        let (top, below) = canvas.split_vertically(legend);
        overview::legend(&top, first, &brushes, PAPER)?;
        let (upper, lower) = below.split_vertically(plot);
        overview::multiples(&upper, &cells, Metric::TtftP50, &brushes, PAPER)?;
        overview::multiples(&lower, &cells, Metric::TtftP99, &brushes, PAPER)
    })?;
    let rows = cells.len().div_ceil(4) as u32;
    let balance = picture(1120, legend + 24 + 220 * rows, |canvas| {
        let (top, below) = canvas.split_vertically(legend + 24);
        let caption = "hit rate, %, against the busiest pod's busy time, times the mean: best is top left";
        let style = theme::letters(16, PAPER.text);
        top.draw(&Text::new(caption, (12, legend as i32 + 2), style))?;
        overview::legend(&top, first, &brushes, PAPER)?;
        overview::fronts(&below, &cells, &brushes, PAPER)
    })?;
    let mut files = Vec::new();
    for (name, bytes) in [("ttft.png", times), ("balance.png", balance)] {
        let file = folder.join(name);
        std::fs::write(&file, bytes).map_err(|error| format!("{}: {error}", file.display()))?;
        files.push(file);
    }
    Ok(files)
}

/// The cell of each workload's highest load.
fn highest(lab: &Lab) -> Vec<&Cell> {
    let mut cells: Vec<&Cell> = Vec::new();
    for cell in &lab.cells {
        match cells.last_mut() {
            Some(last) if last.workload == cell.workload && cell.rate >= last.rate => *last = cell,
            Some(last) if last.workload == cell.workload => {}
            _ => cells.push(cell),
        }
    }
    cells
}

/// A plot as SVG for the page.
fn svg<F>(width: u32, height: u32, draw: F) -> Result<String>
where
    F: for<'a> FnOnce(
        &DrawingArea<SVGBackend<'a>, Shift>,
    ) -> std::result::Result<(), figure::Failure<SVGBackend<'a>>>,
{
    let mut text = String::new();
    let canvas = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
    draw(&canvas).map_err(|error| error.to_string())?;
    canvas.present().map_err(|error| error.to_string())?;
    drop(canvas);
    for (color, themed) in REPLACED {
        text = text.replace(color, themed);
    }
    // Of fixed size it would not shrink on a narrow screen.
    let fixed = format!("width=\"{width}\" height=\"{height}\" ");
    Ok(text.replacen(&fixed, "", 1))
}

/// A plot as PNG.
fn picture<F>(width: u32, height: u32, draw: F) -> Result<Vec<u8>>
where
    F: for<'a> FnOnce(
        &DrawingArea<BitMapBackend<'a>, Shift>,
    ) -> std::result::Result<(), figure::Failure<BitMapBackend<'a>>>,
{
    let mut pixels = vec![0; width as usize * height as usize * 3];
    let canvas = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    if let Some(ground) = PAPER.ground {
        canvas.fill(&ground).map_err(|error| error.to_string())?;
    }
    draw(&canvas).map_err(|error| error.to_string())?;
    canvas.present().map_err(|error| error.to_string())?;
    drop(canvas);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(bytes)
}

/// The plots of one cell, in the order in which the page shows them.
fn plots(cell: &Cell, brushes: &[Brush]) -> Result<[String; 4]> {
    const SIZE: (u32, u32) = (560, 300);
    let (width, height) = SIZE;
    Ok([
        svg(width, height, |canvas| figure::distribution(canvas, cell, brushes, PAGE))?,
        svg(width, height, |canvas| figure::over_time(canvas, cell, brushes, PAGE))?,
        svg(width, height, |canvas| {
            let caption = "hit rate, %, against the busiest pod's busy time: best is top left";
            figure::front(canvas, cell, brushes, PAGE, caption)
        })?,
        svg(width, height, |canvas| figure::spread(canvas, cell, brushes, PAGE))?,
    ])
}
