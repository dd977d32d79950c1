//! Python values to the parts of events.

use kvroute_core::EngineHash;
use kvroute_core::config::GroupConfig;
use kvroute_core::event::{self, GroupKind, KvEvent};
use kvroute_core::hash::ExtraKey;
use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use super::{AllBlocksCleared, BlockRemoved, BlockStored, EventBatch};
use crate::config::json_text;
use crate::error::invalid;
use crate::input::{read_array, signed, utf8, whole, wrong_type};

/// A batch, or a sequence of events as one.
pub(crate) fn read_batch(value: &Bound<'_, PyAny>) -> PyResult<event::EventBatch> {
    if let Ok(batch) = value.cast::<EventBatch>() {
        return Ok(batch.get().0.clone());
    }
    let Ok(events) = value.extract::<Vec<Bound<'_, PyAny>>>() else {
        return Err(wrong_type("events", "an EventBatch or a sequence of events", value));
    };
    let events = events.iter().enumerate().map(read_event).collect::<PyResult<_>>()?;
    Ok(event::EventBatch { events, ..event::EventBatch::default() })
}

pub(super) fn read_event((at, value): (usize, &Bound<'_, PyAny>)) -> PyResult<KvEvent> {
    if let Ok(stored) = value.cast::<BlockStored>() {
        Ok(KvEvent::Stored(stored.get().0.clone()))
    } else if let Ok(removed) = value.cast::<BlockRemoved>() {
        Ok(KvEvent::Removed(removed.get().0.clone()))
    } else if value.is_instance_of::<AllBlocksCleared>() {
        Ok(KvEvent::Cleared)
    } else {
        Err(wrong_type(&format!("events[{at}]"), "BlockStored, BlockRemoved or AllBlocksCleared", value))
    }
}

/// An engine's name of a block: an int of 64 bits, signed or not, or bytes.
pub(super) fn engine_hash(name: &str, value: &Bound<'_, PyAny>) -> PyResult<EngineHash> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        let hash = EngineHash::from_bytes(bytes.as_bytes());
        return hash.ok_or_else(|| invalid(format!("{name}: empty bytes name no block")));
    }
    if !value.is_instance_of::<PyInt>() {
        // numpy's integers, and the errors of everything else.
        return whole(|| name.into(), value).map(EngineHash);
    }
    match value.extract::<i64>() {
        Ok(signed) => Ok(EngineHash(signed as u64)),
        Err(_) => whole(|| name.into(), value).map(EngineHash),
    }
}

pub(super) fn engine_hashes(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<EngineHash>> {
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        let mut hashes = Vec::<u64>::new();
        read_array(name, array, &mut hashes)?;
        return Ok(hashes.into_iter().map(EngineHash).collect());
    }
    let Ok(items) = value.extract::<Vec<Bound<'_, PyAny>>>() else {
        return Err(wrong_type(name, "a sequence of ints or bytes, or a numpy array of uint64", value));
    };
    items.iter().enumerate().map(|(at, item)| engine_hash(&format!("{name}[{at}]"), item)).collect()
}

pub(super) fn block_keys(blocks: &[Vec<Bound<'_, PyAny>>]) -> PyResult<Vec<Vec<ExtraKey>>> {
    fn item<'py>(value: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyString>, Bound<'py, PyAny>)> {
        value.cast::<PyTuple>().ok()?.extract().ok()
    }
    let key = |at: usize, value: &Bound<'_, PyAny>| {
        if let Ok(text) = value.cast::<PyString>() {
            Ok(ExtraKey::Text(utf8("extra_keys", text)?.into()))
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            Ok(ExtraKey::Bytes(bytes.as_bytes().to_vec()))
        } else if let Some((identifier, offset)) = item(value) {
            let identifier = utf8("extra_keys", &identifier)?.into();
            let offset = signed(|| format!("extra_keys[{at}]"), &offset)?;
            Ok(ExtraKey::Multimodal { identifier, offset })
        } else {
            Err(wrong_type(&format!("extra_keys[{at}]"), "str, bytes or (str, int)", value))
        }
    };
    let keys = |(at, keys): (usize, &Vec<Bound<'_, PyAny>>)| keys.iter().map(|k| key(at, k)).collect();
    blocks.iter().enumerate().map(keys).collect()
}

/// A group's kind in the form that the configuration has.
pub(super) fn read_group_kind(value: &Bound<'_, PyAny>) -> PyResult<GroupKind> {
    let kind = json_text("group_kind", value)?;
    let config = serde_json::from_str::<GroupConfig>(&format!(r#"{{"group": 0, "kind": {kind}}}"#));
    config.map(|config| config.kind).map_err(|error| invalid(format!("group_kind: {error}")))
}
