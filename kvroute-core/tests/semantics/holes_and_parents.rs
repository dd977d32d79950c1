//! Holes and parents.

use super::*;

#[test]
fn nothing_is_credited_past_a_hole() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1, 2, 3, 4, 5]));
    setup.apply(pod, remove(&[3]));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5]), 2);
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5]), 0);
}

#[test]
fn a_query_that_leaves_the_chain_is_credited_up_to_there() {
    let setup = Setup::native();
    let pod = setup.pod();
    let chain: Vec<u64> = (1..=3000).collect();
    setup.apply(pod, store(None, &chain));
    for leaves_at in [0, 1, 2, 1022, 1023, 1024, 1025, 2047, 2048, 2999] {
        let mut blocks = chain.clone();
        blocks[leaves_at..].iter_mut().for_each(|block| *block += 1_000_000);
        assert_eq!(setup.depth(pod, &blocks), leaves_at as u32, "leaves at {leaves_at}");
        assert_eq!(setup.depth(pod, &chain[..leaves_at]), leaves_at as u32, "ends at {leaves_at}");
    }
    assert_eq!(setup.depth(pod, &chain), 3000);
}

#[test]
fn a_chain_may_be_announced_in_pieces_of_any_size() {
    let setup = Setup::native();
    let pod = setup.pod();
    let chain: Vec<u64> = (1..=2500).collect();
    let (mut done, mut piece) = (0, 1);
    while done < chain.len() {
        let end = (done + piece).min(chain.len());
        setup.apply(pod, store(done.checked_sub(1).map(|i| chain[i]), &chain[done..end]));
        (done, piece) = (end, piece * 2 % 701);
    }
    assert_eq!(setup.depth(pod, &chain), 2500);
    assert_eq!(setup.index.blocks(), 2500);
}

#[test]
fn a_removed_parent_keeps_the_children_of_other_pods() {
    let setup = Setup::native();
    let (gone, stays) = (setup.pod(), setup.pod());
    for pod in [gone, stays] {
        setup.apply(pod, store(None, &[1, 2, 3]));
    }
    setup.apply(gone, remove(&[1]));
    assert_eq!(setup.depth(stays, &[1, 2, 3]), 3);
    assert_eq!(setup.depth(gone, &[1, 2, 3]), 0);
}

#[test]
fn children_are_credited_again_when_their_parent_returns() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1, 2, 3]));
    setup.apply(pod, store(Some(1), &[20, 30]));
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.depth(pod, &[1, 20, 30]), 0);
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.depth(pod, &[1, 2, 3]), 3);
    assert_eq!(setup.depth(pod, &[1, 20, 30]), 3);
}

#[test]
fn a_parent_removed_by_its_only_holder_is_still_a_place_for_its_children() {
    let setup = Setup::native();
    let (pod, late) = (setup.pod(), setup.pod());
    setup.apply(pod, store(None, &[1, 2]));
    setup.apply(pod, store(Some(1), &[20]));
    setup.apply(pod, remove(&[1]));
    // Nobody holds block 1, yet a pod may announce what follows it, and hold it later.
    assert_eq!(setup.apply(late, store(Some(1), &[2])).outcome, Outcome::Applied);
    assert_eq!(setup.depth(late, &[1, 2]), 0);
    setup.apply(late, store(None, &[1]));
    assert_eq!(setup.depth(late, &[1, 2]), 2);
}

#[test]
fn a_chain_that_leaves_a_long_run_in_the_middle_is_credited_through_both() {
    let setup = Setup::native();
    let (long, fork) = (setup.pod(), setup.pod());
    let chain: Vec<u64> = (1..=50).collect();
    setup.apply(long, store(None, &chain));
    let forked: Vec<u64> = (1..=20).chain(1020..1040).collect();
    setup.apply(fork, store(None, &forked));
    assert_eq!(setup.depth(fork, &forked), 40);
    assert_eq!(setup.depth(fork, &chain), 20);
    assert_eq!(setup.depth(long, &forked), 20);
    assert_eq!(setup.index.blocks(), 70, "what both hold is kept once");
}

#[test]
fn one_pods_eviction_leaves_the_others() {
    let setup = Setup::native();
    let pods: Vec<_> = (0..5).map(|_| setup.pod()).collect();
    for &pod in &pods {
        setup.apply(pod, store(None, &[1, 2, 3, 4]));
    }
    setup.apply(pods[2], remove(&[4, 3, 2, 1]));
    for (i, &pod) in pods.iter().enumerate() {
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), if i == 2 { 0 } else { 4 }, "pod {i}");
    }
}

#[test]
fn two_hundred_holders_of_one_block_are_all_found() {
    let setup = Setup::native();
    let pods: Vec<_> = (0..200).map(|_| setup.pod()).collect();
    for &pod in &pods {
        setup.apply(pod, store(None, &[7]));
    }
    let mut table = MatchTable::default();
    setup.index.lookup(&setup.domain, &query(&[7]), &mut table);
    assert_eq!(table.matches().len(), 200);
    assert!(pods.iter().all(|&pod| table.blocks(pod).total() == 1));
}

#[test]
fn two_thousand_pods_have_each_their_own_answer() {
    let setup = Setup::native();
    let chain: Vec<u64> = (1..=2000).collect();
    let pods: Vec<_> = (0..2000).map(|_| setup.pod()).collect();
    for (i, &pod) in pods.iter().enumerate() {
        setup.apply(pod, store(None, &chain[..=i]));
    }
    let mut table = MatchTable::default();
    setup.index.lookup(&setup.domain, &query(&chain), &mut table);
    assert_eq!(table.matches().len(), 2000);
    for found in table.matches() {
        let i = pods.iter().position(|&pod| pod == found.pod).expect("a pod of this index");
        assert_eq!(found.blocks.total(), i as u32 + 1, "pod {i}");
    }
}

#[test]
fn an_empty_query_matches_nobody() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.depth(pod, &[]), 0);
}

#[test]
fn a_table_keeps_nothing_of_the_query_before() {
    let setup = Setup::native();
    let (first, second) = (setup.pod(), setup.pod());
    setup.apply(first, store(None, &[1, 2]));
    setup.apply(second, store(None, &[3]));
    let mut table = MatchTable::default();
    setup.index.lookup(&setup.domain, &query(&[1, 2]), &mut table);
    setup.index.lookup(&setup.domain, &query(&[3]), &mut table);
    assert_eq!((table.blocks(first).total(), table.blocks(second).total()), (0, 1));
    assert_eq!(table.matches().len(), 1);
}

#[test]
fn the_last_token_is_never_searched_for() {
    let domain = native("model");
    for (prompt, blocks) in [(0, 0), (1, 0), (4, 0), (5, 1), (8, 1), (9, 2), (4001, 1000)] {
        assert_eq!(domain.searchable_blocks(prompt), blocks, "{prompt} tokens");
    }
}
