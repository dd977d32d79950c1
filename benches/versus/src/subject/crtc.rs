//! dynamo-kv-router 1.6's `ConcurrentRadixTreeCompressed`: read by anyone, written by threads of its own that take
//! events from channels.

use std::pin::Pin;
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use cpu_time::ThreadTime;
use dynamo_kv_router::RouterEvent;
use dynamo_kv_router::indexer::concurrent_radix_tree_compressed::ConcurrentRadixTreeCompressed;
use dynamo_kv_router::indexer::{SyncIndexer, WorkerTask};
use dynamo_kv_router::protocols::LocalBlockHash;
use dynamo_kv_router::zmq_wire::ZmqEventNormalizer;
use tokio::sync::oneshot;

use super::dynamo_tree::{self, Event};
use super::{Setup, Shared, Subject, Wire};
use crate::change::{Chain, Change};
use crate::measure::cpu;

/// Events that a writer hashes before its lane works on them.
const PIECE: usize = 512;

/// The tree and its writers' threads.
pub struct CrtcSubject {
    index: Arc<ConcurrentRadixTreeCompressed>,
    lanes: Vec<Lane>,
    setup: Setup,
}

struct Lane {
    tasks: flume::Sender<WorkerTask>,
    thread: Option<JoinHandle<()>>,
}

/// Where a lane's thread stops, tells its processor time and, if closed, waits: it runs as the waker of a flush, so
/// on that thread.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    passed: Option<Duration>,
}

impl Gate {
    fn open(&self) {
        self.state.lock().expect("nobody panicked").is_open = true;
        self.changed.notify_all();
    }

    /// Waits until the thread went through; answers its processor time then.
    fn passed(&self) -> Duration {
        let mut state = self.state.lock().expect("nobody panicked");
        loop {
            match state.passed {
                Some(time) => return time,
                None => state = self.changed.wait(state).expect("nobody panicked"),
            }
        }
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        let mut state = self.state.lock().expect("nobody panicked");
        while !state.is_open {
            state = self.changed.wait(state).expect("nobody panicked");
        }
        state.passed = Some(ThreadTime::now().as_duration());
        self.changed.notify_all();
    }
}

impl Lane {
    fn new(index: Arc<ConcurrentRadixTreeCompressed>) -> Self {
        let (tasks, received) = flume::unbounded();
        let work = move || index.worker(received, None).expect("its own loop");
        Self { tasks, thread: Some(std::thread::spawn(work)) }
    }

    fn send(&self, task: WorkerTask) {
        assert!(self.tasks.send(task).is_ok(), "the lane is there until it is dropped");
    }

    /// Puts a gate behind the events that were sent.
    fn put(&self, is_open: bool) -> Flush {
        let gate = Arc::new(Gate::default());
        if is_open {
            gate.open();
        }
        let (sender, receiver) = oneshot::channel();
        let mut receiver = Box::pin(receiver);
        let waker = Waker::from(Arc::clone(&gate));
        assert!(receiver.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "nothing is sent yet");
        self.send(WorkerTask::Flush(sender));
        Flush { gate, _receiver: receiver }
    }

    /// Lets the thread work on these, which are all there when it begins; answers its processor time.
    fn work(&self, events: impl IntoIterator<Item = RouterEvent>) -> Duration {
        let start = self.put(false);
        events.into_iter().for_each(|event| self.send(WorkerTask::Event(event)));
        let end = self.put(true);
        start.gate.open();
        end.gate.passed() - start.gate.passed()
    }
}

/// A gate that a lane's thread will come to.
struct Flush {
    gate: Arc<Gate>,
    /// The thread wakes whoever waits for its answer, and would not if nobody did.
    _receiver: Pin<Box<oneshot::Receiver<()>>>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.send(WorkerTask::Terminate);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok(), "the lane's thread panicked");
        }
    }
}

impl std::fmt::Debug for CrtcSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrtcSubject").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl CrtcSubject {
    /// Lets the lanes work on these, one lane after the other; answers their processor time.
    fn work(&self, events: impl Iterator<Item = RouterEvent>) -> Duration {
        let mut shares = vec![Vec::new(); self.lanes.len()];
        for event in events {
            shares[event.worker_id as usize % self.lanes.len()].push(event);
        }
        self.lanes.iter().zip(shares).map(|(lane, share)| lane.work(share)).sum()
    }
}

impl Subject for CrtcSubject {
    type Event = Event;
    type Query = Vec<LocalBlockHash>;
    type Scratch = ();

    fn new(setup: &Setup) -> Self {
        let index = Arc::new(ConcurrentRadixTreeCompressed::new());
        let lanes = (0..setup.writers).map(|_| Lane::new(Arc::clone(&index))).collect();
        Self { index, lanes, setup: *setup }
    }

    fn event(&self, change: &Change<'_>) -> Event {
        dynamo_tree::event(&self.setup, change)
    }

    fn apply(&mut self, events: Vec<Event>) -> Duration {
        let ready = |event| dynamo_tree::ready(&self.setup, event);
        let (hashing, events) = cpu(|| events.into_iter().map(ready).collect::<Vec<_>>());
        hashing + self.work(events.into_iter())
    }

    fn query(&self, chain: &Chain) -> Self::Query {
        dynamo_tree::query(chain)
    }

    fn hash(&self, token_ids: &[u32], (): &mut ()) -> Self::Query {
        dynamo_tree::hashes(&self.setup, token_ids)
    }

    fn find(&self, query: &Self::Query, (): &mut ()) -> usize {
        self.index.find_matches(query, false).scores.len()
    }

    fn answer(&self, query: &Self::Query) -> Vec<(usize, u32)> {
        dynamo_tree::rows(self.index.find_matches(query, false).scores.into_iter())
    }

    fn tidy(&mut self) {
        for lane in &self.lanes {
            lane.send(WorkerTask::CleanupStaleChildren);
            lane.put(true).gate.passed();
        }
    }
}

impl Shared for CrtcSubject {
    fn write(&self, writer: usize, events: Vec<Event>, start: &Barrier) {
        start.wait();
        // This thread hashes while the lane's waits, and the other way round.
        let mut events = events.into_iter().map(|event| dynamo_tree::ready(&self.setup, event)).peekable();
        while events.peek().is_some() {
            self.lanes[writer].work(events.by_ref().take(PIECE));
        }
    }
}

impl Wire for CrtcSubject {
    fn apply_published(&mut self, batches: &[(usize, u64, Vec<u8>)]) -> Duration {
        let mut normalizer = ZmqEventNormalizer::new(self.setup.block_size);
        let (decoding, events) = cpu(|| {
            let decoded = batches
                .iter()
                .map(|(pod, number, payload)| dynamo_tree::decoded(&mut normalizer, *pod, *number, payload));
            decoded.flatten().collect::<Vec<_>>()
        });
        decoding + self.work(events.into_iter())
    }
}
