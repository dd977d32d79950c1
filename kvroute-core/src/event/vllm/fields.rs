//! The fields of the vLLM family's events: their names, their types, and what their values mean.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::msgpack::{Fault, Kind, Number, Reader};
use super::super::{BlockRemoved, BlockStored, EventLora, GroupKind};
use super::Refusal;
use crate::hash::ExtraKey;
use crate::{EngineHash, Tier};

/// Names of a `BlockStored`'s fields in the order of its array form.
/// What newer versions append (`locality`, `ownership`, `session_id`) has no use here.
pub(super) const STORED_ORDER: [&str; 11] = [
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
];

/// The same for `BlockRemoved`.
pub(super) const REMOVED_ORDER: [&str; 3] = ["block_hashes", "medium", "group_idx"];

/// The fields of a `BlockStored` seen so far; `None` is missing or nil.
#[derive(Default)]
pub(super) struct StoredFields<'a> {
    block_hashes: Option<Vec<EngineHash>>,
    parent: Option<EngineHash>,
    token_ids: Option<(Vec<u32>, bool)>,
    block_size: Option<u32>,
    lora_id: Option<i64>,
    lora_name: Option<&'a str>,
    medium: Option<&'a str>,
    extra_keys: Vec<Vec<ExtraKey>>,
    cache_salt: Option<&'a str>,
    group: Option<u32>,
    kind: Option<&'a str>,
    window: Option<u64>,
}

impl<'a> StoredFields<'a> {
    pub(super) fn read(&mut self, name: &[u8], reader: &mut Reader<'a>) -> Result<(), Fault> {
        match name {
            b"block_hashes" => self.block_hashes = Some(read_hashes(reader)?),
            b"parent_block_hash" => self.parent = optional(reader, read_hash)?,
            b"token_ids" => self.token_ids = Some(read_token_ids(reader)?),
            b"block_size" => self.block_size = Some(reader.u32("a block size")?),
            b"lora_id" => self.lora_id = optional(reader, read_lora_id)?.flatten(),
            b"lora_name" => self.lora_name = optional(reader, |r| r.text("an adapter name"))?,
            b"medium" => self.medium = optional(reader, |r| r.text("a medium"))?,
            b"extra_keys" => self.extra_keys = optional(reader, read_extra_keys)?.unwrap_or_default(),
            b"cache_salt" => self.cache_salt = optional(reader, |r| r.text("a salt"))?,
            b"group_idx" => self.group = optional(reader, |r| r.u32("a group"))?,
            b"kv_cache_spec_kind" => self.kind = optional(reader, |r| r.text("a kind"))?,
            b"kv_cache_spec_sliding_window" => self.window = optional(reader, read_window)?,
            _ => reader.skip()?,
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<BlockStored, Refusal<'a>> {
        let missing = |field| Refusal::Missing { event: "BlockStored", field };
        let block_hashes = self.block_hashes.ok_or(missing("block_hashes"))?;
        let (token_ids, bigrams) = self.token_ids.ok_or(missing("token_ids"))?;
        let block_size = self.block_size.ok_or(missing("block_size"))?;
        if block_size == 0 && !token_ids.is_empty() {
            return Err(Refusal::NoBlockSize);
        }
        let lora = (self.lora_id.is_some() || self.lora_name.is_some())
            .then(|| EventLora { name: self.lora_name.map(String::from), id: self.lora_id });
        Ok(BlockStored {
            block_hashes,
            parent: self.parent,
            token_ids,
            bigrams,
            block_size,
            lora,
            tier: tier(self.medium),
            extra_keys: self.extra_keys,
            cache_salt: self.cache_salt.map(String::from),
            group: self.group.unwrap_or(0),
            group_kind: group_kind(self.kind, self.window),
        })
    }
}

/// The fields of a `BlockRemoved` seen so far; `None` is missing or nil.
#[derive(Default)]
pub(super) struct RemovedFields<'a> {
    block_hashes: Option<Vec<EngineHash>>,
    medium: Option<&'a str>,
    group: Option<u32>,
}

impl<'a> RemovedFields<'a> {
    pub(super) fn read(&mut self, name: &[u8], reader: &mut Reader<'a>) -> Result<(), Fault> {
        match name {
            b"block_hashes" => self.block_hashes = Some(read_hashes(reader)?),
            b"medium" => self.medium = optional(reader, |r| r.text("a medium"))?,
            b"group_idx" => self.group = optional(reader, |r| r.u32("a group"))?,
            _ => reader.skip()?,
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<BlockRemoved, Refusal<'a>> {
        let missing = Refusal::Missing { event: "BlockRemoved", field: "block_hashes" };
        let block_hashes = self.block_hashes.ok_or(missing)?;
        Ok(BlockRemoved { block_hashes, tier: tier(self.medium), group: self.group.unwrap_or(0) })
    }
}

fn tier(medium: Option<&str>) -> Option<Tier> {
    medium.map_or(Some(Tier::Gpu), Tier::from_medium)
}

/// Sources of the names: `KVCacheSpecKind` in `vllm/v1/kv_cache_interface.py`, 0.22 and later.
fn group_kind(kind: Option<&str>, window: Option<u64>) -> Option<GroupKind> {
    match (kind, window) {
        (None, None) => None,
        (Some("full_attention" | "mla_attention" | "sink_full_attention"), _) => {
            Some(GroupKind::FullAttention)
        }
        (Some("sliding_window"), Some(window)) => Some(match u32::try_from(window) {
            Ok(window @ 1..) => GroupKind::SlidingWindow { window },
            _ => GroupKind::Unknown,
        }),
        _ => Some(GroupKind::Unknown),
    }
}

fn optional<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    if reader.nil() { Ok(None) } else { read(reader).map(Some) }
}

