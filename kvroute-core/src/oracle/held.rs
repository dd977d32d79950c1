//! A copy of what a pod holds, kept by listing it once and following its journal.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::index::{BlockIndex, HeldBlock, HeldCursor, PodId};

/// The copy, of one pod after the other.
#[derive(Debug, Default)]
pub struct HeldCopy {
    pod: Option<PodId>,
    blocks: BTreeSet<HeldBlock>,
    /// Calls so far: they decide how long pages are, and when the journal is looked at.
    calls: usize,
    /// Whether it was brought up to date at the last of them.
    is_current: bool,
}

impl HeldCopy {
    /// The blocks.
    #[must_use]
    pub fn blocks(&self) -> &BTreeSet<HeldBlock> {
        &self.blocks
    }

    /// Whether the last call brought it up to date.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// Brings the copy up to date and compares it with all that the pod holds, two times of three.
    ///
    /// # Errors
    ///
    /// What differs; errors of the index are passed on as text.
    pub fn follow(&mut self, index: &BlockIndex, pod: PodId) -> Result<(), String> {
        let text = |error| format!("{error}");
        self.calls += 1;
        self.is_current = self.pod != Some(pod) || !self.calls.is_multiple_of(3);
        if self.pod != Some(pod) {
            // So few that it runs over now and then.
            index.journal_held(pod, 24).map_err(text)?;
            (self.pod, self.blocks) = (Some(pod), BTreeSet::new());
        } else if !self.is_current {
            return Ok(());
        }
        let (mut changes, mut more) = (Vec::new(), Vec::new());
        let mut since = index.take_held(pod, self.calls % 5, &mut changes).map_err(text)?;
        while since.has_more {
            since.has_more = index.take_held(pod, 7, &mut more).map_err(text)?.has_more;
            changes.append(&mut more);
        }
        if since.cleared || since.list_again {
            self.blocks.clear();
        }
        if since.list_again {
            self.blocks = list(index, pod, 1 + self.calls % 7)?;
        }
        for change in changes {
            let is_new = match change.is_held {
                true => self.blocks.insert(change.block),
                false => self.blocks.remove(&change.block),
            };
            if !is_new {
                return Err(format!("pod {pod}: {change:?} changes nothing"));
            }
        }
        let listed = list(index, pod, 5)?;
        let differ: Vec<_> = listed.symmetric_difference(&self.blocks).collect();
        if differ.is_empty() { Ok(()) } else { Err(format!("pod {pod}: the copy differs in {differ:?}")) }
    }
}

/// All that a pod holds, in pages of this length.
fn list(index: &BlockIndex, pod: PodId, most: usize) -> Result<BTreeSet<HeldBlock>, String> {
    let (mut all, mut page, mut next) = (BTreeSet::new(), Vec::new(), Some(HeldCursor::default()));
    while let Some(from) = next {
        next = index
            .list_held(pod, HeldCursor::from_u64(from.as_u64()), most, &mut page)
            .map_err(|e| format!("{e}"))?;
        let is_new = page.iter().all(|block| all.insert(*block));
        if page.len() > most || !is_new || (next.is_some() && page.is_empty()) {
            return Err(format!("pod {pod}: {page:?} is no page of {most} after {} blocks", all.len()));
        }
    }
    Ok(all)
}
