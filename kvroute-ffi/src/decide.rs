//! Looking up, deciding, and a request's life.

use std::ffi::c_char;
use std::time::Duration;

use kvroute_core::index::{PodMatch, TierBlocks};
use kvroute_core::{
    BlockHash, Decision, Dispatch, Finish, PodId, Prompt, Request, ScoreColumn, Session, Ticket, Tier,
};

use crate::context::kvroute_hash_context;
use crate::domain::kvroute_domain;
use crate::error::kvroute_error;
use crate::memory::{array, fill, fill_text, kvroute_bytes, kvroute_str, put, wanted};
use crate::pod::KVROUTE_NO_POD;
use crate::router::{json, kvroute_router};
use crate::status::Failure;
use crate::structs::{self, versioned};
use crate::workspace::{self, kvroute_workspace};
use crate::{guard, handle};

/// Room for tiers: those that `KVROUTE_TIER_...` does not name yet are 0.
pub const KVROUTE_MAX_TIERS: usize = 8;

/// Most score columns of one request.
pub const KVROUTE_MAX_SCORE_COLUMNS: usize = 16;

/// The engine answered.
pub const KVROUTE_FINISH_COMPLETED: i32 = 0;
/// The engine did not: what was predicted to be cached by it is taken back.
pub const KVROUTE_FINISH_FAILED: i32 = 1;
/// The client went away. What was predicted stays if a first token had come.
pub const KVROUTE_FINISH_CANCELLED: i32 = 2;

/// The engine's count of cached tokens is not known.
pub const KVROUTE_CACHED_UNKNOWN: i64 = -1;

/// An explanation as JSON.
pub const KVROUTE_EXPLAIN_JSON: i32 = 0;
/// An explanation as text, a line a pod.
pub const KVROUTE_EXPLAIN_TEXT: i32 = 1;

/// What an external scorer says of the pods; every profile that has one of the name reads it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_score_column {
    /// Name of the scorer, one of `external` in the configuration.
    pub scorer: kvroute_str,
    /// The pods it is about. Those that are gone are passed over, those left out score 0, and of one that is there
    /// twice the last score counts.
    pub pods: *const u64,
    /// Their scores, 0 to 1; `[len]`.
    pub values: *const f64,
    /// How many.
    pub len: usize,
}

/// A request to be routed. All zero but `struct_size`: an empty prompt.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_request {
    /// `sizeof(kvroute_request)`.
    pub struct_size: usize,
    /// The prompt's token ids.
    pub token_ids: *const u32,
    /// How many.
    pub token_ids_len: usize,
    /// The prompt's text, where nobody tokenized it; then no `token_ids`. Any bytes will do.
    pub text: kvroute_bytes,
    /// What else decides whether KV can be shared; may be NULL.
    pub context: *const kvroute_hash_context,
    /// The served model it asks for; empty is content with any.
    pub model: kvroute_str,
    /// The conversation it belongs to, by an id of the client's choice; empty for none.
    pub session_id: kvroute_str,
    /// The same by a token of `kvroute_router_session_token`; then no `session_id`.
    pub session_token: kvroute_str,
    /// What external scorers say of the pods; at most `KVROUTE_MAX_SCORE_COLUMNS`.
    pub scores: *const kvroute_score_column,
    /// How many.
    pub scores_len: usize,
    /// Distinguishes requests where a choice is otherwise even, if `has_nonce` is not 0.
    pub nonce: u64,
    /// See `nonce`.
    pub has_nonce: i32,
    /// Room; 0.
    pub reserved: u32,
}

versioned!(kvroute_request up to reserved);

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
}

versioned!(kvroute_decision up to contended);

/// What one pod has of a query.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_pod_match {
    /// The pod.
    pub pod: u64,
    /// Leading blocks it can use, by tier.
    pub blocks: [u32; KVROUTE_MAX_TIERS],
    /// Leading blocks that this router sent to it.
    pub predicted: u32,
    /// Room; 0.
    pub reserved: u32,
}

fn by_tier(blocks: TierBlocks) -> [u32; KVROUTE_MAX_TIERS] {
    let mut by_tier = [0; KVROUTE_MAX_TIERS];
    for (to, tier) in by_tier.iter_mut().zip(Tier::ALL) {
        *to = blocks.in_tier(tier);
    }
    by_tier
}

fn decision_of(decision: &Decision) -> kvroute_decision {
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
    }
}

fn dispatch_of(dispatch: &Dispatch) -> kvroute_decision {
    kvroute_decision {
        ticket: dispatch.ticket.as_u64(),
        retries: dispatch.retries,
        contended: u32::from(dispatch.contended),
        ..decision_of(&dispatch.decision)
    }
}

