//! What is wrong with a configuration, and where in it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Display, Write as _};

use crate::{Error, ErrorKind};

/// Longest part of somebody's text that a message repeats; characters.
const MOST_SHOWN: usize = 60;

/// One step on the way from the whole configuration to a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A key of a mapping.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The way to a value, written `pods[3].domain`. Keys that are not plain words are quoted:
/// `domains["llama-3.1-8b"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// The way one step further.
    pub(super) fn join(&self, step: impl Into<Step>) -> Self {
        let mut steps = self.0.clone();
        steps.push(step.into());
        Self(steps)
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if is_word(key) => {
                    let dot = if at == 0 { "" } else { "." };
                    write!(f, "{dot}{key}")?;
                }
                Step::Key(key) => write!(f, "[\"{}\"]", shown(key))?,
            }
        }
        Ok(())
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= MOST_SHOWN
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Line and column, both from 1.
pub(super) type Place = (u64, u64);

/// What is wrong with a configuration, on its way up: each level adds its step to the path.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Innermost step first.
    steps: Vec<Step>,
    kind: ErrorKind,
    message: String,
    place: Option<Place>,
}

impl Problem {
    /// A problem of the value at hand.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { steps: Vec::new(), kind: ErrorKind::InvalidInput, message: message.into(), place: None }
    }

    /// The value `found` is not what was expected.
    #[must_use]
    pub fn found(found: impl Display, expected: impl Display) -> Self {
        Self::new(format!("found `{found}`, expected {expected}"))
    }

    /// The same, one level up.
    #[must_use]
    pub fn at(mut self, step: impl Into<Step>) -> Self {
        self.steps.push(step.into());
        self
    }

    /// The same, with the whole path, from outside in.
    #[must_use]
    pub(super) fn with_path(mut self, path: Path) -> Self {
        self.steps = path.0;
        self.steps.reverse();
        self
    }

    #[must_use]
    pub(super) fn with_place(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    pub(super) fn path(&self) -> Path {
        Path(self.steps.iter().rev().cloned().collect())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self { kind: error.kind(), ..Self::new(error.to_string()) }
    }
}

impl From<Problem> for Error {
    /// `path: message (line 3, column 7)`, as far as these are known.
    fn from(problem: Problem) -> Self {
        let mut text = problem.path().to_string();
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&problem.message);
        if let Some((line, column)) = problem.place {
            // Writing to a String does not fail.
            let _ = write!(text, " (line {line}, column {column})");
        }
        Self::new(problem.kind, text)
    }
}

/// The beginning of a text of any length, fit for a log: control characters are escaped.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at == MOST_SHOWN {
            shown.push_str("...");
            break;
        }
        if letter.is_control() { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    shown
}

/// The message for a name that is none of `known`: with the nearest one, or else with all of them.
pub(super) fn unknown(kind: &str, name: &str, known: &[&str]) -> String {
    let start = format!("unknown {kind} `{}`", shown(name));
    match nearest(name, known) {
        Some(near) => format!("{start}; did you mean `{near}`?"),
        None if known.is_empty() => format!("{start}; there is none"),
        None => format!("{start}; known: {}", known.join(", ")),
    }
}

/// The known name that `name` was probably meant to be: no more than a third of its letters off.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let length = name.chars().count();
    // The distance of two texts costs the product of their lengths.
    if length > MOST_SHOWN {
        return None;
    }
    let name = name.to_lowercase();
    let distance = |known: &str| strsim::osa_distance(&name, &known.to_lowercase());
    let (distance, near) = known.iter().map(|known| (distance(known), *known)).min()?;
    (distance <= (length / 3).max(1)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_from_outside_in() {
        let problem = Problem::new("what").at("a b").at(3_usize).at("pods");
        assert_eq!(problem.path().to_string(), "pods[3][\"a b\"]");
        let error = Error::from(problem.with_place(Some((7, 2))));
        assert_eq!(error.to_string(), "pods[3][\"a b\"]: what (line 7, column 2)");
        assert_eq!(Error::from(Problem::new("what")).to_string(), "what");
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["kv-cache", "prefix", "session", "load"];
        for (name, near) in [
            ("kv-cahce", Some("kv-cache")),
            ("kv_cache", Some("kv-cache")),
            ("KV-Cache", Some("kv-cache")),
            ("laod", Some("load")),
            ("prefixes", Some("prefix")),
            ("queue", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, &known), near, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), &known), None);
        assert_eq!(
            unknown("scorer", "queue", &known),
            "unknown scorer `queue`; known: kv-cache, prefix, session, load"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shown(&"\u{e9}".repeat(61)), alloc::format!("{}...", "\u{e9}".repeat(60)));
        assert_eq!(shown("short"), "short");
        assert_eq!(shown("a\n\u{1b}[2J"), "a\\n\\u{1b}[2J");
    }
}
