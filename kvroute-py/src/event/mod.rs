//! KV events: made by hand, or decoded from what engines publish.

mod read;

use kvroute_core::EngineHash;
use kvroute_core::config::GroupConfig;
use kvroute_core::event::{self, EventLora, KvEvent};
use kvroute_core::hash::ExtraKey;
use kvroute_core::index::IgnoreReason;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

pub(crate) use self::read::read_batch;
use self::read::{block_keys, engine_hash, engine_hashes, read_event, read_group_kind};
use crate::input::{
    LONG_BYTES, TierArgument, argument, argument_or, bytes, read_token_ids, run, seconds, signed, text_bytes,
    utf8,
};
use crate::output::{listed, quoted, to_python};

/// A run of blocks that became available.
///
/// block_hashes: `[n]`, the engine's names of the blocks, first to last: ints (or a numpy array of uint64), or
/// bytes, of which the last 8 count. parent: that of the block before the first; None at the start of a prompt.
/// token_ids: `[n * block_size]`, or none (an offload announcement). block_size: tokens a block. tier: where
/// they lie, "gpu", "cpu", "disk" or "external"; None is a medium that is not known. lora_name, lora_id: the
/// adapter, as far as the event names it. extra_keys: `[n]` lists (or none at all), each of adapter name,
/// multimodal items as `(identifier, offset)`, salt, and keys of embeddings as bytes. cache_salt: SGLang's.
/// group, group_kind: KV-cache group of a hybrid model, and what it is, as in the configuration:
/// "full-attention", "unknown" or `{"sliding-window": {"window": tokens}}`. bigrams: token_ids came as pairs
/// (SGLang with EAGLE).
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlockStored(event::BlockStored);

#[pymethods]
impl BlockStored {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "an event's fields, by keyword")]
    #[pyo3(signature = (block_hashes, *, token_ids, block_size, parent = None,
                        tier = TierArgument::GPU, lora_name = None, lora_id = None, extra_keys = vec![],
                        cache_salt = None, group = None, group_kind = None, bigrams = false),
           text_signature = "(block_hashes, *, token_ids, block_size, parent=None, tier='gpu', lora_name=None, \
                             lora_id=None, extra_keys=(), cache_salt=None, group=0, group_kind=None, \
                             bigrams=False)")]
    fn new(
        block_hashes: &Bound<'_, PyAny>,
        token_ids: &Bound<'_, PyAny>,
        block_size: &Bound<'_, PyAny>,
        parent: Option<&Bound<'_, PyAny>>,
        tier: TierArgument,
        lora_name: Option<&Bound<'_, PyString>>,
        lora_id: Option<&Bound<'_, PyAny>>,
        extra_keys: Vec<Vec<Bound<'_, PyAny>>>,
        cache_salt: Option<&Bound<'_, PyString>>,
        group: Option<&Bound<'_, PyAny>>,
        group_kind: Option<&Bound<'_, PyAny>>,
        bigrams: bool,
    ) -> PyResult<Self> {
        let lora_name = lora_name.map(|name| utf8("lora_name", name)).transpose()?;
        let lora_id = lora_id.map(|id| signed(|| "lora_id".into(), id)).transpose()?;
        let is_named = lora_name.is_some() || lora_id.is_some();
        let mut ids = Vec::new();
        read_token_ids(token_ids, &mut ids)?;
        Ok(Self(event::BlockStored {
            block_hashes: engine_hashes("block_hashes", block_hashes)?,
            parent: parent.map(|hash| engine_hash("parent", hash)).transpose()?,
            token_ids: ids,
            bigrams,
            block_size: argument("block_size", block_size)?,
            lora: is_named.then(|| EventLora { name: lora_name.map(Into::into), id: lora_id }),
            tier: tier.0,
            extra_keys: block_keys(&extra_keys)?,
            cache_salt: cache_salt.map(|salt| utf8("cache_salt", salt)).transpose()?.map(Into::into),
            group: argument_or("group", group, 0)?,
            group_kind: group_kind.map(read_group_kind).transpose()?,
        }))
    }

    /// The blocks, first to last: numpy array of uint64, `[n]`.
    #[getter]
    fn block_hashes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        hash_array(py, &self.0.block_hashes)
    }

    /// The block before the first, or None.
    #[getter]
    fn parent(&self) -> Option<u64> {
        self.0.parent.map(|hash| hash.0)
    }

    /// Token ids: numpy array of uint32, `[n * block_size]` or empty.
    #[getter]
    fn token_ids<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_slice(py, &self.0.token_ids)
    }

    /// Tokens a block.
    #[getter]
    fn block_size(&self) -> u32 {
        self.0.block_size
    }

    /// Where the blocks lie; None is a medium that is not known.
    #[getter]
    fn tier(&self) -> Option<&'static str> {
        self.0.tier.map(|tier| tier.name())
    }

    /// Name of the adapter, or None.
    #[getter]
    fn lora_name(&self) -> Option<&str> {
        self.0.lora.as_ref()?.name.as_deref()
    }

    /// The engine's integer of the adapter, or None.
    #[getter]
    fn lora_id(&self) -> Option<i64> {
        self.0.lora.as_ref()?.id
    }

    /// Extra keys, one list a block.
    #[getter]
    fn extra_keys<'py>(&self, py: Python<'py>) -> PyResult<Vec<Vec<Bound<'py, PyAny>>>> {
        let key = |key: &ExtraKey| match key {
            ExtraKey::Text(text) => Ok(PyString::new(py, text).into_any()),
            ExtraKey::Multimodal { identifier, offset } => {
                Ok((identifier, offset).into_pyobject(py)?.into_any())
            }
            ExtraKey::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        };
        self.0.extra_keys.iter().map(|keys| keys.iter().map(key).collect()).collect()
    }

    /// SGLang's cache salt, or None.
    #[getter]
    fn cache_salt(&self) -> Option<&str> {
        self.0.cache_salt.as_deref()
    }

    /// KV-cache group.
    #[getter]
    fn group(&self) -> u32 {
        self.0.group
    }

    /// What the group is, or None.
    #[getter]
    fn group_kind<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let config = self.0.group_kind.map(|kind| GroupConfig { group: self.0.group, kind });
        config.map(|config| to_python(py, &config)?.get_item("kind")).transpose()
    }

    /// Whether `token_ids` came as pairs.
    #[getter]
    fn bigrams(&self) -> bool {
        self.0.bigrams
    }

    fn __repr__(&self) -> String {
        let hashes = listed(&hashes(&self.0.block_hashes));
        let parent = self.0.parent.map_or("None".into(), |hash| hash.0.to_string());
        let (ids, size, tier) = (listed(&self.0.token_ids), self.0.block_size, tier_name(self.0.tier));
        format!("BlockStored({hashes}, parent={parent}, token_ids={ids}, block_size={size}, tier={tier})")
    }
}

