//! Decisions: who is picked, what may override a hit, and what the explanation says. A long list of short
//! tests.

use std::collections::HashMap;

use kvroute_core::ErrorKind;
use kvroute_core::candidate::Candidates;
use kvroute_core::event::{BlockStored, EventBatch, EventLora, GroupKind, KvEvent};
use kvroute_core::filter::{AcceptingFilter, Filter};
use kvroute_core::hash::{HashSeed, VllmAlgorithm, VllmEra, VllmScheme};
use kvroute_core::pick::{Picker, Scored};
use kvroute_core::score::{KvCacheScorer, LoadScorer, Scorer};

use super::*;

#[test]
fn the_pod_with_the_prefix_is_picked_and_its_tokens_are_told() {
    let (router, pods) = router_of(&["a", "b", "c"]);
    let token_ids = prompt(1);
    store(&router, pods[1], &token_ids, 7, Tier::Gpu);
    let mut workspace = Workspace::default();
    let context = HashContext::default();
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((decision.pod, decision.matched.total(), decision.matched_tokens), (pods[1], 7, 28));
    assert_eq!(decision.candidates, 3);

    let explanation = router.explain(&workspace);
    assert_eq!(explanation.picked, Some(1));
    assert_eq!(explanation.pods[1].searchable_blocks, 10);
    assert_eq!(explanation.pods[1].matched_blocks, [("gpu", 7)]);
    assert_eq!(explanation.pods[1].scores[0].value, 0.7);
    assert_eq!(explanation.pods[1].total, decision.total);
    let text = explanation.to_string();
    assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("> b")), "{text}");
}

#[test]
fn load_decides_between_equal_hits_and_cannot_outweigh_a_whole_one() {
    let (router, pods) = router_of(&["a", "b"]);
    let token_ids = prompt(1);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    router.report_load(pods[0], load(100, 28)).unwrap();
    router.report_load(pods[1], load(0, 0)).unwrap();
    let request = Request::new(&token_ids, &context);
    assert_eq!(
        router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod,
        pods[0],
        "5 x 1 against 1 x 1"
    );

    store(&router, pods[1], &token_ids, 10, Tier::Gpu);
    assert_eq!(
        router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod,
        pods[1],
        "equal hits: the idle one"
    );

    let other = prompt(2);
    store(&router, pods[0], &other, 1, Tier::Gpu);
    let request = Request::new(&other, &context);
    assert_eq!(
        router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod,
        pods[1],
        "a tenth of a hit yields to load"
    );
}

#[test]
fn a_lower_tier_counts_less_than_the_device() {
    let (router, pods) = router_of(&["device", "host"]);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 9, Tier::Gpu);
    store(&router, pods[1], &token_ids, 10, Tier::Cpu);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!(decision.pod, pods[0], "9 x 1.0 against 10 x 0.8");
    assert_eq!(router.explain(&workspace).pods[1].matched_blocks, [("cpu", 10)]);
}

#[test]
fn even_choices_spread_over_pods_and_repeat_exactly() {
    let (router, _) = router_of(&["a", "b", "c", "d"]);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let mut picked = HashMap::<PodId, u32>::new();
    for seed in 0..400 {
        let token_ids = prompt(seed);
        let request = Request::new(&token_ids, &context);
        let decision = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
        assert_eq!(router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap(), decision);
        *picked.entry(decision.pod).or_default() += 1;
    }
    assert_eq!(picked.len(), 4);
    assert!(picked.values().all(|&count| (60..140).contains(&count)), "{picked:?}");
}

#[test]
fn the_nonce_and_the_seed_move_even_choices_of_one_prompt() {
    let token_ids = prompt(1);
    let context = HashContext::default();
    let choices = |seed: u64| -> Vec<u32> {
        let profile = Profile::builder("p").scorer(LoadScorer::default(), 1.0).seed(seed).build().unwrap();
        let router = Router::new(RouterOptions::default(), profile).unwrap();
        let domain = domain("model", BLOCK_SIZE);
        for pod in ["a", "b", "c"] {
            router.add_pod(PodSpec::new(pod, Arc::clone(&domain))).unwrap();
        }
        let mut workspace = Workspace::default();
        let decide = |nonce| Request { nonce: Some(nonce), ..Request::new(&token_ids, &context) };
        (0..64)
            .map(|n| router.decide(&decide(n), Duration::ZERO, &mut workspace).unwrap().pod.slot() as u32)
            .collect()
    };
    assert!((0..3).all(|pod| choices(1).contains(&pod)));
    assert_eq!(choices(1), choices(1));
    assert_ne!(choices(1), choices(2));
}

#[test]
fn short_prompts_that_differ_in_their_tail_spread_too() {
    let (router, _) = router_of(&["a", "b", "c", "d"]);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let mut decide = |token| {
        router.decide(&Request::new(&[7, token], &context), Duration::ZERO, &mut workspace).unwrap().pod
    };
    let first = decide(0);
    assert!((1..32).any(|token| decide(token) != first));
}

