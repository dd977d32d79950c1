//! Scorers, each by numbers worked out by hand.

use std::collections::BTreeMap;

use kvroute_core::credits::Credits;
use kvroute_core::hash::Lora;
use kvroute_core::latency::LatencyModel;
use kvroute_core::load::AdapterReport;
use kvroute_core::score::{
    CostScorer, KvCacheScorer, KvUsageScorer, LatencyScorer, LoadScorer, LoraAffinityScorer, NoHitLruScorer,
    PrefixScorer, QueueScorer, RunningScorer, Scorer, SessionScorer, TokenLoadScorer, TopologyScorer,
};

use super::*;

/// A router that asks one scorer, with pods of these names and capacities.
fn rating(scorer: impl Scorer + 'static, pods: &[(&str, f64)]) -> (Router, Vec<PodId>) {
    let profile = Profile::builder("p").scorer(scorer, 1.0).build().unwrap();
    let (router, _) = router_by(profile, &[]);
    let add = |&(name, capacity): &(&str, f64)| {
        let spec = PodSpec::new(name, domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { capacity, ..spec }).unwrap()
    };
    let pods = pods.iter().map(add).collect();
    (router, pods)
}

/// What the scorer says of each pod for a request.
fn scores(router: &Router, request: &Request<'_>) -> Vec<f64> {
    let explanation = explained(router, request, Duration::ZERO);
    assert!(explanation.picked.is_some(), "{explanation}");
    explanation.pods.iter().map(|pod| pod.scores[0].value).collect()
}

fn scores_of(router: &Router, token_ids: &[u32]) -> Vec<f64> {
    scores(router, &Request::new(token_ids, &HashContext::default()))
}

#[track_caller]
fn assert_near(scores: &[f64], expected: &[f64]) {
    let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
    assert!(
        scores.len() == expected.len() && scores.iter().zip(expected).all(is_near),
        "{scores:?}, not {expected:?}"
    );
}

/// Sends a prompt of so many tokens, unlike any other, to a pod.
fn send(router: &Router, pod: &str, tokens: usize) -> Ticket {
    let (context, names) = (HashContext::default(), [pod]);
    let token_ids = vec![7_000_000; tokens];
    let salt = HashContext { cache_salt: Some(format!("{pod} {tokens}")), ..context };
    let others: Vec<_> =
        router.pods().iter().filter(|other| other.name() != names[0]).map(|other| other.id()).collect();
    let drain = |accepting| others.iter().for_each(|&other| router.set_accepting(other, accepting).unwrap());
    drain(false);
    let request = Request { subset: Some(&names), ..Request::new(&token_ids, &salt) };
    let ticket = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    assert_eq!(router.pod_by_id(ticket.decision.pod).unwrap().name(), pod, "the profile has no such filter");
    drain(true);
    ticket.ticket
}

/// Lets the engine have less than was expected, so many times.
fn overestimate(router: &Router, pod: PodId, times: u32) {
    let token_ids = prompt(800);
    store(router, pod, &token_ids, 1, Tier::Gpu);
    for _ in 0..times {
        let ticket = router.dispatch(
            &Request::new(&token_ids, &HashContext::default()),
            Duration::ZERO,
            &mut Workspace::default(),
        );
        assert!(router.finish(ticket.unwrap().ticket, Finish::Completed, Some(0)));
    }
}

