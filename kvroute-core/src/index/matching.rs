//! From what lanes hold to what a pod can use: groups agree, tiers continue one another.
//!
//! The rule, for a query cut to `n` blocks. Let `d` be 0. For each tier, nearest first: every
//! full-attention group holds blocks `d..x` in that tier, and of all `x' <= x` the largest counts for
//! which every sliding-window group holds, in this tier or a nearer one, the `ceil((window - 1) /
//! block_size)` blocks before `x'`; that `x'` is the new `d`, and the tier is credited with what it
//! added.
//!
//! For one tier this is what vLLM 0.32 answers (`KVCacheCoordinator.find_longest_cache_hit`; checked against
//! its own answers for a hybrid model). Windows may lie in a nearer tier because loading brings them there.

use core::ops::Range;

use alloc::vec::Vec;

use super::fleet::Pod;
use super::walk::{Segment, Trail};
use crate::Tier;
use crate::event::GroupKind;

/// Leading blocks a pod can use, by the tier that holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierBlocks([u32; Tier::ALL.len()]);

impl TierBlocks {
    /// Blocks taken from `tier`.
    #[must_use]
    pub fn in_tier(&self, tier: Tier) -> u32 {
        self.0[tier as usize]
    }

    /// Blocks in all tiers together: the longest run from block 0.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    pub(crate) fn device(blocks: u32) -> Self {
        let mut tiers = Self::default();
        tiers.0[Tier::Gpu as usize] = blocks;
        tiers
    }

    pub(crate) fn add(&mut self, tier: Tier, blocks: u32) {
        self.0[tier as usize] += blocks;
    }
}

/// Blocks before a position that a sliding-window group needs there.
/// (`SlidingWindowManager.find_longest_cache_hit`, vLLM 0.32.)
fn window_blocks(window: u32, block_size: u32) -> u32 {
    window.saturating_sub(1).div_ceil(block_size)
}

/// Puts the segments in order, by lane and then by start, so that [`usable`] finds a lane's in one place.
pub(super) fn sort_segments(trail: &mut Trail) {
    trail.segments.sort_unstable();
}

/// What `pod` can use of a query of `length` blocks. `union` is scratch space.
pub(super) fn usable(
    pod: &Pod,
    trail: &Trail,
    length: u32,
    block_size: u32,
    union: &mut Vec<Range<u32>>,
) -> TierBlocks {
    if let Some(lane) = pod.depth_lane() {
        return TierBlocks::device(trail.depth(lane));
    }
    let mut blocks = TierBlocks::default();
    // A pod without lanes has no group either that could limit what it is credited with.
    if pod.lanes.is_empty() || pod.kinds().any(|(_, kind)| kind == GroupKind::Unknown) {
        return blocks;
    }
    let mut reached = 0;
    for tier in Tier::ALL {
        let mut bound = length;
        for (group, kind) in pod.kinds() {
            if kind != GroupKind::FullAttention {
                continue;
            }
            let lane = pod.lanes.iter().find(|lane| lane.group == group && lane.tier == tier);
            bound = bound.min(lane.map_or(reached, |lane| run_from(segments_of(trail, lane.id), reached)));
        }
        let agreed = agree(pod, trail, tier, bound, block_size, union);
        if agreed > reached {
            blocks.add(tier, agreed - reached);
            reached = agreed;
        }
    }
    blocks
}

/// The largest position up to `bound` whose window every sliding-window group holds.
fn agree(
    pod: &Pod,
    trail: &Trail,
    tier: Tier,
    bound: u32,
    block_size: u32,
    union: &mut Vec<Range<u32>>,
) -> u32 {
    let mut position = bound;
    loop {
        let before = position;
        for (group, kind) in pod.kinds() {
            let GroupKind::SlidingWindow { window } = kind else { continue };
            union.clear();
            for lane in pod.lanes.iter().filter(|lane| lane.group == group && lane.tier <= tier) {
                union.extend(segments_of(trail, lane.id).iter().map(|s| s.start..s.end));
            }
            merge(union);
            position = last_whole_window(union, window_blocks(window, block_size), position);
        }
        if position == before {
            return position;
        }
    }
}

/// The largest position up to `bound` with `window` held blocks before it (or all, near the start).
fn last_whole_window(held: &[Range<u32>], window: u32, bound: u32) -> u32 {
    if window == 0 {
        return bound;
    }
    for range in held.iter().rev() {
        let end = range.end.min(bound);
        let first = if range.start == 0 { 0 } else { range.start.saturating_add(window) };
        if first <= end && range.start < end {
            return end;
        }
    }
    0
}

/// Joins ranges that touch or overlap; leaves them in order.
fn merge(ranges: &mut Vec<Range<u32>>) {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let joins = next.start <= kept.end;
        if joins {
            kept.end = kept.end.max(next.end);
        }
        joins
    });
}

fn segments_of(trail: &Trail, lane: u32) -> &[Segment] {
    let from = trail.segments.partition_point(|segment| segment.lane < lane);
    let to = trail.segments.partition_point(|segment| segment.lane <= lane);
    &trail.segments[from..to]
}

/// Where the held run that covers `from` ends; `from` if it is not held.
fn run_from(segments: &[Segment], from: u32) -> u32 {
    let first = segments.partition_point(|segment| segment.end <= from);
    let mut end = from;
    for segment in &segments[first..] {
        if segment.start > end {
            break;
        }
        end = segment.end;
    }
    end
}
