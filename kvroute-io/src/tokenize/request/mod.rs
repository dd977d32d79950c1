//! Requests as vLLM 0.32 reads them (`entrypoints/openai/*/protocol.py`, `renderers/online_renderer.py`).

pub(super) mod chat;
pub(super) mod completions;
mod messages;
pub(super) mod responses;
mod tools;

use serde_json::{Map, Value};

use super::error::Failure;
use super::{Error, Untokenized};

/// A request's body.
#[derive(Debug)]
pub(super) struct Body {
    fields: Map<String, Value>,
}

impl Body {
    /// Reads a body. JSON nested deeper than 128 levels is refused.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self { fields }),
            Ok(_) => Err(Error::request("body: not a JSON object")),
            Err(error) => Err(Error::request(format!("body: {error}"))),
        }
    }

    /// A field that is there and not null.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool, Error> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(value),
            Some(_) => Err(Error::request(format!("{name}: not true or false"))),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Error> {
        self.take(name).map(|value| text(value, name)).transpose()
    }

    fn object(&mut self, name: &str) -> Result<Map<String, Value>, Error> {
        self.take(name).map_or_else(|| Ok(Map::new()), |value| object(value, name))
    }

    fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, Error> {
        self.take(name).map(|value| array(value, name)).transpose()
    }
}

fn text(value: Value, place: &str) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Error::request(format!("{place}: not a string"))),
    }
}

fn object(value: Value, place: &str) -> Result<Map<String, Value>, Error> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(Error::request(format!("{place}: not an object"))),
    }
}

fn array(value: Value, place: &str) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(Error::request(format!("{place}: not an array"))),
    }
}

/// A field of an object that must be a string.
fn required_text(fields: &mut Map<String, Value>, name: &str, place: &str) -> Result<String, Error> {
    match fields.remove(name) {
        Some(value) => text(value, &format!("{place}.{name}")),
        None => Err(Error::request(format!("{place}.{name}: missing"))),
    }
}

/// Whether a template would print a value's numbers as the engine would: the parser here has an integer beyond 64 bits
/// and minus zero as floats.
fn exact(value: &Value) -> Result<(), Failure> {
    match value {
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            let integer_beyond = number.abs() >= 18_446_744_073_709_551_616.0;
            let minus_zero = number == 0.0 && number.is_sign_negative();
            if integer_beyond || minus_zero { Err(Untokenized::NotReproducible.into()) } else { Ok(()) }
        }
        Value::Array(items) => items.iter().try_for_each(exact),
        Value::Object(fields) => fields.values().try_for_each(exact),
        _ => Ok(()),
    }
}
