//! Values and filters that are Python's.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// A float that Python writes with an exponent. As a number it would be written without one where a template joins it to
/// a string; so it is an object that cannot be calculated with.
#[derive(Debug)]
pub(super) struct Float(pub(super) f64);

impl Object for Float {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&float(self.0))
    }
}

/// A float of a request.
pub(super) fn number(value: f64) -> Value {
    if float(value).contains('e') { Value::from_object(Float(value)) } else { Value::from(value) }
}

/// Whether a value is a float.
pub(super) fn is_float(value: &Value) -> bool {
    (value.kind() == ValueKind::Number && !value.is_integer())
        || value.downcast_object_ref::<Float>().is_some()
}

/// A float as Python prints it: the shortest digits that read back as the same number, with an exponent where it is
/// below -4 or above 15.
pub(super) fn float(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let mut text = value.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    text
}

/// What a filter yields that is a generator in Python: always true, without a length, not JSON.
#[derive(Debug)]
struct Generator(Vec<Value>);

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let items = Arc::clone(self);
        Enumerator::Iter(Box::new((0..items.0.len()).map_while(move |at| items.0.get(at).cloned())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// The list that a built-in filter makes, as a generator.
pub(super) fn generator(items: Vec<Value>) -> Value {
    Value::from_object(Generator(items))
}

/// Whether a value is such a generator.
pub(super) fn is_generator(value: &Value) -> bool {
    value.downcast_object_ref::<Generator>().is_some()
}

/// What a `for` goes through; see [`super::source`].
pub(super) fn looped(value: Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(Error::new(ErrorKind::InvalidOperation, "none is not iterable"));
    }
    Ok(value)
}

/// Jinja2's `indent` (3.1.6, `do_indent`): lines end as in Python, and a newline at the end stays.
pub(super) fn indent(
    text: Cow<'_, str>,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<String, Error> {
    let width = match width.map_or_else(|| named.get::<Option<Value>>("width"), |width| Ok(Some(width)))? {
        None => "    ".to_owned(),
        Some(width) => match width.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::from(u16::try_from(i64::try_from(width)?.max(0)).unwrap_or(u16::MAX))),
        },
    };
    let flag = |positional: Option<bool>, name| {
        Ok::<_, Error>(positional.or(named.get::<Option<bool>>(name)?).unwrap_or(false))
    };
    let (first, blank) = (flag(first, "first")?, flag(blank, "blank")?);
    named.assert_all_used()?;
    let mut out = String::with_capacity(text.len() + width.len());
    let text = format!("{text}\n").replace("\r\n", "\n");
    for (at, line) in text.split_terminator(ends_line).enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if if at == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&width);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// What ends a line for `str.splitlines`.
fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_in_python() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (123_456_789.125, "123456789.125"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e22, "-2.5e+22"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(value), expected);
            if value.is_finite() {
                assert_eq!(number(value).to_string(), expected);
            }
        }
    }
}
