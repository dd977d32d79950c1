//! A bounded MessagePack reader over a byte slice.
//!
//! Data in: bytes from the network. Data out: borrowed slices, numbers, and two kinds of vector. What
//! holds for every method:
//!
//! - nothing recurses, so nesting costs no stack;
//! - a length in the input is believed only as far as bytes are left (every value takes at least
//!   one), so memory stays within a small multiple of the input whatever its headers claim;
//! - a failed read says at which byte of the input it happened.
//!
//! It does not build a document tree and does not look into extension types.

use alloc::vec::Vec;
use core::fmt;

use rmp::Marker;

#[cfg(test)]
mod tests;

/// What stopped a read, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// Offset of the offending value in the input, bytes.
    at: usize,
    problem: Problem,
}

#[derive(Clone, Copy, Debug)]
enum Problem {
    /// The input ends inside the value.
    Truncated,
    /// A header announces more values than bytes are left.
    Overlong { claimed: usize, left: usize },
    /// 0xc1, which MessagePack never uses.
    Reserved,
    /// A value of another type.
    Unexpected { expected: &'static str, found: Kind },
    /// A value of the right type that cannot be used.
    Invalid(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.problem {
            Problem::Truncated => write!(f, "the bytes end inside the value at byte {at}"),
            Problem::Overlong { claimed, left } => {
                write!(f, "the header at byte {at} announces {claimed} values, but {left} bytes are left")
            }
            Problem::Reserved => write!(f, "byte {at} is 0xc1, which is not MessagePack"),
            Problem::Unexpected { expected, found } => {
                write!(f, "expected {expected} at byte {at}, found {}", found.name())
            }
            Problem::Invalid(what) => write!(f, "{what} at byte {at}"),
        }
    }
}

/// Type of a value, as far as a caller chooses by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Nil,
    Bool,
    Int,
    Float,
    Str,
    Bin,
    Array,
    Map,
    Other,
}

impl Kind {
    fn of(marker: Marker) -> Self {
        use Marker::*;
        match marker {
            Null => Self::Nil,
            True | False => Self::Bool,
            FixPos(_) | FixNeg(_) | U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64 => Self::Int,
            F32 | F64 => Self::Float,
            FixStr(_) | Str8 | Str16 | Str32 => Self::Str,
            Bin8 | Bin16 | Bin32 => Self::Bin,
            FixArray(_) | Array16 | Array32 => Self::Array,
            FixMap(_) | Map16 | Map32 => Self::Map,
            Reserved | Ext8 | Ext16 | Ext32 | FixExt1 | FixExt2 | FixExt4 | FixExt8 | FixExt16 => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool => "a boolean",
            Self::Int => "an integer",
            Self::Float => "a float",
            Self::Str => "a string",
            Self::Bin => "bytes",
            Self::Array => "an array",
            Self::Map => "a map",
            Self::Other => "an extension",
        }
    }
}

/// An integer of any width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Unsigned(u64),
    /// Always below zero.
    Negative(i64),
}

impl Number {
    fn signed(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Negative(value), Self::Unsigned)
    }
}

