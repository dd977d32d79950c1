//! Python's pickle, protocol 5, as much of it as block hashes are made of.
//!
//! CPython's C pickler memoizes every string, byte string and non-empty tuple when it is complete
//! (`MEMOIZE`), and writes an object it has met before, *the same object* and not an equal one, as
//! a reference to that memo entry. Which of a block's strings are one object is known for:
//! - vLLM's tags ("mm", ...): constants of its source, one object each;
//! - strings of no or one character up to U+00FF: CPython keeps one object for each of them;
//! - all others: distinct, because each arrived by itself in the request.
//!
//! The last is an assumption: a block that holds one image twice could share its identifier.
//! Checked against CPython 3.11 in `testdata/hashes/pickle.json`.

use alloc::format;
use alloc::vec::Vec;

use super::preimage::Preimage;
use crate::{Error, ErrorKind};

/// Protocol 5, then a frame and its length, filled in when the pickle is complete.
const HEADER: [u8; 11] = [0x80, 5, 0x95, 0, 0, 0, 0, 0, 0, 0, 0];
/// A frame that has reached this size is ended before the next object (`FRAME_SIZE_TARGET`), so up
/// to here there is surely only one.
const MAX_FRAME: usize = 64 * 1024;

const STOP: u8 = b'.';
const MARK: u8 = b'(';
const NONE: u8 = b'N';
const BININT: u8 = b'J';
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
const LONG1: u8 = 0x8a;
const SHORT_BINBYTES: u8 = b'C';
const BINBYTES: u8 = b'B';
const SHORT_BINUNICODE: u8 = 0x8c;
const BINUNICODE: u8 = b'X';
const EMPTY_TUPLE: u8 = b')';
const TUPLE1: u8 = 0x85;
const TUPLE: u8 = b't';
const MEMOIZE: u8 = 0x94;
const BINGET: u8 = b'h';
const LONG_BINGET: u8 = b'j';

/// A string that is one Python object wherever it occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    Constant(&'static str),
    Empty,
    Char(char),
}

impl Shared {
    fn of(text: &str) -> Option<Self> {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (None, _) => Some(Self::Empty),
            (Some(char), None) if char <= '\u{ff}' => Some(Self::Char(char)),
            _ => None,
        }
    }
}

/// Writes pickles, one after the other, into a buffer of its own.
#[derive(Debug, Default)]
pub(super) struct Pickle {
    out: Vec<u8>,
    memoized: u32,
    /// Memo index of each shared string that was written. Short: a block has few.
    shared: Vec<(Shared, u32)>,
}

impl Pickle {
    /// Begins a pickle and forgets the one before.
    pub(super) fn begin(&mut self) {
        self.out.clear();
        self.out.extend_from_slice(&HEADER);
        self.memoized = 0;
        self.shared.clear();
    }

    /// Ends the pickle and gives its bytes.
    pub(super) fn finish(&mut self) -> Result<&[u8], Error> {
        self.out.push(STOP);
        let frame = self.out.len() - HEADER.len();
        if frame > MAX_FRAME {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "pickle pre-image of {frame} bytes: above {MAX_FRAME} Python may write several frames"
                ),
            ));
        }
        self.out[3..HEADER.len()].copy_from_slice(&(frame as u64).to_le_bytes());
        Ok(&self.out)
    }

    fn memoize(&mut self) {
        self.out.push(MEMOIZE);
        self.memoized += 1;
    }

    fn string(&mut self, text: &str, shared: Option<Shared>) {
        if let Some(shared) = shared {
            if let Some(&(_, index)) = self.shared.iter().find(|(known, _)| *known == shared) {
                if let Ok(index) = u8::try_from(index) {
                    self.out.extend_from_slice(&[BINGET, index]);
                } else {
                    self.out.push(LONG_BINGET);
                    self.out.extend_from_slice(&index.to_le_bytes());
                }
                return;
            }
            self.shared.push((shared, self.memoized));
        }
        self.sized(SHORT_BINUNICODE, BINUNICODE, text.as_bytes());
    }

    fn sized(&mut self, short: u8, long: u8, bytes: &[u8]) {
        if let Ok(len) = u8::try_from(bytes.len()) {
            self.out.extend_from_slice(&[short, len]);
        } else {
            // A length above u32 would be above the frame limit by far.
            self.out.push(long);
            self.out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        }
        self.out.extend_from_slice(bytes);
        self.memoize();
    }

    /// The shortest two's complement of a number that does not fit 4 bytes.
    fn long(&mut self, number: i128) {
        let redundant = if number < 0 { number.leading_ones() } else { number.leading_zeros() } - 1;
        let len = 16 - redundant as usize / 8;
        self.out.extend_from_slice(&[LONG1, len as u8]);
        self.out.extend_from_slice(&number.to_le_bytes()[..len]);
    }
}

