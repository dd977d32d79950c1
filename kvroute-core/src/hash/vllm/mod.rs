//! vLLM's own block hashes, byte for byte.
//!
//! ```text
//! root    = H(S(PYTHONHASHSEED as text))                       NONE_HASH
//! hash[i] = H(S((parent, (token ids of block i), extra keys)))  parent = root for i = 0
//! ```
//!
//! `H` and `S` are the [`VllmAlgorithm`]'s, the shape of the extra keys is the [`VllmEra`]'s. The
//! chain carries the full digest; the [`BlockHash`] is its last 8 bytes, big-endian, which is what
//! vLLM publishes as an integer (`maybe_convert_block_hash`). Source: `vllm/v1/core/kv_cache_utils.py`
//! and `vllm/utils/hashing.py` of the versions named at each rule. Confirmed by
//! `testdata/hashes/vllm.json`, which vLLM 0.32's own functions wrote.

mod algorithm;
mod era;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub use algorithm::VllmAlgorithm;
pub use era::VllmEra;

use super::Span;
use super::cbor::Cbor;
use super::context::{BlockKey, HashContext, KeyWalk, Lora};
use super::digest::Digest;
use super::pickle::Pickle;
use super::preimage::Preimage;
use crate::{BlockHash, Error, ErrorKind};
use era::Version;

/// What the engine's environment says about the root of its hashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HashSeed {
    /// `PYTHONHASHSEED` is set to this text.
    Value(String),
    /// `PYTHONHASHSEED` is not set.
    Unset,
}

/// The seed text that stands in for an unset one since vLLM 0.29, for the SHA-256 algorithms.
const UNSET_SEED: &str = "vllm-none-hash";

/// vLLM's hashes: algorithm, era of the extra keys, root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VllmScheme {
    algorithm: VllmAlgorithm,
    era: VllmEra,
    root: Digest,
    lookahead: u32,
}

impl VllmScheme {
    /// The scheme of an engine whose version is known, such as "0.32.0".
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a version that is none or is before 0.9, or
    /// that does not have the algorithm; [`NotReproducible`](ErrorKind::NotReproducible) where an
    /// unset seed is random (before 0.29, and with the xxhash algorithms in any version), and for
    /// `sha256` before 0.10.2, which chained integers of 256 bits.
    pub fn for_version(algorithm: VllmAlgorithm, version: &str, seed: &HashSeed) -> Result<Self, Error> {
        let version = Version::parse(version)?;
        algorithm.check_version(version)?;
        Self::with_seed(algorithm, version.era(), seed, version >= Version::FIXED_UNSET_SEED)
    }

    /// The scheme of an engine of which only the era is known.
    ///
    /// With an unset seed this works only for [`VllmEra::Tagged`], because the era before it holds
    /// versions with a random root and versions with a fixed one: use
    /// [`for_version`](Self::for_version) there.
    ///
    /// # Errors
    ///
    /// Those of [`for_version`](Self::for_version), as far as the era tells.
    pub fn for_era(algorithm: VllmAlgorithm, era: VllmEra, seed: &HashSeed) -> Result<Self, Error> {
        algorithm.check_era(era)?;
        Self::with_seed(algorithm, era, seed, era == VllmEra::Tagged)
    }

    /// The scheme with an explicit root, vLLM's `NONE_HASH`: 32 bytes for the SHA-256 algorithms, 8
    /// for `sha256_cbor_64bit`, 16 for the xxhash ones, or 32 there if it was drawn at random.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for another length, or an era that does not have
    /// the algorithm.
    pub fn from_none_hash(algorithm: VllmAlgorithm, era: VllmEra, none_hash: &[u8]) -> Result<Self, Error> {
        algorithm.check_era(era)?;
        let root = Digest::new(none_hash)
            .filter(|_| algorithm.root_lengths().contains(&none_hash.len()))
            .ok_or_else(|| {
                Error::invalid(format!(
                    "NONE_HASH of {} bytes for {}: expected {:?}",
                    none_hash.len(),
                    algorithm.name(),
                    algorithm.root_lengths(),
                ))
            })?;
        Ok(Self { algorithm, era, root, lookahead: 0 })
    }

    fn with_seed(
        algorithm: VllmAlgorithm,
        era: VllmEra,
        seed: &HashSeed,
        unset_is_fixed: bool,
    ) -> Result<Self, Error> {
        let seed = match seed {
            HashSeed::Value(value) => value,
            HashSeed::Unset if unset_is_fixed && algorithm.is_sha256() => UNSET_SEED,
            HashSeed::Unset => {
                return Err(Error::new(
                    ErrorKind::NotReproducible,
                    format!(
                        "vLLM draws the root of its {} hashes at random when PYTHONHASHSEED is unset ({}); \
                         set PYTHONHASHSEED to the same value on all pods, or use the translated mode: \
                         scheme \"own\", with engine hashes translated from events",
                        algorithm.name(),
                        if algorithm.is_sha256() {
                            "always before 0.29; name the version if it is newer"
                        } else {
                            "in every version"
                        },
                    ),
                ));
            }
        };
        let root = Scratch::default().digest(algorithm, |out| match out {
            Encoder::Cbor(mut cbor) => cbor.text(seed),
            Encoder::Pickle(pickle) => pickle.text(seed),
        })?;
        Ok(Self { algorithm, era, root, lookahead: 0 })
    }

