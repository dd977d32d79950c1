//! Several routers that tell each other what they do: each decides as if it had done all of it.

use std::collections::VecDeque;

use kvroute_core::{PeerOptions, PeerReport, Telling};
use proptest::prelude::*;

use super::*;

const NOW: Duration = seconds(100);

fn member(life: u64, pods: &[&str]) -> (Router, Vec<PodId>) {
    let (router, ids) = router_of(pods);
    router.join_peers(life, &format!("replica-{life}"), PeerOptions::default()).unwrap();
    (router, ids)
}

fn pair() -> ([Router; 2], Vec<PodId>) {
    let ((a, pods), (b, _)) = (member(1, &["x", "y"]), member(2, &["x", "y"]));
    ([a, b], pods)
}

fn dispatch(router: &Router, token_ids: &[u32], session: Option<&str>) -> Dispatch {
    let context = HashContext::default();
    let request = Request { session: session.map(Session::Id), ..Request::new(token_ids, &context) };
    router.dispatch(&request, NOW, &mut Workspace::default()).unwrap()
}

fn hear(to: &Router, report: &[u8]) -> PeerReport {
    to.apply_peer_report(report, Duration::ZERO, NOW).unwrap()
}

fn tell(from: &Router, to: &Router, what: Telling) -> PeerReport {
    hear(to, &from.report_to_peers(what).unwrap())
}

fn by_peers(router: &Router, pod: PodId) -> Bookings {
    router.pod_by_id(pod).unwrap().peer_bookings()
}

#[test]
fn what_one_books_the_other_counts_until_it_is_given_back() {
    let ([a, b], pods) = pair();
    let sent = dispatch(&a, &prompt(1), None);
    let pod = sent.decision.pod;
    tell(&a, &b, Telling::News);
    assert_eq!((by_peers(&b, pod), bookings(&b, pod)), (of(1, 41), of(0, 0)));
    let context = HashContext::default();
    let (token_ids, other) = (prompt(2), if pod == pods[0] { pods[1] } else { pods[0] });
    assert_eq!(dispatch(&b, &token_ids, None).decision.pod, other, "it is the one with nothing in flight");
    let seen = explained(&b, &Request::new(&token_ids, &context), NOW);
    let row = seen.pods.iter().find(|row| row.pod == b.pod_by_id(pod).unwrap().name()).unwrap();
    assert_eq!((row.booked, row.in_flight), (of(1, 41), 1));

    a.first_token(sent.ticket);
    tell(&a, &b, Telling::News);
    assert_eq!(by_peers(&b, pod), of(1, 0));
    a.finish(sent.ticket, Finish::Completed, None);
    tell(&a, &b, Telling::News);
    assert_eq!(by_peers(&b, pod), of(0, 0));
    assert_eq!(a.report_to_peers(Telling::News), None, "nothing happened since");
}

#[test]
fn a_prefix_that_one_sent_somewhere_draws_the_others_requests_there_and_so_does_its_conversation() {
    let ([a, b], pods) = pair();
    // Events of something else: what is sent counts for a moment only.
    [&a, &b].into_iter().for_each(|router| store(router, pods[0], &prompt(900), 1, Tier::Gpu));
    let shared = prompt(3);
    let sent = dispatch(&a, &shared, Some("conversation"));
    tell(&a, &b, Telling::News);
    let context = HashContext::default();
    let rows = explained(&b, &Request::new(&shared, &context), NOW).pods;
    let row = rows.iter().find(|row| row.pod == b.pod_by_id(sent.decision.pod).unwrap().name()).unwrap();
    assert_eq!((row.speculative_blocks > 0, row.predicted_blocks), (sent.decision.pod == pods[0], 10));
    assert_eq!(dispatch(&b, &prompt(4), Some("conversation")).decision.pod, sent.decision.pod);

    // It failed: what it alone was expected to bring is not there, and nobody is at home there.
    a.finish(sent.ticket, Finish::Failed, None);
    let after = dispatch(&b, &prompt(5), None);
    b.finish(after.ticket, Finish::Cancelled, None);
    tell(&a, &b, Telling::News);
    let rows = explained(&b, &Request::new(&shared, &context), NOW).pods;
    assert!(rows.iter().all(|row| row.predicted_blocks == 0 && row.speculative_blocks == 0));
}

