//! Structs that begin with their size, as the caller's header had it: old and new ones can talk to each other.

use std::{ptr, slice};

use crate::status::{Failure, KVROUTE_STRUCT_SIZE};

/// A struct of numbers, pointers and such structs that begins with `struct_size`.
///
/// # Safety
///
/// `repr(C)`, its first field is a `usize`, and every bit pattern is one of its values.
pub unsafe trait Versioned: Copy {
    /// Name in messages.
    const NAME: &'static str;
    /// Size of its first version; bytes.
    const FIRST_SIZE: usize;
}

fn wrong<T: Versioned>(size: usize, what: &str) -> Failure {
    let (name, known) = (T::NAME, size_of::<T>());
    let message = format!("{name}: struct_size is {size}, {what} (this library knows {known} bytes of it)");
    Failure::new(KVROUTE_STRUCT_SIZE, message)
}

/// # Safety
///
/// `place` is NULL or points to a `usize` of the caller's.
unsafe fn stated_size<T: Versioned>(place: *const T) -> Result<usize, Failure> {
    if place.is_null() {
        return Err(Failure::null(T::NAME));
    }
    // SAFETY: not NULL; the rest is the caller's word.
    let size = unsafe { place.cast::<usize>().read_unaligned() };
    if size < T::FIRST_SIZE {
        return Err(wrong::<T>(
            size,
            "which is too small: zero the struct and set struct_size to its sizeof",
        ));
    }
    // No struct ends within its last field: half of a pointer or a length would be another one.
    if size > 1 << 16 || !size.is_multiple_of(align_of::<T>()) {
        return Err(wrong::<T>(size, "which cannot be: zero the struct and set struct_size to its sizeof"));
    }
    Ok(size)
}

/// What the caller wrote; what an older header did not know is zero, what a newer one has must be.
///
/// # Safety
///
/// `place` is NULL or points to as many bytes of the caller's as its first field says, which nobody changes.
pub unsafe fn read<T: Versioned>(place: *const T) -> Result<T, Failure> {
    // SAFETY: the caller's word.
    let size = unsafe { stated_size(place) }?;
    if size > size_of::<T>() {
        // SAFETY: so many bytes are there, the caller says.
        let tail =
            unsafe { slice::from_raw_parts(place.cast::<u8>().add(size_of::<T>()), size - size_of::<T>()) };
        if tail.iter().any(|&byte| byte != 0) {
            return Err(wrong::<T>(size, "and there is something behind what is known"));
        }
    }
    // SAFETY: zero is a value, by `Versioned`; so is whatever is copied over its beginning.
    unsafe {
        let mut value = std::mem::zeroed::<T>();
        ptr::copy_nonoverlapping(
            place.cast::<u8>(),
            ptr::from_mut(&mut value).cast::<u8>(),
            size.min(size_of::<T>()),
        );
        Ok(value)
    }
}

/// As [`read`]; NULL is all zero, the defaults.
///
/// # Safety
///
/// That of [`read`].
pub unsafe fn read_or_default<T: Versioned>(place: *const T) -> Result<T, Failure> {
    if place.is_null() {
        // SAFETY: zero is a value, by `Versioned`.
        return Ok(unsafe { std::mem::zeroed() });
    }
    // SAFETY: the caller's word.
    unsafe { read(place) }
}

/// Elements of an array whose stride is the size that the first of them states.
///
/// # Safety
///
/// `place` is NULL or points to `len` structs of the size that the first one states.
pub(crate) unsafe fn read_array<T: Versioned>(place: *const T, len: usize) -> Result<Vec<T>, Failure> {
    if len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller's word; there is a first one.
    let stride = unsafe { stated_size(place) }?;
    if len > isize::MAX as usize / stride {
        return Err(Failure::invalid(format!("{len} of {} are more than memory can hold", T::NAME)));
    }
    let mut values = Vec::new();
    for at in 0..len {
        // SAFETY: `at` is below `len`, so this one is there.
        let (element, size) = unsafe {
            let element = place.cast::<u8>().add(at * stride).cast::<T>();
            (element, element.cast::<usize>().read_unaligned())
        };
        if size != stride {
            return Err(wrong::<T>(size, "unlike the first of the array"));
        }
        // SAFETY: as above, and it states the stride.
        values.push(unsafe { read(element) }?);
    }
    Ok(values)
}

/// Checks, before anything is done, that an answer can be put there.
///
/// # Safety
///
/// `place` is NULL or points to a `usize` of the caller's.
pub unsafe fn check_place<T: Versioned>(place: *const T) -> Result<(), Failure> {
    // SAFETY: the caller's word.
    unsafe { stated_size(place) }.map(drop)
}

/// Answers in a struct of the caller's, as far as it goes; its `struct_size` stays.
///
/// # Safety
///
/// `place` is NULL or points to as many bytes of the caller's as its first field says, and nobody else uses
/// them.
pub unsafe fn write<T: Versioned>(place: *mut T, value: &T) -> Result<(), Failure> {
    // SAFETY: the caller's word.
    let size = unsafe { stated_size(place) }?;
    let head = size_of::<usize>();
    // SAFETY: both are that large; `value` is ours, so the two do not overlap.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::from_ref(value).cast::<u8>().add(head),
            place.cast::<u8>().add(head),
            size.min(size_of::<T>()) - head,
        );
    }
    Ok(())
}

/// Implements [`Versioned`] for structs of numbers and pointers.
#[doc(hidden)]
#[macro_export]
macro_rules! versioned {
    ($($name:ident up to $last:ident),+ $(,)?) => {$(
        // SAFETY: `repr(C)`, `struct_size` first, numbers and pointers only.
        unsafe impl $crate::structs::Versioned for $name {
            const NAME: &'static str = stringify!($name);
            const FIRST_SIZE: usize = {
                const fn end<F>(offset: usize, _: fn(&$name) -> &F) -> usize {
                    offset + size_of::<F>()
                }
                let end = end(std::mem::offset_of!($name, $last), |value| &value.$last);
                // Padding behind it could not be told from a later field.
                assert!(end % align_of::<$name>() == 0);
                end
            };
        }
    )+};
}
pub use versioned;
