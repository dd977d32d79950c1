//! Clients that wait for answers, and policies that hash.

use kvroute_core::Role;
use kvroute_core::hash::{HashSeed, VllmAlgorithm, VllmEra, VllmScheme};
use kvroute_sim::engine::EngineOptions;
use kvroute_sim::fleet::{
    FleetOptions, HashRing, LeastInFlight, Placement, PodChange, PodSpec, PodView, Policy, RequestRecord,
    run, run_load,
};
use kvroute_sim::timing::Timing;
use kvroute_sim::workload::{ConversationLoad, FleetRequest, Script, UniqueLoad};

fn fleet(pods: usize, changes: Vec<(f64, PodChange)>) -> FleetOptions {
    let seed = HashSeed::Value("0".into());
    let scheme =
        VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &seed).expect("a seed is given");
    let engine = EngineOptions { scheme, ..EngineOptions::default() };
    let pod = |n| PodSpec {
        name: format!("pod-{n}"),
        role: Role::Both,
        engine: engine.clone(),
        timing: Timing::H200_LLAMA_8B,
        models: Vec::new(),
    };
    FleetOptions { changes, ..FleetOptions::new((0..pods).map(pod).collect()) }
}

fn chat(seed: u64) -> Script {
    ConversationLoad { think: 0.5, turns: 4..=4, ..ConversationLoad::chat(8.0, 120, seed) }.script()
}

fn play(script: &Script, fleet: &FleetOptions, policy: &mut dyn Policy) -> Vec<RequestRecord> {
    run_load(fleet, script.play(), policy).expect("options are right").records
}

/// Records of one session after the other, in order of arrival.
fn by_session(mut records: Vec<RequestRecord>) -> Vec<RequestRecord> {
    records.sort_by(|one, other| one.session.cmp(&other.session).then(one.arrival.total_cmp(&other.arrival)));
    records
}

#[test]
fn a_client_goes_on_when_it_was_answered_however_long_that_took() {
    let script = chat(1);
    // One pod is slow, eight are fast.
    let [slow, fast] = [1, 8].map(|pods| play(&script, &fleet(pods, vec![]), &mut LeastInFlight::seeded(1)));
    for records in [&slow, &fast] {
        assert_eq!(records.len(), script.len());
        assert!(records.is_sorted_by(|one, next| one.arrival <= next.arrival));
        let records = by_session(records.clone());
        let pairs = records.windows(2).filter(|pair| pair[0].session == pair[1].session);
        let pauses: Vec<f64> =
            pairs.map(|pair| pair[1].arrival - pair[0].finished.expect("it was answered")).collect();
        assert!(pauses.len() > script.len() / 2 && pauses.iter().all(|&pause| pause > 0.0));
    }
    let last = |records: &[RequestRecord]| records.last().map_or(0.0, |record| record.arrival);
    assert!(last(&slow) > last(&fast));
    let mut ids = [slow, fast].map(|records| records.iter().map(|record| record.id).collect::<Vec<_>>());
    ids.iter_mut().for_each(|ids| ids.sort_unstable());
    assert_eq!(ids[0], ids[1], "the same requests, at other times");
}

#[test]
fn what_was_answered_is_cached_when_the_conversation_goes_on() {
    let records = by_session(play(&chat(2), &fleet(1, vec![]), &mut LeastInFlight::seeded(1)));
    for pair in records.windows(2).filter(|pair| pair[0].session == pair[1].session) {
        let before = pair[0].prompt_tokens + pair[0].output_tokens as usize;
        let cached = pair[1].decode.and_then(|used| used.cached_tokens).expect("it was admitted");
        // The last generated token was not computed.
        assert_eq!(cached, (before - 1) / 16 * 16);
    }
}

#[test]
fn a_conversation_ends_with_a_request_that_fails() {
    let script = chat(3);
    let records = play(&script, &fleet(1, vec![(5.0, PodChange::Drain(0))]), &mut LeastInFlight::seeded(1));
    let failed = records.iter().filter(|record| record.is_failed()).count();
    assert!(failed > 0 && records.len() < script.len());
    let records = by_session(records);
    for pair in records.windows(2).filter(|pair| pair[0].session == pair[1].session) {
        assert!(!pair[0].is_failed());
    }
}

