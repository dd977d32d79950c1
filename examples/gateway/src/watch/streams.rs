//! Series of the streams of KV events on their way to the router.

use std::fmt;

use kvroute_io::events::StreamStatus;
use kvroute_io::fleet::FleetStatus;

use super::MAX_PODS;
use super::exposition::rank_text;
use super::sheet::{Labels, Sheet};

type Count = (&'static str, &'static str, fn(&StreamStatus) -> u64);
type Level = (&'static str, &'static str, fn(&StreamStatus) -> Option<f64>);

const COUNTS: [Count; 8] = [
    ("kvroute_stream_bytes", "Bytes of KV events received.", |stream| stream.counters.bytes),
    ("kvroute_stream_gaps", "Times that the subscription found batches missing.", |stream| {
        stream.counters.gaps
    }),
    ("kvroute_stream_lost_batches", "Batches that could not be had, not by replay either.", |stream| {
        stream.counters.lost
    }),
    ("kvroute_stream_undecodable_batches", "Batches that could not be read.", |stream| {
        stream.counters.undecodable
    }),
    ("kvroute_stream_replays", "Replays asked for.", |stream| stream.counters.replays),
    ("kvroute_stream_replay_failures", "Replays that did not come to their end in time.", |stream| {
        stream.counters.replay_failures
    }),
    ("kvroute_stream_overflowed_batches", "Batches dropped because too many were held.", |stream| {
        stream.counters.overflowed
    }),
    (
        "kvroute_stream_views_dropped",
        "Times that a view was dropped because something could not be replayed.",
        |stream| stream.counters.views_dropped,
    ),
];

const LEVELS: [Level; 3] = [
    ("kvroute_stream_connected", "1 if the stream's publisher is connected.", |stream| {
        Some(f64::from(u8::from(stream.connected)))
    }),
    (
        "kvroute_stream_lag_seconds",
        "From the publisher's time stamp to arrival, of the last batch; what the two clocks differ by is in it.",
        |stream| stream.counters.lag_seconds,
    ),
    ("kvroute_stream_held_batches", "Batches held until a replay has ended.", |stream| {
        Some(stream.counters.held as f64)
    }),
];

fn labels(stream: &StreamStatus) -> Labels<'_> {
    vec![("pod", &stream.pod), ("dp_rank", rank_text(stream.dp_rank))]
}

pub(super) fn encode(sheet: &mut Sheet<'_>, fleet: &FleetStatus) -> fmt::Result {
    // One whose pod has just left has no name.
    let streams = || fleet.events.streams.iter().filter(|stream| !stream.pod.is_empty()).take(MAX_PODS);
    for (name, help, count) in COUNTS {
        sheet.counters(name, help, streams().map(|stream| (labels(stream), count(stream))))?;
    }
    for (name, help, level) in LEVELS {
        sheet.gauges(name, help, streams().filter_map(|stream| Some((labels(stream), level(stream)?))))?;
    }
    Ok(())
}
