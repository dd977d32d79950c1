//! Deciding, and a request's life.

use std::ffi::c_char;
use std::time::Duration;

use kvroute_core::decision::Reason;
use kvroute_core::{Decision, Dispatch, Finish, PodId, Ticket, Workspace};

use crate::error::kvroute_error;
use crate::guard;
use crate::lookup::{KVROUTE_MAX_TIERS, by_tier};
use crate::memory::{fill_text, put};
use crate::pod::KVROUTE_NO_POD;
use crate::request::{kvroute_request, with_request};
use crate::router::kvroute_router;
use crate::status::Failure;
use crate::structs::{self, versioned};
use crate::workspace::kvroute_workspace;

/// The engine answered.
pub const KVROUTE_FINISH_COMPLETED: i32 = 0;
/// The engine did not: what was predicted to be cached by it is taken back.
pub const KVROUTE_FINISH_FAILED: i32 = 1;
/// The client went away. What was predicted stays if a first token had come.
pub const KVROUTE_FINISH_CANCELLED: i32 = 2;

/// The pod was taken because the picker picked it.
pub const KVROUTE_REASON_PICKED: i32 = 0;
/// Because the pod that the picker picked is much busier than the others.
pub const KVROUTE_REASON_SPILLED: i32 = 1;
/// Because it is new, and no pod has much of the prompt.
pub const KVROUTE_REASON_WARM_UP: i32 = 2;

/// The engine's count of cached tokens is not known.
pub const KVROUTE_CACHED_UNKNOWN: i64 = -1;

/// Where a request should go; of a dispatch, also how it went.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_decision {
    /// `sizeof(kvroute_decision)`.
    pub struct_size: usize,
    /// The pod that answers.
    pub pod: u64,
    /// Its weighted sum of scores.
    pub total: f64,
    /// Leading blocks it is expected to take from its cache, by tier.
    pub matched_blocks: [u32; KVROUTE_MAX_TIERS],
    /// Tokens in those blocks.
    pub matched_tokens: u64,
    /// Tokens it has to compute, as well as can be told.
    pub uncached_tokens: u64,
    /// How many pods were considered.
    pub candidates: u64,
    /// The pod that computes the prompt first, or `KVROUTE_NO_POD`.
    pub prefill_pod: u64,
    /// Its weighted sum of scores.
    pub prefill_total: f64,
    /// Leading blocks it is expected to take from its cache, by tier.
    pub prefill_matched_blocks: [u32; KVROUTE_MAX_TIERS],
    /// Tokens in those blocks.
    pub prefill_matched_tokens: u64,
    /// Tokens it has to compute, as well as can be told.
    pub prefill_uncached_tokens: u64,
    /// Dispatch: names the request in `kvroute_router_first_token` and `kvroute_router_finish`. 0: it is not tracked.
    pub ticket: u64,
    /// Dispatch: how often it was decided again because somebody else booked the same pod meanwhile.
    pub retries: u32,
    /// Dispatch: 1 if somebody still did at the last try, and it was booked all the same.
    pub contended: u32,
    /// Why `pod`: `KVROUTE_REASON_...`.
    pub reason: i32,
    /// Why `prefill_pod`, if there is one.
    pub prefill_reason: i32,
    /// How many next best pods `kvroute_workspace_fallbacks` has for it: as many as its profile asks for, and as there
    /// are.
    pub fallbacks_len: u64,
}

versioned!(kvroute_decision up to contended);

/// How a request ended, by its number.
pub(crate) fn finish_of(outcome: i32) -> Result<Finish, Failure> {
    match outcome {
        KVROUTE_FINISH_COMPLETED => Ok(Finish::Completed),
        KVROUTE_FINISH_FAILED => Ok(Finish::Failed),
        KVROUTE_FINISH_CANCELLED => Ok(Finish::Cancelled),
        other => Err(Failure::invalid(format!("outcome is {other}, which is none"))),
    }
}

/// An engine's own count, if it is known.
pub(crate) fn cached_of(engine_cached_tokens: i64) -> Result<Option<usize>, Failure> {
    match engine_cached_tokens {
        KVROUTE_CACHED_UNKNOWN => Ok(None),
        count => usize::try_from(count)
            .map(Some)
            .map_err(|_| Failure::invalid(format!("engine_cached_tokens is {count}; -1 is unknown"))),
    }
}

fn reason_of(reason: Reason) -> i32 {
    match reason {
        Reason::Spilled => KVROUTE_REASON_SPILLED,
        Reason::WarmUp => KVROUTE_REASON_WARM_UP,
        _ => KVROUTE_REASON_PICKED,
    }
}

