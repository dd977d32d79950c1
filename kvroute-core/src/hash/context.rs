//! What besides the token ids decides whether two blocks share KV.
//!
//! A request carries a [`HashContext`]; an engine's event carries, per block, a list of
//! [`ExtraKey`]s. This module turns the first into the second by vLLM's rules, so that both sides
//! hash the same thing. Walking a prompt's blocks costs O(blocks with keys + items), because the
//! walk never looks again at items that ended.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::slice;

use crate::Error;

/// The parts of a request that enter its block hashes beside the token ids.
///
/// The default context (no adapter, no salt, plain text) is what most requests have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashContext {
    /// The LoRA adapter the request runs with.
    pub lora: Option<Lora>,
    /// Tenant isolation string (`cache_salt` in vLLM's API). Enters the first block only.
    pub cache_salt: Option<String>,
    /// Multimodal items in the prompt, ordered by `start` (hashing refuses another order).
    pub multimodal: Vec<MultimodalItem>,
    /// Prompt embeddings: `prompt_embeds[i]` is the key of block `i`, as the engine forms it
    /// (vLLM 0.17 and later: the SHA-256 of the block's raw embedding bytes; before: those bytes).
    /// Blocks past its end have none; vLLM itself gives the blocks of such a request that lie past
    /// the embeddings the key of zero bytes, so append that where it matters.
    pub prompt_embeds: Vec<Vec<u8>>,
}

/// A LoRA adapter as the engine knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lora {
    /// Adapter name, the `model` of the request.
    pub name: String,
    /// Where the engine loaded it from (`root` in `/v1/models`). In the hash since vLLM 0.31.
    pub path: String,
    /// The engine's integer id. In the hash before vLLM 0.11.1.
    pub id: i64,
}

/// One image, video or audio clip in a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MultimodalItem {
    /// The engine's identifier of the content (vLLM: hex digest of the processed item).
    pub identifier: String,
    /// First token of its placeholder; tokens from the start of the prompt.
    pub start: u32,
    /// Length of its placeholder, tokens.
    pub length: u32,
}

/// One extra key of one block, as engines publish it: untagged.
///
/// In order: adapter name, multimodal items, cache salt (first block only), prompt embeddings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExtraKey {
    /// Adapter name, cache salt, or (vLLM before 0.19) a multimodal identifier.
    Text(String),
    /// A multimodal item and its start relative to the block's first token (negative when it began
    /// in an earlier block).
    Multimodal {
        /// The engine's identifier of the content.
        identifier: String,
        /// Start of the item minus start of the block, tokens.
        offset: i64,
    },
    /// Key of prompt embeddings.
    Bytes(Vec<u8>),
}

impl ExtraKey {
    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.capacity(),
            Self::Multimodal { identifier, .. } => identifier.capacity(),
            Self::Bytes(bytes) => bytes.capacity(),
        }
    }
}

/// How an engine publishes multimodal items among a block's extra keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MultimodalForm {
    /// Identifier and offset ([`ExtraKey::Multimodal`]): vLLM 0.19 and later.
    #[default]
    Offset,
    /// The bare identifier ([`ExtraKey::Text`]): vLLM before 0.19.
    Identifier,
}

impl HashContext {
    /// The extra keys of one block as an engine's event would list them, except that the adapter
    /// name is left out: multimodal items that overlap the block, then the cache salt (block 0
    /// only, an empty one counts as none), then the key of the block's prompt embeddings.
    ///
    /// `block_index` counts blocks of `block_size` tokens from the start of the prompt. Rules:
    /// vLLM's `generate_block_hash_extra_keys` (`vllm/v1/core/kv_cache_utils.py`, 0.19 and later).
    /// Of multimodal items that overlap each other it lists none behind one that goes on past the
    /// block, and none at all once the last item has ended; so does this.
    #[must_use]
    pub fn extra_keys(&self, block_index: usize, block_size: u32, form: MultimodalForm) -> Vec<ExtraKey> {
        KeyWalk::new(self, block_size as usize).block(block_index).map(|key| key.to_owned(form)).collect()
    }

