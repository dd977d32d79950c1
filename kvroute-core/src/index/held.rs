//! What pods hold, for whoever keeps a copy of it elsewhere: all of it page by page, and what changed since.
//!
//! A copy is kept so: [`BlockIndex::journal_held`] turns a pod's journal on, [`BlockIndex::take_held`] says that there
//! is nothing to go on from ([`HeldSince::list_again`]), [`BlockIndex::list_held`] lists what is held, and from then on
//! each `take_held` brings what changed. Changes that came while pages were listed are in the journal as well: carried
//! out after the pages, in their order, they leave the copy as the pod is.
//!
//! A block counts as held in a lane (a group and a tier) from its first copy there to its last.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use super::fleet::Lane;
use super::{BlockIndex, PodId};
use crate::{BlockHash, Error, Tier};

/// A block that a pod holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeldBlock {
    /// The block, hashed as requests of the pod's cache domain are.
    pub hash: BlockHash,
    /// The KV-cache group that holds it.
    pub group: u32,
    /// The tier that it lies in.
    pub tier: Tier,
}

/// A block that a pod came to hold, or holds no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldChange {
    /// The block.
    pub block: HeldBlock,
    /// Whether it is held now.
    pub is_held: bool,
}

/// What came before the changes that were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldSince {
    /// All that was held is gone; the changes are from nothing on.
    pub cleared: bool,
    /// What changed is not known: the journal began, ran over, or a snapshot was restored. Whoever keeps a copy drops
    /// it and lists all.
    pub list_again: bool,
    /// Whether what the pod can use of a prompt is just the blocks that it holds from the first one on. Not so for
    /// pods with several KV-cache groups, or one whose kind is not full attention.
    pub is_plain: bool,
    /// Whether there are more changes than were asked for.
    pub has_more: bool,
}

/// Where the next page of what a pod holds begins. The default is the first page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldCursor {
    /// Position of the lane among the view's.
    pub(super) lane: u16,
    pub(super) run: u32,
    pub(super) offset: u16,
}

impl HeldCursor {
    /// As a number, for callers in other languages.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        u64::from(self.lane) << 48 | u64::from(self.run) << 16 | u64::from(self.offset)
    }

    /// From [`as_u64`](Self::as_u64). Any number is a cursor; one that was never given begins somewhere.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        Self { lane: (number >> 48) as u16, run: (number >> 16) as u32, offset: number as u16 }
    }
}

impl BlockIndex {
    /// Keeps a journal of what the pod comes to hold and holds no more, up to `most` changes that were not taken; 0
    /// ends it. One that runs over is empty, takes nothing in any more and says so when it is taken: 16 bytes a
    /// change, no more than `most` of them. Off, it costs a branch an event.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn journal_held(&self, id: PodId, most: usize) -> Result<(), Error> {
        self.with_view(id, |view| view.set_journal((most > 0).then(|| Box::new(Journal::new(most)))))
    }

    /// Takes what the pod's journal has, `most` changes of it; `changes` is replaced by them, in the order in which they
    /// happened. Of a pod without a journal there is never anything to go on from.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn take_held(
        &self,
        id: PodId,
        most: usize,
        changes: &mut Vec<HeldChange>,
    ) -> Result<HeldSince, Error> {
        changes.clear();
        self.with_view(id, |view| view.take_held(most, changes))
    }

    /// Lists blocks that the pod holds, `most` a page (at least one), in an order of the index's own; `page` is
    /// replaced. Answers where the next page begins, `None` behind the last. A block that is held from before the
    /// first page until after the last is in one of them.
    ///
    /// A page costs what its runs cost, and a look at each run of the pod: its events wait meanwhile.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn list_held(
        &self,
        id: PodId,
        from: HeldCursor,
        most: usize,
        page: &mut Vec<HeldBlock>,
    ) -> Result<Option<HeldCursor>, Error> {
        page.clear();
        self.with_view(id, |view| view.list_held(self, from, most.max(1), page))
    }
}

/// What a pod came to hold, and holds no more, since it was last asked.
#[derive(Debug)]
pub(super) struct Journal {
    most: usize,
    changes: VecDeque<HeldChange>,
    cleared: bool,
    list_again: bool,
}

impl Journal {
    fn new(most: usize) -> Self {
        Self { most, changes: VecDeque::new(), cleared: false, list_again: true }
    }

    /// Takes down what became of these blocks of a lane.
    pub(super) fn record(&mut self, lane: Lane, is_held: bool, hashes: impl Iterator<Item = BlockHash>) {
        if self.list_again {
            return;
        }
        let block = |hash| HeldBlock { hash, group: lane.group, tier: lane.tier };
        let room = self.most - self.changes.len();
        let mut changes = hashes.map(|hash| HeldChange { block: block(hash), is_held });
        self.changes.extend(changes.by_ref().take(room));
        if changes.next().is_some() {
            self.lose();
        }
    }

    /// The pod holds nothing any more, so what it held before counts for nothing.
    pub(super) fn clear(&mut self) {
        self.changes.clear();
        (self.cleared, self.list_again) = (true, false);
    }

    /// What happened is not known.
    pub(super) fn lose(&mut self) {
        self.changes = VecDeque::new();
        (self.cleared, self.list_again) = (false, true);
    }

    pub(super) fn take(&mut self, most: usize, changes: &mut Vec<HeldChange>) -> HeldSince {
        changes.extend(self.changes.drain(..most.min(self.changes.len())));
        let has_more = !self.changes.is_empty();
        let (cleared, list_again) = (mem::take(&mut self.cleared), mem::take(&mut self.list_again));
        HeldSince { cleared, list_again, is_plain: false, has_more }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.changes.capacity() * size_of::<HeldChange>()
    }
}
