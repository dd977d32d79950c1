//! Routers that tell each other what they do, over a Redis stream.
//!
//! ```text
//! router -> journal -> report --XADD--> {prefix}:peers --XREAD--> all routers, this one included
//! ```
//!
//! The writer adds what happened every few milliseconds, a heartbeat every second, and a statement of all that is in flight
//! every few seconds and whenever a report may have been lost. The reader takes in everything that others wrote. After a
//! connection was made it begins a while before now, so that it has a statement of every router that lives; what it had
//! before is told by its number. This router's own reports come back to it as well: how long that takes is how old
//! what others know is, measured by one clock.
//!
//! The stream is bounded by its length, and expires when nobody writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::{Router, Telling};
use parking_lot::Mutex;
use redis::Value;
use redis::streams::StreamReadReply;
use tokio::time::{MissedTickBehavior, interval};

use super::config::ReportsConfig;
use super::connection::{Connection, ConnectionError};
use super::status::PeerCounters;
use crate::fleet::Clock;

const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often peers are looked at that say nothing.
const EXPIRY: Duration = Duration::from_millis(250);
/// What each router adds to the time between two reports, and between two reads, so that all together write and read some
/// 2000 times a second, however many they are.
const PER_ROUTER: Duration = Duration::from_micros(500);
/// How long the stream outlives the last report.
const STREAM_TTL: Duration = Duration::from_secs(60);
/// How long the server waits for something to come before it answers that nothing did.
const BLOCK: Duration = Duration::from_millis(500);
/// Most reports in one answer.
const READ: usize = 256;
/// How often the server's clock is asked for.
const CLOCK: Duration = Duration::from_secs(10);
/// The field of a report in its stream entry.
const FIELD: &str = "report";

/// What both tasks know.
#[derive(Debug)]
pub(super) struct Peering {
    pub(super) router: Arc<Router>,
    pub(super) clock: Clock,
    pub(super) config: ReportsConfig,
    pub(super) stream: String,
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) state: Mutex<PeeringState>,
}

#[derive(Debug, Default)]
pub(super) struct PeeringState {
    pub(super) counters: PeerCounters,
    /// Number and time of own reports that did not come back yet.
    under_way: VecDeque<(u64, Instant)>,
    /// Own reports that were made.
    made: u64,
    /// How long the last one took to come back.
    round_trip: Option<Duration>,
    /// When anything was read last.
    pub(super) heard: Option<Instant>,
    /// What the last write was answered, if that was an error.
    pub(super) refused: Option<ConnectionError>,
}

impl PeeringState {
    /// How old what others know of this router is; `None` before anything came back.
    pub(super) fn lag(&self) -> Option<Duration> {
        let oldest = self.under_way.front().map(|(_, since)| since.elapsed());
        oldest.max(self.round_trip)
    }

    fn returned(&mut self, sequence: u64) {
        while let Some(&(oldest, since)) = self.under_way.front() {
            if oldest > sequence {
                break;
            }
            self.under_way.pop_front();
            if oldest == sequence {
                self.round_trip = Some(since.elapsed());
            }
        }
    }
}

/// Tells what this router does, for good.
pub(super) async fn write(peering: Arc<Peering>) {
    let (mut connection, mut stated, mut told) = (0, Instant::now(), Instant::now());
    let mut expiry = Instant::now();
    loop {
        let began = Instant::now();
        if began - expiry >= EXPIRY {
            expiry = began;
            peering.router.expire_peers(peering.clock.now());
        }
        let status = peering.writer.status();
        if status.is_connected {
            let may_have_lost = status.connections != connection || peering.state.lock().refused.is_some();
            let what = if may_have_lost || began - stated >= peering.config.statement() {
                Telling::Statement
            } else if began - told >= HEARTBEAT {
                Telling::Heartbeat
            } else {
                Telling::News
            };
            if status.connections != connection {
                peering.discard();
            }
            if let Some(report) = peering.report(what) {
                let sent = peering.append(&report).await;
                if sent && what == Telling::Statement {
                    (connection, stated) = (status.connections, began);
                }
                told = began;
                // Nobody can be told more by asking again at once.
                if !sent {
                    tokio::time::sleep(EXPIRY).await;
                }
            }
        }
        tokio::time::sleep(peering.pause().saturating_sub(began.elapsed())).await;
    }
}

/// Takes in what others tell, for good.
pub(super) async fn read(peering: Arc<Peering>) {
    loop {
        let connection = peering.reader.ready().await;
        let Ok(mut place) = Place::of(&peering).await else {
            tokio::time::sleep(EXPIRY).await;
            continue;
        };
        while peering.reader.status().connections == connection {
            if place.asked.elapsed() >= CLOCK
                && let Ok(now) = Place::of(&peering).await
            {
                (place.server_now, place.asked) = (now.server_now, now.asked);
            }
            if peering.read_next(&mut place).await.is_err() {
                break;
            }
            // What comes meanwhile is read together.
            tokio::time::sleep(PER_ROUTER * peering.routers()).await;
        }
    }
}

/// Where the reader is in the stream.
struct Place {
    /// The entry that was read last.
    id: String,
    /// The server's clock, milliseconds since 1970, when it was asked.
    server_now: u64,
    asked: Instant,
}

