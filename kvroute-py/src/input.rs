//! The way in: Python values to Rust ones, with errors that name the argument, the position and the value.
//!
//! A value of the wrong *type* is Python's `TypeError`; a value of the right type that is out of range or of
//! the wrong shape is an `InvalidInputError`.

use std::borrow::Cow;
use std::time::Duration;

use kvroute_core::{Error, Tier};
use numpy::{PyArray1, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyMemoryView, PySequence, PyString};

use crate::error::{call, call_detached, invalid};

/// Tokens of a prompt from which on the GIL is released while the core works: by then that takes a microsecond
/// or two by the own scheme, and ten times as long by SHA-256. Giving the GIL away costs little by itself, but
/// getting it back may take 5 ms (`sys.getswitchinterval`) where other threads are busy.
pub(crate) const LONG_PROMPT: usize = 2048;

/// The same for payloads and texts, in bytes.
pub(crate) const LONG_BYTES: usize = 4096;

/// Runs `work`; with the GIL released if it is long.
pub(crate) fn run<R: Send>(
    py: Python<'_>,
    is_long: bool,
    work: impl FnOnce() -> Result<R, Error> + Send,
) -> PyResult<R> {
    if is_long { call_detached(py, work) } else { call(work) }
}

/// A whole number that an argument may be.
pub(crate) trait Whole: TryFrom<u64> {
    const MAX: u64;
}

impl Whole for u32 {
    const MAX: u64 = u32::MAX as u64;
}

impl Whole for u64 {
    const MAX: u64 = u64::MAX;
}

impl Whole for usize {
    const MAX: u64 = usize::MAX as u64;
}

/// A whole number, 0 or more; anything with `__index__` (numpy's integers too) but a bool.
pub(crate) fn whole<N: Whole>(what: impl Fn() -> String, value: &Bound<'_, PyAny>) -> PyResult<N> {
    if value.is_instance_of::<PyBool>() {
        return Err(wrong_type(&what(), "an int", value));
    }
    let out_of_range = || invalid(format!("{}: {} is not in 0..={}", what(), shown(value), N::MAX));
    match value.extract::<u64>() {
        Ok(number) => N::try_from(number).map_err(|_| out_of_range()),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => Err(out_of_range()),
        Err(_) => Err(wrong_type(&what(), "an int", value)),
    }
}

/// [`whole`] of an argument of this name.
pub(crate) fn argument<N: Whole>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<N> {
    whole(|| name.to_string(), value)
}

/// [`argument`] with a default.
pub(crate) fn argument_or<N: Whole>(name: &str, value: Option<&Bound<'_, PyAny>>, default: N) -> PyResult<N> {
    value.map_or(Ok(default), |value| argument(name, value))
}

/// A whole number of either sign, of 64 bits; no bool.
pub(crate) fn signed(what: impl Fn() -> String, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    if value.is_instance_of::<PyBool>() {
        return Err(wrong_type(&what(), "an int", value));
    }
    match value.extract::<i64>() {
        Ok(number) => Ok(number),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
            let (least, most) = (i64::MIN, i64::MAX);
            Err(invalid(format!("{}: {} is not in {least}..={most}", what(), shown(value))))
        }
        Err(_) => Err(wrong_type(&what(), "an int", value)),
    }
}

/// A number; no bool. One that is too big for a float is infinite.
pub(crate) fn real(what: impl Fn() -> String, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    if value.is_instance_of::<PyBool>() {
        return Err(wrong_type(&what(), "a float", value));
    }
    match value.extract::<f64>() {
        Ok(number) => Ok(number),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => Ok(f64::INFINITY),
        Err(_) => Err(wrong_type(&what(), "a float", value)),
    }
}

/// A time in seconds, 0 or more.
pub(crate) fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    if value.is_instance_of::<PyBool>() {
        return Err(wrong_type(name, "seconds as a float", value));
    }
    let seconds = match value.extract::<f64>() {
        Ok(seconds) => seconds,
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => f64::INFINITY,
        Err(_) => return Err(wrong_type(name, "seconds as a float", value)),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        invalid(format!("{name}: {} is not a time; seconds, 0 or more, below 2^64", shown(value)))
    })
}

/// Makes `buffer` a prompt's token ids: of a numpy array of `uint32`, `[n]`, or of any sequence of ints.
///
/// They are always copied. Reading an array in place would be a race where another thread writes it, which the
/// GIL only rules out while it is held; copying 32 768 ids is a few microseconds.
pub(crate) fn read_token_ids(value: &Bound<'_, PyAny>, buffer: &mut Vec<u32>) -> PyResult<()> {
    buffer.clear();
    if let Ok(array) = value.cast::<PyUntypedArray>() {
        return read_array("token_ids", array, buffer);
    }
    read_sequence("token_ids", value, buffer)
}

