//! Ranks.

use super::*;

#[test]
fn ranks_are_pods_of_their_own() {
    let setup = Setup::native();
    let pods = [0, 1].map(|rank| setup.pod_with(|options| options.dp_rank = Some(rank)));
    for (rank, &pod) in pods.iter().enumerate() {
        let batch = payload(0.0, Some(rank as u32), &[store(None, &[10 + rank as u64]).event()]);
        assert_eq!(setup.index.apply_batch(pod, 0, &batch).map(|r| r.outcome), Ok(Outcome::Applied));
    }
    assert_eq!((setup.depth(pods[0], &[10]), setup.depth(pods[0], &[11])), (1, 0));
    assert_eq!((setup.depth(pods[1], &[10]), setup.depth(pods[1], &[11])), (0, 1));
}

#[test]
fn a_batch_of_another_rank_is_refused_and_counted() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.dp_rank = Some(0));
    let batch = payload(0.0, Some(1), &[store(None, &[1]).event()]);
    let refused = Outcome::Ignored(IgnoreReason::OtherRank);
    assert_eq!(setup.index.apply_batch(pod, 0, &batch).map(|report| report.outcome), Ok(refused));
    assert_eq!(setup.depth(pod, &[1]), 0);
    assert_eq!(setup.ignored(pod, IgnoreReason::OtherRank), 1);
}

#[test]
fn batches_of_another_rank_do_not_disturb_the_stream() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.dp_rank = Some(0));
    setup.send(pod, 0, &[store(None, &[1]).event()]);
    setup.send(pod, 1, &[store(Some(1), &[2]).event()]);
    // Another rank counts its own batches: older, next and far ahead.
    for sequence in [0, 2, 50] {
        let batch = payload(0.0, Some(1), &[remove(&[1]).event()]);
        let refused = Outcome::Ignored(IgnoreReason::OtherRank);
        assert_eq!(setup.index.apply_batch(pod, sequence, &batch).map(|r| r.outcome), Ok(refused));
    }
    assert_eq!(setup.send(pod, 2, &[store(Some(2), &[3]).event()]), Outcome::Applied);
    assert_eq!(setup.depth(pod, &[1, 2, 3]), 3);
    assert_eq!(setup.trust(pod), TrustLevel::Exact);
}

#[test]
fn polled_events_of_another_rank_are_refused_too() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.dp_rank = Some(0));
    let events = vec![store(None, &[1]).event()];
    let batch = EventBatch { dp_rank: Some(3), events, ..EventBatch::default() };
    let report = setup.index.apply_events(pod, &batch).expect("a known pod");
    assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::OtherRank));
    assert_eq!(setup.depth(pod, &[1]), 0);
}

#[test]
fn the_first_rank_seen_is_the_pods() {
    let setup = Setup::native();
    let pod = setup.pod();
    let batch = |rank, block| payload(0.0, rank, &[store(None, &[block]).event()]);
    let outcome =
        |sequence, bytes: &[u8]| setup.index.apply_batch(pod, sequence, bytes).expect("a known pod").outcome;
    assert_eq!(outcome(0, &batch(None, 1)), Outcome::Applied);
    assert_eq!(outcome(1, &batch(Some(5), 2)), Outcome::Applied);
    assert_eq!(outcome(2, &batch(Some(6), 3)), Outcome::Ignored(IgnoreReason::OtherRank));
    assert_eq!(outcome(2, &batch(None, 4)), Outcome::Applied, "a batch without a rank is ours");
    assert_eq!(setup.depth(pod, &[3]), 0);
}
