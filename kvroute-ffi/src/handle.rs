//! Handles: what C holds as pointers to opaque structs.

use crate::status::{Failure, KVROUTE_INVALID_HANDLE};

/// A kind of object that C holds by pointer; never made itself, only pointed to. What is behind the pointer begins
/// with a mark, so that a pointer to something else, or to what was freed, is found out before it is used; not
/// always, but in the cases that happen: handles swapped, a struct that was never made, a second free before the
/// memory went to somebody else.
pub trait Handle {
    /// What is behind the pointer.
    type Content: Send + Sync;
    /// The mark of this kind.
    const MARK: u64;
    /// Name in messages.
    const NAME: &'static str;
}

/// What is behind a handle.
#[repr(C)]
struct Marked<T> {
    mark: u64,
    content: T,
}

/// A kind's mark, made of a few letters.
pub const fn mark(letters: &[u8]) -> u64 {
    // Two versions of this library in one process know each other's handles from their own.
    let start = fnv(0xcbf2_9ce4_8422_2325, concat!("kvroute ", env!("CARGO_PKG_VERSION")).as_bytes());
    fnv(start, letters)
}

const fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// Gives something away to C.
pub fn new<H: Handle>(content: H::Content) -> *mut H {
    Box::into_raw(Box::new(Marked { mark: H::MARK, content })).cast()
}

fn check<H: Handle>(handle: *const H) -> Result<*const Marked<H::Content>, Failure> {
    if handle.is_null() {
        return Err(Failure::null(H::NAME));
    }
    let marked = handle.cast::<Marked<H::Content>>();
    // SAFETY: the caller's word is that the pointer came from `new`, for some kind; then a mark stands first.
    if !marked.is_aligned() || unsafe { marked.cast::<u64>().read() } != H::MARK {
        let message = format!("this pointer is no {}, or it was freed", H::NAME);
        return Err(Failure::new(KVROUTE_INVALID_HANDLE, message));
    }
    Ok(marked)
}

/// What is behind a handle.
///
/// # Safety
///
/// `handle` is NULL or came from [`new`] for some kind of handle, and lives on during `'a`.
pub unsafe fn get<'a, H: Handle>(handle: *const H) -> Result<&'a H::Content, Failure> {
    let marked = check(handle)?;
    // SAFETY: the mark says what it is; the rest is the caller's word.
    Ok(unsafe { &(*marked).content })
}

/// What is behind a handle that nobody else uses.
///
/// # Safety
///
/// That of [`get`], and nobody else uses it during `'a`.
pub unsafe fn get_mut<'a, H: Handle>(handle: *mut H) -> Result<&'a mut H::Content, Failure> {
    let marked = check(handle)?.cast_mut();
    // SAFETY: the mark says what it is; the rest is the caller's word.
    Ok(unsafe { &mut (*marked).content })
}

/// Ends a handle; NULL is fine.
///
/// # Safety
///
/// That of [`get_mut`], and nobody uses it afterwards.
pub unsafe fn free<H: Handle>(handle: *mut H) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    let marked = check(handle)?.cast_mut();
    // SAFETY: the mark says that `new` boxed it and that it was not freed; nobody else uses it. The write is
    // volatile because a second `free` may look for it, in memory that is nobody's by then.
    unsafe {
        (&raw mut (*marked).mark).write_volatile(0);
        drop(Box::from_raw(marked));
    }
    Ok(())
}
