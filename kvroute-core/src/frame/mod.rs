//! Frames: the envelope of a snapshot.
//!
//! A snapshot is a header (mark and version) and frames. A frame is its kind, the length of its payload, a
//! checksum, the payload: whole records of that kind, one after the other. The checksum (XXH3-64) is seeded by the
//! frame's number and kind, so that a frame that was changed, moved, repeated or left out is noticed before it is
//! read. It keeps out damage, not malice: whoever can make a snapshot can make its checksums, too.
//!
//! Integers are little-endian where their size is fixed, else LEB128. A text is its length and its bytes.
//! This module knows nothing of what the records mean.

mod read;
mod write;

pub(crate) use read::{Frame, FrameReader, Reader};
pub(crate) use write::FrameWriter;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a snapshot begins with; no text does.
const MARK: [u8; 8] = *b"\x89kvroute";
/// Version of the format: raised by every change that a reader of the version before would misread.
const VERSION: u32 = 2;
const HEADER: usize = MARK.len() + size_of::<u32>();
/// Kind, length, checksum.
const FRAME_HEADER: usize = 1 + size_of::<u32>() + size_of::<u64>();
/// Payload from which on a frame is ended after its record.
const FULL: usize = 60 << 10;

/// What a frame's records are. The module that writes a kind says what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pod as the router knows it. What follows, up to the next, is what the index knows of it.
    Pod = 1,
    /// Where the pod's stream of events stands.
    Stream = 2,
    /// Pieces of chains, numbered from 0 through the whole snapshot.
    Pieces = 3,
    /// What the pod holds in one lane.
    Lane = 4,
    /// The engine's names for what it holds.
    Names = 5,
    /// Names of other blocks.
    OtherNames = 6,
    /// Names that are kept for offload announcements.
    Retired = 7,
    /// Copies beyond the first.
    Copies = 8,
    /// Parents of blocks that went away lately.
    Lineage = 9,
    /// Blocks that wait for their parent.
    Parked = 10,
    /// What is predicted for the pod.
    Predicted = 11,
    /// Conversations and where they are at home.
    Sessions = 12,
    /// How much there was; the last frame.
    End = 13,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Pod,
        Self::Stream,
        Self::Pieces,
        Self::Lane,
        Self::Names,
        Self::OtherNames,
        Self::Retired,
        Self::Copies,
        Self::Lineage,
        Self::Parked,
        Self::Predicted,
        Self::Sessions,
        Self::End,
    ];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == byte)
    }
}

fn checksum(number: u64, kind: Kind, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, number << 8 | kind as u64)
}
