//! What was sent a moment ago counts as if it were there: for how long, and for how much.

use proptest::prelude::*;

use super::*;

/// A router whose pods' events tell what they have, of something else.
fn telling(policy: impl Into<Policy>, pods: &[&str]) -> (Router, Vec<PodId>) {
    let (router, pods) = router_by(policy, pods);
    pods.iter().for_each(|&pod| store(&router, pod, &prompt(900), 1, Tier::Gpu));
    (router, pods)
}

fn send(router: &Router, token_ids: &[u32], now: Duration) -> Dispatch {
    let context = HashContext::default();
    router.dispatch(&Request::new(token_ids, &context), now, &mut Workspace::default()).unwrap()
}

/// Leading blocks of a prompt that each pod is expected to have because they were sent there a moment ago.
fn expected(router: &Router, token_ids: &[u32], now: Duration) -> Vec<u32> {
    let context = HashContext::default();
    let explanation = explained(router, &Request::new(token_ids, &context), now);
    explanation.pods.iter().map(|pod| pod.speculative_blocks).collect()
}

#[test]
fn a_burst_with_one_new_prefix_goes_to_one_pod_before_any_event() {
    for policy in [demo_policy(), Policy::preset("affinity").unwrap()] {
        let (router, _) = telling(policy, &["a", "b", "c", "d"]);
        let shared: Vec<u32> = (0..400).collect();
        let with_question = |n: u32| shared.iter().copied().chain([5000 + n; 4]).collect::<Vec<_>>();
        let first = send(&router, &with_question(0), Duration::ZERO).decision;
        assert_eq!(first.uncached_tokens, 404);
        for n in 1..16 {
            let next = send(&router, &with_question(n), Duration::ZERO).decision;
            assert_eq!((next.pod, next.uncached_tokens), (first.pod, 4), "request {n}");
            assert_eq!(next.matched.total(), 0, "no event came");
        }
    }
}

#[test]
fn by_cost_a_burst_spreads_as_work_in_flight_makes_hits_dearer_than_computing_again() {
    let (router, pods) = telling(Policy::preset("cost").unwrap(), &["a", "b"]);
    let token_ids = prompt(1);
    let first = send(&router, &token_ids, Duration::ZERO);
    // (1 + 41 booked) x 2 there, 41 x 1 elsewhere.
    let second = send(&router, &token_ids, Duration::ZERO);
    assert_ne!(second.decision.pod, first.decision.pod);
    // Both computed: 1 x 2 each, and 41 x 1 on a third pod that knows nothing.
    router.first_token(first.ticket);
    router.first_token(second.ticket);
    pods.iter().for_each(|&pod| store(&router, pod, &token_ids, 10, Tier::Gpu));
    let third = router.add_pod(PodSpec::new("c", domain("model", BLOCK_SIZE))).unwrap();
    assert_ne!(send(&router, &token_ids, Duration::ZERO).decision.pod, third);
}

#[test]
fn what_is_expected_ends_when_its_time_is_over_though_only_decisions_are_made() {
    let (router, _) = telling(demo_policy(), &["a"]);
    let token_ids = prompt(1);
    send(&router, &token_ids, seconds(10));
    let almost = seconds(12) - Duration::from_nanos(1);
    assert_eq!(expected(&router, &token_ids, almost), [10]);
    assert_eq!(expected(&router, &token_ids, seconds(12)), [0], "after two seconds");
    assert_eq!(predicted(&router, router.pods()[0].id()), 10, "what was sent is remembered for longer");
}

#[test]
fn without_a_time_to_live_nothing_is_expected() {
    let options = RouterOptions { speculation_ttl: Duration::ZERO, ..RouterOptions::default() };
    let (router, pods) = router_with(options, &["a"]);
    store(&router, pods[0], &prompt(900), 1, Tier::Gpu);
    send(&router, &prompt(1), Duration::ZERO);
    assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [0]);
}

