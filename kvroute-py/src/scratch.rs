//! Room for requests, shared by the threads of one router without ever being used by two at once.

use kvroute_core::Workspace;
use kvroute_core::index::MatchTable;
use parking_lot::Mutex;

/// What one request needs while it is decided.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) token_ids: Vec<u32>,
    pub(crate) workspace: Workspace,
    pub(crate) table: MatchTable,
}

/// Rooms that nobody uses now: as many as there ever were requests at the same time.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a room goes from hand to hand, and is a few hundred bytes")]
pub(crate) struct Pool(Mutex<Vec<Box<Scratch>>>);

impl Pool {
    /// Longest prompt whose room is kept, so that one giant does not fill memory for ever; tokens.
    const MAX_KEPT: usize = 1 << 20;

    pub(crate) fn take(&self) -> Box<Scratch> {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Takes a room back. One whose request panicked never comes back: what is in it is not to be trusted.
    pub(crate) fn give_back(&self, scratch: Box<Scratch>) {
        if scratch.token_ids.capacity() <= Self::MAX_KEPT {
            self.0.lock().push(scratch);
        }
    }
}
