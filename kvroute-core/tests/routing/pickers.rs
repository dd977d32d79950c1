//! Pickers: how often whom, always the same for the same draw, and who is next best.

use kvroute_core::guard::LoadGuard;
use kvroute_core::pick::{
    MaxScorePicker, Picker, PowerOfTwoPicker, Scored, SoftmaxPicker, WeightedRandomPicker,
};
use kvroute_core::score::{ExternalScorer, LoadScorer};
use kvroute_core::{ScoreColumn, filter::AcceptingFilter};

use super::*;

const DRAWS: u64 = 20_000;

/// A number as well mixed as a hash.
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn pod(slot: u64) -> PodId {
    PodId::from_u64((slot + 1) << 32)
}

/// Pods with these shares of the most their totals can be, which is 8.
fn pods(shares: &[f64]) -> Vec<Scored> {
    let scored =
        |(row, &share): (usize, &f64)| Scored { row, pod: pod(row as u64), total: 8.0 * share, share };
    shares.iter().enumerate().map(scored).collect()
}

/// How often each is picked.
fn counts(picker: &dyn Picker, pods: &[Scored]) -> Vec<u64> {
    let mut counts = vec![0; pods.len()];
    (0..DRAWS).for_each(|n| counts[picker.pick(pods, mixed(n)).unwrap()] += 1);
    counts
}

/// By Pearson's test, with a bound that one in a hundred thousand true ones exceeds.
#[track_caller]
fn assert_distributed(counts: &[u64], probabilities: &[f64]) {
    let sum: f64 = probabilities.iter().sum();
    let mut statistic = 0.0;
    for (&count, probability) in counts.iter().zip(probabilities) {
        let expected = probability / sum * DRAWS as f64;
        if expected == 0.0 {
            assert_eq!(count, 0, "{counts:?}");
        } else {
            statistic += (count as f64 - expected).powi(2) / expected;
        }
    }
    // Of 1 to 9 degrees of freedom.
    let bounds = [19.5, 23.0, 25.9, 28.5, 30.9, 33.1, 35.3, 37.3, 39.3];
    assert!(statistic < bounds[counts.len() - 2], "{counts:?} for {probabilities:?}: {statistic}");
}

fn softmax(temperature: f64) -> SoftmaxPicker {
    SoftmaxPicker::new(temperature).unwrap()
}

fn all() -> [Box<dyn Picker>; 6] {
    [
        Box::new(MaxScorePicker),
        Box::new(SoftmaxPicker::default()),
        Box::new(softmax(1e-300)),
        Box::new(softmax(1e300)),
        Box::new(WeightedRandomPicker),
        Box::new(PowerOfTwoPicker),
    ]
}

#[test]
fn softmax_draws_by_the_exponential_of_the_share() {
    for temperature in [0.05, 0.1, 1.0, 10.0] {
        let shares = [1.0, 0.9, 0.5, 0.95];
        let probabilities = shares.map(|share: f64| ((share - 1.0) / temperature).exp());
        let counts = counts(&softmax(temperature), &pods(&shares));
        // Too rare to be counted on.
        let (seen, expected): (Vec<_>, Vec<_>) =
            counts.iter().zip(probabilities).filter(|(_, p)| *p > 0.01).map(|(&c, p)| (c, p)).unzip();
        assert_distributed(&seen, &expected);
    }
}

#[test]
fn softmax_of_a_temperature_next_to_nothing_takes_the_best_and_spreads_over_equals() {
    for temperature in [5e-324, 1e-310, 1e-300, 1e-17, 1e-9] {
        let picker = softmax(temperature);
        assert_eq!(counts(&picker, &pods(&[0.2, 0.9, 0.899])), [0, DRAWS, 0], "{temperature}");
        assert_distributed(&counts(&picker, &pods(&[0.7, 0.7, 0.1, 0.7])), &[1.0, 1.0, 0.0, 1.0]);
        assert_distributed(&counts(&picker, &pods(&[0.0; 3])), &[1.0; 3]);
    }
}

#[test]
fn softmax_of_a_temperature_beyond_all_scores_spreads_over_all() {
    for temperature in [1e9, 1e300, f64::MAX] {
        assert_distributed(&counts(&softmax(temperature), &pods(&[0.0, 1.0, 0.5])), &[1.0; 3]);
    }
    for temperature in [0.0, -0.1, -0.0, f64::NAN, f64::INFINITY] {
        let refused = SoftmaxPicker::new(temperature).unwrap_err().to_string();
        assert!(refused.contains(&temperature.to_string()), "{refused}");
    }
}

