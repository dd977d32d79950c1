//! Clears and generations.

use super::*;

#[test]
fn a_clear_empties_only_its_pod() {
    let setup = Setup::native();
    let (cleared, other) = (setup.pod(), setup.pod());
    for pod in [cleared, other] {
        setup.apply(pod, store(None, &[1, 2, 3]));
        setup.apply(pod, store(Some(1), &[20 + u64::from(pod == other)]));
        setup.apply(pod, offload(Tier::Cpu, &[1]));
    }
    setup.apply(cleared, KvEvent::Cleared);
    assert_eq!(setup.tiers(cleared, &[1, 2, 3]), [0; 4]);
    assert_eq!(setup.tiers(other, &[1, 2, 3]), [3, 0, 0, 0]);
    assert_eq!(setup.depth(other, &[1, 21]), 2);
    assert_eq!(setup.index.blocks(), 4, "block 20 was only the cleared pod's");
}

#[test]
fn a_clear_gives_memory_back() {
    let setup = Setup::translated();
    let pod = setup.pod();
    for prompt in 0..50 {
        let names: Vec<u64> = (prompt * 1000..prompt * 1000 + 200).collect();
        setup.apply(pod, store_tokens(None, &names, &tokens(prompt as u32 * 10_000, 200)));
    }
    let (bytes, view_bytes) = (setup.index.bytes(), setup.index.view_bytes());
    assert!(bytes > 10_000 * 8 && view_bytes > 10_000 * 8, "{bytes} and {view_bytes} bytes");
    setup.apply(pod, KvEvent::Cleared);
    assert_eq!((setup.index.blocks(), setup.index.bytes()), (0, 0));
    let left = setup.index.view_bytes();
    assert!(left < 16 * 1024, "{left} bytes of the view are left");
}

#[test]
fn a_pod_holds_again_after_a_clear() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply_all(pod, vec![store(None, &[1, 2]).event(), KvEvent::Cleared, store(None, &[1]).event()]);
    assert_eq!(setup.depth(pod, &[1, 2]), 1);
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.depth(pod, &[1, 2]), 0, "the clear dropped the old copy's count");
}

#[test]
fn memory_is_given_back_when_blocks_go_one_by_one() {
    let setup = Setup::translated();
    let pod = setup.pod_with(|options| {
        options.copies = CopyPolicy::Count;
        options.max_retired = 10;
    });
    let (names, prompt) = ((1..=20_000).collect::<Vec<u64>>(), tokens(0, 20_000));
    for _ in 0..2 {
        for (piece, part) in names.chunks(100).zip(prompt.chunks(400)) {
            setup.apply(pod, store_tokens((piece[0] > 1).then(|| piece[0] - 1), piece, part));
        }
    }
    let view_bytes = setup.index.view_bytes();
    assert!(view_bytes > 20_000 * 2 * 16, "{view_bytes} bytes: names and copies");
    for &name in names.iter().rev() {
        setup.apply(pod, remove(&[name, name]));
    }
    assert_eq!(setup.index.counters(pod).expect("a known pod").unknown_removals, 0);
    assert_eq!((setup.index.blocks(), setup.index.bytes()), (0, 0));
    let left = setup.index.view_bytes();
    assert!(left < 16 * 1024, "{left} bytes of the view are left");
}

#[test]
fn a_view_keeps_nothing_of_chains_that_went() {
    let setup = Setup::native();
    let pod = setup.pod();
    for block in 1..3000 {
        setup.apply(pod, store(None, &[block]));
        setup.apply(pod, remove(&[block]));
    }
    let left = setup.index.view_bytes();
    assert!(left < 1024, "{left} bytes of the view are left");
}

#[test]
fn a_clear_forgets_copies() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, KvEvent::Cleared);
    setup.apply(pod, store(None, &[1]));
    setup.apply(pod, remove(&[1]));
    assert_eq!(setup.depth(pod, &[1]), 0);
}

#[test]
fn a_pod_that_comes_back_is_a_new_one_and_the_old_id_errors() {
    let setup = Setup::native();
    let old = setup.pod();
    setup.apply(old, store(None, &[1]));
    setup.index.remove_pod(old).expect("a known pod");
    let new = setup.pod();
    assert_eq!(new.slot(), old.slot(), "the slot is used again");
    assert_ne!(new, old);
    assert_eq!(setup.depth(new, &[1]), 0);
    setup.apply(new, store(None, &[1]));
    assert_eq!((setup.depth(new, &[1]), setup.depth(old, &[1])), (1, 0));

    let batch = EventBatch::default();
    let errors = [
        setup.index.apply_events(old, &batch).err(),
        setup.index.apply_batch(old, 0, &payload(0.0, None, &[])).err(),
        setup.index.abandon_gap(old, 0).err(),
        setup.index.trust(old).err(),
        setup.index.counters(old).err(),
        setup.index.parked_blocks(old).err(),
        setup.index.remove_pod(old).err(),
    ];
    for error in errors {
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::UnknownPod));
    }
    assert_eq!(setup.depth(new, &[1]), 1, "nothing of it reached the new pod");
}

#[test]
fn everything_is_given_back_when_all_pods_are_gone() {
    for setup in [Setup::native(), Setup::translated()] {
        let pods: Vec<_> = (0..20).map(|_| setup.pod()).collect();
        for (i, &pod) in pods.iter().enumerate() {
            let chain: Vec<u64> = (1..=300).collect();
            let keep = 10 * (i + 1);
            setup.apply(pod, store_tokens(None, &chain, &tokens(0, 300)));
            setup.apply(pod, store_tokens(Some(keep as u64), &[1000 + i as u64], &tokens(5000, 1)));
            setup.apply(pod, offload(Tier::Disk, &chain[..keep]));
            setup.apply(pod, remove(&chain[keep..]));
            setup.apply(pod, store_tokens(Some(77_777), &[5, 6], &tokens(9000, 2)));
        }
        assert!(setup.index.bytes() > 0);
        for pod in pods {
            setup.index.remove_pod(pod).expect("a known pod");
        }
        assert_eq!((setup.index.blocks(), setup.index.bytes(), setup.index.view_bytes()), (0, 0, 0));
    }
}

#[test]
fn removing_a_pod_leaves_the_others_whose_places_it_made() {
    let setup = Setup::native();
    let (maker, user) = (setup.pod(), setup.pod());
    setup.apply(maker, store(None, &[1, 2, 3]));
    setup.apply(user, store(None, &[1, 2]));
    setup.apply(user, store(Some(2), &[30]));
    setup.index.remove_pod(maker).expect("a known pod");
    assert_eq!(setup.depth(user, &[1, 2, 30]), 3);
    assert_eq!(setup.index.blocks(), 3);
}
