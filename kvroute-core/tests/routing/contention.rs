//! Several that dispatch at once: who is overtaken decides again, and no booking is lost or left behind.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;

use kvroute_core::candidate::Candidates;
use kvroute_core::filter::RoleFilter;
use kvroute_core::score::{LoadScorer, Scorer};

use super::*;

/// Dispatches a request of its own while another is being scored, as another thread might, so many times.
#[derive(Debug)]
struct Overtake {
    router: Arc<OnceLock<Router>>,
    left: AtomicU32,
    /// Scoring its own request.
    within: AtomicBool,
    /// Times that others' requests were scored.
    scored: Arc<AtomicU32>,
}

impl Scorer for Overtake {
    fn name(&self) -> &'static str {
        "overtake"
    }

    fn score(&self, _: &Candidates<'_>, _: &mut [f64]) {
        if self.within.swap(true, Ordering::SeqCst) {
            return;
        }
        self.scored.fetch_add(1, Ordering::SeqCst);
        if self.left.load(Ordering::SeqCst) > 0 {
            self.left.fetch_sub(1, Ordering::SeqCst);
            send_one(self.router.get().unwrap());
        }
        self.within.store(false, Ordering::SeqCst);
    }
}

/// Dispatches a request that goes where all like it go as long as loads are even.
fn send_one(router: &Router) -> Dispatch {
    let context = HashContext::default();
    let request = Request { nonce: Some(5), ..Request::new(&[1], &context) };
    router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap()
}

/// A router whose first `times` decisions are overtaken, with pods of these roles; and how often it decided.
fn overtaken(times: u32, roles: &[Role]) -> (Arc<OnceLock<Router>>, Vec<PodId>, Arc<AtomicU32>) {
    let (cell, scored) = (Arc::new(OnceLock::new()), Arc::new(AtomicU32::new(0)));
    let overtake = Overtake {
        router: Arc::clone(&cell),
        left: AtomicU32::new(times),
        within: AtomicBool::new(false),
        scored: Arc::clone(&scored),
    };
    let decode = Profile::builder("decode").filter(RoleFilter::new(Role::Decode));
    let decode = decode.scorer(overtake, 1.0).scorer(LoadScorer::default(), 1.0).build().unwrap();
    let profile = Profile::llm_d_demo(Role::Prefill);
    let prefill = Some(PrefillPolicy::new(profile, 20));
    let router = Router::new(RouterOptions::default(), Policy { prefill, ..Policy::from(decode) }).unwrap();
    let add = |(n, &role): (usize, &Role)| {
        let spec = PodSpec::new(format!("pod-{n}"), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { role, ..spec }).unwrap()
    };
    let pods = roles.iter().enumerate().map(add).collect();
    cell.set(router).unwrap();
    (cell, pods, scored)
}

#[test]
fn who_is_overtaken_decides_again_by_the_new_bookings() {
    let (router, pods, scored) = overtaken(1, &[Role::Decode; 2]);
    let router = router.get().unwrap();
    let dispatch = send_one(router);
    assert_eq!((dispatch.retries, dispatch.contended, scored.load(Ordering::SeqCst)), (1, false, 2));
    assert!(pods.iter().all(|&pod| bookings(router, pod) == of(1, 1)), "the other pod was idle still");
}

#[test]
fn who_is_overtaken_again_and_again_is_booked_all_the_same_after_the_last_retry() {
    let (router, pods, scored) = overtaken(u32::MAX, &[Role::Decode]);
    let router = router.get().unwrap();
    let dispatch = send_one(router);
    assert_eq!((dispatch.retries, dispatch.contended), (Router::MAX_RETRIES, true));
    let decisions = 1 + Router::MAX_RETRIES;
    assert_eq!(scored.load(Ordering::SeqCst), decisions);
    assert_eq!(bookings(router, pods[0]).requests, decisions + 1, "those that overtook it, and it");
}

#[test]
fn who_is_overtaken_at_the_decode_pod_leaves_no_booking_at_the_prefill_pod() {
    let (router, pods, _) = overtaken(2, &[Role::Decode, Role::Prefill]);
    let router = router.get().unwrap();
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let request = Request::new(&token_ids, &context);
    let dispatch = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    assert_eq!((dispatch.retries, dispatch.contended), (2, false));
    assert_eq!(bookings(router, pods[1]), of(1, 41));
}