#[test]
fn weighted_random_draws_each_as_often_as_its_total_is_high() {
    for totals in [&[0.5, 0.25, 0.125, 0.0][..], &[1.0, 1.0], &[0.9, 0.1, 0.1], &[0.0, 1.0, 0.0]] {
        assert_distributed(&counts(&WeightedRandomPicker, &pods(totals)), totals);
    }
    assert_distributed(&counts(&WeightedRandomPicker, &pods(&[0.0; 4])), &[1.0; 4]);
    // However small or large weights are.
    for least in [1e-320, 1e-300, 1e-12, 1e300] {
        let totals = [3.0, 2.0, 1.0];
        let scored: Vec<_> =
            pods(&totals).into_iter().map(|p| Scored { total: p.share * least, ..p }).collect();
        assert_distributed(&counts(&WeightedRandomPicker, &scored), &totals);
    }
}

#[test]
fn power_of_two_takes_the_better_of_two_that_are_drawn_evenly() {
    for number in [2, 3, 5, 10] {
        let shares: Vec<f64> = (0..number).map(|n| n as f64 / 10.0).collect();
        // The worst is the better one of no pair.
        let pairs: Vec<f64> = (0..number).map(|n| n as f64).collect();
        assert_distributed(&counts(&PowerOfTwoPicker, &pods(&shares)), &pairs);
        assert_distributed(&counts(&PowerOfTwoPicker, &pods(&vec![0.3; number])), &vec![1.0; number]);
    }
    // One is bad: of three pairs only the other two's never have it.
    assert_distributed(&counts(&PowerOfTwoPicker, &pods(&[0.9, 0.9, 0.1])), &[1.0, 1.0, 0.0]);
}

#[test]
fn max_score_spreads_over_the_best_and_takes_no_other() {
    assert_distributed(&counts(&MaxScorePicker, &pods(&[0.5, 0.2, 0.5, 0.5])), &[1.0, 0.0, 1.0, 1.0]);
    assert_eq!(counts(&MaxScorePicker, &pods(&[0.5, 0.500_001])), [0, DRAWS]);
}

#[test]
fn one_pod_is_picked_by_all_and_none_by_none() {
    for picker in all() {
        assert_eq!(picker.pick(&[], 7), None);
        for share in [0.0, 1.0] {
            assert_eq!(picker.pick(&pods(&[share]), 7), Some(0));
        }
    }
}

#[test]
fn a_choice_is_the_same_in_whatever_order_pods_are_offered() {
    let shares = [0.5, 0.9, 0.9, 0.0, 0.7, 0.9];
    for picker in all() {
        let (forth, mut back) = (pods(&shares), pods(&shares));
        back.reverse();
        for n in 0..2000 {
            let draw = mixed(n);
            assert_eq!(picker.pick(&forth, draw), picker.pick(&back, draw), "{picker:?}");
            assert_eq!(picker.pick(&forth, draw), picker.pick(&forth, draw));
        }
    }
}

#[test]
fn a_pod_that_goes_moves_only_the_choices_that_fell_on_it() {
    let shares = [0.5, 0.9, 0.9, 0.2, 0.7, 0.9];
    let everyone = pods(&shares);
    for picker in all().into_iter().filter(|picker| picker.name() != "power-of-two") {
        for gone in 0..shares.len() {
            let others: Vec<_> = everyone.iter().copied().filter(|pod| pod.row != gone).collect();
            for draw in (0..1000).map(mixed) {
                let before = picker.pick(&everyone, draw).unwrap();
                let after = picker.pick(&others, draw).unwrap();
                assert!(before == gone || after == before, "{picker:?}");
            }
        }
    }
}

