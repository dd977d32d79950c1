//! Colours, letters and marks.

use std::sync::OnceLock;

use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Colours of what is not data.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Letters.
    pub text: RGBColor,
    /// Axes and lines of the grid.
    pub grid: RGBColor,
    /// `None`: whatever lies below.
    pub ground: Option<RGBColor>,
}

/// Stand-ins that nothing else has; [`svg`](crate::svg) replaces them by colours that follow the reader's light or dark
/// theme.
pub const PAGE: Theme = Theme { text: RGBColor(1, 2, 3), grid: RGBColor(3, 2, 1), ground: None };

/// For pictures that stand alone.
pub const PAPER: Theme = Theme {
    text: RGBColor(52, 58, 64),
    grid: RGBColor(222, 226, 230),
    ground: Some(RGBColor(255, 255, 255)),
};

/// The stand-ins of [`PAGE`] as they are written, and what takes their place.
pub(crate) const REPLACED: [(&str, &str); 2] =
    [("\"#010203\"", "\"currentColor\""), ("\"#030201\"", "\"var(--grid)\"")];

/// How data are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Brush {
    /// Their colour.
    pub color: RGBColor,
    /// kvroute is drawn with solid lines and discs, what it is compared with dashed and with rings.
    pub is_strong: bool,
}

impl Brush {
    /// A disc or a ring, where its coordinates say.
    #[must_use]
    pub fn mark<C>(self, at: C) -> Circle<C, i32> {
        if self.is_strong {
            Circle::new(at, 5, self.color.filled())
        } else {
            Circle::new(at, 4, self.color.stroke_width(2))
        }
    }
}

/// Letters of this size.
#[must_use]
pub fn letters(size: i32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

/// Makes the letters known; to be called before anything is drawn.
pub(crate) fn with_letters() -> Result<(), String> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let register = || {
        let font = include_bytes!("../assets/Roboto-Regular-latin.ttf");
        register_font("sans-serif", FontStyle::Normal, font).is_ok()
    };
    if *REGISTERED.get_or_init(register) { Ok(()) } else { Err("the font cannot be read".into()) }
}
