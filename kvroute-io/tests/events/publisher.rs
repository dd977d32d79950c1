//! A publisher in this process, after vLLM's `ZmqEventPublisher`, that can also misbehave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How requests for replays are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// As vLLM 0.26 and later do, with the topic.
    New,
    /// As vLLM before that, without it.
    Old,
    /// As [`New`](Self::New), after a while.
    Late(Duration),
    /// At most so many batches, and the end only if those are all.
    Short(usize),
    /// At most so many batches, then the end, as if the others had not been published yet.
    Behind(usize),
    /// Without the batches of these numbers, to whoever asks from 0.
    Holey(u64, u64),
    /// All batches, but no end.
    Endless,
    /// Never.
    Never,
    /// In messages that are none.
    Garbage,
}

type Kept = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

pub(crate) struct Publisher {
    pub(crate) endpoint: String,
    socket: zmq::Socket,
    topic: String,
    next: u64,
    kept: Kept,
    replay: Option<ReplayServer>,
}

struct ReplayServer {
    endpoint: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const ANYWHERE: &str = "tcp://127.0.0.1:*";

impl Publisher {
    /// One that binds.
    pub(crate) fn new(replay: Option<Replay>) -> Self {
        Self::bind(ANYWHERE, replay.map(|replay| (ANYWHERE, replay)))
    }

    pub(crate) fn bind(endpoint: &str, replay: Option<(&str, Replay)>) -> Self {
        let socket = publishing();
        bind(&socket, endpoint);
        Self::of(socket, "", replay)
    }

    /// One that connects.
    pub(crate) fn connect(endpoint: &str, topic: &str, replay: Option<Replay>) -> Self {
        let socket = publishing();
        socket.connect(endpoint).unwrap();
        Self::of(socket, topic, replay.map(|replay| (ANYWHERE, replay)))
    }

    fn of(socket: zmq::Socket, topic: &str, replay: Option<(&str, Replay)>) -> Self {
        let kept = Kept::default();
        let replay =
            replay.map(|(endpoint, replay)| ReplayServer::start(endpoint, replay, Arc::clone(&kept)));
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Self { endpoint, socket, topic: topic.to_owned(), next: 0, kept, replay }
    }

    pub(crate) fn replay_endpoint(&self) -> Option<&str> {
        self.replay.as_ref().map(|replay| &*replay.endpoint)
    }

    pub(crate) fn publish(&mut self, payload: &[u8]) {
        self.raw(&[self.topic.as_bytes(), &self.next.to_be_bytes(), payload]);
        self.lose(payload);
    }

    pub(crate) fn publish_all(&mut self, payloads: &[&[u8]]) {
        payloads.iter().for_each(|payload| self.publish(payload));
    }

    /// Numbers a batch and keeps it for replays, but does not publish it.
    pub(crate) fn lose(&mut self, payload: &[u8]) {
        self.kept.lock().unwrap().push((self.next, payload.to_vec()));
        self.next += 1;
    }

    /// Numbers a batch, and that is all.
    pub(crate) fn forget(&mut self) {
        self.next += 1;
    }

    /// Drops from what is kept for replays all but the last `count` batches.
    pub(crate) fn keep_last(&self, count: usize) {
        let mut kept = self.kept.lock().unwrap();
        let old = kept.len().saturating_sub(count);
        kept.drain(..old);
    }

    /// Is another engine from now on, with nothing kept, and does not say so.
    pub(crate) fn start_over(&mut self) {
        self.kept.lock().unwrap().clear();
        self.next = 0;
    }

    /// Publishes frames as they are.
    pub(crate) fn raw(&self, frames: &[&[u8]]) {
        self.socket.send_multipart(frames, 0).unwrap();
    }
}

/// Ends as a process that is killed does: what is not sent is gone.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.socket.set_linger(0).unwrap();
    }
}

fn publishing() -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::PUB).unwrap();
    socket.set_sndhwm(100_000).unwrap();
    socket
}

/// A port is free a moment after its socket was closed.
fn bind(socket: &zmq::Socket, endpoint: &str) {
    for _ in 0..500 {
        if socket.bind(endpoint).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{endpoint} does not come free");
}

impl ReplayServer {
    fn start(endpoint: &str, replay: Replay, kept: Kept) -> Self {
        let socket = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_sndhwm(0).unwrap();
        bind(&socket, endpoint);
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if socket.poll(zmq::POLLIN, 5).unwrap() > 0 {
                    answer(&socket, replay, &kept);
                }
            }
        });
        Self { endpoint, stop, thread: Some(thread) }
    }
}

impl Drop for ReplayServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(socket: &zmq::Socket, replay: Replay, kept: &Kept) {
    let request = socket.recv_multipart(0).unwrap();
    let [client, delimiter, from] = &*request else { panic!("a request of {} frames", request.len()) };
    let from = u64::from_be_bytes(from[..].try_into().unwrap());
    assert!(delimiter.is_empty());
    match replay {
        Replay::Late(time) => thread::sleep(time),
        Replay::Never => return,
        Replay::Garbage => {
            for frames in [&[&b"?"[..]][..], &[b"", b"?"], &[b"", b"", b"?", b""], &[b"", b"", b"", b"", b""]]
            {
                socket.send_multipart([&[&client[..]], frames].concat(), 0).unwrap();
            }
            return;
        }
        Replay::New
        | Replay::Old
        | Replay::Short(_)
        | Replay::Behind(_)
        | Replay::Holey(..)
        | Replay::Endless => {}
    }
    let kept = kept.lock().unwrap().clone();
    let batches = kept.into_iter().filter(|(sequence, _)| *sequence >= from);
    let mut messages: Vec<_> = batches.chain([(u64::MAX, Vec::new())]).collect();
    match replay {
        Replay::Short(most) if messages.len() > most => messages.truncate(most),
        Replay::Behind(most) if messages.len() > most => drop(messages.drain(most..messages.len() - 1)),
        Replay::Endless => drop(messages.pop()),
        Replay::Holey(first, end) if from == 0 => messages.retain(|(n, _)| *n < first || *n >= end),
        _ => {}
    }
    for (sequence, payload) in messages {
        let sequence = sequence.to_be_bytes();
        let frames: &[&[u8]] = match replay {
            Replay::Old => &[client, b"", &sequence, &payload],
            _ => &[client, b"", b"", &sequence, &payload],
        };
        socket.send_multipart(frames, 0).unwrap();
    }
}
