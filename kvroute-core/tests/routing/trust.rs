//! How far a pod's view is believed: what its engine counted, compared with what was expected of it.

use kvroute_core::event::GroupKind;

use super::*;

/// Sends a prompt, which completes with so many cached tokens by the engine's count; answers the tokens that were
/// expected to be uncached.
fn serve(router: &Router, token_ids: &[u32], how: Finish, counted: usize) -> usize {
    let context = HashContext::default();
    let request = Request::new(token_ids, &context);
    let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    router.finish(dispatch.ticket, how, Some(counted));
    dispatch.decision.uncached_tokens
}

fn audit(router: &Router, pod: PodId) -> Audit {
    router.pod_by_id(pod).unwrap().audit()
}

fn trust(router: &Router, pod: PodId) -> TrustLevel {
    router.pod_by_id(pod).unwrap().trust()
}

#[test]
fn an_engine_that_keeps_having_less_than_expected_lowers_the_trust_in_its_pod() {
    let (router, pods) = router_of(&["a"]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let mut workspace = Workspace::default();
    let mut serve = |engine: usize| {
        let request = Request::new(&token_ids, &context);
        let dispatch = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
        router.finish(dispatch.ticket, Finish::Completed, Some(engine));
        router.pod_by_id(pods[0]).unwrap().trust()
    };
    assert_eq!(serve(0), TrustLevel::Approximate, "no event came yet, so nothing was expected");
    assert_eq!(router.pod_by_id(pods[0]).unwrap().audit(), Audit::default());
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);

    assert_eq!([40, 36, 36].map(&mut serve), [TrustLevel::Exact; 3]);
    assert_eq!([36, 0, 0, 0].map(&mut serve)[..3], [TrustLevel::Degraded; 3]);
    assert_eq!(serve(36), TrustLevel::Approximate, "six in a row");
    let audit = Audit { agreed: 1, overestimated: 7, underestimated: 0 };
    assert_eq!(router.pod_by_id(pods[0]).unwrap().audit(), audit);
    router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    let explanation = router.explain(&workspace);
    assert_eq!((explanation.pods[0].trust, explanation.pods[0].scores[0].value), ("approximate", 0.5));

    let mut serve = |engine: usize| {
        let request = Request::new(&token_ids, &context);
        let dispatch = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
        router.finish(dispatch.ticket, Finish::Completed, Some(engine));
        router.pod_by_id(pods[0]).unwrap().trust()
    };
    assert_eq!(serve(41), TrustLevel::Exact, "more than expected is no harm");
    assert_eq!(router.pod_by_id(pods[0]).unwrap().audit().underestimated, 1);
}

#[test]
fn requests_of_which_nothing_was_expected_restore_no_trust() {
    let (router, pods) = router_of(&["a"]);
    let warm = prompt(1);
    store(&router, pods[0], &warm, 10, Tier::Gpu);
    for seed in 100..106 {
        serve(&router, &warm, Finish::Completed, 0);
        serve(&router, &prompt(seed), Finish::Completed, 0);
    }
    assert_eq!(audit(&router, pods[0]), Audit { overestimated: 6, ..Audit::default() });
    assert_eq!(trust(&router, pods[0]), TrustLevel::Approximate);
}

#[test]
fn a_doubted_view_is_not_believed_to_have_more_than_a_trusted_one() {
    let (router, pods) = router_of(&["a"]);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 5, Tier::Gpu);
    // From the second on, all 10 blocks were also sent there, and the engine never had one.
    let uncached = [0; 7].map(|counted| serve(&router, &token_ids, Finish::Completed, counted));
    assert_eq!(trust(&router, pods[0]), TrustLevel::Approximate);
    assert_eq!(uncached, [21; 7]);
}

#[test]
fn a_level_of_doubt_lowers_a_score_a_little_and_no_doubt_raises_trust() {
    let (router, pods) = router_of(&["a"]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    for _ in 0..RoutedPod::OVERESTIMATES_PER_LEVEL {
        serve(&router, &token_ids, Finish::Completed, 0);
    }
    let mut workspace = Workspace::default();
    router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    let pod = router.explain(&workspace).pods[0].clone();
    assert_eq!((pod.trust, pod.scores[0].value), ("degraded", 0.9));
    // A group of unknown kind leaves less than that.
    let group_kind = Some(GroupKind::Unknown);
    let unknown = BlockStored { group: 1, group_kind, ..stored(&prompt(2), 1, Tier::Gpu) };
    apply(&router, pods[0], KvEvent::Stored(unknown));
    assert_eq!(trust(&router, pods[0]), TrustLevel::LoadOnly);
}

#[test]
fn requests_that_did_not_complete_are_not_compared() {
    let (router, pods) = router_of(&["a"]);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    for how in [Finish::Failed, Finish::Cancelled] {
        serve(&router, &token_ids, how, 0);
    }
    assert_eq!(audit(&router, pods[0]), Audit::default());
}

#[test]
fn what_was_only_sent_is_not_expected_of_a_pod_with_events() {
    let (router, pods) = router_of(&["a"]);
    store(&router, pods[0], &prompt(9), 1, Tier::Gpu);
    let token_ids = prompt(1);
    for _ in 0..2 {
        assert_eq!(serve(&router, &token_ids, Finish::Completed, 0), 41);
    }
    assert_eq!(audit(&router, pods[0]), Audit::default());
}

#[test]
fn requests_known_as_text_are_not_compared() {
    let (router, pods) = router_of(&["a"]);
    store(&router, pods[0], &prompt(9), 1, Tier::Gpu);
    let context = HashContext::default();
    let request = Request::from_text(b"hello", &context);
    let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    router.finish(dispatch.ticket, Finish::Completed, Some(16));
    assert_eq!(audit(&router, pods[0]), Audit::default());
}
