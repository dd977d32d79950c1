//! The affinity filter: who has the prompt, and when that is given up.

use kvroute_core::credits::Credits;
use kvroute_core::filter::{AcceptingFilter, AffinityFilter};
use kvroute_core::latency::LatencyModel;
use kvroute_core::score::LoadScorer;

use super::filters::{kept, kept_of_prompt, only};
use super::*;

/// Every step takes half a second and every request a quarter more.
fn steps() -> LatencyModel {
    LatencyModel { least: 0.5, per_token: 0.0, per_pair: 0.0, per_request: 0.25 }
}

fn affinity(share: f64, milliseconds: u64) -> AffinityFilter {
    AffinityFilter::new(share, Duration::from_millis(milliseconds), Credits::default(), steps()).unwrap()
}

#[test]
fn affinity_keeps_the_pods_with_at_least_the_share_if_there_are_any() {
    let (router, pods) = router_by(only(affinity(0.8, 1000)), &["seven", "eight", "host", "none"]);
    let token_ids = prompt(1);
    assert_eq!(kept_of_prompt(&router, Duration::ZERO).len(), 4, "nobody has it");
    store(&router, pods[0], &token_ids, 7, Tier::Gpu);
    assert_eq!(kept_of_prompt(&router, Duration::ZERO).len(), 4, "nobody has so much of it");
    store(&router, pods[1], &token_ids, 8, Tier::Gpu);
    store(&router, pods[2], &token_ids, 10, Tier::Cpu);
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["eight", "host"], "wherever it lies");
    for pod in pods {
        store(&router, pod, &token_ids, 10, Tier::Gpu);
    }
    assert_eq!(kept_of_prompt(&router, Duration::ZERO).len(), 4, "all have it");
    // A prompt without a whole block is nowhere.
    let short = kept(&router, &Request::new(&token_ids[..3], &HashContext::default()), Duration::ZERO);
    assert_eq!(short.len(), 4);
}

#[test]
fn affinity_of_share_zero_still_wants_something_of_the_prompt() {
    let (router, pods) = router_by(only(affinity(0.0, 1000)), &["a", "b"]);
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["a", "b"]);
    store(&router, pods[1], &prompt(1), 1, Tier::Gpu);
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["b"]);
}

#[test]
fn affinity_gives_way_beyond_its_budget_and_not_at_it() {
    let (router, pods) = router_by(only(affinity(0.8, 500)), &["holder", "slow holder", "other", "busy"]);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    store(&router, pods[1], &token_ids, 10, Tier::Gpu);
    router.report_load(pods[1], load(100, 0)).unwrap();
    router.report_load(pods[3], load(50, 0)).unwrap();
    // The best of each side counts: 0.5 + 0.25 x requests against 0.5.
    router.report_load(pods[0], load(2, 0)).unwrap();
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["holder", "slow holder"], "half a second slower");
    router.report_load(pods[0], load(3, 0)).unwrap();
    assert_eq!(kept_of_prompt(&router, Duration::ZERO).len(), 4, "a quarter more");
    router.report_load(pods[2], load(1, 0)).unwrap();
    assert_eq!(
        kept_of_prompt(&router, Duration::ZERO),
        ["holder", "slow holder"],
        "the others are busier as well"
    );
}

#[test]
fn affinity_compares_only_the_pods_that_were_left_to_it() {
    let profile = Profile::builder("p").filter(AcceptingFilter).filter(affinity(0.8, 0));
    let (router, pods) =
        router_by(profile.scorer(LoadScorer::default(), 1.0).build().unwrap(), &["holder", "idle"]);
    store(&router, pods[0], &prompt(1), 10, Tier::Gpu);
    router.report_load(pods[0], load(9, 0)).unwrap();
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["holder", "idle"]);
    router.set_accepting(pods[1], false).unwrap();
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["holder"]);
    router.set_accepting(pods[1], true).unwrap();
    router.set_accepting(pods[0], false).unwrap();
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["idle"]);
}

#[test]
fn affinity_refuses_shares_and_models_that_make_no_sense() {
    for share in [-0.1, 1.1, f64::NAN] {
        let refused = AffinityFilter::new(share, Duration::ZERO, Credits::default(), steps()).unwrap_err();
        assert!(refused.to_string().contains("share is 0 to 1"), "{refused}");
    }
    for (name, model) in [
        ("least", LatencyModel { least: 0.0, ..steps() }),
        ("least", LatencyModel { least: f64::NAN, ..steps() }),
        ("per_token", LatencyModel { per_token: -1.0, ..steps() }),
        ("per_pair", LatencyModel { per_pair: f64::INFINITY, ..steps() }),
        ("per_request", LatencyModel { per_request: -0.1, ..steps() }),
    ] {
        let refused = AffinityFilter::new(0.5, Duration::ZERO, Credits::default(), model).unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
    }
}
