//! TensorRT-LLM's polled JSON events.
//!
//! Data in: what `llm.get_kv_cache_events` or trtllm-serve's `/kv_cache_events` returned. Data out: one
//! [`NumberedEvent`] for every event of it. Source of the format: `KVCacheEventSerializer` in
//! `tensorrt_llm/_utils.py` and `runtime/kv_cache_manager_v2/_event_manager.py`, read, not run.
//!
//! Differences from the vLLM family that this module evens out: blocks carry their own tokens and tier,
//! partial blocks are announced too, a removal means every tier, and a move between tiers is an event of
//! its own. Nothing is remembered between calls.

mod data;
#[cfg(test)]
mod tests;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::value::RawValue;

use self::data::{RemovedData, StoredData, UpdatedData};
use super::skip_log::{SkipLog, excerpt};
use super::{EventBatch, KvEvent, SkipReason};
use crate::{Error, ErrorKind};

/// One event of TensorRT-LLM, which numbers its events instead of its batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberedEvent {
    /// The engine's number, counted from 0 since its start: a gap is lost events. `None` where no number
    /// could be read; then `batch` holds only what was skipped, for one or more neighbours.
    pub event_id: Option<u64>,
    /// Attention window of the layers that this is about, tokens. Models with several windows announce
    /// each block once per window, under the same hash. Only the events of the largest window say what a
    /// prompt can reuse from its start, so the caller must leave out the others (Dynamo's publisher does
    /// the same; the `created` events at start name every window). `None` when the event does not say
    /// (older releases).
    pub window_size: Option<u64>,
    /// What happened, as a batch: its timestamp is 0 (these events have none), its rank
    /// `attention_dp_rank`. One event makes none, one, or several of ours; `Skipped::position` is its
    /// position in the poll.
    pub batch: EventBatch,
}

/// Decodes one poll: a JSON array of events, a single event, or one of either per line.
///
/// `block_size` is the engine's tokens per block, which the events do not say. What becomes of each type:
///
/// - `stored`: one [`KvEvent::Stored`] per run of blocks with equal `cache_level` (0 is the GPU, 1 the host
///   memory, others unknown), adapter and salt. The run ends for good at the first block that cannot
///   match a prompt, because whatever follows it cannot either: a partial block (fewer tokens than
///   `block_size`), or one whose content is not its token ids alone (a `token_extra_id` other than 0, a
///   token that is a digest, `mm_keys`). That is [`SkipReason::NotABlock`]; such blocks are never
///   credited. A block of more tokens than `block_size` is [`SkipReason::Malformed`]: one of the two
///   sizes is wrong.
/// - `removed`: [`KvEvent::Removed`] with tier `None`, for the block leaves the cache altogether.
/// - `updated` with a new `cache_level`: stored without tokens in the new tier, then removed from the old
///   one, in this order so that the block is never unknown in between. A level that we do not know
///   takes no part: there is nothing to credit there and nothing to take back. Without a change of
///   level, [`SkipReason::NotABlock`].
/// - `created` (the sizes of the pools, at start): [`SkipReason::NotABlock`].
/// - Any other: [`SkipReason::UnknownTag`].
///
/// Hashes are 64-bit integers, signed or not, or hexadecimal strings, of which the last 8 bytes count
/// ([`EngineHash::from_bytes`](crate::EngineHash::from_bytes)). `layer_group_id` is the group.
///
/// An event that cannot be read is skipped with its reason; so is a line that is not JSON, provided that
/// another one is. Blank input is no events. Time is linear in the input, and nesting costs no stack.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if `block_size` is 0; [`ErrorKind::Decode`], naming line and column, if
/// nothing in the input is JSON.
pub fn decode_trtllm(json: &[u8], block_size: u32) -> Result<Vec<NumberedEvent>, Error> {
    if block_size == 0 {
        return Err(Error::invalid("TensorRT-LLM events: block_size is 0"));
    }
    let mut poll = Poll { block_size, position: 0, unread: SkipLog::default(), events: Vec::new() };
    match serde_json::from_slice::<&RawValue>(json) {
        Ok(value) => poll.value(value),
        Err(whole) => poll.lines(json, &whole)?,
    }
    Ok(poll.finish())
}

/// A poll being read.
struct Poll {
    block_size: u32,
    /// Of the next event.
    position: usize,
    /// Events without a number since the last one with.
    unread: SkipLog,
    events: Vec<NumberedEvent>,
}

