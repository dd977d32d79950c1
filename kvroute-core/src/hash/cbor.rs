//! Canonical CBOR, as much of it as block hashes are made of.
//!
//! Canonical (RFC 8949, 4.2.1) means here: the shortest head for every number and length, and
//! definite lengths. What Python's cbor2 writes with `canonical=True` (vLLM) and Go's fxamacker/cbor
//! with `CanonicalEncOptions` (llm-d) for these types.

use alloc::vec::Vec;

use super::preimage::Preimage;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const NULL: u8 = 0xf6;

/// Appends CBOR to a buffer.
#[derive(Debug)]
pub(super) struct Cbor<'a>(pub(super) &'a mut Vec<u8>);

impl Cbor<'_> {
    fn head(&mut self, major: u8, number: u64) {
        let major = major << 5;
        if number < 24 {
            self.0.push(major | number as u8);
        } else if let Ok(number) = u8::try_from(number) {
            self.0.extend_from_slice(&[major | 24, number]);
        } else if let Ok(number) = u16::try_from(number) {
            let [a, b] = number.to_be_bytes();
            self.0.extend_from_slice(&[major | 25, a, b]);
        } else if let Ok(number) = u32::try_from(number) {
            let [a, b, c, d] = number.to_be_bytes();
            self.0.extend_from_slice(&[major | 26, a, b, c, d]);
        } else {
            self.0.push(major | 27);
            self.0.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// The head of a map of `pairs` pairs.
    pub(super) fn map(&mut self, pairs: usize) {
        self.head(MAP, pairs as u64);
    }

    /// The head of an array of `items` items.
    pub(super) fn array(&mut self, items: usize) {
        self.head(ARRAY, items as u64);
    }
}

impl Preimage for Cbor<'_> {
    fn null(&mut self) {
        self.0.push(NULL);
    }

    fn unsigned(&mut self, number: u64) {
        self.head(UNSIGNED, number);
    }

    fn signed(&mut self, number: i64) {
        if number < 0 {
            // -1 - n, without the overflow.
            self.head(NEGATIVE, !number as u64);
        } else {
            self.head(UNSIGNED, number as u64);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn constant(&mut self, text: &'static str) {
        self.text(text);
    }

    fn open(&mut self, len: usize) {
        self.array(len);
    }

    fn close(&mut self, _len: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Cbor<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut Cbor(&mut bytes));
        bytes
    }

    #[test]
    fn numbers_have_the_shortest_head() {
        // RFC 8949, appendix A.
        let unsigned: [(u64, &[u8]); 8] = [
            (0, &[0x00]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (255, &[0x18, 0xff]),
            (1000, &[0x19, 0x03, 0xe8]),
            (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
            (1_000_000_000_000, &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00]),
            (u64::MAX, &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ];
        for (number, bytes) in unsigned {
            assert_eq!(written(|cbor| cbor.unsigned(number)), bytes, "{number}");
        }
        let signed: [(i64, &[u8]); 5] = [
            (-1, &[0x20]),
            (-10, &[0x29]),
            (-1000, &[0x39, 0x03, 0xe7]),
            (10, &[0x0a]),
            (i64::MIN, &[0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ];
        for (number, bytes) in signed {
            assert_eq!(written(|cbor| cbor.signed(number)), bytes, "{number}");
        }
    }

    #[test]
    fn strings_and_containers_carry_their_length() {
        assert_eq!(written(|cbor| cbor.text("ü")), [0x62, 0xc3, 0xbc]);
        assert_eq!(written(|cbor| cbor.bytes(&[1, 2])), [0x42, 1, 2]);
        assert_eq!(written(|cbor| cbor.map(1)), [0xa1]);
        assert_eq!(written(|cbor| cbor.array(25)), [0x98, 25]);
        assert_eq!(written(|cbor| cbor.null()), [0xf6]);
    }
}
