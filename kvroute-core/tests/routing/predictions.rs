//! What the router itself sent where: the prefix scorer, with events and without, by tokens and by text.

use super::*;

fn dispatch(router: &Router, request: &Request<'_>) -> PodId {
    let dispatch = router.dispatch(request, Duration::ZERO, &mut Workspace::default()).unwrap();
    // At rest again, so that only what is predicted tells the pods apart.
    router.first_token(dispatch.ticket);
    router.finish(dispatch.ticket, Finish::Completed, None);
    dispatch.decision.pod
}

#[test]
fn a_prompt_goes_where_its_prefix_was_sent_although_no_event_ever_came() {
    let (router, _) = router_of(&["a", "b", "c", "d"]);
    let context = HashContext::default();
    for seed in 0..40 {
        let token_ids = prompt(seed);
        let first = dispatch(&router, &Request::new(&token_ids, &context));
        let longer: Vec<u32> = token_ids.iter().copied().chain(7000..7100).collect();
        assert_eq!(dispatch(&router, &Request::new(&longer, &context)), first);
    }
}

#[test]
fn the_prefix_score_is_the_share_that_was_sent_and_counts_beside_the_events() {
    let (router, pods) = router_of(&["a", "b"]);
    let (token_ids, context) = (prompt(1), HashContext::default());
    router.set_accepting(pods[0], false).unwrap();
    dispatch(&router, &Request::new(&token_ids[..24], &context));
    router.set_accepting(pods[0], true).unwrap();
    store(&router, pods[0], &token_ids, 3, Tier::Gpu);

    let mut workspace = Workspace::default();
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    let explanation = router.explain(&workspace);
    let scores = |row: usize| explanation.pods[row].scores.iter().map(|s| s.value).collect::<Vec<_>>();
    assert_eq!(scores(0), [0.3, 0.0, 0.0, 1.0], "3 of 10 blocks held");
    assert_eq!(scores(1), [0.0, 0.6, 0.0, 1.0], "6 of 10 blocks sent");
    assert_eq!(decision.pod, pods[1], "3 x 0.6 against 5 x 0.3");
    assert_eq!(explanation.pods[1].predicted_blocks, 6);
    assert!(explanation.to_string().contains("predicted 6"));
    assert_eq!(decision.uncached_tokens, 41 - 24, "no event came from this pod, so what was sent counts");
}

#[test]
fn load_turns_down_a_hit_of_less_than_an_eighth_and_none_with_a_session() {
    let (router, pods) = router_of(&["a", "b"]);
    let context = HashContext::default();
    let token_ids: Vec<u32> = (0..401).collect();
    router.report_load(pods[0], load(128, 0)).unwrap();
    router.report_load(pods[1], load(0, 0)).unwrap();
    for (blocks, winner) in [(12, pods[1]), (13, pods[0])] {
        clear(&router, pods[0]);
        router.set_accepting(pods[1], false).unwrap();
        dispatch(&router, &Request::new(&token_ids[..blocks * 4], &context));
        router.set_accepting(pods[1], true).unwrap();
        store(&router, pods[0], &token_ids, blocks, Tier::Gpu);
        assert_eq!(decide(&router, &token_ids).pod, winner, "{blocks} of 100 blocks, 8 x share against 1");
    }
    clear(&router, pods[0]);
    let session = Some(Session::Id("s"));
    router.set_accepting(pods[1], false).unwrap();
    dispatch(&router, &Request { session, ..Request::new(&[1, 2, 3], &context) });
    router.set_accepting(pods[1], true).unwrap();
    let request = Request { session, ..Request::new(&token_ids, &context) };
    assert_eq!(dispatch(&router, &request), pods[0], "2 for the session against 1");
}