#[test]
fn only_the_last_decision_of_one_who_was_overtaken_is_explained() {
    let roles = [Role::Decode, Role::Decode, Role::Prefill];
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let request = Request { nonce: Some(5), ..Request::new(&token_ids, &context) };
    let undisturbed = overtaken(0, &roles).0;
    let first =
        undisturbed.get().unwrap().decide(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    assert!(first.prefill.is_some());
    let (router, pods, _) = overtaken(1, &roles);
    let router = router.get().unwrap();
    // The pod it goes to in the end has most of the prompt, and needs no prefill pod.
    let other = pods[1 - first.pod.slot()];
    store(router, other, &token_ids, 9, Tier::Gpu);
    let mut workspace = Workspace::default();
    let decision = router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap().decision;
    assert_eq!((decision.pod, decision.prefill), (other, None));
    assert!(router.explain(&workspace).prefill.is_none());
}

#[test]
fn concurrent_dispatches_book_each_request_once_and_spread_over_even_pods() {
    let (router, pods) = router_of(&["a", "b", "c", "d"]);
    let (router, threads, each) = (&router, 4, 500);
    let tickets: Vec<Ticket> = thread::scope(|scope| {
        let send = |thread: u32| {
            scope.spawn(move || {
                let context = HashContext::default();
                let mut workspace = Workspace::default();
                let mut send = |n: u32| {
                    let token_ids = prompt(thread * each + n);
                    let request = Request::new(&token_ids, &context);
                    router.dispatch(&request, Duration::ZERO, &mut workspace).unwrap().ticket
                };
                (0..each).map(&mut send).collect::<Vec<_>>()
            })
        };
        let running: Vec<_> = (0..threads).map(send).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let all = threads * each;
    let booked: Vec<_> = pods.iter().map(|&pod| bookings(router, pod)).collect();
    assert_eq!(booked.iter().map(|b| b.requests).sum::<u32>(), all);
    assert_eq!(booked.iter().map(|b| b.prefill_tokens).sum::<u64>(), u64::from(all) * 41);
    // Up to 128 requests the load scorer keeps them even; beyond, all are as busy as can be.
    assert!(booked.iter().all(|b| b.requests >= 128), "{booked:?}");
    tickets.into_iter().for_each(|ticket| assert!(router.finish(ticket, Finish::Completed, None)));
    assert!(pods.iter().all(|&pod| bookings(router, pod) == of(0, 0)));
}

#[test]
fn pods_that_go_and_come_back_while_requests_are_in_flight_leave_nothing_behind() {
    const REPLACED: usize = 100;
    let (router, pods) = router_of(&["0", "1", "2", "3", "4", "5"]);
    let (router, stop) = (&router, &AtomicBool::new(false));
    let pods: &Vec<_> = &pods.into_iter().map(Mutex::new).collect();
    // Far from random, and enough to mix what the threads do.
    let next = |n: &mut u32| {
        *n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*n >> 8) as usize
    };
    let gone: Vec<_> = thread::scope(|scope| {
        for mut n in 0..3 {
            scope.spawn(move || {
                let (context, mut workspace) = (HashContext::default(), Workspace::default());
                let mut open = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let token_ids = prompt(next(&mut n) as u32 % 50);
                    let request = Request::new(&token_ids[..next(&mut n) % 41], &context);
                    // For a moment there may be no pod.
                    let sent = router.dispatch(&request, Duration::ZERO, &mut workspace);
                    open.extend(sent.ok().map(|dispatch| dispatch.ticket));
                    let pod = *pods[next(&mut n) % pods.len()].lock().unwrap();
                    let events = match next(&mut n) % 16 {
                        0 => vec![KvEvent::Cleared],
                        1 => vec![KvEvent::Stored(stored(&token_ids, 10, Tier::Gpu))],
                        _ => Vec::new(),
                    };
                    let batch = EventBatch { events, ..EventBatch::default() };
                    // The pod may be gone by now.
                    let _ = router.index().apply_events(pod, &batch);
                    if open.len() > 20 {
                        let ticket = open.swap_remove(next(&mut n) % 20);
                        let how = if next(&mut n) % 2 == 0 { Finish::Failed } else { Finish::Completed };
                        assert!(router.finish(ticket, how, None));
                    }
                }
                open.into_iter().for_each(|ticket| assert!(router.finish(ticket, Finish::Failed, None)));
            });
        }
        let replace = |number: usize| {
            let at = number % pods.len();
            let mut pod = pods[at].lock().unwrap();
            let gone = router.pod_by_id(*pod).unwrap();
            router.remove_pod(*pod).unwrap();
            *pod = router.add_pod(PodSpec::new(at.to_string(), domain("model", BLOCK_SIZE))).unwrap();
            thread::yield_now();
            gone
        };
        let gone = (0..REPLACED).map(replace).collect();
        stop.store(true, Ordering::SeqCst);
        gone
    });
    assert!(gone.iter().all(|pod: &Arc<RoutedPod>| pod.bookings() == of(0, 0)));
    for pod in pods {
        let pod = *pod.lock().unwrap();
        assert_eq!(bookings(router, pod), of(0, 0));
        router.remove_pod(pod).unwrap();
    }
    let index = router.index();
    assert_eq!((index.blocks(), index.bytes(), index.view_bytes()), (0, 0, 0));
    assert_eq!(router.counters().in_flight, 0);
}
