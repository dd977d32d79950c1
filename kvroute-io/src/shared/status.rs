//! What is shared, and how far it is to be believed.

use std::time::Duration;

use kvroute_core::PeerStatus;
use serde::Serialize;

use super::connection::ConnectionStatus;

/// How far what routers share is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedTrust {
    /// Nothing comes: this router goes by what it knows itself, and by what it heard until peers are forgotten.
    Local,
    /// Something comes late, was lost, or is refused by the server.
    Degraded,
    /// All routers know what all do, but for the lag.
    Shared,
}

impl SharedTrust {
    /// Its name in status and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Degraded => "degraded",
            Self::Shared => "shared",
        }
    }
}

/// What became of reports, counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PeerCounters {
    /// Peers that are heard now.
    pub peers: usize,
    /// Reports of this router that the server has.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Reports that it may not have: no connection, no answer in time, or refused.
    pub not_sent: u64,
    /// Reports of peers that were taken in.
    pub received: u64,
    /// Reports that came again.
    pub repeated: u64,
    /// Reports of peers that never came.
    pub lost: u64,
    /// Reports of more peers than there is room for.
    pub refused: u64,
    /// What is in the stream and no report that can be read.
    pub unreadable: u64,
    /// Parts of requests on pods that are not here.
    pub unknown_pods: u64,
    /// Prompts whose blocks mean nothing here.
    pub unknown_blocks: u64,
    /// Requests for which there was no room.
    pub over_limit: u64,
}

/// What became of snapshots, counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotCounters {
    /// Snapshots that this router stored.
    pub stored: u64,
    /// Bytes of the last.
    pub stored_bytes: u64,
    /// Times it was not this router's turn.
    pub others_turn: u64,
    /// Times it could not be stored.
    pub failed: u64,
    /// What was wrong the last time.
    pub error: Option<String>,
}

/// What is shared at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SharedStatus {
    /// What this router calls itself.
    pub replica: String,
    /// How far what is shared is to be believed.
    pub trust: SharedTrust,
    /// The connection that writes.
    pub writer: ConnectionStatus,
    /// The connection that reads; none if peers are not shared.
    pub reader: Option<ConnectionStatus>,
    /// How old what others know of this router is; `None` before anything came back.
    pub lag: Option<Duration>,
    /// What the server said to the last write, if it was refused or not answered.
    pub refused: Option<String>,
    /// The other routers.
    pub peers: Vec<PeerStatus>,
    /// What became of reports.
    pub reports: PeerCounters,
    /// What became of snapshots.
    pub snapshots: SnapshotCounters,
}
