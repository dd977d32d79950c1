//! Writers that race for the same blocks, with runs of eight blocks so that chains cross many.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::sync::Barrier;
use std::thread;
use std::vec::Vec;

use super::adversarial::any_event;
use super::{Arc, BlockHash, MatchTable, PodOptions, apply, assert_all_is_given_back, index, native};

/// Whatever contradicting engines say at the same time, what they held goes with them.
#[test]
fn contradicting_engines_at_the_same_time_leave_nothing_behind() {
    let mut runner = TestRunner::deterministic();
    for round in 0..30 {
        let (index, domain) = (index(2), native());
        let pods: Vec<_> = (0..3)
            .map(|_| {
                index.add_pod(Arc::clone(&domain), PodOptions { max_retired: 6, ..PodOptions::default() })
            })
            .collect();
        let scripts: Vec<Vec<_>> = pods
            .iter()
            .map(|_| (0..150).map(|_| any_event().new_tree(&mut runner).unwrap().current()).collect())
            .collect();
        let start = Barrier::new(pods.len() + 1);
        thread::scope(|scope| {
            for (&pod, script) in pods.iter().zip(&scripts) {
                let (index, start) = (&index, &start);
                scope.spawn(move || {
                    start.wait();
                    script.iter().for_each(|event| apply(index, pod, event.clone()));
                });
            }
            start.wait();
            let mut table = MatchTable::default();
            for i in 0..200_u64 {
                let query: Vec<_> = (0..12).map(|j| BlockHash((i + j * round) % 12)).collect();
                index.lookup(&domain, &query, &mut table);
                assert!(table.matches().iter().all(|found| found.blocks.total() <= 12));
            }
        });
        assert_eq!(index.bytes(), index.recount(), "round {round}");
        assert_all_is_given_back(&index, &pods);
    }
}
