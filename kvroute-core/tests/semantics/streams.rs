//! Streams.

use super::*;

#[test]
fn a_batch_applied_twice_counts_once() {
    let setup = Setup::native();
    let pod = setup.pod();
    let batch = [store(None, &[1]).event()];
    assert_eq!(setup.send(pod, 0, &batch), Outcome::Applied);
    assert_eq!(setup.send(pod, 0, &batch), Outcome::Ignored(IgnoreReason::Duplicate));
    assert_eq!(setup.ignored(pod, IgnoreReason::Duplicate), 1);
    setup.send(pod, 1, &[remove(&[1]).event()]);
    assert_eq!(setup.depth(pod, &[1]), 0);
}

#[test]
fn a_gap_clears_the_view_unless_told_to_replay() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.send(pod, 0, &[store(None, &[1, 2]).event()]);
    assert_eq!(setup.send(pod, 2, &[store(None, &[5]).event()]), Outcome::Applied);
    assert_eq!(setup.depth(pod, &[1, 2]), 0, "removals may have been lost");
    assert_eq!(setup.depth(pod, &[5]), 1);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    assert_eq!(setup.index.counters(pod).expect("a known pod").gaps, 1);
    assert_eq!(setup.send(pod, 3, &[KvEvent::Cleared]), Outcome::Applied);
    assert_eq!(setup.trust(pod), TrustLevel::Exact, "an engine's own clear heals");
}

#[test]
fn a_late_joiner_is_degraded_and_keeps_what_it_hears() {
    let setup = Setup::native();
    let pod = setup.pod();
    assert_eq!(setup.send(pod, 700, &[store(None, &[1]).event()]), Outcome::Applied);
    assert_eq!((setup.depth(pod, &[1]), setup.trust(pod)), (1, TrustLevel::Degraded));
}

#[test]
fn a_gap_is_replayed_from_the_last_applied_batch() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
    let batches: Vec<[KvEvent; 1]> = [
        store(None, &[1]).event(),
        store(Some(1), &[2]).event(),
        remove(&[2]).event(),
        store(Some(1), &[3]).event(),
    ]
    .map(|event| [event])
    .to_vec();
    setup.send(pod, 0, &batches[0]);
    setup.send(pod, 1, &batches[1]);
    let missing = Outcome::NeedsResync(ResyncReason::Gap { replay_from: 1 });
    assert_eq!(setup.send(pod, 3, &batches[3]), missing);
    assert_eq!(setup.depth(pod, &[1, 2]), 2, "nothing was applied, nothing dropped");
    for sequence in 1..4 {
        setup.send(pod, sequence, &batches[sequence as usize]);
    }
    assert_eq!((setup.depth(pod, &[1, 2]), setup.depth(pod, &[1, 3])), (1, 2));
    assert_eq!(setup.trust(pod), TrustLevel::Exact);
    assert_eq!(setup.index.counters(pod).expect("a known pod").resyncs, 1);
}

#[test]
fn a_gap_given_up_clears_the_view_and_goes_on() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
    setup.send(pod, 0, &[store(None, &[1]).event()]);
    setup.index.abandon_gap(pod, 9).expect("a known pod");
    assert_eq!((setup.depth(pod, &[1]), setup.trust(pod)), (0, TrustLevel::Degraded));
    assert_eq!(setup.send(pod, 9, &[store(None, &[2]).event()]), Outcome::Applied);
    assert_eq!(setup.depth(pod, &[2]), 1);
}

#[test]
fn a_replay_begins_at_the_last_applied_batch() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
    let from = || setup.index.replay_from(pod).expect("a known pod");
    assert_eq!(from(), 0);
    setup.send(pod, 0, &[store(None, &[1]).event()]);
    assert_eq!(from(), 0);
    setup.send(pod, 1, &[store(Some(1), &[2]).event()]);
    assert_eq!(from(), 1);
    setup.index.abandon_gap(pod, 9).expect("a known pod");
    assert_eq!(from(), 9, "nothing is left to compare");
}