#[test]
fn kv_cache_is_the_credited_share_of_the_searchable_blocks() {
    let (router, pods) = rating(
        KvCacheScorer::default(),
        &[("device", 1.0), ("host", 9.0), ("disk", 1.0), ("store", 1.0), ("both", 1.0), ("none", 1.0)],
    );
    let token_ids = prompt(1);
    let held = [
        (0, 7, Tier::Gpu),
        (1, 10, Tier::Cpu),
        (2, 10, Tier::Disk),
        (3, 5, Tier::External),
        (4, 3, Tier::Gpu),
        (4, 7, Tier::Cpu),
    ];
    for (pod, blocks, tier) in held {
        store(&router, pods[pod], &token_ids, blocks, tier);
    }
    // Capacity has no part in it.
    assert_near(&scores_of(&router, &token_ids), &[0.7, 0.8, 0.3, 0.6 * 0.5, 0.3 + 0.8 * 0.4, 0.0]);
    // Of 20 tokens only 4 blocks can be searched.
    assert_near(&scores_of(&router, &token_ids[..20]), &[1.0, 0.8, 0.3, 0.6, 0.75 + 0.25 * 0.8, 0.0]);
    for short in [0, 1, 3, 4] {
        assert_near(&scores_of(&router, &token_ids[..short]), &[0.0; 6]);
    }
    // Texts are nowhere.
    assert_near(&scores(&router, &Request::from_text(&[b'x'; 900], &HashContext::default())), &[0.0; 6]);
}

#[test]
fn kv_cache_credits_a_view_by_its_trust() {
    let credits = Credits::default().with_tier(Tier::Cpu, 0.5).unwrap();
    let credits = credits.with_trust(TrustLevel::Degraded, 0.4).unwrap();
    let credits = credits.with_trust(TrustLevel::Approximate, 0.1).unwrap();
    let token_ids = prompt(1);
    for (doubts, trust) in [(0, 1.0), (2, 1.0), (3, 0.4), (6, 0.1)] {
        let (router, pods) = rating(KvCacheScorer::new(credits), &[("a", 1.0)]);
        overestimate(&router, pods[0], doubts);
        store(&router, pods[0], &token_ids, 10, Tier::Cpu);
        assert_near(&scores_of(&router, &token_ids), &[trust * 0.5]);
    }
}

#[test]
fn prefix_is_the_share_that_was_sent_whatever_events_say() {
    let (router, pods) = rating(PrefixScorer, &[("a", 1.0), ("b", 1.0)]);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    router.set_accepting(pods[0], false).unwrap();
    let context = HashContext::default();
    // The profile asks nobody whether he accepts.
    let sent = router
        .dispatch(&Request::new(&token_ids[..24], &context), Duration::ZERO, &mut Workspace::default())
        .unwrap();
    let expected = if sent.decision.pod == pods[0] { [0.6, 0.0] } else { [0.0, 0.6] };
    assert_near(&scores_of(&router, &token_ids), &expected);
}

/// Of what is displaced nothing counts.
fn work_alone() -> CostScorer {
    CostScorer::new(0.0, Credits::default()).unwrap()
}

#[test]
fn what_a_prompt_displaces_costs_by_the_mean_of_the_requests_in_flight() {
    let scorer = CostScorer::new(0.5, Credits::default()).unwrap();
    let (router, pods) = rating(scorer, &[("whole", 1.0), ("none", 1.0)]);
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    router.report_load(pods[0], load(6, 0)).unwrap();
    router.report_load(pods[1], load(2, 0)).unwrap();
    // 1 x 7 + 0.5 x 1 x (4 + 1), and 41 x 3 + 0.5 x 41 x (4 + 1).
    assert_near(&scores_of(&router, &token_ids), &[1.0, 9.5 / 225.5]);
    for wrong in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(CostScorer::new(wrong, Credits::default()).is_err());
    }
}

#[test]
fn cost_is_work_times_requests_by_capacity_and_the_cheapest_is_one() {
    let pods = [("whole", 1.0), ("none", 1.0), ("double", 2.0), ("host", 1.0), ("queue", 0.5)];
    let (router, pods) = rating(work_alone(), &pods);
    let token_ids = prompt(1);
    assert_near(&scores_of(&router, &token_ids), &[20.5 / 41.0, 20.5 / 41.0, 1.0, 20.5 / 41.0, 20.5 / 82.0]);
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    store(&router, pods[3], &token_ids, 10, Tier::Cpu);
    router.report_load(pods[4], load(2, 1)).unwrap();
    // 1; 41; 41 / 2; 41 - 0.8 x 40; 41 x 4 / 0.5.
    assert_near(&scores_of(&router, &token_ids), &[1.0, 1.0 / 41.0, 1.0 / 20.5, 1.0 / 9.0, 1.0 / 328.0]);
    // Without a prompt there is still the floor of one token.
    assert_near(&scores_of(&router, &[]), &[0.5, 0.5, 1.0, 0.5, 0.5 / 8.0]);
}

