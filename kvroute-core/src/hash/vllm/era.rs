//! vLLM's versions, as far as they change what a block hash is made of.

use alloc::format;
use core::fmt;

use crate::Error;
use crate::hash::context::{BlockKey, Lora};
use crate::hash::preimage::Preimage;

/// A range of vLLM versions with the same extra keys.
///
/// | era | adapter | multimodal | salt | embeddings |
/// |---|---|---|---|---|
/// | [`IntLora`](Self::IntLora) | id | `"identifier"` | `"salt"` | - |
/// | [`MultimodalIdentifier`](Self::MultimodalIdentifier) | `"name"` | `"identifier"` | `"salt"` | bytes |
/// | [`MultimodalOffset`](Self::MultimodalOffset) | `"name"` | `("identifier", offset)` | `"salt"` | bytes |
/// | [`Tagged`](Self::Tagged) | `("lora", "name", "path")` | `("mm", "identifier", offset)` | `("cache_salt", "salt")` | `("prompt_embeds", bytes)` |
///
/// Source: `generate_block_hash_extra_keys` in `vllm/v1/core/kv_cache_utils.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VllmEra {
    /// 0.9 to 0.11.0. Prompt embeddings are not hashed.
    IntLora,
    /// 0.11.1 to 0.18.
    MultimodalIdentifier,
    /// 0.19 to 0.30.
    MultimodalOffset,
    /// 0.31 and later.
    Tagged,
}

impl VllmEra {
    /// The era of a version such as "0.32.0", "v0.11.1rc2" or "0.19.1+cpu". What follows the
    /// third number is ignored.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is no version, and for those
    /// before 0.9.
    pub fn of_version(version: &str) -> Result<Self, Error> {
        Ok(Version::parse(version)?.era())
    }

    fn range(self) -> &'static str {
        match self {
            Self::IntLora => "0.9 to 0.11.0",
            Self::MultimodalIdentifier => "0.11.1 to 0.18",
            Self::MultimodalOffset => "0.19 to 0.30",
            Self::Tagged => "0.31 and later",
        }
    }

    /// Whether a key of that kind is hashed at all.
    pub(super) fn hashes(self, key: &BlockKey<'_>) -> bool {
        self != Self::IntLora || !matches!(key, BlockKey::Embeds(_))
    }

    pub(super) fn write_adapter(self, lora: &Lora, out: &mut impl Preimage) {
        match self {
            Self::IntLora => out.signed(lora.id),
            Self::MultimodalIdentifier | Self::MultimodalOffset => out.text(&lora.name),
            Self::Tagged => {
                out.open(3);
                out.constant("lora");
                out.text(&lora.name);
                out.text(&lora.path);
                out.close(3);
            }
        }
    }

    pub(super) fn write_key(self, key: BlockKey<'_>, out: &mut impl Preimage) {
        let tagged = self == Self::Tagged;
        match key {
            BlockKey::Multimodal { identifier, offset } => match self {
                Self::IntLora | Self::MultimodalIdentifier => out.text(identifier),
                Self::MultimodalOffset | Self::Tagged => {
                    let len = if tagged { 3 } else { 2 };
                    out.open(len);
                    if tagged {
                        out.constant("mm");
                    }
                    out.text(identifier);
                    out.signed(offset);
                    out.close(len);
                }
            },
            BlockKey::Salt(salt) if tagged => {
                out.open(2);
                out.constant("cache_salt");
                out.text(salt);
                out.close(2);
            }
            BlockKey::Salt(salt) => out.text(salt),
            BlockKey::Embeds(bytes) if tagged => {
                out.open(2);
                out.constant("prompt_embeds");
                out.bytes(bytes);
                out.close(2);
            }
            BlockKey::Embeds(bytes) => out.bytes(bytes),
        }
    }
}

impl fmt::Display for VllmEra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.range())
    }
}

/// A vLLM release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32, u32);

impl Version {
    /// From here on an unset `PYTHONHASHSEED` no longer means a random root, for SHA-256.
    pub(super) const FIXED_UNSET_SEED: Self = Self(0, 29, 0);
    const FIRST: Self = Self(0, 9, 0);

    pub(super) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self(major, minor, patch)
    }

    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("{text:?} is not a vLLM version such as \"0.32.0\""));
        let mut parts = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
        let mut number = |required: bool| -> Result<u32, Error> {
            let Some(part) = parts.next() else {
                return if required { Err(bad()) } else { Ok(0) };
            };
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            if digits < part.len() && required {
                return Err(bad());
            }
            part[..digits].parse().map_err(|_| bad())
        };
        let version = Self(number(true)?, number(true)?, number(false)?);
        if version < Self::FIRST {
            return Err(Error::invalid(format!(
                "vLLM {version}: block hashes are known from {} on",
                Self::FIRST
            )));
        }
        Ok(version)
    }

    pub(super) fn era(self) -> VllmEra {
        if self < Self(0, 11, 1) {
            VllmEra::IntLora
        } else if self < Self(0, 19, 0) {
            VllmEra::MultimodalIdentifier
        } else if self < Self(0, 31, 0) {
            VllmEra::MultimodalOffset
        } else {
            VllmEra::Tagged
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}
