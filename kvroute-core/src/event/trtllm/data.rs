//! The `data` of each type of TensorRT-LLM event, and what it becomes.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, Visitor};

use super::super::skip_log::excerpt;
use super::super::{BlockRemoved, BlockStored, EventLora, KvEvent};
use super::{Refusal, malformed, not_a_block};
use crate::{EngineHash, Tier};

#[derive(Deserialize)]
pub(super) struct StoredData {
    parent_hash: Option<Hash>,
    blocks: Vec<StoredBlock>,
}

#[derive(Deserialize)]
struct StoredBlock {
    block_hash: Hash,
    tokens: Vec<Token>,
    cache_level: u64,
    lora_id: Option<i64>,
    cache_salt: Option<String>,
    mm_keys: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Token {
    token_id: TokenId,
    token_extra_id: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct RemovedData {
    block_hashes: Vec<Hash>,
}

impl RemovedData {
    pub(super) fn read(self, group: u32) -> BlockRemoved {
        let block_hashes = self.block_hashes.into_iter().map(|hash| hash.0).collect();
        BlockRemoved { block_hashes, tier: None, group }
    }
}

#[derive(Deserialize)]
pub(super) struct UpdatedData {
    block_hash: Hash,
    cache_level: Option<LevelChange>,
}

#[derive(Deserialize)]
struct LevelChange {
    old_value: u64,
    new_value: u64,
}

fn tier(cache_level: u64) -> Option<Tier> {
    match cache_level {
        0 => Some(Tier::Gpu),
        1 => Some(Tier::Cpu),
        _ => None,
    }
}

impl StoredData {
    pub(super) fn read(self, block_size: u32, group: u32, events: &mut Vec<KvEvent>) -> Result<(), Refusal> {
        let mut parent = self.parent_hash.map(|hash| hash.0);
        let mut run: Option<(u64, BlockStored)> = None;
        let mut refusal = None;
        for (index, block) in self.blocks.into_iter().enumerate() {
            let token_ids = match block.token_ids(block_size) {
                Ok(token_ids) => token_ids,
                Err((reason, detail)) => {
                    refusal = Some((reason, format!("block {index} and what follows it: {detail}")));
                    break;
                }
            };
            let StoredBlock { block_hash: Hash(hash), cache_level, lora_id, cache_salt, .. } = block;
            let lora = lora_id.filter(|&id| id != -1).map(|id| EventLora { name: None, id: Some(id) });
            match &mut run {
                Some((level, stored))
                    if *level == cache_level && stored.lora == lora && stored.cache_salt == cache_salt =>
                {
                    stored.block_hashes.push(hash);
                    stored.token_ids.extend_from_slice(&token_ids);
                }
                _ => {
                    let stored = BlockStored {
                        block_hashes: vec![hash],
                        parent,
                        token_ids,
                        block_size,
                        lora,
                        tier: tier(cache_level),
                        cache_salt,
                        group,
                        ..BlockStored::default()
                    };
                    let ended = run.replace((cache_level, stored));
                    events.extend(ended.map(|(_, stored)| KvEvent::Stored(stored)));
                }
            }
            parent = Some(hash);
        }
        events.extend(run.map(|(_, stored)| KvEvent::Stored(stored)));
        refusal.map_or(Ok(()), Err)
    }
}

impl StoredBlock {
    /// The block's token ids; `[block_size]`.
    fn token_ids(&self, block_size: u32) -> Result<Vec<u32>, Refusal> {
        if self.mm_keys.as_ref().is_some_and(|keys| !keys.is_empty()) {
            return Err(not_a_block("multimodal keys"));
        }
        let mut ids = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            match (&token.token_id, token.token_extra_id.unwrap_or(0)) {
                (&TokenId::Plain(id), 0) => ids.push(id),
                (TokenId::Plain(_), extra) => return Err(not_a_block(format!("token_extra_id {extra}"))),
                (TokenId::Digest, _) => return Err(not_a_block("a token that is a digest")),
            }
        }
        let tokens = ids.len();
        let expected = usize::try_from(block_size).unwrap_or(usize::MAX);
        if tokens < expected {
            return Err(not_a_block(format!("a partial block, {tokens} of {block_size} tokens")));
        }
        if tokens > expected {
            return Err(malformed(format!("{tokens} tokens in a block of {block_size}")));
        }
        Ok(ids)
    }
}

impl UpdatedData {
    pub(super) fn read(self, group: u32, events: &mut Vec<KvEvent>) -> Result<(), Refusal> {
        let block_hashes = vec![self.block_hash.0];
        let Some(LevelChange { old_value, new_value }) =
            self.cache_level.filter(|l| l.old_value != l.new_value)
        else {
            return Err(not_a_block("updated: no change of cache_level"));
        };
        if let Some(to) = tier(new_value) {
            let block_hashes = block_hashes.clone();
            let stored = BlockStored { block_hashes, tier: Some(to), group, ..BlockStored::default() };
            events.push(KvEvent::Stored(stored));
        }
        if let Some(from) = tier(old_value) {
            events.push(KvEvent::Removed(BlockRemoved { block_hashes, tier: Some(from), group }));
        }
        Ok(())
    }
}

/// A block hash: an integer, or the hex digits of a digest.
struct Hash(EngineHash);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashVisitor;

        impl Visitor<'_> for HashVisitor {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 64-bit block hash or the hex digits of one")
            }

            fn visit_u64<E: de::Error>(self, bits: u64) -> Result<Hash, E> {
                Ok(Hash(EngineHash(bits)))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Hash, E> {
                Ok(Hash(EngineHash(value.cast_unsigned())))
            }

            fn visit_str<E: de::Error>(self, digits: &str) -> Result<Hash, E> {
                // The last 16 digits are the last 8 bytes; all of them must be digits all the same.
                let well_formed = !digits.is_empty()
                    && digits.len().is_multiple_of(2)
                    && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                digits
                    .get(digits.len().saturating_sub(16)..)
                    .filter(|_| well_formed)
                    .and_then(|tail| u64::from_str_radix(tail, 16).ok())
                    .map(|bits| Hash(EngineHash(bits)))
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(&excerpt(digits.as_bytes())), &self))
            }
        }

        deserializer.deserialize_any(HashVisitor)
    }
}

/// A token: an id of the vocabulary, or the digest of something that has none.
enum TokenId {
    Plain(u32),
    Digest,
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TokenIdVisitor;

        impl Visitor<'_> for TokenIdVisitor {
            type Value = TokenId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token id of 32 bits")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<TokenId, E> {
                u32::try_from(id)
                    .map(TokenId::Plain)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(id), &self))
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<TokenId, E> {
                Ok(TokenId::Digest)
            }
        }

        deserializer.deserialize_any(TokenIdVisitor)
    }
}
