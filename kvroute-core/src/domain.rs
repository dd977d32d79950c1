//! Cache domains: what may share KV at all.

use alloc::string::String;

use xxhash_rust::xxh3::xxh3_64;

use crate::Error;
use crate::hash::{BlockHasher, HashScheme};

/// A set of pods whose blocks mean the same: same model weights, same block hashes, same block size.
///
/// A request is hashed once per domain and only ever matched with that domain's pods. The adapter and
/// the cache salt of a request are part of its hash context, not of the domain.
#[derive(Clone, Debug)]
pub struct CacheDomain {
    name: String,
    hasher: BlockHasher,
    salt: u64,
}

impl CacheDomain {
    /// A domain called `name` (one name, one domain, in one index) whose requests `hasher` hashes.
    ///
    /// With a vLLM scheme the domain is *native*: its pods publish those very hashes, so that their
    /// events need no translation. With kvroute's own scheme it is *translated*: the events' token ids
    /// are hashed again, whatever the engine's own hashes are.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an llm-d scheme: those keys are for exchange with llm-d's index; engines do
    /// not publish them, and kvroute does not compute them from events.
    pub fn new(name: impl Into<String>, hasher: BlockHasher) -> Result<Self, Error> {
        let name = name.into();
        match hasher.scheme() {
            HashScheme::Own(_) | HashScheme::Vllm(_) => {}
            other => {
                return Err(Error::invalid(alloc::format!(
                    "cache domain \"{name}\": no engine publishes {other:?} hashes; use the own scheme (translated) \
                     or a vLLM scheme (native)"
                )));
            }
        }
        // Equal hashes of different domains (vLLM's do not know the model) must not meet in the index.
        let salt = if name.is_empty() { 0 } else { xxh3_64(name.as_bytes()) };
        Ok(Self { name, hasher, salt })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What hashes its requests.
    #[must_use]
    pub fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }

    /// Tokens a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.hasher.block_size()
    }

    /// Whether its pods publish the very hashes that requests are hashed to.
    #[must_use]
    pub fn is_native(&self) -> bool {
        matches!(self.hasher.scheme(), HashScheme::Vllm(_))
    }

    /// Mixed into every hash of this domain inside the index.
    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }

    /// Blocks of a prompt an engine can take from its cache: it always computes the last token
    /// (`KVCacheManager.get_computed_blocks`, vLLM 0.32), so a prompt is cut *before* the search.
    #[must_use]
    pub fn searchable_blocks(&self, tokens: usize) -> usize {
        tokens.saturating_sub(1) / self.hasher.block_size() as usize
    }
}
