//! Groups.

use super::*;

const FULL: GroupKind = GroupKind::FullAttention;
/// Two blocks before the position: `ceil((9 - 1) / 4)`.
const SLIDING: GroupKind = GroupKind::SlidingWindow { window: 9 };

fn hybrid(setup: &Setup) -> PodId {
    setup.pod_with(|options| options.groups = vec![(0, FULL), (1, SLIDING)])
}

#[test]
fn a_window_needs_only_the_blocks_before_the_cut() {
    let setup = Setup::native();
    let pod = hybrid(&setup);
    setup.apply(pod, store(None, &[1, 2, 3, 4, 5, 6]));
    setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2, 3, 4, 5, 6])));
    setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[1, 2, 3, 4]));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5, 6]), 6);
}

#[test]
fn a_window_one_block_later_may_be_whole_where_the_cut_one_is_not() {
    let setup = Setup::native();
    let pod = hybrid(&setup);
    setup.apply(pod, store(None, &[1, 2, 3, 4, 5, 6]));
    setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2, 3, 4, 5, 6])));
    setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[1, 2, 3, 4]));
    // At the cut before block 6 the window is blocks 4 and 5, and 4 is gone. Cutting the answer for
    // six blocks would have credited five.
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5]), 0);
}

#[test]
fn the_largest_position_with_a_whole_window_counts() {
    let setup = Setup::native();
    let pod = hybrid(&setup);
    setup.apply(pod, store(None, &[1, 2, 3, 4, 5, 6]));
    setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2, 3, 4, 5, 6])));
    setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[5]));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5, 6]), 4);
}

#[test]
fn a_window_reaching_before_block_0_needs_what_there_is() {
    let setup = Setup::native();
    let pod = hybrid(&setup);
    setup.apply(pod, store(None, &[1, 2, 3]));
    setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1])));
    assert_eq!(setup.depth(pod, &[1, 2, 3]), 1);
}

#[test]
fn windows_of_whole_and_broken_block_sizes_need_the_right_number_of_blocks() {
    for (window, needed) in [(1, 0), (2, 1), (5, 1), (6, 2), (9, 2), (10, 3)] {
        let setup = Setup::native();
        let sliding = GroupKind::SlidingWindow { window };
        let pod = setup.pod_with(|options| options.groups = vec![(0, FULL), (1, sliding)]);
        let chain: Vec<u64> = (1..=8).collect();
        for kept in (0..=8).rev() {
            setup.apply(pod, KvEvent::Cleared);
            setup.apply(pod, store(None, &chain));
            setup.apply(pod, in_group(1, None, store(None, &chain)));
            setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &chain[..8 - kept]));
            let expected = if kept >= needed { 8 } else { 0 };
            assert_eq!(setup.depth(pod, &chain), expected, "window {window}, {kept} blocks kept");
        }
    }
}

#[test]
fn all_groups_must_agree() {
    let setup = Setup::native();
    let pod = hybrid(&setup);
    setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2, 3, 4])));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 0, "nothing in the full-attention group");
    setup.apply(pod, store(None, &[1, 2, 3]));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 3);
}

#[test]
fn windows_of_different_groups_must_be_whole_at_one_position() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.groups = vec![(0, FULL), (1, SLIDING), (2, SLIDING)]);
    let chain = [1, 2, 3, 4, 5, 6];
    for group in 0..3 {
        setup.apply(pod, in_group(group, None, store(None, &chain)));
    }
    // Whole after 3 and 6 blocks in group 1; after 3, 4 and 5 in group 2.
    setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[1, 4]));
    setup.apply(pod, remove_from(Some(Tier::Gpu), 2, &[1, 6]));
    assert_eq!(setup.depth(pod, &chain), 3);
}

#[test]
fn a_window_on_the_device_serves_a_continuation_in_host_memory() {
    let setup = Setup::native();
    let pod = hybrid(&setup);
    setup.apply(pod, store(None, &[1, 2, 3, 4]));
    setup.apply(pod, in_group(1, None, store(None, &[1, 2, 3, 4])));
    setup.apply(pod, offload(Tier::Cpu, &[3, 4]));
    setup.apply(pod, remove(&[3, 4]));
    assert_eq!(setup.tiers(pod, &[1, 2, 3, 4]), [2, 2, 0, 0]);
}

