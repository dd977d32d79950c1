//! Cache domains: what may share KV at all.

use alloc::string::String;
use alloc::vec::Vec;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

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
    /// Mixed into the hashes of its blocks.
    salt: u64,
    /// Names its pods: its own salt, or that of the domain whose texts these are.
    pods_salt: u64,
    models: Vec<String>,
    fingerprint: u64,
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
        let fingerprint = xxh3_64_with_seed(name.as_bytes(), hasher.fingerprint());
        Ok(Self { name, hasher, salt, pods_salt: salt, models: Vec::new(), fingerprint })
    }

    /// The same, whose pods serve these models by name; a request that names another is kept away from them
    /// ([`ModelFilter`](crate::filter::ModelFilter)). Without names they serve any.
    #[must_use]
    pub fn with_models(mut self, models: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.models = models.into_iter().map(Into::into).collect();
        self
    }

    /// Names of the models its pods serve; empty for any.
    #[must_use]
    pub fn models(&self) -> &[String] {
        &self.models
    }

    /// Whether its pods serve this model; a request that names none is content with any.
    #[must_use]
    pub fn serves(&self, model: Option<&str>) -> bool {
        model.is_none_or(|model| self.models.is_empty() || self.models.iter().any(|served| served == model))
    }

    /// The prompts of this domain's pods that are only known as text: their blocks never meet those of
    /// token ids.
    pub(crate) fn of_text(&self, hasher: BlockHasher) -> Self {
        const TEXT: u64 = 0x7465_7874_7465_7874;
        Self { hasher, salt: self.salt ^ TEXT, ..self.clone() }
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

    /// Equal for domains of one name that hash alike, in every version of this library and on every machine: what is
    /// known of one's blocks elsewhere is true of the other's.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Mixed into every hash of this domain inside the index.
    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }

    /// What tells its pods from those of other domains.
    pub(crate) fn pods_salt(&self) -> u64 {
        self.pods_salt
    }

    /// Blocks of a prompt of so many tokens that an engine can take from its cache: it always computes the last token
    /// (`KVCacheManager.get_computed_blocks`, vLLM 0.32), so a prompt is cut *before* the search. Never more than
    /// have a hash.
    #[must_use]
    pub fn searchable_blocks(&self, tokens: usize) -> usize {
        let before_last = tokens.saturating_sub(1) / self.hasher.block_size() as usize;
        before_last.min(self.hasher.block_count(tokens))
    }
}
