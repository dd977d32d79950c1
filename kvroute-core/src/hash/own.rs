//! kvroute's own scheme: XXH3-64 of each block's content, chained by XXH3-64.
//!
//! ```text
//! local[i] = XXH3-64(seed, LE32 token ids of block i || encoded extra keys of block i)
//! seq[0]   = local[0]                                             without an adapter
//!          = XXH3-64(seed, LE64 root(adapter) || LE64 local[0])   with one
//! seq[i]   = XXH3-64(seed, LE64 seq[i-1] || LE64 local[i])
//! ```
//!
//! For blocks without extra keys and the default seed 1337 this is, bit for bit, what Mooncake's
//! RFC #1403 proposes and what Dynamo (`dynamo-kv-router` 1.6.1) and SMG (`kv-index` 2.0.0)
//! compute, so hashes can be exchanged with them; `testdata/hashes/own-scheme.json` was printed by
//! both. Adapters, salts and multimodal items are hashed differently by each of them; here they
//! are the extra keys as vLLM publishes them, so that a request and an event give the same hash.
//!
//! An extra key is encoded as a tag byte (0 text, 1 multimodal, 2 bytes), the length as LE64, the
//! bytes, and for a multimodal item its offset as LE64 two's complement: unambiguous for a given
//! block size. The adapter is not among the keys; `root(adapter)` is XXH3-64(seed) of
//! `"lora\0" || name`.

use alloc::vec::Vec;

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::Span;
use super::context::{BlockKey, ExtraKey, HashContext, KeyWalk, MultimodalForm};
use super::digest::Digest;
use crate::BlockHash;

/// The own scheme: a seed, and the form in which the engines of the cache domain publish
/// multimodal items.
///
/// A **secret seed** (a random one that only the routers know) makes it much harder to craft
/// prompts that collide on purpose and so steer other people's requests. It costs the exchange of
/// hashes with anyone who has another seed, Dynamo and SMG included, and every router that shares
/// state must have the same one. It is no proof: XXH3 is not a MAC, and what a collision can do is
/// send a request to a pod without its prefix, never show one tenant another's data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnScheme {
    seed: u64,
    multimodal: MultimodalForm,
}

impl Default for OwnScheme {
    fn default() -> Self {
        Self::new(Self::DEFAULT_SEED)
    }
}

impl OwnScheme {
    /// The seed of the default domain, which Dynamo and SMG use too.
    pub const DEFAULT_SEED: u64 = 1337;