/// A router that picks by external scores, with so many fallbacks.
fn scored_router(picker: impl Picker + 'static, fallbacks: usize, pods: usize) -> (Router, Vec<PodId>) {
    let profile = Profile::builder("p").filter(AcceptingFilter).scorer(ExternalScorer::new("x"), 2.0);
    let profile = profile.picker(picker).fallbacks(fallbacks).build().unwrap();
    let names: Vec<_> = (0..pods).map(|n| n.to_string()).collect();
    router_by(profile, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Decides by these scores; answers the pod and its fallbacks.
fn decide_by(router: &Router, pods: &[PodId], values: &[f64], nonce: u64) -> Vec<PodId> {
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let column = ScoreColumn { scorer: "x", pods, values };
    let request = Request { scores: &[column], nonce: Some(nonce), ..Request::new(&token_ids, &context) };
    let mut workspace = Workspace::default();
    let decision = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
    let explanation = router.explain(&workspace);
    let rows: Vec<_> = workspace.fallbacks().iter().map(|id| id.slot()).collect();
    assert_eq!(explanation.fallbacks, rows);
    std::iter::once(decision.pod).chain(workspace.fallbacks().iter().copied()).collect()
}

#[test]
fn the_margin_is_that_of_the_best_total_over_the_next_whoever_is_picked() {
    for (values, margin) in [
        (&[0.3, 0.9, 0.5][..], Some(0.8)),
        (&[0.9, 0.1, 0.9], Some(0.0)),
        (&[0.25, 0.75], Some(1.0)),
        (&[0.9], None),
    ] {
        for nonce in 0..8 {
            let (router, pods) = scored_router(WeightedRandomPicker, 0, values.len());
            let (context, token_ids) = (HashContext::default(), prompt(1));
            let column = ScoreColumn { scorer: "x", pods: &pods, values };
            let scores = &[column];
            let request = Request { scores, nonce: Some(nonce), ..Request::new(&token_ids, &context) };
            let mut workspace = Workspace::default();
            assert_eq!(workspace.margin(), None, "nothing was decided yet");
            router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
            let found = workspace.margin();
            let is_right = found.zip(margin).map_or(found == margin, |(a, b)| (a - b).abs() < 1e-9);
            assert!(is_right, "{values:?}: {found:?}");
            pods.iter().for_each(|&pod| router.set_accepting(pod, false).unwrap());
            router.decide(&request, Duration::ZERO, &mut workspace).unwrap_err();
            assert_eq!(workspace.margin(), None, "nobody was left to choose from");
        }
    }
}

#[test]
fn fallbacks_are_the_next_best_in_order() {
    let values = [0.3, 0.9, 0.1, 0.7, 0.5];
    for (fallbacks, expected) in
        [(0, &[1][..]), (1, &[1, 3]), (3, &[1, 3, 4, 0]), (4, &[1, 3, 4, 0, 2]), (99, &[1, 3, 4, 0, 2])]
    {
        let (router, pods) = scored_router(MaxScorePicker, fallbacks, 5);
        let expected: Vec<_> = expected.iter().map(|&row: &usize| pods[row]).collect();
        assert_eq!(decide_by(&router, &pods, &values, 1), expected);
    }
    let (router, pods) = scored_router(MaxScorePicker, 9, 5);
    pods[1..].iter().for_each(|&pod| router.set_accepting(pod, false).unwrap());
    assert_eq!(decide_by(&router, &pods, &values, 1), [pods[0]], "dropped pods are no fallbacks");
}

#[test]
fn fallbacks_are_distinct_and_never_the_taken_pod_by_any_picker() {
    fn check(picker: impl Picker + 'static) {
        let (router, pods) = scored_router(picker, 3, 6);
        for nonce in 0..300 {
            let mut ids = decide_by(&router, &pods, &[0.0, 0.4, 0.4, 1.0, 0.9, 0.0], nonce);
            assert_eq!(ids.len(), 4);
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 4);
        }
    }
    check(MaxScorePicker);
    check(SoftmaxPicker::default());
    check(WeightedRandomPicker);
    check(PowerOfTwoPicker);
}

#[test]
fn the_pod_that_is_spilled_to_is_not_its_own_fallback() {
    let profile = Profile::builder("p").scorer(ExternalScorer::new("x"), 1.0).guard(LoadGuard::default());
    let (router, pods) = router_by(profile.fallbacks(3).build().unwrap(), &["a", "b", "c"]);
    router.report_load(pods[0], load(90, 0)).unwrap();
    router.report_load(pods[1], load(9, 0)).unwrap();
    assert_eq!(decide_by(&router, &pods, &[0.9, 0.5, 0.1], 1), [pods[2], pods[0], pods[1]]);
}

#[test]
fn fallbacks_are_those_of_the_last_decision_alone() {
    let profile =
        Profile::builder("p").filter(AcceptingFilter).scorer(LoadScorer::default(), 1.0).fallbacks(2);
    let (router, pods) = router_by(profile.build().unwrap(), &["a", "b", "c"]);
    let (context, token_ids, mut workspace) = (HashContext::default(), prompt(1), Workspace::default());
    let request = Request::new(&token_ids, &context);
    router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
    assert_eq!(workspace.fallbacks().len(), 2);
    pods.iter().for_each(|&pod| router.set_accepting(pod, false).unwrap());
    assert!(router.decide(&request, Duration::ZERO, &mut workspace).is_err());
    assert_eq!(workspace.fallbacks(), []);
}

#[test]
fn weights_that_add_up_to_more_than_there_is_are_refused() {
    let profile = |weight| {
        let builder = Profile::builder("p").scorer(ExternalScorer::new("x"), weight);
        builder.scorer(ExternalScorer::new("y"), weight).build()
    };
    assert!(profile(f64::MAX / 4.0).is_ok());
    let refused = profile(f64::MAX).unwrap_err();
    assert!(refused.to_string().contains("weights"), "{refused}");
}