#[test]
fn cost_counts_the_prefill_work_and_the_requests_that_were_sent() {
    let profile = Profile::builder("p").filter(kvroute_core::filter::AcceptingFilter);
    let (router, pods) = router_by(profile.scorer(work_alone(), 1.0).build().unwrap(), &["a", "b"]);
    let ticket = send(&router, "a", 100);
    // (41 + 100) x 2 against 41 x 1.
    assert_near(&scores_of(&router, &prompt(1)), &[41.0 / 282.0, 1.0]);
    router.first_token(ticket);
    assert_near(&scores_of(&router, &prompt(1)), &[0.5, 1.0]);
    // The report has the one that is in flight and five others; then it ends.
    router.report_load(pods[0], load(6, 0)).unwrap();
    assert_near(&scores_of(&router, &prompt(1)), &[1.0 / 7.0, 1.0]);
    router.finish(ticket, Finish::Completed, None);
    assert_near(&scores_of(&router, &prompt(1)), &[1.0 / 6.0, 1.0]);
}

#[test]
fn cost_believes_what_was_sent_a_moment_ago_in_full() {
    let profile = Profile::builder("p").filter(kvroute_core::filter::AcceptingFilter);
    let (router, pods) = router_by(profile.scorer(work_alone(), 1.0).build().unwrap(), &["told", "sent"]);
    let (token_ids, context) = (prompt(1), HashContext::default());
    store(&router, pods[0], &token_ids, 5, Tier::Cpu);
    store(&router, pods[1], &prompt(2), 1, Tier::Gpu);
    router.set_accepting(pods[0], false).unwrap();
    let request = Request::new(&token_ids[..25], &context);
    router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    router.set_accepting(pods[0], true).unwrap();
    // 41 - 0.8 x 20 = 25, against (41 - 24 + 25 booked) x 2.
    assert_near(&scores_of(&router, &token_ids), &[1.0, 25.0 / 84.0]);
}

#[test]
fn latency_is_the_time_to_the_first_token_and_the_soonest_is_one() {
    let model = LatencyModel { least: 0.01, per_token: 0.001, per_pair: 0.000_1, per_request: 0.1 };
    let profile = Profile::builder("p").filter(kvroute_core::filter::AcceptingFilter);
    let scorer = LatencyScorer::new(Credits::default(), model).unwrap();
    let (router, _) = router_by(profile.scorer(scorer, 1.0).build().unwrap(), &[]);
    let add = |name: &str, capacity| {
        router.add_pod(PodSpec { capacity, ..PodSpec::new(name, domain("model", BLOCK_SIZE)) }).unwrap()
    };
    let pods = [add("whole", 1.0), add("half", 1.0), add("none", 1.0), add("double", 2.0), add("busy", 1.0)];
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    store(&router, pods[1], &token_ids, 5, Tier::Gpu);
    send(&router, "double", 100);
    router.report_load(pods[4], load(3, 1)).unwrap();
    let times = [
        0.01, // 1 x (0.001 + 0.0001 x 40.5) is less than the least.
        21.0 * (0.001 + 0.000_1 * 30.5),
        41.0 * (0.001 + 0.000_1 * 20.5),
        (41.0 * (0.001 + 0.000_1 * 20.5) + 100.0 * (0.001 + 0.000_1 * 20.5)) / 2.0 + 0.1,
        41.0 * (0.001 + 0.000_1 * 20.5) + 0.4,
    ];
    assert_near(&scores_of(&router, &token_ids), &times.map(|time| 0.01 / time));
    // Without a prompt a step is a step; the queue is as long as it is.
    let times = [0.01, 0.01, 0.01, (0.01 + 100.0 * 0.001) / 2.0 + 0.1, 0.41];
    assert_near(&scores_of(&router, &[]), &times.map(|time| 0.01 / time));
    let refused = LatencyScorer::new(Credits::default(), LatencyModel { least: 0.0, ..model }).unwrap_err();
    assert!(refused.to_string().contains("least is above 0"), "{refused}");
}

