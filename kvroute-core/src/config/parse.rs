//! From documents to the model, and from what the parsers say to what helps a person.
//!
//! YAML errors come with their parts; JSON errors come as Serde's sentences, which are taken apart here
//! (a test pins their wording). Both end up in one form.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde_path_to_error::{Deserializer as Tracked, Segment, Track};
use serde_saphyr::Error as YamlError;
use serde_saphyr::options::{AliasLimits, NonFiniteFloatPolicy};

use super::problem::{Path, Problem, Step, shown, unknown};
use super::value::key;
use super::{Document, place};
use crate::Error;

/// Longest document that is read; bytes.
const MAX_DOCUMENT: usize = 16 << 20;

/// Outermost keys of llm-d's `EndpointPickerConfig` (llm-d-router ebab687, `apix/config/v1alpha1`).
pub(super) const ENDPOINT_PICKER_KEYS: [&str; 10] = [
    "apiVersion",
    "kind",
    "featureGates",
    "plugins",
    "schedulingProfiles",
    "dataLayer",
    "flowControl",
    "requestHandler",
    "saturationDetector",
    "parser",
];

pub(super) fn yaml<T: Document>(document: &str) -> Result<T, Error> {
    if is_empty(document) {
        return Err(Error::invalid("an empty document; `{}` is the configuration with all defaults"));
    }
    let config: T = yaml_as(document)?;
    config.checked().map_err(|problem| {
        let place = place::in_yaml(document, yaml_options(), &problem.path());
        problem.with_place(place)
    })?;
    Ok(config)
}

pub(super) fn json<T: Document>(document: &str) -> Result<T, Error> {
    let config: T = json_as(document)?;
    config.checked().map_err(|problem| {
        let place = place::in_json(document, &problem.path());
        problem.with_place(place)
    })?;
    Ok(config)
}

/// Whether a YAML document says nothing.
pub(super) fn is_empty(document: &str) -> bool {
    let is_empty = |line: &str| line.is_empty() || line.starts_with('#') || line == "---" || line == "...";
    document.trim_start_matches('\u{feff}').lines().all(|line| is_empty(line.trim()))
}

/// What a YAML document says, unchecked.
pub(super) fn yaml_as<T: DeserializeOwned>(document: &str) -> Result<T, Problem> {
    check_length(document)?;
    let mut track = Track::new();
    let read =
        serde_saphyr::with_deserializer_from_str_with_options(document, yaml_options(), |deserializer| {
            T::deserialize(Tracked::new(deserializer, &mut track))
        });
    read.map_err(|error| {
        let place = error.location().map(|place| (place.line(), place.column()));
        let path = track.path();
        let is_item = matches!(path.iter().next_back(), Some(Segment::Seq { .. }));
        located(yaml_trouble(&error, document, is_item), &path).with_place(place)
    })
}

/// What a JSON document says, unchecked.
pub(super) fn json_as<T: DeserializeOwned>(document: &str) -> Result<T, Problem> {
    check_length(document)?;
    let mut track = Track::new();
    let mut deserializer = serde_json::Deserializer::from_str(document);
    let read = T::deserialize(Tracked::new(&mut deserializer, &mut track));
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| {
        let place = (error.line() > 0).then(|| (error.line() as u64, error.column() as u64));
        located(json_trouble(&error), &track.path()).with_place(place)
    })
}

fn check_length(document: &str) -> Result<(), Problem> {
    if document.len() <= MAX_DOCUMENT {
        return Ok(());
    }
    Err(Problem::new(format!("a document of {} bytes; at most {MAX_DOCUMENT}", document.len())))
}

/// Strict, and bounded: what aliases multiply stays within [`MAX_TEXT`](super::value::MAX_TEXT) bytes
/// times the events replayed.
pub(super) fn yaml_options() -> serde_saphyr::Options {
    let mut limits = AliasLimits::default();
    limits.max_total_replayed_events = 50_000;
    limits.max_replay_stack_depth = 8;
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_documents: 2,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: MAX_DOCUMENT,
            max_total_scalar_bytes: MAX_DOCUMENT,
        },
        alias_limits: limits,
        // Read as numbers, so that it can be said where they are.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// What a parser complains of.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    UnknownKey(String, Vec<String>),
    UnknownValue(String, Vec<String>),
    MissingKey(String),
    DuplicateKey(String),
    /// What was found, what was expected.
    Mismatch(String, String),
    /// Said by a reader of ours.
    Message(String),
    /// The document as such cannot be read.
    Unreadable(String),
}

