//! A request's life: bookings, tickets, and what a failure takes back.

use std::collections::HashMap;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

#[test]
fn uncached_tokens_are_booked_until_the_first_token_and_the_request_until_its_end() {
    let (router, pods) = router_of(&["a"]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    store(&router, pods[0], &token_ids, 5, Tier::Gpu);
    let request = Request::new(&token_ids, &context);
    let mut workspace = Workspace::default();
    let ticket = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap().ticket;
    assert_eq!(bookings(&router, pods[0]), of(1, 21));
    assert_eq!(Ticket::from_u64(ticket.as_u64()), ticket);
    assert!(router.first_token(ticket) && !router.first_token(ticket));
    assert_eq!(bookings(&router, pods[0]), of(1, 0));
    assert!(router.finish(ticket, Finish::Completed, None));
    assert!(!router.finish(ticket, Finish::Completed, None) && !router.first_token(ticket));
    assert_eq!((bookings(&router, pods[0]), router.counters().in_flight), (of(0, 0), 0));
}

#[test]
fn a_report_that_is_forgotten_counts_no_more_and_what_is_in_flight_does() {
    let (router, pods) = router_of(&["a"]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    router.report_load(pods[0], LoadReport { kv_usage: 0.9, ..load(5, 50) }).unwrap();
    router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default()).unwrap();
    let pod = router.pod_by_id(pods[0]).unwrap();
    assert!(pod.is_overloaded() && pod.load().is_some());
    router.forget_load(pods[0]).unwrap();
    assert_eq!((pod.load(), pod.is_overloaded(), bookings(&router, pods[0]).requests), (None, false, 1));
    router.remove_pod(pods[0]).unwrap();
    assert_eq!(router.forget_load(pods[0]).unwrap_err().kind(), kvroute_core::ErrorKind::UnknownPod);
}

#[test]
fn what_is_in_flight_counts_as_load_and_is_not_counted_twice_once_reported() {
    let (router, pods) = router_of(&["a", "b"]);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let mut spread = HashMap::<PodId, u32>::new();
    for n in 0..64 {
        let token_ids = prompt(n);
        let dispatch = router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace);
        *spread.entry(dispatch.unwrap().decision.pod).or_default() += 1;
    }
    assert_eq!(spread.values().copied().collect::<Vec<_>>(), [32, 32], "bookings alone balance them");
    let load_scores = |workspace: &mut Workspace| {
        router.decide(&Request::new(&[1], &context), Duration::ZERO, workspace).unwrap();
        let pods = router.explain(workspace).pods;
        pods.iter().map(|pod| pod.scores[3].value * 128.0).collect::<Vec<_>>()
    };
    assert_eq!(load_scores(&mut workspace), [96.0, 96.0]);
    // Two of the 42 came another way.
    router.report_load(pods[0], load(30, 4)).unwrap();
    router.report_load(pods[1], load(32, 0)).unwrap();
    assert_eq!(load_scores(&mut workspace), [94.0, 96.0]);
    router.set_accepting(pods[0], false).unwrap();
    router.dispatch(&Request::new(&prompt(900), &context), Duration::ZERO, &mut workspace).unwrap();
    router.set_accepting(pods[0], true).unwrap();
    assert_eq!(load_scores(&mut workspace), [94.0, 95.0], "reported 32, one more since");
    router.report_load(pods[1], load(0, 0)).unwrap();
    assert_eq!(load_scores(&mut workspace), [94.0, 95.0], "never less than is in flight");
}

#[test]
fn a_failure_takes_back_what_was_predicted_and_a_cancellation_only_before_the_first_token() {
    for (how, started, kept) in [
        (Finish::Completed, true, 10),
        (Finish::Failed, false, 0),
        (Finish::Failed, true, 0),
        (Finish::Cancelled, false, 0),
        (Finish::Cancelled, true, 10),
    ] {
        let (router, pods) = router_of(&["a"]);
        let (context, token_ids) = (HashContext::default(), prompt(1));
        let request = Request::new(&token_ids, &context);
        let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
        assert_eq!(predicted(&router, pods[0]), 10);
        if started {
            router.first_token(dispatch.ticket);
        }
        router.finish(dispatch.ticket, how, None);
        assert_eq!(predicted(&router, pods[0]), kept, "{how:?}, started: {started}");
    }
}