#[test]
fn token_load_is_what_is_left_of_the_limit_with_this_request() {
    let profile = Profile::builder("p").filter(kvroute_core::filter::AcceptingFilter);
    let scorer = TokenLoadScorer::new(200, Credits::default()).unwrap();
    let (router, _) = router_by(profile.scorer(scorer, 1.0).build().unwrap(), &[]);
    let add = |name: &str, capacity| {
        router.add_pod(PodSpec { capacity, ..PodSpec::new(name, domain("model", BLOCK_SIZE)) }).unwrap()
    };
    let pods = [add("whole", 1.0), add("none", 1.0), add("double", 2.0), add("full", 1.0), add("host", 1.0)];
    let token_ids = prompt(1);
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    store(&router, pods[4], &token_ids, 10, Tier::Cpu);
    send(&router, "double", 100);
    send(&router, "full", 159);
    let expected = [1.0 - 1.0 / 200.0, 1.0 - 41.0 / 200.0, 1.0 - 141.0 / 400.0, 0.0, 1.0 - 9.0 / 200.0];
    assert_near(&scores_of(&router, &token_ids), &expected);
    // One token less and it is not full.
    assert_near(&scores_of(&router, &token_ids[..40])[3..4], &[1.0 / 200.0]);
    assert_near(&scores_of(&router, &[]), &[1.0, 1.0, 0.75, 1.0 - 159.0 / 200.0, 1.0]);
    assert!(TokenLoadScorer::new(0, Credits::default()).is_err());
}

#[test]
fn load_counts_requests_up_to_its_limit() {
    let (router, pods) =
        rating(LoadScorer::new(8).unwrap(), &[("silent", 1.0), ("some", 1.0), ("at", 1.0), ("beyond", 1.0)]);
    for (&pod, (running, waiting)) in pods[1..].iter().zip([(1, 1), (5, 3), (u32::MAX, u32::MAX)]) {
        router.report_load(pod, load(running, waiting)).unwrap();
    }
    assert_near(&scores_of(&router, &prompt(1)), &[1.0, 0.75, 0.0, 0.0]);
}

#[test]
fn queue_compares_those_that_wait_and_a_silent_pod_has_none() {
    let (router, pods) = rating(QueueScorer, &[("silent", 1.0), ("one", 9.0), ("four", 1.0)]);
    assert_near(&scores_of(&router, &prompt(1)), &[1.0; 3]);
    router.report_load(pods[1], load(100, 1)).unwrap();
    router.report_load(pods[2], load(0, 4)).unwrap();
    assert_near(&scores_of(&router, &prompt(1)), &[1.0, 0.75, 0.0]);
    router.report_load(pods[0], load(0, 4)).unwrap();
    router.report_load(pods[1], load(0, 4)).unwrap();
    assert_near(&scores_of(&router, &prompt(1)), &[1.0; 3]);
}

#[test]
fn running_compares_requests_by_capacity() {
    let (router, pods) = rating(RunningScorer, &[("a", 1.0), ("double", 2.0), ("c", 1.0)]);
    router.report_load(pods[0], load(4, 2)).unwrap();
    router.report_load(pods[1], load(6, 2)).unwrap();
    router.report_load(pods[2], load(3, 0)).unwrap();
    // 6, 4 and 3.
    assert_near(&scores_of(&router, &prompt(1)), &[0.0, 2.0 / 3.0, 1.0]);
}