#[test]
fn what_was_sent_is_forgotten_beyond_the_bound_the_least_recently_used_first() {
    let index = IndexOptions { max_predicted: 25, ..IndexOptions::default() };
    let router = Router::new(RouterOptions { index, ..RouterOptions::default() }, demo_policy()).unwrap();
    let pod = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
    let context = HashContext::default();
    for seed in [1, 2, 1, 3] {
        dispatch(&router, &Request::new(&prompt(seed), &context));
    }
    assert_eq!(predicted(&router, pod), 25);
    let sent = |seed| {
        let mut workspace = Workspace::default();
        let request_of = prompt(seed);
        router.decide(&Request::new(&request_of, &context), Duration::ZERO, &mut workspace).unwrap();
        router.explain(&workspace).pods[0].predicted_blocks
    };
    assert_eq!([sent(1), sent(2), sent(3)], [10, 5, 10], "the tail of 2 went");
}

#[test]
fn what_was_sent_is_void_when_the_engine_drops_its_cache() {
    let (router, pods) = router_of(&["a"]);
    let context = HashContext::default();
    dispatch(&router, &Request::new(&prompt(1), &context));
    assert_eq!(predicted(&router, pods[0]), 10);
    clear(&router, pods[0]);
    assert_eq!(predicted(&router, pods[0]), 0);
}

#[test]
fn what_was_sent_is_void_when_the_engine_restarts() {
    let (router, pods) = router_of(&["a"]);
    // [time, [], nil]
    let batch = |time: u8| [0x93, 0xcb, 0x40, time, 0, 0, 0, 0, 0, 0, 0x90, 0xc0];
    for number in 0..3 {
        router.apply(pods[0], number, &batch(number as u8)).unwrap();
    }
    dispatch(&router, &Request::new(&prompt(1), &HashContext::default()));
    assert_eq!(predicted(&router, pods[0]), 10);
    router.apply(pods[0], 0, &batch(77)).unwrap();
    assert_eq!(router.index().counters(pods[0]).unwrap().restarts, 1);
    assert_eq!(predicted(&router, pods[0]), 0);
}

#[test]
fn a_prompt_that_is_only_known_as_text_goes_where_its_beginning_was_sent() {
    let (router, _) = router_of(&["a", "b", "c", "d"]);
    let (plain, salted) =
        (HashContext::default(), HashContext { cache_salt: Some("tenant".into()), ..HashContext::default() });
    let mut moved = 0;
    for seed in 0..40_u32 {
        let text: String = (0..300).map(|i| format!("word{} ", seed * 1000 + i)).collect();
        let first = dispatch(&router, &Request::from_text(text.as_bytes(), &plain));
        let longer = text.clone() + "and more of it";
        let mut workspace = Workspace::default();
        let request = Request::from_text(longer.as_bytes(), &plain);
        let decision = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
        assert_eq!((decision.pod, decision.matched_tokens), (first, 0));
        assert_eq!(decision.uncached_tokens, longer.len().div_ceil(4) - text.len() / 256 * 64);
        let explanation = router.explain(&workspace);
        assert_eq!(explanation.prompt_tokens, longer.len().div_ceil(4));
        // Events say nothing of texts, so they change nothing.
        router.pods().iter().for_each(|pod| store(&router, pod.id(), &prompt(5000), 1, Tier::Gpu));
        let with_events = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
        assert_eq!((with_events.pod, with_events.uncached_tokens), (first, decision.uncached_tokens));
        moved += u32::from(dispatch(&router, &Request::from_text(text.as_bytes(), &salted)) != first);
    }
    assert!(moved > 20, "other salts share nothing: {moved} of 40 went elsewhere");
}

#[test]
fn a_text_of_whole_blocks_is_matched_to_its_end() {
    let (router, _) = router_of(&["a"]);
    let (text, context) = ([7; 512], HashContext::default());
    let request = Request::from_text(&text, &context);
    dispatch(&router, &request);
    let decision = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    assert_eq!(decision.uncached_tokens, 0);
}