    /// The scheme with this seed. See the type's documentation for what a secret one gives.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, multimodal: MultimodalForm::Offset }
    }

    /// The scheme for a named cache domain, usually a model: the seed is the XXH3-64 (seed 1337)
    /// of the name, so two domains never share hashes.
    #[must_use]
    pub fn for_domain(name: &str) -> Self {
        Self::new(xxh3_64_with_seed(name.as_bytes(), Self::DEFAULT_SEED))
    }

    /// The same for engines that publish multimodal items in another form than
    /// [`MultimodalForm::Offset`]; with the wrong one multimodal prompts never match.
    #[must_use]
    pub fn with_multimodal(mut self, form: MultimodalForm) -> Self {
        self.multimodal = form;
        self
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The form in which multimodal items are hashed.
    #[must_use]
    pub fn multimodal(&self) -> MultimodalForm {
        self.multimodal
    }

    /// Hashes one block of an engine's event: the same hash as a [`BlockHasher`] computes for that
    /// block of the request.
    ///
    /// `parent` is our hash of the block before, `None` for the first block of a prompt. The
    /// adapter enters only there: `lora_name` is ignored with a parent, and an empty one counts as
    /// none. `extra_keys` are the block's, in the order published, *without* the adapter's name.
    ///
    /// [`BlockHasher`]: super::BlockHasher
    #[must_use]
    pub fn hash_block(
        &self,
        parent: Option<BlockHash>,
        token_ids: &[u32],
        lora_name: Option<&str>,
        extra_keys: &[ExtraKey],
    ) -> BlockHash {
        let local = if extra_keys.is_empty() {
            plain_content(self.seed, token_ids)
        } else {
            let mut content = Content::new(self.seed, token_ids);
            for key in extra_keys {
                match key {
                    ExtraKey::Text(text) => content.text(text),
                    ExtraKey::Multimodal { identifier, offset } => content.multimodal(identifier, *offset),
                    ExtraKey::Bytes(bytes) => content.bytes(bytes),
                }
            }
            content.finish()
        };
        let before = self.before(parent, lora_name);
        BlockHash(before.map_or(local, |before| chain(self.seed, before, local)))
    }

    /// What a block is chained to: its parent, or its adapter.
    fn before(&self, parent: Option<BlockHash>, lora_name: Option<&str>) -> Option<u64> {
        let root = || lora_name.filter(|name| !name.is_empty()).map(|name| self.adapter_root(name));
        parent.map(|parent| parent.0).or_else(root)
    }

    /// What stands before block 0.
    pub(super) fn root(&self, context: &HashContext) -> Digest {
        context.lora.as_ref().map_or(Digest::EMPTY, |lora| Digest::from_u64(self.adapter_root(&lora.name)))
    }

    pub(super) fn hash_span(&self, parent: Digest, span: Span<'_>, out: &mut Vec<BlockHash>) -> Digest {
        out.reserve(span.count);
        let mut blocks = span.blocks();
        // A root that is not there gives the first block its bare content hash.
        let mut parent = if parent.is_empty() { None } else { Some(parent.low64()) };
        let keyed = span.context.first_plain_block(span.block_size);
        if keyed > span.first {
            let mut walk = KeyWalk::new(span.context, span.block_size);
            for (index, block) in (span.first..keyed).zip(&mut blocks) {
                let local = self.keyed_content(block, walk.block(index));
                let hash = parent.map_or(local, |parent| chain(self.seed, parent, local));
                out.push(BlockHash(hash));
                parent = Some(hash);
            }
        }
        let before = out.len();
        out.extend(self.plain_blocks(parent, blocks));
        let last = out[before..].last().map(|hash| hash.0);
        last.or(parent).map_or(Digest::EMPTY, Digest::from_u64)
    }

    /// Hashes blocks of an engine's event that have no extra keys, as [`hash_block`](Self::hash_block) does one by one.
    pub(crate) fn hash_plain_blocks<'a>(
        &self,
        parent: Option<BlockHash>,
        blocks: impl Iterator<Item = &'a [u32]>,
        lora_name: Option<&str>,
    ) -> impl Iterator<Item = BlockHash> {
        self.plain_blocks(self.before(parent, lora_name), blocks)
    }

    fn plain_blocks<'a>(
        &self,
        parent: Option<u64>,
        mut blocks: impl Iterator<Item = &'a [u32]>,
    ) -> impl Iterator<Item = BlockHash> {
        let seed = self.seed;
        let first =
            if parent.is_none() { blocks.next().map(|block| plain_content(seed, block)) } else { None };
        let mut hash = parent.or(first).unwrap_or_default();
        // Interleaved, the next content hash runs while the chain waits for its product: a third
        // less time than all contents first and then the chain (blocks of 16 tokens, x86-64).
        let rest = blocks.map(move |block| {
            hash = chain(seed, hash, plain_content(seed, block));
            BlockHash(hash)
        });
        first.map(BlockHash).into_iter().chain(rest)
    }

    fn adapter_root(&self, name: &str) -> u64 {
        let mut root = Xxh3::with_seed(self.seed);
        root.update(b"lora\0");
        root.update(name.as_bytes());
        root.digest()
    }

    fn keyed_content<'a>(&self, token_ids: &[u32], keys: impl Iterator<Item = BlockKey<'a>>) -> u64 {
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return plain_content(self.seed, token_ids);
        }
        let mut content = Content::new(self.seed, token_ids);
        for key in keys {
            match key {
                BlockKey::Multimodal { identifier, offset } => match self.multimodal {
                    MultimodalForm::Offset => content.multimodal(identifier, offset),
                    MultimodalForm::Identifier => content.text(identifier),
                },
                BlockKey::Salt(salt) => content.text(salt),
                BlockKey::Embeds(key) => content.bytes(key),
            }
        }
        content.finish()
    }
}

/// `seq[i]` of a parent and a local hash.
#[inline]
fn chain(seed: u64, parent: u64, local: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&parent.to_le_bytes());
    bytes[8..].copy_from_slice(&local.to_le_bytes());
    xxh3_64_with_seed(&bytes, seed)
}

