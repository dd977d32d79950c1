//! The document as a tree of values, read without knowing yet what it should say: what a plugin's parameters may be
//! depends on its type.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::super::problem::{Path, Place, Problem};
use super::super::value::{bounded, unique};
use super::super::{parse, place};

/// Longest document that is read; bytes. These are files of a Kubernetes ConfigMap, which has no more.
const MAX_DOCUMENT: usize = 1 << 20;

/// A document and what it says.
#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    is_json: bool,
    pub(super) tree: Value,
}

impl<'t> Document<'t> {
    pub(super) fn read(text: &'t str) -> Result<Self, Problem> {
        if text.len() > MAX_DOCUMENT {
            let length = text.len();
            return Err(Problem::new(format!("a document of {length} bytes; at most {MAX_DOCUMENT}")));
        }
        if parse::is_empty(text) {
            return Err(Problem::new("an empty document, expected an `EndpointPickerConfig`"));
        }
        let is_json = text.trim_start().starts_with('{');
        let Tree(tree) = if is_json { parse::json_as(text)? } else { parse::yaml_as(text)? };
        Ok(Self { text, is_json, tree })
    }

    /// Where `path` is.
    pub(super) fn place(&self, path: &Path) -> Option<Place> {
        if self.is_json {
            place::in_json(self.text, path)
        } else {
            place::in_yaml(self.text, parse::yaml_options(), path)
        }
    }
}

/// Any value. Texts are bounded and keys come once, as everywhere in configurations; a whole number is one however it
/// is written (`2.0`), for llm-d reads YAML by way of JSON, where it becomes one.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree(Value::Null))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        /// From here on not every whole number is an `f64`.
        const MOST: f64 = (1_u64 << 53) as f64;
        if !value.is_finite() {
            return Err(E::custom(format!("found `{value}`, expected a finite number")));
        }
        let is_whole = libm::trunc(value) == value && value.abs() < MOST;
        Ok(Tree(if is_whole { (value as i64).into() } else { value.into() }))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
        bounded(text).map(|text| Tree(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut values = Vec::new();
        while let Some(Tree(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Tree(values.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Tree, A::Error> {
        let entries = unique::<A, Tree>(entries)?;
        Ok(Tree(Value::Object(entries.into_iter().map(|(key, Tree(value))| (key, value)).collect())))
    }
}
