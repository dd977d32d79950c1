//! The oracle: a naive index, obviously right, that the fast one is compared with.
//!
//! It keeps what each pod holds as a plain list and reads every answer off the definition. It knows nothing
//! of runs, lanes, translation or locks. [`history`] drives it and the index through the same events;
//! [`held`] keeps a copy of what a pod holds; [`snapshots`] is about bytes that are no engine's.

pub mod held;
pub mod history;
pub mod snapshots;

use alloc::vec;
use alloc::vec::Vec;

use crate::event::GroupKind;
use crate::{BlockHash, Tier};

/// One holding: a copy count of zero is not kept.
#[derive(Clone, Debug)]
struct Held {
    group: u32,
    tier: Tier,
    block: BlockHash,
    copies: u32,
}

/// What one pod holds.
#[derive(Clone, Debug, Default)]
pub struct OraclePod {
    groups: Vec<(u32, GroupKind)>,
    held: Vec<Held>,
}

impl OraclePod {
    /// A pod with these KV-cache groups, empty.
    #[must_use]
    pub fn new(groups: &[(u32, GroupKind)]) -> Self {
        Self { groups: groups.to_vec(), held: Vec::new() }
    }

    /// One more copy of a block.
    pub fn store(&mut self, group: u32, tier: Tier, block: BlockHash) {
        match self.held.iter_mut().find(|h| h.group == group && h.tier == tier && h.block == block) {
            Some(held) => held.copies += 1,
            None => self.held.push(Held { group, tier, block, copies: 1 }),
        }
    }

    /// One copy less; without a tier, no copy left anywhere.
    pub fn remove(&mut self, group: u32, tier: Option<Tier>, block: BlockHash) {
        for held in self.held.iter_mut().filter(|h| h.group == group && h.block == block) {
            match tier {
                None => held.copies = 0,
                Some(tier) if tier == held.tier => held.copies -= 1,
                Some(_) => {}
            }
        }
        self.held.retain(|h| h.copies > 0);
    }

    /// Nothing left.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    /// Whether the pod holds a block in a group and a tier.
    #[must_use]
    pub fn holds(&self, group: u32, tier: Tier, block: BlockHash) -> bool {
        self.held.iter().any(|h| h.group == group && h.tier == tier && h.block == block)
    }

    /// Leading blocks of `query` the pod can use, by tier, in the order of [`Tier::ALL`].
    ///
    /// The definition: tier after tier, the largest position up to which every full-attention group holds
    /// all blocks since the last tier's position, and every sliding window before it is whole.
    #[must_use]
    pub fn usable(&self, query: &[BlockHash], block_size: u32) -> Vec<u32> {
        let mut answer = vec![0; Tier::ALL.len()];
        let mut reached = 0;
        for (t, tier) in Tier::ALL.into_iter().enumerate() {
            let position = (reached..=query.len())
                .rev()
                .find(|&position| self.agrees(query, reached, position, tier, block_size))
                .unwrap_or(reached);
            answer[t] = (position - reached) as u32;
            reached = position;
        }
        answer
    }

    fn agrees(&self, query: &[BlockHash], from: usize, position: usize, tier: Tier, block_size: u32) -> bool {
        self.groups.iter().all(|&(group, kind)| match kind {
            GroupKind::FullAttention => query[from..position].iter().all(|&b| self.holds(group, tier, b)),
            GroupKind::SlidingWindow { window } => {
                let needed = (window as usize - 1).div_ceil(block_size as usize);
                let window = &query[position.saturating_sub(needed)..position];
                window.iter().all(|&b| Tier::ALL.iter().any(|&t| t <= tier && self.holds(group, t, b)))
            }
            GroupKind::Unknown => position == 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: (u32, GroupKind) = (0, GroupKind::FullAttention);
    const QUERY: [BlockHash; 4] = [BlockHash(1), BlockHash(2), BlockHash(3), BlockHash(4)];

    fn holding(blocks: &[(u32, Tier, u64)], groups: &[(u32, GroupKind)]) -> OraclePod {
        let mut pod = OraclePod::new(groups);
        for &(group, tier, block) in blocks {
            pod.store(group, tier, BlockHash(block));
        }
        pod
    }

    #[test]
    fn a_hole_ends_the_prefix() {
        let pod = holding(&[(0, Tier::Gpu, 1), (0, Tier::Gpu, 2), (0, Tier::Gpu, 4)], &[FULL]);
        assert_eq!(pod.usable(&QUERY, 16), [2, 0, 0, 0]);
    }

    #[test]
    fn a_block_goes_with_its_last_copy() {
        let mut pod = holding(&[(0, Tier::Gpu, 1), (0, Tier::Gpu, 1)], &[FULL]);
        pod.remove(0, Some(Tier::Gpu), BlockHash(1));
        assert_eq!(pod.usable(&QUERY, 16), [1, 0, 0, 0]);
        pod.remove(0, Some(Tier::Gpu), BlockHash(1));
        assert_eq!(pod.usable(&QUERY, 16), [0, 0, 0, 0]);
    }

    #[test]
    fn a_lower_tier_continues_where_the_device_ends() {
        let blocks = [(0, Tier::Gpu, 1), (0, Tier::Cpu, 1), (0, Tier::Cpu, 2), (0, Tier::Disk, 3)];
        assert_eq!(holding(&blocks, &[FULL]).usable(&QUERY, 16), [1, 1, 1, 0]);
    }

    #[test]
    fn a_window_needs_only_the_blocks_before_the_position() {
        let groups = [FULL, (1, GroupKind::SlidingWindow { window: 33 })];
        let full = [(0, Tier::Gpu, 1), (0, Tier::Gpu, 2), (0, Tier::Gpu, 3), (0, Tier::Gpu, 4)];
        let mut blocks = full.to_vec();
        blocks.extend([(1, Tier::Gpu, 2), (1, Tier::Gpu, 3)]);
        assert_eq!(holding(&blocks, &groups).usable(&QUERY, 16), [3, 0, 0, 0]);
    }
}
