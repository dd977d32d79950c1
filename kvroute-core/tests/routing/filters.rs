//! Filters: which pods may be picked at all, which only should not be, and in what order that is asked.

use kvroute_core::filter::{
    AcceptingFilter, Filter, HealthFilter, LabelFilter, LoraRoomFilter, OverloadFilter, Requirement,
    SubsetFilter,
};
use kvroute_core::hash::Lora;
use kvroute_core::load::{AdapterReport, Overload};
use kvroute_core::profile::ProfileBuilder;
use kvroute_core::score::LoadScorer;
use kvroute_core::{Error, ErrorKind};

use super::*;

/// Chooses by load, of the pods that take requests, that the request may go to, and that one filter keeps.
pub(super) fn only(filter: impl Filter + 'static) -> Profile {
    by_load().filter(filter).build().unwrap()
}

fn by_load() -> ProfileBuilder {
    Profile::builder("p").filter(AcceptingFilter).filter(SubsetFilter).scorer(LoadScorer::default(), 1.0)
}

/// Names of the pods that were not dropped.
pub(super) fn kept(router: &Router, request: &Request<'_>, now: Duration) -> Vec<String> {
    let explanation = explained(router, request, now);
    let kept = explanation.pods.into_iter().filter(|pod| pod.dropped_by.is_none());
    kept.map(|pod| pod.pod).collect()
}

pub(super) fn kept_of_prompt(router: &Router, now: Duration) -> Vec<String> {
    kept(router, &Request::new(&prompt(1), &HashContext::default()), now)
}

/// Sends a request to a pod of this name, whatever else there is.
fn send_to(router: &Router, pod: &str, now: Duration) -> Ticket {
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let subset = [pod];
    let request = Request { subset: Some(&subset), ..Request::new(&token_ids, &context) };
    let sent = router.dispatch(&request, now, &mut Workspace::default()).unwrap();
    assert_eq!(router.pod_by_id(sent.decision.pod).unwrap().name(), pod);
    sent.ticket
}

fn overload_router(overload: Overload) -> (Router, Vec<PodId>) {
    let options = RouterOptions { overload, ..RouterOptions::default() };
    let router = Router::new(options, only(OverloadFilter)).unwrap();
    let pods = ["a", "b"].map(|pod| router.add_pod(PodSpec::new(pod, domain("model", BLOCK_SIZE))).unwrap());
    (router, pods.into())
}

#[test]
fn a_pod_is_overloaded_from_the_bound_on_and_until_a_report_below_it() {
    let (router, pods) = overload_router(Overload::default());
    let report = |waiting, kv_usage| {
        router.report_load(pods[0], LoadReport { running: 0, waiting, kv_usage }).unwrap();
        let explanation =
            explained(&router, &Request::new(&prompt(1), &HashContext::default()), Duration::ZERO);
        assert_eq!(explanation.pods[0].overloaded, explanation.pods[0].dropped_by.is_some());
        assert_eq!(router.pod_by_id(pods[0]).unwrap().is_overloaded(), explanation.pods[0].overloaded);
        explanation.pods[0].overloaded
    };
    assert!(!report(7, 0.0));
    assert!(report(8, 0.0));
    assert!(report(8, 0.0), "until it says otherwise");
    assert!(!report(0, 0.799_999_9));
    assert!(report(0, 0.8));
    assert!(report(9, 1.0));
    assert!(!report(7, 0.7));
}

#[test]
fn bounds_of_overload_can_be_switched_off_and_set_to_always() {
    let is_overloaded = |waiting, kv_usage, report| {
        let (router, pods) = overload_router(Overload { waiting, kv_usage });
        router.report_load(pods[0], report).unwrap();
        router.pod_by_id(pods[0]).unwrap().is_overloaded()
    };
    let full = LoadReport { running: u32::MAX, waiting: u32::MAX, kv_usage: 1.0 };
    let idle = LoadReport { running: 0, waiting: 0, kv_usage: 0.0 };
    assert!(!is_overloaded(0, 1.5, full));
    assert!(is_overloaded(0, 1.0, full));
    assert!(is_overloaded(u32::MAX - 1, 2.0, full));
    assert!(is_overloaded(0, 0.0, idle), "0 of the KV cache is always reached");
}

#[test]
fn a_saturated_fleet_still_gets_an_answer() {
    let (router, pods) = overload_router(Overload::default());
    for &pod in &pods {
        router.report_load(pod, load(100, 20)).unwrap();
    }
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["a", "b"]);
    router.report_load(pods[1], load(100, 2)).unwrap();
    assert_eq!(kept_of_prompt(&router, Duration::ZERO), ["b"]);
}

