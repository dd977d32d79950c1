//! The error object: room for one message, brought by the caller.

use std::ffi::c_char;

use crate::guard;
use crate::handle::{self, Handle, mark};
use crate::status::{Failure, KVROUTE_INVALID_HANDLE, KVROUTE_OK};

/// What went wrong in the last call that was given this object. Make one a thread and pass it to every call, or
/// pass NULL where only the status matters.
pub struct kvroute_error {
    _opaque: [u8; 0],
}

/// What an error object holds.
pub(crate) struct LastError {
    status: i32,
    /// Ends in a NUL.
    message: Vec<u8>,
}

impl Handle for kvroute_error {
    type Content = LastError;
    const MARK: u64 = mark(b"error");
    const NAME: &'static str = "kvroute_error";
}

impl LastError {
    /// Notes how a call ended.
    pub(crate) fn set(&mut self, failure: Option<&Failure>) {
        self.status = failure.map_or(KVROUTE_OK, |failure| failure.status);
        self.message.clear();
        if let Some(failure) = failure {
            // A NUL inside would end the message for whoever reads it as a C string.
            self.message.extend(failure.message.bytes().map(|byte| if byte == 0 { b' ' } else { byte }));
        }
        self.message.push(0);
    }
}

/// A new error object, saying nothing.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_error_new() -> *mut kvroute_error {
    guard::value(std::ptr::null_mut(), || Ok(handle::new(LastError { status: KVROUTE_OK, message: vec![0] })))
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
    // SAFETY: the caller's word: a live handle, not written to meanwhile.
    guard::value(KVROUTE_INVALID_HANDLE, || Ok(unsafe { handle::get(error) }?.status))
}

/// Its message: UTF-8, ending in a NUL, empty after a success. Valid until the object is used in another call.
/// `length`, which may be NULL, is set to its length without the NUL; bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_error_message(
    error: *const kvroute_error,
    length: *mut usize,
) -> *const c_char {
    const NONE: &[u8] = b"\0";
    // SAFETY: the caller's word: a live handle, not written to meanwhile.
    let message = guard::value(NONE, || Ok(unsafe { handle::get(error) }?.message.as_slice()));
    // SAFETY: the caller's word: NULL or room for a number.
    if let Some(length) = unsafe { length.as_mut() } {
        *length = message.len() - 1;
    }
    message.as_ptr().cast()
}
