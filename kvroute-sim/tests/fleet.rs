//! Pods that work, share, drain, die and return in virtual time.

use kvroute_core::hash::{HashSeed, VllmAlgorithm, VllmEra, VllmScheme};
use kvroute_core::{LoadReport, Role};
use kvroute_sim::engine::EngineOptions;
use kvroute_sim::fleet::{
    Finish, FleetOptions, Placement, PodChange, PodEvent, PodSpec, PodView, Policy, RequestRecord,
    RoundRobin, run,
};
use kvroute_sim::timing::Timing;
use kvroute_sim::workload::{FleetRequest, SharedPrefixLoad};

/// What a policy saw, in words that can be compared.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Batch { pod: usize, sequence: u64, at: f64 },
    Report { pod: usize, at: f64 },
    Prefilled(u64),
    First(u64),
    Finish(u64, Finish),
    Failure(u64),
    Pod { pod: usize, event: PodEvent, in_flight: usize },
}

/// Places requests by a function of their number and try, and notes all it sees.
struct Spy<F> {
    place: F,
    seen: Vec<Seen>,
}

impl<F: FnMut(&FleetRequest, &[PodView]) -> Placement> Spy<F> {
    fn new(place: F) -> Self {
        Self { place, seen: Vec::new() }
    }
}

impl<F: FnMut(&FleetRequest, &[PodView]) -> Placement> Policy for Spy<F> {
    fn place(&mut self, request: &FleetRequest, pods: &[PodView], _: f64) -> Placement {
        (self.place)(request, pods)
    }

    fn on_batch(&mut self, pod: usize, sequence: u64, _: &[u8], at: f64) {
        self.seen.push(Seen::Batch { pod, sequence, at });
    }

    fn on_report(&mut self, pod: usize, _: LoadReport, at: f64) {
        self.seen.push(Seen::Report { pod, at });
    }

    fn on_prefilled(&mut self, request: u64, _: f64) {
        self.seen.push(Seen::Prefilled(request));
    }

    fn on_first_token(&mut self, request: u64, _: f64) {
        self.seen.push(Seen::First(request));
    }

    fn on_finish(&mut self, request: u64, finish: Finish, _: f64) {
        self.seen.push(Seen::Finish(request, finish));
    }

    fn on_failure(&mut self, request: u64, _: f64) {
        self.seen.push(Seen::Failure(request));
    }

    fn on_pod_event(&mut self, pod: usize, event: PodEvent, pods: &[PodView], _: f64) {
        self.seen.push(Seen::Pod { pod, event, in_flight: pods[pod].in_flight });
    }
}

fn pod(role: Role) -> PodSpec {
    let seed = HashSeed::Value("0".into());
    let scheme =
        VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &seed).expect("a seed is given");
    let engine = EngineOptions { num_blocks: 3000, scheme, ..EngineOptions::default() };
    let timing = Timing::H200_LLAMA_8B;
    PodSpec { name: format!("{role:?}"), role, engine, timing, models: Vec::new() }
}

fn fleet(roles: &[Role], changes: Vec<(f64, PodChange)>) -> FleetOptions {
    FleetOptions { changes, ..FleetOptions::new(roles.iter().map(|&role| pod(role)).collect()) }
}

/// A prompt of `tokens` tokens; all prompts begin alike.
fn request(id: u64, arrival: f64, tokens: u32) -> FleetRequest {
    let token_ids = (0..tokens).collect();
    FleetRequest { id, arrival, token_ids, output_tokens: 32, ..FleetRequest::default() }
}

fn records(
    options: &FleetOptions,
    requests: Vec<FleetRequest>,
    policy: &mut dyn Policy,
) -> Vec<RequestRecord> {
    run(options, requests, policy).expect("options are right")
}

fn load(count: u64) -> Vec<FleetRequest> {
    let load = SharedPrefixLoad {
        groups: 10,
        prefix_tokens: 1600,
        own_tokens: 100..=300,
        output_tokens: 32,
        rate: 20.0,
        count,
        seed: 5,
    };
    load.requests().collect()
}

#[test]
fn the_same_inputs_give_the_same_records() {
    let changes = vec![(2.0, PodChange::Die(1)), (4.0, PodChange::Return(1))];
    let options = fleet(&[Role::Both, Role::Both, Role::Both], changes);
    let once = records(&options, load(150), &mut RoundRobin::default());
    assert_eq!(once, records(&options, load(150), &mut RoundRobin::default()));
    assert_eq!(once.len(), 150);
    assert!(once.iter().all(|record| !record.is_failed()));
}

