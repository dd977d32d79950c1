//! Engines that contradict themselves and one another: nothing panics, hangs or leaks, whatever they say.

use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

use super::super::chains::{Chains, LaneRuns, Stop, Stored};
use super::super::run::{RunId, Spot};
use super::super::{CopyPolicy, TrustLevel};
use super::{
    Arc, BlockHash, BlockIndex, BlockRemoved, BlockStored, CacheDomain, EngineHash, EventBatch, IndexOptions,
    KvEvent, MatchTable, PodId, PodOptions, Tier, apply, assert_all_is_given_back, depth, index, native,
    offloaded, removed, stored, translated,
};
use crate::event::GroupKind;

/// Few names, so that events meet; the ends of the range among them.
fn name() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..12, 1 => Just(u64::MAX), 1 => Just(1 << 63)]
}

pub(super) fn any_event() -> impl Strategy<Value = KvEvent> {
    let tier = prop_oneof![
        6 => Just(Some(Tier::Gpu)),
        3 => Just(Some(Tier::Cpu)),
        1 => Just(Some(Tier::External)),
        1 => Just(None),
    ];
    let names = || vec(name(), 0..12);
    // Tokens as many as blocks, none, or any number; of few values, so that one name gets several blocks.
    let store = (names(), prop::option::weighted(0.7, name()), 0_u32..3, tier.clone(), 0_u32..2, any::<u8>())
        .prop_map(|(names, parent, token, tier, group, shape)| {
            let tokens = match shape % 8 {
                0 => 0,
                1 => usize::from(shape / 8),
                _ => names.len(),
            };
            KvEvent::Stored(BlockStored {
                block_hashes: names.into_iter().map(EngineHash).collect(),
                parent: parent.map(EngineHash),
                token_ids: (0..tokens as u32).map(|i| token * i).collect(),
                block_size: u32::from(shape != 255),
                tier,
                group: if shape % 16 == 2 { group } else { 0 },
                ..BlockStored::default()
            })
        });
    let remove = (names(), tier, 0_u32..2).prop_map(|(names, tier, group)| {
        let block_hashes = names.into_iter().map(EngineHash).collect();
        KvEvent::Removed(BlockRemoved { block_hashes, tier, group })
    });
    prop_oneof![6 => store, 4 => remove, 1 => Just(KvEvent::Cleared)]
}

fn survives(
    domain: &Arc<CacheDomain>,
    max_bytes: usize,
    copies: CopyPolicy,
    events: &[(usize, KvEvent)],
    queries: &[Vec<u64>],
) {
    let index = BlockIndex::new(IndexOptions { shards: 2, max_bytes, ..IndexOptions::default() });
    let options = PodOptions { copies, max_parked: 20, max_retired: 6, ..PodOptions::default() };
    let pods: Vec<PodId> = (0..3).map(|_| index.add_pod(Arc::clone(domain), options.clone())).collect();
    let mut table = MatchTable::default();
    for (pod, event) in events {
        apply(&index, pods[*pod], event.clone());
        assert_eq!(index.bytes(), index.recount());
        assert!(index.parked_blocks(pods[*pod]).unwrap() <= 20);
    }
    for query in queries {
        let query: Vec<_> = query.iter().copied().map(BlockHash).collect();
        index.lookup(domain, &query, &mut table);
        assert!(table.matches().iter().all(|found| found.blocks.total() <= query.len() as u32));
    }
    carried_over(&index, domain, max_bytes, &options, &pods, queries);
    // What an engine cleared is gone, whatever it said before.
    apply(&index, pods[0], KvEvent::Cleared);
    for query in queries {
        let query: Vec<_> = query.iter().copied().map(BlockHash).collect();
        index.lookup(domain, &query, &mut table);
        assert_eq!(table.blocks(pods[0]).total(), 0);
    }
    assert_all_is_given_back(&index, &pods);
}