impl Place {
    /// So long before now that every router that lives stated what it has since.
    async fn of(peering: &Peering) -> Result<Self, ConnectionError> {
        let answer = peering.reader.command(&redis::cmd("TIME")).await?;
        let (seconds, micros): (u64, u64) = redis::from_redis_value(answer)
            .map_err(|_| ConnectionError::Broken("TIME was not answered with a time".to_owned()))?;
        let server_now = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        let before = peering.config.statement().saturating_mul(2).as_millis() as u64;
        let id = format!("{}-0", server_now.saturating_sub(before));
        Ok(Self { id, server_now, asked: Instant::now() })
    }

    /// How long ago the entry of this id was written.
    fn age(&self, id: &str) -> Duration {
        let written = id.split_once('-').and_then(|(millis, _)| millis.parse().ok()).unwrap_or(u64::MAX);
        let now = Duration::from_millis(self.server_now) + self.asked.elapsed();
        now.saturating_sub(Duration::from_millis(written))
    }
}

impl Peering {
    /// The next report, with its time.
    fn report(&self, what: Telling) -> Option<Vec<u8>> {
        let report = self.router.report_to_peers(what)?;
        let mut state = self.state.lock();
        state.made += 1;
        let sequence = state.made;
        state.under_way.push_back((sequence, Instant::now()));
        // What never comes back is not waited for.
        if state.under_way.len() > 4096 {
            state.under_way.pop_front();
        }
        Some(report)
    }

    /// Forgets what happened while there was no connection: the statement says what is left of it, and it is too old to
    /// be told as what was sent a moment ago, or to say where a conversation is at home now.
    fn discard(&self) {
        if self.report(Telling::News).is_some() {
            self.state.lock().under_way.pop_back();
        }
    }

    /// How long to wait between two reports.
    fn pause(&self) -> Duration {
        Duration::from_millis(self.config.interval_ms).max(PER_ROUTER * self.routers())
    }

    /// How many share, this one included.
    fn routers(&self) -> u32 {
        1 + self.state.lock().counters.peers as u32
    }

    async fn append(&self, report: &[u8]) -> bool {
        let mut add = redis::cmd("XADD");
        add.arg(&self.stream).arg("MAXLEN").arg("~").arg(self.config.max_reports).arg("*");
        add.arg(FIELD).arg(report);
        let mut both = redis::pipe();
        both.add_command(add);
        both.cmd("PEXPIRE").arg(&self.stream).arg(STREAM_TTL.as_millis() as u64).ignore();
        let result = self.writer.pipeline(&both).await;
        let mut state = self.state.lock();
        match result {
            Ok(_) => {
                state.counters.sent += 1;
                state.counters.sent_bytes += report.len() as u64;
                state.refused = None;
                true
            }
            Err(error) => {
                state.counters.not_sent += 1;
                // It never comes back.
                state.under_way.pop_back();
                state.refused = Some(error);
                false
            }
        }
    }

    /// Says that this router stops, if there is a connection.
    pub(super) async fn leave(&self) {
        if let Some(report) = self.report(Telling::Farewell) {
            self.append(&report).await;
        }
    }

    /// Takes in what comes next, or nothing if nothing does.
    async fn read_next(&self, place: &mut Place) -> Result<(), ConnectionError> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(READ).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        command.arg("STREAMS").arg(&self.stream).arg(&place.id);
        let limit = BLOCK + Duration::from_secs(1);
        let answer = self.reader.command_within(&command, limit).await?;
        let reply: Option<StreamReadReply> = match answer {
            Value::Nil => None,
            answer => redis::from_redis_value(answer).ok(),
        };
        self.state.lock().heard = Some(Instant::now());
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
            let bytes = match entry.map.get(FIELD) {
                Some(Value::BulkString(bytes)) => &bytes[..],
                _ => &[],
            };
            self.take(bytes, place.age(&entry.id));
            place.id = entry.id;
        }
        Ok(())
    }

    fn take(&self, bytes: &[u8], age: Duration) {
        let now = self.clock.now();
        let outcome = self.router.apply_peer_report(bytes, age, now);
        let peers = self.router.peers(now).len();
        let mut state = self.state.lock();
        let counters = &mut state.counters;
        counters.peers = peers;
        match outcome {
            Err(error) => {
                counters.unreadable += 1;
                tracing::debug!(%error, "a peer's report cannot be read");
            }
            Ok(outcome) if outcome.is_own => state.returned(outcome.sequence),
            Ok(outcome) if outcome.is_repeated => counters.repeated += 1,
            Ok(outcome) if outcome.is_refused => counters.refused += 1,
            Ok(outcome) => {
                counters.received += 1;
                counters.lost += outcome.lost;
                counters.unknown_pods += outcome.unknown_pods as u64;
                counters.unknown_blocks += outcome.unknown_blocks as u64;
                counters.over_limit += outcome.over_limit as u64;
            }
        }
    }
}

impl ReportsConfig {
    fn statement(&self) -> Duration {
        Duration::from_millis(self.statement_ms)
    }
}

/// Ticks that do not pile up.
pub(super) fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
