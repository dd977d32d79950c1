//! Applying what engines say, and what became of it.

use std::ffi::c_char;

use kvroute_core::PodId;
use kvroute_core::event::EventBatch;
use kvroute_core::index::{ApplyReport, IgnoreReason, Outcome, ResyncReason};

use crate::error::kvroute_error;
use crate::event::{kvroute_kv_event, typed};
use crate::guard;
use crate::memory::{array, text};
use crate::router::kvroute_router;
use crate::status::Failure;
use crate::structs::{self, versioned};

/// The index shows it.
pub const KVROUTE_OUTCOME_APPLIED: i32 = 0;
/// Blocks wait for their parent.
pub const KVROUTE_OUTCOME_PARKED: i32 = 1;
/// Some or all of it was left out; `reason` is a `KVROUTE_IGNORED_...`.
pub const KVROUTE_OUTCOME_IGNORED: i32 = 2;
/// Batches are needed that were not there; `reason` is a `KVROUTE_RESYNC_...`.
pub const KVROUTE_OUTCOME_NEEDS_RESYNC: i32 = 3;

/// The batch was applied before, byte for byte.
pub const KVROUTE_IGNORED_DUPLICATE: i32 = 0;
/// The batch belongs to another data-parallel rank than the pod.
pub const KVROUTE_IGNORED_OTHER_RANK: i32 = 1;
/// An event with a tag no known engine sends.
pub const KVROUTE_IGNORED_UNKNOWN_TAG: i32 = 2;
/// An event with a missing or malformed field.
pub const KVROUTE_IGNORED_MALFORMED: i32 = 3;
/// An announcement that is not about whole blocks of token ids.
pub const KVROUTE_IGNORED_NOT_A_BLOCK: i32 = 4;
/// A store into a tier that is not known.
pub const KVROUTE_IGNORED_UNKNOWN_TIER: i32 = 5;
/// A block whose place is not known, or a removal of one the pod does not hold.
pub const KVROUTE_IGNORED_UNKNOWN_BLOCK: i32 = 6;
/// Masked blocks were left out and the rest cannot be placed.
pub const KVROUTE_IGNORED_SPARSE: i32 = 7;
/// A block size other than the cache domain's.
pub const KVROUTE_IGNORED_BLOCK_SIZE: i32 = 8;
/// EAGLE pairs in place of token ids.
pub const KVROUTE_IGNORED_BIGRAMS: i32 = 9;
/// A LoRA adapter named by a number that the pod's options do not list.
pub const KVROUTE_IGNORED_UNKNOWN_ADAPTER: i32 = 10;
/// The index is at its memory bound.
pub const KVROUTE_IGNORED_MEMORY: i32 = 11;
/// The place for blocks that wait for their parent is full.
pub const KVROUTE_IGNORED_PARKED_FULL: i32 = 12;
/// A name was announced for another block than the one the pod holds under it.
pub const KVROUTE_IGNORED_CONTRADICTION: i32 = 13;
/// The pod named more KV-cache groups than any engine has.
pub const KVROUTE_IGNORED_TOO_MANY_GROUPS: i32 = 14;

/// Replay batches from `replay_from` on, or call `kvroute_router_abandon_gap`.
pub const KVROUTE_RESYNC_GAP: i32 = 0;
/// The engine restarted and its first batches were missed. Replay from 0 if that can be done.
pub const KVROUTE_RESYNC_RESTARTED: i32 = 1;
/// The batch could not be read at all, so the pod's view was dropped; it heals as blocks are announced again, and
/// nothing is to be done.
pub const KVROUTE_RESYNC_UNDECODABLE: i32 = 2;

/// What became of one batch.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_apply_report {
    /// `sizeof(kvroute_apply_report)`.
    pub struct_size: usize,
    /// The gravest outcome of any event in it: `KVROUTE_OUTCOME_...`.
    pub outcome: i32,
    /// Why: `KVROUTE_IGNORED_...` or `KVROUTE_RESYNC_...`, as the outcome says, or -1 for a reason that this header
    /// does not name; else 0.
    pub reason: i32,
    /// `KVROUTE_RESYNC_GAP`: the first sequence number to replay.
    pub replay_from: u64,
    /// Events that were applied, parked or ignored.
    pub events: u64,
    /// Blocks stored, further copies included.
    pub blocks_stored: u64,
    /// Blocks removed, copies included.
    pub blocks_removed: u64,
    /// Events that could not be read.
    pub skipped: u64,
    /// What was found where something could not be read; ends in a NUL, and is cut where it is too long.
    pub detail: [c_char; 256],
}

