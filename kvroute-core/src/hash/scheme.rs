//! The choice between schemes.

use super::{LlmdScheme, OwnScheme, VllmScheme};

/// How block hashes are computed. Belongs to a cache domain: pods whose engines hash otherwise, or
/// with another seed, need another scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashScheme {
    /// kvroute's own, for engines whose hashes are translated. The fastest.
    Own(OwnScheme),
    /// vLLM's own hashes, byte for byte.
    Vllm(VllmScheme),
    /// llm-d's default, `hashAlgorithm: cbor-fnv`.
    LlmdCborFnv(LlmdScheme),
    /// llm-d's other one, `hashAlgorithm: xxh64`.
    LlmdXxh64(LlmdScheme),
}

impl HashScheme {
    /// Name in configuration and explanations.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Own(_) => "own",
            Self::Vllm(_) => "vllm",
            Self::LlmdCborFnv(_) => "llmd-cbor-fnv",
            Self::LlmdXxh64(_) => "llmd-xxh64",
        }
    }

    /// Tokens after a block that its hash needs.
    pub(super) fn lookahead(&self) -> usize {
        match self {
            Self::Vllm(vllm) => vllm.lookahead() as usize,
            _ => 0,
        }
    }
}

impl Default for HashScheme {
    fn default() -> Self {
        Self::Own(OwnScheme::default())
    }
}

impl From<OwnScheme> for HashScheme {
    fn from(scheme: OwnScheme) -> Self {
        Self::Own(scheme)
    }
}

impl From<VllmScheme> for HashScheme {
    fn from(scheme: VllmScheme) -> Self {
        Self::Vllm(scheme)
    }
}