/// The reader: a position in the input. Copying one is how a caller remembers a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    total: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { total: input.len(), rest: input }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.total - self.rest.len()
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// A fault at the current position, for values that are well formed but make no sense.
    pub(super) fn invalid(&self, what: &'static str) -> Fault {
        self.fault(Problem::Invalid(what))
    }

    fn fault(&self, problem: Problem) -> Fault {
        Fault { at: self.offset(), problem }
    }

    fn unexpected(&self, expected: &'static str) -> Fault {
        match self.kind() {
            Ok(found) => self.fault(Problem::Unexpected { expected, found }),
            Err(fault) => fault,
        }
    }

    /// Type of the next value, which is not consumed.
    pub(super) fn kind(&self) -> Result<Kind, Fault> {
        let mut ahead = *self;
        match ahead.marker()? {
            Marker::Reserved => Err(self.fault(Problem::Reserved)),
            marker => Ok(Kind::of(marker)),
        }
    }

    fn marker(&mut self) -> Result<Marker, Fault> {
        let (&byte, rest) = self.rest.split_first().ok_or(self.fault(Problem::Truncated))?;
        self.rest = rest;
        Ok(Marker::from_u8(byte))
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (&chunk, rest) = self.rest.split_first_chunk::<N>().ok_or(self.fault(Problem::Truncated))?;
        self.rest = rest;
        Ok(chunk)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.fault(Problem::Truncated))?;
        self.rest = rest;
        Ok(taken)
    }

    fn len8(&mut self) -> Result<usize, Fault> {
        self.chunk::<1>().map(|b| usize::from(b[0]))
    }

    fn len16(&mut self) -> Result<usize, Fault> {
        self.chunk().map(|b| usize::from(u16::from_be_bytes(b)))
    }

    fn len32(&mut self) -> Result<usize, Fault> {
        // Where usize is narrower, the saturated length is still longer than any input.
        self.chunk().map(|b| usize::try_from(u32::from_be_bytes(b)).unwrap_or(usize::MAX))
    }

    /// Reads one header: how many bytes of its own and how many values the value still has.
    fn extent(&mut self) -> Result<(usize, usize), Fault> {
        use Marker::*;
        Ok(match self.marker()? {
            FixPos(_) | FixNeg(_) | Null | True | False => (0, 0),
            U8 | I8 => (1, 0),
            U16 | I16 => (2, 0),
            U32 | I32 | F32 => (4, 0),
            U64 | I64 | F64 => (8, 0),
            FixStr(len) => (usize::from(len), 0),
            Str8 | Bin8 => (self.len8()?, 0),
            Str16 | Bin16 => (self.len16()?, 0),
            Str32 | Bin32 => (self.len32()?, 0),
            // An extension has a type byte in front of its data.
            FixExt1 => (2, 0),
            FixExt2 => (3, 0),
            FixExt4 => (5, 0),
            FixExt8 => (9, 0),
            FixExt16 => (17, 0),
            Ext8 => (self.len8()?.saturating_add(1), 0),
            Ext16 => (self.len16()?.saturating_add(1), 0),
            Ext32 => (self.len32()?.saturating_add(1), 0),
            FixArray(len) => (0, usize::from(len)),
            Array16 => (0, self.len16()?),
            Array32 => (0, self.len32()?),
            FixMap(len) => (0, usize::from(len).saturating_mul(2)),
            Map16 => (0, self.len16()?.saturating_mul(2)),
            Map32 => (0, self.len32()?.saturating_mul(2)),
            Reserved => return Err(self.fault(Problem::Reserved)),
        })
    }

    /// Skips one value with everything in it. Nesting is a counter of values still owed, not a stack.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let mut owed: usize = 1;
        while owed > 0 {
            let start = *self;
            let located = |fault: Fault| Fault { at: start.offset(), ..fault };
            let (bytes, values) = self.extent().map_err(located)?;
            self.take(bytes).map_err(located)?;
            owed = (owed - 1).saturating_add(values);
            if owed > self.left() {
                return Err(start.fault(Problem::Overlong { claimed: owed, left: self.left() }));
            }
        }
        Ok(())
    }

    /// Consumes a nil, if the next value is one.
    pub(super) fn nil(&mut self) -> bool {
        match self.rest {
            [0xc0, rest @ ..] => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Header of an array: its length, of which as many bytes are known to follow.
    pub(super) fn array(&mut self, expected: &'static str) -> Result<usize, Fault> {
        self.container(Kind::Array, expected)
    }

    /// Header of a map: its number of pairs, of which twice as many bytes are known to follow.
    pub(super) fn map(&mut self, expected: &'static str) -> Result<usize, Fault> {
        self.container(Kind::Map, expected).map(|values| values / 2)
    }

    fn container(&mut self, kind: Kind, expected: &'static str) -> Result<usize, Fault> {
        if self.kind()? != kind {
            return Err(self.unexpected(expected));
        }
        let start = *self;
        let (_, values) = self.extent()?;
        if values > self.left() {
            return Err(start.fault(Problem::Overlong { claimed: values, left: self.left() }));
        }
        Ok(values)
    }

    /// A string or a byte string; the callers that care ask for the kind first.
    pub(super) fn bytes(&mut self, expected: &'static str) -> Result<&'a [u8], Fault> {
        let start = *self;
        if !matches!(self.kind()?, Kind::Str | Kind::Bin) {
            return Err(self.unexpected(expected));
        }
        let (len, _) = self.extent()?;
        self.take(len).map_err(|fault| Fault { at: start.offset(), ..fault })
    }

    /// A string in UTF-8.
    pub(super) fn text(&mut self, expected: &'static str) -> Result<&'a str, Fault> {
        let start = *self;
        if self.kind()? != Kind::Str {
            return Err(self.unexpected(expected));
        }
        core::str::from_utf8(self.bytes(expected)?).map_err(|_| start.invalid("a string that is not UTF-8"))
    }

    /// An integer of any width and sign.
    pub(super) fn number(&mut self, expected: &'static str) -> Result<Number, Fault> {
        use Marker::*;
        let start = *self;
        Ok(match self.marker()? {
            FixPos(value) => Number::Unsigned(value.into()),
            FixNeg(value) => Number::signed(value.into()),
            U8 => Number::Unsigned(u8::from_be_bytes(self.chunk()?).into()),
            U16 => Number::Unsigned(u16::from_be_bytes(self.chunk()?).into()),
            U32 => Number::Unsigned(u32::from_be_bytes(self.chunk()?).into()),
            U64 => Number::Unsigned(u64::from_be_bytes(self.chunk()?)),
            I8 => Number::signed(i8::from_be_bytes(self.chunk()?).into()),
            I16 => Number::signed(i16::from_be_bytes(self.chunk()?).into()),
            I32 => Number::signed(i32::from_be_bytes(self.chunk()?).into()),
            I64 => Number::signed(i64::from_be_bytes(self.chunk()?)),
            _ => return Err(start.unexpected(expected)),
        })
    }

    /// An integer from 0 to 2^32 - 1.
    pub(super) fn u32(&mut self, expected: &'static str) -> Result<u32, Fault> {
        let start = *self;
        match self.number(expected)? {
            Number::Unsigned(value) => u32::try_from(value).ok(),
            Number::Negative(_) => None,
        }
        .ok_or(start.invalid("an integer that does not fit into 32 bits unsigned"))
    }

    /// An integer or a float, as a float.
    pub(super) fn float(&mut self) -> Result<f64, Fault> {
        const EXPECTED: &str = "a number";
        if self.kind()? == Kind::Int {
            return self.number(EXPECTED).map(|number| match number {
                Number::Unsigned(value) => value as f64,
                Number::Negative(value) => value as f64,
            });
        }
        let start = *self;
        match self.marker()? {
            Marker::F32 => self.chunk().map(|b| f32::from_be_bytes(b).into()),
            Marker::F64 => self.chunk().map(f64::from_be_bytes),
            _ => Err(start.unexpected(EXPECTED)),
        }
    }

    /// An array of token ids.
    ///
    /// Nearly all bytes of an event are here, hence the three shapes a msgspec encoder gives ids
    /// below 2^32 (one byte, two, four) are matched straight from the slice; a u8 (128 to 255) and
    /// whatever else is legal goes the general way.
    pub(super) fn token_ids(&mut self, len: usize) -> Result<Vec<u32>, Fault> {
        let mut ids = Vec::with_capacity(len.min(self.left()));
        for _ in 0..len {
            let (id, rest) = match *self.rest {
                [id @ 0..=0x7f, ref rest @ ..] => (u32::from(id), rest),
                [0xcd, a, b, ref rest @ ..] => (u32::from(u16::from_be_bytes([a, b])), rest),
                [0xce, a, b, c, d, ref rest @ ..] => (u32::from_be_bytes([a, b, c, d]), rest),
                _ => (self.u32("a token id")?, self.rest),
            };
            self.rest = rest;
            ids.push(id);
        }
        Ok(ids)
    }
}
