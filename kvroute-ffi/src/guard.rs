//! What stands between C and every function's body.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, TryLockError};

use crate::error::{LastError, kvroute_error};
use crate::handle;
use crate::router::kvroute_router;
use crate::status::{Failure, KVROUTE_BUSY, KVROUTE_OK, KVROUTE_PANIC, KVROUTE_POISONED};
use kvroute_core::Router;

/// Runs a function that uses no router: its failure, or a panic, becomes a status with a message in `error`.
///
/// # Safety
///
/// `error` is NULL or an error object that nobody else uses.
pub unsafe fn status(error: *mut kvroute_error, body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    // Nothing is done for a call whose failure could not be told.
    let mut taken = None;
    if !error.is_null() {
        // SAFETY: the caller's word.
        match unsafe { handle::get(error) }.map(LastError::take) {
            Ok(Some(error)) => taken = Some(error),
            Ok(None) => return KVROUTE_BUSY,
            Err(invalid) => return invalid.status,
        }
    }
    let ended = caught(body);
    if let Some(error) = &mut taken {
        error.set(ended.as_ref().err());
    }
    ended.err().map_or(KVROUTE_OK, |failure| failure.status)
}

/// Runs a function that reads a router. A panic changes nothing for those who come after.
///
/// # Safety
///
/// That of [`status`]; `router` is NULL or a live handle.
pub unsafe fn reading(
    router: *const kvroute_router,
    error: *mut kvroute_error,
    body: impl FnOnce(&Router) -> Result<(), Failure>,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { status(error, || body(handle::get(router)?.usable()?)) }
}

/// Runs a function that changes a router, from any thread. A panic may leave it half changed: then it is poisoned.
///
/// # Safety
///
/// That of [`reading`].
pub unsafe fn writing(
    router: *const kvroute_router,
    error: *mut kvroute_error,
    body: impl FnOnce(&Router) -> Result<(), Failure>,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe {
        status(error, || {
            let handle = handle::get(router)?;
            let usable = handle.usable()?;
            let ended = caught(|| body(usable));
            if ended.as_ref().is_err_and(|failure| failure.status == KVROUTE_PANIC) {
                handle.poison();
            }
            ended
        })
    }
}

/// Runs a function that has no way to tell why it failed.
pub fn value<T>(otherwise: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    caught(body).unwrap_or(otherwise)
}

/// Works on what one call at a time may have, and none after one that panicked.
pub fn alone<T, R>(
    what: &str,
    content: &Mutex<T>,
    work: impl FnOnce(&mut T) -> Result<R, Failure>,
) -> Result<R, Failure> {
    match content.try_lock() {
        Ok(mut content) => work(&mut content),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(KVROUTE_BUSY, format!("another thread works on this {what} right now")))
        }
        Err(TryLockError::Poisoned(_)) => {
            let message = format!("a call panicked midway in this {what}; begin another");
            Err(Failure::new(KVROUTE_POISONED, message))
        }
    }
}

fn caught<T>(body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // What the body may have left half done is the router's, which `writing` poisons, or a workspace's, which is
    // then made anew.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Failure::new(KVROUTE_PANIC, format!("kvroute panicked, which is a bug in it: {words}"))
}
