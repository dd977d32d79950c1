//! Snapshots: between a router and Python's bytes and files.

use std::sync::Arc;
use std::time::Duration;

use kvroute_core::{Error, Restore, RestoreReport, Router, Snapshot};
use parking_lot::RwLock;
use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{call, call_detached};
use crate::input::{bytes, wrong_type};

/// Bytes that are read or written at a time. Files are Python's, and getting the GIL back may take 5 ms where other
/// threads are busy, so these are many.
const AT_A_TIME: usize = 1 << 20;

/// A snapshot, all of it.
pub(crate) fn to_bytes<'py>(
    py: Python<'py>,
    router: &RwLock<Arc<Router>>,
    now: Duration,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = call_detached(py, || {
        let router = router.read();
        next_bytes(&mut router.snapshot(now), &router, usize::MAX)
    })?;
    Ok(PyBytes::new(py, &bytes))
}

/// Writes a snapshot to a file.
pub(crate) fn to_file(router: &RwLock<Arc<Router>>, file: &Bound<'_, PyAny>, now: Duration) -> PyResult<()> {
    let Ok(write) = file.getattr("write") else {
        return Err(wrong_type("file", "a binary file", file));
    };
    let mut snapshot = call(|| Ok(router.read().snapshot(now)))?;
    loop {
        let bytes = call_detached(file.py(), || next_bytes(&mut snapshot, &router.read(), AT_A_TIME))?;
        if bytes.is_empty() {
            return Ok(());
        }
        write_all(&write, &bytes)?;
    }
}

/// So many bytes of a snapshot, or a chunk more; none at its end.
fn next_bytes(snapshot: &mut Snapshot, router: &Router, at_least: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while bytes.len() < at_least
        && let Some(chunk) = snapshot.next_chunk(router)?
    {
        bytes.extend_from_slice(chunk);
    }
    Ok(bytes)
}

/// Raw files may take less than they are given, and say how much.
fn write_all(write: &Bound<'_, PyAny>, mut bytes: &[u8]) -> PyResult<()> {
    while !bytes.is_empty() {
        let written = write.call1((PyBytes::new(write.py(), bytes),))?;
        match written.extract::<usize>() {
            Ok(0) => return Err(PyOSError::new_err("file: it takes no more")),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            // One that does not say took it all.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Gives a snapshot to a router: of bytes, or of a file that is read to its end.
pub(crate) fn restore(
    router: &RwLock<Arc<Router>>,
    from: &Bound<'_, PyAny>,
    now: Duration,
) -> PyResult<RestoreReport> {
    let py = from.py();
    let mut restore = Restore::default();
    if let Ok(read) = from.getattr("read") {
        loop {
            let piece = read.call1((AT_A_TIME,))?;
            let piece = bytes("snapshot.read()", &piece)?;
            if piece.is_empty() {
                break;
            }
            call_detached(py, || restore.push(&piece))?;
        }
    } else {
        let whole = bytes("snapshot", from).map_err(|error| {
            let expected = "bytes, bytearray, memoryview or a binary file";
            if error.is_instance_of::<PyTypeError>(py) {
                wrong_type("snapshot", expected, from)
            } else {
                error
            }
        })?;
        call_detached(py, || restore.push(&whole))?;
    }
    call_detached(py, || restore.finish(&router.read(), now))
}