#[test]
fn kv_usage_is_what_is_left_and_half_where_nothing_is_known() {
    let (router, pods) =
        rating(KvUsageScorer, &[("silent", 1.0), ("idle", 1.0), ("quarter", 1.0), ("full", 1.0)]);
    for (&pod, kv_usage) in pods[1..].iter().zip([0.0, 0.25, 1.0]) {
        router.report_load(pod, LoadReport { running: 0, waiting: 0, kv_usage }).unwrap();
    }
    assert_near(&scores_of(&router, &prompt(1)), &[0.5, 1.0, 0.75, 0.0]);
}

#[test]
fn session_is_one_for_its_home_alone() {
    let (router, _) = rating(SessionScorer, &[("a", 1.0), ("b", 1.0), ("c", 1.0)]);
    let (context, token_ids) = (HashContext::default(), prompt(1));
    let request = |session| Request { session, ..Request::new(&token_ids, &context) };
    let home =
        router.dispatch(&request(Some(Session::Id("s"))), Duration::ZERO, &mut Workspace::default()).unwrap();
    let mut expected = [0.0; 3];
    assert_near(&scores(&router, &request(Some(Session::Id("other")))), &expected);
    assert_near(&scores(&router, &request(None)), &expected);
    expected[home.decision.pod.slot()] = 1.0;
    assert_near(&scores(&router, &request(Some(Session::Id("s")))), &expected);
}

#[test]
fn lora_affinity_rates_each_state_of_an_adapter() {
    let pods =
        [("running", 1.0), ("room", 1.0), ("waiting", 1.0), ("full", 1.0), ("silent", 1.0), ("both", 1.0)];
    let (router, pods) = rating(LoraAffinityScorer, &pods);
    let reports: [(u32, &[&str], &[&str]); 6] = [
        (1, &["sql"], &[]),
        (2, &["x"], &[]),
        (1, &["x"], &["sql"]),
        (1, &["x"], &[]),
        (0, &[], &[]),
        (1, &["sql"], &["sql"]),
    ];
    for (&pod, (max, running, waiting)) in pods.iter().zip(reports) {
        if max > 0 {
            router.report_adapters(pod, &AdapterReport { max, running, waiting }).unwrap();
        }
    }
    let lora = Some(Lora { name: "sql".into(), ..Lora::default() });
    let (context, token_ids) = (HashContext { lora, ..HashContext::default() }, prompt(1));
    assert_near(&scores(&router, &Request::new(&token_ids, &context)), &[1.0, 0.8, 0.6, 0.0, 0.0, 1.0]);
    assert_near(&scores_of(&router, &token_ids), &[0.0; 6]);
}

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

const HOST: &str = "kubernetes.io/hostname";
const RACK: &str = "topology.kubernetes.io/rack";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

/// Places from near to far of a gateway at host h, rack r, zone z, region g.
const PLACES: [(&str, &[(&str, &str)]); 6] = [
    ("host", &[(HOST, "h"), (REGION, "elsewhere")]),
    ("rack", &[(HOST, "i"), (RACK, "r"), (ZONE, "z")]),
    ("zone", &[(ZONE, "z")]),
    ("region", &[(ZONE, "y"), (REGION, "g")]),
    ("far", &[(HOST, "j"), (REGION, "f")]),
    ("unknown", &[]),
];

#[test]
fn topology_is_one_minus_the_distance_of_the_nearest_label_in_common() {
    let near = labels(&[(HOST, "h"), (RACK, "r"), (ZONE, "z"), (REGION, "g")]);
    let (router, _) = rating(TopologyScorer::default().near(near), &[]);
    let (lost, _) = rating(TopologyScorer::default(), &[]);
    for (name, place) in PLACES {
        let spec = || PodSpec { labels: labels(place), ..PodSpec::new(name, domain("model", BLOCK_SIZE)) };
        router.add_pod(spec()).unwrap();
        lost.add_pod(spec()).unwrap();
    }
    assert_near(&scores_of(&router, &prompt(1)), &[1.0, 0.2, 0.05, 0.02, 0.0, 0.0]);
    assert_near(&scores_of(&lost, &prompt(1)), &[0.0; 6]);
}