#[test]
fn a_pod_is_busy_while_its_engine_steps() {
    let script = UniqueLoad::new(4.0, 60, 4).script();
    let run =
        run_load(&fleet(3, vec![]), script.play(), &mut HashRing::sessions()).expect("options are right");
    let end = run.records.iter().filter_map(|record| record.finished).fold(0.0, f64::max);
    assert_eq!(run.busy.len(), 3);
    assert!(run.busy.iter().all(|&busy| 0.0 < busy && busy < end), "{:?} of {end}", run.busy);
}

/// The least loaded pod, with an eye on events or without.
struct Watching(LeastInFlight, bool, usize);

impl Policy for Watching {
    fn place(&mut self, request: &FleetRequest, pods: &[PodView], now: f64) -> Placement {
        self.0.place(request, pods, now)
    }

    fn reads_events(&self) -> bool {
        self.1
    }

    fn on_batch(&mut self, _: usize, _: u64, _: &[u8], _: f64) {
        self.2 += 1;
    }
}

#[test]
fn events_that_nobody_reads_change_nothing_but_what_is_announced() {
    let script = chat(5);
    let run = |reads: bool| {
        let mut policy = Watching(LeastInFlight::seeded(1), reads, 0);
        (play(&script, &fleet(3, vec![]), &mut policy), policy.2)
    };
    let ((mut read, batches), (unread, none)) = (run(true), run(false));
    assert!(batches > 0 && none == 0);
    assert!(read.iter().any(|record| record.decode.is_some_and(|used| used.announced_tokens > 0)));
    read.iter_mut().filter_map(|record| record.decode.as_mut()).for_each(|used| used.announced_tokens = 0);
    assert_eq!(read, unread);
}

fn views(count: usize) -> Vec<PodView> {
    let view = |n| PodView {
        name: format!("{n}"),
        role: Role::Both,
        models: Vec::new(),
        accepting: true,
        in_flight: 0,
    };
    (0..count).map(view).collect()
}

fn request(id: u64, session: u64) -> FleetRequest {
    // The first tokens are the session's, the others its own.
    let token_ids = (0..25).map(|n| n + 100 * session as u32).chain([id as u32]).collect();
    FleetRequest { id, token_ids, output_tokens: 1, session, ..FleetRequest::default() }
}

#[test]
fn a_bounded_ring_keeps_every_pod_below_its_share_and_keys_together_while_it_can() {
    let mut ring = HashRing::bounded();
    let mut pods = views(8);
    let home = ring.place(&request(0, 7), &pods, 0.0).decode;
    for id in 1..400 {
        let pod = ring.place(&request(id, 7), &pods, 0.0).decode;
        let most = (id as f64 / 8.0) * 1.25 + 1.0;
        pods[pod].in_flight += 1;
        assert!(pods[pod].in_flight as f64 <= most, "request {id}: {}", pods[pod].in_flight);
    }
    let all = pods.iter().map(|pod| pod.in_flight).max();
    assert_eq!(Some(pods[home].in_flight), all, "its own pod is filled first");
    pods.iter_mut().for_each(|pod| pod.in_flight = 0);
    assert_eq!(ring.place(&request(900, 7), &pods, 0.0).decode, home);
}

#[test]
fn a_pod_that_leaves_a_ring_moves_its_own_keys_only() {
    for mut ring in [HashRing::sessions(), HashRing::bounded()] {
        let mut pods = views(8);
        let homes = |ring: &mut HashRing, pods: &[PodView]| -> Vec<usize> {
            (0..800).map(|session| ring.place(&request(session, session), pods, 0.0).decode).collect()
        };
        let before = homes(&mut ring, &pods);
        for pod in 0..8 {
            let share = before.iter().filter(|&&home| home == pod).count();
            assert!((60..150).contains(&share), "pod {pod}: {share} of 800 keys");
        }
        pods[3].accepting = false;
        let after = homes(&mut ring, &pods);
        assert!(after.iter().all(|&home| home != 3));
        assert!(before.iter().zip(&after).all(|(before, after)| *before == 3 || before == after));
    }
}

#[test]
fn an_open_load_runs_as_it_did_as_a_list_of_requests() {
    let script = UniqueLoad::new(10.0, 80, 6).script();
    let requests = script.requests_if(0.0, 0.0);
    let listed = run(&fleet(2, vec![]), requests, &mut LeastInFlight::seeded(1)).expect("options are right");
    assert_eq!(listed, play(&script, &fleet(2, vec![]), &mut LeastInFlight::seeded(1)));
}
