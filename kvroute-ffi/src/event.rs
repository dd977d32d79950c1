//! KV events as structs, for engines whose events come in another way than as published batches.

use kvroute_core::event::{BlockRemoved, BlockStored, EventLora, KvEvent};
use kvroute_core::hash::ExtraKey;
use kvroute_core::{EngineHash, Tier};

use crate::memory::{array, kvroute_str};
use crate::pod::group_kind;
use crate::status::Failure;
use crate::structs::versioned;

/// Blocks became available.
pub const KVROUTE_EVENT_STORED: i32 = 0;
/// Blocks went away.
pub const KVROUTE_EVENT_REMOVED: i32 = 1;
/// The whole cache went away.
pub const KVROUTE_EVENT_CLEARED: i32 = 2;

/// A medium that is not known; of a removal, everywhere.
pub const KVROUTE_TIER_UNKNOWN: i32 = -1;
/// Device memory.
pub const KVROUTE_TIER_GPU: i32 = 0;
/// Host memory.
pub const KVROUTE_TIER_CPU: i32 = 1;
/// Local storage.
pub const KVROUTE_TIER_DISK: i32 = 2;
/// A store shared with others.
pub const KVROUTE_TIER_EXTERNAL: i32 = 3;

// The numbers of the header are those of the core, so that neither can change alone.
const _: () = {
    let tiers = [KVROUTE_TIER_GPU, KVROUTE_TIER_CPU, KVROUTE_TIER_DISK, KVROUTE_TIER_EXTERNAL];
    assert!(tiers.len() == Tier::ALL.len());
    assert!(Tier::Gpu as i32 == tiers[0] && Tier::Cpu as i32 == tiers[1]);
    assert!(Tier::Disk as i32 == tiers[2] && Tier::External as i32 == tiers[3]);
};

/// A text: an adapter's name, a cache salt, or (vLLM before 0.19) a multimodal identifier.
pub const KVROUTE_EXTRA_KEY_TEXT: i32 = 0;
/// A multimodal item and its start relative to the block's.
pub const KVROUTE_EXTRA_KEY_MULTIMODAL: i32 = 1;
/// The key of prompt embeddings.
pub const KVROUTE_EXTRA_KEY_BYTES: i32 = 2;

/// One extra key of one block of an event. Keys are in order of their blocks and, in a block, as the engine lists
/// them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_extra_key {
    /// Which block of the event, from 0.
    pub block: u32,
    /// `KVROUTE_EXTRA_KEY_...`.
    pub kind: i32,
    /// The text, the item's identifier, or the bytes.
    pub key: kvroute_str,
    /// Start of the item minus start of the block; tokens.
    pub offset: i64,
}

/// A KV event. What does not belong to its `kind` is not read.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_kv_event {
    /// `sizeof(kvroute_kv_event)`; the same in every event of an array.
    pub struct_size: usize,
    /// `KVROUTE_EVENT_...`.
    pub kind: i32,
    /// Where the blocks lie, or went away from: `KVROUTE_TIER_...`.
    pub tier: i32,
    /// The blocks, first to last, as the engine calls them.
    pub block_hashes: *const u64,
    /// How many.
    pub block_hashes_len: usize,
    /// KV-cache group of a hybrid-attention model.
    pub group: u32,
    /// Stored: not 0 if `group_kind` says what the group is.
    pub has_group_kind: i32,
    /// `KVROUTE_GROUP_...`.
    pub group_kind: i32,
    /// Its window, if it has one; tokens.
    pub group_window: u32,
    /// Stored: the block before the first, if `has_parent` is not 0; else they begin a prompt.
    pub parent: u64,
    /// See `parent`.
    pub has_parent: i32,
    /// Tokens a block.
    pub block_size: u32,
    /// Token ids, `[block_hashes_len * block_size]`; none for an offload announcement.
    pub token_ids: *const u32,
    /// How many.
    pub token_ids_len: usize,
    /// Name of the LoRA adapter; empty for none.
    pub lora_name: kvroute_str,
    /// The engine's number of the adapter, if `has_lora_id` is not 0.
    pub lora_id: i64,
    /// See `lora_id`.
    pub has_lora_id: i32,
    /// Room; 0.
    pub reserved: u32,
    /// SGLang's `cache_salt`; empty for none. vLLM's is an extra key of block 0.
    pub cache_salt: kvroute_str,
    /// Extra keys.
    pub extra_keys: *const kvroute_extra_key,
    /// How many.
    pub extra_keys_len: usize,
}