#[test]
fn topology_takes_levels_in_any_order_and_refuses_what_makes_no_sense() {
    let level = |label: &str, distance| (label.to_string(), distance);
    let scorer = TopologyScorer::new([level("far", 1.0), level("mid", 0.5), level("near", 0.0)]).unwrap();
    let (router, _) = rating(scorer.near(labels(&[("far", "1"), ("mid", "1"), ("near", "1")])), &[]);
    for place in [&[("far", "1"), ("mid", "1")][..], &[("far", "1")], &[("near", "1"), ("mid", "2")]] {
        let spec = PodSpec::new(format!("{place:?}"), domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { labels: labels(place), ..spec }).unwrap();
    }
    assert_near(&scores_of(&router, &prompt(1)), &[0.5, 0.0, 1.0]);
    for (levels, part) in [
        (vec![], "no level"),
        (vec![level("a", 0.1), level("a", 0.2)], "twice"),
        (vec![level("a", 1.5)], "1.5"),
        (vec![level("a", f64::NAN)], "NaN"),
    ] {
        let refused = TopologyScorer::new(levels).unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    }
}

#[test]
fn a_prefill_pod_is_near_to_the_pod_that_answers_wherever_the_gateway_stands() {
    let gateway = labels(&[(HOST, "far away")]);
    let prefill = Profile::builder("prefill").filter(kvroute_core::filter::RoleFilter::new(Role::Prefill));
    let prefill = prefill.scorer(TopologyScorer::default().near(gateway), 1.0).build().unwrap();
    let (router, _) =
        router_by(Policy { prefill: Some(PrefillPolicy::new(prefill, 0)), ..demo_policy() }, &[]);
    let add = |name: &str, role, place: &[(&str, &str)]| {
        let spec = PodSpec::new(name, domain("model", BLOCK_SIZE));
        router.add_pod(PodSpec { role, labels: labels(place), ..spec }).unwrap()
    };
    add("decode", Role::Decode, &[(HOST, "h"), (RACK, "r"), (ZONE, "z"), (REGION, "g")]);
    for (name, place) in PLACES {
        add(name, Role::Prefill, place);
    }
    add("gateway's", Role::Prefill, &[(HOST, "far away")]);
    let explanation = explained(&router, &Request::new(&prompt(1), &HashContext::default()), Duration::ZERO);
    let prefill = explanation.prefill.unwrap();
    let scores: Vec<_> = prefill.pods[1..].iter().map(|pod| pod.scores[0].value).collect();
    assert_near(&scores, &[1.0, 0.2, 0.05, 0.02, 0.0, 0.0, 0.0]);
    assert_eq!(prefill.pods[prefill.picked.unwrap()].pod, "host");
}

