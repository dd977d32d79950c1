//! A policy that is replaced while requests come: each is decided by one policy or the other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kvroute_core::ScoreColumn;
use kvroute_core::filter::{AcceptingFilter, LabelFilter, Requirement, RoleFilter};
use kvroute_core::score::{ExternalScorer, LoadScorer};

use super::*;

/// Sends everything to the pods with this label, computed by prefill pods or not.
fn towards(label: &'static str, prefill: bool) -> Policy {
    let filter = LabelFilter::new([Requirement::Exists(label.into())]);
    let decode = Profile::builder(label).filter(filter).scorer(LoadScorer::default(), 1.0).fallbacks(1);
    let profile = || {
        let profile = Profile::builder(format!("{label}-prefill")).filter(RoleFilter::new(Role::Prefill));
        profile.scorer(LoadScorer::default(), 1.0).build().unwrap()
    };
    let prefill = prefill.then(|| PrefillPolicy::new(profile(), 0));
    Policy { prefill, ..Policy::from(decode.build().unwrap()) }
}

/// Two pods with each of the labels `left` and `right`, and two that prefill.
fn divided(policy: Policy) -> (Router, Vec<PodId>) {
    let (router, _) = router_by(policy, &[]);
    let add = |n: usize, label: &str, role: Role| {
        let labels = [(label.to_string(), String::new())].into();
        let spec = PodSpec::new(format!("{label}-{n}"), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { labels, role, ..spec }).unwrap()
    };
    let all = [("left", Role::Decode), ("right", Role::Decode), ("prefill", Role::Prefill)];
    let pods = all.into_iter().flat_map(|(label, role)| [add(0, label, role), add(1, label, role)]).collect();
    (router, pods)
}

#[test]
fn the_next_decision_is_by_the_new_policy_and_explained_by_it() {
    let (router, pods) = divided(towards("left", false));
    let (context, token_ids, mut workspace) = (HashContext::default(), prompt(1), Workspace::default());
    let request = Request::new(&token_ids, &context);
    let left = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
    assert!(pods[..2].contains(&left.decision.pod));
    router.set_policy(towards("right", true));
    assert_eq!(router.explain(&workspace).profile, "left", "it was decided by that");
    assert_eq!(router.policy().decode.name(), "right");
    let right = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap();
    assert!(pods[2..4].contains(&right.decision.pod) && right.decision.prefill.is_some());
    let explanation = router.explain(&workspace);
    assert_eq!((explanation.profile.as_str(), explanation.fallbacks.len()), ("right", 1));
    assert_eq!(explanation.prefill.unwrap().profile, "right-prefill");
    // What was in flight is, and ends as it would have.
    assert_eq!(bookings(&router, left.decision.pod), of(1, 41));
    for ticket in [left.ticket, right.ticket] {
        assert!(router.first_token(ticket) && router.finish(ticket, Finish::Completed, None));
    }
    assert!(pods.iter().all(|&pod| bookings(&router, pod) == of(0, 0)));
}

