//! The results for people: one HTML page with plots, and pictures.
//!
//! The page is one file that loads nothing. Its plots are SVG whose text and lines follow the reader's light or
//! dark theme.

mod figure;
mod overview;
mod page;
mod theme;

use std::path::{Path, PathBuf};

use kvroute_plot::{Brush, PAGE, PAPER, letters, picture, svg};
use plotters::prelude::*;

use super::{Cell, Lab, Metric};
use crate::capture::Result;

/// The page. `about` says how the results came about, in plain text.
///
/// # Errors
///
/// None that results could bring about.
pub fn html(lab: &Lab, about: &str) -> Result<String> {
    page::page(lab, about)
}

/// Writes the pictures into a folder, which is made if need be: times to first token and hit rate against balance
/// at the highest load of every workload. Says which files.
///
/// # Errors
///
/// A folder that cannot be written to.
pub fn pictures(lab: &Lab, folder: &Path) -> Result<Vec<PathBuf>> {
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
        let style = letters(16, PAPER.text);
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
