//! Tests small enough for Miri: every structural change once, alone and with two threads.

use std::thread;
use std::vec::Vec;

use super::{
    Arc, BlockHash, KvEvent, MatchTable, PodOptions, Tier, apply, assert_all_is_given_back, depth, index,
    native, offloaded, removed, stored, translated,
};

#[test]
fn miri_runs_grow_fork_shrink_and_go() {
    for domain in [native(), translated()] {
        let index = index(2);
        let pods: Vec<_> =
            (0..2).map(|_| index.add_pod(Arc::clone(&domain), PodOptions::default())).collect();
        let chain: Vec<u64> = (1..=20).collect();
        for &pod in &pods {
            apply(&index, pod, stored(None, &chain));
            apply(&index, pod, stored(Some(5), &[50, 51]));
        }
        // A hole in a run, its end, and a run that only its child keeps.
        apply(&index, pods[0], removed(Tier::Gpu, &[3, 20, 19, 1, 2]));
        apply(&index, pods[0], offloaded(&[20]));
        apply(&index, pods[0], stored(None, &[1, 2, 3]));
        assert_eq!(index.bytes(), index.recount());
        apply(&index, pods[1], KvEvent::Cleared);
        assert_eq!(index.bytes(), index.recount());
        assert_all_is_given_back(&index, &pods);
    }
}

#[test]
fn miri_two_writers_share_a_chain() {
    let (index, domain) = (index(2), native());
    let pods: Vec<_> = (0..2).map(|_| index.add_pod(Arc::clone(&domain), PodOptions::default())).collect();
    let chain: Vec<u64> = (1..=18).collect();
    thread::scope(|scope| {
        for &pod in &pods {
            let (index, chain) = (&index, &chain);
            scope.spawn(move || {
                for _ in 0..3 {
                    apply(index, pod, stored(None, chain));
                    apply(index, pod, stored(Some(9), &[100 + pod.slot() as u64]));
                    apply(index, pod, removed(Tier::Gpu, &chain[4..]));
                    apply(index, pod, stored(Some(4), &chain[4..]));
                    apply(index, pod, removed(Tier::Gpu, &[100 + pod.slot() as u64]));
                    apply(index, pod, KvEvent::Cleared);
                    apply(index, pod, stored(None, &chain[..12]));
                }
            });
        }
    });
    for &pod in &pods {
        assert_eq!(depth(&index, &domain, pod, &chain), 12);
    }
    assert_eq!((index.blocks(), index.bytes()), (12, index.recount()));
    assert_all_is_given_back(&index, &pods);
}

#[test]
fn miri_a_lookup_overlaps_a_writer_and_a_pod_that_goes() {
    let (index, domain) = (index(4), native());
    let (stays, goes) = (
        index.add_pod(Arc::clone(&domain), PodOptions::default()),
        index.add_pod(Arc::clone(&domain), PodOptions::default()),
    );
    let chain: Vec<u64> = (1..=20).collect();
    for pod in [stays, goes] {
        apply(&index, pod, stored(None, &chain));
    }
    let query: Vec<_> = chain.iter().copied().map(BlockHash).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            apply(&index, stays, removed(Tier::Gpu, &[1, 20]));
            index.remove_pod(goes).unwrap();
            apply(&index, stays, stored(None, &[1]));
        });
        let mut table = MatchTable::default();
        for _ in 0..6 {
            index.lookup(&domain, &query, &mut table);
            assert!([0, 19, 20].contains(&table.blocks(stays).total()));
        }
    });
    assert_eq!(depth(&index, &domain, goes, &chain), 0);
    assert_all_is_given_back(&index, &[stays]);
}
