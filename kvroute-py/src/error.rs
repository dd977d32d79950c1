//! The way out of Rust: errors and panics of the core become Python exceptions.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kvroute_core::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::explanation::Explanation;

/// The exception classes, which `kvroute/errors.py` defines.
mod classes {
    pyo3::import_exception!(kvroute.errors, KvrouteError);
    pyo3::import_exception!(kvroute.errors, InvalidInputError);
    pyo3::import_exception!(kvroute.errors, DecodeError);
    pyo3::import_exception!(kvroute.errors, NotReproducibleError);
    pyo3::import_exception!(kvroute.errors, UnknownPodError);
    pyo3::import_exception!(kvroute.errors, NoCandidateError);
    pyo3::import_exception!(kvroute.errors, LimitError);
    pyo3::import_exception!(kvroute.errors, InternalError);
}

/// The exception of an error of the core.
pub(crate) fn exception(error: &Error) -> PyErr {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::InvalidInput => classes::InvalidInputError::new_err(message),
        ErrorKind::Decode => classes::DecodeError::new_err(message),
        ErrorKind::NotReproducible => classes::NotReproducibleError::new_err(message),
        ErrorKind::UnknownPod => classes::UnknownPodError::new_err(message),
        ErrorKind::NoCandidate => classes::NoCandidateError::new_err(message),
        ErrorKind::Limit => classes::LimitError::new_err(message),
        _ => classes::KvrouteError::new_err(message),
    }
}

/// The exception of a tokenizer that cannot be made.
#[cfg(feature = "io")]
pub(crate) fn unusable_tokenizer(error: &kvroute_io::tokenize::Error) -> PyErr {
    pyo3::import_exception!(kvroute.errors, TokenizerError);
    TokenizerError::new_err(error.to_string())
}

/// The exception of what a tokenizer does not answer.
#[cfg(feature = "io")]
pub(crate) fn tokenizer_exception(error: &kvroute_io::tokenize::Error) -> PyErr {
    use kvroute_io::tokenize::ErrorKind;
    pyo3::import_exception!(kvroute.errors, RequestError);
    match error.kind() {
        ErrorKind::Request | ErrorKind::Template => RequestError::new_err(error.to_string()),
        ErrorKind::Limit => classes::LimitError::new_err(error.to_string()),
        _ => unusable_tokenizer(error),
    }
}

/// An argument that is out of range, of the wrong shape, or contradicts another.
pub(crate) fn invalid(message: impl Into<String>) -> PyErr {
    classes::InvalidInputError::new_err(message.into())
}

/// A cache domain that the router does not know.
pub(crate) fn unknown_domain(name: &str) -> PyErr {
    classes::UnknownPodError::new_err(format!("cache domain \"{name}\" is not in this router"))
}

/// No pod could be picked; why, and the line of the log, if that was asked for.
pub(crate) fn no_candidate(
    py: Python<'_>,
    error: &Error,
    explanation: Option<Py<Explanation>>,
    record: Option<String>,
) -> PyResult<PyErr> {
    let exception = exception(error);
    exception.value(py).setattr("explanation", explanation)?;
    exception.value(py).setattr("record", record)?;
    Ok(exception)
}

/// Runs `work`, which takes a few microseconds at most. A panic becomes an `InternalError`: PyO3 would raise
/// its `PanicException`, which no `except Exception` catches.
pub(crate) fn call<R>(work: impl FnOnce() -> Result<R, Error>) -> PyResult<R> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(exception(&error)),
        Err(panic) => Err(internal(message(&*panic))),
    }
}

/// [`call`] with the GIL released meanwhile.
pub(crate) fn call_detached<R: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<R, Error> + Send,
) -> PyResult<R> {
    let result = py.detach(|| catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(&*panic)));
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(exception(&error)),
        Err(message) => Err(internal(message)),
    }
}

/// What no caller can be blamed for.
pub(crate) fn internal(message: String) -> PyErr {
    classes::InternalError::new_err(message)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("kvroute panicked: {}; this is a bug, please report it", text.as_deref().unwrap_or("no message"))
}

/// Panics as a bug of the core would, for the test that such a panic is an exception in Python.
#[pyo3::pyfunction]
#[pyo3(name = "_panic", signature = (*, detached))]
pub(crate) fn panic_for_test(py: Python<'_>, detached: bool) -> PyResult<()> {
    let work = || -> Result<(), Error> { panic!("asked for") };
    if detached { call_detached(py, work) } else { call(work) }
}
