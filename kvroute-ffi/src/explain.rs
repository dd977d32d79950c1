//! Why a decision came out as it did.

use std::ffi::c_char;

use crate::error::kvroute_error;
use crate::guard;
use crate::memory::fill_text;
use crate::router::{json, kvroute_router};
use crate::status::Failure;
use crate::workspace::{self, kvroute_workspace};

/// An explanation as JSON.
pub const KVROUTE_EXPLAIN_JSON: i32 = 0;
/// An explanation as text, a line a pod.
pub const KVROUTE_EXPLAIN_TEXT: i32 = 1;

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
