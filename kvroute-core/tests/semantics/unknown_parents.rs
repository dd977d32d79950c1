//! Unknown parents.

use super::*;

#[test]
fn a_block_with_an_unknown_parent_is_parked_and_never_rooted() {
    for setup in [Setup::native(), Setup::translated()] {
        let pod = setup.pod();
        assert_eq!(setup.apply(pod, store(Some(1), &[2, 3])).outcome, Outcome::Parked);
        assert_eq!(setup.index.parked_blocks(pod), Ok(2));
        assert_eq!(setup.depth(pod, &[2, 3]), 0);
        assert_eq!(setup.depth_of_tokens(pod, &tokens(0, 2)), 0);
        assert_eq!(setup.index.blocks(), 0);
        assert_eq!(setup.index.counters(pod).expect("a known pod").parked, 1);
    }
}

#[test]
fn parked_chains_are_placed_when_their_parent_arrives() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(Some(4), &[5]));
    setup.apply(pod, store(Some(2), &[3, 4]));
    setup.apply(pod, store(Some(2), &[30]));
    assert_eq!(setup.index.parked_blocks(pod), Ok(4));
    assert_eq!(setup.apply(pod, store(None, &[1, 2])).outcome, Outcome::Applied);
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5]), 5);
    assert_eq!(setup.depth(pod, &[1, 2, 30]), 3);
    assert_eq!(setup.index.parked_blocks(pod), Ok(0));
}

#[test]
fn parked_blocks_of_opaque_engines_are_hashed_when_placed() {
    let setup = Setup::translated();
    let pod = setup.pod();
    let prompt = tokens(100, 4);
    setup.apply(pod, store_tokens(Some(1), &[2, 3, 4], &prompt[4..]));
    assert_eq!(setup.depth_of_tokens(pod, &prompt), 0);
    setup.apply(pod, store_tokens(None, &[1], &prompt[..4]));
    assert_eq!(setup.depth_of_tokens(pod, &prompt), 4);
}

#[test]
fn a_block_removed_while_parked_is_not_placed() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(Some(1), &[2, 3]));
    assert_eq!(setup.apply(pod, remove(&[2])).outcome, Outcome::Applied);
    assert_eq!(setup.index.parked_blocks(pod), Ok(1));
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.depth(pod, &[1, 2, 3]), 1);
}

#[test]
fn copies_of_a_parked_block_are_counted() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(Some(1), &[2]));
    setup.apply(pod, store(Some(1), &[2]));
    setup.apply(pod, remove(&[2]));
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.depth(pod, &[1, 2]), 2, "one of the two copies is left");
    setup.apply(pod, remove(&[2]));
    assert_eq!(setup.depth(pod, &[1, 2]), 1);
}

#[test]
fn copies_gathered_while_parked_count_once_the_block_is_placed() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(Some(1), &[2]));
    setup.apply(pod, store(Some(1), &[2]));
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, remove(&[2]));
    assert_eq!(setup.depth(pod, &[1, 2]), 2);
    setup.apply(pod, remove(&[2]));
    assert_eq!(setup.depth(pod, &[1, 2]), 1);
}

#[test]
fn parking_is_bounded_and_what_does_not_fit_is_counted() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.max_parked = 10);
    let report = setup.apply(pod, store(Some(1), &(2..=16).collect::<Vec<_>>()));
    assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::ParkedFull));
    assert_eq!(setup.index.parked_blocks(pod), Ok(10));
    assert_eq!(setup.index.counters(pod).expect("a known pod").blocks_refused, 5);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.depth(pod, &(1..=16).collect::<Vec<_>>()), 11);
}

#[test]
fn a_clear_forgets_what_was_parked() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(Some(1), &[2]));
    setup.apply(pod, KvEvent::Cleared);
    assert_eq!(setup.index.parked_blocks(pod), Ok(0));
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.depth(pod, &[1, 2]), 1);
}

#[test]
fn a_parent_known_from_another_pod_is_a_place_where_hashes_are_shared() {
    let setup = Setup::native();
    let (first, late) = (setup.pod(), setup.pod());
    setup.apply(first, store(None, &[1, 2]));
    assert_eq!(setup.apply(late, store(Some(2), &[3])).outcome, Outcome::Applied);
    assert_eq!(setup.depth(late, &[1, 2, 3]), 0, "a late joiner may undercount, never overcount");
    assert_eq!(setup.depth(first, &[1, 2, 3]), 2);
}

#[test]
fn opaque_hashes_of_one_pod_are_no_parents_for_another() {
    let setup = Setup::translated();
    let (first, other) = (setup.pod(), setup.pod());
    setup.apply(first, store_tokens(None, &[1], &tokens(0, 1)));
    assert_eq!(setup.apply(other, store_tokens(Some(1), &[2], &tokens(4, 1))).outcome, Outcome::Parked);
}

#[test]
fn parked_bytes_are_reported_and_bounded() {
    let setup = Setup::translated();
    let pod = setup.pod_with(|options| options.max_parked_bytes = 10_000);
    let orphan = |hash: u64| BlockStored {
        extra_keys: vec![vec![ExtraKey::Text("k".repeat(3000))]],
        ..store(Some(999), &[hash])
    };
    for hash in 1..=3 {
        assert_eq!(setup.apply(pod, orphan(hash)).outcome, Outcome::Parked);
    }
    assert!(setup.index.view_bytes() > 9000, "{}", setup.index.view_bytes());
    assert_eq!(setup.apply(pod, orphan(4)).outcome, Outcome::Ignored(IgnoreReason::ParkedFull));
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.apply(pod, orphan(4)).outcome, Outcome::Parked, "room that was given back");
}

#[test]
fn an_offload_announcement_places_what_waited_for_its_block() {
    let setup = Setup::native();
    let (other, pod) = (setup.pod(), setup.pod());
    let child = BlockStored { tier: Some(Tier::Cpu), ..store(Some(1), &[2]) };
    assert_eq!(setup.apply(pod, child).outcome, Outcome::Parked);
    setup.apply(other, store(None, &[1]));
    setup.apply(pod, offload(Tier::Cpu, &[1]));
    assert_eq!(setup.depth(pod, &[1, 2]), 2);
}
