//! Token ids of a prompt, shared by all that use them.

use core::fmt;
use core::ops::Deref;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use kvroute_core::hash::{BlockHasher, HashCursor};
use kvroute_core::{BlockHash, HashContext};

/// A prompt's token ids. Clones share them, and the block hashes too once an engine has computed them: a
/// prompt that many runs send is made once and hashed once.
#[derive(Clone, Default)]
pub struct TokenIds(Arc<Shared>);

#[derive(Default)]
struct Shared {
    token_ids: Vec<u32>,
    /// By the first hasher that asked.
    hashed: OnceLock<Hashed>,
}

/// All full blocks of a prompt without extra keys.
pub(super) struct Hashed {
    hasher: BlockHasher,
    pub(super) hashes: Vec<BlockHash>,
    /// Behind the last of them.
    pub(super) cursor: HashCursor,
}

impl TokenIds {
    /// The hashes of its full blocks in this context; none if this hasher cannot hash them.
    #[must_use]
    pub fn blocks(&self, hasher: &BlockHasher, context: &HashContext) -> Cow<'_, [BlockHash]> {
        let is_plain = *context == HashContext::default();
        match is_plain.then(|| self.hashed(hasher)).flatten() {
            Some(hashed) => Cow::Borrowed(&hashed.hashes),
            None => Cow::Owned(hasher.hash(self, context).unwrap_or_default()),
        }
    }

    /// The same without extra keys, kept for the next who asks. `None` if another hasher was first, or if it fails.
    pub(super) fn hashed(&self, hasher: &BlockHasher) -> Option<&Hashed> {
        let hash = || {
            let context = HashContext::default();
            let mut hashes = Vec::with_capacity(hasher.block_count(self.len()));
            let mut cursor = hasher.start(&context).ok()?;
            hasher.extend(&mut cursor, self, &context, usize::MAX, &mut hashes).ok()?;
            Some(Hashed { hasher: hasher.clone(), hashes, cursor })
        };
        let kept = &self.0.hashed;
        if kept.get().is_none() {
            // Whoever else was faster has computed the same.
            let _ = kept.set(hash()?);
        }
        kept.get().filter(|hashed| hashed.hasher == *hasher)
    }
}

impl Deref for TokenIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0.token_ids
    }
}

impl From<Vec<u32>> for TokenIds {
    fn from(token_ids: Vec<u32>) -> Self {
        Self(Arc::new(Shared { token_ids, hashed: OnceLock::new() }))
    }
}

impl FromIterator<u32> for TokenIds {
    fn from_iter<I: IntoIterator<Item = u32>>(token_ids: I) -> Self {
        Vec::from_iter(token_ids).into()
    }
}

impl PartialEq for TokenIds {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.token_ids == other.0.token_ids
    }
}

impl Eq for TokenIds {}

impl fmt::Debug for TokenIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.token_ids.fmt(f)
    }
}
