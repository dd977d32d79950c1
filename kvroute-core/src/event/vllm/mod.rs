//! The msgpack batches of vLLM, SGLang, and everything that publishes in their format.
//!
//! Data in: the payload frame of one published message, `[timestamp, [events], dp_rank]`. Data out: an
//! [`EventBatch`]. Every era is read by the same code: an event is a map with a `"type"` key (vLLM 0.24
//! and later, SGLang 0.5.20 and later) or an array with the tag in front (before, and other publishers);
//! in either form fields may be missing at the end and unknown ones are passed over. Field order of the
//! arrays: `vllm/distributed/kv_events.py`, 0.9.0 to 0.23.
//!
//! An event is first read in place, in one pass. Only if that fails, the reader goes back and finds the
//! event's end by structure alone, so that the next one can be read; failing there too means that the
//! batch itself is broken.
//!
//! Not done here: matching token ids to blocks, and any rule that needs to know the pod.

mod fields;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use self::fields::{REMOVED_ORDER, RemovedFields, STORED_ORDER, StoredFields};
use super::msgpack::{Fault, Kind, Reader};
use super::skip_log::{SkipLog, excerpt};
use super::{EventBatch, KvEvent, SkipReason};
use crate::{Error, ErrorKind};

/// The list of events is reserved for at most one event in this many bytes: the shortest that an engine
/// sends is `["BlockRemoved", [hash]]` with a hash below 128.
const LEAST_EVENT_BYTES: usize = 16;

/// Decodes one published batch of the vLLM family: vLLM 0.9 to 0.33, SGLang 0.4.10 to 0.5.23, and other
/// publishers of either form.
///
/// `payload` is the last frame of the message, whole. Rules of reading:
///
/// - Block hashes are uint64, int64 (kept bit for bit) or byte strings of any length, see
///   [`EngineHash`](crate::EngineHash). A nil or missing parent is none.
/// - Token ids are integers below 2^32, or pairs of them ([`BlockStored::bigrams`](super::BlockStored::bigrams)).
/// - A nil or missing medium is the GPU (vLLM before 0.10.2 has none); one we do not know is `None`.
/// - A LoRA id of nil or -1 is none.
/// - Group kinds: `full_attention`, `mla_attention` and `sink_full_attention` need every block (these
///   are subclasses of one spec in `vllm/v1/kv_cache_interface.py`, and llm-d and Dynamo index the same
///   three); `sliding_window` needs its window. Any other kind, and a window without a kind or a sliding
///   window without a positive window, is [`GroupKind::Unknown`](super::GroupKind::Unknown).
/// - Extra keys are strings, byte strings, `[identifier, offset]` or `[identifier]`. Anything else there,
///   integers included, makes the event unreadable: dropping a key would let a block match prompts
///   that it does not serve.
/// - A timestamp that is missing, not a number, or not finite is 0.
///
/// An event that cannot be read becomes a [`Skipped`](super::Skipped), and so do bytes after the batch;
/// no engine sends either, but a lost event may be a remove, and the caller decides how far it still
/// trusts the pod. At most 1024 are listed one by one; one more entry counts the rest.
///
/// Time is linear in the payload. Memory is at most a few dozen bytes for each of its bytes (the worst is
/// a list of empty extra keys), whatever its length headers claim, and nesting costs no stack.
///
/// # Errors
///
/// [`ErrorKind::Decode`], naming the byte offset: the payload is cut short, is not MessagePack, is not an
/// array of two or more with an array of events second, or has a rank that is neither nil nor an
/// unsigned 32-bit integer (events of an unknown rank belong to no one).
pub fn decode_batch(payload: &[u8]) -> Result<EventBatch, Error> {
    read_batch(Reader::new(payload))
        .map_err(|fault| Error::new(ErrorKind::Decode, format!("KV event batch: {fault}")))
}

/// The publisher's clock in a published batch, unix seconds, without reading the rest; `None` if the payload does not
/// begin like a batch, or does not say.
#[must_use]
pub fn batch_timestamp(payload: &[u8]) -> Option<f64> {
    let mut reader = Reader::new(payload);
    reader.array("a batch, which is an array").ok()?;
    read_timestamp(&mut reader).ok().filter(|&seconds| seconds != 0.0)
}

fn read_batch(mut reader: Reader<'_>) -> Result<EventBatch, Fault> {
    let start = reader;
    let fields = reader.array("a batch, which is an array")?;
    if fields < 2 {
        return Err(start.invalid("a batch without events"));
    }
    let timestamp = read_timestamp(&mut reader)?;
    let count = reader.array("the array of events")?;
    let mut events = Vec::with_capacity(count.min(reader.left() / LEAST_EVENT_BYTES));
    let mut skipped = SkipLog::default();
    for position in 0..count {
        let start = reader;
        match read_event(&mut reader) {
            Ok(event) => events.push(event),
            Err(refusal) => {
                reader = start;
                reader.skip()?;
                skipped.note(position, refusal.reason(), || refusal.to_string());
            }
        }
    }
    let dp_rank = if fields > 2 && !reader.nil() { Some(reader.u32("a data-parallel rank")?) } else { None };
    for _ in 3..fields {
        reader.skip()?;
    }
    if reader.left() > 0 {
        skipped.note(count, SkipReason::Malformed, || {
            format!("{} bytes after the batch, from byte {}", reader.left(), reader.offset())
        });
    }
    Ok(EventBatch { timestamp, dp_rank, events, skipped: skipped.finish() })
}