#[test]
fn with_a_time_to_live_beyond_all_times_it_lasts_until_the_first_token() {
    let options = RouterOptions { speculation_ttl: Duration::MAX, ..RouterOptions::default() };
    let (router, pods) = router_with(options, &["a"]);
    store(&router, pods[0], &prompt(900), 1, Tier::Gpu);
    let dispatch = send(&router, &prompt(1), seconds(1));
    assert_eq!(expected(&router, &prompt(1), seconds(1_000_000_000)), [10]);
    router.first_token(dispatch.ticket);
    assert_eq!(expected(&router, &prompt(1), seconds(1)), [0]);
}

/// What ends a speculation.
type End = fn(&mut Router, PodId, Ticket);

#[test]
fn what_is_expected_ends_with_the_first_token_the_end_a_failure_a_clear_and_a_reset() {
    let ends: [(&str, End); 8] = [
        ("first token", |router, _, ticket| assert!(router.first_token(ticket))),
        ("completed", |router, _, ticket| assert!(router.finish(ticket, Finish::Completed, None))),
        ("failed", |router, _, ticket| assert!(router.finish(ticket, Finish::Failed, None))),
        ("cancelled", |router, _, ticket| assert!(router.finish(ticket, Finish::Cancelled, None))),
        ("expired", |router, _, _| assert_eq!(router.expire(seconds(600)), 1)),
        ("cleared", |router, pod, _| clear(router, pod)),
        ("forgotten", |router, pod, _| router.index().forget_predictions(pod).unwrap()),
        ("reset", |router, _, _| router.reset()),
    ];
    for (what, end) in ends {
        let (mut router, pods) = telling(demo_policy(), &["a"]);
        let before = router.index().bytes();
        let ticket = send(&router, &prompt(1), Duration::ZERO).ticket;
        assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [10], "{what}");
        end(&mut router, pods[0], ticket);
        assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [0], "{what}");
        // Only what is predicted may be left, which goes with the pod.
        let pod = router.pods()[0].id();
        router.index().forget_predictions(pod).unwrap();
        assert!(router.index().bytes() <= before, "{what}");
        router.remove_pod(pod).unwrap();
        let index = router.index();
        assert_eq!((index.bytes(), index.blocks(), index.view_bytes()), (0, 0, 0), "{what}");
    }
}

#[test]
fn a_pod_that_is_removed_takes_what_is_expected_of_it_along_and_comes_back_without() {
    let (router, pods) = telling(demo_policy(), &["a"]);
    let ticket = send(&router, &prompt(1), Duration::ZERO).ticket;
    router.remove_pod(pods[0]).unwrap();
    assert_eq!(router.index().bytes(), 0);
    let again = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
    store(&router, again, &prompt(900), 1, Tier::Gpu);
    assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [0]);
    let next = send(&router, &prompt(1), Duration::ZERO);
    // The old request's end is nothing to the new pod.
    assert!(router.first_token(ticket) && router.finish(ticket, Finish::Failed, None));
    assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [10]);
    assert!(router.finish(next.ticket, Finish::Failed, None));
    assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [0]);
}

#[test]
fn one_requests_end_takes_nothing_away_that_another_still_expects() {
    let (router, _) = telling(demo_policy(), &["a"]);
    let (long, now) = (prompt(1), Duration::ZERO);
    // Whichever of the two ends first, the longer or the shorter, the earlier or the later.
    for (lengths, first_to_end) in
        [([41, 41], 0), ([41, 41], 1), ([21, 41], 0), ([21, 41], 1), ([41, 21], 0), ([41, 21], 1)]
    {
        let sent = lengths.map(|length| send(&router, &long[..length], now).ticket);
        assert_eq!(expected(&router, &long, now), [10]);
        assert!(router.first_token(sent[first_to_end]));
        let left = lengths[1 - first_to_end] as u32 / BLOCK_SIZE;
        assert_eq!(expected(&router, &long, now), [left], "{lengths:?}, {first_to_end} ends first");
        assert!(router.first_token(sent[1 - first_to_end]));
        assert_eq!(expected(&router, &long, now), [0], "{lengths:?}, {first_to_end} ended first");
    }
}

