//! A thread that polls the sockets of many streams and applies what comes.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kvroute_core::event::batch_timestamp;
use kvroute_core::{PodId, Router};
use parking_lot::Mutex;

use super::follower::{Ask, Follower};
use super::message::{Frames, Replayed};
use super::replay::ReplaySocket;
use super::rooms::Rooms;
use super::status::EndpointCounters;
use super::subscription::{Followed, Subscription};
use super::{Stream, StreamCounters, SubscriberOptions};

/// Messages taken from a socket before the others have their turn.
const BURST: usize = 64;

/// Longest wait while nothing comes and nothing is due.
const IDLE: Duration = Duration::from_secs(1);

/// What a worker is told to do.
pub(super) enum Command {
    Add(Box<Addition>),
    Remove(PodId),
    Stop,
}

/// A stream to be added, and where to count.
pub(super) struct Addition {
    pub(super) stream: Stream,
    /// Name of its pod.
    pub(super) name: String,
    pub(super) counters: Arc<Mutex<StreamCounters>>,
    pub(super) endpoint: Arc<Mutex<EndpointCounters>>,
}

pub(super) struct Worker {
    pub(super) router: Arc<Router>,
    pub(super) options: SubscriberOptions,
    pub(super) commands: mpsc::Receiver<Command>,
    /// Readable when there is a command.
    pub(super) wake: zmq::Socket,
    pub(super) rooms: Rooms,
    pub(super) subscriptions: Vec<Subscription>,
}

/// A socket that has something to read.
#[derive(Clone, Copy)]
enum Ready {
    Wake,
    Subscription(usize),
    Replay(usize, usize),
}

