//! Arguments made of a fuzzer's bytes: mostly sound ones, sometimes NULL, empty, of another kind or size.

use std::mem::zeroed;
use std::ptr;

use kvroute::memory::{kvroute_bytes, kvroute_str};

/// What is left of the fuzzer's bytes. Zeros come after the end.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// One in eight.
    pub(super) fn rarely(&mut self) -> bool {
        self.byte() & 7 == 7
    }

    /// One of `0..count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.byte() as usize % count.max(1)
    }

    /// A small number, or one of those that are easily forgotten.
    pub(super) fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => i64::MAX as u64,
            253 => u64::from(u32::MAX),
            small => u64::from(small),
        }
    }

    pub(super) fn raw(&mut self) -> &'a [u8] {
        let length = (self.byte() as usize).min(self.rest.len());
        let (raw, rest) = self.rest.split_at(length);
        self.rest = rest;
        raw
    }

    /// The number of an enumeration: one that is, or one that is none.
    pub(super) fn choice(&mut self) -> i32 {
        match self.byte() {
            255 => i32::MIN,
            254 => -1,
            small => i32::from(small % 6),
        }
    }

    pub(super) fn numbers(&mut self) -> Vec<u64> {
        self.raw().iter().map(|&byte| u64::from(byte % 32)).collect()
    }

    /// Token ids, most of them the beginning of one prompt.
    pub(super) fn tokens(&mut self) -> Vec<u32> {
        let length = u32::from(self.byte() % 80);
        let mut tokens: Vec<u32> = (0..length).collect();
        if self.rarely() {
            tokens.extend(self.raw().iter().map(|&byte| u32::from(byte)));
        }
        tokens
    }

    /// The bytes of a text, known words for the most part.
    fn word(&mut self) -> &'a [u8] {
        const WORDS: &[&[u8]] = &[
            b"",
            b"a",
            b"b",
            b"c",
            b"m",
            b"cheap",
            b"kv@a@m",
            b"kv@c@m",
            b"sha256_cbor",
            b"xxhash",
            b"0.32.0",
            b"0.10.2",
            b"0",
            b"llm-d-demo",
            b"ENABLE_PREFIX_AWARE_SCORER",
            b"true",
            b"a\xff",
        ];
        match WORDS.get(self.byte() as usize % 22) {
            Some(word) => word,
            None => self.raw(),
        }
    }

    pub(super) fn text(&mut self) -> kvroute_str {
        let word = self.word();
        match self.byte() {
            255 => kvroute_str { data: ptr::null(), len: 1 },
            254 => kvroute_str { data: word.as_ptr().cast(), len: usize::MAX },
            0..=63 => kvroute_str { data: ptr::null(), len: 0 },
            _ => kvroute_str { data: word.as_ptr().cast(), len: word.len() },
        }
    }

    pub(super) fn bytes(&mut self) -> kvroute_bytes {
        let text = self.text();
        kvroute_bytes { data: text.data.cast(), len: text.len }
    }

    /// An array of the caller's: itself, or NULL, or with a length that cannot be.
    pub(super) fn array<T>(&mut self, values: &[T]) -> (*const T, usize) {
        match self.byte() {
            255 => (ptr::null(), values.len()),
            254 => (values.as_ptr(), usize::MAX - values.len()),
            _ => (values.as_ptr(), values.len()),
        }
    }

    /// A pointer, or NULL.
    pub(super) fn pointer<T>(&mut self, to: *mut T) -> *mut T {
        if self.byte() == 255 { ptr::null_mut() } else { to }
    }
}

/// A struct with room behind it, as a later version of the header would have it.
#[repr(C)]
pub(super) struct Grown<T> {
    pub(super) value: T,
    tail: [u64; 2],
}

impl<T: Copy> Grown<T> {
    /// All zero, of a size that is mostly right.
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        // SAFETY: the C structs are numbers and pointers; zero is one of each.
        let mut grown: Self = unsafe { zeroed() };
        let size = match input.byte() {
            255 => 0,
            254 => size_of::<T>() - 1,
            253 => usize::MAX,
            252 => size_of::<Self>(),
            251 => {
                grown.tail[1] = 1;
                size_of::<Self>()
            }
            _ => size_of::<T>(),
        };
        // SAFETY: every such struct begins with its size.
        unsafe { ptr::from_mut(&mut grown).cast::<usize>().write(size) };
        grown
    }

    /// Where the library finds it.
    pub(super) fn place(&mut self) -> *mut T {
        ptr::from_mut(self).cast()
    }
}
