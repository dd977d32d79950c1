//! Prefill and decode on two pods.

use super::*;

const MOST: usize = 20;

/// `decode` and `prefill` pods, prompts with more than [`MOST`] uncached tokens being prefilled elsewhere.
fn fleet(decode: usize, prefill: usize) -> (Router, Vec<PodId>, Vec<PodId>) {
    let profile = Profile::llm_d_demo(Role::Prefill);
    let prefill_policy = Some(PrefillPolicy::new(profile, MOST));
    let policy = Policy { prefill: prefill_policy, ..demo_policy() };
    let options = RouterOptions { session_key: Some(SessionKey::new([1; 32])), ..RouterOptions::default() };
    let router = Router::new(options, policy).unwrap();
    let add = |role: Role, n: usize| {
        let spec = PodSpec::new(format!("{}-{n}", role.name()), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { role, ..spec }).unwrap()
    };
    let decode = (0..decode).map(|n| add(Role::Decode, n)).collect();
    let prefill = (0..prefill).map(|n| add(Role::Prefill, n)).collect();
    (router, decode, prefill)
}

#[test]
fn a_prompt_with_much_to_compute_is_computed_by_a_prefill_pod_first() {
    let (router, decode, prefill) = fleet(3, 2);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let mut workspace = Workspace::default();
    let request = Request::new(&token_ids, &context);
    let dispatch = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
    let first = dispatch.decision.prefill.unwrap();
    assert!(decode.contains(&dispatch.decision.pod) && prefill.contains(&first.pod));
    assert_eq!(first.uncached_tokens, 41);

    let booked = |pod| router.pod_by_id(pod).unwrap().bookings();
    let of = |requests, prefill_tokens| Bookings { requests, prefill_tokens };
    assert_eq!(booked(dispatch.decision.pod), of(1, 0), "the KV comes by transfer");
    assert_eq!(booked(first.pod), of(1, 41));
    let explanation = router.explain(&workspace);
    let of_prefill = explanation.prefill.as_ref().unwrap();
    assert_eq!((explanation.profile.as_str(), of_prefill.profile.as_str()), ("decode", "prefill"));
    assert_eq!(explanation.pods[3].dropped_by.as_deref(), Some("role"));
    assert_eq!(of_prefill.pods[0].dropped_by.as_deref(), Some("role"));
    assert!(explanation.to_string().contains("profile prefill"));

    assert!(router.first_token(dispatch.ticket));
    assert_eq!((booked(dispatch.decision.pod), booked(first.pod)), (of(1, 0), of(0, 0)));
    assert!(router.finish(dispatch.ticket, Finish::Completed, Some(40)));
    assert_eq!(booked(dispatch.decision.pod), of(0, 0));

    let again = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
    assert_eq!(
        (again.decision.pod, again.decision.prefill),
        (dispatch.decision.pod, None),
        "cached there now"
    );
    assert_eq!(again.decision.uncached_tokens, 1);
}

#[test]
fn what_comes_by_transfer_is_not_compared_with_what_the_decode_pod_had() {
    let (router, decode, _) = fleet(1, 1);
    // Of something else, so that its events tell what it has.
    store(&router, decode[0], &prompt(9), 1, Tier::Gpu);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let request = Request::new(&token_ids, &context);
    let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    assert!(dispatch.decision.prefill.is_some());
    router.finish(dispatch.ticket, Finish::Completed, Some(40));
    assert_eq!(router.pod_by_id(decode[0]).unwrap().audit(), Audit::default());
}

#[test]
fn the_threshold_counts_what_the_decode_pod_would_have_to_compute() {
    let (router, decode, _) = fleet(1, 1);
    let token_ids = prompt(1);
    store(&router, decode[0], &token_ids, 5, Tier::Gpu);
    assert!(decide(&router, &token_ids).prefill.is_some(), "21 of 41 tokens are uncached");
    assert!(decide(&router, &token_ids[..40]).prefill.is_none(), "20 are not more than 20");
}