#[test]
fn a_restart_that_no_batch_told_of_drops_the_view() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.send(pod, 0, &[store(None, &[1]).event()]);
    setup.send(pod, 1, &[store(Some(1), &[2]).event()]);
    setup.index.note_restart(pod).expect("a known pod");
    assert_eq!((setup.depth(pod, &[1, 2]), setup.trust(pod)), (0, TrustLevel::Exact));
    assert_eq!(setup.send(pod, 0, &[store(None, &[3]).event()]), Outcome::Applied);
    assert_eq!(setup.depth(pod, &[3]), 1);
    assert_eq!(setup.index.counters(pod).expect("a known pod").restarts, 1);
}

#[test]
fn a_replay_with_other_bytes_is_a_restart() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
    setup.send(pod, 0, &[store(None, &[1]).event()]);
    setup.send(pod, 1, &[store(Some(1), &[2]).event()]);
    setup.send(pod, 4, &[store(None, &[50]).event()]);
    let restarted = Outcome::NeedsResync(ResyncReason::Restarted);
    assert_eq!(setup.send(pod, 1, &[store(None, &[60]).event()]), restarted);
    assert_eq!(setup.depth(pod, &[1, 2]), 0, "the old view is dropped");
    assert_eq!(setup.send(pod, 0, &[store(None, &[70]).event()]), Outcome::Applied);
    assert_eq!(setup.index.counters(pod).expect("a known pod").restarts, 1);
}

#[test]
fn an_engine_that_starts_again_at_zero_is_a_new_view() {
    for on_gap in [GapPolicy::Clear, GapPolicy::Replay] {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.on_gap = on_gap);
        setup.send(pod, 0, &[store(None, &[1]).event()]);
        setup.send(pod, 1, &[store(Some(1), &[2]).event()]);
        assert_eq!(setup.send(pod, 0, &[store(None, &[9]).event()]), Outcome::Applied);
        assert_eq!((setup.depth(pod, &[1, 2]), setup.depth(pod, &[9])), (0, 1));
        assert_eq!(setup.trust(pod), TrustLevel::Exact, "the whole new stream is known");
    }
}

#[test]
fn an_undecodable_batch_drops_the_view_and_asks_for_a_replay() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.send(pod, 0, &[store(None, &[1]).event()]);
    let report = setup.index.apply_batch(pod, 1, b"\xc1 is no msgpack").expect("a known pod");
    assert_eq!(report.outcome, Outcome::NeedsResync(ResyncReason::Undecodable));
    assert_eq!(report.error.map(|error| error.kind()), Some(ErrorKind::Decode));
    assert_eq!((setup.depth(pod, &[1]), setup.trust(pod)), (0, TrustLevel::Degraded));
    assert_eq!(setup.send(pod, 2, &[store(None, &[2]).event()]), Outcome::Applied);
}

#[test]
fn a_bad_event_does_not_cost_the_rest_of_its_batch() {
    let setup = Setup::native();
    let pod = setup.pod();
    // The second of three events is cut down to a tag of no known engine.
    let good = |block| store(None, &[block]).event();
    let bytes = payload(0.0, Some(0), &[good(1), KvEvent::Cleared, good(2)]);
    let at = bytes.windows(16).position(|part| part == b"AllBlocksCleared").expect("the tag");
    let mut bytes = bytes;
    bytes[at..at + 16].copy_from_slice(b"SomethingUnknown");
    let report = setup.index.apply_batch(pod, 0, &bytes).expect("a known pod");
    assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownTag));
    assert_eq!((setup.depth(pod, &[1]), setup.depth(pod, &[2])), (1, 1));
    assert_eq!(setup.ignored(pod, IgnoreReason::UnknownTag), 1);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded, "it may have been a removal");
}

#[test]
fn the_largest_sequence_number_is_survived() {
    let setup = Setup::native();
    let pod = setup.pod();
    assert_eq!(setup.send(pod, u64::MAX, &[store(None, &[1]).event()]), Outcome::Applied);
    setup.send(pod, u64::MAX, &[store(None, &[2]).event()]);
    setup.send(pod, u64::MAX - 1, &[store(None, &[3]).event()]);
    setup.index.abandon_gap(pod, u64::MAX).expect("a known pod");
    assert_eq!(setup.send(pod, 0, &[store(None, &[4]).event()]), Outcome::Applied);
    assert_eq!(setup.depth(pod, &[4]), 1);
}