#[test]
fn a_filter_that_steers_chooses_among_what_was_left_to_it_and_a_strict_one_may_leave_none() {
    let health = HealthFilter { failures: 1, pause: seconds(10) };
    let profile = Profile::builder("p")
        .filter(AcceptingFilter)
        .filter(SubsetFilter)
        .filter(health)
        .filter(OverloadFilter);
    let (router, pods) =
        router_by(profile.scorer(LoadScorer::default(), 1.0).build().unwrap(), &["a", "b", "c"]);
    let fail = |pod: &str| assert!(router.finish(send_to(&router, pod, seconds(1)), Finish::Failed, None));
    // The only one that is well is overloaded: it is taken all the same.
    fail("a");
    fail("b");
    router.report_load(pods[2], load(0, 50)).unwrap();
    assert_eq!(kept_of_prompt(&router, seconds(2)), ["c"]);
    // Drained, it is not; then all are ailing.
    router.set_accepting(pods[2], false).unwrap();
    assert_eq!(kept_of_prompt(&router, seconds(2)), ["a", "b"]);
    router.report_load(pods[0], load(0, 50)).unwrap();
    assert_eq!(kept_of_prompt(&router, seconds(2)), ["b"]);
    pods.iter().for_each(|&pod| router.set_accepting(pod, false).unwrap());
    let error = decided(&router, &Request::new(&prompt(1), &HashContext::default())).unwrap_err();
    assert_eq!(error.to_string(), "every one of 3 pods was dropped: 3 by filter \"accepting\"");
}

#[test]
fn filters_run_in_the_profiles_order_and_the_first_that_drops_a_pod_is_named() {
    let large = || LabelFilter::new([Requirement::Exists("large".into())]);
    let profile = |accepting_first: bool| {
        let builder = Profile::builder("p").scorer(LoadScorer::default(), 1.0);
        let builder = if accepting_first {
            builder.filter(AcceptingFilter).filter(large())
        } else {
            builder.filter(large()).filter(AcceptingFilter)
        };
        builder.build().unwrap()
    };
    for (first, named) in [(true, "accepting"), (false, "labels")] {
        let (router, pods) = router_by(profile(first), &["a", "b"]);
        router.set_accepting(pods[0], false).unwrap();
        let explanation =
            explained(&router, &Request::new(&prompt(1), &HashContext::default()), Duration::ZERO);
        assert_eq!(explanation.pods[0].dropped_by.as_deref(), Some(named));
        assert_eq!(explanation.pods[1].dropped_by.as_deref(), Some("labels"));
    }
}

fn decided(router: &Router, request: &Request<'_>) -> Result<Decision, Error> {
    router.decide(request, Duration::ZERO, &mut Workspace::default())
}

#[test]
fn a_subset_keeps_all_ranks_of_the_pods_it_names_and_none_names_none() {
    let (router, _) = router_by(by_load().build().unwrap(), &["a", "b"]);
    for (name, dp_rank) in [("a", 1), ("c", 3)] {
        router.add_pod(PodSpec { dp_rank, ..PodSpec::new(name, domain("model", BLOCK_SIZE)) }).unwrap();
    }
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let everyone = Request::new(&token_ids, &context);
    let kept_of = |subset: &[&str]| {
        kept(&router, &Request { subset: Some(subset), ..Request::new(&token_ids, &context) }, Duration::ZERO)
    };
    assert_eq!(kept_of(&["a"]), ["a", "a"]);
    assert_eq!(kept_of(&["c", "b", "c", "nobody"]), ["b", "c"]);
    assert_eq!(kept(&router, &everyone, Duration::ZERO), ["a", "b", "a", "c"]);
    for none in [&[][..], &["nobody"], &["A"], &[""]] {
        assert!(kept_of(none).is_empty());
        let error = decided(&router, &Request { subset: Some(none), ..everyone }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoCandidate);
        assert!(error.to_string().contains("4 by filter \"subset\""), "{error}");
    }
}

#[test]
fn labels_are_required_as_in_a_kubernetes_selector() {
    let label = || "zone".to_string();
    let values = |values: &[&str]| values.iter().map(|v| v.to_string()).collect::<Vec<_>>();
    let cases: [(Vec<Requirement>, &[&str]); 9] = [
        (vec![], &["west", "east", "nowhere"]),
        (vec![Requirement::In(label(), values(&["w"]))], &["west"]),
        (vec![Requirement::In(label(), values(&["w", "e"]))], &["west", "east"]),
        (vec![Requirement::In(label(), vec![])], &[]),
        (vec![Requirement::NotIn(label(), values(&["w"]))], &["east", "nowhere"]),
        (vec![Requirement::NotIn(label(), vec![])], &["west", "east", "nowhere"]),
        (vec![Requirement::Exists(label())], &["west", "east"]),
        (vec![Requirement::DoesNotExist(label())], &["nowhere"]),
        (vec![Requirement::Exists(label()), Requirement::NotIn(label(), values(&["e"]))], &["west"]),
    ];
    for (requirements, expected) in cases {
        let said = format!("{requirements:?}");
        let (router, _) = router_by(only(LabelFilter::new(requirements)), &[]);
        for (name, zone) in [("west", Some("w")), ("east", Some("e")), ("nowhere", None)] {
            let labels = zone.map(|zone| (label(), zone.to_string())).into_iter().collect();
            router.add_pod(PodSpec { labels, ..PodSpec::new(name, domain("model", BLOCK_SIZE)) }).unwrap();
        }
        assert_eq!(kept_of_prompt(&router, Duration::ZERO), expected, "{said}");
    }
}