/// An index made of a snapshot answers the same, if it has room for all, and leaves nothing behind either.
fn carried_over(
    index: &BlockIndex,
    domain: &Arc<CacheDomain>,
    max_bytes: usize,
    options: &PodOptions,
    pods: &[PodId],
    queries: &[Vec<u64>],
) {
    let other = BlockIndex::new(IndexOptions { shards: 4, max_bytes, ..IndexOptions::default() });
    let new: Vec<_> = pods.iter().map(|_| other.add_pod(Arc::clone(domain), options.clone())).collect();
    let restored = index.carry_over(pods, &other, &new).unwrap();
    assert_eq!(other.bytes(), other.recount());
    for (at, restored) in restored.iter().enumerate() {
        assert!(restored.unwrap().refused == 0 || max_bytes < usize::MAX);
        assert_eq!(other.parked_blocks(new[at]), index.parked_blocks(pods[at]));
    }
    for query in queries {
        for (&old, &new) in pods.iter().zip(&new) {
            let (old, new) = (depth(index, domain, old, query), depth(&other, domain, new, query));
            assert!(new == old || (new < old && max_bytes < usize::MAX), "{new}, not {old}, of {query:?}");
        }
    }
    assert_all_is_given_back(&other, &new);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_events_are_survived_and_leave_nothing_behind(
        events in vec((0_usize..3, any_event()), 0..60),
        queries in vec(vec(name(), 0..14), 1..6),
        is_native in any::<bool>(),
        max_bytes in prop_oneof![3 => Just(usize::MAX), 2 => 0_usize..6000],
        copies in prop::sample::select(&[CopyPolicy::Infer, CopyPolicy::Count, CopyPolicy::Set][..]),
    ) {
        let domain = if is_native { native() } else { translated() };
        survives(&domain, max_bytes, copies, &events, &queries);
    }
}

#[test]
fn a_hash_repeated_within_one_event_is_survived() {
    let (index, domain) = (index(2), native());
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    apply(&index, pod, stored(None, &[7; 30]));
    depth(&index, &domain, pod, &[7; 40]);
    apply(&index, pod, removed(Tier::Gpu, &[7; 5]));
    apply(&index, pod, stored(Some(7), &[7; 9]));
    apply(&index, pod, removed(Tier::Gpu, &[7; 100]));
    assert_all_is_given_back(&index, &[pod]);
}

#[test]
fn of_two_blocks_with_one_name_in_an_event_the_first_is_held_and_goes_with_it() {
    let (index, domain) = (index(2), translated());
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    apply(&index, pod, stored(None, &[7, 8]));
    apply(&index, pod, stored(None, &[1, 2, 1]));
    let counters = index.counters(pod).unwrap();
    assert_eq!((counters.blocks_refused, index.blocks(), index.trust(pod)), (1, 4, Ok(TrustLevel::Degraded)));
    apply(&index, pod, removed(Tier::Gpu, &[1, 2]));
    assert_eq!((index.counters(pod).unwrap().unknown_removals, index.blocks()), (0, 2));
    // Nothing is left of the name: it may stand for another block now.
    apply(&index, pod, stored(Some(8), &[1]));
    assert_eq!(index.blocks(), 3);
    assert_all_is_given_back(&index, &[pod]);
}

#[test]
fn what_follows_a_block_that_went_is_placed_where_others_keep_that_and_waits_where_nobody_does() {
    let (index, domain) = (index(2), translated());
    let pods: Vec<_> = (0..2).map(|_| index.add_pod(Arc::clone(&domain), PodOptions::default())).collect();
    let (pod, other) = (pods[0], pods[1]);
    apply(&index, pod, stored(None, &[1, 2]));
    apply(&index, other, stored(None, &[1, 2]));
    apply(&index, pod, removed(Tier::Gpu, &[2]));
    apply(&index, pod, stored(Some(2), &[3]));
    assert_eq!((index.parked_blocks(pod), index.blocks()), (Ok(0), 3));
    apply(&index, pod, removed(Tier::Gpu, &[3]));
    apply(&index, other, removed(Tier::Gpu, &[2]));
    apply(&index, pod, stored(Some(2), &[4]));
    assert_eq!((index.parked_blocks(pod), index.blocks()), (Ok(1), 1));
    // Another block comes to the very place.
    apply(&index, other, stored(Some(1), &[5]));
    apply(&index, pod, stored(Some(2), &[6]));
    assert_eq!((index.parked_blocks(pod), index.blocks()), (Ok(2), 2));
    apply(&index, pod, stored(Some(1), &[2]));
    assert_eq!((index.parked_blocks(pod), index.blocks()), (Ok(0), 5));
    assert_all_is_given_back(&index, &pods);
}

