//! Tiers.

use super::*;

#[test]
fn the_device_prefix_is_continued_once_in_every_lower_tier() {
    let setup = Setup::native();
    let pod = setup.pod();
    let chain: Vec<u64> = (1..=8).collect();
    setup.apply(pod, store(None, &chain));
    setup.apply(pod, offload(Tier::Cpu, &chain[1..5]));
    setup.apply(pod, offload(Tier::Disk, &chain[4..6]));
    setup.apply(pod, offload(Tier::External, &chain[6..8]));
    setup.apply(pod, remove(&chain[2..]));
    assert_eq!(setup.tiers(pod, &chain), [2, 3, 1, 2]);
}

#[test]
fn a_tier_does_not_continue_past_its_own_hole() {
    let setup = Setup::native();
    let pod = setup.pod();
    let chain: Vec<u64> = (1..=6).collect();
    setup.apply(pod, store(None, &chain));
    setup.apply(pod, offload(Tier::Cpu, &[2, 3, 5, 6]));
    setup.apply(pod, remove(&chain[1..]));
    assert_eq!(setup.tiers(pod, &chain), [1, 2, 0, 0]);
}

#[test]
fn the_device_does_not_continue_what_a_lower_tier_holds() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1, 2, 3]));
    setup.apply(pod, offload(Tier::Cpu, &[1, 2]));
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.tiers(pod, &[1, 2, 3]), [0, 2, 0, 0], "one continuation a tier, nearest first");
}

#[test]
fn an_offload_without_tokens_is_placed_while_the_device_copy_is_there() {
    for setup in [Setup::native(), Setup::translated()] {
        let pod = setup.pod();
        let prompt = tokens(0, 3);
        let held = setup.hash(&prompt, &HashContext::default());
        let names: Vec<u64> = held.iter().map(|block| block.0 ^ 0xabcd).collect();
        let names = if setup.domain.is_native() { held.iter().map(|b| b.0).collect() } else { names };
        setup.apply(pod, store_tokens(None, &names, &prompt));
        assert_eq!(setup.apply(pod, offload(Tier::Cpu, &names[1..])).outcome, Outcome::Applied);
        setup.apply(pod, remove(&names[1..]));
        let usable = setup.usable(pod, &held);
        assert_eq!((usable.in_tier(Tier::Gpu), usable.in_tier(Tier::Cpu)), (1, 2));
    }
}

#[test]
fn an_offload_is_placed_after_the_device_copies_are_gone() {
    for setup in [Setup::native(), Setup::translated()] {
        let pod = setup.pod();
        let prompt = tokens(0, 4);
        let held = setup.hash(&prompt, &HashContext::default());
        let names: Vec<u64> = held.iter().map(|block| block.0).collect();
        setup.apply(pod, store_tokens(None, &names, &prompt));
        setup.apply(pod, offload(Tier::Cpu, &names[..1]));
        // All blocks after the first leave the device, the last first, as engines evict.
        for name in names[1..].iter().rev() {
            setup.apply(pod, remove(&[*name]));
        }
        assert_eq!(setup.index.blocks(), 1);
        assert_eq!(setup.apply(pod, offload(Tier::Cpu, &names[3..])).outcome, Outcome::Applied);
        let usable = setup.usable(pod, &held);
        assert_eq!(usable.total(), 1, "blocks 1 and 2 are steps to block 3, not held");
        assert_eq!(setup.apply(pod, offload(Tier::Cpu, &names[1..3])).outcome, Outcome::Applied);
        let usable = setup.usable(pod, &held);
        assert_eq!((usable.in_tier(Tier::Gpu), usable.in_tier(Tier::Cpu)), (1, 3));
        assert_eq!(setup.trust(pod), TrustLevel::Exact);
        setup.index.remove_pod(pod).expect("a known pod");
        assert_eq!((setup.index.blocks(), setup.index.bytes()), (0, 0));
    }
}

