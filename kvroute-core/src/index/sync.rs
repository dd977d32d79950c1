//! What [`super::lock`] is made of. Under loom (kvroute-core/loom) it is made of loom's instead.

pub(super) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
pub(super) use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub(super) use parking_lot_core::SpinWait;

/// Reads since the last write that open a lock's seats. To find them empty costs the next writer a line for each.
pub(super) const OPENED_BY: u32 = 16;