/// Calls `act` with the request at `place`, whose context is kept in `scratch`.
///
/// # Safety
///
/// `place` is NULL or a `kvroute_request` of the caller's with what it points to; `workspace` is NULL or a live
/// handle.
unsafe fn with_request<R>(
    place: *const kvroute_request,
    workspace: *const kvroute_workspace,
    act: impl FnOnce(&Request<'_>, &mut kvroute_core::Workspace) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's word, for this and all that it points to.
    unsafe {
        workspace::with(workspace, |scratch| {
            let raw = structs::read(place)?;
            if raw.reserved != 0 {
                return Err(Failure::invalid("request.reserved is not 0"));
            }
            let text = raw.text.get("request.text")?;
            let token_ids = array("request.token_ids", raw.token_ids, raw.token_ids_len)?;
            let prompt = match (token_ids, text) {
                (token_ids, []) => Prompt::TokenIds(token_ids),
                ([], text) => Prompt::Text(text),
                _ => return Err(Failure::invalid("request: token_ids and text; one of them is the prompt")),
            };
            let id = raw.session_id.non_empty("request.session_id")?;
            let token = raw.session_token.non_empty("request.session_token")?;
            let session = match (id, token) {
                (Some(_), Some(_)) => {
                    return Err(Failure::invalid("request: session_id and session_token; one of them"));
                }
                (id, token) => id.map(Session::Id).or(token.map(Session::Token)),
            };
            let columns = array("request.scores", raw.scores, raw.scores_len)?;
            const NONE: ScoreColumn<'static> = ScoreColumn { scorer: "", pods: &[], values: &[] };
            // Most requests have none, and pay for none.
            let (mut some, mut none) = (None, []);
            let scores: &mut [ScoreColumn<'_>] =
                if columns.is_empty() { &mut none } else { some.insert([NONE; KVROUTE_MAX_SCORE_COLUMNS]) };
            if columns.len() > scores.len() {
                let (given, most) = (columns.len(), scores.len());
                return Err(Failure::invalid(format!("request: {given} score columns; at most {most}")));
            }
            for (to, column) in scores.iter_mut().zip(columns) {
                *to = ScoreColumn {
                    scorer: column.scorer.get("request.scores.scorer")?,
                    // A `PodId` is a number in memory, and any number is one.
                    pods: array("request.scores.pods", column.pods.cast::<PodId>(), column.len)?,
                    values: array("request.scores.values", column.values, column.len)?,
                };
            }
            let request = Request {
                prompt,
                context: scratch.context.fill(raw.context)?,
                model: raw.model.non_empty("request.model")?,
                session,
                scores: scores.get(..columns.len()).unwrap_or_default(),
                nonce: (raw.has_nonce != 0).then_some(raw.nonce),
            };
            act(&request, &mut scratch.workspace)
        })
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
                structs::write(decision, &decision_of(&made))
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
                structs::write(decision, &dispatch_of(&made))
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
            let how = match outcome {
                KVROUTE_FINISH_COMPLETED => Finish::Completed,
                KVROUTE_FINISH_FAILED => Finish::Failed,
                KVROUTE_FINISH_CANCELLED => Finish::Cancelled,
                other => return Err(Failure::invalid(format!("outcome is {other}, which is none"))),
            };
            let cached = match engine_cached_tokens {
                KVROUTE_CACHED_UNKNOWN => None,
                count => Some(usize::try_from(count).map_err(|_| {
                    Failure::invalid(format!("engine_cached_tokens is {count}; -1 is unknown"))
                })?),
            };
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

/// Explains the last decision that `router` made with `workspace`: every pod with what was known of it, each scorer's
/// part, what dropped it, and why nothing is matched where nothing is. As `KVROUTE_EXPLAIN_...` says, with a NUL
/// behind it, into `buffer`. If the workspace's last decision was another router's, or failed before pods were looked
/// at, there are no pods in it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_explain(
    router: *const kvroute_router,
    workspace: *mut kvroute_workspace,
    format: i32,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            let explanation = workspace::with(workspace, |scratch| Ok(router.explain(&scratch.workspace)))?;
            let explanation = match format {
                KVROUTE_EXPLAIN_JSON => json(&explanation)?,
                KVROUTE_EXPLAIN_TEXT => explanation.to_string(),
                other => return Err(Failure::invalid(format!("format is {other}, which is none"))),
            };
            fill_text(&explanation, buffer, capacity, written)
        })
    }
}

/// Looks up what every pod of `domain` has of the blocks `hashes: [n]`, cut by the caller where an engine would cut
/// them (`kvroute_domain_searchable_blocks`). Writes the pods that have any into `matches: [*written]`, in order of
/// their ids.
///
/// Errors: `KVROUTE_BUSY`; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_lookup(
    router: *const kvroute_router,
    domain: *const kvroute_domain,
    hashes: *const u64,
    hashes_len: usize,
    workspace: *mut kvroute_workspace,
    matches: *mut kvroute_pod_match,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::reading(router, error, |router| {
            wanted("written", written)?;
            let domain = handle::get(domain)?;
            // A `BlockHash` is a number in memory, and any number is one.
            let hashes = array("hashes", hashes.cast::<BlockHash>(), hashes_len)?;
            workspace::with(workspace, |scratch| {
                router.index().lookup(domain, hashes, &mut scratch.table);
                let found = scratch.table.matches().iter().map(|found: &PodMatch| kvroute_pod_match {
                    pod: found.pod.as_u64(),
                    blocks: by_tier(found.blocks),
                    predicted: found.predicted,
                    reserved: 0,
                });
                scratch.found.clear();
                scratch.found.extend(found);
                scratch.found.sort_unstable_by_key(|found| found.pod);
                fill(&scratch.found, matches, capacity, written)
            })
        })
    }
}