/// Blocks that went away.
///
/// block_hashes: `[n]`, as in `BlockStored`. tier: where from; None is a medium that is not known, or
/// everywhere. group: KV-cache group.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlockRemoved(event::BlockRemoved);

#[pymethods]
impl BlockRemoved {
    #[new]
    #[pyo3(signature = (block_hashes, *, tier = TierArgument::GPU, group = None),
           text_signature = "(block_hashes, *, tier='gpu', group=0)")]
    fn new(
        block_hashes: &Bound<'_, PyAny>,
        tier: TierArgument,
        group: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self(event::BlockRemoved {
            block_hashes: engine_hashes("block_hashes", block_hashes)?,
            tier: tier.0,
            group: argument_or("group", group, 0)?,
        }))
    }

    /// The blocks: numpy array of uint64, `[n]`.
    #[getter]
    fn block_hashes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        hash_array(py, &self.0.block_hashes)
    }

    /// Where from; None is a medium that is not known, or everywhere.
    #[getter]
    fn tier(&self) -> Option<&'static str> {
        self.0.tier.map(|tier| tier.name())
    }

    /// KV-cache group.
    #[getter]
    fn group(&self) -> u32 {
        self.0.group
    }

    fn __repr__(&self) -> String {
        let hashes = listed(&hashes(&self.0.block_hashes));
        format!("BlockRemoved({hashes}, tier={})", tier_name(self.0.tier))
    }
}

/// The whole cache went away.
#[pyclass(frozen, eq, hash, module = "kvroute")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AllBlocksCleared;

#[pymethods]
impl AllBlocksCleared {
    #[new]
    fn new() -> Self {
        Self
    }

    fn __repr__(&self) -> &'static str {
        "AllBlocksCleared()"
    }
}

/// One published batch, in the order the engine wrote it; the order is meaningful.
///
/// events: BlockStored, BlockRemoved and AllBlocksCleared. dp_rank: data-parallel rank of the publisher, where
/// it says. timestamp: the publisher's clock, Unix seconds; 0 where it does not say.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventBatch(pub(crate) event::EventBatch);

