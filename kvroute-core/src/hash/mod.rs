//! Block hashing: token ids and a [`HashContext`] in, one chained [`BlockHash`] per full block out.
//!
//! A [`BlockHasher`] is a [`HashScheme`] and a block size, checked once. Four schemes: our own
//! ([`OwnScheme`], for engines whose hashes are translated), vLLM's ([`VllmScheme`], byte for byte
//! the engine's own hashes, so that events need no translation), and llm-d's two ([`LlmdScheme`],
//! to share an index with it).
//!
//! A partial tail is not a block and has no hash. Hashing one prompt is sequential: a block's hash
//! needs the one before. [`BlockHasher::hash`] does a whole prompt;
//! [`BlockHasher::start`] and [`BlockHasher::extend`] do it in pieces and go on when the prompt has
//! grown, with the same result. Everything is a pure function of its arguments, nothing is cached,
//! and all methods take `&self`: share one hasher between threads.
//!
//! Cost: one pass over the token ids. The own scheme allocates nothing beyond the output; the
//! others use one scratch buffer per call, of the size of one block's pre-image.

mod cbor;
mod context;
mod digest;
mod fingerprint;
mod llmd;
mod own;
mod pickle;
mod preimage;
mod scheme;
#[cfg(test)]
mod tests;
mod vllm;

use alloc::format;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher as _};
use core::num::NonZeroU16;

use xxhash_rust::xxh3::Xxh3;

pub use context::{ExtraKey, HashContext, Lora, MultimodalForm, MultimodalItem};
pub use llmd::LlmdScheme;
pub use own::OwnScheme;
pub use scheme::HashScheme;
pub use vllm::{HashSeed, VllmAlgorithm, VllmEra, VllmScheme};

use crate::{BlockHash, Error};
use digest::Digest;

/// The blocks one call hashes, and where they lie in the prompt.
#[derive(Clone, Copy, Debug)]
struct Span<'a> {
    /// The whole prompt; holds every token of the blocks, and what lookahead asks for after them.
    token_ids: &'a [u32],
    block_size: usize,
    /// Index of the first block.
    first: usize,
    /// How many blocks, from `first` on.
    count: usize,
    context: &'a HashContext,
}

impl<'a> Span<'a> {
    /// Token ids of blocks `first..first + count`, all of them full.
    fn blocks(&self) -> core::slice::ChunksExact<'a, u32> {
        let start = self.first * self.block_size;
        self.token_ids[start..start + self.count * self.block_size].chunks_exact(self.block_size)
    }
}

/// Turns token ids into chained block hashes, by one scheme and one block size.
///
/// ```
/// use kvroute_core::hash::{BlockHasher, HashContext, OwnScheme};
///
/// let hasher = BlockHasher::new(OwnScheme::default(), 16)?;
/// let token_ids: Vec<u32> = (0..40).collect();
/// let blocks = hasher.hash(&token_ids, &HashContext::default())?;
/// assert_eq!(blocks.len(), 2, "two full blocks; the tail of 8 tokens is not a block");
/// # Ok::<(), kvroute_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHasher {
    scheme: HashScheme,
    block_size: u32,
    /// Tells cursors of other hashers apart.
    identity: u64,
}

/// Where in a prompt a [`BlockHasher`] stands: how many blocks are hashed, and the full-width hash
/// of the last one. Small and cheap to clone; keep one per conversation to hash only what is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCursor {
    identity: u64,
    blocks: usize,
    parent: Digest,
}

impl HashCursor {
    /// How many blocks are hashed; the next one has this index.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// The full-width hash of the last hashed block, as engines publish it that do not publish integers: 32
    /// bytes (SHA-256), 16 (XXH3-128) or 8. Before the first block what it is chained to, which may be empty.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        self.parent.as_bytes()
    }
}

impl BlockHasher {
    /// The largest block size accepted, tokens. Engines use 16 to 1024.
    pub const MAX_BLOCK_SIZE: u32 = 65_536;

    /// The own scheme with a block size that needs no check.
    pub(crate) fn own(block_size: NonZeroU16) -> Self {
        Self::checked(OwnScheme::default().into(), u32::from(block_size.get()))
    }

    /// A hasher for blocks of `block_size` tokens.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a block size of 0 or above
    /// [`MAX_BLOCK_SIZE`](Self::MAX_BLOCK_SIZE).
    pub fn new(scheme: impl Into<HashScheme>, block_size: u32) -> Result<Self, Error> {
        if !(1..=Self::MAX_BLOCK_SIZE).contains(&block_size) {
            let max = Self::MAX_BLOCK_SIZE;
            return Err(Error::invalid(format!("block size {block_size} is not in 1..={max} tokens")));
        }
        Ok(Self::checked(scheme.into(), block_size))
    }