versioned!(kvroute_kv_event up to extra_keys_len);

/// # Safety
///
/// What `event` points to is the caller's.
pub(crate) unsafe fn typed(event: &kvroute_kv_event) -> Result<KvEvent, Failure> {
    // SAFETY: the caller's word, for this and all that it points to.
    unsafe {
        let tier = match event.tier {
            KVROUTE_TIER_UNKNOWN => None,
            tier => Some(
                usize::try_from(tier)
                    .ok()
                    .and_then(|tier| Tier::ALL.get(tier).copied())
                    .ok_or_else(|| Failure::invalid(format!("event.tier is {tier}, which is none")))?,
            ),
        };
        let hashes = || {
            let hashes = array("event.block_hashes", event.block_hashes, event.block_hashes_len)?;
            Ok::<_, Failure>(hashes.iter().map(|&hash| EngineHash(hash)).collect())
        };
        if event.reserved != 0 {
            return Err(Failure::invalid("event.reserved is not 0"));
        }
        match event.kind {
            KVROUTE_EVENT_STORED => {
                let lora_name = event.lora_name.non_empty("event.lora_name")?.map(str::to_owned);
                let lora_id = (event.has_lora_id != 0).then_some(event.lora_id);
                let kind = group_kind("event.group_kind", event.group_kind, event.group_window);
                Ok(KvEvent::Stored(BlockStored {
                    block_hashes: hashes()?,
                    parent: (event.has_parent != 0).then_some(EngineHash(event.parent)),
                    token_ids: array("event.token_ids", event.token_ids, event.token_ids_len)?.to_vec(),
                    bigrams: false,
                    block_size: event.block_size,
                    lora: (lora_name.is_some() || lora_id.is_some())
                        .then_some(EventLora { name: lora_name, id: lora_id }),
                    tier,
                    extra_keys: extra_keys(event)?,
                    cache_salt: event.cache_salt.non_empty("event.cache_salt")?.map(str::to_owned),
                    group: event.group,
                    group_kind: if event.has_group_kind != 0 { Some(kind?) } else { None },
                }))
            }
            KVROUTE_EVENT_REMOVED => {
                Ok(KvEvent::Removed(BlockRemoved { block_hashes: hashes()?, tier, group: event.group }))
            }
            KVROUTE_EVENT_CLEARED => Ok(KvEvent::Cleared),
            other => Err(Failure::invalid(format!("event.kind is {other}, which is none"))),
        }
    }
}

/// # Safety
///
/// What `event` points to is the caller's.
unsafe fn extra_keys(event: &kvroute_kv_event) -> Result<Vec<Vec<ExtraKey>>, Failure> {
    // SAFETY: the caller's word.
    let given = unsafe { array("event.extra_keys", event.extra_keys, event.extra_keys_len) }?;
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys = vec![Vec::new(); event.block_hashes_len];
    for key in given {
        let Some(of_block) = keys.get_mut(key.block as usize) else {
            let (block, blocks) = (key.block, event.block_hashes_len);
            return Err(Failure::invalid(format!("an extra key of block {block}; the event has {blocks}")));
        };
        // SAFETY: the caller's word.
        let text = || unsafe { key.key.get("event.extra_keys.key") }.map(str::to_owned);
        of_block.push(match key.kind {
            KVROUTE_EXTRA_KEY_TEXT => ExtraKey::Text(text()?),
            KVROUTE_EXTRA_KEY_MULTIMODAL => ExtraKey::Multimodal { identifier: text()?, offset: key.offset },
            KVROUTE_EXTRA_KEY_BYTES => {
                // SAFETY: the caller's word.
                let bytes = unsafe { array("event.extra_keys.key", key.key.data.cast::<u8>(), key.key.len) }?;
                ExtraKey::Bytes(bytes.to_vec())
            }
            other => {
                return Err(Failure::invalid(format!("the kind of an extra key is {other}, which is none")));
            }
        });
    }
    Ok(keys)
}
