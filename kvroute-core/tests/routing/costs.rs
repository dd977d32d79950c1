//! Scorers of work, requests and time, by numbers worked out by hand.

use kvroute_core::credits::Credits;
use kvroute_core::filter::AcceptingFilter;
use kvroute_core::latency::LatencyModel;
use kvroute_core::score::{
    CostScorer, LatencyScorer, LoadScorer, QueueScorer, RunningScorer, TokenLoadScorer,
};

use super::scorers::{assert_near, rating, scores_of};
use super::*;

/// Sends a prompt of so many tokens, unlike any other, to a pod; the profile asks who accepts.
fn send(router: &Router, pod: &str, tokens: usize) -> Ticket {
    let salt = HashContext { cache_salt: Some(format!("{pod} {tokens}")), ..HashContext::default() };
    let pods = router.pods();
    let drain = |accepting| {
        for other in pods.iter().filter(|other| other.name() != pod) {
            router.set_accepting(other.id(), accepting).unwrap();
        }
    };
    drain(false);
    let token_ids = vec![7_000_000; tokens];
    let request = Request::new(&token_ids, &salt);
    let sent = router.dispatch(&request, Duration::ZERO, &mut Workspace::default()).unwrap();
    drain(true);
    sent.ticket
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
    let profile = Profile::builder("p").filter(AcceptingFilter);
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
    let profile = Profile::builder("p").filter(AcceptingFilter);
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
    let profile = Profile::builder("p").filter(AcceptingFilter);
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
    let profile = Profile::builder("p").filter(AcceptingFilter);
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
fn a_decode_pod_is_rated_by_no_more_than_what_a_prefill_pod_would_leave_it() {
    let token_ids = prompt(1);
    // Prompts of 41 tokens and more are computed elsewhere where more than 20 are uncached.
    for (min_prompt_tokens, most) in [(41, 20.0), (42, 41.0)] {
        let decode = |scorer: CostScorer| Profile::builder("p").scorer(scorer, 1.0).build().unwrap();
        let prefill = PrefillPolicy::new(Profile::llm_d_demo(Role::Prefill), 20);
        let prefill = Some(PrefillPolicy { min_prompt_tokens, ..prefill });
        let policy = Policy { prefill, ..Policy::from(decode(work_alone())) };
        let (router, pods) = router_by(policy, &["half", "none", "most", "busy"]);
        store(&router, pods[0], &token_ids, 5, Tier::Gpu);
        store(&router, pods[2], &token_ids, 9, Tier::Gpu);
        router.report_load(pods[3], load(1, 0)).unwrap();
        let costs = [21.0_f64.min(most), most, 5.0, 2.0 * most];
        assert_near(&scores_of(&router, &token_ids), &costs.map(|cost| 5.0 / cost));
    }
}
