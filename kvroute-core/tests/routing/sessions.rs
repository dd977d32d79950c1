//! Sessions, by id and by token.

use super::*;

fn request<'a>(token_ids: &'a [u32], context: &'a HashContext, session: Session<'a>) -> Request<'a> {
    Request { session: Some(session), ..Request::new(token_ids, context) }
}

fn missing(router: &Router, request: &Request<'_>, now: Duration) -> Option<&'static str> {
    let mut workspace = Workspace::default();
    router.decide(request, now, &mut workspace).unwrap();
    router.explain(&workspace).session
}

#[test]
fn a_conversation_stays_on_its_pod_by_id_until_it_was_silent_for_too_long() {
    let (router, pods) = router_of(&["a", "b", "c", "d"]);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    for n in 0..20 {
        let id = format!("conversation {n}");
        let mut turn = |token_ids: &[u32], now| {
            let request = request(token_ids, &context, Session::Id(&id));
            router.dispatch(&request, now, &mut workspace).unwrap().decision.pod
        };
        let home = turn(&[n], seconds(0));
        // Nothing in common with the first turn but the session.
        assert_eq!(turn(&[1000 + n], seconds(299)), home);
        assert_eq!(turn(&[2000 + n], seconds(500)), home, "each turn renews it");
    }
    assert_eq!(router.counters().sessions, 20);
    let late = request(&[1], &context, Session::Id("conversation 0"));
    assert_eq!(missing(&router, &late, seconds(799)), None);
    assert_eq!(missing(&router, &late, seconds(800)), Some("nothing was sent for this id lately"));
    router.expire(seconds(800));
    assert_eq!(router.counters().sessions, 0);

    router.dispatch(&late, seconds(900), &mut workspace).unwrap();
    pods.into_iter().for_each(|pod| router.remove_pod(pod).unwrap());
    router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
    assert_eq!(missing(&router, &late, seconds(900)), Some("the pod that served it is gone"));
}

#[test]
fn a_token_brings_a_conversation_back_to_its_pod_in_any_router_with_the_key() {
    let key = SessionKey::new([7; 32]);
    let fleet = |key: Option<&SessionKey>, pods: &[&str]| {
        let options = RouterOptions { session_key: key.cloned(), ..RouterOptions::default() };
        let router = Router::new(options, demo_policy()).unwrap();
        let add = |pod: &&str| router.add_pod(PodSpec::new(*pod, domain("model", BLOCK_SIZE))).unwrap();
        let pods: Vec<_> = pods.iter().map(add).collect();
        (router, pods)
    };
    let (router, pods) = fleet(Some(&key), &["a", "b", "c"]);
    // The same pods in another order: only names are shared.
    let (other, others) = fleet(Some(&key), &["c", "b", "a"]);
    let (stranger, _) = fleet(Some(&SessionKey::new([8; 32])), &["a", "b", "c"]);
    let (keyless, _) = fleet(None, &["a", "b", "c"]);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    for n in 0..30 {
        let decision = router.decide(&Request::new(&[n], &context), seconds(5), &mut workspace).unwrap();
        let token = router.session_token(decision.pod, decision.prefill.map(|p| p.pod), seconds(5)).unwrap();
        assert_eq!(token.len(), 70);
        let next = [n + 1];
        let request = request(&next, &context, Session::Token(&token));
        let there = other.decide(&request, seconds(5), &mut workspace).unwrap().pod;
        let row = pods.iter().position(|&pod| pod == decision.pod).unwrap();
        assert_eq!(there, others[2 - row]);
        assert_eq!(missing(&router, &request, seconds(304)), None);
        let expired = Some("the token is expired, or not of this router's key");
        assert_eq!(missing(&router, &request, seconds(305)), expired);
        assert_eq!(missing(&stranger, &request, seconds(5)), expired);
        assert_eq!(missing(&keyless, &request, seconds(5)), Some("this router has no session key"));
    }
    let decision = keyless.decide(&Request::new(&[1], &context), seconds(0), &mut workspace).unwrap();
    assert!(
        keyless
            .session_token(decision.pod, decision.prefill.map(|p| p.pod), seconds(0))
            .unwrap_err()
            .to_string()
            .contains("key")
    );
    assert_eq!(format!("{key:?}"), "SessionKey(..)");
}

/// A router that makes tokens, with one pod.
fn with_key(byte: u8, session_ttl: Duration) -> Router {
    let session_key = Some(SessionKey::new([byte; 32]));
    router_with(RouterOptions { session_key, session_ttl, ..RouterOptions::default() }, &["a"]).0
}

fn token(router: &Router, now: Duration) -> String {
    let decision = decide(router, &[1]);
    router.session_token(decision.pod, None, now).unwrap()
}

#[test]
fn a_token_names_the_rank_too() {
    let router = with_key(1, seconds(300));
    for dp_rank in 1..4 {
        let spec = PodSpec::new("a", domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { dp_rank, ..spec }).unwrap();
    }
    let context = HashContext::default();
    for n in 0..40 {
        let decision = decide(&router, &[n]);
        let token =
            router.session_token(decision.pod, decision.prefill.map(|p| p.pod), Duration::ZERO).unwrap();
        let next = [n + 1];
        let request = request(&next, &context, Session::Token(&token));
        let there = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
        assert_eq!(there.pod, decision.pod);
    }
}

#[test]
fn the_nonce_of_a_token_cannot_be_made_without_the_key() {
    // Else whoever guesses names of pods could try them all.
    let nonce = |router: &Router| token(router, seconds(7))[..16].to_string();
    assert_eq!(nonce(&with_key(1, seconds(300))), nonce(&with_key(1, seconds(300))));
    assert_ne!(nonce(&with_key(1, seconds(300))), nonce(&with_key(2, seconds(300))));
}

#[test]
fn a_session_may_last_less_than_a_second() {
    let router = with_key(1, Duration::from_millis(900));
    let token = token(&router, Duration::ZERO);
    let context = HashContext::default();
    let request = request(&[1], &context, Session::Token(&token));
    assert_eq!(missing(&router, &request, Duration::from_millis(899)), None);
    assert!(missing(&router, &request, Duration::from_millis(900)).is_some());
}

#[test]
fn a_conversation_is_at_home_nowhere_after_a_failure_where_it_was_last_sent() {
    let (router, pods) = router_of(&["a", "b"]);
    let context = HashContext::default();
    let request = request(&[1], &context, Session::Id("s"));
    let send_to = |pod: usize| {
        router.set_accepting(pods[1 - pod], false).unwrap();
        let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
        router.set_accepting(pods[1 - pod], true).unwrap();
        dispatch.ticket
    };
    let (earlier, later) = (send_to(0), send_to(1));
    router.finish(earlier, Finish::Failed, None);
    assert_eq!(missing(&router, &request, Duration::ZERO), None, "it went on elsewhere meanwhile");
    router.finish(later, Finish::Failed, None);
    assert!(missing(&router, &request, Duration::ZERO).is_some(), "a retry may go anywhere");
}
