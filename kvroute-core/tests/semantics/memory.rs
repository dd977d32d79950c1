//! Memory.

use super::*;

#[test]
fn at_the_bound_new_blocks_are_refused_and_known_ones_stay() {
    let bound = 4_000;
    let setup = Setup::bounded(native("model"), bound);
    let pod = setup.pod();
    let chain: Vec<u64> = (1..=5000).collect();
    let mut held = 0;
    for piece in chain.chunks(10) {
        let parent = (piece[0] > 1).then(|| piece[0] - 1);
        let report = setup.apply(pod, store(parent, piece));
        held += report.blocks_stored as u32;
        if report.outcome != Outcome::Applied {
            assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::Memory));
            break;
        }
    }
    assert!((50..1000).contains(&held), "{held} blocks in {bound} bytes");
    let bytes = setup.index.bytes();
    assert!(bytes < 3 * bound, "{bytes} bytes with a bound of {bound}");
    assert_eq!(setup.depth(pod, &chain), held, "matches undercount by what was refused");
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    let counters = setup.index.counters(pod).expect("a known pod");
    assert_eq!(counters.ignored_for(IgnoreReason::Memory), 1);
    assert!(counters.blocks_refused > 0);
    let known = setup.apply(pod, remove(&[2]));
    assert_eq!(known.outcome, Outcome::Applied, "what is known can still go");
    assert_eq!(setup.apply(pod, store(Some(1), &[2])).outcome, Outcome::Applied, "and come back");

    setup.index.remove_pod(pod).expect("a known pod");
    assert_eq!((setup.index.blocks(), setup.index.bytes()), (0, 0));
    let next = setup.pod();
    assert_eq!(setup.apply(next, store(None, &[1])).outcome, Outcome::Applied, "there is room again");
}

#[test]
fn further_holders_count_against_the_bound_too() {
    let bound = 20_000;
    let setup = Setup::bounded(native("model"), bound);
    let chains: Vec<[u64; 2]> = (0..40).map(|i| [i * 10 + 1, i * 10 + 2]).collect();
    let mut refused = 0;
    for _ in 0..60 {
        let pod = setup.pod();
        for chain in &chains {
            // From the start of a run, and from its middle.
            for event in [store(None, chain), store(Some(chain[0]), &chain[1..])] {
                let pod = if event.parent.is_none() { pod } else { setup.pod() };
                let report = setup.apply(pod, event);
                refused += u32::from(report.outcome == Outcome::Ignored(IgnoreReason::Memory));
            }
        }
    }
    let bytes = setup.index.bytes();
    assert!(bytes < 2 * bound, "{bytes} bytes with a bound of {bound}");
    assert!(refused > 0);
}

#[test]
fn the_bound_leaves_other_pods_as_they_are() {
    let setup = Setup::bounded(native("model"), 10_000);
    let (first, greedy) = (setup.pod(), setup.pod());
    setup.apply(first, store(None, &[1, 2, 3]));
    for chain in 1..200 {
        setup.apply(greedy, store(None, &[chain * 10, chain * 10 + 1]));
    }
    assert_eq!(setup.trust(greedy), TrustLevel::Degraded);
    assert_eq!((setup.depth(first, &[1, 2, 3]), setup.trust(first)), (3, TrustLevel::Exact));
}