#[test]
fn a_prompt_that_came_before_is_cached_and_answered_sooner() {
    let options = fleet(&[Role::Both], vec![]);
    let mut spy = Spy::new(|_: &FleetRequest, _: &[PodView]| Placement::on(0));
    let both = records(&options, vec![request(7, 0.0, 8000), request(8, 5.0, 8000)], &mut spy);
    let [new, cached] = both.as_slice() else { panic!("two records") };
    let held = |record: &RequestRecord| record.decode.map(|used| (used.announced_tokens, used.cached_tokens));
    assert_eq!(held(new), Some((0, Some(0))));
    assert_eq!(held(cached), Some((7984, Some(7984))));
    assert!(cached.time_to_first_token() < new.time_to_first_token().map(|seconds| 0.2 * seconds));
    let finish = Finish { pod: 0, prompt_tokens: 8000, cached_tokens: 7984 };
    assert_eq!(spy.seen.last(), Some(&Seen::Finish(8, finish)));
    let reports: Vec<f64> = spy
        .seen
        .iter()
        .filter_map(|seen| if let Seen::Report { at, .. } = seen { Some(*at) } else { None })
        .collect();
    assert_eq!(reports, [1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_decode_pod_gets_only_what_it_does_not_hold() {
    let options = fleet(&[Role::Decode, Role::Prefill], vec![]);
    let place = |request: &FleetRequest, _: &[PodView]| Placement {
        decode: 0,
        prefill: (request.token_ids.len() > 1000).then_some(1),
    };
    let mut spy = Spy::new(place);
    let both = records(&options, vec![request(0, 0.0, 800), request(1, 2.0, 4000)], &mut spy);
    assert_eq!(both[0].prefill, None);
    let long = &both[1];
    assert_eq!(long.decode.and_then(|used| used.cached_tokens), Some(800));
    assert_eq!(long.prefill.and_then(|used| used.cached_tokens), Some(0));
    assert_eq!(long.transferred_tokens, 3200);
    let of_long: Vec<_> =
        spy.seen.iter().filter(|seen| matches!(seen, Seen::Prefilled(_) | Seen::First(1))).collect();
    assert_eq!(of_long, [&Seen::Prefilled(1), &Seen::First(1)]);
    // Both pods hold it now, and have said so.
    let again = vec![request(0, 0.0, 4000), request(1, 2.0, 4000)];
    let both = records(&options, again, &mut Spy::new(place));
    assert_eq!(both[1].decode.map(|used| used.announced_tokens), Some(3984));
    assert_eq!(both[1].prefill.map(|used| used.announced_tokens), Some(3984));
    assert_eq!(both[1].transferred_tokens, 16);
}

#[test]
fn a_dead_pods_requests_are_placed_again_and_it_returns_empty() {
    let changes = vec![(0.1, PodChange::Die(0)), (3.0, PodChange::Return(0))];
    let options = fleet(&[Role::Both, Role::Both], changes);
    // Pod 0 if it is there, else pod 1.
    let mut spy =
        Spy::new(|_: &FleetRequest, pods: &[PodView]| Placement::on(usize::from(!pods[0].accepting)));
    let requests = vec![request(0, 0.0, 800), request(1, 0.06, 8000), request(2, 6.0, 8000)];
    let three = records(&options, requests, &mut spy);
    let pods: Vec<_> =
        three.iter().map(|record| (record.tries, record.decode.map(|used| used.pod))).collect();
    assert_eq!(pods, [(2, Some(1)), (2, Some(1)), (1, Some(0))]);
    assert!(three[0].first_token < Some(0.1), "the client had its first token before");
    assert!(three[1].first_token > Some(0.1));
    assert_eq!(three[2].decode.map(|used| (used.announced_tokens, used.cached_tokens)), Some((0, Some(0))));
    let died = Seen::Pod { pod: 0, event: PodEvent::Died, in_flight: 0 };
    let place = spy.seen.iter().position(|seen| *seen == died).expect("the death is told");
    assert_eq!(spy.seen[place + 1..place + 3], [Seen::Failure(0), Seen::Failure(1)]);
    let after = spy.seen.iter().find(|seen| matches!(seen, Seen::Batch { pod: 0, at, .. } if *at > 3.0));
    assert!(matches!(after, Some(Seen::Batch { sequence: 0, .. })), "{after:?}");
}

#[test]
fn a_prefill_pods_death_fails_what_still_needs_it() {
    // A transfer takes 10 s here: the prefill pod dies during it.
    let mut options = fleet(&[Role::Decode, Role::Prefill], vec![(2.0, PodChange::Die(1))]);
    options.pods[0].timing.transfer_latency = 10.0;
    let place =
        |_: &FleetRequest, pods: &[PodView]| Placement { decode: 0, prefill: pods[1].accepting.then_some(1) };
    let mut spy = Spy::new(place);
    let one = records(&options, vec![request(0, 0.0, 4000)], &mut spy);
    assert_eq!((one[0].tries, one[0].prefill, one[0].transferred_tokens), (2, None, 0));
    assert!(one[0].finished < Some(3.0), "computed by the decode pod itself");
    assert!(spy.seen.contains(&Seen::Prefilled(0)) && spy.seen.contains(&Seen::Failure(0)));
}

#[test]
fn a_draining_pod_finishes_what_it_has_and_a_new_pod_gets_the_rest() {
    let changes = vec![(0.05, PodChange::Drain(0)), (1.0, PodChange::Join(pod(Role::Both)))];
    let options = fleet(&[Role::Both], changes);
    let requests = vec![request(0, 0.0, 800), request(1, 0.5, 800), request(2, 1.5, 800)];
    let three = records(&options, requests, &mut RoundRobin::default());
    let pods: Vec<_> = three.iter().map(|record| record.decode.map(|used| used.pod)).collect();
    assert_eq!(pods, [Some(0), None, Some(1)]);
    let failed: Vec<_> = three.iter().map(RequestRecord::is_failed).collect();
    assert_eq!(failed, [false, true, false]);
}

#[test]
fn the_gateways_counts_come_back_to_zero() {
    let options = fleet(&[Role::Both, Role::Prefill, Role::Both], vec![(2.0, PodChange::Die(2))]);
    let mut last = Vec::new();
    let mut requests = load(80);
    requests.push(request(80, 1000.0, 16));
    let mut spy = Spy::new(|request: &FleetRequest, pods: &[PodView]| {
        last = pods.iter().map(|pod| pod.in_flight).collect();
        let decode = if request.id.is_multiple_of(2) && pods[2].accepting { 2 } else { 0 };
        Placement { decode, prefill: request.id.is_multiple_of(3).then_some(1) }
    });
    let all = records(&options, requests, &mut spy);
    assert!(all.iter().all(|record| !record.is_failed()));
    assert!(all.iter().any(|record| record.tries > 1));
    assert_eq!(last, [0, 0, 0]);
}