#[test]
fn text_and_token_ids_never_match_each_other() {
    let router = demo_router();
    // As many tokens a block as words a block of text, and one more for the last block to be searched.
    router.add_pod(PodSpec::new("a", domain("model", 64))).unwrap();
    let context = HashContext::default();
    let words: Vec<u32> = (0..257).collect();
    let text: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    dispatch(&router, &Request::from_text(&text, &context));
    let predicted_blocks = |request: &Request<'_>| {
        let mut workspace = Workspace::default();
        router.decide(request, Duration::ZERO, &mut workspace).unwrap();
        router.explain(&workspace).pods[0].predicted_blocks
    };
    assert_eq!(predicted_blocks(&Request::from_text(&text, &context)), 4);
    assert_eq!(predicted_blocks(&Request::new(&words, &context)), 0);
}

#[test]
fn texts_without_a_whole_block_are_routed_too() {
    let (router, _) = router_of(&["a", "b"]);
    let context = HashContext::default();
    for text in ["", "x", "short"] {
        dispatch(&router, &Request::from_text(text.as_bytes(), &context));
    }
    assert!(router.pods().iter().all(|pod| predicted(&router, pod.id()) == 0));
}

#[test]
fn texts_are_hashed_alike_whatever_a_workspace_was_used_for_before() {
    let (router, pods) = router_of(&["a"]);
    let context = HashContext::default();
    let (one, two) = ("one ".repeat(200), "two ".repeat(200));
    let mut workspace = Workspace::default();
    for text in [&one, &two, &two] {
        let request = Request::from_text(text.as_bytes(), &context);
        router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
    }
    assert_eq!(router.explain(&workspace).pods[0].predicted_blocks, 3);
    assert_eq!(predicted(&router, pods[0]), 6);
}

#[test]
fn what_was_sent_as_text_counts_as_cached_on_a_pod_with_events_too() {
    let (router, pods) = router_of(&["a"]);
    store(&router, pods[0], &prompt(1), 1, Tier::Gpu);
    let (text, context) = ([b'x'; 1000], HashContext::default());
    let request = Request::from_text(&text, &context);
    let uncached = [(); 2].map(|()| {
        router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap().decision.uncached_tokens
    });
    assert_eq!(uncached, [250, 250 - 3 * 64], "events say nothing of texts");
}

#[test]
fn a_text_block_is_a_multiple_of_four_bytes() {
    for bytes in [0, 3, 6, 4 * 65_537] {
        let options = RouterOptions { text_block_bytes: bytes, ..RouterOptions::default() };
        let error = Router::new(options, demo_policy()).unwrap_err();
        assert!(error.to_string().contains(&bytes.to_string()), "{error}");
    }
}

#[test]
fn a_request_for_a_model_stays_with_the_pods_that_serve_it() {
    let router = demo_router();
    let hasher = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE).unwrap();
    let serving = |name: &str, models: &[&str]| {
        Arc::new(CacheDomain::new(name, hasher.clone()).unwrap().with_models(models.iter().copied()))
    };
    let small = router.add_pod(PodSpec::new("small", serving("8b", &["llama-8b", "llama"]))).unwrap();
    let large = router.add_pod(PodSpec::new("large", serving("70b", &["llama-70b"]))).unwrap();
    let any = router.add_pod(PodSpec::new("any", serving("any", &[]))).unwrap();
    router.set_accepting(any, false).unwrap();
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let asked = |model| {
        let request = Request { model, ..Request::new(&token_ids, &context) };
        router.decide(&request, Duration::ZERO, &mut Workspace::default()).map(|decision| decision.pod)
    };
    assert_eq!(asked(Some("llama")), Ok(small));
    assert_eq!(asked(Some("llama-70b")), Ok(large));
    assert!(asked(Some("mistral")).unwrap_err().to_string().contains("2 by filter \"model\""));
    router.set_accepting(any, true).unwrap();
    assert_eq!(asked(Some("mistral")), Ok(any));
}