    /// Checks what no scheme can hash.
    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.lora.as_ref().is_some_and(|lora| lora.name.is_empty()) {
            return Err(Error::invalid("LoRA adapter with an empty name in the hash context"));
        }
        match self.multimodal.windows(2).position(|pair| pair[0].start > pair[1].start) {
            Some(at) => Err(Error::invalid(format!(
                "multimodal item {} starts at token {}, before item {at} at token {}: order them by start",
                at + 1,
                self.multimodal[at + 1].start,
                self.multimodal[at].start,
            ))),
            None => Ok(()),
        }
    }

    /// The salt, if it is one.
    pub(super) fn salt(&self) -> Option<&str> {
        self.cache_salt.as_deref().filter(|salt| !salt.is_empty())
    }

    /// The first block from which on no block has extra keys (an adapter's name aside).
    pub(super) fn first_plain_block(&self, block_size: usize) -> usize {
        let items_end = self.multimodal.last().map_or(0, MultimodalItem::end);
        let items = items_end.div_ceil(block_size as u64) as usize;
        items.max(self.prompt_embeds.len()).max(usize::from(self.salt().is_some()))
    }
}

impl MultimodalItem {
    /// First token after the placeholder.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.start) + u64::from(self.length)
    }
}

/// One key of one block, borrowed, and still knowing what it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum BlockKey<'a> {
    Multimodal { identifier: &'a str, offset: i64 },
    Salt(&'a str),
    Embeds(&'a [u8]),
}

impl BlockKey<'_> {
    fn to_owned(self, form: MultimodalForm) -> ExtraKey {
        match self {
            Self::Multimodal { identifier, offset } => match form {
                MultimodalForm::Offset => ExtraKey::Multimodal { identifier: identifier.into(), offset },
                MultimodalForm::Identifier => ExtraKey::Text(identifier.into()),
            },
            Self::Salt(salt) => ExtraKey::Text(salt.into()),
            Self::Embeds(key) => ExtraKey::Bytes(key.into()),
        }
    }
}

/// Goes through the blocks of a prompt in order and yields each one's keys.
#[derive(Debug)]
pub(super) struct KeyWalk<'a> {
    context: &'a HashContext,
    block_size: usize,
    /// Items before this one ended before the block asked for last.
    first_item: usize,
}

impl<'a> KeyWalk<'a> {
    pub(super) fn new(context: &'a HashContext, block_size: usize) -> Self {
        Self { context, block_size, first_item: 0 }
    }

    /// Keys of block `index`, which must not be below that of an earlier call.
    pub(super) fn block(&mut self, index: usize) -> BlockKeys<'a> {
        let start = (index as u64).saturating_mul(self.block_size as u64);
        let end = start.saturating_add(self.block_size as u64);
        let items = &self.context.multimodal;
        while items.get(self.first_item).is_some_and(|item| item.end() <= start) {
            self.first_item += 1;
        }
        let all_ended = items.last().is_none_or(|last| last.end() <= start);
        let items = if all_ended { &[] } else { &items[self.first_item..] };
        let salt = if index == 0 { self.context.salt() } else { None };
        let embeds = self.context.prompt_embeds.get(index).map(Vec::as_slice);
        BlockKeys { items: items.iter(), start, end, salt, embeds }
    }
}

/// The keys of one block, in the order in which vLLM hashes them.
#[derive(Debug)]
pub(super) struct BlockKeys<'a> {
    items: slice::Iter<'a, MultimodalItem>,
    start: u64,
    end: u64,
    salt: Option<&'a str>,
    embeds: Option<&'a [u8]>,
}

impl<'a> Iterator for BlockKeys<'a> {
    type Item = BlockKey<'a>;