#[test]
fn a_draining_pod_gets_nothing_and_the_explanation_says_why() {
    let (router, pods) = router_of(&["a", "b"]);
    let token_ids = prompt(1);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    router.set_accepting(pods[0], false).unwrap();
    let request = Request::new(&token_ids, &context);
    assert_eq!(router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod, pods[1]);
    let explanation = router.explain(&workspace);
    assert_eq!(explanation.pods[0].dropped_by.as_deref(), Some("accepting"));
    assert!(explanation.pods[0].scores.is_empty());

    router.set_accepting(pods[1], false).unwrap();
    let error = router.decide(&request, Duration::ZERO, &mut workspace).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoCandidate);
    assert!(error.to_string().contains("2 by filter \"accepting\""), "{error}");
    assert_eq!(router.explain(&workspace).picked, None);

    router.set_accepting(pods[0], true).unwrap();
    assert_eq!(router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod, pods[0]);
}

#[test]
fn pods_of_several_domains_are_compared_and_each_matched_by_its_own_hashes() {
    let router = Router::default();
    let scheme =
        VllmScheme::for_era(VllmAlgorithm::Sha256Cbor, VllmEra::Tagged, &HashSeed::Value("42".into()))
            .unwrap();
    let hasher = BlockHasher::new(scheme, 8).unwrap();
    let native = Arc::new(CacheDomain::new("native", hasher.clone()).unwrap());
    let one = router.add_pod(PodSpec::new("translated", domain("model", BLOCK_SIZE))).unwrap();
    let two = router.add_pod(PodSpec::new("native", native)).unwrap();
    let token_ids = prompt(1);
    let context = HashContext::default();
    store(&router, one, &token_ids, 4, Tier::Gpu);
    let hashes = hasher.hash(&token_ids, &context).unwrap();
    let event = BlockStored {
        block_hashes: hashes[..3].iter().map(|hash| EngineHash(hash.0)).collect(),
        token_ids: token_ids[..24].to_vec(),
        block_size: 8,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    };
    let batch = EventBatch { events: vec![KvEvent::Stored(event)], ..EventBatch::default() };
    router.index().apply_events(two, &batch).unwrap();
    let mut workspace = Workspace::default();
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((decision.pod, decision.matched_tokens), (two, 24), "3 blocks of 8 beat 4 of 4");
    let explanation = router.explain(&workspace);
    assert_eq!(explanation.pods[0].matched_blocks, [("gpu", 4)]);
    assert_eq!((explanation.pods[0].searchable_blocks, explanation.pods[1].searchable_blocks), (10, 5));
}

#[test]
fn ranks_of_one_pod_are_targets_of_their_own() {
    let (router, pods) = router_of(&["a"]);
    let rank1 =
        router.add_pod(PodSpec { dp_rank: 1, ..PodSpec::new("a", domain("model", BLOCK_SIZE)) }).unwrap();
    let token_ids = prompt(1);
    store(&router, rank1, &token_ids, 10, Tier::Gpu);
    let context = HashContext::default();
    let decision = router
        .decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default())
        .unwrap();
    assert_eq!(decision.pod, rank1);
    assert_eq!(router.pod("a", 0).unwrap().id(), pods[0]);
    assert_eq!(router.pod("a", 1).unwrap().dp_rank(), 1);
}

#[test]
fn a_removed_pod_is_never_picked_and_comes_back_as_a_new_one() {
    let (router, pods) = router_of(&["a", "b"]);
    let token_ids = prompt(1);
    let context = HashContext::default();
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    router.remove_pod(pods[0]).unwrap();
    let mut workspace = Workspace::default();
    let request = Request::new(&token_ids, &context);
    assert_eq!(router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod, pods[1]);
    for error in [
        router.remove_pod(pods[0]).unwrap_err(),
        router.apply(pods[0], 0, &[]).unwrap_err(),
        router.report_load(pods[0], load(0, 0)).unwrap_err(),
        router.set_accepting(pods[0], true).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::UnknownPod);
    }
    let again = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
    assert_ne!(again, pods[0]);
    assert_eq!(router.decide(&request, Duration::ZERO, &mut workspace).unwrap().matched.total(), 0);
}

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
    let batch = |event| EventBatch { events: vec![KvEvent::Stored(event)], ..EventBatch::default() };
    router.index().apply_events(pods[0], &batch(wrong.clone())).unwrap();
    assert!(note(&router, &prompt(1)).unwrap().contains("another size than its domain's 4"));

    let (router, pods) = router_of(&["a"]);
    let unknown =
        BlockStored { group_kind: Some(GroupKind::Unknown), block_size: 4, token_ids: vec![0; 4], ..wrong };
    router.index().apply_events(pods[0], &batch(unknown)).unwrap();
    assert!(note(&router, &prompt(1)).unwrap().contains("unknown kind"));
}

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
    refused(KvCacheScorer::default().with_credit(Tier::Cpu, 1.1).unwrap_err(), "cpu");

    let (router, pods) = router_of(&["a"]);
    let report = LoadReport { running: 0, waiting: 0, kv_usage: f32::NAN };
    refused(router.report_load(pods[0], report).unwrap_err(), "kv_usage");
    let again = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE)));
    refused(again.unwrap_err(), "\"a\"");
    let other = router.add_pod(PodSpec::new("b", domain("model", 8)));
    refused(other.unwrap_err(), "\"model\"");
}

