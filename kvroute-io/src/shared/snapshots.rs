//! What a router knows, stored for those that start.
//!
//! One router at a time stores it, by a lease that ends by itself. A snapshot is written in chunks under a number of its
//! own, and only then named as the newest, so whoever starts finds a whole one or none. Chunks end by themselves, too, some
//! time after the next snapshot has taken their place.
//!
//! ```text
//! {prefix}:snapshot:lease   the life of the router whose turn it is
//! {prefix}:snapshot:newest  number, chunks, bytes
//! {prefix}:snapshot:N:I     chunk I of snapshot N
//! ```

use std::sync::Arc;
use std::time::Duration;

use kvroute_core::config::Problem;
use kvroute_core::{Error, Restore, RestoreReport, Router};
use parking_lot::Mutex;
use redis::Value;

use super::config::{SharedConfig, SnapshotsConfig};
use super::connection::{Connection, ConnectionError, jittered};
use super::peers::every;
use super::status::SnapshotCounters;
use crate::fleet::Clock;

/// Bytes of a chunk, roughly.
const CHUNK: usize = 512 << 10;
/// Chunks are kept for so many intervals, and an hour at least, so that routers start warm after a pause as well.
const KEPT: u32 = 4;
const KEPT_AT_LEAST: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Snapshots {
    pub(super) router: Arc<Router>,
    pub(super) clock: Clock,
    pub(super) connection: Connection,
    pub(super) shared: SharedConfig,
    pub(super) config: SnapshotsConfig,
    pub(super) life: u64,
    pub(super) counters: Mutex<SnapshotCounters>,
}

/// Stores what the router knows whenever it is its turn, for good.
pub(super) async fn store_now_and_then(snapshots: Arc<Snapshots>) {
    let period = Duration::from_millis(snapshots.config.interval_ms);
    let mut ticks = every(jittered(period));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let result = snapshots.store_in_turn().await;
        let mut counters = snapshots.counters.lock();
        match result {
            Ok(Some(bytes)) => {
                (counters.stored, counters.stored_bytes) = (counters.stored + 1, bytes);
                counters.error = None;
            }
            Ok(None) => counters.others_turn += 1,
            Err(error) => {
                counters.failed += 1;
                tracing::warn!(error, "the snapshot was not stored");
                counters.error = Some(error);
            }
        }
    }
}

impl Snapshots {
    /// Stores a snapshot if nobody else did within the interval; answers its bytes.
    async fn store_in_turn(&self) -> Result<Option<u64>, String> {
        let lease = self.shared.key("snapshot:lease");
        let mut take = redis::cmd("SET");
        // A little less than the interval, so that it is over when this router comes again.
        take.arg(&lease).arg(self.life).arg("NX").arg("PX").arg(self.config.interval_ms * 9 / 10);
        if self.connection.command(&take).await.map_err(|error| error.to_string())? == Value::Nil {
            return Ok(None);
        }
        let stored = self.store().await;
        if stored.is_err() {
            // Another one may have better luck.
            let _ = self.connection.command(redis::cmd("DEL").arg(&lease)).await;
        }
        stored.map(Some)
    }

    async fn store(&self) -> Result<u64, String> {
        let text = |error: ConnectionError| error.to_string();
        let number =
            self.connection.command(redis::cmd("INCR").arg(self.shared.key("snapshot:number"))).await;
        let number: u64 =
            redis::from_redis_value(number.map_err(text)?).map_err(|error| error.to_string())?;
        let kept =
            (Duration::from_millis(self.config.interval_ms) * KEPT).max(KEPT_AT_LEAST).as_millis() as u64;
        let mut snapshot = self.router.snapshot(self.clock.now());
        let (mut chunk, mut chunks, mut bytes) = (Vec::with_capacity(CHUNK), 0_u64, 0_u64);
        loop {
            let piece = snapshot.next_chunk(&self.router).map_err(|error| error.to_string())?;
            if let Some(piece) = piece {
                chunk.extend_from_slice(piece);
            }
            if chunk.len() >= CHUNK || (piece.is_none() && !chunk.is_empty()) {
                bytes += chunk.len() as u64;
                if bytes > self.config.max_bytes {
                    return Err(format!("it has more than {} bytes", self.config.max_bytes));
                }
                let key = self.shared.key(&format!("snapshot:{number}:{chunks}"));
                let mut set = redis::cmd("SET");
                set.arg(key).arg(&chunk[..]).arg("PX").arg(kept);
                self.connection.command(&set).await.map_err(text)?;
                chunks += 1;
                chunk.clear();
            }
            if piece.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut name = redis::cmd("SET");
        name.arg(self.shared.key("snapshot:newest")).arg(format!("{number} {chunks} {bytes}"));
        self.connection.command(name.arg("PX").arg(kept)).await.map_err(text)?;
        Ok(bytes)
    }
}

/// Loads the newest snapshot into a router whose pods had no events yet; `None` if there is none.
///
/// # Errors
///
/// `InvalidInput` if the server does not answer or the snapshot is too large, `Decode` if it is damaged; then nothing was
/// changed.
pub(super) async fn load(
    connection: &Connection,
    shared: &SharedConfig,
    config: &SnapshotsConfig,
    router: &Router,
    clock: Clock,
) -> Result<Option<RestoreReport>, Error> {
    let fail = |what: String| Error::from(Problem::new(format!("shared snapshot: {what}")));
    let newest = connection.command(redis::cmd("GET").arg(shared.key("snapshot:newest"))).await;
    let newest: Option<String> = redis::from_redis_value(newest.map_err(|error| fail(error.to_string()))?)
        .map_err(|error| fail(error.to_string()))?;
    let Some(newest) = newest else { return Ok(None) };
    let numbers: Vec<u64> = newest.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [number, chunks, bytes] = numbers[..] else { return Err(fail(format!("its name is {newest:?}"))) };
    if bytes > config.max_bytes {
        return Err(fail(format!("it has {bytes} bytes; {} are allowed", config.max_bytes)));
    }
    let (mut restore, mut left) = (Restore::default(), bytes);
    for chunk in 0..chunks {
        let key = shared.key(&format!("snapshot:{number}:{chunk}"));
        let value = connection.command(redis::cmd("GET").arg(key)).await;
        let Value::BulkString(value) = value.map_err(|error| fail(error.to_string()))? else {
            return Err(fail(format!("chunk {chunk} of {chunks} is gone")));
        };
        left =
            left.checked_sub(value.len() as u64).ok_or_else(|| fail("it is longer than it says".into()))?;
        restore.push(&value)?;
    }
    restore.finish(router, clock.now()).map(Some)
}
