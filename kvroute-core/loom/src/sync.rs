//! Loom's atomics and lock in the shape that the index's lock uses.
//!
//! Loom takes sequentially consistent accesses for acquiring and releasing ones, and knows fences (its documentation, "What
//! is not supported"). So here each such access stands between two fences, which orders those of them in the same way.

pub(super) use std::sync::atomic::Ordering;

use loom::sync::atomic::fence;
pub(super) use loom::sync::{RwLockReadGuard, RwLockWriteGuard};

/// One, so that a lock is opened again between two writes.
pub(super) const OPENED_BY: u32 = 1;

fn fenced<R>(order: Ordering, access: impl FnOnce() -> R) -> R {
    let is_sequential = order == Ordering::SeqCst;
    if is_sequential {
        fence(Ordering::SeqCst);
    }
    let result = access();
    if is_sequential {
        fence(Ordering::SeqCst);
    }
    result
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub(super) struct $name(loom::sync::atomic::$name);

        impl $name {
            pub(super) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(super) fn load(&self, order: Ordering) -> $value {
                fenced(order, || self.0.load(order))
            }

            pub(super) fn store(&self, value: $value, order: Ordering) {
                fenced(order, || self.0.store(value, order));
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU32, u32);
atomic!(AtomicUsize, usize);

impl AtomicUsize {
    pub(super) fn fetch_add(&self, value: usize, order: Ordering) -> usize {
        fenced(order, || self.0.fetch_add(value, order))
    }

    pub(super) fn fetch_max(&self, value: usize, order: Ordering) -> usize {
        fenced(order, || self.0.fetch_max(value, order))
    }

    pub(super) fn compare_exchange(
        &self,
        current: usize,
        new: usize,
        success: Ordering,
        failure: Ordering,
    ) -> Result<usize, usize> {
        fenced(success, || self.0.compare_exchange(current, new, success, failure))
    }
}

/// Nothing of it is poisoned: a panic ends the model.
#[derive(Debug, Default)]
pub(super) struct RwLock<T>(loom::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap()
    }
}

pub(super) struct SpinWait;

impl SpinWait {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn spin(&mut self) {
        loom::thread::yield_now();
    }
}