#[test]
fn a_block_that_is_its_own_parent_is_placed_once_its_name_is_known() {
    for domain in [native(), translated()] {
        let index = index(2);
        let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
        apply(&index, pod, stored(Some(7), &[7]));
        assert_eq!((index.parked_blocks(pod), index.blocks()), (Ok(1), 0));
        apply(&index, pod, stored(None, &[7]));
        assert_eq!(index.parked_blocks(pod), Ok(0));
        assert_all_is_given_back(&index, &[pod]);
    }
}

#[test]
fn blocks_that_are_each_others_parents_end() {
    for domain in [native(), translated()] {
        let index = index(2);
        let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
        // Parked in a circle, and the circle is then closed.
        apply(&index, pod, stored(Some(1), &[2]));
        apply(&index, pod, stored(Some(2), &[3]));
        apply(&index, pod, stored(Some(3), &[1]));
        apply(&index, pod, stored(None, &[1]));
        for _ in 0..20 {
            apply(&index, pod, stored(Some(1), &[2]));
            apply(&index, pod, stored(Some(2), &[1]));
        }
        depth(&index, &domain, pod, &[1, 2, 1, 2, 1, 2]);
        assert_all_is_given_back(&index, &[pod]);
    }
}

#[test]
fn hash_zero_and_the_largest_hash_are_hashes_like_others() {
    let (index, domain) = (index(1), native());
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    apply(&index, pod, stored(None, &[0, u64::MAX, 5]));
    assert_eq!(depth(&index, &domain, pod, &[0, u64::MAX, 5]), 3);
    apply(&index, pod, removed(Tier::Gpu, &[u64::MAX]));
    assert_eq!(depth(&index, &domain, pod, &[0, u64::MAX, 5]), 1);
    assert_all_is_given_back(&index, &[pod]);
}

#[test]
fn a_block_listed_twice_in_one_removal_goes_once() {
    let (index, domain) = (index(1), native());
    let (pod, other) = (
        index.add_pod(Arc::clone(&domain), PodOptions::default()),
        index.add_pod(Arc::clone(&domain), PodOptions::default()),
    );
    apply(&index, pod, stored(None, &[1, 2]));
    apply(&index, other, stored(None, &[1, 2]));
    apply(&index, pod, removed(Tier::Gpu, &[2, 2, 1, 1]));
    assert_eq!(index.counters(pod).unwrap().unknown_removals, 2);
    assert_eq!(depth(&index, &domain, other, &[1, 2]), 2);
    assert_all_is_given_back(&index, &[pod, other]);
}

#[test]
fn a_long_chain_that_was_parked_backwards_is_placed_without_recursion() {
    for domain in [native(), translated()] {
        let index = index(4);
        let options = PodOptions { max_parked: 50_000, ..PodOptions::default() };
        let pod = index.add_pod(Arc::clone(&domain), options);
        for block in (2..=50_000).rev() {
            apply(&index, pod, stored(Some(block - 1), &[block]));
        }
        apply(&index, pod, stored(None, &[1]));
        assert_eq!((index.blocks(), index.parked_blocks(pod)), (50_000, Ok(0)));
        assert_all_is_given_back(&index, &[pod]);
    }
}