impl Poll {
    fn lines(&mut self, json: &[u8], whole: &serde_json::Error) -> Result<(), Error> {
        let mut any = json.trim_ascii().is_empty();
        for line in json.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice::<&RawValue>(line) {
                Ok(value) => {
                    any = true;
                    self.value(value);
                }
                Err(error) => self.unread(|| error.to_string()),
            }
        }
        if any {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Decode, format!("TensorRT-LLM events: {whole}")))
    }

    /// An array of events, or one, or null, which is what the serializer makes of no events.
    fn value(&mut self, value: &RawValue) {
        if value.get() == "null" {
            return;
        }
        match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(events) => events.into_iter().for_each(|event| self.event(event)),
            Err(_) => self.event(value),
        }
    }

    fn event(&mut self, event: &RawValue) {
        let envelope = match serde_json::from_str::<Envelope<'_>>(event.get()) {
            Ok(envelope) => envelope,
            Err(error) => return self.unread(|| error.to_string()),
        };
        let Some(event_id) = envelope.event_id.and_then(parsed::<u64>) else {
            return self.unread(|| "an event without an event_id".to_string());
        };
        let mut skipped = SkipLog::default();
        let mut batch = EventBatch::default();
        if let Err((reason, detail)) = envelope.read(self.block_size, &mut batch) {
            skipped.note(self.position, reason, || detail);
        }
        batch.skipped = skipped.finish();
        self.close_unread();
        let window_size = envelope.window_size.and_then(parsed::<u64>);
        self.events.push(NumberedEvent { event_id: Some(event_id), window_size, batch });
        self.position += 1;
    }

    fn unread(&mut self, detail: impl FnOnce() -> String) {
        self.unread.note(self.position, SkipReason::Malformed, detail);
        self.position += 1;
    }

    fn close_unread(&mut self) {
        let skipped = core::mem::take(&mut self.unread).finish();
        if !skipped.is_empty() {
            let batch = EventBatch { skipped, ..EventBatch::default() };
            self.events.push(NumberedEvent { batch, ..NumberedEvent::default() });
        }
    }

    fn finish(mut self) -> Vec<NumberedEvent> {
        self.close_unread();
        self.events
    }
}

type Refusal = (SkipReason, String);

fn malformed(detail: impl ToString) -> Refusal {
    (SkipReason::Malformed, detail.to_string())
}

fn not_a_block(detail: impl ToString) -> Refusal {
    (SkipReason::NotABlock, detail.to_string())
}

fn parsed<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// One event, its parts still text: a part of the wrong type must not cost the number.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    window_size: Option<&'a RawValue>,
    #[serde(borrow)]
    attention_dp_rank: Option<&'a RawValue>,
    #[serde(borrow)]
    layer_group_id: Option<&'a RawValue>,
}

impl Envelope<'_> {
    /// Appends what the event says to `batch`. What was appended before an error stays: those blocks were
    /// readable.
    fn read(&self, block_size: u32, batch: &mut EventBatch) -> Result<(), Refusal> {
        let data = self.data.ok_or_else(|| malformed("an event without data"))?;
        let dp_rank = self.attention_dp_rank.map(|rank| {
            parsed::<u32>(rank).ok_or_else(|| malformed("attention_dp_rank is not an unsigned integer"))
        });
        batch.dp_rank = dp_rank.transpose()?;
        let group = self.layer_group_id.map(|group| {
            parsed::<u32>(group).ok_or_else(|| malformed("layer_group_id is not an unsigned integer"))
        });
        let group = group.transpose()?.unwrap_or(0);

        let Tag { kind } = serde_json::from_str(data.get()).map_err(malformed)?;
        match &*kind {
            "stored" => {
                let stored = serde_json::from_str::<StoredData>(data.get()).map_err(malformed)?;
                stored.read(block_size, group, &mut batch.events)
            }
            "removed" => {
                let removed = serde_json::from_str::<RemovedData>(data.get()).map_err(malformed)?;
                batch.events.push(KvEvent::Removed(removed.read(group)));
                Ok(())
            }
            "updated" => {
                let updated = serde_json::from_str::<UpdatedData>(data.get()).map_err(malformed)?;
                updated.read(group, &mut batch.events)
            }
            "created" => Err(not_a_block("created: the sizes of the cache's pools")),
            unknown => {
                Err((SkipReason::UnknownTag, format!("unknown event {:?}", excerpt(unknown.as_bytes()))))
            }
        }
    }
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}
