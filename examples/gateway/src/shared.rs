//! What gateways in front of the same pods share.

use std::sync::Arc;

use kvroute_core::{Error, Router};
use kvroute_io::fleet::Fleet;
use kvroute_io::shared::connection::ConnectionStatus;
use kvroute_io::shared::{
    PeerCounters, SharedConfig, SharedState, SharedStatus, SharedTrust, SnapshotCounters,
};
use serde::Serialize;

/// Joins the others, if the configuration says where.
///
/// # Errors
///
/// What is wrong with it. A server that is not there is no error: it is tried again.
pub(crate) fn join(
    router: Arc<Router>,
    fleet: &Fleet,
    config: &SharedConfig,
) -> Result<Option<SharedState>, Error> {
    config.is_on().then(|| SharedState::start(router, fleet.clock(), config)).transpose()
}

/// What is shared, as the status shows it; times in seconds.
#[derive(Serialize)]
pub(crate) struct SharedView {
    replica: String,
    trust: SharedTrust,
    writer: ConnectionView,
    reader: Option<ConnectionView>,
    lag_seconds: Option<f64>,
    refused: Option<String>,
    peers: Vec<PeerView>,
    reports: PeerCounters,
    snapshots: SnapshotCounters,
}

#[derive(Serialize)]
struct ConnectionView {
    connected: bool,
    for_seconds: f64,
    server: String,
    connections: u64,
    error: Option<String>,
}

#[derive(Serialize)]
struct PeerView {
    name: String,
    silent_for_seconds: f64,
    /// All that it has in flight is known.
    whole: bool,
    in_flight: usize,
    reports: u64,
    lost: u64,
}

impl SharedView {
    pub(crate) fn of(status: &SharedStatus) -> Self {
        Self {
            replica: status.replica.clone(),
            trust: status.trust,
            writer: ConnectionView::of(&status.writer),
            reader: status.reader.as_ref().map(ConnectionView::of),
            lag_seconds: status.lag.map(|lag| lag.as_secs_f64()),
            refused: status.refused.clone(),
            peers: status
                .peers
                .iter()
                .map(|peer| PeerView {
                    name: peer.name.clone(),
                    silent_for_seconds: peer.silent_for.as_secs_f64(),
                    whole: peer.is_whole,
                    in_flight: peer.in_flight,
                    reports: peer.reports,
                    lost: peer.lost,
                })
                .collect(),
            reports: status.reports,
            snapshots: status.snapshots.clone(),
        }
    }
}

impl ConnectionView {
    fn of(status: &ConnectionStatus) -> Self {
        Self {
            connected: status.is_connected,
            for_seconds: status.lasts.as_secs_f64(),
            server: status.server.clone(),
            connections: status.connections,
            error: status.error.clone(),
        }
    }
}