impl Worker {
    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.tend(now);
            for ready in self.poll(now) {
                let now = Instant::now();
                match ready {
                    Ready::Wake => while Frames::receive(&self.wake).is_some() {},
                    Ready::Subscription(at) => self.read_subscription(at, now),
                    Ready::Replay(at, stream) => self.read_replay(at, stream, now),
                }
            }
            // Last, for they move subscriptions and streams.
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Add(addition)) => self.add(*addition, Instant::now()),
                    Ok(Command::Remove(pod)) => self.remove(pod),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    /// Does what is due by now.
    fn tend(&mut self, now: Instant) {
        for at in 0..self.subscriptions.len() {
            let has_settled = self.subscriptions[at].tend(&mut self.rooms, &self.options, now);
            for stream in 0..self.subscriptions[at].streams.len() {
                let followed = &mut self.subscriptions[at].streams[stream];
                if has_settled {
                    let ask = followed.follower.settled();
                    self.ask(at, stream, ask, now);
                }
                let followed = &mut self.subscriptions[at].streams[stream];
                if followed.replay.as_ref().is_some_and(|replay| replay.deadline() <= now) {
                    followed.replay = None;
                    let ask = followed.follower.replay_failed(now);
                    self.ask(at, stream, ask, now);
                }
            }
        }
    }

    /// Waits until something can be read or is due.
    fn poll(&self, now: Instant) -> Vec<Ready> {
        let mut items = vec![self.wake.as_poll_item(zmq::POLLIN)];
        let mut meant = vec![Ready::Wake];
        let mut due = now + IDLE;
        for (at, subscription) in self.subscriptions.iter().enumerate() {
            due = subscription.due().map_or(due, |at| at.min(due));
            for socket in subscription.sockets() {
                items.push(socket.as_poll_item(zmq::POLLIN));
                meant.push(Ready::Subscription(at));
            }
            for (stream, followed) in subscription.streams.iter().enumerate() {
                if let Some(replay) = &followed.replay {
                    due = due.min(replay.deadline());
                    items.push(replay.socket().as_poll_item(zmq::POLLIN));
                    meant.push(Ready::Replay(at, stream));
                }
            }
        }
        let wait = due.saturating_duration_since(now).as_millis();
        // A millisecond more, for the part that was cut off. What interrupts a poll costs one more round.
        let polled = zmq::poll(&mut items, i64::try_from(wait).unwrap_or(i64::MAX).saturating_add(1));
        if polled.is_err() {
            return Vec::new();
        }
        items.iter().zip(meant).filter(|(item, _)| item.is_readable()).map(|(_, ready)| ready).collect()
    }

    fn read_subscription(&mut self, at: usize, now: Instant) {
        for _ in 0..BURST {
            let frames = self.subscriptions[at].receive();
            if let Some(again) = self.subscriptions[at].connected(now) {
                self.connected(at, again, now);
            }
            let Some(frames) = frames else { return };
            let bytes = frames.bytes();
            let subscription = &mut self.subscriptions[at];
            let Some((stream, batch)) = subscription.published(frames) else { continue };
            let lag = batch_timestamp(&batch.payload).map(|published| unix_seconds() - published);
            let ask = subscription.streams[stream].follower.published(batch, bytes, lag, now);
            self.ask(at, stream, ask, now);
        }
    }

    fn read_replay(&mut self, at: usize, stream: usize, now: Instant) {
        for _ in 0..BURST {
            let followed = &mut self.subscriptions[at].streams[stream];
            let Some(replay) = &mut followed.replay else { return };
            let Some(frames) = replay.receive(&self.options, now) else { return };
            let ask = match frames.replayed() {
                Some(Replayed::Batch(batch)) => followed.follower.replayed(batch),
                Some(Replayed::End) => {
                    followed.replay = None;
                    followed.follower.replay_ended(now)
                }
                None => {
                    followed.follower.malformed_reply();
                    None
                }
            };
            self.ask(at, stream, ask, now);
        }
    }

    /// Tells the streams of a subscription that there is a connection.
    fn connected(&mut self, at: usize, again: bool, now: Instant) {
        for stream in 0..self.subscriptions[at].streams.len() {
            let ask = self.subscriptions[at].streams[stream].follower.connected(again);
            self.ask(at, stream, ask, now);
        }
    }

    /// Opens the replay that a follower wants, in place of the one before.
    fn ask(&mut self, at: usize, stream: usize, mut ask: Ask, now: Instant) {
        while let Some(from) = ask.take() {
            let followed = &mut self.subscriptions[at].streams[stream];
            let Some(endpoint) = &followed.replay_endpoint else { return };
            match ReplaySocket::ask(&mut self.rooms, endpoint, from, &self.options, now) {
                Ok(replay) => followed.replay = Some(replay),
                Err(_) => {
                    followed.replay = None;
                    // It does not ask again before its pause is over.
                    ask = followed.follower.replay_failed(now);
                }
            }
        }
    }

    fn add(&mut self, addition: Addition, now: Instant) {
        let Addition { stream, name, counters, endpoint } = addition;
        let Stream { pod, endpoint: address, mode, replay_endpoint, topic } = stream;
        let known = self.subscriptions.iter().position(|sub| sub.mode == mode && sub.endpoint == address);
        let at = known.unwrap_or_else(|| {
            self.subscriptions.push(Subscription::new(address, mode, endpoint, &self.options, now));
            self.subscriptions.len() - 1
        });
        let can_replay = replay_endpoint.is_some();
        let follower = Follower::new(Arc::clone(&self.router), pod, can_replay, &self.options, counters);
        let prefix = topic_prefix(&topic, &name).into_bytes();
        let followed = Followed { prefix, topic, replay_endpoint, follower, replay: None };
        if self.subscriptions[at].join(followed) {
            let stream = self.subscriptions[at].streams.len() - 1;
            let ask = self.subscriptions[at].streams[stream].follower.connected(false);
            self.ask(at, stream, ask, now);
        }
    }

    fn remove(&mut self, pod: PodId) {
        for at in 0..self.subscriptions.len() {
            let subscription = &mut self.subscriptions[at];
            let stream = subscription.streams.iter().position(|followed| followed.follower.pod() == pod);
            if let Some(stream) = stream {
                subscription.leave(stream);
                if subscription.streams.is_empty() {
                    self.subscriptions.swap_remove(at);
                }
                return;
            }
        }
    }
}

/// What the topics of a stream begin with where several share an endpoint.
pub(super) fn topic_prefix(topic: &str, pod: &str) -> String {
    if topic.is_empty() { format!("kv@{pod}@") } else { topic.to_owned() }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
