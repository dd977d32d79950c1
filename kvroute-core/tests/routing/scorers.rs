//! Scorers, each by numbers worked out by hand; those of work and time are in `costs`.

use std::collections::BTreeMap;

use kvroute_core::credits::Credits;
use kvroute_core::hash::Lora;
use kvroute_core::load::AdapterReport;
use kvroute_core::score::{
    CostScorer, KvCacheScorer, KvUsageScorer, LatencyScorer, LoadScorer, LoraAffinityScorer, NoHitLruScorer,
    PrefixScorer, QueueScorer, RunningScorer, Scorer, SessionScorer, TokenLoadScorer, TopologyScorer,
};

use super::*;

/// A router that asks one scorer, with pods of these names and capacities.
pub(super) fn rating(scorer: impl Scorer + 'static, pods: &[(&str, f64)]) -> (Router, Vec<PodId>) {
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
pub(super) fn scores(router: &Router, request: &Request<'_>) -> Vec<f64> {
    let explanation = explained(router, request, Duration::ZERO);
    assert!(explanation.picked.is_some(), "{explanation}");
    explanation.pods.iter().map(|pod| pod.scores[0].value).collect()
}

pub(super) fn scores_of(router: &Router, token_ids: &[u32]) -> Vec<f64> {
    scores(router, &Request::new(token_ids, &HashContext::default()))
}

#[track_caller]
pub(super) fn assert_near(scores: &[f64], expected: &[f64]) {
    let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-9;
    assert!(
        scores.len() == expected.len() && scores.iter().zip(expected).all(is_near),
        "{scores:?}, not {expected:?}"
    );
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
    let (token_ids, context) = (prompt(1), HashContext::default());
    store(&router, pods[0], &token_ids, 10, Tier::Gpu);
    let request = Request::new(&token_ids[..24], &context);
    let sent = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    let expected = if sent.decision.pod == pods[0] { [0.6, 0.0] } else { [0.0, 0.6] };
    assert_near(&scores_of(&router, &token_ids), &expected);
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

/// Asks all scorers.
fn all() -> Profile {
    Profile::builder("p")
        .scorer(KvCacheScorer::default(), 1.0)
        .scorer(PrefixScorer, 1.0)
        .scorer(SessionScorer, 1.0)
        .scorer(LoadScorer::default(), 1.0)
        .scorer(CostScorer::default(), 1.0)
        .scorer(LatencyScorer::default(), 1.0)
        .scorer(TokenLoadScorer::default(), 1.0)
        .scorer(QueueScorer, 1.0)
        .scorer(RunningScorer, 1.0)
        .scorer(KvUsageScorer, 1.0)
        .scorer(LoraAffinityScorer, 1.0)
        .scorer(TopologyScorer::default(), 1.0)
        .scorer(NoHitLruScorer, 1.0)
        .build()
        .unwrap()
}

#[test]
fn a_single_pod_and_pods_that_are_all_alike_score_alike() {
    for pods in [&["a"][..], &["a", "b", "c"]] {
        let (router, _) = router_by(all(), pods);
        let explanation =
            explained(&router, &Request::new(&prompt(1), &HashContext::default()), Duration::ZERO);
        for score in explanation.pods.iter().flat_map(|pod| &pod.scores) {
            let expected = match score.scorer.as_str() {
                "kv-cache" | "prefix" | "session" | "lora-affinity" | "topology" => 0.0,
                "kv-usage" => 0.5,
                "token-load" => 1.0 - 41.0 / 4_194_304.0,
                _ => 1.0,
            };
            assert!((score.value - expected).abs() < 1e-9, "{score:?}");
        }
    }
}

#[test]
fn capacities_beyond_reason_break_no_decision() {
    let (least, small, large, most) = (5e-324, 1e-310, 1e300, f64::MAX);
    for pair in [[least, least], [least, small], [least, most], [large, most], [most, most]] {
        let (router, _) = router_by(all(), &[]);
        for (n, capacity) in pair.into_iter().enumerate() {
            let spec = PodSpec::new(n.to_string(), domain("model", BLOCK_SIZE));
            router.add_pod(PodSpec { capacity, ..spec }).unwrap();
        }
        router.report_load(router.pods()[0].id(), load(u32::MAX, u32::MAX)).unwrap();
        let explanation =
            explained(&router, &Request::new(&prompt(1), &HashContext::default()), Duration::ZERO);
        assert!(explanation.picked.is_some(), "{explanation}");
    }
}