#[test]
fn a_pod_whose_requests_fail_pauses_until_one_is_answered_or_its_time_is_over() {
    let (router, _) = router_by(only(HealthFilter::default()), &["a", "b"]);
    let end = |now, how| assert!(router.finish(send_to(&router, "a", seconds(now)), how, None));
    end(100, Finish::Failed);
    end(101, Finish::Failed);
    assert_eq!(kept_of_prompt(&router, seconds(101)), ["a", "b"], "two in a row");
    end(102, Finish::Cancelled);
    end(102, Finish::Failed);
    assert_eq!(kept_of_prompt(&router, seconds(102)), ["b"]);
    let over = seconds(112);
    assert_eq!(kept_of_prompt(&router, over - Duration::from_millis(1)), ["b"]);
    assert_eq!(kept_of_prompt(&router, over), ["a", "b"], "ten seconds after the last was dispatched");
    // Tried again, it fails again.
    end(115, Finish::Failed);
    assert_eq!(kept_of_prompt(&router, seconds(124)), ["b"]);
    end(130, Finish::Completed);
    assert_eq!(kept_of_prompt(&router, seconds(130)), ["a", "b"]);
    end(131, Finish::Failed);
    end(131, Finish::Failed);
    assert_eq!(kept_of_prompt(&router, seconds(131)), ["a", "b"], "counted from the answer");
}

#[test]
fn a_fleet_of_which_all_fail_still_gets_an_answer() {
    let (router, _) = router_by(only(HealthFilter { failures: 1, pause: seconds(10) }), &["a", "b"]);
    for pod in ["a", "b"] {
        assert!(router.finish(send_to(&router, pod, seconds(1)), Finish::Failed, None));
    }
    assert_eq!(kept_of_prompt(&router, seconds(2)), ["a", "b"]);
}

#[test]
fn a_health_filter_of_no_failures_pauses_after_one_and_one_without_a_pause_never() {
    for (failures, pause, expected) in [(0, seconds(10), &["b"][..]), (1, Duration::ZERO, &["a", "b"])] {
        let (router, _) = router_by(only(HealthFilter { failures, pause }), &["a", "b"]);
        assert_eq!(kept_of_prompt(&router, seconds(1)), ["a", "b"]);
        assert!(router.finish(send_to(&router, "a", seconds(1)), Finish::Failed, None));
        assert_eq!(kept_of_prompt(&router, seconds(1)), expected);
    }
    let forever = HealthFilter { failures: 1, pause: Duration::MAX };
    let (router, _) = router_by(only(forever), &["a", "b"]);
    assert!(router.finish(send_to(&router, "a", seconds(1)), Finish::Failed, None));
    assert_eq!(kept_of_prompt(&router, seconds(1 << 40)), ["b"]);
}

#[test]
fn a_pod_that_is_let_back_in_has_no_failures_to_live_down() {
    let (router, pods) = router_by(only(HealthFilter::default()), &["a", "b"]);
    for _ in 0..3 {
        assert!(router.finish(send_to(&router, "a", seconds(1)), Finish::Failed, None));
    }
    router.set_accepting(pods[0], true).unwrap();
    assert_eq!(kept_of_prompt(&router, seconds(2)), ["b"], "it was never out");
    router.set_accepting(pods[0], false).unwrap();
    router.set_accepting(pods[0], true).unwrap();
    assert_eq!(kept_of_prompt(&router, seconds(2)), ["a", "b"]);
}

#[test]
fn requests_that_expire_are_no_failures_and_those_that_are_not_tracked_no_answers() {
    let options = RouterOptions { max_requests: 1, ..RouterOptions::default() };
    let router = Router::new(options, only(HealthFilter::default())).unwrap();
    for pod in ["a", "b"] {
        router.add_pod(PodSpec::new(pod, domain("model", BLOCK_SIZE))).unwrap();
    }
    for _ in 0..3 {
        assert!(router.finish(send_to(&router, "a", seconds(1)), Finish::Failed, None));
    }
    let tracked = send_to(&router, "b", seconds(1));
    assert_eq!(send_to(&router, "a", seconds(1)), Ticket::UNTRACKED);
    assert_eq!(router.pod("a", 0).unwrap().failures(), (3, seconds(1)), "nobody knows how that one ended");
    assert_eq!(kept_of_prompt(&router, seconds(2)), ["b"]);
    assert!(router.finish(tracked, Finish::Completed, None));
    for now in [1000, 2000, 3000] {
        send_to(&router, "b", seconds(now));
        assert_eq!(router.expire(seconds(now + 600)), 1);
    }
    assert_eq!(router.pod("b", 0).unwrap().failures().0, 0);
}

