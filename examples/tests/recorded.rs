//! The demo's figures, so that a change that moves them is noticed.

use std::path::Path;

use kvroute_examples::capture::{self, Mode};
use kvroute_examples::recorded::play;

#[test]
fn every_expectation_is_the_engines_count_but_those_that_a_reset_explains() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures/live-3pods");
    let capture = capture::read(&path).unwrap();
    for mode in [Mode::Translated, Mode::Native] {
        let mut requests = Vec::new();
        let outcome = play(&capture, mode, "workload", |routed| requests.push(routed.clone())).unwrap();
        assert_eq!((outcome.requests, requests.len()), (400, 400), "{mode:?}");
        assert_eq!((outcome.expectations_equal, outcome.expectations_explained), (398, 2), "{mode:?}");
        assert!(requests.iter().all(|routed| routed.is_exact() || routed.exception.is_some()));
        assert!(outcome.kvroute_hit_rate > outcome.recorded_hit_rate + 0.2, "{mode:?}: {outcome:?}");
        let best = |pods: &[kvroute_examples::recorded::PodRow]| pods.iter().map(|pod| pod.expected).max();
        assert!(
            requests.iter().all(|routed| Some(routed.expected) == best(&routed.pods)),
            "all pods are idle"
        );
    }
}
