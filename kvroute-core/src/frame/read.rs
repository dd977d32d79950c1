//! Reading frames from bytes that come in pieces, whoever made them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;

use super::{FRAME_HEADER, HEADER, Kind, MARK, VERSION, checksum};
use crate::{Error, ErrorKind};

/// A frame whose checksum is right.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: Reader<'a>,
}

/// Cuts a stream of bytes into frames. Keeps no more than one frame, and never more than it was given.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// The beginning of something whose end is still to come.
    pending: Vec<u8>,
    /// Bytes taken in and done with.
    offset: u64,
    frames: u64,
    is_past_header: bool,
    is_ended: bool,
}

impl FrameReader {
    /// Takes in what comes next, in pieces of any size; `take` is called for every frame that is whole with it.
    ///
    /// # Errors
    ///
    /// `Decode` with the offset of what is wrong, and the errors of `take`. Nothing can be read after one.
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        mut take: impl FnMut(Frame<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while !input.is_empty() {
            if self.pending.is_empty() {
                let read = self.read(input, &mut take)?;
                input = &input[read..];
                if read == 0 {
                    self.pending.extend_from_slice(input);
                    return Ok(());
                }
                continue;
            }
            // Only as much as is missing, so that nothing is moved twice.
            let missing = self.needed(&self.pending)? - self.pending.len();
            let (now, later) = input.split_at(missing.min(input.len()));
            self.pending.extend_from_slice(now);
            input = later;
            let pending = core::mem::take(&mut self.pending);
            if self.read(&pending, &mut take)? == 0 {
                self.pending = pending;
            }
        }
        Ok(())
    }

    /// Whether the last frame came, and nothing after it.
    ///
    /// # Errors
    ///
    /// `Decode` if it did not.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.is_ended && self.pending.is_empty() {
            return Ok(());
        }
        Err(self.fail(self.pending.len(), "it ends here, and more should follow"))
    }

    /// Bytes of the header, or of the frame, that `bytes` begin with, as far as they tell.
    fn needed(&self, bytes: &[u8]) -> Result<usize, Error> {
        if self.is_ended {
            return Err(self.fail(0, "something follows the end"));
        }
        if !self.is_past_header {
            return Ok(HEADER);
        }
        let Some(header) = bytes.first_chunk::<FRAME_HEADER>() else { return Ok(FRAME_HEADER) };
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        Ok(FRAME_HEADER.saturating_add(length as usize))
    }

    /// Reads the header or one frame off the front of `bytes`; answers its length, or 0 if it is not whole.
    fn read(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(Frame<'_>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let Some(whole) = bytes.get(..self.needed(bytes)?) else { return Ok(0) };
        if !self.is_past_header {
            self.check_header(whole)?;
            self.is_past_header = true;
        } else {
            let (header, payload) = whole.split_at(FRAME_HEADER);
            let Some(kind) = Kind::from_byte(header[0]) else {
                return Err(self.fail(0, format_args!("no frame is of kind {}", header[0])));
            };
            if header[5..] != checksum(self.frames, kind, payload).to_le_bytes() {
                return Err(self.fail(0, "the checksum of this frame is wrong"));
            }
            let payload = Reader::new(SNAPSHOT, payload, self.offset + FRAME_HEADER as u64);
            take(Frame { kind, payload })?;
            self.frames += 1;
            self.is_ended = kind == Kind::End;
        }
        self.offset += whole.len() as u64;
        Ok(whole.len())
    }

    fn check_header(&self, header: &[u8]) -> Result<(), Error> {
        let (mark, version) = header.split_at(MARK.len());
        if mark != MARK {
            return Err(self.fail(0, "this is no snapshot of a router"));
        }
        let version = version.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if version != VERSION {
            let message =
                format!("snapshot: its format is of version {version}, this library reads {VERSION}");
            return Err(Error::new(ErrorKind::Decode, message));
        }
        Ok(())
    }

    fn fail(&self, at: usize, what: impl Display) -> Error {
        fail(SNAPSHOT, self.offset + at as u64, what)
    }
}

/// What errors call what frames are read of.
const SNAPSHOT: &str = "snapshot";

fn fail(document: &str, offset: u64, what: impl Display) -> Error {
    Error::new(ErrorKind::Decode, format!("{document}, byte {offset}: {what}"))
}