#[test]
fn parents_remembered_in_a_circle_end() {
    let (index, domain) = (index(1), native());
    let options = PodOptions { max_retired: 8, ..PodOptions::default() };
    let pods: Vec<_> = (0..2).map(|_| index.add_pod(Arc::clone(&domain), options.clone())).collect();
    let (pod, other) = (pods[0], pods[1]);
    apply(&index, pod, stored(None, &[50]));
    apply(&index, pod, offloaded(&[50]));
    apply(&index, pod, stored(None, &[1, 2]));
    apply(&index, pod, removed(Tier::Gpu, &[2, 1]));
    // The other pod has block 2 at the start of a prompt, and ours block 1 after it.
    apply(&index, other, stored(None, &[2]));
    apply(&index, pod, stored(Some(2), &[1]));
    apply(&index, pod, removed(Tier::Gpu, &[1]));
    apply(&index, other, removed(Tier::Gpu, &[2]));
    apply(&index, pod, offloaded(&[1]));
    apply(&index, pod, offloaded(&[2]));
    assert_eq!(index.trust(pod), Ok(TrustLevel::Degraded), "neither has a place");
    assert_all_is_given_back(&index, &pods);
}

/// A lane that keeps no book of its runs.
struct Unbooked;

impl LaneRuns for Unbooked {
    fn found_by_key(&self) -> bool {
        true
    }
    fn entered(&mut self, _: RunId) {}
    fn left(&mut self, _: RunId) {}
}

#[test]
fn any_number_of_keys_with_one_tag_are_found_and_removed() {
    use super::super::shard::spread;
    // One directory, and keys that it cannot tell apart: the tag is what an entry keeps of a key.
    let tag = |key: u64| spread(key) >> 16 & 0xff_ffff;
    let keys: Vec<u64> = (1_u64..).filter(|&key| tag(key) == tag(1)).take(6).collect();
    let chains = Chains::new(1, usize::MAX);
    for &key in &keys {
        assert_eq!(chains.store(0, None, &[key], &mut Unbooked, |_| ()), Stored { held: 1, stopped: None });
    }
    for &key in &keys {
        assert!(chains.find(Spot::by_key(key)).is_some(), "key {key} is found");
    }
    for &key in &keys {
        assert!(chains.remove(0, Spot::by_key(key), &mut Unbooked), "key {key} is removed");
    }
    assert_eq!((chains.len(), chains.bytes()), (0, 0));
}

#[test]
fn a_block_claimed_after_several_parents_has_a_place_after_each() {
    let chains = Chains::new(1, usize::MAX);
    let store = |lane, parent: Option<u64>, keys: &[u64]| {
        chains.store(lane, parent.map(Spot::by_key), keys, &mut Unbooked, |_| ())
    };
    store(0, None, &[1, 2]);
    store(0, Some(1), &[9]);
    store(0, Some(2), &[3, 4]);
    store(0, Some(3), &[5]);
    for (lane, parent) in [(0, Some(3)), (0, None), (1, None)] {
        assert_eq!(store(lane, parent, &[9]), Stored { held: 1, stopped: None });
    }
    assert_eq!(chains.len(), 8, "five blocks and three places of the sixth");
    for (lane, key) in [(0, 9), (0, 9), (0, 9), (1, 9), (0, 5), (0, 4), (0, 3), (0, 2), (0, 1)] {
        assert!(chains.remove(lane, Spot::by_key(key), &mut Unbooked), "key {key} of lane {lane}");
    }
    assert_eq!((chains.len(), chains.bytes()), (0, 0), "a reservation left behind would keep its run");
}

#[test]
fn an_unknown_parent_changes_nothing() {
    let chains = Chains::new(1, usize::MAX);
    let stored = chains.store(0, Some(Spot::by_key(77)), &[1], &mut Unbooked, |_| ());
    assert_eq!(stored, Stored { held: 0, stopped: Some(Stop::UnknownParent) });
    assert_eq!((chains.len(), chains.bytes(), chains.find(Spot::by_key(1))), (0, 0, None));
}