#[test]
fn the_prefill_pod_that_has_the_prefix_is_picked_and_a_follow_up_stays_with_both() {
    let (router, _, prefill) = fleet(2, 4);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    store(&router, prefill[2], &token_ids, 5, Tier::Gpu);
    let mut workspace = Workspace::default();
    let session = Some(Session::Id("s"));
    let request = Request { session, ..Request::new(&token_ids, &context) };
    let first = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap().decision;
    assert_eq!(
        first.prefill.map(|p| (p.pod, p.matched_tokens, p.uncached_tokens)),
        Some((prefill[2], 20, 21))
    );

    let other = prompt(9);
    let request = Request { session, ..Request::new(&other, &context) };
    let next = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap().decision;
    assert_eq!((next.pod, next.prefill.map(|p| p.pod)), (first.pod, Some(prefill[2])));
}

/// A decode pod and a prefill pod for prompts of so many tokens, as long as so much work is there at most.
fn choosy(min_prompt_tokens: usize, max_prefill_load: u64) -> (Router, PodId, PodId) {
    let new = PrefillPolicy::new(Profile::llm_d_demo(Role::Prefill), MOST);
    let prefill = Some(PrefillPolicy { min_prompt_tokens, max_prefill_load, ..new });
    let (router, _) = router_by(Policy { prefill, ..Policy::default() }, &[]);
    let [decode, prefill] = [Role::Decode, Role::Prefill].map(|role| {
        let spec = PodSpec::new(role.name(), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { role, ..spec }).unwrap()
    });
    (router, decode, prefill)
}

#[test]
fn prompts_shorter_than_the_least_are_computed_where_they_are_answered() {
    let (context, token_ids) = (HashContext::default(), prompt(1));
    for (least, is_prefilled) in [(0, true), (41, true), (42, false), (usize::MAX, false)] {
        let (router, _, _) = choosy(least, u64::MAX);
        let explanation = explained(&router, &Request::new(&token_ids, &context), Duration::ZERO);
        assert_eq!(explanation.prefill.is_some(), is_prefilled, "{least}");
        assert_eq!(decide(&router, &token_ids).prefill.is_some(), is_prefilled, "{least}");
    }
    // Of a text the length is estimated.
    let (router, _, _) = choosy(50, u64::MAX);
    for (bytes, is_prefilled) in [(197, true), (196, false)] {
        let text = vec![b'x'; bytes];
        let request = Request::from_text(&text, &context);
        let decision = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
        assert_eq!(decision.prefill.is_some(), is_prefilled);
    }
}

#[test]
fn a_prefill_pod_with_too_much_work_is_not_used_and_the_explanation_says_so() {
    let (context, sent) = (HashContext::default(), prompt(1));
    for (most, is_used) in [(41, true), (40, false), (0, false)] {
        let (router, decode, prefill) = choosy(0, most);
        let mut workspace = Workspace::default();
        let first = router.dispatch(&Request::new(&sent, &context), Duration::ZERO, &mut workspace).unwrap();
        assert_eq!(first.decision.prefill.map(|p| p.pod), Some(prefill), "it is idle still");

        let token_ids = prompt(2);
        let next =
            router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
        assert_eq!(next.decision.prefill.is_some(), is_used, "41 tokens are in flight, {most} may be");
        let explanation = router.explain(&workspace);
        let of_prefill = explanation.prefill.as_ref().unwrap();
        let reason = "it has too much prefill work in flight";
        assert_eq!((of_prefill.unused, of_prefill.picked), ((!is_used).then_some(reason), Some(1)));
        assert_eq!(explanation.to_string().contains(&format!("not used: {reason}")), !is_used);
        let expected = if is_used { (of(2, 0), of(2, 82)) } else { (of(2, 41), of(1, 41)) };
        assert_eq!((bookings(&router, decode), bookings(&router, prefill)), expected);

        // Computed, it has room again.
        router.first_token(first.ticket);
        router.finish(next.ticket, Finish::Completed, None);
        assert!(decide(&router, &prompt(3)).prefill.is_some());
    }
}

