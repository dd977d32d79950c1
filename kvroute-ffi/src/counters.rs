//! Counters, as numbers.

use kvroute_core::PodId;
use kvroute_core::index::{IgnoreReason, TrustLevel};

use crate::error::kvroute_error;
use crate::guard;
use crate::router::kvroute_router;
use crate::structs::{self, versioned};

/// Nothing is known of the pod's cache that could be credited.
pub const KVROUTE_TRUST_LOAD_ONLY: i32 = 0;
/// No event came from the pod so far, or its engine keeps having less than its events said.
pub const KVROUTE_TRUST_APPROXIMATE: i32 = 1;
/// Something was lost or left out: matches may be too short.
pub const KVROUTE_TRUST_DEGRADED: i32 = 2;
/// Every event since the engine's start was applied.
pub const KVROUTE_TRUST_EXACT: i32 = 3;

/// Room for reasons in `kvroute_pod_counters`.
pub const KVROUTE_MAX_IGNORE_REASONS: usize = 32;

/// What a router has, and what befell it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_router_counters {
    /// `sizeof(kvroute_router_counters)`.
    pub struct_size: usize,
    /// Requests in flight.
    pub in_flight: u64,
    /// Sessions remembered by id.
    pub sessions: u64,
    /// Requests forgotten because their time was over.
    pub expired: u64,
    /// Requests that were not tracked because too many were in flight.
    pub untracked: u64,
    /// Distinct blocks in the index.
    pub blocks: u64,
    /// Bytes of blocks and their holders.
    pub bytes: u64,
    /// Bytes of the pods' views.
    pub view_bytes: u64,
}

versioned!(kvroute_router_counters up to view_bytes);

/// What befell a pod's stream of events, and what this router has on it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_pod_counters {
    /// `sizeof(kvroute_pod_counters)`.
    pub struct_size: usize,
    /// How far its view is to be believed: `KVROUTE_TRUST_...`.
    pub trust: i32,
    /// 1 if it takes new requests.
    pub accepting: i32,
    /// Batches judged.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Blocks stored, further copies included.
    pub blocks_stored: u64,
    /// Blocks removed, copies and clears included.
    pub blocks_removed: u64,
    /// Blocks of stores that were left out.
    pub blocks_refused: u64,
    /// Removals of blocks it was not known to hold.
    pub unknown_removals: u64,
    /// Events whose blocks were parked.
    pub parked: u64,
    /// Blocks that wait for their parent now.
    pub parked_blocks: u64,
    /// Times the whole view was dropped.
    pub clears: u64,
    /// Times batches were found missing.
    pub gaps: u64,
    /// Engine restarts noticed.
    pub restarts: u64,
    /// Batches answered with `KVROUTE_OUTCOME_NEEDS_RESYNC`.
    pub resyncs: u64,
    /// Requests whose engine had exactly what was expected.
    pub agreed: u64,
    /// Requests whose engine had less.
    pub overestimated: u64,
    /// Requests whose engine had more.
    pub underestimated: u64,
    /// Requests that this router has in flight there.
    pub booked_requests: u64,
    /// Tokens of their prompts that are still to be computed.
    pub booked_prefill_tokens: u64,
    /// Blocks that this router sent there and remembers.
    pub predicted_blocks: u64,
    /// Events and batches left out, by `KVROUTE_IGNORED_...`.
    pub ignored: [u64; KVROUTE_MAX_IGNORE_REASONS],
}

versioned!(kvroute_pod_counters up to ignored);

const _: () = assert!(
    TrustLevel::LoadOnly as i32 == KVROUTE_TRUST_LOAD_ONLY && TrustLevel::Exact as i32 == KVROUTE_TRUST_EXACT
);
const _: () = assert!(IgnoreReason::ALL.len() <= KVROUTE_MAX_IGNORE_REASONS);

/// Fills `*counters` in for the whole router.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_read_counters(
    router: *const kvroute_router,
    counters: *mut kvroute_router_counters,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            let (own, index) = (router.counters(), router.index());
            let filled = kvroute_router_counters {
                struct_size: 0,
                in_flight: own.in_flight as u64,
                sessions: own.sessions as u64,
                expired: own.expired,
                untracked: own.untracked,
                blocks: index.blocks() as u64,
                bytes: index.bytes() as u64,
                view_bytes: index.view_bytes() as u64,
            };
            structs::write(counters, &filled)
        })
    }
}

/// Fills `*counters` in for one pod.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_read_pod_counters(
    router: *const kvroute_router,
    pod: u64,
    counters: *mut kvroute_pod_counters,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            let (id, index) = (PodId::from_u64(pod), router.index());
            let pod = router.pod_by_id(id)?;
            let (stream, audit, booked) = (index.counters(id)?, pod.audit(), pod.bookings());
            let mut ignored = [0; KVROUTE_MAX_IGNORE_REASONS];
            ignored[..stream.ignored.len()].copy_from_slice(&stream.ignored);
            let filled = kvroute_pod_counters {
                struct_size: 0,
                trust: pod.trust() as i32,
                accepting: i32::from(pod.is_accepting()),
                batches: stream.batches,
                events: stream.events,
                blocks_stored: stream.blocks_stored,
                blocks_removed: stream.blocks_removed,
                blocks_refused: stream.blocks_refused,
                unknown_removals: stream.unknown_removals,
                parked: stream.parked,
                parked_blocks: index.parked_blocks(id)? as u64,
                clears: stream.clears,
                gaps: stream.gaps,
                restarts: stream.restarts,
                resyncs: stream.resyncs,
                agreed: audit.agreed,
                overestimated: audit.overestimated,
                underestimated: audit.underestimated,
                booked_requests: u64::from(booked.requests),
                booked_prefill_tokens: booked.prefill_tokens,
                predicted_blocks: index.predicted(id)?.blocks as u64,
                ignored,
            };
            structs::write(counters, &filled)
        })
    }
}
