//! One endpoint that is subscribed to: its socket, what the socket's monitor tells, and the streams that come from there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use zmq::SocketEvent;

use super::follower::Follower;
use super::message::{Batch, Connection, Frames};
use super::options::Backoff;
use super::replay::ReplaySocket;
use super::rooms::{Rooms, Seats};
use super::status::EndpointCounters;
use super::{Mode, SubscriberOptions};

/// How long after a connection came to be its streams are compared with their engines (once more). A subscription
/// reaches the publisher a moment after the connection, and what is published until then reaches nobody. Where we
/// bind, many may connect at once, and which of the pods it was is not known.
const SETTLE: Duration = Duration::from_secs(1);

pub(super) struct Subscription {
    pub(super) endpoint: String,
    pub(super) mode: Mode,
    pub(super) streams: Vec<Followed>,
    pub(super) counters: Arc<Mutex<EndpointCounters>>,
    sockets: Option<Sockets>,
    retry: Backoff,
    /// When to open the socket (anew), or to compare the streams with their engines.
    due: Option<Instant>,
}

/// A stream and its replay.
pub(super) struct Followed {
    /// Topics that are its own: it has a name before it, `kv@<pod>@`, or the prefix that was given.
    pub(super) prefix: Vec<u8>,
    /// What is subscribed to.
    pub(super) topic: String,
    pub(super) replay_endpoint: Option<String>,
    pub(super) follower: Follower,
    pub(super) replay: Option<ReplaySocket>,
}

struct Sockets {
    sub: zmq::Socket,
    monitor: zmq::Socket,
    _seats: Seats,
}

impl Subscription {
    pub(super) fn new(
        endpoint: String,
        mode: Mode,
        counters: Arc<Mutex<EndpointCounters>>,
        options: &SubscriberOptions,
        now: Instant,
    ) -> Self {
        let retry = Backoff::new(options.reconnect_first, options.reconnect_longest);
        Self { endpoint, mode, streams: Vec::new(), counters, sockets: None, retry, due: Some(now) }
    }

