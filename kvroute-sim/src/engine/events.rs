//! What the engine announces: events in the bytes that vLLM 0.32 sends, and the pool as they tell it.
//!
//! Events are encoded when they happen and handed out when the step ends, one batch per step that had any
//! (`Scheduler.update_from_output`, `vllm/v1/core/sched/scheduler.py`). The structures are those of
//! `vllm/distributed/kv_events.py`, encoded as msgspec does: a batch is the array `[ts, events, rank]`,
//! an event a map whose first key is its type, and optional fields that are not set are left out.

use hashbrown::HashMap;
use kvroute_core::hash::{ExtraKey, HashCursor, MultimodalForm};
use kvroute_core::{BlockHash, HashContext};
use rmp::encode;

use super::request::Request;

/// Encoding into memory has no way to fail.
const IN_MEMORY: &str = "a vector takes what is written";

/// A block's hash in full width, which engines publish that do not publish integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct FullHash {
    bytes: [u8; 32],
    len: u8,
}

impl FullHash {
    /// The hash of the block before the cursor.
    pub(super) fn of(cursor: &HashCursor) -> Self {
        let digest = cursor.digest();
        let mut hash = Self { bytes: [0; 32], len: digest.len() as u8 };
        hash.bytes[..digest.len()].copy_from_slice(digest);
        hash
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What an event did to the set of cached blocks.
#[derive(Clone, Copy, Debug)]
enum Change {
    Stored(BlockHash),
    Removed(BlockHash),
    Cleared,
}

/// Events of the step under way, and what all before it left.
#[derive(Debug)]
pub(super) struct EventLog {
    block_size: usize,
    /// Whether events are encoded and handed out; else they are only counted.
    is_on: bool,
    dp_rank: u32,
    /// Encoded events that were not handed out yet.
    events: Vec<u8>,
    count: u32,
    changes: Vec<Change>,
    /// Copies of every hash, as of the last batch handed out.
    announced: HashMap<BlockHash, u32>,
    /// Number of the next batch.
    sequence: u64,
}

impl EventLog {
    pub(super) fn new(block_size: usize, is_on: bool, dp_rank: u32) -> Self {
        Self {
            block_size,
            is_on,
            dp_rank,
            events: Vec::new(),
            count: 0,
            changes: Vec::new(),
            announced: HashMap::new(),
            sequence: 0,
        }
    }

    /// Whether some events wait to be handed out.
    pub(super) fn is_pending(&self) -> bool {
        self.count > 0
    }

    /// Whether what was handed out tells of a block with this hash.
    pub(super) fn is_announced(&self, hash: BlockHash) -> bool {
        self.announced.contains_key(&hash)
    }

    /// Blocks `from..to` of a request, all full and hashed, were cached: one event
    /// (`BlockPool.cache_full_blocks`, `_build_block_stored_event`).
    pub(super) fn stored(&mut self, request: &Request, from: usize, to: usize) {
        self.count += 1;
        if !self.is_on {
            return;
        }
        let Request { hashes, full_hashes, context, .. } = request;
        let tokens = &request.tokens[from * self.block_size..to * self.block_size];
        self.changes.extend(hashes[from..to].iter().map(|&hash| Change::Stored(hash)));
        let out = &mut self.events;
        write_map(out, 11);
        write_field(out, "type", "BlockStored");
        write_str(out, "block_hashes");
        write_array(out, to - from);
        for (&hash, at) in hashes[from..to].iter().zip(from..) {
            write_hash(out, hash, full_hashes.get(at));
        }
        write_str(out, "parent_block_hash");
        match from.checked_sub(1) {
            Some(parent) => write_hash(out, hashes[parent], full_hashes.get(parent)),
            None => write_nil(out),
        }
        write_str(out, "token_ids");
        write_array(out, tokens.len());
        for &token in tokens {
            write_uint(out, token.into());
        }
        write_str(out, "block_size");
        write_uint(out, self.block_size as u64);
        write_str(out, "lora_id");
        match &context.lora {
            Some(lora) => {
                encode::write_sint(out, lora.id).expect(IN_MEMORY);
            }
            None => write_nil(out),
        }
        write_field(out, "medium", "GPU");
        write_str(out, "lora_name");
        match &context.lora {
            Some(lora) => write_str(out, &lora.name),
            None => write_nil(out),
        }
        write_str(out, "extra_keys");
        write_array(out, to - from);
        for block in from..to {
            write_extra_keys(out, context, block, self.block_size);
        }
        write_str(out, "group_idx");
        write_uint(out, 0);
        write_field(out, "kv_cache_spec_kind", "full_attention");
    }

    /// A cached block was evicted: one event (`BlockPool._emit_block_removed_events`).
    pub(super) fn removed(&mut self, hash: BlockHash, full: Option<&FullHash>) {
        self.count += 1;
        if !self.is_on {
            return;
        }
        self.changes.push(Change::Removed(hash));
        let out = &mut self.events;
        write_map(out, 4);
        write_field(out, "type", "BlockRemoved");
        write_str(out, "block_hashes");
        write_array(out, 1);
        write_hash(out, hash, full);
        write_field(out, "medium", "GPU");
        write_str(out, "group_idx");
        write_uint(out, 0);
    }

    /// All blocks were dropped (`BlockPool.reset_prefix_cache`).
    pub(super) fn cleared(&mut self) {
        self.count += 1;
        if !self.is_on {
            return;
        }
        self.changes.push(Change::Cleared);
        write_map(&mut self.events, 1);
        write_field(&mut self.events, "type", "AllBlocksCleared");
    }

    /// The batch of all events since the last one, with its number; `None` if there were none, or if they
    /// are off. From here on they are announced.
    pub(super) fn take(&mut self, timestamp: f64) -> Option<(u64, Vec<u8>)> {
        let count = std::mem::take(&mut self.count);
        if count == 0 || !self.is_on {
            return None;
        }
        let mut payload = Vec::with_capacity(self.events.len() + 24);
        write_array(&mut payload, 3);
        encode::write_f64(&mut payload, timestamp).expect(IN_MEMORY);
        write_array(&mut payload, count as usize);
        payload.append(&mut self.events);
        write_uint(&mut payload, self.dp_rank.into());
        for change in self.changes.drain(..) {
            match change {
                Change::Stored(hash) => *self.announced.entry(hash).or_default() += 1,
                Change::Removed(hash) => {
                    if let Some(copies) = self.announced.get_mut(&hash) {
                        *copies -= 1;
                        if *copies == 0 {
                            self.announced.remove(&hash);
                        }
                    }
                }
                Change::Cleared => self.announced.clear(),
            }
        }
        let sequence = self.sequence;
        self.sequence += 1;
        Some((sequence, payload))
    }
}

/// The keys of one block, adapter name first, or nil if there are none (`to_event_extra_keys` and
/// `generate_block_hash_extra_keys`, `vllm/v1/core/kv_cache_utils.py`).
fn write_extra_keys(out: &mut Vec<u8>, context: &HashContext, block: usize, block_size: usize) {
    let is_plain = context.multimodal.is_empty() && context.prompt_embeds.is_empty();
    let keys = if is_plain && (block > 0 || context.cache_salt.is_none()) {
        Vec::new()
    } else {
        context.extra_keys(block, block_size as u32, MultimodalForm::Offset)
    };
    let count = keys.len() + usize::from(context.lora.is_some());
    if count == 0 {
        return write_nil(out);
    }
    write_array(out, count);
    if let Some(lora) = &context.lora {
        write_str(out, &lora.name);
    }
    for key in &keys {
        match key {
            ExtraKey::Text(text) => write_str(out, text),
            ExtraKey::Multimodal { identifier, offset } => {
                write_array(out, 2);
                write_str(out, identifier);
                encode::write_sint(out, *offset).expect(IN_MEMORY);
            }
            ExtraKey::Bytes(bytes) => encode::write_bin(out, bytes).expect(IN_MEMORY),
        }
    }
}

/// The full hash if there is one, else the integer (`maybe_convert_block_hash`).
fn write_hash(out: &mut Vec<u8>, hash: BlockHash, full: Option<&FullHash>) {
    match full {
        Some(full) => encode::write_bin(out, full.as_bytes()).expect(IN_MEMORY),
        None => write_uint(out, hash.0),
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &str) {
    write_str(out, name);
    write_str(out, value);
}

fn write_str(out: &mut Vec<u8>, text: &str) {
    encode::write_str(out, text).expect(IN_MEMORY);
}

/// What `rmp` writes, in one go for the sizes that token ids have: most of an event is token ids.
fn write_uint(out: &mut Vec<u8>, value: u64) {
    let [.., c, b, a] = value.to_be_bytes();
    match value {
        0x80..=0xff => out.extend_from_slice(&[0xcc, a]),
        0x100..=0xffff => out.extend_from_slice(&[0xcd, b, a]),
        0x1_0000..=0xff_ffff => out.extend_from_slice(&[0xce, 0, c, b, a]),
        _ => {
            encode::write_uint(out, value).expect(IN_MEMORY);
        }
    }
}

fn write_nil(out: &mut Vec<u8>) {
    encode::write_nil(out).expect(IN_MEMORY);
}

fn write_array(out: &mut Vec<u8>, len: usize) {
    encode::write_array_len(out, len as u32).expect(IN_MEMORY);
}

fn write_map(out: &mut Vec<u8>, len: u32) {
    encode::write_map_len(out, len).expect(IN_MEMORY);
}
