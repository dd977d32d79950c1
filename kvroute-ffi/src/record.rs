//! The decision log: what was decided, by what, and what came of it, as JSON lines.

use std::ffi::c_char;
use std::time::Duration;

use kvroute_core::Ticket;
use kvroute_core::record::{DecisionRecord, LogLine, OutcomeRecord, RecordOptions};
use kvroute_core::router::{Replay, Replayed};
use serde::Serialize;

use crate::decide::{cached_of, finish_of, kvroute_decision};
use crate::error::kvroute_error;
use crate::guard;
use crate::memory::{fill_text, text};
use crate::options::config;
use crate::request::{kvroute_request, with_request};
use crate::router::{json, kvroute_router};
use crate::status::Failure;
use crate::structs;
use crate::workspace::kvroute_workspace;

/// The prompt is in the line too: its token ids, or its text in base64.
pub const KVROUTE_RECORD_PROMPT: u32 = 1;

/// Writes the line of a decision log, a JSON object with a NUL behind it and no line's end, about the last decision
/// that `router` made with `workspace`, into `buffer`. `request` is what it was about. `dispatch` is what
/// kvroute_router_dispatch answered; NULL if it was only decided, or no pod was left. `flags`: 0, or
/// KVROUTE_RECORD_PROMPT. If the workspace's last decision was another router's, or failed before pods were chosen
/// among, the line is empty.
///
/// A line has no cache salt, no session token and, without that flag, nothing of the prompt; names of pods, models and
/// adapters are as they are. `kvroute_log_schema` describes it.
///
/// Errors: those of `kvroute_router_decide` about the request; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_router_record(
    router: *const kvroute_router,
    request: *const kvroute_request,
    workspace: *mut kvroute_workspace,
    dispatch: *const kvroute_decision,
    flags: u32,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract, for this and all that it points to.
    unsafe {
        guard::reading(router, error, |router| {
            if flags & !KVROUTE_RECORD_PROMPT != 0 {
                return Err(Failure::invalid(format!(
                    "flags are {flags:#x}; KVROUTE_RECORD_PROMPT is known"
                )));
            }
            let options = RecordOptions { prompt: flags & KVROUTE_RECORD_PROMPT != 0 };
            let dispatch = if dispatch.is_null() { None } else { Some(structs::read(dispatch)?) };
            with_request(request, workspace, |request, workspace| {
                let record = router.record(request, workspace, None, options).map(|mut record| {
                    if let Some(dispatch) = dispatch {
                        record.ticket = Some(dispatch.ticket);
                        record.retries = dispatch.retries;
                        record.contended = dispatch.contended != 0;
                    }
                    record.to_json()
                });
                fill_text(&record.unwrap_or_default(), buffer, capacity, written)
            })
        })
    }
}

/// Writes the line of a decision log about a request's end, as kvroute_router_finish is told of it, with a NUL behind
/// it and no line's end, into `buffer`. `now_ns`: see "Time".
///
/// Errors: those of `kvroute_router_finish`; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_log_outcome(
    ticket: u64,
    outcome: i32,
    engine_cached_tokens: i64,
    now_ns: u64,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let (how, cached) = (finish_of(outcome)?, cached_of(engine_cached_tokens)?);
            let now = Duration::from_nanos(now_ns);
            let record = OutcomeRecord::new(Ticket::from_u64(ticket), how, cached, now);
            fill_text(&record.to_json(), buffer, capacity, written)
        })
    }
}

/// Makes the decision of a log's line again, by the policy of a configuration document, YAML or JSON. Writes what it
/// makes of it, a JSON object with a NUL behind it, into `buffer`: `decode` and, where a pod to prefill was looked for,
/// `prefill`, which are as in the line; and `as_recorded`, whether they are those of the line, bit for bit. By the
/// policy that the line is of, they are.
///
/// Another policy chooses among the same pods, as they were; in a large fleet it might have looked at others of them.
///
/// Errors: `KVROUTE_DECODE` if the line is none, or one of another version; `KVROUTE_INVALID_INPUT` if it is about a
/// request's end or contradicts itself, and those of kvroute_router_set_policy; `KVROUTE_NO_CANDIDATE` if none of the
/// pods on record will do; `KVROUTE_BUFFER_TOO_SMALL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_log_replay(
    line: *const c_char,
    line_len: usize,
    document: *const c_char,
    document_len: usize,
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || {
            let LogLine::Decision(record) = LogLine::parse(text("line", line, line_len)?)? else {
                return Err(Failure::invalid("this line is about a request's end, not a decision"));
            };
            let policy = config(document, document_len)?.policy()?;
            let mut replay = Replay::new(&record)?;
            let replayed = replay.choose(&policy)?;
            fill_text(&json(&Again::new(&record, replayed))?, buffer, capacity, written)
        })
    }
}

/// Writes the JSON Schema of a decision log's lines, with a NUL behind it, into `buffer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvroute_log_schema(
    buffer: *mut c_char,
    capacity: usize,
    written: *mut usize,
    error: *mut kvroute_error,
) -> i32 {
    // SAFETY: the header's contract.
    unsafe {
        guard::status(error, || fill_text(&LogLine::json_schema().to_string(), buffer, capacity, written))
    }
}

/// What a policy makes of a line.
#[derive(Serialize)]
struct Again<'a> {
    as_recorded: bool,
    #[serde(flatten)]
    replayed: Replayed<'a>,
}

impl<'a> Again<'a> {
    fn new(record: &DecisionRecord<'_>, replayed: Replayed<'a>) -> Self {
        Self { as_recorded: replayed.is_as_recorded(record), replayed }
    }
}
