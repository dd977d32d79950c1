//! Requests to be routed.

use kvroute_core::{KnownPrefix, PodId, Prompt, Request, ScoreColumn, Session, Tier, Workspace};

use crate::context::kvroute_hash_context;
use crate::memory::{array, kvroute_bytes, kvroute_str};
use crate::status::Failure;
use crate::structs::{self, versioned};
use crate::workspace::{self, kvroute_workspace};

/// Most score columns of one request.
pub const KVROUTE_MAX_SCORE_COLUMNS: usize = 16;

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

/// What is known from elsewhere of a pod's cache: that the pod has the first `blocks` blocks of the prompt, in `tier` or
/// nearer. It is hearsay: it adds to what the pod's own events tell, and is believed like a degraded view.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvroute_known_prefix {
    /// The pod. One that is gone is passed over.
    pub pod: u64,
    /// The farthest tier that any of them lies in: `KVROUTE_TIER_...`. Several about one pod may each name a tier.
    pub tier: i32,
    /// Leading blocks of the prompt, as the pod's cache domain hashes it.
    pub blocks: u32,
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
    /// Not 0: it may only go to the pods that `subset` names.
    pub has_subset: i32,
    /// Names of the pods it may go to, all ranks of each, if `has_subset` is not 0; none is no pod.
    pub subset: *const kvroute_str,
    /// How many.
    pub subset_len: usize,
    /// What pods are said to hold of the prompt, by others than their events; of token ids only.
    pub known: *const kvroute_known_prefix,
    /// How many.
    pub known_len: usize,
}

versioned!(kvroute_request up to has_subset);

/// Calls `act` with the request at `place`, whose context is kept in `scratch`.
///
/// # Safety
///
/// `place` is NULL or a `kvroute_request` of the caller's with what it points to; `workspace` is NULL or a live
/// handle.
pub(crate) unsafe fn with_request<R>(
    place: *const kvroute_request,
    workspace: *const kvroute_workspace,
    act: impl FnOnce(&Request<'_>, &mut Workspace) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's word, for this and all that it points to.
    unsafe {
        workspace::with(workspace, |scratch| {
            let raw = structs::read(place)?;
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
            let names = array("request.subset", raw.subset, raw.subset_len)?;
            if raw.has_subset == 0 && !names.is_empty() {
                return Err(Failure::invalid("request.subset without request.has_subset"));
            }
            let mut subset = recycled(std::mem::take(&mut scratch.subset));
            for name in names {
                subset.push(name.get("request.subset")?);
            }
            scratch.known.clear();
            for known in array("request.known", raw.known, raw.known_len)? {
                let tier = usize::try_from(known.tier).ok().and_then(|tier| Tier::ALL.get(tier));
                let Some(&tier) = tier else {
                    return Err(Failure::invalid(format!(
                        "request.known: tier {}, which is none",
                        known.tier
                    )));
                };
                scratch.known.push(KnownPrefix {
                    pod: PodId::from_u64(known.pod),
                    tier,
                    blocks: known.blocks,
                });
            }
            let request = Request {
                prompt,
                context: scratch.context.fill(raw.context)?,
                model: raw.model.non_empty("request.model")?,
                session,
                subset: (raw.has_subset != 0).then_some(&subset),
                scores: scores.get(..columns.len()).unwrap_or_default(),
                known: &scratch.known,
                nonce: (raw.has_nonce != 0).then_some(raw.nonce),
            };
            let answer = act(&request, &mut scratch.workspace);
            scratch.subset = recycled(subset);
            answer
        })
    }
}

/// The same room, empty, for texts that live elsewhere: the standard library collects a vector's own iterator in place.
fn recycled<'to>(mut texts: Vec<&str>) -> Vec<&'to str> {
    texts.clear();
    texts.into_iter().map(|_| "").collect()
}

#[cfg(test)]
mod tests {
    use super::recycled;

    /// Were it otherwise, requests with a subset would allocate.
    #[test]
    fn a_vector_that_is_recycled_keeps_its_room() {
        let mut texts = Vec::with_capacity(9);
        texts.push("a");
        let place = texts.as_ptr();
        let again: Vec<&str> = recycled(texts);
        assert_eq!((again.len(), again.capacity(), again.as_ptr()), (0, 9, place));
    }
}
