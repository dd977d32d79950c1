//! JSON as Python writes it (`json.dumps` of CPython 3.12), and from a request into a template.

use std::fmt::Write as _;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json;

use super::python;

/// A value of a request, for a template. Order is kept.
pub(super) fn to_value(json: Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::from)
            .or_else(|| number.as_u64().map(Value::from))
            .unwrap_or_else(|| python::number(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => Value::from(text),
        Json::Array(items) => items.into_iter().map(to_value).collect(),
        Json::Object(items) => {
            Value::from_pairs(items.into_iter().map(|(key, value)| (key, to_value(value))))
        }
    }
}

/// Arguments of `json.dumps`.
#[derive(Debug)]
pub(super) struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    between_items: String,
    after_key: String,
    sort_keys: bool,
}

impl Style {
    pub(super) fn new(
        ensure_ascii: bool,
        indent: Option<&Value>,
        separators: Option<&Value>,
        sort_keys: bool,
    ) -> Result<Self, Error> {
        let indent = match indent {
            None => None,
            Some(value) => Some(match value.as_str() {
                Some(text) => text.to_owned(),
                None => " ".repeat(usize::from(
                    u8::try_from(i64::try_from(value.clone())?.max(0)).unwrap_or(u8::MAX),
                )),
            }),
        };
        let (between_items, after_key) = match separators {
            None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
            Some(pair) => {
                let texts: Vec<String> =
                    pair.try_iter()?.filter_map(|text| text.as_str().map(str::to_owned)).collect();
                let [between_items, after_key] = <[String; 2]>::try_from(texts).map_err(|_| {
                    Error::new(ErrorKind::InvalidOperation, "separators of tojson: not two strings")
                })?;
                (between_items, after_key)
            }
        };
        Ok(Self { ensure_ascii, indent, between_items, after_key, sort_keys })
    }

    /// The JSON text of a value.
    pub(super) fn dump(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.write(&mut out, value, 0)?;
        Ok(out)
    }

    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(out, value)?,
            ValueKind::String => self.string(out, value.as_str().unwrap_or_default()),
            // Lists that were added up are iterables here.
            ValueKind::Seq | ValueKind::Iterable if !python::is_generator(value) => {
                let items = value.try_iter()?;
                self.items(out, depth, ('[', ']'), items, |out, item| self.write(out, &item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.items(out, depth, ('{', '}'), keys.into_iter(), |out, key| {
                    match key.kind() {
                        ValueKind::String => self.string(out, key.as_str().unwrap_or_default()),
                        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                            out.push('"');
                            self.write(out, &key, depth)?;
                            out.push('"');
                        }
                        kind => return Err(unwritable(kind)),
                    }
                    out.push_str(&self.after_key);
                    self.write(out, &value.get_item(&key)?, depth + 1)
                })?;
            }
            kind => match value.downcast_object_ref::<python::Float>() {
                Some(number) => out.push_str(&python::float(number.0)),
                None => return Err(unwritable(kind)),
            },
        }
        Ok(())
    }

    fn number(&self, out: &mut String, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            let _ = write!(out, "{value}");
            return Ok(());
        }
        let number = f64::try_from(value.clone())?;
        out.push_str(&match number {
            number if number.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "Infinity".to_owned(),
            f64::NEG_INFINITY => "-Infinity".to_owned(),
            number => python::float(number),
        });
        Ok(())
    }

    fn items(
        &self,
        out: &mut String,
        depth: usize,
        (open, close): (char, char),
        items: impl Iterator<Item = Value>,
        mut write: impl FnMut(&mut String, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                out.push_str(&self.between_items);
            }
            empty = false;
            self.new_line(out, depth + 1);
            write(out, item)?;
        }
        if !empty {
            self.new_line(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c >= '\u{7f}') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn unwritable(kind: ValueKind) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {kind} is not JSON"))
}