impl Preimage for Pickle {
    fn null(&mut self) {
        self.out.push(NONE);
    }

    #[inline]
    fn unsigned(&mut self, number: u64) {
        if let Ok(number) = u8::try_from(number) {
            self.out.extend_from_slice(&[BININT1, number]);
        } else if let Ok(number) = u16::try_from(number) {
            let [a, b] = number.to_le_bytes();
            self.out.extend_from_slice(&[BININT2, a, b]);
        } else if let Ok(number) = i32::try_from(number) {
            let [a, b, c, d] = number.to_le_bytes();
            self.out.extend_from_slice(&[BININT, a, b, c, d]);
        } else {
            self.long(number.into());
        }
    }

    fn signed(&mut self, number: i64) {
        if let Ok(number) = u64::try_from(number) {
            self.unsigned(number);
        } else if let Ok(number) = i32::try_from(number) {
            self.out.push(BININT);
            self.out.extend_from_slice(&number.to_le_bytes());
        } else {
            self.long(number.into());
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.sized(SHORT_BINBYTES, BINBYTES, bytes);
    }

    fn text(&mut self, text: &str) {
        self.string(text, Shared::of(text));
    }

    fn constant(&mut self, text: &'static str) {
        self.string(text, Some(Shared::Constant(text)));
    }

    fn open(&mut self, len: usize) {
        match len {
            0 => self.out.push(EMPTY_TUPLE),
            1..=3 => {}
            _ => self.out.push(MARK),
        }
    }

    fn close(&mut self, len: usize) {
        match len {
            0 => return,
            1..=3 => self.out.push(TUPLE1 - 1 + len as u8),
            _ => self.out.push(TUPLE),
        }
        self.memoize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(write: impl FnOnce(&mut Pickle)) -> Vec<u8> {
        let mut pickle = Pickle::default();
        pickle.begin();
        pickle.constant("of an earlier pickle");
        pickle.begin();
        write(&mut pickle);
        let bytes = pickle.finish().unwrap();
        assert_eq!(bytes[3..11], (bytes.len() as u64 - 11).to_le_bytes());
        bytes[11..bytes.len() - 1].to_vec()
    }

    #[test]
    fn numbers_are_as_short_as_python_writes_them() {
        // pickle.dumps(n, 5)[2:-1] of CPython 3.11, without the frame.
        let cases: [(i64, &[u8]); 12] = [
            (0, b"K\x00"),
            (255, b"K\xff"),
            (256, b"M\x00\x01"),
            (65_535, b"M\xff\xff"),
            (65_536, b"J\x00\x00\x01\x00"),
            (2_147_483_647, b"J\xff\xff\xff\x7f"),
            (2_147_483_648, b"\x8a\x05\x00\x00\x00\x80\x00"),
            (4_294_967_295, b"\x8a\x05\xff\xff\xff\xff\x00"),
            (-1, b"J\xff\xff\xff\xff"),
            (-2_147_483_648, b"J\x00\x00\x00\x80"),
            (-2_147_483_649, b"\x8a\x05\xff\xff\xff\x7f\xff"),
            (-549_755_813_888, b"\x8a\x05\x00\x00\x00\x00\x80"),
        ];
        for (number, bytes) in cases {
            assert_eq!(body(|pickle| pickle.signed(number)), bytes, "{number}");
        }
    }

    #[test]
    fn strings_python_shares_are_fetched_from_the_memo() {
        let twice = |text: &'static str| {
            body(|pickle| {
                pickle.text(text);
                pickle.text(text);
            })
        };
        assert_eq!(twice("a"), b"\x8c\x01a\x94h\x00");
        assert_eq!(twice(""), b"\x8c\x00\x94h\x00");
        assert_eq!(twice("\u{fc}"), b"\x8c\x02\xc3\xbc\x94h\x00");
        assert_eq!(twice("ab"), b"\x8c\x02ab\x94\x8c\x02ab\x94");
        assert_eq!(twice("\u{65e5}").len(), 2 * 6);
    }

    #[test]
    fn a_pickle_of_two_frames_is_refused() {
        let sized = |len: usize| {
            let mut pickle = Pickle::default();
            pickle.begin();
            pickle.bytes(&alloc::vec![0; len]);
            pickle.finish().map(<[u8]>::len)
        };
        assert_eq!(sized(MAX_FRAME - 7), Ok(HEADER.len() + MAX_FRAME));
        assert_eq!(sized(MAX_FRAME - 6).unwrap_err().kind(), ErrorKind::Limit);
    }
}