#[test]
fn two_full_attention_groups_credit_what_both_hold() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.groups = vec![(0, FULL), (3, FULL)]);
    setup.apply(pod, store(None, &[1, 2, 3, 4]));
    setup.apply(pod, in_group(3, None, store(None, &[1, 2])));
    assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 2);
}

#[test]
fn a_group_kind_we_do_not_know_is_never_credited() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1, 2]));
    assert_eq!(setup.trust(pod), TrustLevel::Exact);
    setup.apply(pod, in_group(1, Some(GroupKind::Unknown), store(None, &[1, 2])));
    assert_eq!(setup.depth(pod, &[1, 2]), 0);
    assert_eq!(setup.trust(pod), TrustLevel::LoadOnly);
}

#[test]
fn a_further_group_that_nobody_describes_is_never_credited() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, in_group(2, None, store(None, &[1])));
    assert_eq!(setup.depth(pod, &[1]), 0);
    assert_eq!(setup.trust(pod), TrustLevel::LoadOnly);
}

#[test]
fn groups_described_later_in_a_batch_count_before_any_credit() {
    let setup = Setup::native();
    let pod = setup.pod();
    let first = in_group(0, Some(FULL), store(None, &[1, 2, 3])).event();
    let second = in_group(1, Some(SLIDING), store(None, &[1])).event();
    setup.apply_all(pod, vec![first, second]);
    assert_eq!(setup.depth(pod, &[1, 2, 3]), 1);
}

#[test]
fn one_described_full_attention_group_reads_like_none() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, in_group(0, Some(FULL), store(None, &[1, 2, 3])));
    assert_eq!(setup.depth(pod, &[1, 2, 3]), 3);
    assert_eq!(setup.trust(pod), TrustLevel::Exact);
}

#[test]
fn an_empty_pod_is_not_credited_beside_a_hybrid_one() {
    let setup = Setup::native();
    let (pod, empty) = (hybrid(&setup), setup.pod());
    setup.apply(pod, store(None, &[1, 2]));
    setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2])));
    assert_eq!(setup.depth(pod, &[1, 2]), 2);
    assert_eq!(setup.depth(empty, &[1, 2]), 0);
}

#[test]
fn pods_with_and_without_groups_are_answered_side_by_side() {
    let setup = Setup::native();
    let (plain, pod, tiered) = (setup.pod(), hybrid(&setup), setup.pod());
    let chain: Vec<u64> = (1..=6).collect();
    setup.apply(plain, store(None, &chain[..2]));
    setup.apply(pod, store(None, &chain));
    setup.apply(pod, in_group(1, None, store(None, &chain[..5])));
    setup.apply(tiered, store(None, &chain[..4]));
    setup.apply(tiered, offload(Tier::Cpu, &chain[2..4]));
    setup.apply(tiered, remove(&chain[2..4]));
    assert_eq!(setup.depth(plain, &chain), 2);
    assert_eq!(setup.depth(pod, &chain), 5);
    assert_eq!(setup.tiers(tiered, &chain), [2, 2, 0, 0]);
}

#[test]
fn a_pod_that_names_thousands_of_groups_stays_small_and_is_not_credited() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    for group in 0..2000 {
        let report = setup.apply(pod, in_group(group, None, store(None, &[1])));
        if group >= 256 {
            assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::TooManyGroups));
        }
        setup.apply(pod, in_group(group, Some(GroupKind::FullAttention), offload(Tier::Gpu, &[7])));
    }
    assert_eq!(setup.depth(pod, &[1]), 0);
    assert_eq!(setup.trust(pod), TrustLevel::LoadOnly);
    assert!(setup.index.view_bytes() < 100_000, "{}", setup.index.view_bytes());
}

#[test]
fn what_is_refused_leaves_no_trace_of_its_group() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    let refused = BlockStored { block_size: 999, ..store(None, &[1]) };
    setup.apply(pod, in_group(5, None, refused));
    assert_eq!(setup.depth(pod, &[1]), 1);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
}