#[test]
fn what_a_report_counts_is_what_happened() {
    let setup = Setup::native();
    let pod = setup.pod();
    let events = vec![
        store(None, &[1, 2, 3]).event(),
        remove(&[3]).event(),
        remove(&[9]).event(),
        store(Some(50), &[51]).event(),
    ];
    let report = setup.apply_all(pod, events);
    assert_eq!((report.events, report.blocks_stored, report.blocks_removed), (4, 3, 1));
    assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownBlock), "the gravest of them");
    let counters = setup.index.counters(pod).expect("a known pod");
    assert_eq!((counters.batches, counters.events, counters.parked), (1, 4, 1));
}

#[test]
fn an_open_gap_shows_in_the_trust_level_until_it_is_filled() {
    let setup = Setup::native();
    let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
    let batches = [[store(None, &[1]).event()], [remove(&[1]).event()], [store(None, &[2]).event()]];
    setup.send(pod, 0, &batches[0]);
    setup.send(pod, 2, &batches[2]);
    setup.send(pod, 2, &batches[2]);
    assert_eq!(setup.trust(pod), TrustLevel::Degraded, "a removal may be among what is missing");
    assert_eq!(setup.index.counters(pod).expect("a known pod").gaps, 1, "one gap, however often it shows");
    setup.send(pod, 1, &batches[1]);
    assert_eq!(setup.trust(pod), TrustLevel::Exact);
    assert_eq!(setup.depth(pod, &[1]), 0);
}

#[test]
fn a_restarted_engine_is_forgotten_whole_with_its_groups_and_rank() {
    let setup = Setup::native();
    let pod = setup.pod();
    let sliding = Some(GroupKind::SlidingWindow { window: 5 });
    let full = Some(GroupKind::FullAttention);
    setup.send(
        pod,
        0,
        &[in_group(0, full, store(None, &[1, 2])).event(), in_group(1, sliding, store(None, &[1])).event()],
    );
    assert_eq!(setup.depth(pod, &[1, 2]), 1, "the window ends the match");
    setup.send(pod, 0, &[in_group(0, full, store(None, &[1, 2])).event()]);
    assert_eq!(setup.depth(pod, &[1, 2]), 2, "the engine of now has no window");
    assert_eq!(setup.trust(pod), TrustLevel::Exact);
}

#[test]
fn a_batch_of_before_a_gap_that_comes_late_is_not_applied() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.send(pod, 0, &[store(None, &[9]).event()]);
    setup.send(pod, 2, &[remove(&[1, 2]).event()]);
    let late = setup.send(pod, 1, &[store(None, &[1, 2]).event()]);
    assert_eq!(late, Outcome::NeedsResync(ResyncReason::Restarted));
    assert_eq!(setup.depth(pod, &[1, 2]), 0, "the engine has removed them since");
    assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    setup.send(pod, 3, &[store(None, &[5]).event()]);
    assert_eq!(setup.depth(pod, &[5]), 1, "the stream goes on");
}

#[test]
fn an_unreadable_batch_sent_again_is_a_duplicate() {
    let setup = Setup::native();
    let pod = setup.pod();
    setup.send(pod, 0, &[store(None, &[1]).event()]);
    let apply = |sequence| setup.index.apply_batch(pod, sequence, &[0xc1]).expect("a known pod").outcome;
    assert_eq!(apply(1), Outcome::NeedsResync(ResyncReason::Undecodable));
    assert_eq!(apply(1), Outcome::Ignored(IgnoreReason::Duplicate));
    assert_eq!(setup.send(pod, 2, &[store(None, &[2]).event()]), Outcome::Applied);
    assert_eq!((setup.depth(pod, &[1]), setup.depth(pod, &[2])), (0, 1));
}

#[test]
fn the_report_tells_what_could_not_be_read_and_where() {
    let setup = Setup::native();
    let pod = setup.pod();
    // [0.0, [["BlockStored"], ["AllBlocksCleared"]], 0]
    let mut payload = vec![0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x92, 0x91, 0xab];
    payload.extend(b"BlockStored");
    payload.extend([0x91, 0xb0]);
    payload.extend(b"AllBlocksCleared");
    payload.push(0);
    let report = setup.index.apply_batch(pod, 0, &payload).expect("a known pod");
    assert_eq!((report.events, report.ignored_for(IgnoreReason::Malformed)), (2, 1));
    assert_eq!(report.skipped[0].position, 0);
    assert!(report.skipped[0].detail.contains("block_hashes"), "{}", report.skipped[0].detail);
}