#[test]
fn requests_that_share_a_prefix_and_all_end_by_their_time_leave_nothing() {
    let (router, pods) = telling(demo_policy(), &["a"]);
    router.index().forget_predictions(pods[0]).unwrap();
    let before = router.index().bytes();
    for round in 0..10 {
        for n in 0..5 {
            send(&router, &prompt(1), seconds(round * 10) + Duration::from_millis(100 * n));
        }
        let end = seconds(round * 10) + Duration::from_millis(2400);
        assert_eq!(expected(&router, &prompt(1), end - Duration::from_millis(1)), [10]);
        assert_eq!(expected(&router, &prompt(1), end), [0], "round {round}");
    }
    router.index().forget_predictions(pods[0]).unwrap();
    assert_eq!(router.index().bytes(), before);
}

#[test]
fn what_is_expected_counts_in_full_once_and_only_as_far_as_it_was_sent() {
    let (router, pods) = telling(demo_policy(), &["a"]);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 4, Tier::Gpu);
    send(&router, &token_ids[..25], Duration::ZERO);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((decision.matched_tokens, decision.uncached_tokens), (16, 41 - 24), "six blocks were sent");
    let line = router.explain(&workspace).to_string();
    assert!(line.contains("expected 6"), "{line}");
    store(&router, pods[0], &token_ids, 8, Tier::Gpu);
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!(decision.uncached_tokens, 41 - 32, "events tell of more by now");
}

#[test]
fn a_text_and_a_pod_without_events_need_no_speculation() {
    let (router, pods) = router_of(&["a"]);
    send(&router, &prompt(1), Duration::ZERO);
    assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [0], "what was sent counts anyway");
    store(&router, pods[0], &prompt(900), 1, Tier::Gpu);
    let (text, context) = ([b'x'; 1024], HashContext::default());
    let request = Request::from_text(&text, &context);
    for _ in 0..2 {
        router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    }
    let explanation = explained(&router, &request, Duration::ZERO);
    assert_eq!((explanation.pods[0].predicted_blocks, explanation.pods[0].speculative_blocks), (4, 0));
}

#[test]
fn prompts_without_a_block_leave_nothing_behind() {
    let (router, pods) = telling(demo_policy(), &["a"]);
    let (bytes, view_bytes) = (router.index().bytes(), router.index().view_bytes());
    for n in 0..1000 {
        let ticket = send(&router, &[n, 2, 3][..n as usize % 4], Duration::ZERO).ticket;
        router.finish(ticket, Finish::Completed, None);
    }
    assert_eq!((router.index().bytes(), router.index().view_bytes()), (bytes, view_bytes));
    assert_eq!(predicted(&router, pods[0]), 0);
}

#[test]
fn on_two_pods_both_are_expected_to_have_the_prompt_until_the_first_token() {
    let prefill = Some(PrefillPolicy::new(Profile::llm_d_demo(Role::Prefill), 0));
    let router = Router::new(RouterOptions::default(), Policy { prefill, ..demo_policy() }).unwrap();
    for (name, role) in [("decode", Role::Decode), ("prefill", Role::Prefill)] {
        let pod = PodSpec { role, ..PodSpec::new(name, domain("model", BLOCK_SIZE)) };
        let pod = router.add_pod(pod).unwrap();
        store(&router, pod, &prompt(900), 1, Tier::Gpu);
    }
    let sent = send(&router, &prompt(1), Duration::ZERO);
    assert!(sent.decision.prefill.is_some());
    assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [10, 10]);
    router.first_token(sent.ticket);
    assert_eq!(expected(&router, &prompt(1), Duration::ZERO), [0, 0]);
}

