//! Large fleets: who is looked at, that nobody is forgotten, and that nothing hangs on who stands where.

use std::collections::BTreeMap;

use kvroute_core::ErrorKind;
use kvroute_core::candidate::Candidates;
use kvroute_core::filter::{AcceptingFilter, Filter, LabelFilter, Requirement, RoleFilter};
use kvroute_core::policy::Sampling;
use kvroute_core::score::{KvCacheScorer, LoadScorer};

use super::*;

fn sampled(above: usize, holders: usize, others: usize) -> Policy {
    Policy { sampling: Sampling { above, holders, others }, ..demo_policy() }
}

/// `pod-0`, `pod-1` and so on.
fn fleet(policy: impl Into<Policy>, pods: usize) -> (Router, Vec<PodId>) {
    let names: Vec<_> = (0..pods).map(|n| format!("pod-{n}")).collect();
    router_by(policy, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A hundred blocks and a token.
fn long() -> Vec<u32> {
    (0..401).collect()
}

fn with_nonce<'a>(token_ids: &'a [u32], context: &'a HashContext, nonce: u64) -> Request<'a> {
    Request { nonce: Some(nonce), ..Request::new(token_ids, context) }
}

#[test]
fn fleets_up_to_the_bound_are_looked_at_whole_and_larger_ones_not() {
    let context = HashContext::default();
    for (pods, not_sampled) in [(32, 0), (33, 17), (100, 84)] {
        let (router, _) = fleet(demo_policy(), pods);
        let mut workspace = Workspace::default();
        let token_ids = long();
        let decision =
            router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
        let explanation = router.explain(&workspace);
        assert_eq!((explanation.not_sampled, explanation.pods.len()), (not_sampled, pods - not_sampled));
        assert_eq!(decision.candidates, pods - not_sampled);
        let said = explanation.to_string().contains(&format!("{not_sampled} pods were not looked at"));
        assert_eq!(said, not_sampled > 0);
    }
    let (router, _) = fleet(sampled(usize::MAX, 1, 1), 200);
    assert_eq!(explained(&router, &Request::new(&long(), &context), Duration::ZERO).not_sampled, 0);
}

#[test]
fn the_pods_with_most_of_the_prompt_are_always_looked_at() {
    let (router, pods) = fleet(sampled(32, 5, 3), 100);
    let (token_ids, context) = (long(), HashContext::default());
    // The deepest stand anywhere.
    let depth = |row: usize| (row * 37) % 100;
    for (row, &pod) in pods.iter().enumerate() {
        if depth(row) > 0 {
            store(&router, pod, &token_ids, depth(row), Tier::Gpu);
        }
    }
    for nonce in 0..200 {
        let explanation = explained(&router, &with_nonce(&token_ids, &context, nonce), Duration::ZERO);
        let mut depths: Vec<_> =
            explanation.pods.iter().map(|pod| pod.matched_blocks.first().map_or(0, |held| held.1)).collect();
        depths.sort_by(|a, b| b.cmp(a));
        assert_eq!(depths[..5], [99, 98, 97, 96, 95]);
        assert!((5..=8).contains(&depths.len()));
        let picked = &explanation.pods[explanation.picked.unwrap()];
        assert_eq!(picked.matched_blocks, [("gpu", 99)]);
    }
}

#[test]
fn of_as_many_holders_others_are_left_out_each_time() {
    let (router, pods) = fleet(sampled(32, 4, 0), 60);
    let (token_ids, context) = (long(), HashContext::default());
    for &pod in &pods[..20] {
        store(&router, pod, &token_ids, 50, Tier::Gpu);
    }
    let mut counts = [0; 60];
    for nonce in 0..2000 {
        let explanation = explained(&router, &with_nonce(&token_ids, &context, nonce), Duration::ZERO);
        assert_eq!((explanation.pods.len(), explanation.not_sampled), (4, 56));
        counts[explanation
            .picked
            .map(|row| explanation.pods[row].id)
            .map_or(0, |id| PodId::from_u64(id).slot())] += 1;
    }
    assert!(counts[..20].iter().all(|count| (50..160).contains(count)), "{counts:?}");
}

#[test]
fn what_was_sent_a_moment_ago_makes_a_holder_too() {
    for with_events in [false, true] {
        let (router, pods) = fleet(sampled(32, 1, 1), 100);
        if with_events {
            pods.iter().for_each(|&pod| store(&router, pod, &prompt(900), 1, Tier::Gpu));
        }
        let context = HashContext::default();
        for seed in 0..50 {
            let token_ids = prompt(seed);
            let sent = router.dispatch(
                &Request::new(&token_ids, &context),
                Duration::ZERO,
                &mut Workspace::default(),
            );
            let sent = sent.unwrap().decision;
            for nonce in 0..5 {
                let request = with_nonce(&token_ids, &context, nonce);
                let next = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
                assert_eq!((next.pod, next.uncached_tokens), (sent.pod, 1));
            }
        }
    }
}

#[test]
fn the_sessions_pod_is_always_looked_at() {
    let (router, _) = fleet(sampled(32, 1, 1), 200);
    let context = HashContext::default();
    for seed in 0..50 {
        let (id, first, other) = (format!("session-{seed}"), prompt(seed), prompt(1000 + seed));
        let session = Some(Session::Id(&id));
        let request = Request { session, ..Request::new(&first, &context) };
        let home = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap().decision.pod;
        let request = Request { session, ..Request::new(&other, &context) };
        assert_eq!(router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap().pod, home);
    }
}

#[test]
fn a_subset_of_a_large_fleet_is_looked_at_whole_and_alone() {
    let (router, pods) = fleet(sampled(32, 1, 1), 100);
    let rank =
        router.add_pod(PodSpec { dp_rank: 1, ..PodSpec::new("pod-7", domain("model", BLOCK_SIZE)) }).unwrap();
    let (token_ids, context) = (long(), HashContext::default());
    store(&router, pods[50], &token_ids, 100, Tier::Gpu);
    store(&router, rank, &token_ids, 1, Tier::Gpu);
    let subset: &[&str] = &["pod-99", "nobody", "pod-7", "pod-98", "pod-97", "pod-7"];
    let request = Request { subset: Some(subset), ..Request::new(&token_ids, &context) };
    let explanation = explained(&router, &request, Duration::ZERO);
    let names: Vec<_> = explanation.pods.iter().map(|pod| (pod.pod.as_str(), pod.dp_rank)).collect();
    assert_eq!(names, [("pod-7", 0), ("pod-97", 0), ("pod-98", 0), ("pod-99", 0), ("pod-7", 1)]);
    assert_eq!(explanation.not_sampled, 96);
    assert_eq!(explanation.pods[explanation.picked.unwrap()].id, rank.as_u64());
    for none in [&[][..], &["nobody"]] {
        let request = Request { subset: Some(none), ..Request::new(&token_ids, &context) };
        let error = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap_err();
        assert_eq!(error.to_string(), "every one of 101 pods was dropped: 101 by filter \"subset\"");
    }
}

#[test]
fn where_filters_keep_none_of_the_sample_all_are_looked_at() {
    let label = LabelFilter::new([Requirement::Exists("rare".into())]);
    let profile = Profile::builder("p").filter(label).scorer(LoadScorer::default(), 1.0).build().unwrap();
    let policy = Policy { sampling: Sampling { above: 32, holders: 2, others: 2 }, ..Policy::from(profile) };
    let (router, _) = fleet(policy, 150);
    let labels = BTreeMap::from([("rare".into(), "yes".into())]);
    let rare =
        router.add_pod(PodSpec { labels, ..PodSpec::new("rare", domain("model", BLOCK_SIZE)) }).unwrap();
    let (token_ids, context, mut widened) = (long(), HashContext::default(), 0);
    for nonce in 0..100 {
        let mut workspace = Workspace::default();
        let request = with_nonce(&token_ids, &context, nonce);
        assert_eq!(router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod, rare);
        widened += usize::from(router.explain(&workspace).not_sampled == 0);
    }
    assert!(widened > 90);
    router.remove_pod(rare).unwrap();
    let error = router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NoCandidate);
}

/// Keeps nobody where there are more than so many candidates.
#[derive(Debug)]
struct AtMost(usize);

impl Filter for AtMost {
    fn name(&self) -> &str {
        "at-most"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        kept.fill(candidates.iter().count() <= self.0);
    }
}

#[test]
fn a_decision_that_fails_once_all_are_looked_at_is_explained_by_all() {
    let profile =
        |most| Profile::builder("p").filter(AtMost(most)).scorer(LoadScorer::default(), 1.0).build();
    let prefill = PrefillPolicy::new(profile(0).unwrap(), 20);
    let sampling = Sampling { above: 32, holders: 2, others: 2 };
    let policy = Policy { prefill: Some(prefill), sampling, ..Policy::from(profile(4).unwrap()) };
    let (router, _) = fleet(policy, 40);
    let (token_ids, context, mut workspace) = (long(), HashContext::default(), Workspace::default());
    let error = router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NoCandidate);
    let explanation = router.explain(&workspace);
    assert_eq!((explanation.pods.len(), explanation.not_sampled), (40, 0));
    assert_eq!(explanation.prefill, None);
}

