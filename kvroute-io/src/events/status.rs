//! What a subscriber tells of itself.

use kvroute_core::index::Counters;
use serde::Serialize;

use super::Mode;

/// A subscriber at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SubscriberStatus {
    /// Every stream, in order of pod.
    pub streams: Vec<StreamStatus>,
    /// Every endpoint that is subscribed to, in order of name.
    pub endpoints: Vec<EndpointStatus>,
}

/// A stream at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StreamStatus {
    /// Name of its pod; empty if the router no longer has it.
    pub pod: String,
    /// Data-parallel rank of its pod.
    pub dp_rank: u32,
    /// Its endpoint.
    pub endpoint: String,
    /// Whether a peer is connected to that endpoint. Where we bind, it may be another pod's.
    pub connected: bool,
    /// What was counted on the way to the router.
    #[serde(flatten)]
    pub counters: StreamCounters,
    /// What the router counted when it applied that: restarts, parked and ignored events, and more.
    pub applied: Counters,
}

/// What was counted for one stream on the way to the router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StreamCounters {
    /// Number of the last batch applied.
    pub last_sequence: Option<u64>,
    /// Batches published to us.
    pub batches: u64,
    /// Bytes of their messages.
    pub bytes: u64,
    /// Seconds between the publisher's time stamp in the last of them and its arrival here: its delay, and what the two
    /// clocks differ by.
    pub lag_seconds: Option<f64>,
    /// The largest such lag.
    pub longest_lag_seconds: Option<f64>,
    /// Times that batches were found missing.
    pub gaps: u64,
    /// Batches that could not be had, by their numbers.
    pub lost: u64,
    /// Batches that could not be read; what they said is lost.
    pub undecodable: u64,
    /// Replays asked for.
    pub replays: u64,
    /// Batches that came by replay, those that were known already included.
    pub replayed: u64,
    /// Published batches that a replay had brought before.
    pub repeated: u64,
    /// Replays that did not come to their end in time.
    pub replay_failures: u64,
    /// Messages of replays that were none, or of a number not asked for.
    pub malformed_replies: u64,
    /// Whether a replay is under way.
    pub replaying: bool,
    /// Batches held until it has ended.
    pub held: usize,
    /// Bytes of their payload.
    pub held_bytes: usize,
    /// Batches dropped because too many were held.
    pub overflowed: u64,
    /// Times that the view was dropped because something could not be replayed.
    pub views_dropped: u64,
    /// Batches left out because the router no longer has the pod.
    pub refused: u64,
}

/// An endpoint that is subscribed to, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// The endpoint.
    pub endpoint: String,
    /// Who listens there.
    pub mode: Mode,
    /// What was counted for it.
    #[serde(flatten)]
    pub counters: EndpointCounters,
}

/// What was counted for one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EndpointCounters {
    /// Peers that are connected now.
    pub connections: usize,
    /// Connections that ever came to be.
    pub connected: u64,
    /// Messages that were no batches.
    pub malformed: u64,
    /// Messages whose topic is of no stream.
    pub unknown_topics: u64,
    /// Why its socket could not be opened; it is tried again.
    pub error: Option<String>,
}