versioned!(kvroute_apply_report up to detail);

fn report_of(report: &ApplyReport) -> kvroute_apply_report {
    let (outcome, reason, replay_from) = match report.outcome {
        Outcome::Applied => (KVROUTE_OUTCOME_APPLIED, 0, 0),
        Outcome::Parked => (KVROUTE_OUTCOME_PARKED, 0, 0),
        Outcome::Ignored(reason) => (KVROUTE_OUTCOME_IGNORED, reason_number(reason), 0),
        Outcome::NeedsResync(reason) => match reason {
            ResyncReason::Gap { replay_from } => {
                (KVROUTE_OUTCOME_NEEDS_RESYNC, KVROUTE_RESYNC_GAP, replay_from)
            }
            ResyncReason::Restarted => (KVROUTE_OUTCOME_NEEDS_RESYNC, KVROUTE_RESYNC_RESTARTED, 0),
            ResyncReason::Undecodable => (KVROUTE_OUTCOME_NEEDS_RESYNC, KVROUTE_RESYNC_UNDECODABLE, 0),
            _ => (KVROUTE_OUTCOME_NEEDS_RESYNC, -1, 0),
        },
        _ => (KVROUTE_OUTCOME_IGNORED, -1, 0),
    };
    let mut detail = [0; 256];
    let message = report.error.as_ref().map(ToString::to_string);
    let message = message.or_else(|| {
        let first = report.skipped.first()?;
        Some(format!("event {}: {}", first.position, first.detail))
    });
    if let Some(message) = message {
        let mut end = message.len().min(detail.len() - 1);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        for (to, &byte) in detail.iter_mut().zip(&message.as_bytes()[..end]) {
            *to = if byte == 0 { b' ' } else { byte } as c_char;
        }
    }
    kvroute_apply_report {
        struct_size: 0,
        outcome,
        reason,
        replay_from,
        events: report.events,
        blocks_stored: report.blocks_stored,
        blocks_removed: report.blocks_removed,
        skipped: report.skipped.len() as u64,
        detail,
    }
}

// The numbers of the header are those of the core, so that neither can change alone.
const _: () = {
    let reasons = [
        (IgnoreReason::Duplicate, KVROUTE_IGNORED_DUPLICATE),
        (IgnoreReason::OtherRank, KVROUTE_IGNORED_OTHER_RANK),
        (IgnoreReason::UnknownTag, KVROUTE_IGNORED_UNKNOWN_TAG),
        (IgnoreReason::Malformed, KVROUTE_IGNORED_MALFORMED),
        (IgnoreReason::NotABlock, KVROUTE_IGNORED_NOT_A_BLOCK),
        (IgnoreReason::UnknownTier, KVROUTE_IGNORED_UNKNOWN_TIER),
        (IgnoreReason::UnknownBlock, KVROUTE_IGNORED_UNKNOWN_BLOCK),
        (IgnoreReason::Sparse, KVROUTE_IGNORED_SPARSE),
        (IgnoreReason::BlockSize, KVROUTE_IGNORED_BLOCK_SIZE),
        (IgnoreReason::Bigrams, KVROUTE_IGNORED_BIGRAMS),
        (IgnoreReason::UnknownAdapter, KVROUTE_IGNORED_UNKNOWN_ADAPTER),
        (IgnoreReason::Memory, KVROUTE_IGNORED_MEMORY),
        (IgnoreReason::ParkedFull, KVROUTE_IGNORED_PARKED_FULL),
        (IgnoreReason::Contradiction, KVROUTE_IGNORED_CONTRADICTION),
        (IgnoreReason::TooManyGroups, KVROUTE_IGNORED_TOO_MANY_GROUPS),
    ];
    assert!(reasons.len() == IgnoreReason::ALL.len());
    let mut at = 0;
    while at < reasons.len() {
        assert!(reasons[at].0 as i32 == reasons[at].1 && IgnoreReason::ALL[at] as i32 == reasons[at].1);
        at += 1;
    }
};

/// The number of a reason.
fn reason_number(reason: IgnoreReason) -> i32 {
    reason as i32
}