#[test]
fn both_pods_of_a_request_with_a_prefill_pod_are_counted_and_the_prefill_pod_until_the_first_token() {
    let make = |life| {
        let prefill = PrefillPolicy::new(Profile::llm_d_demo(Role::Prefill), 100);
        let policy = Policy { prefill: Some(prefill), ..demo_policy() };
        let router = Router::new(RouterOptions::default(), policy).unwrap();
        let domain = domain("model", BLOCK_SIZE);
        let spec = |name: &str, role| PodSpec { role, ..PodSpec::new(name, Arc::clone(&domain)) };
        let prefill = router.add_pod(spec("prefill", Role::Prefill)).unwrap();
        let decode = router.add_pod(spec("decode", Role::Decode)).unwrap();
        router.join_peers(life, "", PeerOptions::default()).unwrap();
        (router, prefill, decode)
    };
    let ((a, prefill, decode), (b, ..)) = (make(1), make(2));
    let token_ids: Vec<u32> = (0..4000).collect();
    let sent = dispatch(&a, &token_ids, None);
    assert_eq!(sent.decision.prefill.map(|p| p.pod), Some(prefill), "{:?}", sent.decision);
    tell(&a, &b, Telling::News);
    assert_eq!((by_peers(&b, prefill), by_peers(&b, decode)), (of(1, 4000), of(1, 0)));
    a.first_token(sent.ticket);
    tell(&a, &b, Telling::Statement);
    assert_eq!((by_peers(&b, prefill), by_peers(&b, decode)), (of(0, 0), of(1, 0)));
    a.finish(sent.ticket, Finish::Completed, None);
    tell(&a, &b, Telling::News);
    assert_eq!((by_peers(&b, prefill), by_peers(&b, decode)), (of(0, 0), of(0, 0)));
}

#[test]
fn a_report_that_comes_twice_changes_nothing_and_a_lost_one_is_healed_by_the_next_statement() {
    let ([a, b], pods) = pair();
    let sent = dispatch(&a, &prompt(1), None);
    let first = a.report_to_peers(Telling::News).unwrap();
    assert!(!hear(&b, &first).is_repeated);
    assert!(hear(&b, &first).is_repeated);
    assert_eq!(by_peers(&b, sent.decision.pod), of(1, 41));

    a.finish(sent.ticket, Finish::Completed, None);
    let _lost = a.report_to_peers(Telling::News).unwrap();
    let other = dispatch(&a, &prompt(2), None);
    assert_eq!(tell(&a, &b, Telling::News).lost, 1);
    let total = |router: &Router| pods.iter().map(|&pod| by_peers(router, pod).requests).sum::<u32>();
    assert_eq!(total(&b), 2, "the one that ended is still counted");
    assert!(!b.peers(NOW)[0].is_whole);
    tell(&a, &b, Telling::Statement);
    assert_eq!((total(&b), by_peers(&b, other.decision.pod)), (1, of(1, 41)));
    assert!(b.peers(NOW)[0].is_whole);
}

#[test]
fn a_peer_that_dies_is_forgotten_and_one_that_says_farewell_is_at_once() {
    let ([a, b], _) = pair();
    let sent = dispatch(&a, &prompt(1), None);
    let pod = sent.decision.pod;
    tell(&a, &b, Telling::News);
    assert_eq!(b.expire_peers(NOW + seconds(4)), 0);
    assert_eq!(by_peers(&b, pod), of(1, 41));
    assert_eq!(b.expire_peers(NOW + seconds(5)), 1);
    assert_eq!((by_peers(&b, pod), b.peers(NOW).len()), (of(0, 0), 0));

    // It was only stopped for a while: the next statement brings all of it back.
    tell(&a, &b, Telling::Statement);
    assert_eq!(by_peers(&b, pod), of(1, 41));
    tell(&a, &b, Telling::Farewell);
    assert_eq!((by_peers(&b, pod), b.peers(NOW).len()), (of(0, 0), 0));
    assert_eq!(a.report_to_peers(Telling::Statement), None, "it left");
}

#[test]
fn its_own_reports_are_told_from_others_and_what_is_older_is_heard_as_such() {
    let ([a, b], _) = pair();
    dispatch(&a, &prompt(1), None);
    let report = a.report_to_peers(Telling::Statement).unwrap();
    assert!(hear(&a, &report).is_own);
    b.apply_peer_report(&report, seconds(3), NOW).unwrap();
    let status = b.peers(NOW);
    assert_eq!((status[0].silent_for, &*status[0].name, status[0].in_flight), (seconds(3), "replica-1", 1));
    assert_eq!(b.expire_peers(NOW + seconds(2)), 1);
}