#[test]
fn a_failure_before_the_first_token_is_one_of_both_pods_and_one_after_it_only_the_decode_pods() {
    let prefill = Some(PrefillPolicy::new(Profile::llm_d_demo(Role::Prefill), 0));
    let (router, _) = router_by(Policy { prefill, ..demo_policy() }, &[]);
    let pods = [Role::Decode, Role::Prefill].map(|role| {
        let spec = PodSpec::new(role.name(), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { role, ..spec }).unwrap()
    });
    let failures = || pods.map(|pod| router.pod_by_id(pod).unwrap().failures().0);
    let send = || {
        let (context, token_ids) = (HashContext::default(), prompt(1));
        let sent =
            router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default());
        let sent = sent.unwrap();
        assert!(sent.decision.prefill.is_some());
        sent.ticket
    };
    assert!(router.finish(send(), Finish::Failed, None));
    assert_eq!(failures(), [1, 1]);
    let ticket = send();
    router.first_token(ticket);
    assert!(router.finish(ticket, Finish::Failed, None));
    assert_eq!(failures(), [2, 1]);
    assert!(router.finish(send(), Finish::Completed, None));
    assert_eq!(failures(), [0, 0]);
}

#[test]
fn pods_without_room_for_the_adapter_are_avoided_where_another_has_it() {
    let (router, pods) = router_by(only(LoraRoomFilter), &["full", "room", "running", "waiting", "silent"]);
    let report = |pod, max, running: &[&str], waiting: &[&str]| {
        router.report_adapters(pod, &AdapterReport { max, running, waiting }).unwrap();
    };
    report(pods[0], 2, &["x"], &["y"]);
    report(pods[1], 2, &["x"], &[]);
    report(pods[2], 2, &["x", "sql"], &[]);
    report(pods[3], 1, &[], &["sql"]);
    let lora = Some(Lora { name: "sql".into(), ..Lora::default() });
    let (plain, sql) = (HashContext::default(), HashContext { lora, ..HashContext::default() });
    let token_ids = prompt(1);
    let kept = |context| kept(&router, &Request::new(&token_ids, context), Duration::ZERO);
    assert_eq!(kept(&sql), ["room", "running", "waiting", "silent"]);
    assert_eq!(kept(&plain).len(), 5, "asks for none");
    for &pod in &pods {
        report(pod, 1, &["x"], &[]);
    }
    assert_eq!(kept(&sql).len(), 5, "no pod has room");
    report(pods[4], 1, &["sql"], &[]);
    assert_eq!(kept(&sql), ["silent"]);
    report(pods[4], 0, &[], &[]);
    assert_eq!(kept(&sql).len(), 5, "not even one that takes none at all");
}

#[test]
fn an_adapter_that_runs_and_waits_on_a_pod_takes_one_place() {
    let (router, pods) = router_by(only(LoraRoomFilter), &["a", "b"]);
    // As vLLM reports it: requests for one adapter run, others wait.
    let both = AdapterReport { max: 2, running: &["x"], waiting: &["x", "x"] };
    router.report_adapters(pods[0], &both).unwrap();
    router.report_adapters(pods[1], &AdapterReport { max: 1, running: &["x"], waiting: &[] }).unwrap();
    let lora = Some(Lora { name: "sql".into(), ..Lora::default() });
    let (context, token_ids) = (HashContext { lora, ..HashContext::default() }, prompt(1));
    assert_eq!(kept(&router, &Request::new(&token_ids, &context), Duration::ZERO), ["a"]);
}

#[test]
fn what_pods_reported_survives_a_reset() {
    let (mut router, pods) = router_by(only(LoraRoomFilter), &["a", "b"]);
    router.report_adapters(pods[0], &AdapterReport { max: 1, running: &["x"], waiting: &[] }).unwrap();
    router.report_load(pods[0], load(3, 9)).unwrap();
    router.reset();
    let lora = Some(Lora { name: "sql".into(), ..Lora::default() });
    let (context, token_ids) = (HashContext { lora, ..HashContext::default() }, prompt(1));
    let request = Request::new(&token_ids, &context);
    assert_eq!(kept(&router, &request, Duration::ZERO), ["b"]);
    let explanation = explained(&router, &request, Duration::ZERO);
    assert_eq!((explanation.pods[0].in_flight, explanation.pods[0].overloaded), (12, true));
}