#[test]
fn a_pod_that_would_hand_over_to_itself_is_not_used_and_the_explanation_says_so() {
    let prefill = Some(PrefillPolicy::new(Profile::llm_d_demo(Role::Prefill), 0));
    let (router, _) = router_by(Policy { prefill, ..Policy::default() }, &["both"]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let mut workspace = Workspace::default();
    let sent = router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!(sent.decision.prefill, None);
    let explanation = router.explain(&workspace).prefill.unwrap();
    assert_eq!((explanation.picked, explanation.unused.is_some()), (Some(0), true));
    assert_eq!(bookings(&router, sent.decision.pod), of(1, 41));
}

#[test]
fn without_a_prefill_pod_that_takes_requests_the_decode_pod_computes_the_prompt() {
    let (router, decode, prefill) = fleet(1, 1);
    router.set_accepting(prefill[0], false).unwrap();
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let mut workspace = Workspace::default();
    let request = Request::new(&token_ids, &context);
    let dispatch = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((dispatch.decision.pod, dispatch.decision.prefill), (decode[0], None));
    assert_eq!(router.pod_by_id(decode[0]).unwrap().bookings().prefill_tokens, 41);
    let explanation = router.explain(&workspace);
    assert_eq!(explanation.prefill.unwrap().pods[1].dropped_by.as_deref(), Some("accepting"));
}

#[test]
fn a_pod_that_does_both_is_not_its_own_prefill_pod() {
    let profile = Profile::llm_d_demo(Role::Prefill);
    let prefill = Some(PrefillPolicy::new(profile, 0));
    let router = Router::new(RouterOptions::default(), Policy { prefill, ..demo_policy() }).unwrap();
    router.add_pod(PodSpec::new("both", domain("model", BLOCK_SIZE))).unwrap();
    assert_eq!(decide(&router, &prompt(1)).prefill, None);
}

#[test]
fn a_pod_of_another_cache_domain_prefills_nothing() {
    let (router, _, _) = fleet(1, 0);
    let other = PodSpec { role: Role::Prefill, ..PodSpec::new("other", domain("other-model", BLOCK_SIZE)) };
    router.add_pod(other).unwrap();
    assert_eq!(decide(&router, &prompt(1)).prefill, None, "its KV is none for the decode pod");
}

#[test]
fn a_failure_takes_back_what_was_predicted_on_both_pods_and_so_does_being_forgotten_for_age() {
    let (router, decode, prefill) = fleet(1, 1);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let send = || {
        let request = Request::new(&token_ids, &context);
        router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap().ticket
    };
    let blocks = || (predicted(&router, decode[0]), predicted(&router, prefill[0]));
    let failing = send();
    assert_eq!(blocks(), (10, 10));
    router.finish(failing, Finish::Failed, None);
    assert_eq!(blocks(), (0, 0));
    send();
    assert_eq!((router.expire(seconds(600)), blocks()), (1, (0, 0)));
}

#[test]
fn a_follow_up_stays_with_its_prefill_pod_by_id_and_by_token_though_the_decode_pod_is_gone() {
    let (router, decode, _) = fleet(1, 8);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let mut workspace = Workspace::default();
    let request = Request { session: Some(Session::Id("s")), ..Request::new(&token_ids, &context) };
    let first = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap().decision;
    let token = router.session_token(first.pod, first.prefill.map(|p| p.pod), Duration::ZERO).unwrap();
    router.remove_pod(decode[0]).unwrap();
    let next = PodSpec { role: Role::Decode, ..PodSpec::new("next", domain("model", BLOCK_SIZE)) };
    router.add_pod(next).unwrap();
    let home = first.prefill.unwrap().pod;
    // Many, for each would find it by chance once in eight times.
    for token_ids in (2..10).map(prompt) {
        for session in [Session::Id("s"), Session::Token(&token)] {
            let request = Request { session: Some(session), ..Request::new(&token_ids, &context) };
            let decision = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
            assert_eq!(decision.prefill.map(|prefill| prefill.pod), Some(home), "{session:?}");
        }
    }
}
