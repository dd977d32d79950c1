//! What the router knows, in a file, so that a restarted gateway goes on where it was.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::{Error, Restore, RestoreReport, Router};
use kvroute_io::fleet::PodState;
use tokio::time::sleep;

use crate::config::{SnapshotConfig, invalid};
use crate::gateway::Gateway;

/// Writes a snapshot beside the file, and then in its place, so that there is always a whole one. Answers its bytes.
///
/// # Errors
///
/// That it cannot be written, or has no form (more pods than a snapshot can hold).
pub fn write(router: &Router, now: Duration, path: &Path) -> Result<u64, Error> {
    let fail = |error: io::Error| invalid(format!("snapshot {}: {error}", path.display()));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = BufWriter::new(File::create(&beside).map_err(fail)?);
    let (mut snapshot, mut bytes) = (router.snapshot(now), 0);
    while let Some(chunk) = snapshot.next_chunk(router)? {
        file.write_all(chunk).map_err(fail)?;
        bytes += chunk.len() as u64;
    }
    let file = file.into_inner().map_err(|error| fail(error.into_error()))?;
    file.sync_all().map_err(fail)?;
    fs::rename(&beside, path).map_err(fail)?;
    Ok(bytes)
}

/// Reads a snapshot into a router, for the pods that are there; `None` if there is no such file.
///
/// # Errors
///
/// That it cannot be read, or is damaged; then nothing was changed.
pub fn restore(router: &Router, now: Duration, path: &Path) -> Result<Option<RestoreReport>, Error> {
    let fail = |error: &dyn std::fmt::Display| invalid(format!("snapshot {}: {error}", path.display()));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(&error)),
    };
    let (mut restore, mut chunk) = (Restore::default(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk).map_err(|error| fail(&error))? {
            0 => break,
            length => restore.push(&chunk[..length]).map_err(|error| fail(&error))?,
        }
    }
    let report = restore.finish(router, now).map_err(|error| fail(&error))?;
    remove_added(router, &report)?;
    Ok(Some(report))
}

/// A pod that is not here is nowhere to send requests to; whether it comes back its source knows.
fn remove_added(router: &Router, report: &RestoreReport) -> Result<(), Error> {
    let mut added = report.pods.iter().filter(|pod| pod.added).filter_map(|pod| pod.id);
    added.try_for_each(|id| router.remove_pod(id))
}

/// How long pods have to say what they are, before what the snapshot knows of them is given up.
const LEARNING: Duration = Duration::from_secs(20);

/// How long a snapshot that others stored is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the snapshot when all pods have said what they are, and then lets their events come: only pods without events
/// take in what was known of them. It is in the file, or, without one, where other gateways stored theirs.
pub(crate) async fn restore_then_release(path: Option<PathBuf>, gateway: Arc<Gateway>) {
    let start = Instant::now();
    while is_learning(&gateway) && start.elapsed() < LEARNING {
        sleep(Duration::from_millis(50)).await;
    }
    let restored = match (path, gateway.shared()) {
        (Some(path), _) => {
            let restoring = Arc::clone(&gateway);
            let restored =
                tokio::task::spawn_blocking(move || restore(restoring.router(), restoring.now(), &path));
            restored.await.unwrap_or_else(|error| Err(invalid(error.to_string())))
        }
        (None, Some(shared)) => match shared.load_snapshot(PATIENCE).await {
            Ok(Some(report)) => remove_added(gateway.router(), &report).map(|()| Some(report)),
            other => other,
        },
        (None, None) => Ok(None),
    };
    gateway.fleet().release_events();
    if let Some(shared) = gateway.shared() {
        shared.store_snapshots();
    }
    match restored {
        Ok(Some(report)) => {
            for pod in &report.pods {
                match &pod.blocks {
                    Ok(blocks) => tracing::info!(pod = pod.name, rank = pod.dp_rank, ?blocks, "restored"),
                    Err(refusal) => {
                        tracing::warn!(pod = pod.name, rank = pod.dp_rank, ?refusal, "not restored")
                    }
                }
            }
            tracing::info!(sessions = report.sessions, left_out = report.sessions_left_out, "restored");
        }
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "nothing was restored"),
    }
}

fn is_learning(gateway: &Gateway) -> bool {
    let pods = gateway.fleet().status().pods;
    pods.is_empty() || pods.iter().any(|pod| pod.state == PodState::Learning)
}

/// Writes a snapshot now and then, for ever.
pub async fn keep(config: SnapshotConfig, gateway: Arc<Gateway>) {
    if config.interval_ms == 0 {
        return;
    }
    loop {
        sleep(Duration::from_millis(config.interval_ms)).await;
        let (gateway, path) = (Arc::clone(&gateway), config.path.clone());
        let written =
            tokio::task::spawn_blocking(move || write(gateway.router(), gateway.now(), &path)).await;
        match written {
            Ok(Ok(bytes)) => tracing::debug!(bytes, "a snapshot was written"),
            Ok(Err(error)) => tracing::error!(%error, "no snapshot was written"),
            Err(_) => return,
        }
    }
}