#[pymethods]
impl EventBatch {
    #[new]
    #[pyo3(signature = (events, *, dp_rank = None, timestamp = None),
           text_signature = "(events, *, dp_rank=None, timestamp=0.0)")]
    fn new(
        events: Vec<Bound<'_, PyAny>>,
        dp_rank: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self(event::EventBatch {
            timestamp: timestamp
                .map_or(Ok(0.0), |at| Ok::<_, PyErr>(seconds("timestamp", at)?.as_secs_f64()))?,
            dp_rank: dp_rank.map(|rank| argument("dp_rank", rank)).transpose()?,
            events: events.iter().enumerate().map(read_event).collect::<PyResult<_>>()?,
            skipped: Vec::new(),
        }))
    }

    /// The events that could be read.
    #[getter]
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let event = |event: &KvEvent| match event {
            KvEvent::Stored(stored) => Ok(Bound::new(py, BlockStored(stored.clone()))?.into_any()),
            KvEvent::Removed(removed) => Ok(Bound::new(py, BlockRemoved(removed.clone()))?.into_any()),
            KvEvent::Cleared => Ok(Bound::new(py, AllBlocksCleared)?.into_any()),
        };
        self.0.events.iter().map(event).collect()
    }

    /// The events that could not.
    #[getter]
    fn skipped(&self) -> Vec<Skipped> {
        skipped(&self.0.skipped)
    }

    /// Data-parallel rank of the publisher, or None.
    #[getter]
    fn dp_rank(&self) -> Option<u32> {
        self.0.dp_rank
    }

    /// The publisher's clock, Unix seconds; 0 where it does not say.
    #[getter]
    fn timestamp(&self) -> f64 {
        self.0.timestamp
    }

    fn __repr__(&self) -> String {
        let event::EventBatch { events, skipped, dp_rank, .. } = &self.0;
        let rank = dp_rank.map_or("None".into(), |rank| rank.to_string());
        format!("EventBatch([{} events], dp_rank={rank}, skipped=[{}])", events.len(), skipped.len())
    }
}

/// An event of a batch that could not be read.
#[pyclass(frozen, eq, hash, module = "kvroute")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Skipped {
    /// Position in the batch, from 0.
    #[pyo3(get)]
    position: usize,
    /// Why: "unknown-tag", "malformed" or "not-a-block".
    #[pyo3(get)]
    reason: &'static str,
    /// What exactly was found there.
    #[pyo3(get)]
    detail: String,
}

#[pymethods]
impl Skipped {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let detail = quoted(py, &self.detail)?;
        Ok(format!("Skipped(position={}, reason='{}', detail={detail})", self.position, self.reason))
    }
}

pub(crate) fn skipped(skipped: &[event::Skipped]) -> Vec<Skipped> {
    let of = |one: &event::Skipped| Skipped {
        position: one.position,
        reason: IgnoreReason::from(one.reason).name(),
        detail: one.detail.clone(),
    };
    skipped.iter().map(of).collect()
}

/// One event of TensorRT-LLM, which numbers its events instead of its batches.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Debug, PartialEq)]
pub(crate) struct NumberedEvent(event::NumberedEvent);

#[pymethods]
impl NumberedEvent {
    /// The engine's number, counted from 0 since its start: a gap is lost events. None where none could be
    /// read.
    #[getter]
    fn event_id(&self) -> Option<u64> {
        self.0.event_id
    }

    /// Attention window of the layers that this is about, tokens; None where the event does not say. Of models
    /// with several windows only the events of the largest are to be applied.
    #[getter]
    fn window_size(&self) -> Option<u64> {
        self.0.window_size
    }

    /// What happened, for `Router.apply_events`.
    #[getter]
    fn batch(&self) -> EventBatch {
        EventBatch(self.0.batch.clone())
    }

    fn __repr__(&self) -> String {
        let id = self.0.event_id.map_or("None".into(), |id| id.to_string());
        format!("NumberedEvent(event_id={id}, batch=[{} events])", self.0.batch.events.len())
    }
}

/// Decodes the payload of one published batch: vLLM, SGLang and whoever writes their format.
///
/// payload: bytes, bytearray or memoryview, MessagePack. Raises DecodeError if not even its frame can be read; a
/// single event that cannot be is in `skipped`.
#[pyfunction]
#[pyo3(signature = (payload, /))]
pub(crate) fn decode_batch(py: Python<'_>, payload: &Bound<'_, PyAny>) -> PyResult<EventBatch> {
    let payload = bytes("payload", payload)?;
    run(py, payload.len() > LONG_BYTES, || event::decode_batch(&payload)).map(EventBatch)
}

/// Decodes one poll of TensorRT-LLM's events: a JSON array, a single event, or one of either per line.
///
/// json: str, bytes, bytearray or memoryview. block_size: the engine's tokens a block, which the events do not
/// say. Raises DecodeError if nothing in it is JSON.
#[pyfunction]
#[pyo3(signature = (json, *, block_size))]
pub(crate) fn decode_trtllm(
    py: Python<'_>,
    json: &Bound<'_, PyAny>,
    block_size: &Bound<'_, PyAny>,
) -> PyResult<Vec<NumberedEvent>> {
    let (json, block_size) = (text_bytes("json", json)?, argument("block_size", block_size)?);
    let events = run(py, json.len() > LONG_BYTES, || event::decode_trtllm(&json, block_size))?;
    Ok(events.into_iter().map(NumberedEvent).collect())
}

fn hashes(hashes: &[EngineHash]) -> Vec<u64> {
    hashes.iter().map(|hash| hash.0).collect()
}

fn hash_array<'py>(py: Python<'py>, of: &[EngineHash]) -> Bound<'py, PyArray1<u64>> {
    PyArray1::from_vec(py, hashes(of))
}

fn tier_name(tier: Option<kvroute_core::Tier>) -> String {
    tier.map_or("None".into(), |tier| format!("'{}'", tier.name()))
}
