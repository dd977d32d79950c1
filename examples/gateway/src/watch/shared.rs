//! Series of what is shared with other gateways.

use std::fmt;

use kvroute_io::shared::{SharedStatus, SharedTrust};

use super::sheet::Sheet;

pub(super) fn encode(sheet: &mut Sheet<'_>, status: &SharedStatus) -> fmt::Result {
    let level = match status.trust {
        SharedTrust::Local => 0.0,
        SharedTrust::Degraded => 1.0,
        SharedTrust::Shared => 2.0,
    };
    let help = "How far what is shared is to be believed: 2 all know what all do, 1 something is late, lost or refused, 0 \
                this gateway goes by what it knows itself.";
    sheet.gauge("kvroute_shared_trust", help, level)?;
    let connections = || {
        let writer = std::iter::once(("writer", &status.writer));
        writer.chain(status.reader.iter().map(|reader| ("reader", reader)))
    };
    let up = connections()
        .map(|(name, connection)| (vec![("connection", name)], f64::from(u8::from(connection.is_connected))));
    sheet.gauges("kvroute_shared_connected", "1 while the connection to the shared server stands.", up)?;
    let made = connections().map(|(name, connection)| (vec![("connection", name)], connection.connections));
    sheet.counters("kvroute_shared_connections", "Times that the connection came to stand.", made)?;
    if let Some(lag) = status.lag {
        let help = "How old what other gateways know of this one is.";
        sheet.gauge("kvroute_shared_lag_seconds", help, lag.as_secs_f64())?;
    }
    sheet.gauge("kvroute_shared_peers", "Other gateways that are heard.", status.peers.len() as f64)?;
    let in_flight: usize = status.peers.iter().map(|peer| peer.in_flight).sum();
    sheet.gauge("kvroute_shared_peer_requests", "Requests that they have in flight.", in_flight as f64)?;
    let reports = &status.reports;
    let results = [
        ("sent", reports.sent),
        ("not-sent", reports.not_sent),
        ("received", reports.received),
        ("repeated", reports.repeated),
        ("lost", reports.lost),
        ("refused", reports.refused),
        ("unreadable", reports.unreadable),
    ];
    let help = "Reports of what gateways do, by what became of them; lost and not-sent ones are made up for by statements.";
    sheet.counters("kvroute_shared_reports", help, results.map(|(name, n)| (vec![("result", name)], n)))?;
    sheet.counter("kvroute_shared_report_bytes", "Bytes of the reports sent.", reports.sent_bytes)?;
    let left_out = [
        ("unknown-pods", reports.unknown_pods),
        ("unknown-blocks", reports.unknown_blocks),
        ("over-limit", reports.over_limit),
    ];
    let help = "What of others' reports was left out: pods that are not here, blocks that mean nothing here, no room.";
    sheet.counters("kvroute_shared_left_out", help, left_out.map(|(name, n)| (vec![("what", name)], n)))?;
    let snapshots = &status.snapshots;
    let results =
        [("stored", snapshots.stored), ("others-turn", snapshots.others_turn), ("failed", snapshots.failed)];
    let help = "Times a snapshot was to be stored for others, by what came of it.";
    sheet.counters("kvroute_shared_snapshots", help, results.map(|(name, n)| (vec![("result", name)], n)))
}
