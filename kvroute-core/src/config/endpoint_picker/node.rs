//! Values of the document with the way to them, read strictly.
//!
//! As llm-d does, a key that is not known is an error, and one without a value counts as left out.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};

use super::super::problem::{Path, Problem, shown, unknown};
use super::tree::Document;

/// A value and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Node<'d> {
    document: &'d Document<'d>,
    value: &'d Value,
    path: Path,
}

impl<'d> Node<'d> {
    pub(super) fn root(document: &'d Document<'d>) -> Self {
        Self { document, value: &document.tree, path: Path::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it, and where it is.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        let place = self.document.place(&self.path);
        Problem::new(message).with_path(self.path.clone()).with_place(place)
    }

    /// It is not what was expected.
    pub(super) fn unexpected(&self, expected: &str) -> Problem {
        let found = match self.value {
            Value::Null => "nothing".into(),
            Value::Array(_) => "a list".into(),
            Value::Object(_) => "a mapping".into(),
            Value::String(text) => format!("`{}`", shown(text)),
            Value::Bool(_) | Value::Number(_) => format!("`{}`", self.value),
        };
        self.problem(format!("found {found}, expected {expected}"))
    }

    /// It as a mapping of some of these keys.
    pub(super) fn mapping(self, known: &[&str]) -> Result<Mapping<'d>, Problem> {
        let Value::Object(entries) = self.value else { return Err(self.unexpected("a mapping")) };
        if let Some(key) = entries.keys().find(|key| !known.contains(&key.as_str())) {
            let place = self.document.place(&self.path.join(key.as_str()));
            let problem = Problem::new(unknown("key", key, known)).with_path(self.path);
            return Err(problem.with_place(place));
        }
        Ok(Mapping { node: self, entries: Some(entries) })
    }

    /// The entries of a mapping of any keys.
    pub(super) fn entries(self) -> Result<Vec<(&'d str, Self)>, Problem> {
        let Value::Object(entries) = self.value else { return Err(self.unexpected("a mapping")) };
        let child = |(key, value): (&'d String, &'d Value)| {
            (key.as_str(), Self { document: self.document, value, path: self.path.join(key.as_str()) })
        };
        Ok(entries.iter().map(child).collect())
    }

    /// Its items.
    pub(super) fn items(self) -> Result<Vec<Self>, Problem> {
        let Value::Array(items) = self.value else { return Err(self.unexpected("a list")) };
        let child = |(at, value)| Self { document: self.document, value, path: self.path.join(at) };
        Ok(items.iter().enumerate().map(child).collect())
    }

    pub(super) fn text(&self) -> Result<&'d str, Problem> {
        self.value.as_str().ok_or_else(|| self.unexpected("a text"))
    }

    pub(super) fn number(&self) -> Result<f64, Problem> {
        self.value.as_f64().ok_or_else(|| self.unexpected("a number"))
    }

    /// It as a number from `least` to `most`.
    pub(super) fn number_in(&self, least: f64, most: f64) -> Result<f64, Problem> {
        let number = self.number()?;
        if (least..=most).contains(&number) {
            return Ok(number);
        }
        Err(self.unexpected(&match most {
            f64::MAX => format!("a number, {least} or more"),
            most => format!("a number from {least} to {most}"),
        }))
    }

    pub(super) fn whole(&self) -> Result<i64, Problem> {
        self.value.as_i64().ok_or_else(|| self.unexpected("a whole number"))
    }

    /// It as a whole number from `least` on.
    pub(super) fn count(&self, least: u64) -> Result<u64, Problem> {
        let count = self.value.as_u64().filter(|count| *count >= least);
        count.ok_or_else(|| self.unexpected(&format!("a whole number, {least} or more")))
    }

    pub(super) fn flag(&self) -> Result<bool, Problem> {
        self.value.as_bool().ok_or_else(|| self.unexpected("true or false"))
    }

    /// It as a time in milliseconds, as Go writes them: `2s`, `500ms`, `1m30s`. Parts of a millisecond count as one.
    pub(super) fn milliseconds(&self) -> Result<u64, Problem> {
        let text = self.text()?;
        go_duration(text).ok_or_else(|| self.unexpected("a time such as `2s` or `500ms`"))
    }
}

/// A mapping of known keys.
#[derive(Clone, Debug)]
pub(super) struct Mapping<'d> {
    node: Node<'d>,
    entries: Option<&'d Map<String, Value>>,
}

impl<'d> Mapping<'d> {
    /// One that is left out of `node`.
    pub(super) fn none(node: Node<'d>) -> Self {
        Self { node, entries: None }
    }

    pub(super) fn node(&self) -> &Node<'d> {
        &self.node
    }

    /// A value; `None` if it is left out.
    pub(super) fn get(&self, key: &str) -> Option<Node<'d>> {
        let value = self.entries?.get(key).filter(|value| !value.is_null())?;
        Some(Node { document: self.node.document, value, path: self.node.path.join(key) })
    }

    /// A value that has to be there.
    pub(super) fn need(&self, key: &str) -> Result<Node<'d>, Problem> {
        self.get(key).ok_or_else(|| self.node.problem(format!("key `{key}` is missing")))
    }

    /// A text; one that is empty counts as left out, as Go has it.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'d str>, Problem> {
        let text = self.get(key).map(|node| node.text()).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        self.get(key).map(|node| node.flag()).transpose()
    }

    pub(super) fn whole(&self, key: &str) -> Result<Option<i64>, Problem> {
        self.get(key).map(|node| node.whole()).transpose()
    }

    pub(super) fn mapping(&self, key: &str, known: &[&str]) -> Result<Option<Self>, Problem> {
        self.get(key).map(|node| node.mapping(known)).transpose()
    }

    pub(super) fn items(&self, key: &str) -> Result<Vec<Node<'d>>, Problem> {
        self.get(key).map_or(Ok(Vec::new()), Node::items)
    }

    /// Which of these keys are given, for a message: "`a`, `b`".
    pub(super) fn given(&self, keys: &[&str]) -> Option<String> {
        let given: Vec<String> =
            keys.iter().filter(|key| self.get(key).is_some()).map(|key| format!("`{key}`")).collect();
        (!given.is_empty()).then(|| given.join(", "))
    }
}

/// Go's `time.ParseDuration`, for times that are not negative; milliseconds, rounded up.
fn go_duration(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-6),
        ("us", 1e-3),
        ("\u{b5}s", 1e-3),
        ("\u{3bc}s", 1e-3),
        ("ms", 1.0),
        ("s", 1e3),
        ("m", 6e4),
        ("h", 3.6e6),
    ];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest.get(..end)?.parse().ok()?;
        rest = rest.get(end..)?;
        let end = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..end])?;
        total += number * unit;
        rest = &rest[end..];
    }
    (!text.is_empty() && total < 1e15).then(|| libm::ceil(total) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_go_s() {
        for (text, expected) in [
            ("2s", Some(2000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("1ns", Some(1)),
            ("200\u{b5}s", Some(1)),
            (".5s", Some(500)),
            ("0", Some(0)),
            ("", None),
            ("2", None),
            ("s", None),
            ("-1s", None),
            ("2 s", None),
            ("1d", None),
            ("1e9s", None),
            ("1..2s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }
}
