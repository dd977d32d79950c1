//! Requests: what is asked for, and what the engine keeps about each while it is there.

use hashbrown::HashMap;
use kvroute_core::hash::{BlockHasher, HashCursor};
use kvroute_core::{BlockHash, HashContext};

use super::events::FullHash;
use super::tokens::TokenIds;

/// One request for one completion.
#[derive(Clone, Debug, Default)]
pub struct EngineRequest {
    /// Names it until it is finished; no two at a time may share one.
    pub id: u64,
    /// The prompt, at least one token.
    pub token_ids: TokenIds,
    /// Adapter, salt and whatever else enters the block hashes.
    pub context: HashContext,
    /// Tokens to generate, at least one. There is no other reason to stop than this and the longest
    /// sequence.
    pub max_tokens: u32,
    /// Whether the KV of the whole prompt comes from a prefill pod, as with vLLM's `NixlConnector` and
    /// `do_remote_prefill`: what the pod does not have itself is transferred, and only the last token is
    /// computed. The engine says when the transfer may start ([`Step::loading`](super::Step::loading)),
    /// the caller when it is done ([`Engine::transfer_finished`](super::Engine::transfer_finished)).
    pub transferred: bool,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In the waiting queue, new or preempted.
    Waiting,
    /// Has its blocks and waits for their content.
    Loading {
        /// Place among all that ever loaded: vLLM's `kv_holding_waiting` is in this order.
        order: u64,
        /// Whether the content has come.
        is_ready: bool,
    },
    /// The content has come and is cached; it still waits to run.
    Loaded {
        order: u64,
    },
    Running,
    /// Aborted while it loaded: its blocks are written to until the transfer is done.
    Aborted,
}

/// vLLM's `Request`, as far as it is needed (`vllm/v1/request.py`).
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) context: HashContext,
    /// Prompt, then what was generated.
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_len: usize,
    pub(super) max_tokens: usize,
    /// Whether a transfer is still to be asked for: one per request, and none after a preemption.
    pub(super) wants_transfer: bool,
    pub(super) state: State,
    /// Tokens whose KV is computed, or will be when the step under way is done.
    pub(super) computed: usize,
    /// Blocks of the table that need no caching any more.
    pub(super) cached_blocks: usize,
    /// The block table: numbers of pool blocks.
    pub(super) blocks: Vec<u32>,
    /// Hashes of the full blocks, as far as they were needed.
    pub(super) hashes: Vec<BlockHash>,
    /// The same in full width; empty when hashes are published as integers.
    pub(super) full_hashes: Vec<FullHash>,
    pub(super) cursor: HashCursor,
    pub(super) preemptions: u32,
    /// What the lookup found, tokens.
    pub(super) cached_tokens: usize,
    /// What the transfer brought, tokens.
    pub(super) transferred_tokens: usize,
}

impl Request {
    /// Hashes the blocks that are full by now and not hashed yet.
    pub(super) fn hash_full_blocks(
        &mut self,
        hasher: &BlockHasher,
        int_hashes: bool,
    ) -> Result<(), kvroute_core::Error> {
        let Self { cursor, tokens, context, hashes, full_hashes, .. } = self;
        if int_hashes {
            hasher.extend(cursor, tokens, context, usize::MAX, hashes)?;
        } else {
            while hasher.extend(cursor, tokens, context, 1, hashes)? > 0 {
                full_hashes.push(FullHash::of(cursor));
            }
        }
        Ok(())
    }
}

/// All requests, by slot and by id. Slots are reused.
#[derive(Debug, Default)]
pub(super) struct Requests {
    slots: Vec<Option<Request>>,
    vacant: Vec<u32>,
    by_id: HashMap<u64, u32>,
}

impl Requests {
    pub(super) fn slot(&self, id: u64) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Takes a request whose id is new.
    pub(super) fn insert(&mut self, request: Request) -> u32 {
        let slot = self.vacant.pop().unwrap_or(self.slots.len() as u32);
        self.by_id.insert(request.id, slot);
        if slot as usize == self.slots.len() {
            self.slots.push(Some(request));
        } else {
            self.slots[slot as usize] = Some(request);
        }
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(request) = self.slots[slot as usize].take() {
            self.by_id.remove(&request.id);
            self.vacant.push(slot);
        }
    }

    /// The request in that slot, if it still is the one with that id, and running.
    pub(super) fn running(&mut self, slot: u32, id: u64) -> Option<&mut Request> {
        let request = self.slots[slot as usize].as_mut()?;
        (request.id == id && request.state == State::Running).then_some(request)
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.slots[slot as usize].is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// A slot that is in a queue holds a request.
const IN_A_QUEUE: &str = "a queued slot holds a request";

impl core::ops::Index<u32> for Requests {
    type Output = Request;

    fn index(&self, slot: u32) -> &Request {
        self.slots[slot as usize].as_ref().expect(IN_A_QUEUE)
    }
}

impl core::ops::IndexMut<u32> for Requests {
    fn index_mut(&mut self, slot: u32) -> &mut Request {
        self.slots[slot as usize].as_mut().expect(IN_A_QUEUE)
    }
}
