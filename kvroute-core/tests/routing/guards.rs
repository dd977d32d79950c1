//! What may overrule a picker: spilling over from a busy pod, and warming new pods up.

use kvroute_core::ScoreColumn;
use kvroute_core::decision::Reason;
use kvroute_core::filter::AcceptingFilter;
use kvroute_core::guard::{LoadGuard, WarmUp};
use kvroute_core::score::{ExternalScorer, KvCacheScorer, LoadScorer};

use super::*;

/// A router that would always pick the first pod.
fn guarded(guard: LoadGuard, capacities: &[f64]) -> (Router, Vec<PodId>) {
    let profile = Profile::builder("p").scorer(ExternalScorer::new("x"), 1.0).guard(guard).build().unwrap();
    let (router, _) = router_by(profile, &[]);
    let add = |(n, &capacity): (usize, &f64)| {
        let spec = PodSpec::new(n.to_string(), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { capacity, ..spec }).unwrap()
    };
    let pods = capacities.iter().enumerate().map(add).collect();
    (router, pods)
}

/// The row that is taken for a prompt, and why.
fn taken(router: &Router, pods: &[PodId], token_ids: &[u32], nonce: u64) -> (usize, Reason) {
    let context = HashContext::default();
    let column = ScoreColumn { scorer: "x", pods: &pods[..1], values: &[1.0] };
    let request = Request { scores: &[column], nonce: Some(nonce), ..Request::new(token_ids, &context) };
    let mut workspace = Workspace::default();
    let decision = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
    let explanation = router.explain(&workspace);
    let row = pods.iter().position(|&pod| pod == decision.pod).unwrap();
    assert_eq!((explanation.picked, explanation.reason), (Some(row), decision.reason.name()));
    assert_eq!(explanation.overruled, (decision.reason != Reason::Picked).then_some(0));
    (row, decision.reason)
}

/// Where the first of such pods spills to with these requests.
fn spilled(guard: LoadGuard, capacities: &[f64], requests: &[u32]) -> Option<usize> {
    let (router, pods) = guarded(guard, capacities);
    for (&pod, &running) in pods.iter().zip(requests) {
        router.report_load(pod, load(running, 0)).unwrap();
    }
    match taken(&router, &pods, &prompt(1), 1) {
        (row, Reason::Spilled) => Some(row),
        (row, _) => {
            assert_eq!(row, 0);
            None
        }
    }
}

fn guard(relative: f64, absolute: u32) -> LoadGuard {
    LoadGuard::new(relative, absolute, u32::MAX).unwrap()
}

#[test]
fn a_pod_spills_over_when_it_exceeds_both_bounds_and_not_at_either() {
    // The mean is 5, and 2 sqrt(5) rounds up to 5: 10 is at the bound.
    assert_eq!(spilled(guard(1.5, 32), &[1.0; 2], &[10, 0]), None);
    // 5.5 and 5: 10.5.
    assert_eq!(spilled(guard(1.5, 32), &[1.0; 2], &[11, 0]), Some(1));
    // The mean is 2, and the margin is 4 at least.
    assert_eq!(spilled(guard(1.5, 32), &[1.0; 3], &[6, 0, 0]), None);
    let idle = spilled(guard(1.5, 32), &[1.0; 4], &[7, 1, 0, 0]);
    assert!(matches!(idle, Some(2 | 3)), "{idle:?}");
    // The margin is 32 at most: 2 sqrt(400) is 40.
    assert_eq!(spilled(guard(1.0, 32), &[1.0; 2], &[432, 368]), None);
    assert_eq!(spilled(guard(1.0, 32), &[1.0; 2], &[433, 367]), Some(1));
    assert_eq!(spilled(guard(1.0, 50), &[1.0; 2], &[440, 360]), None);
    assert_eq!(spilled(guard(1.0, 50), &[1.0; 2], &[441, 359]), Some(1));
    // Relative: exactly 1.5 times the mean of 100, and one more.
    assert_eq!(spilled(guard(1.5, 32), &[1.0; 2], &[150, 50]), None);
    assert_eq!(spilled(guard(1.5, 32), &[1.0; 2], &[151, 50]), Some(1));
    assert_eq!(spilled(guard(1.5, 0), &[1.0; 2], &[3, 1]), None);
    assert_eq!(spilled(guard(1.5, 0), &[1.0; 2], &[4, 1]), Some(1));
}

