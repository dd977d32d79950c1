//! Names for things that would otherwise all be bare integers.

use core::fmt;

/// Chained hash of one block: it identifies the block *and* everything before it.
///
/// In a native cache domain this is the engine's own hash (its last 8 bytes, big-endian, which is
/// what vLLM publishes as an integer); otherwise it is kvroute's own scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct BlockHash(pub u64);

/// What an engine calls a block on the wire. Opaque: equal values mean the same block of the same
/// pod, nothing more. Integers are kept as they are (signed ones bit for bit); byte strings are
/// reduced to their last 8 bytes, big-endian, the reduction vLLM itself applies
/// (`vllm/v1/core/kv_cache_utils.py`, 0.10.2 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct EngineHash(pub u64);

impl EngineHash {
    /// Reduces a hash of any length to 64 bits: its last 8 bytes, big-endian.
    ///
    /// Shorter strings are padded in front with zeros; an empty one is `None`, because no engine
    /// names a block by nothing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let tail = &bytes[bytes.len().saturating_sub(8)..];
        Some(Self(tail.iter().fold(0, |acc, &b| acc << 8 | u64::from(b))))
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for EngineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a block lies, nearest to the computation first. The wire calls it *medium*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tier {
    /// Device memory. Also what an event without a medium means.
    Gpu,
    /// Host memory, pinned or not.
    Cpu,
    /// Local storage.
    Disk,
    /// A store shared with others.
    External,
}

impl Tier {
    /// Every tier, nearest first.
    pub const ALL: [Self; 4] = [Self::Gpu, Self::Cpu, Self::Disk, Self::External];

    /// Reads a wire medium, any letter case. `None` is an unknown tier: stores to it are dropped
    /// and counted, removes from it clear the block everywhere.
    ///
    /// Names as published by vLLM ("GPU", "CPU", "STORAGE") and SGLang ("GPU", "CPU_PINNED",
    /// "DISK", "EXTERNAL").
    #[must_use]
    pub fn from_medium(medium: &str) -> Option<Self> {
        const NAMES: [(&str, Tier); 6] = [
            ("gpu", Tier::Gpu),
            ("cpu", Tier::Cpu),
            ("cpu_pinned", Tier::Cpu),
            ("disk", Tier::Disk),
            ("storage", Tier::Disk),
            ("external", Tier::External),
        ];
        NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(medium)).map(|&(_, tier)| tier)
    }

    /// Name in explanations and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Disk => "disk",
            Self::External => "external",
        }
    }
}
