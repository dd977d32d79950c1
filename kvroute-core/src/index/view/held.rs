//! What a pod holds, told to others: pages of it, and its journal.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::View;
use crate::BlockHash;
use crate::event::GroupKind;
use crate::index::BlockIndex;
use crate::index::fleet::kinds;
use crate::index::held::{HeldBlock, HeldChange, HeldCursor, HeldSince, Journal};
use crate::index::run::RunId;

impl View {
    pub(in crate::index) fn set_journal(&mut self, journal: Option<Box<Journal>>) {
        self.journal = journal;
    }

    pub(in crate::index) fn take_held(&mut self, most: usize, changes: &mut Vec<HeldChange>) -> HeldSince {
        let nothing = HeldSince { list_again: true, ..HeldSince::default() };
        let since = self.journal.as_mut().map_or(nothing, |journal| journal.take(most, changes));
        let mut groups = kinds(&self.groups, self.lanes.iter().map(|own| own.lane.group));
        let first = groups.next();
        let is_alike = groups.all(|other| Some(other) == first);
        HeldSince {
            is_plain: is_alike && first.is_none_or(|(_, kind)| kind == GroupKind::FullAttention),
            ..since
        }
    }

    /// Takes down that the first `stored` blocks of the event at hand came to be held, but for those that were.
    pub(super) fn journal_stored(&mut self, lane: usize, stored: usize) {
        let Some(journal) = &mut self.journal else { return };
        let mut again = self.already.iter().copied().peekable();
        let new = self.keys[..stored].iter().enumerate().filter(|(i, _)| again.next_if_eq(i).is_none());
        let salt = self.domain.salt();
        journal.record(self.lanes[lane].lane, true, new.map(|(_, key)| BlockHash(key ^ salt)));
    }

    /// Takes down what became of the block of this key.
    pub(super) fn journal_one(&mut self, lane: usize, is_held: bool, key: u64) {
        let Some(journal) = &mut self.journal else { return };
        let hash = BlockHash(key ^ self.domain.salt());
        journal.record(self.lanes[lane].lane, is_held, [hash].into_iter());
    }

    /// Fills a page with what is held from `from` on.
    pub(in crate::index) fn list_held(
        &self,
        index: &BlockIndex,
        from: HeldCursor,
        most: usize,
        page: &mut Vec<HeldBlock>,
    ) -> Option<HeldCursor> {
        let salt = self.domain.salt();
        let mut runs: Vec<u32> = Vec::new();
        let (mut first_run, mut first_offset) = (from.run, usize::from(from.offset));
        for (at, own) in self.lanes.iter().enumerate().skip(usize::from(from.lane)) {
            runs.clear();
            runs.extend(own.runs.runs.iter().copied().filter(|&run| run >= first_run));
            // Each run has a block at least, but for what is left of the first: more of them fill no page.
            let enough = most - page.len() + 1;
            if runs.len() > enough {
                runs.select_nth_unstable(enough);
                runs.truncate(enough + 1);
            }
            runs.sort_unstable();
            for &run in &runs {
                let skipped = if run == first_run { first_offset } else { 0 };
                let mut next = None;
                index.chains.look_at(RunId(run), |data| {
                    let Some(coverage) = data.coverage_of(own.lane.id) else { return };
                    coverage.ranges(usize::MAX, |range| {
                        for offset in range.filter(|&offset| offset >= skipped) {
                            if page.len() == most {
                                next = next.or(Some(offset));
                                return;
                            }
                            let hash = BlockHash(data.keys()[offset] ^ salt);
                            page.push(HeldBlock { hash, group: own.lane.group, tier: own.lane.tier });
                        }
                    });
                });
                if let Some(offset) = next {
                    return Some(HeldCursor { lane: at as u16, run, offset: offset as u16 });
                }
            }
            (first_run, first_offset) = (0, 0);
        }
        None
    }
}