/// The trouble in words, at its place in the configuration.
fn located(trouble: Trouble, track: &serde_path_to_error::Path) -> Problem {
    let mut steps: Vec<Step> = Vec::new();
    for segment in track {
        match segment {
            Segment::Seq { index } => steps.push((*index).into()),
            Segment::Map { key } | Segment::Enum { variant: key } => steps.push(key.as_str().into()),
            Segment::Unknown => {}
        }
    }
    let known = |known: &[String]| known.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let message = match trouble {
        Trouble::UnknownKey(key, _) if is_endpoint_picker(&steps, &key) => {
            steps.clear();
            format!("unknown key `{key}`; llm-d's `EndpointPickerConfig` is read by `from_endpoint_picker`")
        }
        Trouble::UnknownKey(key, keys) => {
            if steps.last() == Some(&Step::Key(key.clone())) {
                steps.pop();
            }
            unknown("key", &key, &known(&keys).lines().collect::<Vec<_>>())
        }
        Trouble::UnknownValue(value, values) => {
            // The key of `{value: ...}`.
            if steps.last() == Some(&Step::Key(value.clone())) {
                steps.pop();
            }
            unknown("value", &value, &known(&values).lines().collect::<Vec<_>>())
        }
        Trouble::MissingKey(key) => format!("key `{key}` is missing"),
        Trouble::DuplicateKey(key) => format!("duplicate key `{}`", shown(&key)),
        // Not even a part of the session key is repeated.
        Trouble::Mismatch(..) if is_secret(&steps) => {
            format!("found something else, expected {}", key::EXPECTED)
        }
        Trouble::Mismatch(found, expected) => format!("found {found}, expected {expected}"),
        Trouble::Message(message) | Trouble::Unreadable(message) => message,
    };
    Problem::new(message).with_path(Path(steps))
}

/// Whether a key that is unknown at `steps` begins one of llm-d's configurations.
fn is_endpoint_picker(steps: &[Step], key: &str) -> bool {
    let is_outermost = matches!(steps, []) || matches!(steps, [Step::Key(step)] if step == key);
    is_outermost && ENDPOINT_PICKER_KEYS.contains(&key)
}

fn is_secret(steps: &[Step]) -> bool {
    let is_key =
        |pair: &[Step]| matches!(pair, [Step::Key(s), Step::Key(k)] if s == "sessions" && k == "key");
    steps.windows(2).any(is_key)
}

/// `is_item`: what is wrong is an item of a list.
fn yaml_trouble(error: &YamlError, document: &str, is_item: bool) -> Trouble {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_string()).collect();
    let found = || yaml_found(error, document, is_item);
    match error {
        YamlError::AliasError { error, .. } => yaml_trouble(error, document, is_item),
        YamlError::SerdeUnknownField { field, expected, .. } => {
            Trouble::UnknownKey(field.clone(), owned(expected))
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            Trouble::UnknownValue(variant.clone(), owned(expected))
        }
        YamlError::SerdeMissingField { field, .. } => Trouble::MissingKey((*field).to_string()),
        YamlError::DuplicateMappingKey { key, .. } => Trouble::DuplicateKey(key.clone().unwrap_or_default()),
        YamlError::InvalidScalar { ty, .. } => Trouble::Mismatch(found(), in_words(ty)),
        YamlError::Unexpected { expected, .. } => Trouble::Mismatch(found(), in_words(expected)),
        YamlError::NullIntoString { .. } => Trouble::Mismatch("nothing".into(), in_words("a string")),
        YamlError::SerdeInvalidType { unexpected, expected, .. }
        | YamlError::SerdeInvalidValue { unexpected, expected, .. } => {
            Trouble::Mismatch(serde_found(unexpected), in_words(expected))
        }
        YamlError::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            Trouble::Message("found a second key, expected one".into())
        }
        YamlError::UnexpectedSequenceEnd { .. } | YamlError::UnexpectedMappingEnd { .. } => {
            Trouble::Mismatch("nothing".into(), "a value".into())
        }
        YamlError::MultipleDocuments { .. } => {
            Trouble::Unreadable("found a second document, expected one".into())
        }
        YamlError::Message { msg, .. } => Trouble::Message(msg.clone()),
        other => {
            let text = other.to_string();
            let end = other.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
            let text = end.and_then(|end| text.strip_suffix(&end)).unwrap_or(&text);
            Trouble::Unreadable(format!("cannot read YAML: {text}"))
        }
    }
}

/// What the document has at the place of an error.
fn yaml_found(error: &YamlError, document: &str, is_item: bool) -> String {
    let span = error.location().map(|place| place.span());
    let range = span.and_then(|span| {
        let start = usize::try_from(span.byte_offset()?).ok()?;
        Some((start, start.checked_add(usize::try_from(span.byte_len()?).ok()?)?))
    });
    let Some((start, end)) = range else { return "something else".into() };
    let (Some(before), Some(text), Some(after)) =
        (document.get(..start), document.get(start..end), document.get(end..))
    else {
        return "something else".into();
    };
    // Block collections have no width: they stand at their first key, or behind their first dash. What is
    // missing has none either, and stands behind its key.
    let is_behind_dash = before.trim_end_matches([' ', '\t']).ends_with('-');
    let begins_with_key = after.starts_with(|first: char| first.is_alphanumeric() || "\"'".contains(first));
    match text {
        "[" => "a list".into(),
        "{" => "a mapping".into(),
        "" if is_behind_dash && !is_item => "a list".into(),
        "" if begins_with_key => "a mapping".into(),
        "" | "~" | "null" => "nothing".into(),
        text => format!("`{}`", shown(text)),
    }
}