#[test]
fn a_pod_that_is_alone_or_as_idle_as_all_spills_nowhere() {
    assert_eq!(spilled(guard(1.0, 0), &[1.0], &[1000]), None);
    assert_eq!(spilled(guard(1.0, 0), &[1.0; 3], &[0, 0, 0]), None);
    assert_eq!(spilled(guard(1.0, 0), &[1.0; 3], &[7, 7, 7]), None);
    assert_eq!(spilled(guard(1.0, 0), &[1.0; 3], &[6, 7, 7]), None);
}

#[test]
fn requests_are_compared_by_capacity() {
    assert_eq!(spilled(guard(1.5, 32), &[4.0, 1.0], &[40, 8]), None, "10 and 8");
    assert_eq!(spilled(guard(1.5, 32), &[1.0, 4.0], &[20, 8]), Some(1), "20 and 2");
    // The least busy one has most requests.
    assert_eq!(spilled(guard(1.5, 32), &[1.0, 1.0, 100.0], &[60, 5, 50]), Some(2));
}

#[test]
fn what_this_router_sent_counts_before_any_report() {
    let (router, pods) = guarded(guard(1.5, 32), &[1.0; 3]);
    let (context, column) =
        (HashContext::default(), ScoreColumn { scorer: "x", pods: &pods[..1], values: &[1.0] });
    let mut sent = [0_u32; 3];
    for n in 0..300 {
        let token_ids = prompt(n);
        let request = Request { scores: &[column], ..Request::new(&token_ids, &context) };
        let decision = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap().decision;
        sent[decision.pod.slot()] += 1;
    }
    // Half more than the mean of 100; the other bound is 120 then.
    assert!(sent[0].abs_diff(150) <= 1 && sent[1].abs_diff(sent[2]) <= 1, "{sent:?}");
}