/// Appends the elements of a one-dimensional numpy array of exactly this type.
pub(crate) fn read_array<N: numpy::Element + Copy>(
    name: &str,
    array: &Bound<'_, PyUntypedArray>,
    into: &mut Vec<N>,
) -> PyResult<()> {
    let Ok(array) = array.cast::<PyArray1<N>>() else {
        let wanted = numpy::dtype::<N>(array.py());
        if array.ndim() != 1 {
            let shape = array.shape();
            return Err(invalid(format!("{name}: an array of shape {shape:?}; one dimension is needed")));
        }
        let found = array.dtype();
        let message = format!("{name}: an array of {found}; {wanted} is needed (`astype(numpy.{wanted})`)");
        return Err(PyTypeError::new_err(message));
    };
    let array = array.try_readonly().map_err(|error| invalid(format!("{name}: {error}")))?;
    match array.as_slice() {
        Ok(elements) => into.extend_from_slice(elements),
        // A view with gaps between its elements, or an unaligned one: numpy makes a proper array of it.
        Err(_) => {
            let copy = array.call_method0("copy")?;
            let copy = copy.cast::<PyArray1<N>>()?.try_readonly();
            let copy = copy.map_err(|error| invalid(format!("{name}: {error}")))?;
            into.extend_from_slice(copy.as_slice().map_err(|error| invalid(format!("{name}: {error}")))?);
        }
    }
    Ok(())
}

/// Appends the items of a sequence of ints: some 9 ns each, where an array's cost next to nothing.
fn read_sequence(name: &str, value: &Bound<'_, PyAny>, into: &mut Vec<u32>) -> PyResult<()> {
    const EXPECTED: &str = "a sequence of ints or a numpy array";
    // Both are sequences of ints too, and never meant as such.
    let is_text = value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>();
    if is_text || value.is_instance_of::<PyString>() {
        return Err(wrong_type(name, EXPECTED, value));
    }
    let sequence = value.cast::<PySequence>().map_err(|_| wrong_type(name, EXPECTED, value))?;
    into.reserve(sequence.len()?.min(1 << 20));
    for (at, item) in sequence.try_iter()?.enumerate() {
        into.push(whole(|| format!("{name}[{at}]"), &item?)?);
    }
    Ok(())
}

/// The bytes of `bytes`, `bytearray` or `memoryview`; those of the latter two, which others may change, are
/// copied.
pub(crate) fn bytes<'a>(name: &str, value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Cow::Borrowed(bytes.as_bytes()));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Cow::Owned(bytes.to_vec()));
    }
    if !value.is_instance_of::<PyMemoryView>() {
        return Err(wrong_type(name, "bytes, bytearray or memoryview", value));
    }
    // One that was released has none.
    let bytes = value.call_method0("tobytes").map_err(|error| invalid(format!("{name}: {error}")))?;
    Ok(Cow::Owned(bytes.cast::<PyBytes>()?.as_bytes().to_vec()))
}

/// The bytes of a text: UTF-8 of a `str`, or those of what [`bytes`] takes.
pub(crate) fn text_bytes<'a>(name: &str, value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(Cow::Borrowed(utf8(name, text)?.as_bytes())),
        Err(_) => bytes(name, value).map_err(|error| {
            let is_type = error.is_instance_of::<PyTypeError>(value.py());
            if is_type { wrong_type(name, "str, bytes, bytearray or memoryview", value) } else { error }
        }),
    }
}

/// A text that can be written as UTF-8; a `str` with lone surrogates cannot.
pub(crate) fn utf8<'a>(name: &str, text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    text.to_str().map_err(|error| invalid(format!("{name}: not Unicode text: {error}")))
}

/// [`utf8`] of each.
pub(crate) fn texts<'a>(name: &str, texts: &'a [Bound<'_, PyString>]) -> PyResult<Vec<&'a str>> {
    texts.iter().map(|text| utf8(name, text)).collect()
}

/// One of these names, or an error that lists them.
pub(crate) fn one_of<T: Copy>(name: &str, value: &Bound<'_, PyString>, choices: &[(&str, T)]) -> PyResult<T> {
    let value = utf8(name, value)?;
    choices.iter().find(|(choice, _)| *choice == value).map(|&(_, meant)| meant).ok_or_else(|| {
        let known: Vec<&str> = choices.iter().map(|&(choice, _)| choice).collect();
        invalid(format!("{name}: {value:?} is none of {}", known.join(", ")))
    })
}

/// An argument that names a tier; `None` is one that is not known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TierArgument(pub(crate) Option<Tier>);

impl TierArgument {
    pub(crate) const GPU: Self = Self(Some(Tier::Gpu));
}

impl<'py> FromPyObject<'_, 'py> for TierArgument {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self(None));
        }
        let Ok(name) = value.cast::<PyString>() else {
            return Err(wrong_type("tier", "str or None", &value));
        };
        one_of("tier", &name, &Tier::ALL.map(|tier| (tier.name(), tier))).map(|tier| Self(Some(tier)))
    }
}

/// What a value of the wrong type is answered with.
pub(crate) fn wrong_type(name: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let found = value.get_type().name().map_or_else(|_| "another type".into(), |name| name.to_string());
    PyTypeError::new_err(format!("{name}: expected {expected}, found {found}"))
}

/// A number in an error message, whatever its length.
fn shown(value: &Bound<'_, PyAny>) -> String {
    const MOST: usize = 40;
    let text = value.repr().map_or_else(|_| "a number beyond all bounds".into(), |text| text.to_string());
    if text.len() <= MOST { text } else { text.chars().take(MOST).chain("...".chars()).collect() }
}