#[test]
fn what_one_knows_of_a_conversation_is_not_overruled_by_what_a_peer_did_before() {
    let ([a, b], _) = pair();
    let theirs = dispatch(&a, &prompt(1), Some("c")).decision.pod;
    let report = a.report_to_peers(Telling::News).unwrap();
    // By load it goes to the other pod here, later.
    let context = HashContext::default();
    let busy = b.pods().iter().find(|pod| pod.id() == theirs).unwrap().id();
    b.report_load(busy, load(50, 9)).unwrap();
    let request = Request { session: Some(Session::Id("c")), ..Request::new(&[7; 40], &context) };
    let own = b.dispatch(&request, NOW + seconds(1), &mut Workspace::default()).unwrap().decision.pod;
    assert_ne!(own, theirs);
    b.apply_peer_report(&report, seconds(1), NOW + seconds(1)).unwrap();
    let again = b.decide(&request, NOW + seconds(1), &mut Workspace::default()).unwrap();
    assert_eq!(again.pod, own);
}

#[test]
fn pods_that_are_not_here_and_blocks_that_mean_nothing_here_are_left_out_and_counted() {
    let (a, _) = member(1, &["x"]);
    let (b, _) = member(2, &["y"]);
    tell(&a, &b, Telling::Statement);
    dispatch(&a, &prompt(1), None);
    assert_eq!(tell(&a, &b, Telling::News).unknown_pods, 1);
    // The pod joins; what is in flight there comes with the next statement.
    let x = b.add_pod(PodSpec::new("x", domain("model", BLOCK_SIZE))).unwrap();
    tell(&a, &b, Telling::Statement);
    assert_eq!(by_peers(&b, x), of(1, 41));

    // Blocks of another size: load counts, blocks do not.
    let c = demo_router();
    let x = c.add_pod(PodSpec::new("x", domain("model", 8))).unwrap();
    c.join_peers(3, "", PeerOptions::default()).unwrap();
    dispatch(&a, &prompt(2), None);
    let outcome = tell(&a, &c, Telling::News);
    assert_eq!((outcome.unknown_blocks, by_peers(&c, x).requests, predicted(&c, x)), (1, 1, 0));
}

#[test]
fn a_pod_that_comes_back_as_another_gets_its_peers_requests_with_the_next_statement() {
    let ([a, b], _) = pair();
    let sent = dispatch(&a, &prompt(1), None);
    tell(&a, &b, Telling::News);
    let name = b.pod_by_id(sent.decision.pod).unwrap().name().to_owned();
    b.remove_pod(sent.decision.pod).unwrap();
    let back = b.add_pod(PodSpec::new(name, domain("model", BLOCK_SIZE))).unwrap();
    assert_eq!(by_peers(&b, back), of(0, 0));
    tell(&a, &b, Telling::Statement);
    assert_eq!(by_peers(&b, back), of(1, 41));
    a.finish(sent.ticket, Finish::Completed, None);
    tell(&a, &b, Telling::News);
    assert_eq!(by_peers(&b, back), of(0, 0));
}

#[test]
fn a_router_that_joined_nobody_writes_nothing_down_and_takes_nothing_in() {
    let (alone, _) = router_of(&["x"]);
    let (a, _) = member(1, &["x"]);
    dispatch(&alone, &prompt(1), None);
    assert_eq!(alone.report_to_peers(Telling::Statement), None);
    let report = a.report_to_peers(Telling::Statement).unwrap();
    assert!(alone.apply_peer_report(&report, Duration::ZERO, NOW).is_err());
    assert!(a.apply_peer_report(b"something else", Duration::ZERO, NOW).is_err());
    assert!(a.join_peers(1, &"x".repeat(257), PeerOptions::default()).is_err());
}

#[test]
fn more_than_is_kept_for_peers_is_stated_in_whole_instead() {
    let (a, _) = router_of(&["x", "y"]);
    a.join_peers(1, "", PeerOptions { max_journal_bytes: 5000, ..PeerOptions::default() }).unwrap();
    let (b, pods) = member(2, &["x", "y"]);
    tell(&a, &b, Telling::Statement);
    let sent: Vec<_> = (0..100).map(|seed| dispatch(&a, &prompt(seed), None)).collect();
    tell(&a, &b, Telling::News);
    let seen = pods.iter().map(|&pod| by_peers(&b, pod).requests).sum::<u32>();
    assert_eq!(seen, 100);
    sent.iter().for_each(|sent| assert!(a.finish(sent.ticket, Finish::Completed, None)));
    tell(&a, &b, Telling::News);
    assert!(pods.iter().all(|&pod| by_peers(&b, pod) == of(0, 0)));
}