/// Reads records. Errors are `Decode` and name the document and the offset in it.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    document: &'static str,
    rest: &'a [u8],
    length: usize,
    /// Offset of the records in the document.
    offset: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(document: &'static str, payload: &'a [u8], offset: u64) -> Self {
        Self { document, rest: payload, length: payload.len(), offset }
    }

    /// Bytes that were not read yet.
    pub(crate) fn left(&self) -> u64 {
        self.rest.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error about what was read last.
    pub(crate) fn fail(&self, what: impl Display) -> Error {
        fail(self.document, self.offset + (self.length - self.rest.len()) as u64, what)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.fail(format_args!("{length} bytes should follow, not {}", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    #[cfg(any(test, feature = "oracle"))]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Error> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.fail(format_args!("{other} where 0 or 1 should be"))),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                return if shift < 63 || byte < 2 { Ok(number) } else { break };
            }
        }
        Err(self.fail("a number of more than 64 bits"))
    }

    pub(crate) fn number_u32(&mut self) -> Result<u32, Error> {
        let number = self.number()?;
        u32::try_from(number).map_err(|_| self.fail(format_args!("{number} is more than 32 bits")))
    }

    /// What was counted: so little that counting on does not overflow.
    pub(crate) fn count(&mut self) -> Result<u64, Error> {
        match self.number()? {
            count if count < 1 << 62 => Ok(count),
            count => Err(self.fail(format_args!("nobody can have counted to {count}"))),
        }
    }

    /// A number of `what`, at most `most`.
    pub(crate) fn at_most(&mut self, most: u64, what: &str) -> Result<usize, Error> {
        let number = self.number()?;
        match usize::try_from(number) {
            Ok(number) if number as u64 <= most => Ok(number),
            _ => Err(self.fail(format_args!("{number} {what}, and {most} are the most there can be"))),
        }
    }

    pub(crate) fn option(&mut self) -> Result<Option<u64>, Error> {
        if self.bool()? { self.number().map(Some) } else { Ok(None) }
    }

    pub(crate) fn hash(&mut self) -> Result<u64, Error> {
        self.take(8).map(little_endian)
    }

    pub(crate) fn hashes(&mut self, count: usize) -> Result<impl ExactSizeIterator<Item = u64> + 'a, Error> {
        Ok(self.take(count.saturating_mul(8))?.chunks_exact(8).map(little_endian))
    }

    pub(crate) fn wide_hash(&mut self) -> Result<u128, Error> {
        let (low, high) = (self.hash()?, self.hash()?);
        Ok(u128::from(high) << 64 | u128::from(low))
    }

    pub(crate) fn bytes_with_length(&mut self) -> Result<&'a [u8], Error> {
        let length = self.at_most(self.rest.len() as u64, "bytes")?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<String, Error> {
        let bytes = self.bytes_with_length()?;
        core::str::from_utf8(bytes).map(String::from).map_err(|_| self.fail("a text that is not UTF-8"))
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::super::FrameWriter;
    use super::*;
    use alloc::string::ToString;

    /// Two frames and an end.
    fn sample() -> Vec<u8> {
        let mut frames = FrameWriter::new();
        frames.open(Kind::Pod);
        frames.text("pod");
        [0, 127, 128, u64::MAX].into_iter().for_each(|number| frames.number(number));
        frames.open(Kind::Stream);
        frames.open(Kind::Sessions);
        frames.hashes([1, u64::MAX].into_iter());
        frames.open(Kind::End);
        frames.option(Some(7));
        frames.close();
        frames.bytes().to_vec()
    }

    fn kinds(bytes: &[u8], piece: usize) -> Result<Vec<Kind>, Error> {
        let (mut reader, mut kinds) = (FrameReader::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            reader.push(piece, |frame| {
                kinds.push(frame.kind);
                Ok(())
            })?;
        }
        reader.finish().map(|()| kinds)
    }

    #[test]
    fn frames_come_out_whatever_pieces_they_come_in() {
        for piece in 1..=sample().len() {
            assert_eq!(
                kinds(&sample(), piece),
                Ok(alloc::vec![Kind::Pod, Kind::Sessions, Kind::End]),
                "{piece}"
            );
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut reader = FrameReader::default();
        let read = |frame: Frame<'_>| {
            let mut payload = frame.payload;
            match frame.kind {
                Kind::Pod => {
                    assert_eq!(payload.text().unwrap(), "pod");
                    for number in [0, 127, 128, u64::MAX] {
                        assert_eq!(payload.number().unwrap(), number);
                    }
                }
                Kind::Sessions => assert!(payload.hashes(2).unwrap().eq([1, u64::MAX])),
                _ => assert_eq!(payload.option().unwrap(), Some(7)),
            }
            assert!(payload.is_empty());
            Ok(())
        };
        reader.push(&sample(), read).unwrap();
        reader.finish().unwrap();
    }

    #[test]
    fn what_is_missing_changed_moved_or_too_much_is_an_error() {
        let good = sample();
        for length in 0..good.len() {
            assert!(kinds(&good[..length], 7).is_err(), "cut off at {length}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[at] ^= 1 << bit;
                assert!(kinds(&changed, 5).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(kinds(&[&*good, &[0]].concat(), 100).is_err());
        // The first two frames, exchanged.
        let first = HEADER + FRAME_HEADER + 18;
        let second = first + FRAME_HEADER + 16;
        let moved = [&good[..HEADER], &good[first..second], &good[HEADER..first], &good[second..]].concat();
        assert_eq!(
            kinds(&moved, 9).unwrap_err().to_string(),
            "snapshot, byte 12: the checksum of this frame is wrong"
        );
    }

    #[test]
    fn another_version_and_another_file_are_told_apart() {
        let mut other = sample();
        other[8] = 9;
        let expected = "snapshot: its format is of version 9, this library reads 2";
        assert_eq!(kinds(&other, 3).unwrap_err().to_string(), expected);
        let expected = "snapshot, byte 0: this is no snapshot of a router";
        assert_eq!(kinds(b"policy: llm-d-demo\n", 3).unwrap_err().to_string(), expected);
    }

    #[test]
    fn records_that_claim_more_than_there_is_are_errors_with_their_place() {
        let read =
            |bytes: &[u8], read: fn(&mut Reader<'_>) -> bool| read(&mut Reader::new(SNAPSHOT, bytes, 100));
        assert!(read(&[0xff; 11], |r| r.number().is_err()));
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], |r| r.number().is_err()));
        assert!(read(&[0xff; 9], |r| r.text().is_err()));
        assert!(read(&[1, 0xff], |r| r.text().is_err()));
        assert!(read(&[2], |r| r.bool().is_err()));
        assert!(read(&[0; 15], |r| r.hashes(usize::MAX).is_err() && r.hashes(2).is_err()));
        let error = Reader::new(SNAPSHOT, &[9, 9], 100).take(3).unwrap_err();
        assert_eq!(error.to_string(), "snapshot, byte 100: 3 bytes should follow, not 2");
    }
}
