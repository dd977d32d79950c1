//! Configurations: what Python has as a dict, or as a document, in the core's form; and decisions made again by them.

use kvroute_core::Config;
use kvroute_core::record::LogLine;
use kvroute_core::router::{Replay, Replayed};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use serde::Serialize;

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
    let document = dict_text("config", value)?;
    call(|| Config::from_json(&document))
}

/// A dict as JSON text, where a document as str would do too.
pub(crate) fn dict_text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    if !value.is_instance_of::<PyDict>() {
        return Err(wrong_type(name, "a dict, or a YAML or JSON document as str", value));
    }
    json_text(name, value)
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

/// Makes the decision of a log's line (`Decision.record`) again, by the policy of a configuration, and answers what it
/// makes of it: `kvroute.status.ReplayedDict`.
///
/// line: str. config: what `Router` takes. By the policy that the line is of, the answer is the recorded one, bit for
/// bit (`as_recorded`). Another one chooses among the same pods, as they were; in a large fleet it might have looked at
/// others of them. NoCandidateError: none of the pods on record will do.
#[pyfunction]
#[pyo3(signature = (line, config, /))]
pub(crate) fn log_replay<'py>(
    py: Python<'py>,
    line: &Bound<'py, PyString>,
    config: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (line, config) = (utf8("line", line)?, read_config(Some(config))?);
    let (LogLine::Decision(record), policy) = call(|| Ok((LogLine::parse(line)?, config.policy()?)))? else {
        return Err(invalid("line: this is about a request's end, not a decision"));
    };
    let mut replay = call(|| Replay::new(&record))?;
    let replayed = call(|| replay.choose(&policy))?;
    to_python(py, &Again { as_recorded: replayed.is_as_recorded(&record), replayed })
}

/// What a policy makes of a line.
#[derive(Serialize)]
struct Again<'a> {
    as_recorded: bool,
    #[serde(flatten)]
    replayed: Replayed<'a>,
}

/// The JSON Schema of a decision log's lines.
#[pyfunction]
pub(crate) fn log_schema(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    to_python(py, &call(|| Ok(LogLine::json_schema()))?)
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
