//! Copies.

use super::*;

#[test]
fn a_block_goes_with_its_last_copy() {
    for setup in [Setup::native(), Setup::translated()] {
        let pod = setup.pod();
        let prompt = tokens(0, 2);
        let held = setup.hash(&prompt, &HashContext::default());
        let names: Vec<u64> = held.iter().map(|block| block.0).collect();
        setup.apply(pod, store_tokens(None, &names, &prompt));
        // The last-token rule: the last block is computed, and stored, once more.
        setup.apply(pod, store_tokens(Some(names[0]), &names[1..], &prompt[4..]));
        setup.apply(pod, remove(&names[1..]));
        assert_eq!(setup.depth_of_tokens(pod, &prompt), 2);
        setup.apply(pod, remove(&names[1..]));
        assert_eq!(setup.depth_of_tokens(pod, &prompt), 1);
    }
}

#[test]
fn copies_are_counted_apart_in_every_tier() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, offload(Tier::Cpu, &[1]));
    setup.apply(pod, remove_from(Some(Tier::Cpu), 0, &[1]));
    assert_eq!(setup.tiers(pod, &[1]), [1, 0, 0, 0]);
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.tiers(pod, &[1]), [1, 0, 0, 0]);
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.tiers(pod, &[1]), [0; 4]);
}

#[test]
fn copies_are_counted_apart_in_every_group() {
    let setup = Setup::native();
    let full = GroupKind::FullAttention;
    let pod = setup.pod_with(|options| options.groups = vec![(0, full), (1, full)]);
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, in_group(1, None, store(None, &[1])));
    assert_eq!(setup.depth(pod, &[1]), 1);
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.depth(pod, &[1]), 1, "group 0 has a second copy");
    setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[1]));
    assert_eq!(setup.depth(pod, &[1]), 0, "group 1 had only one");
}

#[test]
fn copies_of_one_pod_are_not_those_of_another() {
    let setup = Setup::native();
    let (first, second) = (setup.pod(), setup.pod());
    setup.apply(first, store(None, &[1]));
    setup.apply(second, store(None, &[1]));
    setup.apply(second, store(None, &[1]));
    setup.apply(first, remove(&[1]));
    assert_eq!((setup.depth(first, &[1]), setup.depth(second, &[1])), (0, 1));
}

#[test]
fn blocks_announced_again_from_block_0_are_inferred_to_be_no_copies() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1, 2, 3]));
    setup.apply(pod, store(None, &[1, 2, 3, 4]));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 4);
    setup.apply(pod, remove(&[4, 3, 2, 1]));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 0);
    assert_eq!(setup.index.blocks(), 0);
}

#[test]
fn two_identical_prompts_in_one_batch_are_inferred_to_be_copies() {
    let setup = Setup::native();
    let pod = setup.pod();
    let twice = vec![store(None, &[1, 2]).event(), store(None, &[1, 2]).event()];
    setup.apply_all(pod, twice);
    setup.apply(pod, remove(&[2, 1]));
    assert_eq!(setup.depth(pod, &[1, 2]), 2);
}

#[test]
fn blocks_announced_again_are_copies_when_told_to_count() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.copies = CopyPolicy::Count);
    setup.apply(pod, store(None, &[1, 2, 3]));
    setup.apply(pod, store(None, &[1, 2, 3]));
    setup.apply(pod, remove(&[3, 2, 1]));
    assert_eq!(setup.depth(pod, &[1, 2, 3]), 3);
    setup.apply(pod, remove(&[3, 2, 1]));
    assert_eq!(setup.depth(pod, &[1, 2, 3]), 0);
}

#[test]
fn the_first_removal_takes_the_block_when_told_to_keep_a_set() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.copies = CopyPolicy::Set);
    for _ in 0..3 {
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, offload(Tier::Cpu, &[1]));
    }
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.tiers(pod, &[1]), [0, 1, 0, 0]);
    setup.apply(pod, remove_from(Some(Tier::Cpu), 0, &[1]));
    assert_eq!(setup.tiers(pod, &[1]), [0; 4]);
}

#[test]
fn a_set_keeps_no_copies_of_parked_blocks_either() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.copies = CopyPolicy::Set);
    setup.apply(pod, store(Some(1), &[2]));
    setup.apply(pod, store(Some(1), &[2]));
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, remove(&[2]));
    assert_eq!(setup.depth(pod, &[1, 2]), 1);
}

#[test]
fn a_hash_listed_twice_in_one_removal_takes_two_copies() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.apply(pod, remove(&[1, 1])).outcome, Outcome::Applied);
    assert_eq!(setup.depth(pod, &[1]), 0);
}

#[test]
fn a_removal_of_an_unknown_block_is_counted_and_harmless() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.apply(pod, remove(&[9])).outcome, Outcome::Ignored(IgnoreReason::UnknownBlock));
    assert_eq!(setup.index.counters(pod).expect("a known pod").unknown_removals, 1);
    assert_eq!(setup.depth(pod, &[1]), 1);
}
