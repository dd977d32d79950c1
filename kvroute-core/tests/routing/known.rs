//! What others know of pods' caches: it adds to what events tell, tier by tier, is believed as hearsay, and never takes away.

use kvroute_core::ErrorKind;
use kvroute_core::policy::Sampling;

use super::*;

fn told(pod: PodId, tier: Tier, blocks: u32) -> KnownPrefix {
    KnownPrefix { pod, tier, blocks }
}

/// Of each pod: blocks on the device, in host memory, by hearsay; and its trust level.
fn seen(router: &Router, token_ids: &[u32], known: &[KnownPrefix]) -> Vec<(u32, u32, u32, &'static str)> {
    let context = HashContext::default();
    let request = Request { known, ..Request::new(token_ids, &context) };
    let explanation = explained(router, &request, Duration::ZERO);
    let blocks = |pod: &kvroute_core::decision::PodExplanation, tier: Tier| {
        pod.matched_blocks.iter().find(|found| found.0 == tier.name()).map_or(0, |found| found.1)
    };
    let pods = explanation.pods.iter();
    pods.map(|pod| (blocks(pod, Tier::Gpu), blocks(pod, Tier::Cpu), pod.known_blocks, pod.trust)).collect()
}

#[test]
fn the_larger_counts_in_each_tier_and_what_is_not_new_is_believed_as_before() {
    let (router, pods) = router_of(&["a", "b"]);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 4, Tier::Gpu);
    let see = |known: &[KnownPrefix]| seen(&router, &token_ids, known)[0];
    assert_eq!(see(&[]), (4, 0, 0, "exact"));
    assert_eq!(see(&[told(pods[0], Tier::Gpu, 3)]), (4, 0, 3, "exact"));
    assert_eq!(see(&[told(pods[0], Tier::Gpu, 6)]), (6, 0, 6, "degraded"));
    assert_eq!(see(&[told(pods[0], Tier::Cpu, 6)]), (4, 2, 6, "degraded"));
    let both = [told(pods[0], Tier::Cpu, 7), told(pods[0], Tier::Gpu, 5), told(pods[0], Tier::Gpu, 2)];
    assert_eq!(see(&both), (5, 2, 7, "degraded"));
    assert_eq!(
        see(&[told(pods[0], Tier::Gpu, u32::MAX)]),
        (10, 0, 10, "degraded"),
        "10 of 41 tokens can be matched"
    );
    assert_eq!(seen(&router, &token_ids, &both)[1], (0, 0, 0, "approximate"), "it is about nobody else");
    assert_eq!(see(&[]), (4, 0, 0, "exact"), "nothing of it stays");
}

#[test]
fn a_pod_without_events_is_chosen_for_what_is_told_of_it() {
    let (router, pods) = router_by(Policy::preset("cost").unwrap(), &["a", "b", "c"]);
    let token_ids: Vec<u32> = (0..4001).collect();
    let context = HashContext::default();
    for (pod, gone) in [(pods[2], false), (pods[1], true)] {
        let known = [told(PodId::from_u64(7), Tier::Gpu, 1000), told(pod, Tier::Gpu, 900)];
        let request = Request { known: &known, ..Request::new(&token_ids, &context) };
        let decision = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
        assert_eq!((decision.pod, decision.matched_tokens, decision.uncached_tokens), (pod, 3600, 401));
        if gone {
            router.remove_pod(pod).unwrap();
            let decision = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
            assert_eq!(decision.matched_tokens, 0, "pods that are gone are passed over");
        }
    }
}

#[test]
fn an_engine_that_keeps_having_less_makes_hearsay_count_for_less() {
    let (router, pods) = router_of(&["a"]);
    let token_ids = prompt(1);
    let (context, known) = (HashContext::default(), [told(pods[0], Tier::Gpu, 10)]);
    let request = Request { known: &known, ..Request::new(&token_ids, &context) };
    let mut levels = Vec::new();
    for _ in 0..7 {
        let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
        router.finish(dispatch.ticket, Finish::Completed, Some(0));
        levels.push(seen(&router, &token_ids, &known)[0].3);
    }
    assert_eq!((levels[0], levels[6]), ("degraded", "approximate"), "{levels:?}");
}

#[test]
fn of_a_large_fleet_those_are_looked_at_that_something_is_told_of() {
    let policy = Policy { sampling: Sampling { above: 4, holders: 2, others: 1 }, ..demo_policy() };
    let names: Vec<_> = (0..40).map(|n| format!("pod-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (router, pods) = router_by(policy, &names);
    let (token_ids, context) = (prompt(3), HashContext::default());
    let known: Vec<_> = (10..30).map(|at| told(pods[at], Tier::Gpu, at as u32 / 4)).collect();
    let request = Request { known: &known, ..Request::new(&token_ids, &context) };
    let decision = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    assert!(pods[28..30].contains(&decision.pod), "the most that is told");
}

#[test]
fn of_a_text_nothing_can_be_told() {
    let (router, pods) = router_of(&["a"]);
    let (context, known) = (HashContext::default(), [told(pods[0], Tier::Gpu, 1)]);
    let request = Request { known: &known, ..Request::from_text(b"some text", &context) };
    let error = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
