//! Writing frames into memory.

use alloc::vec::Vec;

use super::{FRAME_HEADER, FULL, Kind, MARK, VERSION, checksum};

/// Writes frames, one open at a time. Nothing here fails.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    /// Frames ended.
    frames: u64,
    /// The open frame's kind, and where its payload begins.
    open: Option<(Kind, usize)>,
}

impl FrameWriter {
    /// A snapshot's beginning.
    pub(crate) fn new() -> Self {
        let mut bytes = MARK.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        Self { bytes, frames: 0, open: None }
    }

    /// For records that stand in no frame.
    pub(crate) fn unframed() -> Self {
        Self { bytes: Vec::new(), frames: 0, open: None }
    }

    /// All that was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What was written since the last [`clear`](Self::clear).
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was written; frames go on to be numbered.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Begins a frame; the one before is ended.
    pub(crate) fn open(&mut self, kind: Kind) {
        self.close();
        self.bytes.push(kind as u8);
        self.bytes.extend_from_slice(&[0; FRAME_HEADER - 1]);
        self.open = Some((kind, self.bytes.len()));
    }

    /// Ends the open frame, if there is one; one without a payload is taken back.
    pub(crate) fn close(&mut self) {
        let Some((kind, start)) = self.open.take() else { return };
        let payload = &self.bytes[start..];
        if payload.is_empty() {
            self.bytes.truncate(start - FRAME_HEADER);
            return;
        }
        // A single record of 4 GiB would be cut off in its length, and noticed by whoever reads it.
        let (length, sum) = (payload.len() as u32, checksum(self.frames, kind, payload));
        let header = &mut self.bytes[start - FRAME_HEADER..start];
        header[1..5].copy_from_slice(&length.to_le_bytes());
        header[5..].copy_from_slice(&sum.to_le_bytes());
        self.frames += 1;
    }

    /// Forgets the open frame.
    pub(crate) fn take_back(&mut self) {
        if let Some((_, start)) = self.open.take() {
            self.bytes.truncate(start - FRAME_HEADER);
        }
    }

    /// Whether the open frame should be ended.
    pub(crate) fn is_full(&self) -> bool {
        self.open.is_some_and(|(_, start)| self.bytes.len() - start >= FULL)
    }

    /// Between two records: goes on in a new frame of the same kind if the open one is full.
    pub(crate) fn next_record(&mut self) {
        if let Some((kind, _)) = self.open.filter(|_| self.is_full()) {
            self.open(kind);
        }
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// An integer that is mostly small.
    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A number that may be missing.
    pub(crate) fn option(&mut self, number: Option<u64>) {
        self.byte(u8::from(number.is_some()));
        if let Some(number) = number {
            self.number(number);
        }
    }

    /// An integer of any size: a hash.
    pub(crate) fn hash(&mut self, hash: u64) {
        self.bytes.extend_from_slice(&hash.to_le_bytes());
    }

    /// Many of them; how many is not written.
    pub(crate) fn hashes(&mut self, hashes: impl ExactSizeIterator<Item = u64>) {
        self.bytes.reserve(hashes.len() * size_of::<u64>());
        hashes.for_each(|hash| self.bytes.extend_from_slice(&hash.to_le_bytes()));
    }

    /// A whole record: a hash, and one that may be missing.
    pub(crate) fn hash_and_option(&mut self, hash: u64, other: Option<u64>) {
        self.hash(hash);
        self.byte(u8::from(other.is_some()));
        self.hashes(other.into_iter());
        self.next_record();
    }

    pub(crate) fn wide_hash(&mut self, hash: u128) {
        self.bytes.extend_from_slice(&hash.to_le_bytes());
    }

    /// Bytes as they are.
    #[cfg(any(test, feature = "oracle"))]
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn bytes_with_length(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes_with_length(text.as_bytes());
    }
}
