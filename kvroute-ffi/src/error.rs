//! The error object: room for one message, brought by the caller.

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::guard;
use crate::handle::{self, Handle, mark};
use crate::memory::put;
use crate::status::{Failure, KVROUTE_BUSY, KVROUTE_INVALID_HANDLE, KVROUTE_OK};

/// What went wrong in the last call that was given this object. Make one a thread and pass it to every call, or
/// pass NULL where only the status matters.
pub struct kvroute_error {
    _opaque: [u8; 0],
}

/// Room for a message that one call at a time gets.
#[doc(hidden)]
pub struct LastError {
    is_busy: AtomicBool,
    said: UnsafeCell<Said>,
}

/// How a call ended.
struct Said {
    status: i32,
    /// Ends in a NUL.
    message: Vec<u8>,
}

// SAFETY: `said` is only touched by the one that set `is_busy`.
unsafe impl Sync for LastError {}

impl Handle for kvroute_error {
    type Content = LastError;
    const MARK: u64 = mark(b"error");
    const NAME: &'static str = "kvroute_error";
}

/// An error object that a call has for itself.
pub(crate) struct Taken<'a>(&'a LastError);

impl LastError {
    /// Takes it, unless somebody else has it.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        (!self.is_busy.swap(true, Ordering::Acquire)).then(|| Taken(self))
    }
}

impl Taken<'_> {
    /// Notes how the call ended.
    pub(crate) fn set(&mut self, failure: Option<&Failure>) {
        // SAFETY: it was not busy when it was taken, and is until this is dropped: nobody else has it.
        let said = unsafe { &mut *self.0.said.get() };
        said.status = failure.map_or(KVROUTE_OK, |failure| failure.status);
        said.message.clear();
        if let Some(failure) = failure {
            // A NUL inside would end the message for whoever reads it as a C string.
            said.message.extend(failure.message.bytes().map(|byte| if byte == 0 { b' ' } else { byte }));
        }
        said.message.push(0);
    }

    fn said(&self) -> *const Said {
        self.0.said.get()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Release);
    }
}

/// A new error object, saying nothing.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_error_new() -> *mut kvroute_error {
    guard::value(std::ptr::null_mut(), || {
        let said = UnsafeCell::new(Said { status: KVROUTE_OK, message: vec![0] });
        Ok(handle::new(LastError { is_busy: AtomicBool::new(false), said }))
    })
}

/// Frees an error object; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_error_free(error: *mut kvroute_error) {
    // SAFETY: the caller's word: made by `kvroute_error_new`, and not used any more.
    guard::value((), || unsafe { handle::free(error) });
}

/// Status of the last call that was given this object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_error_status(error: *const kvroute_error) -> i32 {
    guard::value(KVROUTE_INVALID_HANDLE, || {
        // SAFETY: the caller's word: a live handle.
        let taken = unsafe { handle::get(error) }?.take();
        // SAFETY: nobody else has what was taken.
        Ok(taken.map_or(KVROUTE_BUSY, |taken| unsafe { (*taken.said()).status }))
    })
}

/// Its message: UTF-8, ending in a NUL, empty after a success. Valid until the object is used in another call.
/// `length`, which may be NULL, is set to its length without the NUL; bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_error_message(
    error: *const kvroute_error,
    length: *mut usize,
) -> *const c_char {
    const NONE: &[u8] = b"\0";
    guard::value(NONE.as_ptr().cast(), || {
        // SAFETY: the caller's word: a live handle.
        let taken = unsafe { handle::get(error) }.ok().and_then(LastError::take);
        // SAFETY: nobody else has what was taken; that the message is read before the next call is the caller's word.
        let message = taken.map_or(NONE, |taken| unsafe { (*taken.said()).message.as_slice() });
        if !length.is_null() {
            // SAFETY: the caller's word: room for a number.
            unsafe { put("length", length, message.len() - 1) }?;
        }
        Ok(message.as_ptr().cast())
    })
}