#[test]
fn more_peers_than_are_allowed_are_refused() {
    let (a, _) = router_of(&["x"]);
    a.join_peers(1, "", PeerOptions { max_peers: 2, ..PeerOptions::default() }).unwrap();
    let refused: Vec<bool> =
        (2..5).map(|life| tell(&member(life, &["x"]).0, &a, Telling::Statement).is_refused).collect();
    assert_eq!(refused, [false, false, true]);
}

/// What happens to one of three routers.
#[derive(Clone, Debug)]
enum Step {
    Dispatch(u32),
    FirstToken(usize),
    Finish(usize, Finish),
    /// The report is carried to this router, is lost on the way, or comes twice.
    Tell(Telling, [u8; 3]),
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let how = prop_oneof![Just(Finish::Completed), Just(Finish::Failed), Just(Finish::Cancelled)];
    let telling = prop_oneof![4 => Just(Telling::News), 1 => Just(Telling::Statement)];
    let step = prop_oneof![
        4 => (0..6_u32).prop_map(Step::Dispatch),
        2 => any::<usize>().prop_map(Step::FirstToken),
        3 => (any::<usize>(), how).prop_map(|(at, how)| Step::Finish(at, how)),
        4 => (telling, prop::array::uniform3(0..3_u8)).prop_map(|(what, fate)| Step::Tell(what, fate)),
    ];
    prop::collection::vec((0..3_usize, step), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happened and whatever was lost or came twice: once each stated what it has, all see the same fleet, and
    /// once all is finished, nothing.
    #[test]
    fn after_a_statement_of_each_all_see_what_the_fleet_has(steps in steps()) {
        let names = ["x", "y", "z"];
        let members: Vec<_> = (1..=3).map(|life| member(life, &names)).collect();
        let routers: Vec<&Router> = members.iter().map(|(router, _)| router).collect();
        let pods = &members[0].1;
        let mut open: [Vec<Ticket>; 3] = Default::default();
        // What is on its way stays in order.
        let mut ways: [VecDeque<Vec<u8>>; 3] = Default::default();
        for (at, step) in steps {
            match step {
                Step::Dispatch(seed) => open[at].push(dispatch(routers[at], &prompt(seed), Some("s")).ticket),
                Step::FirstToken(n) if !open[at].is_empty() => {
                    routers[at].first_token(open[at][n % open[at].len()]);
                }
                Step::Finish(n, how) if !open[at].is_empty() => {
                    let n = n % open[at].len();
                    routers[at].finish(open[at].swap_remove(n), how, None);
                }
                Step::Tell(what, fate) => {
                    let Some(report) = routers[at].report_to_peers(what) else { continue };
                    for (to, times) in fate.into_iter().enumerate() {
                        (0..times).for_each(|_| ways[to].push_back(report.clone()));
                    }
                }
                _ => {}
            }
        }
        for (to, way) in ways.iter().enumerate() {
            way.iter().for_each(|report| { hear(routers[to], report); });
        }
        let state_all = || {
            for from in &routers {
                let report = from.report_to_peers(Telling::Statement).unwrap();
                routers.iter().for_each(|to| { hear(to, &report); });
            }
        };
        state_all();
        for &pod in pods {
            let own: Vec<_> = routers.iter().map(|router| bookings(router, pod)).collect();
            for (at, router) in routers.iter().enumerate() {
                let others = || own.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, own)| own);
                let expected =
                    of(others().map(|b| b.requests).sum(), others().map(|b| b.prefill_tokens).sum());
                prop_assert_eq!(by_peers(router, pod), expected);
            }
        }
        for (router, open) in routers.iter().zip(&open) {
            open.iter().for_each(|&ticket| { router.finish(ticket, Finish::Completed, None); });
        }
        state_all();
        for (router, &pod) in routers.iter().flat_map(|router| pods.iter().map(move |pod| (router, pod))) {
            prop_assert_eq!(by_peers(router, pod), of(0, 0));
        }
    }
}