/// `local[i]` of a block without extra keys.
#[inline]
fn plain_content(seed: u64, token_ids: &[u32]) -> u64 {
    if cfg!(target_endian = "little") {
        xxh3_64_with_seed(bytemuck::cast_slice(token_ids), seed)
    } else {
        Content::new(seed, token_ids).finish()
    }
}

/// A content hash in the making: token ids, then extra keys. Streams, so it needs no buffer.
struct Content(Xxh3);

impl Content {
    fn new(seed: u64, token_ids: &[u32]) -> Self {
        let mut hash = Xxh3::with_seed(seed);
        if cfg!(target_endian = "little") {
            hash.update(bytemuck::cast_slice(token_ids));
        } else {
            token_ids.iter().for_each(|token| hash.update(&token.to_le_bytes()));
        }
        Self(hash)
    }

    fn text(&mut self, text: &str) {
        self.tagged(0, text.as_bytes());
    }

    fn multimodal(&mut self, identifier: &str, offset: i64) {
        self.tagged(1, identifier.as_bytes());
        self.0.update(&offset.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.tagged(2, bytes);
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update(&[tag]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> u64 {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// The definition in the module's documentation, written down naively.
    fn by_definition(seed: u64, parent: Option<u64>, token_ids: &[u32], keys: &[u8]) -> u64 {
        let mut content: Vec<u8> = token_ids.iter().flat_map(|token| token.to_le_bytes()).collect();
        content.extend_from_slice(keys);
        let local = xxh3_64_with_seed(&content, seed);
        let Some(parent) = parent else { return local };
        xxh3_64_with_seed(&[parent.to_le_bytes(), local.to_le_bytes()].concat(), seed)
    }

    #[test]
    fn hashes_follow_the_documented_bytes() {
        let own = OwnScheme::new(7);
        let tokens: Vec<u32> = (100..116).collect();
        assert_eq!(own.hash_block(None, &tokens, None, &[]).0, by_definition(7, None, &tokens, &[]));
        let keys = [
            ExtraKey::Multimodal { identifier: "ab".into(), offset: -2 },
            ExtraKey::Text("s".into()),
            ExtraKey::Bytes(vec![9]),
        ];
        let encoded = b"\x01\x02\0\0\0\0\0\0\0ab\xfe\xff\xff\xff\xff\xff\xff\xff\
            \x00\x01\0\0\0\0\0\0\0s\x02\x01\0\0\0\0\0\0\0\x09";
        let root = xxh3_64_with_seed(b"lora\0name", 7);
        assert_eq!(
            own.hash_block(None, &tokens, Some("name"), &keys).0,
            by_definition(7, Some(root), &tokens, encoded)
        );
        assert_eq!(
            own.hash_block(Some(BlockHash(5)), &tokens, Some("name"), &keys).0,
            by_definition(7, Some(5), &tokens, encoded)
        );
    }

    #[test]
    fn key_encodings_do_not_run_into_each_other() {
        let own = OwnScheme::default();
        let text = |text: &str| ExtraKey::Text(text.into());
        let lists = [
            vec![text("ab")],
            vec![text("a"), text("b")],
            vec![text("b"), text("a")],
            vec![ExtraKey::Bytes(b"ab".to_vec())],
            vec![ExtraKey::Multimodal { identifier: "ab".into(), offset: 0 }],
            vec![ExtraKey::Multimodal { identifier: "ab".into(), offset: -1 }],
            vec![],
        ];
        let mut hashes: Vec<_> = lists.iter().map(|keys| own.hash_block(None, &[1, 2], None, keys)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), lists.len());
    }

    #[test]
    fn streamed_and_one_shot_content_agree_in_every_regime_of_xxh3() {
        let tokens: Vec<u32> = (0..600).map(|i: u32| i.wrapping_mul(2_654_435_761)).collect();
        for len in 0..=tokens.len() {
            let streamed = Content::new(9, &tokens[..len]).finish();
            assert_eq!(streamed, plain_content(9, &tokens[..len]), "{len} tokens");
        }
    }

    #[test]
    fn domains_differ_from_each_other_and_from_the_default() {
        let seeds = [OwnScheme::default(), OwnScheme::for_domain("a"), OwnScheme::for_domain("b")];
        assert_eq!(seeds[0].seed(), 1337);
        assert!(seeds[0].seed() != seeds[1].seed() && seeds[1].seed() != seeds[2].seed());
    }
}
