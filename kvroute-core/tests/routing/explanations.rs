//! What the explanation says of pods without hits.

use kvroute_core::event::GroupKind;

use super::*;

#[test]
fn the_explanation_names_the_cause_of_a_zero() {
    let note = |router: &Router, token_ids: &[u32]| {
        let mut workspace = Workspace::default();
        router
            .decide(&Request::new(token_ids, &HashContext::default()), Duration::ZERO, &mut workspace)
            .unwrap();
        router.explain(&workspace).pods[0].note.clone()
    };
    let (router, pods) = router_of(&["a"]);
    assert!(note(&router, &prompt(1)).unwrap().contains("no KV events"));
    assert!(note(&router, &[1, 2, 3, 4]).unwrap().contains("no whole block of 4 before the last token"));
    store(&router, pods[0], &prompt(2), 10, Tier::Gpu);
    assert!(note(&router, &prompt(1)).unwrap().contains("does not hold the prompt's first block"));
    assert_eq!(note(&router, &prompt(2)), None);

    let (router, pods) = router_of(&["a"]);
    let wrong = BlockStored {
        block_hashes: vec![EngineHash(1)],
        token_ids: vec![0; 16],
        block_size: 16,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    };
    apply(&router, pods[0], KvEvent::Stored(wrong.clone()));
    assert!(note(&router, &prompt(1)).unwrap().contains("another size than its domain's 4"));

    let (router, pods) = router_of(&["a"]);
    let unknown =
        BlockStored { group_kind: Some(GroupKind::Unknown), block_size: 4, token_ids: vec![0; 4], ..wrong };
    apply(&router, pods[0], KvEvent::Stored(unknown));
    assert!(note(&router, &prompt(1)).unwrap().contains("unknown kind"));
}

#[test]
fn a_pod_added_as_one_rank_takes_no_batches_of_another_and_the_explanation_says_so() {
    let router = demo_router();
    let pod =
        router.add_pod(PodSpec { dp_rank: 3, ..PodSpec::new("a", domain("model", BLOCK_SIZE)) }).unwrap();
    // [0.0, [], 1]
    let of_rank_1 = [0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x90, 1];
    router.apply(pod, 0, &of_rank_1).unwrap();
    let mut workspace = Workspace::default();
    router
        .decide(&Request::new(&prompt(1), &HashContext::default()), Duration::ZERO, &mut workspace)
        .unwrap();
    let explanation = router.explain(&workspace);
    let note = explanation.pods[0].note.clone().unwrap();
    assert!(note.contains("another data-parallel rank than 3"), "{note}");
    assert!(explanation.to_string().contains("a/3"));
}