#[test]
fn equally_idle_pods_share_what_spills_over() {
    let (router, pods) = guarded(guard(1.5, 32), &[1.0; 4]);
    router.report_load(pods[0], load(50, 0)).unwrap();
    let mut counts = [0; 4];
    (0..3000).for_each(|nonce| counts[taken(&router, &pods, &prompt(1), nonce).0] += 1);
    assert_eq!(counts[0], 0);
    assert!(counts[1..].iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    let again: Vec<_> = (0..100).map(|nonce| taken(&router, &pods, &prompt(1), nonce)).collect();
    let before: Vec<_> = (0..100).map(|nonce| taken(&router, &pods, &prompt(1), nonce)).collect();
    assert_eq!(again, before);
}

#[test]
fn once_there_are_replicas_enough_only_they_are_spilled_to() {
    let token_ids = prompt(1);
    let spilled = |max_replicas, blocks: &[usize], requests: &[u32]| {
        let (router, pods) = guarded(LoadGuard::new(1.5, 32, max_replicas).unwrap(), &[1.0; 4]);
        for ((&pod, &blocks), &running) in pods.iter().zip(blocks).zip(requests) {
            if blocks > 0 {
                store(&router, pod, &token_ids, blocks, Tier::Gpu);
            }
            router.report_load(pod, load(running, 0)).unwrap();
        }
        taken(&router, &pods, &token_ids, 1)
    };
    let busy = [60, 9, 5, 0];
    assert_eq!(spilled(3, &[10, 10, 0, 0], &busy), (3, Reason::Spilled), "two of three");
    assert_eq!(spilled(2, &[10, 10, 0, 0], &busy), (1, Reason::Spilled), "two of two");
    assert_eq!(spilled(2, &[10, 10, 5, 0], &busy), (2, Reason::Spilled), "half of it is enough");
    assert_eq!(spilled(2, &[10, 4, 4, 0], &busy), (3, Reason::Spilled), "less is not");
    assert_eq!(spilled(1, &[10, 0, 0, 0], &busy), (0, Reason::Picked), "it is the only one allowed");
    assert_eq!(
        spilled(1, &[0, 10, 10, 0], &busy),
        (3, Reason::Spilled),
        "of a prompt it has nothing of there is none"
    );
    assert_eq!(
        spilled(2, &[10, 10, 0, 0], &[60, 61, 0, 0]),
        (0, Reason::Picked),
        "the other one is busier still"
    );
}

#[test]
fn a_prefix_that_was_spilled_is_a_replica_from_then_on() {
    let profile = || {
        Profile::builder("p")
            .scorer(KvCacheScorer::default(), 5.0)
            .scorer(kvroute_core::score::PrefixScorer, 3.0)
            .scorer(LoadScorer::default(), 1.0)
    };
    let (router, pods) = router_by(
        profile().guard(LoadGuard::new(1.5, 32, 2).unwrap()).build().unwrap(),
        &["a", "b", "c", "d"],
    );
    let (token_ids, context) = (prompt(1), HashContext::default());
    pods.iter().for_each(|&pod| store(&router, pod, &prompt(900), 1, Tier::Gpu));
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    router.report_load(pods[0], load(60, 0)).unwrap();
    let request = Request::new(&token_ids, &context);
    let first = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap().decision;
    assert_eq!(first.reason, Reason::Spilled);
    for _ in 0..3 {
        // Although the others are idle.
        let next = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap().decision;
        assert_eq!((next.pod, next.uncached_tokens), (first.pod, 1), "{:?}", next.reason);
    }
}

#[test]
fn guards_that_make_no_sense_are_refused() {
    for relative in [0.99, -1.0, f64::NAN, f64::INFINITY] {
        assert!(LoadGuard::new(relative, 32, 1).unwrap_err().to_string().contains("relative"));
    }
    assert!(LoadGuard::new(1.0, 0, 0).unwrap_err().to_string().contains("max_replicas"));
    for share in [-0.1, 1.1, f64::NAN] {
        assert!(WarmUp::new(share, 1).unwrap_err().to_string().contains("share"));
    }
}

/// A router that would always pick the first pod, which is warm.
fn warming(share: f64, tokens: u64, pods: usize) -> (Router, Vec<PodId>) {
    let profile = Profile::builder("p").filter(AcceptingFilter).scorer(ExternalScorer::new("x"), 1.0);
    let profile = profile.warm_up(WarmUp::new(share, tokens).unwrap()).build().unwrap();
    let names: Vec<_> = (0..pods).map(|n| n.to_string()).collect();
    let (router, pods) = router_by(profile, &names.iter().map(String::as_str).collect::<Vec<_>>());
    warm(&router, &pods, 0, tokens);
    (router, pods)
}

/// Sends a pod so much prefill work.
fn warm(router: &Router, pods: &[PodId], row: usize, tokens: u64) {
    let others = || pods.iter().enumerate().filter(|(n, _)| *n != row).map(|(_, &pod)| pod);
    others().for_each(|pod| router.set_accepting(pod, false).unwrap());
    let token_ids = vec![9; tokens as usize];
    let salt = HashContext { cache_salt: Some(row.to_string()), ..HashContext::default() };
    let sent =
        router.dispatch(&Request::new(&token_ids, &salt), Duration::ZERO, &mut Workspace::default()).unwrap();
    assert_eq!(sent.decision.pod, pods[row]);
    router.finish(sent.ticket, Finish::Completed, None);
    others().for_each(|pod| router.set_accepting(pod, true).unwrap());
}

#[test]
fn the_share_of_the_requests_without_hits_goes_to_the_new_pods() {
    for (share, expected) in [(0.0, 0..=0), (0.25, 920..=1080), (0.5, 1900..=2100), (1.0, 4000..=4000)] {
        let (router, pods) = warming(share, 100, 3);
        let mut counts = [0_u32; 3];
        for nonce in 0..4000 {
            let (row, reason) = taken(&router, &pods, &prompt(1), nonce);
            assert_eq!(reason == Reason::WarmUp, row != 0);
            counts[row] += 1;
        }
        let new = counts[1] + counts[2];
        assert!(expected.contains(&new), "{share}: {counts:?}");
        assert!(counts[1].abs_diff(counts[2]) < 200, "{counts:?}");
    }
}

#[test]
fn the_least_busy_of_the_new_pods_gets_them() {
    let (router, pods) = warming(1.0, 100, 4);
    router.report_load(pods[1], load(1, 0)).unwrap();
    router.report_load(pods[3], load(2, 0)).unwrap();
    assert_eq!(taken(&router, &pods, &prompt(1), 1), (2, Reason::WarmUp));
}

#[test]
fn a_pod_is_new_until_it_was_sent_its_tokens() {
    let (router, pods) = warming(1.0, 100, 2);
    warm(&router, &pods, 1, 99);
    assert_eq!(taken(&router, &pods, &prompt(1), 1), (1, Reason::WarmUp));
    warm(&router, &pods, 1, 1);
    assert_eq!(taken(&router, &pods, &prompt(1), 1), (0, Reason::Picked), "given back or not");
}

#[test]
fn where_all_are_new_or_the_picked_one_is_nothing_is_diverted() {
    let profile =
        Profile::builder("p").scorer(ExternalScorer::new("x"), 1.0).warm_up(WarmUp::new(1.0, 100).unwrap());
    let (router, pods) = router_by(profile.build().unwrap(), &["0", "1"]);
    assert_eq!(taken(&router, &pods, &prompt(1), 1), (0, Reason::Picked));
    let (router, pods) = warming(1.0, 0, 2);
    assert_eq!(taken(&router, &pods, &prompt(1), 1), (0, Reason::Picked), "of no tokens none is new");
}

#[test]
fn a_request_of_which_a_pod_has_half_is_not_diverted() {
    let (router, pods) = warming(1.0, 100, 3);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 4, Tier::Gpu);
    assert_eq!(taken(&router, &pods, &token_ids, 1).1, Reason::WarmUp, "4 of 10 blocks");
    store(&router, pods[1], &token_ids, 5, Tier::Cpu);
    assert_eq!(
        taken(&router, &pods, &token_ids, 1),
        (0, Reason::Picked),
        "5 of 10, though not on the picked one"
    );
}

