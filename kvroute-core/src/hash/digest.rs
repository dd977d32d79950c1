//! The full-width hash that a chain carries from block to block.

use crate::BlockHash;

/// Up to 32 bytes; the published [`BlockHash`] is the last 8 of them, big-endian.
///
/// An empty digest is the root of a chain whose first block has no parent (the own scheme).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest {
    bytes: [u8; 32],
    len: u8,
}

impl Digest {
    pub(super) const EMPTY: Self = Self { bytes: [0; 32], len: 0 };

    /// `None` for more than 32 bytes.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let mut digest = Self { len: u8::try_from(bytes.len()).ok()?, ..Self::EMPTY };
        digest.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(digest)
    }

    pub(super) fn from_u64(hash: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&hash.to_be_bytes());
        Self { bytes, len: 8 }
    }

    pub(super) fn from_u128(hash: u128) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&hash.to_be_bytes());
        Self { bytes, len: 16 }
    }

    pub(super) fn from_sha256(bytes: [u8; 32]) -> Self {
        Self { bytes, len: 32 }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last 8 bytes, big-endian (all of a shorter digest).
    pub(super) fn low64(&self) -> u64 {
        let bytes = self.as_bytes();
        bytes[bytes.len().saturating_sub(8)..].iter().fold(0, |acc, &byte| acc << 8 | u64::from(byte))
    }

    pub(super) fn published(&self) -> BlockHash {
        BlockHash(self.low64())
    }
}

impl core::fmt::Debug for Digest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