#[test]
fn the_place_of_a_dropped_block_is_not_mistaken_for_its_successors() {
    let chains = Chains::new(1, usize::MAX);
    chains.store(0, None, &[1, 2, 3], &mut Unbooked, |_| ());
    let place = chains.find(Spot::by_key(2));
    assert!(
        chains.remove(0, Spot::by_key(3), &mut Unbooked) && chains.remove(0, Spot::by_key(2), &mut Unbooked)
    );
    assert!(chains.remove(0, Spot::by_key(1), &mut Unbooked));
    chains.store(0, None, &[10, 20, 30], &mut Unbooked, |_| ());
    assert_eq!(chains.find(Spot::by_key(20)), place, "the slot is used again");
    assert_eq!(chains.find(Spot::by_key(2)), None);
    assert_eq!(chains.parent_of(Spot::by_key(2)), None);
    assert!(!chains.remove(0, Spot::by_key(2), &mut Unbooked));
}

#[test]
fn work_on_many_short_lived_runs_keeps_no_slots() {
    let chains = Chains::new(1, usize::MAX);
    for round in 0..50_u64 {
        let keys: Vec<u64> = (0..200).map(|i| 1 + round * 1000 + i).collect();
        for &key in &keys {
            chains.store(0, None, &[key], &mut Unbooked, |_| ());
        }
        // From both ends and from the middle, so that free slots lie everywhere.
        let order = (0..200).map(|i| keys[i * 77 % 200]);
        order.for_each(|key| assert!(chains.remove(0, Spot::by_key(key), &mut Unbooked)));
        assert_eq!((chains.bytes(), chains.recount()), (0, 0), "round {round}");
    }
}

#[test]
fn batches_of_every_size_leave_the_scratch_space_bounded() {
    let (index, domain) = (index(2), native());
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    for round in 0..100_u64 {
        let events = (0..20).map(|i| stored(None, &[round * 100 + i])).collect();
        index.apply_events(pod, &EventBatch { events, ..EventBatch::default() }).unwrap();
    }
    apply(&index, pod, KvEvent::Cleared);
    let left = index.view_bytes();
    assert!(left < 4096, "{left} bytes");
}

#[test]
fn slots_are_used_again_while_others_stay() {
    let chains = Chains::new(1, usize::MAX);
    let store = |key: u64| assert_eq!(chains.store(0, None, &[key], &mut Unbooked, |_| ()).held, 1);
    store(1);
    store(2);
    let bytes = chains.bytes();
    // A new run always comes before the old one goes, so that the slots are never cut off at their end.
    for key in 3..3000 {
        store(key);
        assert!(chains.remove(0, Spot::by_key(key - 1), &mut Unbooked));
    }
    assert!(chains.bytes() <= 2 * bytes, "{} bytes, {bytes} before", chains.bytes());
}

#[test]
fn lane_numbers_are_used_again() {
    let (index, domain) = (index(1), native());
    let stays = index.add_pod(Arc::clone(&domain), PodOptions::default());
    for _ in 0..50 {
        let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
        apply(&index, pod, stored(None, &[1]));
        apply(&index, pod, offloaded(&[1]));
        index.remove_pod(pod).unwrap();
        apply(&index, stays, stored(None, &[1]));
    }
    assert!(index.fleet.load().uses().len() <= 3);
}

#[test]
fn a_collision_across_domains_is_never_credited() {
    let (index, here) = (index(1), native());
    let there = Arc::new(CacheDomain::new("elsewhere", here.hasher().clone()).unwrap());
    let full = (0, GroupKind::FullAttention);
    let hybrid = std::vec![full, (1, GroupKind::SlidingWindow { window: 1 })];
    for groups in [Vec::new(), hybrid] {
        let options = PodOptions { groups, ..PodOptions::default() };
        let ours = index.add_pod(Arc::clone(&here), options.clone());
        let theirs = index.add_pod(Arc::clone(&there), options);
        // The very key that block 1 has here.
        let collides = 1 ^ here.salt() ^ there.salt();
        apply(&index, theirs, stored(None, &[collides]));
        assert_eq!(depth(&index, &there, theirs, &[collides]), 1);
        assert_eq!(depth(&index, &here, theirs, &[1]), 0);
        apply(&index, ours, stored(None, &[1]));
        assert_eq!(depth(&index, &here, ours, &[1]), 1);
        assert_eq!(depth(&index, &here, theirs, &[1]), 0);
        index.remove_pod(theirs).unwrap();
    }
}