    fn checked(scheme: HashScheme, block_size: u32) -> Self {
        let mut identity = Xxh3::new();
        (&scheme, block_size).hash(&mut identity);
        Self { identity: identity.finish(), scheme, block_size }
    }

    /// Tokens per block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Equal for hashers that hash alike.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// The scheme it hashes by.
    #[must_use]
    pub fn scheme(&self) -> &HashScheme {
        &self.scheme
    }

    /// How many blocks of a prompt of `token_count` tokens have a hash: the full ones, less those
    /// whose [lookahead](VllmScheme::with_lookahead) is not there yet.
    #[must_use]
    pub fn block_count(&self, token_count: usize) -> usize {
        token_count.saturating_sub(self.scheme.lookahead()) / self.block_size as usize
    }

    /// Hashes a whole prompt: `token_ids: [n]` in, [`block_count(n)`](Self::block_count) hashes out.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the context lacks what the scheme needs
    /// (an adapter's name, path or id), has what it cannot express, or lists multimodal items out
    /// of order; [`Limit`](crate::ErrorKind::Limit) if one block's pickle pre-image exceeds 64 KiB.
    pub fn hash(&self, token_ids: &[u32], context: &HashContext) -> Result<Vec<BlockHash>, Error> {
        let mut out = Vec::with_capacity(self.block_count(token_ids.len()));
        self.hash_into(token_ids, context, &mut out)?;
        Ok(out)
    }

    /// [`hash`](Self::hash) into a buffer of the caller's, whose content it replaces. With the own
    /// scheme nothing is allocated if the buffer's capacity suffices.
    ///
    /// # Errors
    ///
    /// Those of [`hash`](Self::hash); the buffer is then empty.
    pub fn hash_into(
        &self,
        token_ids: &[u32],
        context: &HashContext,
        out: &mut Vec<BlockHash>,
    ) -> Result<(), Error> {
        out.clear();
        let mut cursor = self.start(context)?;
        self.extend(&mut cursor, token_ids, context, usize::MAX, out)?;
        Ok(())
    }

    /// A cursor before the first block of a prompt.
    ///
    /// # Errors
    ///
    /// Those of [`hash`](Self::hash) that concern the context alone.
    pub fn start(&self, context: &HashContext) -> Result<HashCursor, Error> {
        context.validate()?;
        let parent = match &self.scheme {
            HashScheme::Own(own) => own.root(context),
            HashScheme::Vllm(vllm) => vllm.root(context)?,
            HashScheme::LlmdCborFnv(llmd) => llmd.cbor_root(context)?,
            HashScheme::LlmdXxh64(llmd) => llmd.xxh64_root(context)?,
        };
        Ok(HashCursor { identity: self.identity, blocks: 0, parent })
    }

    /// Hashes up to `max_blocks` further blocks, appends them to `out` and moves the cursor behind
    /// them. Returns how many: fewer than `max_blocks` when the prompt has no more.
    ///
    /// `token_ids` is the whole prompt so far, not only its new end, and `context` the one that
    /// [`start`](Self::start) had (items of it may have been added behind the cursor's position).
    /// That the hashed part is unchanged is the caller's word: it is not read again.
    ///
    /// # Errors
    ///
    /// Those of [`hash`](Self::hash), and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a
    /// cursor of a hasher with another scheme or block size, or one that stands behind the end of
    /// `token_ids`. Cursor and `out` are then as before.
    pub fn extend(
        &self,
        cursor: &mut HashCursor,
        token_ids: &[u32],
        context: &HashContext,
        max_blocks: usize,
        out: &mut Vec<BlockHash>,
    ) -> Result<usize, Error> {
        if cursor.identity != self.identity {
            return Err(Error::invalid("hash cursor of a hasher with another scheme or block size"));
        }
        let available = self.block_count(token_ids.len());
        if cursor.blocks > available {
            return Err(Error::invalid(format!(
                "hash cursor stands behind block {}, but the prompt of {} tokens has only {available} blocks",
                cursor.blocks,
                token_ids.len(),
            )));
        }
        context.validate()?;
        let count = (available - cursor.blocks).min(max_blocks);
        let span =
            Span { token_ids, block_size: self.block_size as usize, first: cursor.blocks, count, context };
        let before = out.len();
        let hashed = match &self.scheme {
            HashScheme::Own(own) => Ok(own.hash_span(cursor.parent, span, out)),
            HashScheme::Vllm(vllm) => vllm.hash_span(cursor.parent, span, out),
            HashScheme::LlmdCborFnv(llmd) => Ok(llmd.cbor_span(cursor.parent, span, out)),
            HashScheme::LlmdXxh64(llmd) => Ok(llmd.xxh64_span(cursor.parent, span, out)),
        };
        match hashed {
            Ok(parent) => {
                cursor.parent = parent;
                cursor.blocks += count;
                Ok(count)
            }
            Err(error) => {
                out.truncate(before);
                Err(error)
            }
        }
    }
}
