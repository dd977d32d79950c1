//! llm-d's request keys, for sharing an index with it.
//!
//! ```text
//! cbor-fnv  key[i] = FNV-1a-64(CBOR [key[i-1], [token ids], extra])
//!           root   = FNV-1a-64(CBOR [FNV-1a-64(seed), null, model])
//!           extra  = null or [{"Hash": id}, ...]
//! xxh64     key[i] = XXH64(LE64 key[i-1] || LE32 token ids || for each extra: LE64 length || bytes)
//!           root   = XXH64(LE64 XXH64(seed) || LE64 length || model)
//! ```
//!
//! These are not the engine's hashes, so seed and block size need not be the engine's; they must
//! be the same for all who share the index. With a LoRA adapter its name takes the model's place.
//! The extras of a block are the identifiers of the multimodal items that overlap it, then, on
//! block 0, the cache salt. Source: llm-d-kv-cache, `pkg/kvcache/kvblock/token_processor.go` and
//! `extra_keys.go` (`ComputeBlockExtraFeatures`).
//!
//! **Confirmed by upstream:** the cbor-fnv chain without extras, by the one value that upstream
//! publishes (its end-to-end test; first in `testdata/hashes/llm-d.json`). **Not confirmed:** all
//! of xxh64, the map key `"Hash"` of cbor-fnv's extras, adapters and salts; their vectors come from
//! a reading of the source, not from a run of it.

use alloc::string::String;
use alloc::vec::Vec;

use xxhash_rust::xxh64::xxh64;

use super::Span;
use super::cbor::Cbor;
use super::context::HashContext;
use super::digest::Digest;
use super::preimage::Preimage;
use crate::{BlockHash, Error};

/// What llm-d's two algorithms are keyed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LlmdScheme {
    seed: String,
    model: String,
}

impl LlmdScheme {
    /// `seed` is llm-d's `hashSeed` (empty by default), `model` the base model's name.
    #[must_use]
    pub fn new(seed: impl Into<String>, model: impl Into<String>) -> Self {
        Self { seed: seed.into(), model: model.into() }
    }

    /// llm-d's `hashSeed`.
    #[must_use]
    pub fn seed(&self) -> &str {
        &self.seed
    }

    /// The base model's name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The adapter's name, or the model's.
    fn served<'a>(&'a self, context: &'a HashContext) -> Result<&'a str, Error> {
        if !context.prompt_embeds.is_empty() {
            return Err(Error::invalid("llm-d has no keys for requests with prompt embeddings"));
        }
        Ok(context.lora.as_ref().map_or(&self.model, |lora| &lora.name))
    }

    pub(super) fn cbor_root(&self, context: &HashContext) -> Result<Digest, Error> {
        let mut buffer = Vec::new();
        let mut cbor = Cbor(&mut buffer);
        cbor.array(3);
        cbor.unsigned(fnv1a64(self.seed.as_bytes()));
        cbor.null();
        cbor.text(self.served(context)?);
        Ok(Digest::from_u64(fnv1a64(&buffer)))
    }

    pub(super) fn cbor_span(&self, root: Digest, span: Span<'_>, out: &mut Vec<BlockHash>) -> Digest {
        chain(root, span, out, |parent, tokens, extras, buffer| {
            let mut cbor = Cbor(buffer);
            cbor.array(3);
            cbor.unsigned(parent);
            cbor.array(tokens.len());
            tokens.iter().for_each(|&token| cbor.unsigned(token.into()));
            if extras.is_empty() {
                cbor.null();
            } else {
                cbor.array(extras.len());
                for extra in extras {
                    cbor.map(1);
                    cbor.text("Hash");
                    cbor.text(extra);
                }
            }
            fnv1a64(buffer)
        })
    }

    pub(super) fn xxh64_root(&self, context: &HashContext) -> Result<Digest, Error> {
        let mut buffer = xxh64(self.seed.as_bytes(), 0).to_le_bytes().to_vec();
        push_sized(&mut buffer, self.served(context)?);
        Ok(Digest::from_u64(xxh64(&buffer, 0)))
    }

    pub(super) fn xxh64_span(&self, root: Digest, span: Span<'_>, out: &mut Vec<BlockHash>) -> Digest {
        chain(root, span, out, |parent, tokens, extras, buffer| {
            buffer.extend_from_slice(&parent.to_le_bytes());
            tokens.iter().for_each(|token| buffer.extend_from_slice(&token.to_le_bytes()));
            extras.iter().for_each(|extra| push_sized(buffer, extra));
            xxh64(buffer, 0)
        })
    }
}

/// Runs `key(parent, token ids, extras, empty buffer)` over the blocks.
fn chain<'a>(
    root: Digest,
    span: Span<'a>,
    out: &mut Vec<BlockHash>,
    mut key: impl FnMut(u64, &[u32], &[&'a str], &mut Vec<u8>) -> u64,
) -> Digest {
    out.reserve(span.count);
    let items = &span.context.multimodal;
    let mut parent = root.low64();
    let mut buffer = Vec::new();
    let mut extras = Vec::new();
    let mut first_item = 0;
    for (index, tokens) in (span.first..).zip(span.blocks()) {
        let start = (index * span.block_size) as u64;
        let end = start + span.block_size as u64;
        while items.get(first_item).is_some_and(|item| item.end() <= start) {
            first_item += 1;
        }
        let reached = items[first_item..].iter().take_while(|item| u64::from(item.start) < end);
        extras.clear();
        extras.extend(reached.filter(|item| item.end() > start).map(|item| item.identifier.as_str()));
        if index == 0 {
            extras.extend(span.context.salt());
        }
        buffer.clear();
        parent = key(parent, tokens, &extras, &mut buffer);
        out.push(BlockHash(parent));
    }
    Digest::from_u64(parent)
}

fn push_sized(buffer: &mut Vec<u8>, text: &str) {
    buffer.extend_from_slice(&(text.len() as u64).to_le_bytes());
    buffer.extend_from_slice(text.as_bytes());
}

/// FNV-1a, 64 bits (Go's `hash/fnv`).
fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_fnv() {
        // The test suite of the FNV reference code.
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