#[test]
fn pods_that_could_not_be_picked_take_no_place_in_the_sample() {
    let (router, pods) = fleet(sampled(32, 2, 4), 100);
    let (token_ids, context) = (long(), HashContext::default());
    pods.iter().for_each(|&pod| store(&router, pod, &token_ids, 100, Tier::Gpu));
    // All but five drain, and those hold nothing.
    for (row, &pod) in pods.iter().enumerate() {
        if row % 20 == 7 {
            clear(&router, pod);
        } else {
            router.set_accepting(pod, false).unwrap();
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for nonce in 0..100 {
        let explanation = explained(&router, &with_nonce(&token_ids, &context, nonce), Duration::ZERO);
        assert_eq!((explanation.pods.len(), explanation.not_sampled), (4, 96));
        assert!(explanation.pods.iter().all(|pod| pod.dropped_by.is_none()));
        seen.extend(explanation.picked.map(|row| explanation.pods[row].id));
    }
    assert_eq!(seen.len(), 5);
}

#[test]
fn a_sample_of_nobody_is_the_whole_fleet() {
    // No session, no holder, and nobody by lot.
    let (router, _) = fleet(sampled(1, 5, 0), 40);
    let explanation = explained(&router, &Request::new(&prompt(1), &HashContext::default()), Duration::ZERO);
    assert_eq!(
        (explanation.pods.len(), explanation.not_sampled, explanation.picked.is_some()),
        (40, 0, true)
    );
}

#[test]
fn where_nothing_is_cached_every_pod_gets_its_part() {
    let context = HashContext::default();
    for pods in [40, 64, 97, 100] {
        let (router, _) = fleet(demo_policy(), pods);
        let token_ids = prompt(1);
        let (mut counts, mut workspace) = (vec![0_usize; pods], Workspace::default());
        let each = 200;
        for nonce in 0..(pods * each) as u64 {
            let request = with_nonce(&token_ids, &context, nonce);
            counts[router.decide(&request, Duration::ZERO, &mut workspace).unwrap().pod.slot()] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        // Five standard deviations.
        assert!(*least > each - 71 && *most < each + 71, "{pods} pods: {least} to {most}");
    }
}

#[test]
fn pods_of_one_role_among_many_others_get_their_part_too() {
    let (router, _) = router_by(demo_policy(), &[]);
    // In one piece, so that a walk in small steps meets its first one most often.
    for n in 0..120 {
        let role = if n < 40 { Role::Decode } else { Role::Prefill };
        router.add_pod(PodSpec { role, ..PodSpec::new(n.to_string(), domain("model", BLOCK_SIZE)) }).unwrap();
    }
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let (mut counts, mut workspace) = ([0_usize; 40], Workspace::default());
    for nonce in 0..12_000 {
        let decision =
            router.decide(&with_nonce(&token_ids, &context, nonce), Duration::ZERO, &mut workspace).unwrap();
        counts[decision.pod.slot()] += 1;
    }
    assert!(counts.iter().all(|count| (180..420).contains(count)), "{counts:?}");
}

#[test]
fn the_pod_with_the_prompt_is_found_in_whatever_order_pods_came() {
    let (token_ids, context) = (long(), HashContext::default());
    for step in [1, 3, 7, 59, 99] {
        let (router, _) = router_by(sampled(32, 3, 3), &[]);
        for n in 0..100 {
            router
                .add_pod(PodSpec::new(format!("pod-{}", n * step % 100), domain("model", BLOCK_SIZE)))
                .unwrap();
        }
        let id = |name: &str| router.pod(name, 0).unwrap().id();
        store(&router, id("pod-42"), &token_ids, 90, Tier::Gpu);
        store(&router, id("pod-17"), &token_ids, 80, Tier::Gpu);
        for nonce in 0..20 {
            let request = with_nonce(&token_ids, &context, nonce);
            let decision = router.decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
            assert_eq!(decision.pod, id("pod-42"));
        }
    }
}

/// Many decode pods and prefill pods, the latter of a profile that wants the prompt.
fn on_two_pods(decode: usize, prefill: usize) -> (Router, Vec<PodId>, Vec<PodId>) {
    let profile = Profile::llm_d_demo(Role::Prefill);
    let policy = Policy { prefill: Some(PrefillPolicy::new(profile, 20)), ..sampled(32, 2, 2) };
    let (router, _) = router_by(policy, &[]);
    let add = |role: Role, n: usize| {
        let spec = PodSpec::new(format!("{}-{n}", role.name()), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { role, ..spec }).unwrap()
    };
    let decode = (0..decode).map(|n| add(Role::Decode, n)).collect();
    let prefill = (0..prefill).map(|n| add(Role::Prefill, n)).collect();
    (router, decode, prefill)
}

#[test]
fn in_a_large_fleet_both_pods_are_found_by_what_they_hold() {
    let (router, decode, prefill) = on_two_pods(80, 40);
    let (token_ids, context) = (long(), HashContext::default());
    store(&router, decode[33], &token_ids, 10, Tier::Gpu);
    store(&router, prefill[22], &token_ids, 60, Tier::Gpu);
    for nonce in 0..50 {
        let mut workspace = Workspace::default();
        let request = with_nonce(&token_ids, &context, nonce);
        let decision = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
        assert_eq!(decision.pod, decode[33]);
        assert_eq!(decision.prefill.map(|p| (p.pod, p.uncached_tokens)), Some((prefill[22], 401 - 240)));
        let explanation = router.explain(&workspace);
        // The holder and two others of each role.
        assert!((5..=6).contains(&explanation.pods.len()), "{}", explanation.pods.len());
        assert_eq!(explanation.not_sampled, 120 - explanation.pods.len());
        let of_prefill = explanation.prefill.unwrap();
        assert_eq!(
            (of_prefill.not_sampled, of_prefill.pods.len()),
            (explanation.not_sampled, explanation.pods.len())
        );
    }
}

#[test]
fn a_prefill_pod_of_the_decode_pods_domain_is_found_among_many_of_others() {
    let (router, _, _) = on_two_pods(40, 0);
    for n in 0..100 {
        let spec = PodSpec::new(format!("other-{n}"), domain("other", BLOCK_SIZE));
        router.add_pod(PodSpec { role: Role::Prefill, ..spec }).unwrap();
    }
    let (token_ids, context) = (long(), HashContext::default());
    let request = |nonce| with_nonce(&token_ids, &context, nonce);
    let decision = router.decide(&request(1), Duration::ZERO, &mut Workspace::default()).unwrap();
    assert_eq!(decision.prefill, None);
    let spec = PodSpec::new("prefill", domain("model", BLOCK_SIZE));
    let only = router.add_pod(PodSpec { role: Role::Prefill, ..spec }).unwrap();
    for nonce in 0..50 {
        let decision = router.decide(&request(nonce), Duration::ZERO, &mut Workspace::default()).unwrap();
        assert_eq!(decision.prefill.map(|prefill| prefill.pod), Some(only));
    }
}

#[test]
fn prefill_pods_of_a_large_fleet_all_get_their_part() {
    let (router, _, prefill) = on_two_pods(60, 60);
    let (token_ids, context, mut workspace) = (long(), HashContext::default(), Workspace::default());
    let mut counts = [0_usize; 60];
    for nonce in 0..12_000 {
        let decision =
            router.decide(&with_nonce(&token_ids, &context, nonce), Duration::ZERO, &mut workspace).unwrap();
        counts[decision.prefill.unwrap().pod.slot() - prefill[0].slot()] += 1;
    }
    assert!(counts.iter().all(|count| (100..320).contains(count)), "{counts:?}");
}

#[test]
fn a_warm_decision_in_a_large_fleet_allocates_nothing() {
    let (router, decode, prefill) = on_two_pods(200, 100);
    let (token_ids, context) = (long(), HashContext::default());
    for (n, &pod) in decode.iter().chain(&prefill).enumerate() {
        store(&router, pod, &token_ids, 1 + n % 100, Tier::Gpu);
    }
    let other = prompt(900);
    let text = [b'x'; 2000];
    let mut workspace = Workspace::default();
    let named: Vec<_> = (0..50).map(|n| format!("decode-{n}")).collect();
    let subset: Vec<_> = named.iter().map(String::as_str).collect();
    let plain = Request::new(&token_ids, &context);
    let requests = [
        plain,
        Request::new(&other, &context),
        Request::from_text(&text, &context),
        Request { session: Some(Session::Id("s")), ..plain },
        Request { subset: Some(&subset), ..plain },
    ];
    router.dispatch(&requests[3], Duration::ZERO, &mut workspace).unwrap();
    let mut decide_all = |nonces: std::ops::Range<u64>| {
        for nonce in nonces {
            for request in &requests {
                let request = Request { nonce: Some(nonce), ..*request };
                router.decide(&request, seconds(1), &mut workspace).unwrap();
            }
        }
    };
    decide_all(0..300);
    let used = allocation_counter::measure(|| decide_all(0..300));
    assert_eq!(used.count_total, 0);
}

#[test]
fn the_sample_is_that_of_the_nonce_and_the_seed() {
    let rows = |seed: u64, nonce| {
        let profile = Profile::builder("p").filter(AcceptingFilter).filter(RoleFilter::new(Role::Decode));
        let profile = profile.scorer(KvCacheScorer::default(), 1.0).seed(seed).build().unwrap();
        let (router, _) = fleet(profile, 200);
        let context = HashContext::default();
        let explanation = explained(&router, &with_nonce(&[1, 2, 3], &context, nonce), Duration::ZERO);
        explanation.pods.iter().map(|pod| pod.id).collect::<Vec<_>>()
    };
    let first = rows(1, 1);
    assert_eq!(
        (first.len(), rows(1, 1) == first, rows(2, 1) == first, rows(1, 2) == first),
        (16, true, false, false)
    );
}