fn read_hash(reader: &mut Reader<'_>) -> Result<EngineHash, Fault> {
    const EXPECTED: &str = "a block hash, an integer or bytes";
    let start = *reader;
    if matches!(reader.kind()?, Kind::Str | Kind::Bin) {
        return EngineHash::from_bytes(reader.bytes(EXPECTED)?).ok_or(start.invalid("an empty block hash"));
    }
    reader.number(EXPECTED).map(|number| match number {
        Number::Unsigned(bits) => EngineHash(bits),
        Number::Negative(value) => EngineHash(value.cast_unsigned()),
    })
}

fn read_hashes(reader: &mut Reader<'_>) -> Result<Vec<EngineHash>, Fault> {
    let count = reader.array("an array of block hashes")?;
    let mut hashes = Vec::with_capacity(count);
    for _ in 0..count {
        hashes.push(read_hash(reader)?);
    }
    Ok(hashes)
}

/// The token ids, and whether they came as pairs: SGLang with EAGLE sends `[[t0, t1], [t1, t2], ...]`.
fn read_token_ids(reader: &mut Reader<'_>) -> Result<(Vec<u32>, bool), Fault> {
    let count = reader.array("an array of token ids")?;
    if count == 0 || reader.kind()? != Kind::Array {
        return reader.token_ids(count).map(|ids| (ids, false));
    }
    let mut firsts = Vec::with_capacity(count);
    for _ in 0..count {
        let start = *reader;
        if reader.array("a pair of token ids")? != 2 {
            return Err(start.invalid("not a pair of token ids"));
        }
        firsts.push(reader.u32("a token id")?);
        reader.u32("a token id")?;
    }
    Ok((firsts, true))
}

/// `None` is -1, which some publishers write for no adapter.
fn read_lora_id(reader: &mut Reader<'_>) -> Result<Option<i64>, Fault> {
    let start = *reader;
    match reader.number("a LoRA id")? {
        Number::Negative(-1) => Ok(None),
        Number::Negative(id) => Ok(Some(id)),
        Number::Unsigned(id) => {
            i64::try_from(id).map(Some).map_err(|_| start.invalid("a LoRA id beyond 63 bits"))
        }
    }
}

/// A negative window is as good as none.
fn read_window(reader: &mut Reader<'_>) -> Result<u64, Fault> {
    reader.number("a window").map(|number| match number {
        Number::Unsigned(window) => window,
        Number::Negative(_) => 0,
    })
}

fn read_extra_keys(reader: &mut Reader<'_>) -> Result<Vec<Vec<ExtraKey>>, Fault> {
    let blocks = reader.array("an array of extra keys, one entry a block")?;
    let mut all = Vec::with_capacity(blocks);
    for _ in 0..blocks {
        // Nil becomes an empty list: the entry has to stay, or later ones would name other blocks.
        let keys = optional(reader, |reader| {
            let count = reader.array("the extra keys of a block")?;
            let mut keys = Vec::with_capacity(count);
            for _ in 0..count {
                keys.push(read_extra_key(reader)?);
            }
            Ok(keys)
        })?;
        all.push(keys.unwrap_or_default());
    }
    Ok(all)
}

fn read_extra_key(reader: &mut Reader<'_>) -> Result<ExtraKey, Fault> {
    const EXPECTED: &str = "an extra key";
    if reader.kind()? == Kind::Bin {
        return Ok(ExtraKey::Bytes(reader.bytes(EXPECTED)?.to_vec()));
    }
    if reader.kind()? != Kind::Array {
        return Ok(ExtraKey::Text(reader.text(EXPECTED)?.to_string()));
    }
    let start = *reader;
    let len = reader.array(EXPECTED)?;
    if !(1..=2).contains(&len) {
        return Err(start.invalid("an extra key that is neither [identifier] nor [identifier, offset]"));
    }
    let identifier = read_identifier(reader)?;
    if len == 1 {
        return Ok(ExtraKey::Text(identifier));
    }
    let offset_at = *reader;
    let offset = match reader.number("the offset of a multimodal item")? {
        Number::Unsigned(offset) => i64::try_from(offset).ok(),
        Number::Negative(offset) => Some(offset),
    };
    let offset = offset.ok_or(offset_at.invalid("an offset beyond 63 bits"))?;
    Ok(ExtraKey::Multimodal { identifier, offset })
}

/// A multimodal identifier. vLLM's are hex digests as text; a digest sent as bytes reads the same.
fn read_identifier(reader: &mut Reader<'_>) -> Result<String, Fault> {
    const EXPECTED: &str = "the identifier of a multimodal item";
    if reader.kind()? == Kind::Bin {
        return Ok(reader.bytes(EXPECTED)?.iter().map(|byte| format!("{byte:02x}")).collect());
    }
    reader.text(EXPECTED).map(String::from)
}