#[test]
fn a_failure_keeps_what_an_earlier_or_later_request_predicted_too() {
    let (router, pods) = router_of(&["a"]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let mut workspace = Workspace::default();
    let mut send = |tokens: usize| {
        let request = Request::new(&token_ids[..tokens], &context);
        router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap().ticket
    };
    let (earlier, failing, later) = (send(12), send(32), send(20));
    router.finish(failing, Finish::Failed, None);
    assert_eq!(predicted(&router, pods[0]), 5, "of 8, the later one needs 5");
    router.finish(later, Finish::Failed, None);
    assert_eq!(predicted(&router, pods[0]), 5, "it brought none itself");
    router.finish(earlier, Finish::Completed, None);
}

#[test]
fn requests_whose_time_is_over_give_back_their_bookings() {
    let options = RouterOptions { request_ttl: seconds(60), ..RouterOptions::default() };
    let router = Router::new(options, demo_policy()).unwrap();
    let pod = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let mut send = |now| {
        let token_ids = prompt(now as u32);
        router.dispatch(&Request::new(&token_ids, &context), seconds(now), &mut workspace).unwrap().ticket
    };
    let (old, young) = (send(0), send(30));
    assert_eq!(router.expire(seconds(0)), 0, "a clock that is behind makes nothing old");
    assert_eq!((router.expire(seconds(59)), router.expire(seconds(60))), (0, 1));
    assert_eq!((bookings(&router, pod), router.counters().expired), (of(1, 41), 1));
    assert!(!router.finish(old, Finish::Completed, None));
    assert!(router.finish(young, Finish::Completed, None));
    assert_eq!(bookings(&router, pod), of(0, 0));
}

#[test]
fn beyond_the_most_that_can_be_in_flight_requests_are_decided_but_not_tracked() {
    let options = RouterOptions { max_requests: 32, request_ttl: seconds(60), ..RouterOptions::default() };
    let router = Router::new(options, demo_policy()).unwrap();
    let pod = router.add_pod(PodSpec::new("a", domain("model", BLOCK_SIZE))).unwrap();
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let mut send =
        |now| router.dispatch(&Request::new(&[1], &context), seconds(now), &mut workspace).unwrap().ticket;
    let tickets: Vec<_> = (0..40).map(|_| send(0)).collect();
    assert!(tickets[..32].iter().all(|&ticket| ticket != Ticket::UNTRACKED));
    assert!(tickets[32..].iter().all(|&ticket| ticket == Ticket::UNTRACKED));
    assert_eq!((bookings(&router, pod).requests, router.counters().untracked), (32, 8));
    assert!(!router.finish(Ticket::UNTRACKED, Finish::Completed, None));
    assert_ne!(send(60), Ticket::UNTRACKED, "the old ones make room");
    assert_eq!((bookings(&router, pod).requests, router.counters().expired), (1, 32));
}

#[test]
fn what_is_not_tracked_is_predicted_and_its_session_remembered_all_the_same() {
    let (router, pods) = router_with(RouterOptions { max_requests: 0, ..RouterOptions::default() }, &["a"]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let request = Request { session: Some(Session::Id("s")), ..Request::new(&token_ids, &context) };
    let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    assert_eq!(dispatch.ticket, Ticket::UNTRACKED);
    assert_eq!((predicted(&router, pods[0]), router.counters().sessions), (10, 1));
}

#[test]
fn room_that_old_requests_leave_is_used_wherever_it_is() {
    const MOST: usize = 2048;
    let options = RouterOptions { max_requests: MOST, request_ttl: seconds(60), ..RouterOptions::default() };
    let (router, _) = router_with(options, &["a"]);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let mut send =
        |now| router.dispatch(&Request::new(&[1], &context), seconds(now), &mut workspace).unwrap().ticket;
    let old: Vec<_> = (0..MOST / 2).map(|_| send(0)).collect();
    (0..MOST / 2).for_each(|_| assert_ne!(send(30), Ticket::UNTRACKED));
    router.finish(old[0], Finish::Completed, None);
    assert_ne!(send(31), Ticket::UNTRACKED);
    // More than there are parts of the table.
    (0..40).for_each(|_| assert_eq!(send(59), Ticket::UNTRACKED));
    (0..MOST / 2 - 1).for_each(|_| assert_ne!(send(60), Ticket::UNTRACKED));
    assert_eq!((send(60), router.counters().in_flight), (Ticket::UNTRACKED, MOST));
}

#[test]
fn a_full_table_is_not_searched_for_old_requests_at_each_dispatch() {
    let (router, _) = router_of(&["a"]);
    let context = HashContext::default();
    let mut workspace = Workspace::default();
    let mut send = || {
        let start = Instant::now();
        let request = Request::new(&[1], &context);
        (router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap().ticket, start.elapsed())
    };
    let tracked: Duration = (0..Router::MAX_REQUESTS).map(|_| send().1).sum();
    let untracked = (0..200).map(|_| send()).inspect(|sent| assert_eq!(sent.0, Ticket::UNTRACKED));
    // The quickest of many against a mean, so that a busy machine only makes it easier.
    let (untracked, tracked) = (untracked.map(|sent| sent.1).min(), tracked / Router::MAX_REQUESTS as u32);
    assert!(untracked < Some(tracked * 20), "{untracked:?}, while there was room {tracked:?}");
}

#[test]
fn a_ticket_with_any_bit_changed_names_no_request() {
    let (router, _) = router_of(&["a"]);
    let context = HashContext::default();
    let request = Request::new(&[1], &context);
    let ticket = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap().ticket;
    for bit in 0..u64::BITS {
        let changed = Ticket::from_u64(ticket.as_u64() ^ 1 << bit);
        assert!(!router.finish(changed, Finish::Completed, None), "bit {bit}");
    }
    assert!(router.finish(ticket, Finish::Completed, None));
}

#[test]
fn no_more_than_two_million_tokens_are_booked_for_one_request() {
    let (router, pods) = router_of(&["a"]);
    let (text, context) = (vec![b'x'; 12 << 20], HashContext::default());
    let request = Request::from_text(&text, &context);
    let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    assert_eq!(dispatch.decision.uncached_tokens, 3 << 20);
    // So that all that can be in flight fits in one number.
    assert_eq!(bookings(&router, pods[0]), of(1, 1 << 21));
    router.finish(dispatch.ticket, Finish::Completed, None);
    assert_eq!(bookings(&router, pods[0]), of(0, 0));
}

#[test]
fn the_largest_load_report_is_one_too() {
    let (router, pods) = router_of(&["a"]);
    router.report_load(pods[0], load(u32::MAX, u32::MAX)).unwrap();
    assert!(router.pod_by_id(pods[0]).unwrap().load().is_some());
}

#[derive(Clone, Debug)]
enum Act {
    Dispatch { prompt: u32, blocks: usize, session: Option<u8> },
    FirstToken(usize),
    Finish(usize, Finish, Option<usize>),
    Wait(u64),
    Expire,
    Drain(usize, bool),
    Replace(usize),
    Foreign(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let how = prop_oneof![Just(Finish::Completed), Just(Finish::Failed), Just(Finish::Cancelled)];
    let act = prop_oneof![
        6 => (0..6_u32, 0..11_usize, prop::option::of(0..3_u8))
            .prop_map(|(prompt, blocks, session)| Act::Dispatch { prompt, blocks, session }),
        3 => (0..40_usize).prop_map(Act::FirstToken),
        3 => (0..40_usize, how, prop::option::of(0..50_usize)).prop_map(|(n, how, c)| Act::Finish(n, how, c)),
        1 => (0..40_u64).prop_map(Act::Wait),
        1 => Just(Act::Expire),
        1 => (0..5_usize, any::<bool>()).prop_map(|(pod, accepting)| Act::Drain(pod, accepting)),
        1 => (0..5_usize).prop_map(Act::Replace),
        1 => any::<u64>().prop_map(Act::Foreign),
    ];
    prop::collection::vec(act, 1..80)
}

/// A request as a reader of the documentation would keep book of it.
struct Open {
    since: u64,
    /// Pod, requests, tokens.
    booked: Vec<(PodId, u32, u64)>,
}

proptest! {
    #[test]
    fn bookings_are_those_of_the_requests_in_flight_whatever_happens(acts in acts()) {
        const TTL: u64 = 60;
        let options = RouterOptions { request_ttl: seconds(TTL), max_requests: 32, ..RouterOptions::default() };
        let profile = Profile::llm_d_demo(Role::Prefill);
        let prefill = Some(PrefillPolicy::new(profile, 25));
        let router = Router::new(options, Policy { prefill, ..demo_policy() }).unwrap();
        let roles = [Role::Decode, Role::Decode, Role::Both, Role::Prefill, Role::Prefill];
        let add = |n: usize| {
            let spec = PodSpec::new(format!("pod-{n}"), domain("model", BLOCK_SIZE));
            router.add_pod(PodSpec { role: roles[n], ..spec }).unwrap()
        };
        let mut pods: Vec<_> = (0..roles.len()).map(add).collect();
        let (mut now, mut tickets, mut open) = (0, Vec::new(), HashMap::new());
        let mut workspace = Workspace::default();
        let context = HashContext::default();
        for act in acts {
            match act {
                Act::Dispatch { prompt: seed, blocks, session } => {
                    let token_ids = &prompt(seed)[..blocks * 4];
                    let id = session.map(|s| format!("s{s}"));
                    let session = id.as_deref().map(Session::Id);
                    let request = Request { session, ..Request::new(token_ids, &context) };
                    let Ok(dispatch) = router.dispatch(&request, seconds(now), &mut workspace) else { continue };
                    prop_assert_eq!((dispatch.retries, dispatch.contended), (0, false));
                    let decision = dispatch.decision;
                    let booked = match decision.prefill {
                        None => vec![(decision.pod, 1, decision.uncached_tokens as u64)],
                        Some(p) => vec![(decision.pod, 1, 0), (p.pod, 1, p.uncached_tokens as u64)],
                    };
                    if dispatch.ticket == Ticket::UNTRACKED {
                        prop_assert!(open.len() >= 32);
                    } else {
                        tickets.push(dispatch.ticket);
                        open.insert(dispatch.ticket, Open { since: now, booked });
                    }
                    // A full table makes room for a dispatch by itself.
                    if router.counters().in_flight < open.len() {
                        open.retain(|_, request: &mut Open| now - request.since < TTL);
                    }
                }
                Act::FirstToken(n) => {
                    let Some(&ticket) = tickets.get(n) else { continue };
                    router.first_token(ticket);
                    if let Some(request) = open.get_mut(&ticket) {
                        request.booked.truncate(1);
                        request.booked[0].2 = 0;
                    }
                }
                Act::Finish(n, how, counted) => {
                    let Some(&ticket) = tickets.get(n) else { continue };
                    prop_assert_eq!(router.finish(ticket, how, counted), open.remove(&ticket).is_some());
                }
                Act::Wait(time) => now += time,
                Act::Expire => {
                    let before = open.len();
                    open.retain(|_, request| now - request.since < TTL);
                    prop_assert_eq!(router.expire(seconds(now)), before - open.len());
                }
                Act::Drain(pod, accepting) => router.set_accepting(pods[pod], accepting).unwrap(),
                Act::Replace(pod) => {
                    router.remove_pod(pods[pod]).unwrap();
                    pods[pod] = add(pod);
                }
                Act::Foreign(number) => {
                    let ticket = Ticket::from_u64(number);
                    let known = open.contains_key(&ticket);
                    prop_assert_eq!(router.finish(ticket, Finish::Failed, None), known);
                    open.remove(&ticket);
                }
            }
            for &pod in &pods {
                let all = open.values().flat_map(|request| &request.booked).filter(|booked| booked.0 == pod);
                let sum = all.fold(of(0, 0), |sum, b| of(sum.requests + b.1, sum.prefill_tokens + b.2));
                prop_assert_eq!(bookings(&router, pod), sum);
            }
            prop_assert_eq!(router.counters().in_flight, open.len());
        }
        for ticket in tickets {
            router.finish(ticket, Finish::Completed, None);
        }
        for &pod in &pods {
            prop_assert_eq!(bookings(&router, pod), of(0, 0));
            router.remove_pod(pod).unwrap();
        }
        prop_assert_eq!(router.counters().in_flight, 0);
        prop_assert_eq!((router.index().blocks(), router.index().bytes()), (0, 0));
    }
}
