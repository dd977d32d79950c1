//! What an embedder brings and asks for: scores of its own, domains by name, topics, a fresh start, a status.

use kvroute_core::event::EventBatch;
use kvroute_core::score::ExternalScorer;
use kvroute_core::{Config, ErrorKind, ScoreColumn};

use super::*;

/// A router whose decisions hang on the column "cheap" alone.
fn router_by_column() -> (Router, Vec<PodId>) {
    let profile = Profile::builder("p").scorer(ExternalScorer::new("cheap"), 1.0).build().unwrap();
    let router = Router::new(RouterOptions::default(), profile).unwrap();
    let domain = domain("model", BLOCK_SIZE);
    let ids = ["a", "b", "c"].map(|pod| router.add_pod(PodSpec::new(pod, Arc::clone(&domain))).unwrap());
    (router, ids.to_vec())
}

fn decide(router: &Router, scores: &[ScoreColumn<'_>]) -> Result<Decision, kvroute_core::Error> {
    let context = HashContext::default();
    let request = Request { scores, ..Request::new(&[1, 2, 3], &context) };
    router.decide(&request, Duration::ZERO, &mut Workspace::default())
}

#[test]
fn an_external_scorer_rates_pods_by_the_requests_column_whatever_its_order() {
    let (router, ids) = router_by_column();
    let gone = PodId::from_u64(u64::MAX);
    for best in &ids {
        let pods = [ids[2], gone, ids[0], ids[1]];
        let values = pods.map(|pod| if pod == *best { 0.75 } else { 0.25 });
        let decision =
            decide(&router, &[ScoreColumn { scorer: "cheap", pods: &pods, values: &values }]).unwrap();
        assert_eq!((decision.pod, decision.total), (*best, 0.75));
    }
    let only = ScoreColumn { scorer: "cheap", pods: &ids[1..2], values: &[0.1] };
    assert_eq!(decide(&router, &[only]).unwrap().pod, ids[1], "pods left out score 0");
    assert_eq!(decide(&router, &[]).unwrap().total, 0.0);
}

#[test]
fn a_score_column_that_is_not_as_it_should_be_is_refused_by_name() {
    let (router, ids) = router_by_column();
    let column = |scorer, values| ScoreColumn { scorer, pods: &ids, values };
    let refused = |columns: &[ScoreColumn<'_>], expected: &str| {
        let error = decide(&router, columns).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, expected));
    };
    let nobody = "score column \"chaep\": no profile has an external scorer of this name";
    refused(&[column("chaep", &[0.0; 3])], nobody);
    refused(&[column("cheap", &[0.0; 2])], "score column \"cheap\": 3 pods, but 2 values");
    let twice = [column("cheap", &[0.0; 3]), column("cheap", &[1.0; 3])];
    refused(&twice, "score column \"cheap\": it is there twice");
    let expected = format!("score column \"cheap\": NaN for pod {}; scores are 0 to 1", ids[1]);
    refused(&[column("cheap", &[0.5, f64::NAN, 0.5])], &expected);
    let expected = format!("score column \"cheap\": -0.5 for pod {}; scores are 0 to 1", ids[2]);
    refused(&[column("cheap", &[0.5, 0.5, -0.5])], &expected);
    let (router, ids) = router_of(&["a"]);
    let builtin = ScoreColumn { scorer: "load", pods: &ids, values: &[1.0] };
    assert!(decide(&router, &[builtin]).is_err(), "a scorer that reads no column");
}

#[test]
fn external_scorers_come_from_the_configuration_too() {
    let config = "
domains: {m: {block_size: 16}}
pods: [{name: a, domain: m}, {name: b, domain: m}]
policy: {decode: {scorers: {load: {weight: 1}, external: {cheap: {weight: 2}}}}}";
    let router = Config::from_yaml(config).unwrap().build().unwrap();
    let pods: Vec<PodId> = router.pods().iter().map(|pod| pod.id()).collect();
    let column = ScoreColumn { scorer: "cheap", pods: &pods, values: &[0.0, 1.0] };
    assert_eq!(decide(&router, &[column]).unwrap().total, 3.0);
    let error = Config::from_yaml(&config.replace("cheap", "load")).unwrap_err().to_string();
    assert!(error.contains("external.load"), "{error}");
    let error = Config::from_yaml(&config.replace("weight: 2", "weight: -2")).unwrap_err().to_string();
    assert!(error.contains("external.cheap.weight"), "{error}");
}

