//! Room for one decision at a time.

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::sync::atomic::{AtomicBool, Ordering};

use kvroute_core::index::MatchTable;
use kvroute_core::{KnownPrefix, PodId, Workspace};

use crate::context::ContextBuffer;
use crate::error::kvroute_error;
use crate::guard;
use crate::handle::{self, Handle, mark};
use crate::lookup::kvroute_pod_match;
use crate::memory::{fill, fill_text, put};
use crate::status::{Failure, KVROUTE_BUSY, KVROUTE_UNKNOWN_POD};

/// Room for one decision at a time, reused so that deciding allocates nothing once warm; and what the last
/// decision saw, for `kvroute_router_explain`. Make one a thread. Works with any router.
pub struct kvroute_workspace {
    _opaque: [u8; 0],
}

/// Scratch that one thread at a time gets.
#[doc(hidden)]
pub struct Guarded {
    is_busy: AtomicBool,
    scratch: UnsafeCell<Scratch>,
}

/// What a call works with.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) workspace: Workspace,
    pub(crate) context: ContextBuffer,
    pub(crate) table: MatchTable,
    pub(crate) found: Vec<kvroute_pod_match>,
    /// Room for the names of a request's subset; empty between calls.
    pub(crate) subset: Vec<&'static str>,
    /// What a request brings of pods' caches.
    pub(crate) known: Vec<KnownPrefix>,
}

// SAFETY: `scratch` is only touched by the one that set `is_busy`.
unsafe impl Sync for Guarded {}

impl Handle for kvroute_workspace {
    type Content = Guarded;
    const MARK: u64 = mark(b"workspace");
    const NAME: &'static str = "kvroute_workspace";
}

/// Gives the scratch back, also when the work panicked.
struct Lease<'a>(&'a Guarded);

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What was left half done must not meet the next call.
            // SAFETY: it is busy until the line below: nobody else has it.
            unsafe { *self.0.scratch.get() = Scratch::default() };
        }
        self.0.is_busy.store(false, Ordering::Release);
    }
}

/// Works with a workspace's scratch.
///
/// # Safety
///
/// `workspace` is NULL or a live handle.
pub(crate) unsafe fn with<R>(
    workspace: *const kvroute_workspace,
    work: impl FnOnce(&mut Scratch) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's word.
    let workspace = unsafe { handle::get(workspace) }?;
    if workspace.is_busy.swap(true, Ordering::Acquire) {
        let message = "another thread uses this workspace right now; make one for each thread";
        return Err(Failure::new(KVROUTE_BUSY, message));
    }
    let _lease = Lease(workspace);
    // SAFETY: it was not busy, and is until the lease ends: nobody else has it.
    work(unsafe { &mut *workspace.scratch.get() })
}

/// A new workspace.
#[unsafe(no_mangle)]
pub extern "C" fn kvroute_workspace_new() -> *mut kvroute_workspace {
    guard::value(std::ptr::null_mut(), || {
        Ok(handle::new(Guarded { is_busy: AtomicBool::new(false), scratch: UnsafeCell::default() }))
    })
}

/// Frees a workspace; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_workspace_free(workspace: *mut kvroute_workspace) {
    // SAFETY: the caller's word: made by `kvroute_workspace_new`, and not used any more.
    guard::value((), || unsafe { handle::free(workspace) });
}

/// Writes the name of a pod that took part in the last decision made with this workspace, with a NUL behind it, into
/// `buffer`: also of one that was removed since. `dp_rank`, which may be NULL, is set to its rank.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_BUSY`; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_workspace_pod_name(
    workspace: *mut kvroute_workspace,
    pod: u64,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    dp_rank: *mut u32,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            with(workspace, |scratch| {
                let Some(pod) = scratch.workspace.pod(PodId::from_u64(pod)) else {
                    let message = format!("no pod of the last decision has the id {pod}");
                    return Err(Failure::new(KVROUTE_UNKNOWN_POD, message));
                };
                fill_text(pod.name(), buffer, capacity, written)?;
                if dp_rank.is_null() { Ok(()) } else { put("dp_rank", dp_rank, pod.dp_rank()) }
            })
        })
    }
}

/// Writes the ids of the next best pods for the last decision made with this workspace, best first, into `pods:
/// [*written]`: where to turn if the decision's pod does not answer. As many as its profile asks for (`fallbacks` in a
/// configuration), none unless it does; `kvroute_decision` says how many there are.
///
/// Errors: `KVROUTE_BUSY`; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_workspace_fallbacks(
    workspace: *mut kvroute_workspace,
    pods: *mut u64,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            with(workspace, |scratch| {
                let ids: Vec<u64> = scratch.workspace.fallbacks().iter().map(|pod| pod.as_u64()).collect();
                fill(&ids, pods, capacity, written)
            })
        })
    }
}