#[test]
fn cold_prompts_go_round_the_pods_those_that_had_none_first() {
    let (router, pods) = rating(NoHitLruScorer, &[("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0)]);
    let context = HashContext::default();
    assert_near(&scores_of(&router, &prompt(0)), &[1.0; 4]);
    let mut order = Vec::new();
    for seed in 1..=12 {
        let token_ids = prompt(seed);
        let sent =
            router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default());
        order.push(sent.unwrap().decision.pod);
        let mut expected = vec![1.0; 4];
        // The one that got the last one is last; those that had none yet share the first rank.
        let turns: Vec<_> = pods
            .iter()
            .map(|pod| order.iter().rposition(|other| other == pod).map_or(0, |at| at + 1))
            .collect();
        for (score, turn) in expected.iter_mut().zip(&turns) {
            *score = 1.0 - turns.iter().filter(|other| *other < turn).count() as f64 / 3.0;
        }
        assert_near(&scores_of(&router, &prompt(100)), &expected);
    }
    let mut first = order[..4].to_vec();
    first.sort();
    assert_eq!(first, pods, "each had one before any had two");
    assert!(order.windows(5).all(|five| five[0] == five[4]), "and so it goes on");
}

#[test]
fn a_prompt_of_which_some_pod_has_a_block_is_not_cold_and_takes_no_turn() {
    let (router, pods) = rating(NoHitLruScorer, &[("a", 1.0), ("b", 1.0)]);
    store(&router, pods[0], &prompt(1), 1, Tier::Disk);
    assert_near(&scores_of(&router, &prompt(1)), &[0.5; 2]);
    let context = HashContext::default();
    let token_ids = prompt(1);
    router.dispatch(&Request::new(&token_ids, &context), Duration::ZERO, &mut Workspace::default()).unwrap();
    assert_near(&scores_of(&router, &prompt(2)), &[1.0; 2]);
    // Prompts without a block are always cold.
    router.dispatch(&Request::new(&[], &context), Duration::ZERO, &mut Workspace::default()).unwrap();
    let mut scores = scores_of(&router, &prompt(2));
    scores.sort_by(f64::total_cmp);
    assert_near(&scores, &[0.0, 1.0]);
}

/// All scorers that need nothing of the request.
fn all() -> policy_parts::Scorers {
    policy_parts::scorers()
}

mod policy_parts {
    use super::*;

    pub(super) type Scorers = Vec<(&'static str, Profile)>;

    fn one(name: &'static str, scorer: impl Scorer + 'static) -> (&'static str, Profile) {
        (name, Profile::builder("p").scorer(scorer, 1.0).build().unwrap())
    }

    pub(super) fn scorers() -> Scorers {
        vec![
            one("kv-cache", KvCacheScorer::default()),
            one("prefix", PrefixScorer),
            one("session", SessionScorer),
            one("load", LoadScorer::default()),
            one("cost", CostScorer::default()),
            one("latency", LatencyScorer::default()),
            one("token-load", TokenLoadScorer::default()),
            one("queue", QueueScorer),
            one("running", RunningScorer),
            one("kv-usage", KvUsageScorer),
            one("lora-affinity", LoraAffinityScorer),
            one("topology", TopologyScorer::default()),
            one("no-hit-lru", NoHitLruScorer),
        ]
    }
}

#[test]
fn a_single_pod_and_pods_that_are_all_alike_score_alike() {
    for pods in [&["a"][..], &["a", "b", "c"]] {
        for (name, profile) in all() {
            let (router, _) = router_by(profile, pods);
            let expected = match name {
                "kv-cache" | "prefix" | "session" | "lora-affinity" | "topology" => 0.0,
                "kv-usage" => 0.5,
                "token-load" => 1.0 - 41.0 / 4_194_304.0,
                _ => 1.0,
            };
            assert_eq!(
                explained(&router, &Request::new(&prompt(1), &HashContext::default()), Duration::ZERO).pods
                    [0]
                .scores[0]
                    .scorer,
                name
            );
            assert_near(&scores_of(&router, &prompt(1)), &vec![expected; pods.len()]);
        }
    }
}

#[test]
fn capacities_beyond_reason_break_no_decision() {
    let extremes = [5e-324, 1e-310, 1e300, f64::MAX];
    for (name, profile) in all() {
        for pair in [[0, 0], [0, 1], [0, 3], [2, 3], [3, 3]] {
            let profile_of = |(other, profile): (&str, Profile)| (other == name).then_some(profile);
            let profile_again = all().into_iter().find_map(profile_of).unwrap();
            let (router, _) = router_by(profile_again, &[]);
            for (n, which) in pair.into_iter().enumerate() {
                let spec = PodSpec::new(n.to_string(), domain("model", BLOCK_SIZE));
                router.add_pod(PodSpec { capacity: extremes[which], ..spec }).unwrap();
            }
            let pod = router.pods()[0].id();
            router.report_load(pod, load(u32::MAX, u32::MAX)).unwrap();
            let rated = scores_of(&router, &prompt(1));
            assert!(rated.iter().all(|score| (0.0..=1.0).contains(score)), "{name}: {rated:?}");
        }
        drop(profile);
    }
}