/// Takes a sentence of Serde's apart.
fn json_trouble(error: &serde_json::Error) -> Trouble {
    let text = error.to_string();
    let end = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&end).unwrap_or(&text);
    if !error.is_data() {
        return Trouble::Unreadable(format!("cannot read JSON: {text}"));
    }
    sentence(text).unwrap_or_else(|| Trouble::Message(text.into()))
}

fn sentence(text: &str) -> Option<Trouble> {
    if let Some(rest) = text.strip_prefix("unknown field `") {
        return names(rest).map(|(name, known)| Trouble::UnknownKey(name, known));
    }
    if let Some(rest) = text.strip_prefix("unknown variant `") {
        return names(rest).map(|(name, known)| Trouble::UnknownValue(name, known));
    }
    let quoted = |prefix| text.strip_prefix(prefix).and_then(|rest: &str| rest.strip_suffix('`'));
    if let Some(key) = quoted("missing field `") {
        return Some(Trouble::MissingKey(key.into()));
    }
    if let Some(key) = quoted("duplicate field `") {
        return Some(Trouble::DuplicateKey(key.into()));
    }
    let rest = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    Some(Trouble::Mismatch(serde_found(found), in_words(expected)))
}

/// The rest of "unknown field `x`, expected one of `a`, `b`" (or "expected `a` or `b`", "expected `a`",
/// "there are no fields") behind its first backtick. The known names are ours and have no backticks.
fn names(rest: &str) -> Option<(String, Vec<String>)> {
    if let Some((name, _)) = rest.rsplit_once("`, there are no ") {
        return Some((name.into(), Vec::new()));
    }
    let (name, known) = rest.rsplit_once("`, expected ")?;
    let known = known.split('`').skip(1).step_by(2).map(String::from).collect();
    Some((name.into(), known))
}

/// Serde's names of what was found.
fn serde_found(found: &str) -> String {
    match found {
        "null" | "unit value" => "nothing".into(),
        "map" => "a mapping".into(),
        "sequence" => "a list".into(),
        "unit variant" => "a name alone".into(),
        found => {
            let kinds = ["integer `", "floating point `", "boolean `"];
            let number = kinds.iter().find_map(|kind| found.strip_prefix(kind));
            let value = number.and_then(|number| number.strip_suffix('`'));
            format!("`{}`", shown(value.or_else(|| found.strip_prefix("string ")).unwrap_or(found)))
        }
    }
}

/// Names of types as people would say them.
fn in_words(expected: &str) -> String {
    match expected {
        "u32" => "a whole number, 0 to 4294967295",
        "u64" => "a whole number, 0 or more",
        "i64" => "a whole number",
        "f64" | "floating point" => "a number",
        "mapping start" | "a map" => "a mapping",
        "sequence start" | "a sequence" => "a list",
        "string scalar" => "a single value",
        "a string" => "a text",
        "newtype variant" | "struct variant" => "its value too",
        "string or map" | "variant identifier" => "a name",
        expected if expected.starts_with("struct ") => "a mapping",
        expected => expected,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::Error as _;

    /// The wording is Serde's own; if it changes, suggestions would be lost without a word.
    #[test]
    fn sentences_of_serde_are_taken_apart() {
        let say = |error: serde_json::Error| sentence(&error.to_string()).expect("understood");
        let names = |names: &[&str]| names.iter().map(|&name| String::from(name)).collect::<Vec<_>>();
        for known in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
            let known: &'static [&'static str] = Vec::leak(known.to_vec());
            let field = say(serde_json::Error::unknown_field("x`, expected `y", known));
            assert_eq!(field, Trouble::UnknownKey("x`, expected `y".into(), names(known)));
            let variant = say(serde_json::Error::unknown_variant("x", known));
            assert_eq!(variant, Trouble::UnknownValue("x".into(), names(known)));
        }
        assert_eq!(
            say(serde_json::Error::unknown_field("x", &[])),
            Trouble::UnknownKey("x".into(), names(&[]))
        );
        assert_eq!(say(serde_json::Error::missing_field("x")), Trouble::MissingKey("x".into()));
        assert_eq!(say(serde_json::Error::duplicate_field("x")), Trouble::DuplicateKey("x".into()));

        let mismatch = |json: &str| sentence(&serde_json::from_str::<u32>(json).unwrap_err().to_string());
        for (json, found) in [
            ("-1", "`-1`"),
            ("1.5", "`1.5`"),
            ("true", "`true`"),
            ("\"x\"", "`\"x\"`"),
            ("null", "nothing"),
            ("[]", "a list"),
            ("{}", "a mapping"),
        ] {
            let Some(Trouble::Mismatch(said, expected)) = mismatch(json) else { panic!("{json}") };
            assert_eq!(said, found);
            assert!(expected.starts_with("u32"), "{expected}");
        }
    }
}
