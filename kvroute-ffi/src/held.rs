//! What pods hold, for whoever keeps a copy of it elsewhere.

use kvroute_core::PodId;
use kvroute_core::index::{HeldBlock, HeldCursor};

use crate::error::kvroute_error;
use crate::guard;
use crate::memory::{fill, put, wanted};
use crate::router::kvroute_router;

/// All that was held is gone; the changes are from nothing on.
pub const KVROUTE_HELD_CLEARED: u32 = 1;
/// What changed is not known: the journal began, ran over, or a snapshot was restored. Whoever keeps a copy drops it and
/// lists all.
pub const KVROUTE_HELD_LIST_AGAIN: u32 = 2;
/// What the pod can use of a prompt is just the blocks that it holds from the first one on. Not so for pods with
/// several KV-cache groups, or one whose kind is not full attention.
pub const KVROUTE_HELD_PLAIN: u32 = 4;
/// There are more changes than there was room for.
pub const KVROUTE_HELD_MORE: u32 = 8;

/// Where a listing of what is held ends.
pub const KVROUTE_HELD_END: u64 = u64::MAX;

/// A block that a pod holds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_held_block {
    /// The block, hashed as requests of the pod's cache domain are.
    pub hash: u64,
    /// The KV-cache group that holds it.
    pub group: u32,
    /// The tier that it lies in: `KVROUTE_TIER_...`.
    pub tier: i32,
}

/// A block that a pod came to hold, or holds no more.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_held_change {
    /// The block.
    pub block: kvroute_held_block,
    /// 1 if it is held now, 0 if it is held no more.
    pub is_held: i64,
}

fn block_of(block: HeldBlock) -> kvroute_held_block {
    kvroute_held_block { hash: block.hash.0, group: block.group, tier: block.tier as i32 }
}

/// Keeps a journal of what the pod comes to hold and holds no more, up to `most` changes that were not taken; 0 ends it.
/// One that runs over takes nothing in any more, and says so when it is taken.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_journal_held(
    router: *const kvroute_router,
    pod: u64,
    most: usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| Ok(router.index().journal_held(PodId::from_u64(pod), most)?))
    }
}

/// Takes what the pod's journal has into `changes: [*written]`, in the order in which it happened, as many as there is
/// room for. `*flags` is set to what came before them, `KVROUTE_HELD_...` together; of a pod without a journal there is
/// never anything to go on from.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_take_held(
    router: *const kvroute_router,
    pod: u64,
    changes: *mut kvroute_held_change,
    capacity: usize,
    written: *mut usize,
    flags: *mut u32,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            wanted("written", written)?;
            wanted("flags", flags)?;
            // Before anything is taken: what cannot be written would be lost.
            let room = if changes.is_null() { 0 } else { capacity };
            let mut taken = Vec::new();
            let since = router.index().take_held(PodId::from_u64(pod), room, &mut taken)?;
            let all = [
                (KVROUTE_HELD_CLEARED, since.cleared),
                (KVROUTE_HELD_LIST_AGAIN, since.list_again),
                (KVROUTE_HELD_PLAIN, since.is_plain),
                (KVROUTE_HELD_MORE, since.has_more),
            ];
            put("flags", flags, all.iter().filter(|(_, is)| *is).map(|(flag, _)| flag).sum())?;
            let taken = taken.iter().map(|change| kvroute_held_change {
                block: block_of(change.block),
                is_held: i64::from(change.is_held),
            });
            fill(&taken.collect::<Vec<_>>(), changes, room, written)
        })
    }
}

/// Lists blocks that the pod holds into `blocks: [*written]`, as many as there is room for, in an order of the library's
/// own. `*cursor` says where to begin, 0 at the first call, and is set to where the next one begins, `KVROUTE_HELD_END`
/// behind the last. A block that is held from before the first call until after the last is listed once.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_BUFFER_TOO_SMALL` if there is no room at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_list_held(
    router: *const kvroute_router,
    pod: u64,
    cursor: *mut u64,
    blocks: *mut kvroute_held_block,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            wanted("written", written)?;
            wanted("cursor", cursor)?;
            let mut page = Vec::new();
            let from = HeldCursor::from_u64(cursor.read_unaligned());
            let next = router.index().list_held(PodId::from_u64(pod), from, capacity.max(1), &mut page)?;
            fill(&page.into_iter().map(block_of).collect::<Vec<_>>(), blocks, capacity, written)?;
            put("cursor", cursor, next.map_or(KVROUTE_HELD_END, HeldCursor::as_u64))
        })
    }
}