/// # Safety
///
/// `report` is NULL or a `kvroute_apply_report` of the caller's.
unsafe fn check_report(report: *const kvroute_apply_report) -> Result<(), Failure> {
    // SAFETY: the caller's word.
    if report.is_null() { Ok(()) } else { unsafe { structs::check_place(report) } }
}

/// # Safety
///
/// `place` is NULL or a `kvroute_apply_report` of the caller's.
unsafe fn tell(place: *mut kvroute_apply_report, report: &ApplyReport) -> Result<(), Failure> {
    // SAFETY: the caller's word.
    if place.is_null() { Ok(()) } else { unsafe { structs::write(place, &report_of(report)) } }
}

/// Applies one published batch of a pod: the sequence number (big-endian in the second frame of vLLM's messages) and
/// the payload (the third). `report` may be NULL. What is wrong with the batch itself is in the report.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_apply(
    router: *const kvroute_router,
    pod: u64,
    sequence: u64,
    payload: *const u8,
    payload_len: usize,
    report: *mut kvroute_apply_report,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            check_report(report)?;
            let payload = array("payload", payload, payload_len)?;
            tell(report, &router.apply(PodId::from_u64(pod), sequence, payload)?)
        })
    }
}

/// Applies one published message by its topic, for subscribers that many pods publish to: `kv@<pod>@<model>`. Ranks
/// are told apart by the port. With one socket a pod, `kvroute_router_apply` is cheaper.
///
/// Errors: `KVROUTE_INVALID_INPUT` if the topic is not of that form; `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_apply_topic(
    router: *const kvroute_router,
    topic: *const c_char,
    topic_len: usize,
    dp_rank: u32,
    sequence: u64,
    payload: *const u8,
    payload_len: usize,
    report: *mut kvroute_apply_report,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            check_report(report)?;
            let topic = text("topic", topic, topic_len)?;
            let payload = array("payload", payload, payload_len)?;
            tell(report, &router.apply_topic(topic, dp_rank, sequence, payload)?)
        })
    }
}

/// Applies events of a pod that came in another way than as published batches, in order, as one batch. They have no
/// sequence number, so their completeness is the caller's word. `report` may be NULL.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_INVALID_INPUT` for a field that is not one of the values it may have, and then none was
/// applied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_apply_events(
    router: *const kvroute_router,
    pod: u64,
    events: *const kvroute_kv_event,
    events_len: usize,
    report: *mut kvroute_apply_report,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::writing(router, error, |router| {
            check_report(report)?;
            let events = structs::read_array(events, events_len)?;
            let events = events.iter().map(|event| typed(event)).collect::<Result<_, _>>()?;
            let batch = EventBatch { events, ..EventBatch::default() };
            tell(report, &router.apply_events(PodId::from_u64(pod), &batch)?)
        })
    }
}

/// Applies one poll of TensorRT-LLM's events: a JSON array of them, one, or either per line. Those of other ranks than the
/// pod's are left out and counted, and so are those of attention windows other than `window_size`, as only those of
/// the largest say what a prompt can reuse from its start; 0: any. Events lost between polls, and restarts, show in
/// the events' numbers; then the pod's view is dropped first. `report` may be NULL; it sums up all events, and its
/// outcome is the gravest of them.
///
/// Errors: `KVROUTE_UNKNOWN_POD`; `KVROUTE_DECODE` if nothing in it is JSON.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_apply_trtllm(
    router: *const kvroute_router,
    pod: u64,
    json: *const u8,
    json_len: usize,
    window_size: u64,
    report: *mut kvroute_apply_report,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            check_report(report)?;
            let json = array("json", json, json_len)?;
            let window_size = (window_size != 0).then_some(window_size);
            tell(report, &router.apply_trtllm(PodId::from_u64(pod), json, window_size)?)
        })
    }
}

/// Gives up on missing batches of a pod: drops its view and expects `sequence` next.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_abandon_gap(
    router: *const kvroute_router,
    pod: u64,
    sequence: u64,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| {
            Ok(router.index().abandon_gap(PodId::from_u64(pod), sequence)?)
        })
    }
}

/// Forgets what this router sent to a pod: its engine restarted, and no event says so.
///
/// Errors: `KVROUTE_UNKNOWN_POD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_forget_predictions(
    router: *const kvroute_router,
    pod: u64,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::writing(router, error, |router| Ok(router.index().forget_predictions(PodId::from_u64(pod))?))
    }
}
