//! The caller's memory: pointers with lengths in, buffers with capacities out.

use std::ffi::c_char;
use std::{ptr, slice, str};

use crate::status::{Failure, KVROUTE_BUFFER_TOO_SMALL, KVROUTE_INVALID_UTF8};

/// A text: UTF-8, not ended by a NUL. All zero is the empty text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_str {
    /// Its first byte; may be NULL if `len` is 0.
    pub data: *const c_char,
    /// Its length; bytes.
    pub len: usize,
}

/// Bytes. All zero is none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_bytes {
    /// The first; may be NULL if `len` is 0.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

impl kvroute_str {
    /// The text.
    ///
    /// # Safety
    ///
    /// That of [`text`].
    #[doc(hidden)]
    pub unsafe fn get<'a>(&self, what: &str) -> Result<&'a str, Failure> {
        // SAFETY: the caller's word.
        unsafe { text(what, self.data, self.len) }
    }

    /// The text, if there is any.
    ///
    /// # Safety
    ///
    /// That of [`text`].
    #[doc(hidden)]
    pub unsafe fn non_empty<'a>(&self, what: &str) -> Result<Option<&'a str>, Failure> {
        // SAFETY: the caller's word.
        Ok(Some(unsafe { self.get(what) }?).filter(|text| !text.is_empty()))
    }
}

impl kvroute_bytes {
    /// The bytes.
    ///
    /// # Safety
    ///
    /// That of [`array`].
    #[doc(hidden)]
    pub unsafe fn get<'a>(&self, what: &str) -> Result<&'a [u8], Failure> {
        // SAFETY: the caller's word.
        unsafe { array(what, self.data, self.len) }
    }
}

/// The caller's array called `what`.
///
/// # Safety
///
/// If `len` is not 0, `data` is NULL or points to so many values, which nobody changes during `'a`; each of
/// their bit patterns is a `T`.
#[doc(hidden)]
pub unsafe fn array<'a, T>(what: &str, data: *const T, len: usize) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Failure::null(what));
    }
    if !data.is_aligned() {
        return Err(Failure::invalid(format!("{what} is not aligned to {} bytes", align_of::<T>())));
    }
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::invalid(format!("{what}: a length of {len} is more than memory can hold")));
    }
    // SAFETY: not NULL, aligned and not too long; the rest is the caller's word.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// The caller's text called `what`.
///
/// # Safety
///
/// That of [`array`].
#[doc(hidden)]
pub unsafe fn text<'a>(what: &str, data: *const c_char, len: usize) -> Result<&'a str, Failure> {
    // SAFETY: the caller's word.
    let bytes = unsafe { array(what, data.cast::<u8>(), len) }?;
    str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Failure::new(KVROUTE_INVALID_UTF8, format!("{what} is not UTF-8 from byte {at} on"))
    })
}

/// Where an answer is put that must not be NULL.
///
/// # Safety
///
/// `place` is NULL or room for a `T` of the caller's that nobody else uses.
#[doc(hidden)]
pub unsafe fn put<T>(what: &str, place: *mut T, value: T) -> Result<(), Failure> {
    if place.is_null() {
        return Err(Failure::null(what));
    }
    // SAFETY: not NULL; the rest is the caller's word. Not assumed to be aligned or initialised.
    unsafe { place.write_unaligned(value) };
    Ok(())
}

/// Says no before anything is done for an answer that has no place.
#[doc(hidden)]
pub fn wanted<T>(what: &str, place: *mut T) -> Result<(), Failure> {
    if place.is_null() { Err(Failure::null(what)) } else { Ok(()) }
}

/// Copies `values` into the caller's buffer, all or nothing, and tells their number, or the one needed.
///
/// # Safety
///
/// `buffer` is NULL or room for `capacity` values, `written` NULL or room for a number, of the caller's, and
/// nobody else uses them.
#[doc(hidden)]
pub unsafe fn fill<T: Copy>(
    values: &[T],
    buffer: *mut T,
    capacity: usize,
    written: *mut usize,
) -> Result<(), Failure> {
    // SAFETY: the caller's word.
    unsafe { copy_out(values, buffer, capacity, written, values.len(), values.len()) }
}

/// Copies a text into the caller's buffer, with a NUL behind it that `written` does not count.
///
/// # Safety
///
/// That of [`fill`].
#[doc(hidden)]
pub unsafe fn fill_text(
    text: &str,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
) -> Result<(), Failure> {
    let needed = text.len() + 1;
    // SAFETY: the caller's word; with room for `needed` bytes there is one behind the text.
    unsafe {
        copy_out(text.as_bytes(), buffer.cast::<u8>(), capacity, written, needed, text.len())?;
        buffer.cast::<u8>().add(text.len()).write(0);
    }
    Ok(())
}

/// Checks, before anything is written, that [`fill_text`] would succeed; tells the capacity needed if not.
///
/// # Safety
///
/// That of [`fill`].
#[doc(hidden)]
pub unsafe fn fits_text(
    text: &str,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
) -> Result<(), Failure> {
    // SAFETY: the caller's word.
    unsafe { fits(buffer, capacity, written, text.len() + 1) }
}

/// # Safety
///
/// That of [`fill`].
unsafe fn fits<T>(
    buffer: *mut T,
    capacity: usize,
    written: *mut usize,
    needed: usize,
) -> Result<(), Failure> {
    if needed > capacity {
        // SAFETY: the caller's word.
        unsafe { put("written", written, needed) }?;
        let message = format!("a buffer of {capacity} is too small, {needed} are needed");
        return Err(Failure::new(KVROUTE_BUFFER_TOO_SMALL, message));
    }
    if buffer.is_null() && needed > 0 {
        return Err(Failure::null("buffer"));
    }
    wanted("written", written)
}

/// # Safety
///
/// That of [`fill`].
unsafe fn copy_out<T: Copy>(
    values: &[T],
    buffer: *mut T,
    capacity: usize,
    written: *mut usize,
    needed: usize,
    count: usize,
) -> Result<(), Failure> {
    // SAFETY: the caller's word; `values` is ours, so the two do not overlap. Copied as bytes, because places for
    // answers need not be aligned.
    unsafe {
        fits(buffer, capacity, written, needed)?;
        put("written", written, count)?;
        if needed > 0 {
            ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), buffer.cast::<u8>(), size_of_val(values));
        }
    }
    Ok(())
}