fn decision_of(decision: &Decision, workspace: &Workspace) -> kvroute_decision {
    let prefill = decision.prefill;
    kvroute_decision {
        struct_size: 0,
        pod: decision.pod.as_u64(),
        total: decision.total,
        matched_blocks: by_tier(decision.matched),
        matched_tokens: decision.matched_tokens as u64,
        uncached_tokens: decision.uncached_tokens as u64,
        candidates: decision.candidates as u64,
        prefill_pod: prefill.map_or(KVROUTE_NO_POD, |prefill| prefill.pod.as_u64()),
        prefill_total: prefill.map_or(0.0, |prefill| prefill.total),
        prefill_matched_blocks: prefill.map_or([0; KVROUTE_MAX_TIERS], |prefill| by_tier(prefill.matched)),
        prefill_matched_tokens: prefill.map_or(0, |prefill| prefill.matched_tokens as u64),
        prefill_uncached_tokens: prefill.map_or(0, |prefill| prefill.uncached_tokens as u64),
        ticket: Ticket::UNTRACKED.as_u64(),
        retries: 0,
        contended: 0,
        reason: reason_of(decision.reason),
        prefill_reason: prefill.map_or(KVROUTE_REASON_PICKED, |prefill| reason_of(prefill.reason)),
        fallbacks_len: workspace.fallbacks().len() as u64,
    }
}

fn dispatch_of(dispatch: &Dispatch, workspace: &Workspace) -> kvroute_decision {
    kvroute_decision {
        ticket: dispatch.ticket.as_u64(),
        retries: dispatch.retries,
        contended: u32::from(dispatch.contended),
        ..decision_of(&dispatch.decision, workspace)
    }
}

/// Chooses a pod, or two, for a request. Changes nothing but `workspace` and `*decision`. `now_ns`: see "Time".
///
/// Errors: `KVROUTE_NO_CANDIDATE` if there is no pod or the filters drop every one; `KVROUTE_INVALID_INPUT` if the
/// request contradicts itself, can be hashed for no domain, or a score column is not as it should be;
/// `KVROUTE_LIMIT` for a prompt of more than 268 435 456 tokens; `KVROUTE_BUSY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_decide(
    router: *const kvroute_router,
    request: *const kvroute_request,
    now_ns: u64,
    workspace: *mut kvroute_workspace,
    decision: *mut kvroute_decision,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::reading(router, error, |router| {
            structs::check_place(decision)?;
            with_request(request, workspace, |request, workspace| {
                let made = router.decide(request, Duration::from_nanos(now_ns), workspace)?;
                structs::write(decision, &decision_of(&made, workspace))
            })
        })
    }
}

/// Decides and books: until its first token the request counts as prefill work of the pod that computes its prompt,
/// until its end as a request of the pod that answers it; its blocks are predicted to be in those pods' caches; its
/// session is at home there. If others booked the same pods meanwhile it is decided again, three times at most.
///
/// Errors: those of `kvroute_router_decide`; then nothing is booked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_dispatch(
    router: *const kvroute_router,
    request: *const kvroute_request,
    now_ns: u64,
    workspace: *mut kvroute_workspace,
    decision: *mut kvroute_decision,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::writing(router, error, |router| {
            structs::check_place(decision)?;
            with_request(request, workspace, |request, workspace| {
                let made = router.dispatch(request, Duration::from_nanos(now_ns), workspace)?;
                structs::write(decision, &dispatch_of(&made, workspace))
            })
        })
    }
}

/// Says that a dispatched request's first token came: its prompt is computed. `known`, which may be NULL, is set to
/// whether such a request was in flight and this was its first such call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_first_token(
    router: *const kvroute_router,
    ticket: u64,
    known: *mut bool,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            let was_known = router.first_token(Ticket::from_u64(ticket));
            if known.is_null() { Ok(()) } else { put("known", known, was_known) }
        })
    }
}

/// Ends a dispatched request, as `KVROUTE_FINISH_...` says. `engine_cached_tokens` is the engine's own count for it,
/// which checks what this router believes, or `KVROUTE_CACHED_UNKNOWN`. `known`, which may be NULL, is set to whether
/// such a request was in flight; a second call does nothing.
///
/// Errors: `KVROUTE_INVALID_INPUT` for another outcome or a count below -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_finish(
    router: *const kvroute_router,
    ticket: u64,
    outcome: i32,
    engine_cached_tokens: i64,
    known: *mut bool,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            let (how, cached) = (finish_of(outcome)?, cached_of(engine_cached_tokens)?);
            let was_known = router.finish(Ticket::from_u64(ticket), how, cached);
            if known.is_null() { Ok(()) } else { put("known", known, was_known) }
        })
    }
}

/// Writes a token for the client to send with its next request, so that it comes back to a decision's pods, with a
/// NUL behind it, into `buffer`; `prefill_pod` may be `KVROUTE_NO_POD`, and one that is gone
/// is left out. `now_ns`: nanoseconds since the Unix epoch,
/// if routers share the key.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_INVALID_INPUT` if the router has no session key; `KVROUTE_LIMIT` if the
/// token could not be sealed; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_session_token(
    router: *const kvroute_router,
    pod: u64,
    prefill_pod: u64,
    now_ns: u64,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            let prefill = (prefill_pod != KVROUTE_NO_POD).then_some(PodId::from_u64(prefill_pod));
            let token = router.session_token(PodId::from_u64(pod), prefill, Duration::from_nanos(now_ns))?;
            fill_text(&token, buffer, capacity, written)
        })
    }
}
