//! Sequence numbers of one publisher: what a batch's number and bytes say about the stream.
//!
//! vLLM and SGLang number their batches from 0 without gaps and say nothing about restarts: a restarted
//! engine begins at 0 again with an empty cache. A batch whose number was seen before is therefore either
//! a repetition (same bytes) or the sign of a restart (other bytes), which is why the digests of
//! the last batches are kept. The tracker only judges; it does no I/O and asks for no replay itself.

use alloc::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

/// Digests kept. Replays begin at the last applied batch, so one would do for them; more let a stream that
/// repeats itself for longer pass without dropping the view.
const REMEMBERED: usize = 256;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one: apply it.
    Next,
    /// Seen before, byte for byte: skip it.
    Duplicate,
    /// Batches before it are missing: `next` up to it.
    Gap {
        /// First missing sequence number.
        next: u64,
    },
    /// The engine restarted: what is known of it is void.
    Restarted,
}

/// Follows one publisher.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SequenceTracker {
    next: u64,
    digests: VecDeque<u64>,
}

impl SequenceTracker {
    /// Most digests kept.
    pub(crate) const REMEMBERED: usize = REMEMBERED;

    /// One that goes on where another was: with its [`next`](Self::next) and [`digests`](Self::digests). `None` if
    /// there are more digests than there can be.
    pub(crate) fn resumed(next: u64, digests: impl ExactSizeIterator<Item = u64>) -> Option<Self> {
        let count = digests.len();
        (count <= REMEMBERED && count as u64 <= next).then(|| Self { next, digests: digests.collect() })
    }

    /// Number of the batch expected next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Digests of the last batches, oldest first.
    pub(crate) fn digests(&self) -> impl ExactSizeIterator<Item = u64> {
        self.digests.iter().copied()
    }

    /// Judges a batch, without taking it in.
    pub(crate) fn judge(&self, sequence: u64, payload: &[u8]) -> Verdict {
        if sequence == self.next {
            return Verdict::Next;
        }
        if sequence > self.next {
            return Verdict::Gap { next: self.next };
        }
        let back = (self.next - sequence) as usize;
        let known = self.digests.len().checked_sub(back).and_then(|at| self.digests.get(at));
        if known == Some(&xxh3_64(payload)) { Verdict::Duplicate } else { Verdict::Restarted }
    }

    /// Takes a batch in as the last applied one.
    pub(crate) fn applied(&mut self, sequence: u64, payload: &[u8]) {
        if sequence != self.next {
            self.digests.clear();
        }
        if self.digests.len() == REMEMBERED {
            self.digests.pop_front();
        }
        self.digests.push_back(xxh3_64(payload));
        self.next = sequence.saturating_add(1);
    }

    /// Forgets the stream: number 0 is expected again.
    pub(crate) fn reset(&mut self) {
        self.next = 0;
        self.digests.clear();
    }

    /// Forgets the stream: `sequence` is expected next.
    pub(crate) fn skip_to(&mut self, sequence: u64) {
        self.reset();
        self.next = sequence;
    }

    /// Where a replay should begin: the last applied batch, so that its bytes can be compared, or 0.
    pub(crate) fn replay_from(&self) -> u64 {
        if self.digests.is_empty() { self.next } else { self.next - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(payloads: &[&[u8]]) -> SequenceTracker {
        let mut tracker = SequenceTracker::default();
        for (sequence, payload) in payloads.iter().enumerate() {
            assert_eq!(tracker.judge(sequence as u64, payload), Verdict::Next);
            tracker.applied(sequence as u64, payload);
        }
        tracker
    }

    #[test]
    fn a_missing_batch_is_a_gap_until_it_arrives() {
        let mut tracker = fed(&[b"a"]);
        assert_eq!(tracker.judge(2, b"c"), Verdict::Gap { next: 1 });
        assert_eq!(tracker.replay_from(), 0);
        tracker.applied(1, b"b");
        assert_eq!(tracker.judge(2, b"c"), Verdict::Next);
    }

    #[test]
    fn a_stream_joined_late_is_a_gap_from_zero() {
        let tracker = SequenceTracker::default();
        assert_eq!(tracker.judge(23, b"x"), Verdict::Gap { next: 0 });
        assert_eq!(tracker.replay_from(), 0);
    }

    #[test]
    fn the_same_bytes_again_are_a_duplicate_and_other_bytes_a_restart() {
        let tracker = fed(&[b"a", b"b", b"c"]);
        assert_eq!(tracker.judge(2, b"c"), Verdict::Duplicate);
        assert_eq!(tracker.judge(0, b"a"), Verdict::Duplicate);
        assert_eq!(tracker.judge(2, b"z"), Verdict::Restarted);
        assert_eq!(tracker.judge(0, b"z"), Verdict::Restarted);
    }

    #[test]
    fn a_number_too_old_to_remember_is_a_restart() {
        let mut tracker = SequenceTracker::default();
        (0..2000).for_each(|n| tracker.applied(n, b"same"));
        assert_eq!(tracker.judge(0, b"same"), Verdict::Restarted);
        assert_eq!(tracker.judge(1999, b"same"), Verdict::Duplicate);
        assert!(tracker.digests.len() <= REMEMBERED);
    }

    #[test]
    fn numbers_at_the_end_of_the_range_do_not_overflow() {
        let mut tracker = SequenceTracker::default();
        tracker.applied(u64::MAX, b"x");
        assert_eq!(tracker.judge(u64::MAX, b"y"), Verdict::Next);
        assert_eq!(tracker.judge(0, b"y"), Verdict::Restarted);
    }
}