    fn next(&mut self) -> Option<BlockKey<'a>> {
        while let Some(item) = self.items.next() {
            if u64::from(item.start) >= self.end {
                self.items = [].iter();
                break;
            }
            if item.end() <= self.start {
                continue;
            }
            if item.end() > self.end {
                // vLLM is done with the block at an item that goes on past it.
                self.items = [].iter();
            }
            let offset = i64::from(item.start) - self.start as i64;
            return Some(BlockKey::Multimodal { identifier: &item.identifier, offset });
        }
        if let Some(salt) = self.salt.take() {
            return Some(BlockKey::Salt(salt));
        }
        self.embeds.take().map(BlockKey::Embeds)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn item(identifier: &str, start: u32, length: u32) -> MultimodalItem {
        MultimodalItem { identifier: identifier.into(), start, length }
    }

    fn identifiers(context: &HashContext, block: usize) -> Vec<(String, i64)> {
        let keys = context.extra_keys(block, 16, MultimodalForm::Offset);
        keys.into_iter()
            .map(|key| match key {
                ExtraKey::Multimodal { identifier, offset } => (identifier, offset),
                other => panic!("not a multimodal key: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn keys_come_in_the_order_items_then_salt_then_embeddings() {
        let context = HashContext {
            lora: Some(Lora { name: "adapter".into(), ..Lora::default() }),
            cache_salt: Some("tenant".into()),
            multimodal: vec![item("a", 3, 2), item("b", 15, 2)],
            prompt_embeds: vec![vec![1, 2]],
        };
        let text = |text: &str| ExtraKey::Text(text.into());
        assert_eq!(
            context.extra_keys(0, 16, MultimodalForm::Identifier),
            [text("a"), text("b"), text("tenant"), ExtraKey::Bytes(vec![1, 2])]
        );
        assert_eq!(identifiers(&context, 1), [("b".into(), -1)]);
        assert_eq!(context.extra_keys(2, 16, MultimodalForm::Offset), []);
        assert_eq!(context.first_plain_block(16), 2);
    }

    #[test]
    fn an_item_that_ends_on_a_block_border_is_not_in_the_next_block() {
        let context = HashContext { multimodal: vec![item("a", 10, 6)], ..HashContext::default() };
        assert_eq!(identifiers(&context, 0), [("a".into(), 10)]);
        assert_eq!(identifiers(&context, 1), []);
        assert_eq!(context.first_plain_block(16), 1);
    }

    #[test]
    fn an_item_that_goes_on_hides_the_ones_behind_it_as_in_vllm() {
        let context =
            HashContext { multimodal: vec![item("long", 0, 20), item("in", 4, 4)], ..HashContext::default() };
        assert_eq!(identifiers(&context, 0), [("long".into(), 0)]);
        assert_eq!(identifiers(&context, 1), [], "the last item has ended");
    }

    #[test]
    fn an_empty_salt_is_no_salt() {
        let context = HashContext { cache_salt: Some(String::new()), ..HashContext::default() };
        assert_eq!(context.extra_keys(0, 16, MultimodalForm::Offset), []);
        assert_eq!(context.first_plain_block(16), 0);
    }

    #[test]
    fn walking_gives_what_asking_for_one_block_gives() {
        let context = HashContext {
            multimodal: vec![item("a", 1, 40), item("b", 41, 1), item("c", 60, 0), item("d", 70, 200)],
            ..HashContext::default()
        };
        let mut walk = KeyWalk::new(&context, 16);
        for block in 0..20 {
            let walked: Vec<_> = walk.block(block).map(|key| key.to_owned(MultimodalForm::Offset)).collect();
            assert_eq!(walked, context.extra_keys(block, 16, MultimodalForm::Offset), "block {block}");
        }
    }

    #[test]
    fn extreme_positions_do_not_overflow() {
        let context =
            HashContext { multimodal: vec![item("a", u32::MAX, u32::MAX)], ..HashContext::default() };
        assert!(context.extra_keys(usize::MAX, u32::MAX, MultimodalForm::Offset).is_empty());
        assert_eq!(context.extra_keys((u32::MAX / 16) as usize, 16, MultimodalForm::Offset).len(), 1);
    }
}