#[test]
fn domains_are_known_by_name_with_or_without_pods() {
    let router = Config::from_yaml("domains: {m: {block_size: 16}}").unwrap().build().unwrap();
    let known = router.domain("m").unwrap();
    let id = router.add_pod(PodSpec::new("late", Arc::clone(&known))).unwrap();
    assert_eq!(router.pod_by_id(id).unwrap().domain().name(), "m");
    assert!(router.domain("n").is_none());
    router.add_domain(domain("n", 4)).unwrap();
    router.add_domain(domain("n", 4)).unwrap();
    assert_eq!(router.add_domain(domain("n", 8)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(router.add_pod(PodSpec::new("other", domain("n", 8))).is_err());
    router.remove_pod(id).unwrap();
    assert!(router.domain("m").is_some_and(|domain| Arc::ptr_eq(&domain, &known)));
}

#[test]
fn a_topic_names_the_pod_its_messages_are_for() {
    let (router, ids) = router_of(&["pod-a", "pod-b"]);
    let second = PodSpec { dp_rank: 1, ..PodSpec::new("pod-b", router.domain("model").unwrap()) };
    let second = router.add_pod(second).unwrap();
    let empty = [0x92, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x90];
    router.apply_topic("kv@pod-b@org/model@tag", 0, 0, &empty).unwrap();
    router.apply_topic("kv@pod-b@org/model", 1, 0, &empty).unwrap();
    router.apply_topic("kv@pod-b@org/model", 1, 1, &empty).unwrap();
    let batches = |id| router.index().counters(id).unwrap().batches;
    assert_eq!([ids[0], ids[1], second].map(batches), [0, 1, 2]);
    for topic in ["", "kv@", "kv@@model", "kv@pod-b", "pod-b", "KV@pod-b@model"] {
        assert_eq!(
            router.apply_topic(topic, 0, 0, &empty).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{topic}"
        );
    }
    let error = router.apply_topic("kv@pod-a@model", 1, 0, &empty).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPod);
    let odd = router.add_pod(PodSpec::new("pod-a@host", router.domain("model").unwrap())).unwrap();
    router.apply_topic("kv@pod-a@host@model", 0, 0, &empty).unwrap();
    assert_eq!([ids[0], odd].map(batches), [0, 1], "the longest name that fits");
}

#[test]
fn polled_events_are_those_of_the_pods_rank_and_lost_ones_are_noticed() {
    let (router, ids) = router_of(&["a"]);
    let event = |id: u64, rank: u32, window: u64, hash: u64, first: u32| {
        let tokens: Vec<String> =
            (first..first + BLOCK_SIZE).map(|t| format!(r#"{{"token_id": {t}}}"#)).collect();
        format!(
            r#"{{"event_id": {id}, "attention_dp_rank": {rank}, "window_size": {window}, "data": {{"type": "stored",
            "parent_hash": null, "blocks": [{{"block_hash": {hash}, "cache_level": 0, "tokens": [{}]}}]}}}}"#,
            tokens.join(", ")
        )
    };
    let poll = |events: &[String]| {
        let json = format!("[{}]", events.join(", "));
        router.apply_trtllm(ids[0], json.as_bytes(), Some(4096)).unwrap()
    };
    let counters = || router.index().counters(ids[0]).unwrap();
    let cached = |first: u32| {
        let (token_ids, context) = ((first..first + 9).collect::<Vec<_>>(), HashContext::default());
        router
            .decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default())
            .unwrap()
            .matched_tokens
    };
    let report = poll(&[event(0, 1, 4096, 90, 900), event(0, 0, 4096, 10, 100), event(1, 0, 512, 20, 200)]);
    assert_eq!((report.blocks_stored, counters().gaps), (1, 0));
    assert_eq!(
        [cached(900), cached(100), cached(200)],
        [0, 4, 0],
        "another rank's and another window's are not its"
    );
    assert_eq!(poll(&[event(2, 0, 4096, 30, 300)]).outcome, kvroute_core::index::Outcome::Applied);
    assert_eq!((cached(100), counters().gaps), (4, 0));
    poll(&[event(7, 0, 4096, 40, 400)]);
    assert_eq!(([cached(100), cached(400)], counters().gaps), ([0, 4], 1), "3 to 6 may have been removals");
    assert_eq!(router.pod_by_id(ids[0]).unwrap().trust(), TrustLevel::Degraded);
    poll(&[event(0, 0, 4096, 50, 500)]);
    assert_eq!(([cached(400), cached(500)], counters().restarts), ([0, 4], 1), "the engine restarted");
    assert_eq!(router.pod_by_id(ids[0]).unwrap().trust(), TrustLevel::Exact);
    assert!(router.apply_trtllm(ids[0], b"not json", None).is_err());
    assert!(router.apply_trtllm(PodId::from_u64(0), b"[]", None).is_err());
}