#[test]
fn a_new_pod_is_warmed_rather_than_spilled_to_and_a_spill_may_still_happen() {
    let profile = |share| {
        let profile = Profile::builder("p").filter(AcceptingFilter).scorer(ExternalScorer::new("x"), 1.0);
        profile.warm_up(WarmUp::new(share, 100).unwrap()).guard(guard(1.5, 32)).build().unwrap()
    };
    for (share, expected) in [(1.0, (1, Reason::WarmUp)), (0.0, (2, Reason::Spilled))] {
        let (router, pods) = router_by(profile(share), &["0", "1", "2"]);
        warm(&router, &pods, 0, 100);
        warm(&router, &pods, 2, 100);
        router.report_load(pods[0], load(60, 0)).unwrap();
        router.report_load(pods[1], load(5, 0)).unwrap();
        assert_eq!(taken(&router, &pods, &prompt(1), 1), expected);
    }
}

#[test]
fn work_that_was_booked_and_taken_back_at_once_warms_no_pod() {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    use kvroute_core::candidate::Candidates;
    use kvroute_core::filter::RoleFilter;
    use kvroute_core::score::Scorer;

    /// Books the decode pod once more while a prefill pod is being rated, and notes what pods were ever sent.
    #[derive(Debug)]
    struct Overtake {
        router: Arc<OnceLock<Router>>,
        done: AtomicBool,
    }

    impl Scorer for Overtake {
        fn name(&self) -> &'static str {
            "overtake"
        }

        fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
            if !self.done.swap(true, Ordering::SeqCst) {
                // Too short for a prefill pod.
                let request = Request::new(&[1], candidates.request().context);
                let router = self.router.get().unwrap();
                router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
            }
            for (candidate, score) in candidates.iter().zip(scores) {
                *score = candidate.ever_booked() as f64 / 1000.0;
            }
        }
    }

    let cell = Arc::new(OnceLock::new());
    let overtake = Overtake { router: Arc::clone(&cell), done: AtomicBool::new(false) };
    let prefill =
        Profile::builder("p").filter(RoleFilter::new(Role::Prefill)).scorer(overtake, 1.0).build().unwrap();
    let prefill = Some(PrefillPolicy::new(prefill, 20));
    let (router, _) = router_by(Policy { prefill, ..demo_policy() }, &[]);
    for role in [Role::Decode, Role::Prefill] {
        let spec = PodSpec::new(role.name(), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { role, ..spec }).unwrap();
    }
    cell.set(router).unwrap();
    let router = cell.get().unwrap();
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let sent = router
        .dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default())
        .unwrap();
    assert_eq!((sent.retries, sent.decision.prefill.is_some()), (1, true));
    let other = prompt(2);
    let explanation = explained(router, &Request::new(&other, &context), Duration::ZERO);
    let ever_booked = explanation.prefill.unwrap().pods[1].scores[0].value * 1000.0;
    assert_eq!(ever_booked, 41.0, "once, though it was booked twice");
}
