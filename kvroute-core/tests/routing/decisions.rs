//! Decisions: who is picked, and what may override a hit. A long list of short tests.

use std::collections::HashMap;

use kvroute_core::ErrorKind;
use kvroute_core::score::LoadScorer;

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
fn short_texts_that_differ_in_their_beginning_spread_too() {
    let (router, _) = router_of(&["a", "b", "c", "d"]);
    let context = HashContext::default();
    let decide = |n: u32| {
        let text = format!("{n}: what is the answer to this question, please?");
        let request = Request::from_text(text.as_bytes(), &context);
        router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap().pod
    };
    let first = decide(10);
    assert!((11..42).any(|n| decide(n) != first));
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
fn a_router_without_pods_says_so() {
    let error = demo_router()
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
fn pods_can_be_listed_and_found_by_id() {
    let (router, pods) = router_of(&["a", "b"]);
    assert_eq!(router.pod_by_id(pods[1]).unwrap().name(), "b");
    assert_eq!(router.pods().iter().map(|pod| pod.id()).collect::<Vec<_>>(), pods);
    router.remove_pod(pods[0]).unwrap();
    assert_eq!(router.pod_by_id(pods[0]).unwrap_err().kind(), ErrorKind::UnknownPod);
}

#[test]
fn a_warm_decision_allocates_nothing_with_prefill_pods_texts_and_sessions_either() {
    let profile = Profile::llm_d_demo(Role::Prefill);
    let prefill = Some(PrefillPolicy::new(profile, 0));
    let options = RouterOptions { session_key: Some(SessionKey::new([1; 32])), ..RouterOptions::default() };
    let router = Router::new(options, Policy { prefill, ..demo_policy() }).unwrap();
    for n in 0..8 {
        let role = if n % 2 == 0 { Role::Prefill } else { Role::Decode };
        router
            .add_pod(PodSpec { role, ..PodSpec::new(format!("{n}"), domain("model", BLOCK_SIZE)) })
            .unwrap();
    }
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let text: String = (0..600).map(|i| format!("word{i} ")).collect();
    let mut workspace = Workspace::default();
    let plain = Request::new(&token_ids, &context);
    let decision = router.decide(&plain, seconds(1), &mut workspace).unwrap();
    let token = router.session_token(decision.pod, decision.prefill.map(|p| p.pod), seconds(1)).unwrap();
    let requests = [
        Request::from_text(text.as_bytes(), &context),
        Request { session: Some(Session::Token(&token)), ..plain },
        Request { session: Some(Session::Id("s")), ..plain },
    ];
    for request in &requests {
        router.dispatch(request, seconds(1), &mut workspace).unwrap();
        let warm = router.decide(request, seconds(1), &mut workspace).unwrap();
        let used = allocation_counter::measure(|| {
            assert_eq!(router.decide(request, seconds(1), &mut workspace).unwrap(), warm);
        });
        assert_eq!(used.count_total, 0, "{request:?}");
    }
}
