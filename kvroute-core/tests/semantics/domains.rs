//! Domains.

use super::*;

#[test]
fn domains_never_leak_into_one_another_even_with_equal_native_hashes() {
    let index = BlockIndex::default();
    let domains = [native("llama"), native("qwen"), native("")];
    let pods = domains.clone().map(|domain| index.add_pod(domain, PodOptions::default()));
    let apply = |pod, event: KvEvent| {
        let batch = EventBatch { events: vec![event], ..EventBatch::default() };
        index.apply_events(pod, &batch).expect("a known pod").outcome
    };
    for (i, &pod) in pods.iter().enumerate() {
        assert_eq!(apply(pod, store(None, &[1, 2, 3][..=i]).event()), Outcome::Applied);
    }
    let mut table = MatchTable::default();
    for (i, domain) in domains.iter().enumerate() {
        index.lookup(domain, &query(&[1, 2, 3]), &mut table);
        assert_eq!(table.matches().len(), 1, "only the domain's own pod");
        assert_eq!(table.blocks(pods[i]).total(), i as u32 + 1);
    }
    assert_eq!(apply(pods[0], store(Some(3), &[4]).event()), Outcome::Parked, "block 3 is another's");
    assert_eq!(apply(pods[2], remove(&[1]).event()), Outcome::Applied);
    index.lookup(&domains[0], &query(&[1]), &mut table);
    assert_eq!(table.blocks(pods[0]).total(), 1);
}

#[test]
fn hybrid_pods_of_another_domain_do_not_answer() {
    let index = BlockIndex::default();
    let (here, there) = (native("here"), native("there"));
    let options = PodOptions {
        groups: vec![(0, GroupKind::FullAttention), (1, GroupKind::SlidingWindow { window: 5 })],
        ..PodOptions::default()
    };
    let pods = [&here, &there].map(|domain| index.add_pod(Arc::clone(domain), options.clone()));
    for pod in pods {
        let events = vec![store(None, &[1]).event(), in_group(1, None, store(None, &[1])).event()];
        let batch = EventBatch { events, ..EventBatch::default() };
        index.apply_events(pod, &batch).expect("a known pod");
    }
    let mut table = MatchTable::default();
    index.lookup(&here, &query(&[1]), &mut table);
    assert_eq!(table.matches().iter().map(|found| found.pod).collect::<Vec<_>>(), [pods[0]]);
}

#[test]
fn a_wrong_block_size_is_ignored_counted_and_degrades() {
    let setup = Setup::translated();
    let pod = setup.pod();
    // 8 tokens a block: fewer blocks than the tokens would make of ours.
    let event = BlockStored { block_size: 8, ..store_tokens(None, &[1], &tokens(0, 2)) };
    assert_eq!(setup.apply(pod, event).outcome, Outcome::Ignored(IgnoreReason::BlockSize));
    assert_eq!(setup.ignored(pod, IgnoreReason::BlockSize), 1);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    assert_eq!(setup.depth_of_tokens(pod, &tokens(0, 2)), 0, "never over-credited");
}

#[test]
fn eagle_pairs_are_refused() {
    let setup = Setup::translated();
    let pod = setup.pod();
    let event = BlockStored { bigrams: true, ..store_tokens(None, &[1], &tokens(0, 1)) };
    assert_eq!(setup.apply(pod, event).outcome, Outcome::Ignored(IgnoreReason::Bigrams));
    assert_eq!(setup.depth_of_tokens(pod, &tokens(0, 1)), 0);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
}

#[test]
fn an_engine_hash_announced_with_other_tokens_while_held_is_refused() {
    let setup = Setup::translated();
    let pod = setup.pod();
    setup.apply(pod, store_tokens(None, &[1], &tokens(0, 1)));
    let report = setup.apply(pod, store_tokens(None, &[1], &tokens(100, 1)));
    assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::Contradiction));
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    // The name stays the first block's, so that its removal takes the first block away.
    assert_eq!(setup.depth_of_tokens(pod, &tokens(100, 1)), 0);
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.depth_of_tokens(pod, &tokens(0, 1)), 0);
    // Without a copy the name is free again.
    assert_eq!(setup.apply(pod, store_tokens(None, &[1], &tokens(100, 1))).outcome, Outcome::Applied);
    assert_eq!(setup.depth_of_tokens(pod, &tokens(100, 1)), 1);
}

#[test]
fn an_engine_that_lies_about_parents_spoils_no_other_pods_matches() {
    let setup = Setup::native();
    let (liar, honest) = (setup.pod(), setup.pod());
    setup.apply(liar, store(None, &[7]));
    // The liar is first with every block, each after a wrong one.
    setup.apply(liar, store(Some(7), &[2]));
    setup.apply(liar, store(None, &[3]));
    setup.apply(liar, store(Some(2), &[1]));
    assert_eq!(setup.apply(honest, store(None, &[1, 2])).outcome, Outcome::Applied);
    assert_eq!(setup.apply(honest, store(Some(2), &[3])).outcome, Outcome::Applied);
    assert_eq!(setup.depth(honest, &[1, 2, 3]), 3);
    assert_eq!(setup.depth(liar, &[1, 2, 3]), 0);
    assert_eq!(setup.trust(honest), TrustLevel::Exact);
    setup.apply(honest, remove(&[2]));
    assert_eq!(setup.depth(honest, &[1, 2, 3]), 1);
    assert_eq!(setup.depth(liar, &[7, 2, 1]), 3, "as it said");
}

#[test]
fn a_wrong_block_in_the_middle_of_a_chain_leads_no_other_pods_match_astray() {
    let setup = Setup::native();
    let (liar, honest) = (setup.pod(), setup.pod());
    setup.apply(liar, store(None, &[1, 77, 3]));
    setup.apply(honest, store(None, &[1, 2, 3]));
    assert_eq!(setup.depth(honest, &[1, 2, 3]), 3);
    assert_eq!(setup.depth(liar, &[1, 2, 3]), 1);
}

#[test]
fn sparse_events_name_blocks_whose_place_is_known() {
    let setup = Setup::native();
    let sliding = GroupKind::SlidingWindow { window: 5 };
    let pod = setup.pod_with(|o| o.groups = vec![(0, GroupKind::FullAttention), (1, sliding)]);
    setup.apply(pod, store(None, &[1, 2, 3, 4]));
    let sparse = BlockStored { token_ids: tokens(0, 4), ..store(None, &[4]) };
    assert_eq!(setup.apply(pod, in_group(1, None, sparse)).outcome, Outcome::Applied);
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 4);
    let unknown = BlockStored { token_ids: tokens(0, 4), ..store(None, &[40]) };
    let outcome = setup.apply(pod, in_group(1, None, unknown)).outcome;
    assert_eq!(outcome, Outcome::Ignored(IgnoreReason::Sparse));
}
