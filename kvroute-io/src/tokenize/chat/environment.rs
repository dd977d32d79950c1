//! The environment of chat templates: transformers 5.23, `utils/chat_template_utils.py`
//! (`_cached_compile_jinja_template`).

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, filters};
use minijinja_contrib::pycompat;

use super::source::LOOPED;
use super::{NOW, date, json, python};

/// An environment with everything that transformers puts into it.
pub(super) fn new() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    // A template's name decides about escaping otherwise; Python's default is none.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", trim);
    environment.add_filter("indent", python::indent);
    environment.add_filter(LOOPED, python::looped);
    generators(&mut environment);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    // In Python a string and a mapping have a length and items too.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    environment
        .add_test("number", |value: &Value| value.kind() == ValueKind::Number || python::is_float(value));
    environment.add_test("float", python::is_float);
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    Ok(environment)
}

/// Filters whose lists are generators in Python.
fn generators(environment: &mut Environment<'static>) {
    environment.add_filter("map", |state: &mut State<'_, '_>, value: Value, arguments: Arguments| {
        filters::map(state, value, arguments).map(python::generator)
    });
    environment.add_filter(
        "select",
        |state: &mut State<'_, '_>, value: Value, test: Test<'_>, arguments: Arguments| {
            filters::select(state, value, test, arguments).map(python::generator)
        },
    );
    environment.add_filter(
        "reject",
        |state: &mut State<'_, '_>, value: Value, test: Test<'_>, arguments: Arguments| {
            filters::reject(state, value, test, arguments).map(python::generator)
        },
    );
    environment.add_filter(
        "selectattr",
        |state: &mut State<'_, '_>,
         value: Value,
         name: Cow<'_, str>,
         test: Test<'_>,
         arguments: Arguments| {
            filters::selectattr(state, value, name, test, arguments).map(python::generator)
        },
    );
    environment.add_filter(
        "rejectattr",
        |state: &mut State<'_, '_>,
         value: Value,
         name: Cow<'_, str>,
         test: Test<'_>,
         arguments: Arguments| {
            filters::rejectattr(state, value, name, test, arguments).map(python::generator)
        },
    );
}

type Test<'a> = Option<Cow<'a, str>>;
type Arguments = Rest<ValueOrKwargs>;

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

fn strftime_now(state: &State<'_, '_>, format: Cow<'_, str>) -> Result<String, Error> {
    let seconds = state.lookup(NOW).and_then(|now| i64::try_from(now).ok()).unwrap_or_default();
    date::format(seconds, &format).map_err(|message| Error::new(ErrorKind::InvalidOperation, message))
}

fn tojson(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let mut positional = positional.0.into_iter();
    let mut argument = |name: &str| -> Result<Option<Value>, Error> {
        let value: Option<Value> =
            positional.next().map_or_else(|| named.get(name), |value| Ok(Some(value)))?;
        Ok(value.filter(|value| !value.is_none()))
    };
    let style = json::Style::new(
        argument("ensure_ascii")?.is_some_and(|value| value.is_true()),
        argument("indent")?.as_ref(),
        argument("separators")?.as_ref(),
        argument("sort_keys")?.is_some_and(|value| value.is_true()),
    )?;
    named.assert_all_used()?;
    style.dump(value)
}

/// Python's idea of white space is Unicode's and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Jinja2 makes a string of what is to be trimmed.
fn trim(value: &Value, chars: Option<Cow<'_, str>>) -> String {
    let text = value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed);
    strip(&text, chars.as_deref(), true, true).to_owned()
}

fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

fn method(state: &mut State<'_, '_>, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    if let (Some(text), "strip" | "lstrip" | "rstrip") = (value.as_str(), name) {
        let (chars,): (Option<Cow<'_, str>>,) = minijinja::value::from_args(arguments)?;
        return Ok(Value::from(strip(text, chars.as_deref(), name != "rstrip", name != "lstrip")));
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}
