//! Configurations: what Python has as a dict, or as a document, in the core's form.

use kvroute_core::Config;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use crate::error::{call, invalid};
use crate::input::{utf8, wrong_type};
use crate::output::to_python;

/// Reads a dict, or a YAML or JSON document; nothing is the configuration with all defaults.
pub(crate) fn read_config(value: Option<&Bound<'_, PyAny>>) -> PyResult<Config> {
    let Some(value) = value else { return Ok(Config::default()) };
    if let Ok(document) = value.cast::<PyString>() {
        let document = utf8("config", document)?;
        return call(|| Config::parse(document));
    }
    if !value.is_instance_of::<PyDict>() {
        return Err(wrong_type("config", "a dict, or a YAML or JSON document as str", value));
    }
    let document = json_text("config", value)?;
    call(|| Config::from_json(&document))
}

/// Checks a configuration as `Router` does, and makes nothing of it: InvalidInputError names the place.
///
/// config: a dict (`kvroute.config.Config`), or a YAML or JSON document as str.
#[pyfunction]
#[pyo3(signature = (config, /))]
pub(crate) fn check_config(config: &Bound<'_, PyAny>) -> PyResult<()> {
    read_config(Some(config)).map(drop)
}

/// The JSON Schema of configurations, for editors and other checkers.
#[pyfunction]
pub(crate) fn config_schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    to_python(py, &call(|| Ok(Config::json_schema()))?)
}

/// Reads llm-d's configuration, an `EndpointPickerConfig` in YAML or JSON. Answers a configuration without domains and
/// pods, a dict (`kvroute.config.Config`), and notes: a line for each thing that does not map, or means something else
/// here.
#[pyfunction]
#[pyo3(signature = (document, /))]
pub(crate) fn config_from_endpoint_picker<'py>(
    py: Python<'py>,
    document: &Bound<'py, PyString>,
) -> PyResult<(Bound<'py, PyAny>, Vec<String>)> {
    let document = utf8("document", document)?;
    let (config, notes) = call(|| Config::from_endpoint_picker(document))?;
    Ok((to_python(py, &config)?, notes))
}

/// A Python value as JSON text; the core reads and checks it as it does a document.
pub(crate) fn json_text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = value.py();
    let options = PyDict::new(py);
    options.set_item("allow_nan", false)?;
    let text = DUMPS.import(py, "json", "dumps")?.call((value,), Some(&options));
    match text {
        Ok(text) => Ok(utf8(name, &text.cast_into::<PyString>()?)?.to_string()),
        // A value that JSON has not, a number that is none, or a dict that contains itself.
        Err(error) if error.is_instance_of::<PyException>(py) => {
            Err(invalid(format!("{name}: {}", error.value(py))))
        }
        Err(error) => Err(error),
    }
}
