//! What answers have in common: dictionaries made of the core's own serialization, short lists in `repr`s.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;
use serde::Serialize;

use crate::error::internal;

/// What the core serializes, as Python's dicts, lists, strings and numbers. Goes through JSON text: for answers
/// that are asked for now and then.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let text = serde_json::to_string(value).map_err(|error| internal(error.to_string()))?;
    LOADS.import(py, "json", "loads")?.call1((text,))
}

/// A text as Python writes it in source.
pub(crate) fn quoted(py: Python<'_>, text: &str) -> PyResult<String> {
    Ok(PyString::new(py, text).repr()?.to_string())
}

/// [`quoted`], or `None`.
pub(crate) fn quoted_or_none(py: Python<'_>, text: Option<&str>) -> PyResult<String> {
    text.map_or_else(|| Ok("None".into()), |text| quoted(py, text))
}

/// A list of numbers that may be long.
pub(crate) fn listed<T: std::fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    match items.len() {
        0..=SHOWN => format!("[{}]", shown.join(", ")),
        count => format!("[{}, ... {count} in all]", shown.join(", ")),
    }
}