/// What happens to a router.
#[derive(Clone, Debug)]
enum Act {
    /// A prompt of these ways is sent to the pod.
    Dispatch {
        pod: usize,
        ways: Vec<u8>,
    },
    FirstToken(usize),
    Finish(usize, Finish),
    Expire,
    Wait(u64),
    Clear(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let ways = (0..12_usize, prop::collection::vec(0..2_u8, 0..6)).prop_map(|(head, tail)| {
        let mut ways = vec![0; head];
        ways.extend(tail);
        ways
    });
    let how = prop_oneof![Just(Finish::Completed), Just(Finish::Failed), Just(Finish::Cancelled)];
    let act = prop_oneof![
        8 => (0..2_usize, ways).prop_map(|(pod, ways)| Act::Dispatch { pod, ways }),
        3 => (0..64_usize).prop_map(Act::FirstToken),
        3 => (0..64_usize, how).prop_map(|(which, how)| Act::Finish(which, how)),
        1 => Just(Act::Expire),
        3 => (0..1200_u64).prop_map(Act::Wait),
        1 => (0..2_usize).prop_map(Act::Clear),
    ];
    prop::collection::vec(act, 1..50)
}

/// Token ids that share and part where their ways do; one token more, which engines always compute.
fn tokens(ways: &[u8]) -> Vec<u32> {
    ways.iter().flat_map(|&way| [u32::from(way); BLOCK_SIZE as usize]).chain([7]).collect()
}

fn shared(one: &[u8], other: &[u8]) -> u32 {
    one.iter().zip(other).take_while(|(a, b)| a == b).count() as u32
}

proptest! {
    /// Against the definition: a list of (pod, blocks, end).
    #[test]
    fn what_is_expected_is_what_was_sent_and_has_not_ended_whatever_happens(acts in acts()) {
        let (router, pods) = telling(demo_policy(), &["a", "b"]);
        let before = router.index().bytes();
        let mut live: Vec<(usize, Vec<u8>, Duration, Ticket)> = Vec::new();
        let (mut sent, mut prompts, mut now) = (Vec::new(), Vec::new(), Duration::ZERO);
        let context = HashContext::default();
        let mut workspace = Workspace::default();
        for act in acts {
            match act {
                Act::Dispatch { pod, ways } => {
                    let (token_ids, names) = (tokens(&ways), ["a", "b"]);
                    let request = Request { subset: Some(&names[pod..=pod]), ..Request::new(&token_ids, &context) };
                    let ticket = router.dispatch(&request, now, &mut workspace).unwrap().ticket;
                    live.push((pod, ways.clone(), now + seconds(2), ticket));
                    sent.push(ticket);
                    prompts.push(ways);
                }
                Act::FirstToken(which) if !sent.is_empty() => {
                    let ticket = sent[which % sent.len()];
                    router.first_token(ticket);
                    live.retain(|entry| entry.3 != ticket);
                }
                Act::Finish(which, how) if !sent.is_empty() => {
                    let ticket = sent.swap_remove(which % sent.len());
                    router.finish(ticket, how, None);
                    live.retain(|entry| entry.3 != ticket);
                }
                Act::FirstToken(_) | Act::Finish(..) => {}
                Act::Expire => {
                    router.expire(now);
                }
                Act::Wait(milliseconds) => now += Duration::from_millis(milliseconds),
                Act::Clear(pod) => {
                    clear(&router, pods[pod]);
                    live.retain(|entry| entry.0 != pod);
                }
            }
            live.retain(|entry| entry.2 > now);
            for ways in &prompts {
                let of_pod = |pod| {
                    let its = live.iter().filter(|entry| entry.0 == pod);
                    its.map(|entry| shared(&entry.1, ways)).max().unwrap_or(0)
                };
                prop_assert_eq!(expected(&router, &tokens(ways), now), vec![of_pod(0), of_pod(1)], "{:?}", ways);
            }
        }
        let end = now + seconds(2);
        if let Some(ways) = prompts.first() {
            prop_assert_eq!(expected(&router, &tokens(ways), end), vec![0, 0]);
        }
        for &pod in &pods {
            router.index().forget_predictions(pod).unwrap();
        }
        prop_assert!(router.index().bytes() <= before);
        pods.into_iter().for_each(|pod| router.remove_pod(pod).unwrap());
        prop_assert_eq!((router.index().bytes(), router.index().blocks(), router.index().view_bytes()), (0, 0, 0));
    }
}
