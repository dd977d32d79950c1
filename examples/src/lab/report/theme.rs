//! Colours and letters of the plots.

use std::sync::OnceLock;

use plotters::style::{FontStyle, RGBColor, TextStyle, register_font};

use crate::lab::{Baseline, Row};

/// Colours of what is not data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) text: RGBColor,
    pub(super) grid: RGBColor,
    /// `None`: whatever lies below.
    pub(super) ground: Option<RGBColor>,
}

/// Stand-ins that nothing else has; the report replaces them by colours that follow the reader's light or dark
/// theme.
pub(super) const PAGE: Theme = Theme { text: RGBColor(1, 2, 3), grid: RGBColor(3, 2, 1), ground: None };

/// For pictures that stand alone.
pub(super) const PAPER: Theme = Theme {
    text: RGBColor(52, 58, 64),
    grid: RGBColor(222, 226, 230),
    ground: Some(RGBColor(255, 255, 255)),
};

/// The stand-ins of [`PAGE`] as they are written, and what takes their place.
pub(super) const REPLACED: [(&str, &str); 2] =
    [("\"#010203\"", "\"currentColor\""), ("\"#030201\"", "\"var(--grid)\"")];

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

/// How a policy is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brush {
    pub(super) color: RGBColor,
    /// kvroute is drawn with solid lines and discs, what it is compared with dashed and with rings.
    pub(super) is_strong: bool,
}

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

/// Letters of this size.
pub(super) fn letters(size: i32, color: RGBColor) -> TextStyle<'static> {
    use plotters::style::IntoFont;
    ("sans-serif", size).into_font().color(&color)
}

/// Makes the letters known; to be called before anything is drawn.
///
/// # Errors
///
/// None, as the font is committed.
pub(super) fn with_letters() -> Result<(), String> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let register = || {
        let font = include_bytes!("../../../assets/Roboto-Regular-latin.ttf");
        register_font("sans-serif", FontStyle::Normal, font).is_ok()
    };
    if *REGISTERED.get_or_init(register) { Ok(()) } else { Err("the font cannot be read".into()) }
}
