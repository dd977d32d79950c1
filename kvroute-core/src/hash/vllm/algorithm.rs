//! vLLM's `--prefix-caching-hash-algo`: what hashes, over which encoding.

use alloc::format;
use core::fmt;

use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use super::era::{Version, VllmEra};
use crate::hash::digest::Digest;
use crate::{Error, ErrorKind};

/// vLLM's hash algorithms that can be reproduced outside the engine. `builtin` (Python's `hash()`,
/// vLLM 0.9) cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VllmAlgorithm {
    /// SHA-256 over pickle. vLLM's default since 0.10.2; here in its form since then.
    Sha256,
    /// SHA-256 over canonical CBOR. Since 0.10.2.
    Sha256Cbor,
    /// XXH3-128 over pickle. Since 0.13.
    Xxhash,
    /// XXH3-128 over canonical CBOR. Since 0.13.
    XxhashCbor,
    /// The low 64 bits of SHA-256 over canonical CBOR, as an integer also in the chain. Only in
    /// 0.10.0 and 0.10.1.
    Sha256Cbor64bit,
}

impl VllmAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] =
        [Self::Sha256, Self::Sha256Cbor, Self::Xxhash, Self::XxhashCbor, Self::Sha256Cbor64bit];

    /// Reads a name as vLLM writes it (`prefix_caching_hash_algo` in its configuration and in the
    /// labels of `vllm:cache_config_info`).
    ///
    /// # Errors
    ///
    /// [`NotReproducible`](ErrorKind::NotReproducible) for `builtin`;
    /// [`InvalidInput`](ErrorKind::InvalidInput), with the names that are known, for others.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        if let Some(algorithm) = Self::ALL.into_iter().find(|algorithm| algorithm.name() == name) {
            return Ok(algorithm);
        }
        if name == "builtin" {
            return Err(Error::new(
                ErrorKind::NotReproducible,
                "vLLM's hash algorithm \"builtin\" is Python's own hash() and cannot be reproduced; start the \
                 pods with another one, or use the translated mode: scheme \"own\", with engine hashes \
                 translated from events",
            ));
        }
        let known = Self::ALL.map(Self::name).join(", ");
        Err(Error::invalid(format!("unknown vLLM hash algorithm {name:?}; known: {known}")))
    }

    /// vLLM's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha256Cbor => "sha256_cbor",
            Self::Xxhash => "xxhash",
            Self::XxhashCbor => "xxhash_cbor",
            Self::Sha256Cbor64bit => "sha256_cbor_64bit",
        }
    }

    pub(super) fn is_cbor(self) -> bool {
        !matches!(self, Self::Sha256 | Self::Xxhash)
    }

    pub(super) fn is_sha256(self) -> bool {
        !matches!(self, Self::Xxhash | Self::XxhashCbor)
    }

    /// Bytes a root may have. A random one is `os.urandom(32)` whatever the algorithm.
    pub(super) fn root_lengths(self) -> &'static [usize] {
        match self {
            Self::Sha256 | Self::Sha256Cbor => &[32],
            Self::Xxhash | Self::XxhashCbor => &[16, 32],
            Self::Sha256Cbor64bit => &[8],
        }
    }

    pub(super) fn digest(self, preimage: &[u8]) -> Digest {
        match self {
            Self::Sha256 | Self::Sha256Cbor => Digest::from_sha256(Sha256::digest(preimage).into()),
            Self::Xxhash | Self::XxhashCbor => Digest::from_u128(xxh3_128(preimage)),
            Self::Sha256Cbor64bit => {
                Digest::from_u64(Digest::from_sha256(Sha256::digest(preimage).into()).low64())
            }
        }
    }

    /// Whether that version has the algorithm, in the form written here.
    pub(super) fn check_version(self, version: Version) -> Result<(), Error> {
        if self == Self::Sha256 && version < Version::new(0, 10, 2) {
            return Err(Error::new(
                ErrorKind::NotReproducible,
                "vLLM's sha256 before 0.10.2 chained integers of 256 bits, which kvroute does not reproduce; \
                 use the translated mode: scheme \"own\", with engine hashes translated from events",
            ));
        }
        let (since, until) = match self {
            Self::Sha256 | Self::Sha256Cbor => (Version::new(0, 10, 2), None),
            Self::Xxhash | Self::XxhashCbor => (Version::new(0, 13, 0), None),
            Self::Sha256Cbor64bit => (Version::new(0, 10, 0), Some(Version::new(0, 10, 2))),
        };
        if version < since || until.is_some_and(|until| version >= until) {
            let range =
                until.map_or_else(|| format!("since {since}"), |until| format!("{since} up to {until}"));
            return Err(Error::invalid(format!("vLLM {version} has no {} (it has it {range})", self.name())));
        }
        Ok(())
    }

    /// Whether any version of that era has the algorithm.
    pub(super) fn check_era(self, era: VllmEra) -> Result<(), Error> {
        let has = match self {
            Self::Sha256 | Self::Sha256Cbor => true,
            Self::Xxhash | Self::XxhashCbor => era != VllmEra::IntLora,
            Self::Sha256Cbor64bit => era == VllmEra::IntLora,
        };
        if has {
            Ok(())
        } else {
            Err(Error::invalid(format!("no version in vLLM {era} has {}", self.name())))
        }
    }
}

impl fmt::Display for VllmAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