#[test]
fn a_pod_with_any_lower_tier_has_its_parents_remembered() {
    let setup = Setup::native();
    let pod = setup.pod();
    // Announced with its tokens, so that nothing had to be looked up yet.
    setup.apply(pod, BlockStored { tier: Some(Tier::Cpu), ..store(None, &[50]) });
    setup.apply(pod, store(None, &[1, 2]));
    setup.apply(pod, remove(&[2]));
    assert_eq!(setup.apply(pod, offload(Tier::Cpu, &[2])).outcome, Outcome::Applied);
    assert_eq!(setup.tiers(pod, &[1, 2]), [1, 1, 0, 0]);
}

#[test]
fn an_offload_of_a_block_never_seen_is_counted_and_degrades() {
    let setup = Setup::native();
    let pod = setup.pod();
    let report = setup.apply(pod, offload(Tier::Cpu, &[1]));
    assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownBlock));
    assert_eq!(setup.index.counters(pod).expect("a known pod").blocks_refused, 1);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    assert_eq!(setup.depth(pod, &[1]), 0);
}

#[test]
fn names_without_a_copy_are_kept_within_their_bound() {
    let setup = Setup::translated();
    let pod = setup.pod_with(|options| options.max_retired = 2);
    let prompt = tokens(0, 5);
    setup.apply(pod, store_tokens(None, &[1, 2, 3, 4, 5], &prompt));
    setup.apply(pod, offload(Tier::Cpu, &[1, 2]));
    setup.apply(pod, remove(&[5, 4, 3]));
    let unknown = Outcome::Ignored(IgnoreReason::UnknownBlock);
    assert_eq!(setup.apply(pod, offload(Tier::Cpu, &[5])).outcome, unknown, "the oldest is forgotten");
    assert_eq!(setup.apply(pod, offload(Tier::Cpu, &[3])).outcome, Outcome::Applied);
    assert_eq!(setup.depth_of_tokens(pod, &prompt), 3);
}

#[test]
fn an_offload_of_a_parked_block_waits_with_it() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(Some(1), &[2]));
    assert_eq!(setup.apply(pod, offload(Tier::Cpu, &[2])).outcome, Outcome::Applied);
    setup.apply(pod, remove(&[2]));
    setup.apply(pod, store(None, &[1]));
    assert_eq!(setup.tiers(pod, &[1, 2]), [1, 1, 0, 0]);
}

#[test]
fn a_store_into_an_unknown_tier_is_dropped_and_counted() {
    let setup = Setup::native();
    let pod = setup.pod();
    let report = setup.apply(pod, BlockStored { tier: None, ..store(None, &[1]) });
    assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownTier));
    assert_eq!(setup.ignored(pod, IgnoreReason::UnknownTier), 1);
    assert_eq!((setup.depth(pod, &[1]), setup.index.blocks()), (0, 0));
    assert_eq!(setup.trust(pod), TrustLevel::Exact, "what we cannot credit is no loss");
}

#[test]
fn a_removal_from_an_unknown_tier_takes_every_copy_everywhere() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, offload(Tier::Cpu, &[1]));
    setup.apply(pod, offload(Tier::Disk, &[1]));
    setup.apply(pod, store(Some(9), &[1]));
    setup.apply(pod, remove_from(None, 0, &[1]));
    assert_eq!(setup.tiers(pod, &[1]), [0; 4]);
    assert_eq!(setup.index.blocks(), 0);
}

#[test]
fn steps_to_an_offloaded_block_are_never_held_at_the_memory_bound() {
    // Whatever the bound refuses on the way to block 4, blocks 1 to 3 are not in host memory.
    for spare in (0..2000).step_by(8) {
        let setup = Setup::bounded(native("model"), 1200 + spare);
        let (pod, filler) = (setup.pod(), setup.pod());
        let chain = [1, 2, 3, 4];
        setup.apply(pod, offload(Tier::Cpu, &[77]));
        setup.apply(pod, store(None, &chain));
        setup.apply(pod, remove(&[4, 3, 2, 1]));
        let full = |next: &u64| setup.apply(filler, store(None, &[*next])).outcome != Outcome::Applied;
        let next = (1000..2000).find(full).expect("the bound is reached");
        // A little room again.
        (1000..next).take(spare / 100).for_each(|block| drop(setup.apply(filler, remove(&[block]))));
        setup.apply(pod, offload(Tier::Cpu, &[4]));
        assert_eq!(setup.tiers(pod, &chain), [0; 4], "{spare} bytes spare");
    }
}