    /// The same with `tokens` tokens of hash lookahead (draft models, vLLM 0.33): a block's hash
    /// also covers that many tokens after it, so the last blocks of a prompt have none yet.
    ///
    /// Written from the source of vLLM 0.33 alone; there is no vector to confirm it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for lookahead in an era before it, or of more
    /// tokens than the largest block has.
    pub fn with_lookahead(mut self, tokens: u32) -> Result<Self, Error> {
        if tokens > 0 && self.era != VllmEra::Tagged {
            return Err(Error::invalid(format!("hash lookahead with vLLM {}: it came in 0.33", self.era)));
        }
        if tokens > super::BlockHasher::MAX_BLOCK_SIZE {
            return Err(Error::invalid(format!(
                "hash lookahead of {tokens} tokens: more than any block has"
            )));
        }
        self.lookahead = tokens;
        Ok(self)
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> VllmAlgorithm {
        self.algorithm
    }

    /// The era.
    #[must_use]
    pub fn era(&self) -> VllmEra {
        self.era
    }

    /// The root of the chain, vLLM's `NONE_HASH`.
    #[must_use]
    pub fn none_hash(&self) -> &[u8] {
        self.root.as_bytes()
    }

    /// Tokens after a block that its hash covers.
    #[must_use]
    pub fn lookahead(&self) -> u32 {
        self.lookahead
    }

    pub(super) fn root(&self, context: &HashContext) -> Result<Digest, Error> {
        if let Some(lora) = &context.lora {
            self.check_adapter(lora)?;
        }
        Ok(self.root)
    }

    /// An adapter whose hashed part is missing would give hashes that silently never match.
    fn check_adapter(&self, lora: &Lora) -> Result<(), Error> {
        let missing = match self.era {
            VllmEra::IntLora if lora.id <= 0 => "no id (vLLM's are positive)",
            VllmEra::Tagged if lora.path.is_empty() => "no path (`root` in /v1/models)",
            _ => return Ok(()),
        };
        Err(Error::invalid(format!(
            "LoRA adapter {:?} has {missing}, which vLLM {} hashes",
            lora.name, self.era
        )))
    }

    pub(super) fn hash_span(
        &self,
        mut parent: Digest,
        span: Span<'_>,
        out: &mut Vec<BlockHash>,
    ) -> Result<Digest, Error> {
        self.root(span.context)?;
        out.reserve(span.count);
        let mut scratch = Scratch::default();
        let mut walk = KeyWalk::new(span.context, span.block_size);
        let mut keys = Vec::new();
        for (index, tokens) in (span.first..).zip(span.blocks()) {
            keys.clear();
            keys.extend(walk.block(index).filter(|key| self.era.hashes(key)));
            let after = (index + 1) * span.block_size;
            let block = Block {
                parent,
                tokens,
                lora: span.context.lora.as_ref(),
                keys: &keys,
                lookahead: &span.token_ids[after..after + self.lookahead as usize],
            };
            let digest = scratch.digest(self.algorithm, |out| match out {
                Encoder::Cbor(mut cbor) => self.write(&block, &mut cbor),
                Encoder::Pickle(pickle) => self.write(&block, pickle),
            });
            parent = digest.map_err(|error| {
                Error::new(error.kind(), format!("{} of block {index}: {error}", self.algorithm.name()))
            })?;
            out.push(parent.published());
        }
        Ok(parent)
    }

    /// `(parent, (tokens...), extra)`.
    fn write(&self, block: &Block<'_>, out: &mut impl Preimage) {
        out.open(3);
        if self.algorithm == VllmAlgorithm::Sha256Cbor64bit {
            out.unsigned(block.parent.low64());
        } else {
            out.bytes(block.parent.as_bytes());
        }
        out.open(block.tokens.len());
        for &token in block.tokens {
            out.unsigned(token.into());
        }
        out.close(block.tokens.len());
        if block.lookahead.is_empty() {
            self.write_extra(block, out);
        } else {
            let len = 1 + block.lookahead.len();
            out.open(len);
            self.write_extra(block, out);
            for &token in block.lookahead {
                out.unsigned(token.into());
            }
            out.close(len);
        }
        out.close(3);
    }

    /// `None`, or the tuple of adapter, multimodal items, salt, embeddings.
    fn write_extra(&self, block: &Block<'_>, out: &mut impl Preimage) {
        let len = usize::from(block.lora.is_some()) + block.keys.len();
        if len == 0 {
            return out.null();
        }
        out.open(len);
        if let Some(lora) = block.lora {
            self.era.write_adapter(lora, out);
        }
        for key in block.keys {
            self.era.write_key(*key, out);
        }
        out.close(len);
    }
}

/// What one hash is made of.
struct Block<'a> {
    parent: Digest,
    tokens: &'a [u32],
    lora: Option<&'a Lora>,
    keys: &'a [BlockKey<'a>],
    /// Tokens after the block.
    lookahead: &'a [u32],
}

/// The buffers of one call.
#[derive(Default)]
struct Scratch {
    cbor: Vec<u8>,
    pickle: Pickle,
}

/// Where a pre-image is written, by the algorithm's encoding.
enum Encoder<'a> {
    Cbor(Cbor<'a>),
    Pickle(&'a mut Pickle),
}

impl Scratch {
    /// Hashes what `write` writes.
    #[inline]
    fn digest(&mut self, algorithm: VllmAlgorithm, write: impl FnOnce(Encoder<'_>)) -> Result<Digest, Error> {
        let preimage = if algorithm.is_cbor() {
            self.cbor.clear();
            write(Encoder::Cbor(Cbor(&mut self.cbor)));
            &self.cbor
        } else {
            self.pickle.begin();
            write(Encoder::Pickle(&mut self.pickle));
            self.pickle.finish()?
        };
        Ok(algorithm.digest(preimage))
    }
}
