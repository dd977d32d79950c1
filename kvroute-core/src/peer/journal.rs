//! What happened to requests, until it is told.

use alloc::vec::Vec;

use super::{Booked, Entry};

/// Entries in the order in which they happened, bounded in bytes. What does not fit is not kept, and said to be missing.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
    /// Bytes of blocks in `entries`.
    block_bytes: usize,
    /// Most bytes; 0: nobody wants to know.
    limit: usize,
    /// Something did not fit.
    is_incomplete: bool,
}

impl Journal {
    /// Keeps up to `limit` bytes from now on; with 0 nothing.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        (self.entries, self.block_bytes, self.limit) = (Vec::new(), 0, limit);
        self.is_incomplete = true;
    }

    /// Notes what happened to a request. Where there is no room, its blocks are left out first.
    pub(crate) fn note(&mut self, entry: Entry) {
        if self.limit == 0 {
            return;
        }
        let own = (self.entries.len() + 1) * size_of::<Entry>();
        if own + self.block_bytes > self.limit {
            self.is_incomplete = true;
            return;
        }
        let entry = match entry {
            Entry::Booked(request, booked) if own + self.block_bytes + block_bytes(&booked) > self.limit => {
                Entry::Booked(request, Booked { decode_blocks: None, prefill_blocks: None, ..booked })
            }
            entry => entry,
        };
        if let Entry::Booked(_, booked) = &entry {
            self.block_bytes += block_bytes(booked);
        }
        self.entries.push(entry);
    }

    /// Something is missing that was not stated since.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Gives out what was noted. `stated`: along with all that is in flight.
    pub(crate) fn take(&mut self, into: &mut Vec<Entry>, stated: bool) {
        into.append(&mut self.entries);
        self.block_bytes = 0;
        self.is_incomplete &= !stated;
    }

    /// What was in flight is gone, and no entry says so.
    pub(crate) fn forget(&mut self) {
        self.entries.clear();
        self.block_bytes = 0;
        self.is_incomplete = self.limit > 0;
    }
}

fn block_bytes(booked: &Booked) -> usize {
    let bytes = booked.decode_blocks.iter().chain(&booked.prefill_blocks);
    bytes.map(|blocks| blocks.hashes.len() * size_of::<u64>()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{SentBlocks, Share};
    use super::*;
    use crate::request::Finish;

    fn booked(blocks: usize) -> Booked {
        let hashes = (0..blocks as u64).collect();
        Booked {
            decode: Share { pod: 1, prefill_tokens: 9 },
            decode_blocks: Some(SentBlocks { domain: 1, is_speculative: true, hashes }),
            prefill: None,
            prefill_blocks: None,
            session: None,
            is_cold: false,
        }
    }

    #[test]
    fn nothing_is_kept_where_nobody_wants_to_know() {
        let mut journal = Journal::default();
        journal.note(Entry::Started(1));
        let mut taken = Vec::new();
        journal.take(&mut taken, false);
        assert!(taken.is_empty() && !journal.is_incomplete());
    }

    #[test]
    fn without_room_blocks_are_left_out_first_and_then_entries_until_all_is_stated() {
        let mut journal = Journal::default();
        journal.set_limit(4 * size_of::<Entry>() + 800);
        journal.take(&mut Vec::new(), true);
        journal.note(Entry::Booked(1, booked(100)));
        journal.note(Entry::Booked(2, booked(1000)));
        assert!(!journal.is_incomplete());
        (3..10).for_each(|request| journal.note(Entry::Finished(request, Finish::Completed)));
        assert!(journal.is_incomplete());
        let mut taken = Vec::new();
        journal.take(&mut taken, false);
        assert_eq!(taken.len(), 4);
        assert_eq!(taken[0], Entry::Booked(1, booked(100)));
        assert_eq!(taken[1], Entry::Booked(2, Booked { decode_blocks: None, ..booked(0) }));
        assert!(journal.is_incomplete(), "what was left out was not stated yet");
        journal.take(&mut taken, true);
        assert!(!journal.is_incomplete());
    }
}