#[test]
fn a_router_without_pods_says_so() {
    let error = Router::default()
        .decide(&Request::new(&prompt(1), &HashContext::default()), Duration::ZERO, &mut Workspace::default())
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NoCandidate, "this router has no pod")
    );
}

#[test]
fn a_request_that_cannot_be_hashed_is_refused() {
    let (router, _) = router_of(&["a"]);
    let context = HashContext { lora: Some(kvroute_core::hash::Lora::default()), ..HashContext::default() };
    let error = router
        .decide(&Request::new(&prompt(1), &context), Duration::ZERO, &mut Workspace::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn even_choices_spread_whatever_number_of_domains_hash_alike() {
    for domains in 1..=3 {
        let router = Router::default();
        for pod in 0..4 {
            let domain = domain(&format!("model-{}", pod % domains), BLOCK_SIZE);
            router.add_pod(PodSpec::new(format!("pod-{pod}"), domain)).unwrap();
        }
        let context = HashContext::default();
        let mut workspace = Workspace::default();
        let mut picked = HashMap::<PodId, u32>::new();
        for seed in 0..400 {
            // Equal lengths, equal last tokens: only the blocks tell the prompts apart.
            let mut token_ids = prompt(seed);
            token_ids.push(5);
            let decision =
                router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
            *picked.entry(decision.pod).or_default() += 1;
        }
        assert_eq!(picked.len(), 4, "{domains} domains");
        assert!(picked.values().all(|&count| (60..140).contains(&count)), "{domains} domains: {picked:?}");
    }
}

#[test]
fn a_domain_that_cannot_hash_a_request_only_drops_its_own_matches() {
    let router = Router::default();
    let seed = HashSeed::Value("42".into());
    let scheme = VllmScheme::for_era(VllmAlgorithm::Sha256Cbor, VllmEra::Tagged, &seed).unwrap();
    let native = Arc::new(CacheDomain::new("native", BlockHasher::new(scheme, BLOCK_SIZE).unwrap()).unwrap());
    router.add_pod(PodSpec::new("native", native)).unwrap();
    let pod = router.add_pod(PodSpec::new("translated", domain("model", BLOCK_SIZE))).unwrap();
    // vLLM hashes the adapter's path since 0.31, and nobody told it.
    let lora = kvroute_core::hash::Lora { name: "a".into(), ..Default::default() };
    let context = HashContext { lora: Some(lora), ..HashContext::default() };
    let token_ids = prompt(1);
    let hashes = domain("model", BLOCK_SIZE).hasher().hash(&token_ids, &context).unwrap();
    let event = BlockStored {
        block_hashes: hashes[..3].iter().map(|hash| EngineHash(hash.0)).collect(),
        token_ids: token_ids[..12].to_vec(),
        block_size: BLOCK_SIZE,
        tier: Some(Tier::Gpu),
        lora: Some(EventLora { name: Some("a".into()), id: None }),
        ..BlockStored::default()
    };
    let batch = EventBatch { events: vec![KvEvent::Stored(event)], ..EventBatch::default() };
    router.index().apply_events(pod, &batch).unwrap();
    let mut workspace = Workspace::default();
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((decision.pod, decision.matched.total()), (pod, 3));
    let note = router.explain(&workspace).pods[0].note.clone().unwrap();
    assert!(note.contains("cannot be hashed for its domain \"native\""), "{note}");
}

/// Answers whatever row it was made with.
#[derive(Debug)]
struct Fixed(usize);

impl Picker for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn pick(&self, _: &mut dyn Iterator<Item = Scored>, _: u64) -> Option<usize> {
        Some(self.0)
    }
}

#[test]
fn a_picker_cannot_pick_what_it_was_not_offered() {
    for row in [0, 7] {
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
fn an_absurdly_long_prompt_is_refused() {
    let (router, _) = router_of(&["a"]);
    let token_ids = vec![0; Router::MAX_PROMPT_TOKENS + 1];
    let context = HashContext::default();
    let error = router
        .decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn a_pod_added_as_one_rank_takes_no_batches_of_another_and_the_explanation_says_so() {
    let router = Router::default();
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

#[test]
fn pods_can_be_listed_and_found_by_id() {
    let (router, pods) = router_of(&["a", "b"]);
    assert_eq!(router.pod_by_id(pods[1]).unwrap().name(), "b");
    assert_eq!(router.pods().iter().map(|pod| pod.id()).collect::<Vec<_>>(), pods);
    router.remove_pod(pods[0]).unwrap();
    assert_eq!(router.pod_by_id(pods[0]).unwrap_err().kind(), ErrorKind::UnknownPod);
}
