//! What is expected of a pod for a moment, against a list of (blocks, end).

use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::{assert_all_is_given_back, index, translated as domain};
use crate::index::{BlockIndex, IndexOptions, MatchTable, PodId, PodOptions};
use crate::{BlockHash, CacheDomain};

/// A prompt of a small tree: each step takes one of a few ways on, so that prompts share and part.
fn prompt(ways: &[u8]) -> Vec<BlockHash> {
    let mut hash = 3_u64;
    let chained = ways.iter().map(|&way| {
        hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(way) + 1);
        BlockHash(hash)
    });
    chained.collect()
}

fn expected(index: &BlockIndex, domain: &CacheDomain, pod: PodId, blocks: &[BlockHash]) -> usize {
    let mut table = MatchTable::default();
    index.lookup(domain, blocks, &mut table);
    table.matches().iter().find(|m| m.pod == pod).map_or(0, |m| m.speculative as usize)
}

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[derive(Clone, Debug)]
enum Act {
    Speculate {
        pod: usize,
        ways: Vec<u8>,
        lasts: u64,
    },
    End(usize),
    Wait(u64),
    /// What is predicted shares the runs.
    Predict {
        pod: usize,
        ways: Vec<u8>,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let ways = || {
        (0..20_usize, prop::collection::vec(0..2_u8, 0..10)).prop_map(|(head, tail)| {
            let mut ways = alloc::vec![0; head];
            ways.extend(tail);
            ways
        })
    };
    let act = prop_oneof![
        6 => (0..2_usize, ways(), 0..100_u64).prop_map(|(pod, ways, lasts)| Act::Speculate { pod, ways, lasts }),
        3 => (0..64_usize).prop_map(Act::End),
        2 => (0..60_u64).prop_map(Act::Wait),
        1 => (0..2_usize, ways()).prop_map(|(pod, ways)| Act::Predict { pod, ways }),
    ];
    prop::collection::vec(act, 1..60)
}

proptest! {
    #[test]
    fn the_lane_is_the_union_of_what_has_not_ended_whatever_ends_first(acts in acts()) {
        let (index, domain) = (index(2), domain());
        let pods = [(); 2].map(|()| index.add_pod(domain.clone(), PodOptions::default()));
        let mut live = Vec::new();
        let (mut prompts, mut now) = (Vec::new(), 0);
        for act in acts {
            match act {
                Act::Speculate { pod, ways, lasts } => {
                    let blocks = prompt(&ways);
                    let speculation = index.speculate(pods[pod], &domain, &blocks, at(now + lasts)).unwrap();
                    prop_assert_eq!(speculation.is_none(), blocks.is_empty());
                    live.extend(speculation.map(|speculation| (pod, blocks.clone(), now + lasts, speculation)));
                    prompts.push(blocks);
                }
                Act::End(which) if !live.is_empty() => {
                    let (pod, _, _, speculation) = live.swap_remove(which % live.len());
                    // Twice does no harm.
                    index.end_speculation(pods[pod], speculation);
                    index.end_speculation(pods[pod], speculation);
                }
                Act::End(_) => {}
                Act::Wait(milliseconds) => now += milliseconds,
                Act::Predict { pod, ways } => drop(index.predict(pods[pod], &domain, &prompt(&ways)).unwrap()),
            }
            index.expire_speculations(at(now));
            live.retain(|entry| entry.2 > now);
            for blocks in &prompts {
                for (number, &pod) in pods.iter().enumerate() {
                    let shared = |other: &[BlockHash]| blocks.iter().zip(other).take_while(|(a, b)| a == b).count();
                    let its = live.iter().filter(|entry| entry.0 == number);
                    let depth = its.map(|entry| shared(&entry.1)).max().unwrap_or(0);
                    prop_assert_eq!(expected(&index, &domain, pod, blocks), depth);
                }
            }
            prop_assert_eq!(index.bytes(), index.recount());
        }
        index.expire_speculations(at(now + 100));
        for &pod in &pods {
            index.pod(pod).unwrap().sent.lock().predicted.clear(&index.chains);
        }
        prop_assert_eq!((index.bytes(), index.recount()), (0, 0));
        assert_all_is_given_back(&index, &pods);
    }
}

#[test]
fn beyond_the_bound_those_that_would_end_first_go_first() {
    let domain = domain();
    let index = BlockIndex::new(IndexOptions { max_predicted: 25, ..IndexOptions::default() });
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    let prompts = [1, 2, 3].map(|way| prompt(&[way; 10]));
    let depths = || prompts.each_ref().map(|blocks| expected(&index, &domain, pod, blocks));
    // The second is to last longest.
    for (blocks, end) in prompts.iter().zip([50, 90, 70]) {
        index.speculate(pod, &domain, blocks, at(end)).unwrap();
    }
    assert_eq!(depths(), [0, 10, 10], "30 blocks are more than 25");
    index.expire_speculations(at(70));
    assert_eq!(depths(), [0, 10, 0]);
    // One prompt beyond it counts with its beginning, and nothing else has room beside it.
    let long = prompt(&[4; 40]);
    index.speculate(pod, &domain, &long, at(100)).unwrap();
    assert_eq!((expected(&index, &domain, pod, &long), depths()), (25, [0; 3]));
    assert_eq!(index.bytes(), index.recount());
    index.expire_speculations(at(100));
    assert_eq!((expected(&index, &domain, pod, &long), index.bytes()), (0, 0));
}

#[test]
fn ends_that_are_over_are_found_in_whatever_order_they_were_given() {
    let (index, domain) = (index(2), domain());
    let pods = [(); 3].map(|()| index.add_pod(domain.clone(), PodOptions::default()));
    let blocks = prompt(&[0; 5]);
    for (&pod, end) in pods.iter().zip([30, 10, 20]) {
        index.speculate(pod, &domain, &blocks, at(end)).unwrap();
        index.speculate(pod, &domain, &blocks[..2], at(end + 100)).unwrap();
        index.speculate(pod, &domain, &blocks[..3], at(end - 5)).unwrap();
    }
    let depths = |now| {
        index.expire_speculations(at(now));
        pods.map(|pod| expected(&index, &domain, pod, &blocks))
    };
    assert_eq!(depths(9), [5, 5, 5]);
    assert_eq!(depths(10), [5, 2, 5]);
    assert_eq!(depths(29), [5, 2, 2]);
    assert_eq!(depths(110), [2, 0, 2]);
    assert_eq!(depths(130), [0, 0, 0]);
    assert_eq!(index.bytes(), 0);
}

#[test]
fn a_speculation_that_ended_leaves_no_word_behind() {
    let (index, domain) = (index(2), domain());
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    let once = |way| {
        let speculation = index.speculate(pod, &domain, &prompt(&[way; 10]), at(1000)).unwrap();
        index.end_speculation(pod, speculation.unwrap());
        (index.bytes(), index.view_bytes())
    };
    let first = once(0);
    assert!((1..=u8::MAX).all(|way| once(way) == first));
}

#[test]
fn nothing_is_expected_of_a_pod_that_is_gone_or_where_the_bound_is_zero() {
    let (index, domain) = (index(2), domain());
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    let speculation = index.speculate(pod, &domain, &prompt(&[0; 4]), at(9)).unwrap().unwrap();
    index.remove_pod(pod).unwrap();
    assert!(index.speculate(pod, &domain, &prompt(&[0; 4]), at(9)).is_err());
    index.end_speculation(pod, speculation);
    index.expire_speculations(at(10));

    let index = BlockIndex::new(IndexOptions { max_predicted: 0, ..IndexOptions::default() });
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    assert_eq!(index.speculate(pod, &domain, &prompt(&[0; 4]), at(9)), Ok(None));
    assert_eq!(index.bytes(), 0);
}