#[test]
fn score_columns_are_those_that_the_policy_of_the_moment_reads() {
    let scored = |name: &str| Profile::builder("p").scorer(ExternalScorer::new(name), 1.0).build().unwrap();
    let (router, pods) = router_by(scored("old"), &["a", "b"]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let column = ScoreColumn { scorer: "old", pods: &pods, values: &[0.0, 1.0] };
    let request = Request { scores: &[column], ..Request::new(&token_ids, &context) };
    let mut workspace = Workspace::default();
    assert_eq!(router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod, pods[1]);
    router.set_policy(scored("new"));
    let error = router.decide(&request, Duration::ZERO, &mut workspace).unwrap_err();
    assert!(error.to_string().contains("\"old\""), "{error}");
}

#[test]
fn a_reset_keeps_the_policy_that_was_set_last() {
    let (mut router, _) = divided(towards("left", false));
    router.set_policy(towards("right", false));
    router.reset();
    let pod = decide(&router, &prompt(1)).pod;
    assert!(router.pod_by_id(pod).unwrap().name().starts_with("right"));
    assert_eq!(router.policy().decode.name(), "right");
}

#[test]
fn requests_that_come_while_it_changes_are_decided_by_one_policy_or_the_other() {
    const THREADS: u32 = 3;
    const EACH: u32 = 400;
    let (router, pods) = divided(towards("left", true));
    let (router, pods, stop, decided) = (&router, &pods, &AtomicBool::new(false), &AtomicUsize::new(0));
    let send = |thread: u32| {
        let (context, mut workspace) = (HashContext::default(), Workspace::default());
        let (mut open, mut seen) = (Vec::new(), [0; 2]);
        for n in 0..EACH {
            let token_ids = prompt(thread * EACH + n);
            let sent =
                router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
            let explanation = router.explain(&workspace);
            let side = usize::from(pods[2..4].contains(&sent.decision.pod));
            assert_eq!(explanation.profile, ["left", "right"][side]);
            assert_eq!(sent.decision.prefill.is_some(), side == 0, "the left one has a prefill profile");
            assert_eq!(explanation.prefill.is_some(), side == 0);
            assert_eq!(
                workspace.fallbacks(),
                [pods[2 * side], pods[2 * side + 1]]
                    .into_iter()
                    .filter(|pod| *pod != sent.decision.pod)
                    .collect::<Vec<_>>()
            );
            seen[side] += 1;
            open.push(sent.ticket);
            decided.fetch_add(1, Ordering::Relaxed);
            if n % 3 == 0 {
                router.first_token(open[open.len() / 2]);
                assert!(router.finish(open.swap_remove(0), Finish::Completed, None));
            }
            thread::yield_now();
        }
        (open, seen)
    };
    let send = &send;
    let open: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || send(thread))).collect();
        scope.spawn(move || {
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                router.set_policy(if turn % 2 == 0 {
                    towards("right", false)
                } else {
                    towards("left", true)
                });
                turn += 1;
                // Not so fast that nobody decides meanwhile.
                let before = decided.load(Ordering::Relaxed);
                while decided.load(Ordering::Relaxed) == before && !stop.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
        });
        let done: Vec<_> = running.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        let done: Vec<_> = done.into_iter().map(|result| result.unwrap()).collect();
        let seen = done.iter().fold([0; 2], |sum, (_, seen)| [sum[0] + seen[0], sum[1] + seen[1]]);
        assert!(seen.iter().all(|&seen| seen > 50), "both policies decided: {seen:?}");
        done.into_iter().flat_map(|(open, _)| open).collect()
    });
    let in_flight: u32 = pods[..4].iter().map(|&pod| bookings(router, pod).requests).sum();
    assert_eq!((in_flight as usize, router.counters().in_flight), (open.len(), open.len()));
    open.into_iter().for_each(|ticket| assert!(router.finish(ticket, Finish::Completed, None)));
    assert!(pods.iter().all(|&pod| bookings(router, pod) == of(0, 0)));
}

#[test]
fn an_explanation_of_a_request_that_was_refused_says_nothing_of_the_one_before() {
    let profile = Profile::builder("p").filter(AcceptingFilter).scorer(LoadScorer::default(), 1.0);
    let (router, pods) = router_by(profile.fallbacks(1).build().unwrap(), &["a", "b"]);
    let (context, token_ids, mut workspace) = (HashContext::default(), prompt(1), Workspace::default());
    let request = Request { session: Some(Session::Id("unknown")), ..Request::new(&token_ids, &context) };
    router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
    assert!(router.explain(&workspace).session.is_some());
    let column = ScoreColumn { scorer: "nobody's", pods: &pods, values: &[0.0, 1.0] };
    let refused = Request { scores: &[column], ..Request::new(&token_ids, &context) };
    assert!(router.decide(&refused, Duration::ZERO, &mut workspace).is_err());
    let explanation = router.explain(&workspace);
    assert_eq!((explanation.session, explanation.picked, explanation.pods.len()), (None, None, 0));
    assert_eq!(workspace.fallbacks(), []);
}
