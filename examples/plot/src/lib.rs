//! How pictures of measurements look: what the lab and `cargo versus` have in common.
//!
//! A plot is a function of a canvas. [`picture`] makes a PNG of it that stands alone, [`svg`] a piece of a page that
//! follows the reader's light or dark theme.

mod multiples;
mod theme;

pub use multiples::{Axis, Multiples, legend, multiples};
pub use plotters::style::RGBColor;
pub use theme::{Brush, PAGE, PAPER, Theme, letters};

use plotters::coord::Shift;
use plotters::prelude::*;

use theme::REPLACED;

/// What a plot is drawn on.
pub type Canvas<B> = DrawingArea<B, Shift>;

/// Why a plot was not drawn.
pub type Failure<B> = DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>;

/// A plot as SVG for a page, `width` to `height` whatever size it is shown at.
///
/// # Errors
///
/// What plotters says; none that data could bring about.
pub fn svg<F>(width: u32, height: u32, draw: F) -> Result<String, String>
where
    F: for<'a> FnOnce(&Canvas<SVGBackend<'a>>) -> Result<(), Failure<SVGBackend<'a>>>,
{
    theme::with_letters()?;
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

/// A plot as PNG on white, `width` by `height` pixels.
///
/// # Errors
///
/// What plotters or the encoder say; none that data could bring about.
pub fn picture<F>(width: u32, height: u32, draw: F) -> Result<Vec<u8>, String>
where
    F: for<'a> FnOnce(&Canvas<BitMapBackend<'a>>) -> Result<(), Failure<BitMapBackend<'a>>>,
{
    theme::with_letters()?;
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
    let header = encoder.write_header().map_err(|error| error.to_string());
    header?.write_image_data(&pixels).map_err(|error| error.to_string())?;
    Ok(bytes)
}