#[test]
fn a_workspace_of_another_router_explains_nothing_here() {
    let ((router, _), (other, _)) = (router_of(&["a"]), router_of(&["b"]));
    let (token_ids, context, mut workspace) = (prompt(1), HashContext::default(), Workspace::default());
    router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!(router.explain(&workspace).pods.len(), 1);
    assert!(other.explain(&workspace).pods.is_empty());
}

#[test]
fn a_reset_forgets_everything_but_who_the_pods_are() {
    let (mut router, ids) = router_of(&["a", "b", "c"]);
    router.remove_pod(ids[0]).unwrap();
    let token_ids = prompt(1);
    store(&router, ids[2], &token_ids, 5, Tier::Gpu);
    router.report_load(ids[1], load(3, 1)).unwrap();
    router.set_accepting(ids[1], false).unwrap();
    let context = HashContext::default();
    let request = Request { session: Some(Session::Id("s")), ..Request::new(&token_ids, &context) };
    let mut workspace = Workspace::default();
    let before = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((before.decision.pod, before.decision.matched_tokens), (ids[2], 20));

    router.reset();
    let status = router.status();
    assert_eq!((status.counters.in_flight, status.counters.sessions, status.index.blocks), (0, 0, 0));
    assert!(!router.first_token(before.ticket) && !router.finish(before.ticket, Finish::Completed, None));
    assert!(ids.iter().all(|id| router.pod_by_id(*id).is_err()), "no old id names a pod");
    let [b, c] = ["b", "c"].map(|name| router.pod(name, 0).unwrap());
    assert_eq!((b.is_accepting(), b.load(), c.bookings().requests), (false, Some(load(3, 1)), 0));

    let after = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((after.decision.pod, after.decision.matched_tokens), (c.id(), 0));
    assert_ne!(after.ticket, before.ticket);
    store(&router, c.id(), &token_ids, 5, Tier::Gpu);
    assert_eq!(router.decide(&request, Duration::ZERO, &mut workspace).unwrap().matched_tokens, 20);
}

#[test]
fn the_status_tells_what_befell_each_pod() {
    let (router, ids) = router_of(&["a", "b"]);
    let token_ids = prompt(1);
    store(&router, ids[0], &token_ids, 5, Tier::Gpu);
    router.apply(ids[1], 0, b"not msgpack").unwrap();
    let batch = EventBatch { dp_rank: Some(7), ..EventBatch::default() };
    router.apply_events(ids[1], &batch).unwrap();
    let context = HashContext::default();
    router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default()).unwrap();
    let json = serde_json::to_value(router.status()).unwrap();
    assert_eq!(json["counters"]["in_flight"], 1);
    assert_eq!(json["index"]["blocks"], 5);
    let [a, b] = [&json["pods"][0], &json["pods"][1]];
    assert_eq!((&a["name"], &a["domain"], &a["role"]), (&"a".into(), &"model".into(), &"both".into()));
    assert_eq!((a["stream"]["blocks_stored"].as_u64(), a["booked"]["requests"].as_u64()), (Some(5), Some(1)));
    assert_eq!(a["predicted"]["blocks"].as_u64(), Some(10));
    assert_eq!(b["stream"]["ignored"].as_object().unwrap().len(), 1);
    assert_eq!(b["stream"]["ignored"]["other-rank"].as_u64(), Some(1));
    assert_eq!(b["stream"]["resyncs"].as_u64(), Some(1));
}

#[test]
fn a_workspace_knows_the_pods_of_its_decision_also_when_they_are_gone() {
    let (router, ids) = router_of(&["a", "b"]);
    let context = HashContext::default();
    let (token_ids, mut workspace) = (prompt(1), Workspace::default());
    assert!(workspace.pod(ids[0]).is_none());
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    router.remove_pod(decision.pod).unwrap();
    assert_eq!(workspace.pod(decision.pod).map(|pod| pod.id()), Some(decision.pod));
    assert!(workspace.pod(PodId::from_u64(9)).is_none());
}

#[test]
fn an_id_as_a_number_is_never_zero_and_names_the_same_pod() {
    let (router, ids) = router_of(&["a", "b"]);
    for id in ids {
        assert_ne!(id.as_u64(), 0);
        assert_eq!(router.pod_by_id(PodId::from_u64(id.as_u64())).unwrap().id(), id);
    }
    for number in [0, 1, u64::MAX, 5 << 32, (1 << 32) | 9] {
        assert!(router.pod_by_id(PodId::from_u64(number)).is_err(), "{number}");
        assert!(router.apply(PodId::from_u64(number), 0, b"").is_err());
    }
}