fn read_timestamp(reader: &mut Reader<'_>) -> Result<f64, Fault> {
    if matches!(reader.kind()?, Kind::Int | Kind::Float) {
        return reader.float().map(|seconds| if seconds.is_finite() { seconds } else { 0.0 });
    }
    reader.skip().map(|()| 0.0)
}

/// Why an event cannot be read. Borrowed and formatted late: a batch may be bad in every byte, and only
/// the first entries of the list are ever written out.
enum Refusal<'a> {
    UnknownTag(&'a [u8]),
    /// Not an event at all, or one without a readable tag.
    Frame(Fault),
    Empty,
    Untagged,
    Field {
        name: &'a [u8],
        fault: Fault,
    },
    Missing {
        event: &'static str,
        field: &'static str,
    },
    /// Token ids in blocks of size 0.
    NoBlockSize,
}

impl Refusal<'_> {
    fn reason(&self) -> SkipReason {
        match self {
            Self::UnknownTag(_) => SkipReason::UnknownTag,
            _ => SkipReason::Malformed,
        }
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTag(tag) => write!(f, "unknown event {:?}", excerpt(tag)),
            Self::Frame(fault) => fault.fmt(f),
            Self::Empty => f.write_str("an empty array"),
            Self::Untagged => f.write_str("an event without a type"),
            Self::Field { name, fault } => write!(f, "{}: {fault}", excerpt(name)),
            Self::Missing { event, field } => write!(f, "{event} without {field}"),
            Self::NoBlockSize => f.write_str("token ids in blocks of size 0"),
        }
    }
}

impl From<Fault> for Refusal<'_> {
    fn from(fault: Fault) -> Self {
        Self::Frame(fault)
    }
}

/// What both forms of an event have in common: a tag, and fields with names.
#[derive(Clone, Copy)]
enum Form {
    /// This many fields after the tag, named by their position.
    Array(usize),
    /// This many pairs, the tag among them.
    Map(usize),
}

fn read_event<'a>(reader: &mut Reader<'a>) -> Result<KvEvent, Refusal<'a>> {
    const EXPECTED: &str = "an event, which is a map or an array";
    let (form, tag) = if reader.kind()? == Kind::Map {
        let pairs = reader.map(EXPECTED)?;
        (Form::Map(pairs), find_tag(*reader, pairs)?)
    } else {
        let len = reader.array(EXPECTED)?;
        let Some(fields) = len.checked_sub(1) else {
            return Err(Refusal::Empty);
        };
        (Form::Array(fields), reader.bytes("the event's tag")?)
    };
    match tag {
        b"BlockStored" => {
            let mut fields = StoredFields::default();
            each_field(reader, form, &STORED_ORDER, |name, reader| fields.read(name, reader))?;
            fields.finish().map(KvEvent::Stored)
        }
        b"BlockRemoved" => {
            let mut fields = RemovedFields::default();
            each_field(reader, form, &REMOVED_ORDER, |name, reader| fields.read(name, reader))?;
            fields.finish().map(KvEvent::Removed)
        }
        b"AllBlocksCleared" => {
            each_field(reader, form, &[], |_, reader| reader.skip())?;
            Ok(KvEvent::Cleared)
        }
        unknown => Err(Refusal::UnknownTag(unknown)),
    }
}

/// Finds the value of the `"type"` key, the first one in every encoder known, without consuming anything.
fn find_tag<'a>(mut reader: Reader<'a>, pairs: usize) -> Result<&'a [u8], Refusal<'a>> {
    for _ in 0..pairs {
        if read_key(&mut reader)? == Some(b"type") {
            return Ok(reader.bytes("the event's type")?);
        }
        reader.skip()?;
    }
    Err(Refusal::Untagged)
}

/// Reads a map's key; `None` is a key that is not a string and so none of ours.
fn read_key<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Fault> {
    if matches!(reader.kind()?, Kind::Str | Kind::Bin) {
        return reader.bytes("a key").map(Some);
    }
    reader.skip().map(|()| None)
}

/// Hands every field of an event to `read`, which consumes its value. Fields without a name are skipped.
fn each_field<'a>(
    reader: &mut Reader<'a>,
    form: Form,
    order: &[&'static str],
    mut read: impl FnMut(&[u8], &mut Reader<'a>) -> Result<(), Fault>,
) -> Result<(), Refusal<'a>> {
    let (Form::Array(count) | Form::Map(count)) = form;
    for position in 0..count {
        let name = match form {
            Form::Array(_) => order.get(position).map(|name| name.as_bytes()),
            Form::Map(_) => read_key(reader)?,
        };
        match name {
            Some(name) => read(name, reader).map_err(|fault| Refusal::Field { name, fault })?,
            None => reader.skip()?,
        }
    }
    Ok(())
}
