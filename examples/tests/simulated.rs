//! The demo on simulated pods shows what it says.

use kvroute_examples::simulated::{self, Size};
use kvroute_sim::workload::{MooncakeTrace, Phase};

const SIZE: Size = Size { decode: 3, prefill: 2 };

#[test]
fn every_expectation_is_what_the_engines_have_and_every_phase_goes_where_it_should() {
    for seed in 1..=3 {
        let (rows, outcome) = simulated::phases(SIZE, seed).unwrap();
        assert_eq!((outcome.requests, outcome.expected_cached_mismatches), (rows.len(), 0), "seed {seed}");
        assert_eq!(
            (outcome.hit_phase_on_right_pod, outcome.follow_up_on_same_pod),
            (1.0, 1.0),
            "seed {seed}"
        );
        assert!(outcome.ttft_reduction_hit_vs_miss > 0.5, "{}", outcome.ttft_reduction_hit_vs_miss);
        for row in &rows {
            let cold = matches!(row.asked.phase, Phase::Populate | Phase::Miss);
            assert_eq!(row.expected() == 0, cold, "request {}", row.asked.request.id);
            assert_eq!(row.record.prefill.is_some(), cold, "only what is not cached is prefilled elsewhere");
            assert!(!row.record.is_failed());
        }
        let [kvroute, others @ ..] = &outcome.policies[..] else { panic!("no policy") };
        for other in others {
            assert!(kvroute.hit_rate > other.hit_rate + 0.1, "{other:?}");
            assert!(kvroute.ttft_ms_p50 < other.ttft_ms_p50 * 0.7, "{other:?}");
        }
    }
}

#[test]
fn misses_go_to_a_pod_with_the_fewest_requests() {
    let (rows, _) = simulated::phases(SIZE, 1).unwrap();
    for row in rows.iter().filter(|row| row.asked.phase == Phase::Miss) {
        let explanation = row.routed.explanation.as_ref().unwrap();
        let busy = |row: usize| explanation.pods[row].booked.requests;
        let decode = (0..SIZE.decode).map(busy);
        assert_eq!(Some(busy(explanation.picked.unwrap())), decode.min());
    }
}

#[test]
fn one_seed_is_one_run() {
    let run = || {
        let (rows, _) = simulated::phases(SIZE, 7).unwrap();
        rows.into_iter().map(|row| row.record).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn the_json_object_has_the_promised_keys() {
    let (_, outcome) = simulated::phases(Size { decode: 2, prefill: 0 }, 1).unwrap();
    let object = serde_json::to_value(&outcome).unwrap();
    for key in [
        "requests",
        "expected_cached_mismatches",
        "hit_phase_on_right_pod",
        "follow_up_on_same_pod",
        "ttft_reduction_hit_vs_miss",
        "overhead_us_p50",
        "overhead_us_p99",
    ] {
        assert!(object[key].is_number(), "{key}: {}", object[key]);
    }
    for policy in object["policies"].as_array().unwrap() {
        assert!(policy["hit_rate"].is_number() && policy["ttft_ms_p50"].is_number(), "{policy}");
    }
}

#[test]
fn pods_come_and_go_without_a_wrong_expectation_or_a_lost_request() {
    let scaled = simulated::scale(3, 8, 1).unwrap();
    assert_eq!(scaled.expected_cached_mismatches, 0);
    assert!(scaled.windows.iter().all(|window| window.failed == 0));
    let sent_again: usize = scaled.windows.iter().map(|window| window.sent_again).sum();
    assert!(sent_again > 0, "a pod died under load");
    let hit_rates: Vec<_> = scaled.windows.iter().map(|window| window.hit_rate).collect();
    assert!(hit_rates[2] > 0.85 && hit_rates[5] > 0.8, "{hit_rates:?}");
    assert!(!scaled.windows[3].by_pod.contains_key("both-0"), "it drains: {:?}", scaled.windows[3].by_pod);
    assert!(!scaled.windows[4].by_pod.contains_key("both-1"), "it is dead: {:?}", scaled.windows[4].by_pod);
    for (n, of_kvroute) in scaled.policies[0].1.iter().enumerate() {
        assert!(scaled.policies[1..].iter().all(|(_, other)| of_kvroute.0 > other[n].0), "window {n}");
    }
    assert!(simulated::scale(0, 3, 1).is_err() && simulated::scale(3, 3, 1).is_err());
}

#[test]
fn a_trace_is_replayed_exactly() {
    let line = |n: u64| {
        let ids: Vec<u64> = (0..8).map(|i| if i < 6 { i } else { 100 * n + i }).collect();
        format!(r#"{{"timestamp":{},"input_length":4000,"output_length":20,"hash_ids":{ids:?}}}"#, n * 300)
    };
    let text: String = (0..40).map(|n| line(n) + "\n").collect();
    let requests = MooncakeTrace::parse(&text).unwrap().requests(1.0, 30).collect();
    let (_, outcome) = simulated::trace(SIZE, requests, 1).unwrap();
    assert_eq!((outcome.requests, outcome.expected_cached_mismatches), (30, 0));
    assert!(outcome.policies[0].hit_rate > 0.6, "{}", outcome.policies[0].hit_rate);
}