    /// The sockets to be polled.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &zmq::Socket> {
        self.sockets.iter().flat_map(|sockets| [&sockets.monitor, &sockets.sub])
    }

    /// When it wants attention though nothing came.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Does what is due; answers whether the streams should be compared with their engines.
    pub(super) fn tend(&mut self, rooms: &mut Rooms, options: &SubscriberOptions, now: Instant) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        if self.sockets.is_some() && (self.mode == Mode::Bind || self.counters.lock().connections > 0) {
            return true;
        }
        // What is left in the old one came over a connection that is lost.
        self.sockets = None;
        let opened = self.open(rooms, options);
        let mut counters = self.counters.lock();
        match opened {
            Ok(sockets) => {
                self.sockets = Some(sockets);
                counters.error = None;
            }
            Err(error) => {
                counters.error = Some(format!("{}: {error}", self.endpoint));
                self.due = Some(now + self.retry.failed());
            }
        }
        false
    }

    fn open(&self, rooms: &mut Rooms, options: &SubscriberOptions) -> zmq::Result<Sockets> {
        let (seats, name) = (rooms.take(3), rooms.name());
        let sub = seats.context.socket(zmq::SUB)?;
        sub.set_linger(0)?;
        sub.set_rcvhwm(options.high_water_mark.into())?;
        sub.set_maxmsgsize(options.max_message_bytes.into())?;
        sub.set_ipv6(self.endpoint.contains('['))?;
        sub.set_reconnect_ivl(milliseconds(options.reconnect_first))?;
        sub.set_reconnect_ivl_max(milliseconds(options.reconnect_longest))?;
        // A peer that never answers the greeting is as dead as one that leaves heartbeats unanswered.
        sub.set_handshake_ivl(milliseconds(options.heartbeat_timeout))?;
        sub.set_heartbeat_ivl(milliseconds(options.heartbeat))?;
        sub.set_heartbeat_timeout(milliseconds(options.heartbeat_timeout))?;
        sub.set_heartbeat_ttl(milliseconds(options.heartbeat_timeout))?;
        let told = [
            SocketEvent::ACCEPTED,
            SocketEvent::HANDSHAKE_SUCCEEDED,
            SocketEvent::DISCONNECTED,
            SocketEvent::CONNECT_RETRIED,
        ];
        sub.monitor(&name, told.iter().map(|event| i32::from(event.to_raw())).sum())?;
        let monitor = seats.context.socket(zmq::PAIR)?;
        monitor.set_linger(0)?;
        monitor.connect(&name)?;
        for stream in &self.streams {
            sub.set_subscribe(stream.topic.as_bytes())?;
        }
        match self.mode {
            Mode::Connect => sub.connect(&self.endpoint)?,
            Mode::Bind => sub.bind(&self.endpoint)?,
        }
        Ok(Sockets { sub, monitor, _seats: seats })
    }

    /// Takes in one more stream; answers whether it may be compared with its engine at once.
    pub(super) fn join(&mut self, stream: Followed) -> bool {
        if let Some(Sockets { sub, .. }) = &self.sockets {
            self.note_error(sub.set_subscribe(stream.topic.as_bytes()));
        }
        self.streams.push(stream);
        self.mode == Mode::Bind || self.counters.lock().connections > 0
    }

    /// Lets a stream go.
    pub(super) fn leave(&mut self, at: usize) {
        let stream = self.streams.swap_remove(at);
        // The last one's subscription stays: publishers that connect then keep what they have for whoever binds next.
        if let (Some(Sockets { sub, .. }), false) = (&self.sockets, self.streams.is_empty()) {
            self.note_error(sub.set_unsubscribe(stream.topic.as_bytes()));
        }
    }

    fn note_error(&self, result: zmq::Result<()>) {
        if let Err(error) = result {
            self.counters.lock().error = Some(format!("{}: {error}", self.endpoint));
        }
    }

    /// The next message that came.
    pub(super) fn receive(&self) -> Option<Frames> {
        self.sockets.as_ref().and_then(|sockets| Frames::receive(&sockets.sub))
    }

    /// Reads what the monitor says; answers whether a connection came to be that the streams should be told of, and
    /// whether there was one before. To be called behind [`receive`](Self::receive) and before its message is used: a
    /// connection is told of before anything comes from it.
    pub(super) fn connected(&mut self, now: Instant) -> Option<bool> {
        let Some(Sockets { monitor, .. }) = &self.sockets else { return None };
        let mut connected = None;
        while let Some(frames) = Frames::receive(monitor) {
            let mut counters = self.counters.lock();
            match (frames.connection(), self.mode) {
                (Some(Connection::Ready), Mode::Connect) => {
                    connected = Some(counters.connected > 0);
                    counters.connected += 1;
                    counters.connections = 1;
                    self.retry.succeeded();
                    self.due = Some(now + SETTLE);
                }
                (Some(Connection::Ready), Mode::Bind) => {
                    counters.connected += 1;
                    self.due.get_or_insert(now + SETTLE);
                }
                (Some(Connection::Accepted), Mode::Bind) => counters.connections += 1,
                (Some(Connection::Lost), Mode::Connect) => {
                    counters.connections = 0;
                    // Unless libzmq says at once that it tries again: it does not where the peer broke the protocol,
                    // or a bound (`session_base_t::engine_error`, libzmq 4.3.4).
                    self.due = Some(now + self.retry.failed());
                }
                (Some(Connection::Retried), Mode::Connect) => self.due = None,
                (Some(Connection::Lost), Mode::Bind) => {
                    counters.connections = counters.connections.saturating_sub(1);
                }
                _ => {}
            }
        }
        connected
    }

    /// Reads a message, and finds the stream it belongs to.
    pub(super) fn published(&self, frames: Frames) -> Option<(usize, Batch)> {
        let Some((topic, batch)) = frames.published() else {
            self.counters.lock().malformed += 1;
            return None;
        };
        let stream = self.stream_of(&topic);
        if stream.is_none() {
            self.counters.lock().unknown_topics += 1;
        }
        Some((stream?, batch))
    }

    fn stream_of(&self, topic: &[u8]) -> Option<usize> {
        if self.streams.len() == 1 && (self.mode == Mode::Connect || topic.is_empty()) {
            return Some(0);
        }
        // Names may have an `@` in them: the longest that fits is meant.
        let fitting = self.streams.iter().enumerate().filter(|(_, stream)| topic.starts_with(&stream.prefix));
        fitting.max_by_key(|(_, stream)| stream.prefix.len()).map(|(at, _)| at)
    }
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
