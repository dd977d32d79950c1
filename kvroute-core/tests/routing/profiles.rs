//! Scorers, filters and pickers of the embedder's: what they cannot do, and what a profile refuses.

use kvroute_core::ErrorKind;
use kvroute_core::candidate::Candidates;
use kvroute_core::credits::Credits;
use kvroute_core::filter::{AcceptingFilter, Filter};
use kvroute_core::pick::{Picker, Scored};
use kvroute_core::score::{KvCacheScorer, LoadScorer, Scorer};

use super::*;

#[derive(Debug)]
struct Constant(f64);

impl Scorer for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn score(&self, _: &Candidates<'_>, scores: &mut [f64]) {
        scores.fill(self.0);
    }
}

#[test]
fn a_score_outside_zero_to_one_fails_the_decision_and_names_the_scorer() {
    for value in [f64::NAN, -0.1, 1.5, f64::INFINITY] {
        let profile = Profile::builder("p").scorer(Constant(value), 1.0).build().unwrap();
        let router = Router::new(RouterOptions::default(), profile).unwrap();
        router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
        let context = HashContext::default();
        let error = router
            .decide(&Request::new(&prompt(1), &context), Duration::ZERO, &mut Workspace::default())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("\"constant\"") && error.to_string().contains("\"a\""), "{error}");
    }
}

#[derive(Debug)]
struct Resurrect;

impl Filter for Resurrect {
    fn name(&self) -> &'static str {
        "resurrect"
    }

    fn filter(&self, _: &Candidates<'_>, kept: &mut [bool]) {
        kept.fill(true);
    }
}

#[test]
fn a_later_filter_cannot_bring_a_dropped_pod_back() {
    let scorer = KvCacheScorer::default();
    let profile =
        Profile::builder("p").filter(AcceptingFilter).filter(Resurrect).scorer(scorer, 1.0).build().unwrap();
    let router = Router::new(RouterOptions::default(), profile).unwrap();
    let pod = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
    router.set_accepting(pod, false).unwrap();
    let context = HashContext::default();
    assert!(
        router
            .decide(&Request::new(&prompt(1), &context), Duration::ZERO, &mut Workspace::default())
            .is_err()
    );
}

/// Answers whatever row it was made with.
#[derive(Debug)]
struct Fixed(usize);

impl Picker for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn pick(&self, _: &[Scored], _: u64) -> Option<usize> {
        Some(self.0)
    }
}

#[test]
fn a_picker_cannot_pick_what_it_was_not_offered() {
    // Of the two pods the second is offered, as row 0.
    for row in [1, 7] {
        let profile = Profile::builder("p")
            .filter(AcceptingFilter)
            .scorer(LoadScorer::default(), 1.0)
            .picker(Fixed(row))
            .build()
            .unwrap();
        let router = Router::new(RouterOptions::default(), profile).unwrap();
        let drained = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
        router.add_pod(PodSpec::new("b", domain("model", BLOCK_SIZE))).unwrap();
        router.set_accepting(drained, false).unwrap();
        let context = HashContext::default();
        let error = router
            .decide(&Request::new(&prompt(1), &context), Duration::ZERO, &mut Workspace::default())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("\"fixed\" picked row {row}")), "{error}");
    }
}

#[test]
fn a_failed_decision_is_explained_too() {
    let profile = Profile::builder("p").scorer(Constant(2.0), 1.0).build().unwrap();
    let router = Router::new(RouterOptions::default(), profile).unwrap();
    router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
    let mut workspace = Workspace::default();
    let context = HashContext::default();
    assert!(router.decide(&Request::new(&prompt(1), &context), Duration::ZERO, &mut workspace).is_err());
    let explanation = router.explain(&workspace);
    assert_eq!((explanation.pods.len(), explanation.picked), (1, None));
    assert_eq!(explanation.pods[0].scores[0].value, 2.0, "what was wrong");
}

#[test]
fn bad_profiles_and_options_are_refused_with_the_thing_named() {
    let refused = |error: kvroute_core::Error, part: &str| {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{error}");
    };
    let scored = |weight| Profile::builder("p").scorer(LoadScorer::default(), weight).build();
    refused(Profile::builder("empty").build().unwrap_err(), "\"empty\"");
    refused(scored(-1.0).unwrap_err(), "\"load\"");
    refused(scored(f64::NAN).unwrap_err(), "NaN");
    let twice = Profile::builder("p").scorer(Constant(0.0), 1.0).scorer(Constant(1.0), 1.0).build();
    refused(twice.unwrap_err(), "two scorers called \"constant\"");
    refused(LoadScorer::new(0).unwrap_err(), "limit of 0");
    refused(Credits::default().with_tier(Tier::Cpu, 1.1).unwrap_err(), "cpu");

    let (router, pods) = router_of(&["a"]);
    let report = LoadReport { running: 0, waiting: 0, kv_usage: f32::NAN };
    refused(router.report_load(pods[0], report).unwrap_err(), "kv_usage");
    let again = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE)));
    refused(again.unwrap_err(), "\"a\"");
    let other = router.add_pod(PodSpec::new("b", domain("model", 8)));
    refused(other.unwrap_err(), "\"model\"");
}
