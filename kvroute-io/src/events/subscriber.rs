//! Owns the threads, and knows which of them has which stream.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use kvroute_core::{PodId, Router};
use parking_lot::Mutex;

use super::rooms::Rooms;
use super::status::EndpointCounters;
use super::worker::{Addition, Command, Worker, topic_prefix};
use super::{EndpointStatus, Mode, Stream, StreamCounters, StreamStatus};
use super::{SubscribeError, SubscriberOptions, SubscriberStatus};

/// Subscriptions to the events of many pods, applied to one router by a few threads of its own. Dropping it stops and
/// joins them; what the router knows stays.
///
/// ```no_run
/// use std::sync::Arc;
/// use kvroute_core::index::{GapPolicy, PodOptions};
/// use kvroute_core::{BlockHasher, CacheDomain, OwnScheme, PodSpec, Router};
/// use kvroute_io::events::{Mode, Stream, Subscriber, SubscriberOptions};
///
/// let router = Arc::new(Router::default());
/// let domain = Arc::new(CacheDomain::new("llama", BlockHasher::new(OwnScheme::default(), 16)?)?);
/// let options = PodOptions { on_gap: GapPolicy::Replay, ..PodOptions::default() };
/// let pod = router.add_pod(PodSpec { options, ..PodSpec::new("pod-0", domain) })?;
///
/// let subscriber = Subscriber::start(Arc::clone(&router), SubscriberOptions::default())?;
/// subscriber.add(Stream {
///     pod,
///     endpoint: "tcp://10.0.0.7:5557".to_owned(),
///     mode: Mode::Connect,
///     replay_endpoint: Some("tcp://10.0.0.7:5558".to_owned()),
///     topic: String::new(),
/// })?;
/// // ... route ...
/// for stream in subscriber.status().streams {
///     println!("{}: {} gaps, {:?} s behind", stream.pod, stream.counters.gaps, stream.counters.lag_seconds);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Subscriber {
    router: Arc<Router>,
    workers: Vec<Handle>,
    streams: Mutex<BTreeMap<PodId, Subscribed>>,
}

/// A worker as others see it.
struct Handle {
    commands: mpsc::Sender<Command>,
    wake: Mutex<zmq::Socket>,
    thread: Option<JoinHandle<()>>,
}

/// A stream as others see it.
struct Subscribed {
    worker: usize,
    endpoint: String,
    mode: Mode,
    /// What its topics begin with if it shares its endpoint.
    prefix: String,
    counters: Arc<Mutex<StreamCounters>>,
    at_endpoint: Arc<Mutex<EndpointCounters>>,
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let streams = self.streams.lock().len();
        f.debug_struct("Subscriber").field("workers", &self.workers.len()).field("streams", &streams).finish()
    }
}

impl Subscriber {
    /// Starts its threads; there are no streams yet.
    ///
    /// # Errors
    ///
    /// `Option` if one is out of range, `System` if the system gives no thread or socket.
    pub fn start(router: Arc<Router>, options: SubscriberOptions) -> Result<Self, SubscribeError> {
        options.check()?;
        // Made before any thread, so that an error leaves only what dropping stops.
        let mut subscriber = Self { router, workers: Vec::new(), streams: Mutex::default() };
        for number in 0..options.threads.get() {
            let worker = subscriber.start_worker(number, options.clone());
            subscriber.workers.push(worker.map_err(|error| {
                SubscribeError::System(format!("thread {number} of the KV-event subscriber: {error}"))
            })?);
        }
        Ok(subscriber)
    }

    fn start_worker(&self, number: usize, options: SubscriberOptions) -> std::io::Result<Handle> {
        let context = zmq::Context::new();
        // Both ends are in this process.
        context.set_io_threads(0)?;
        let (wake, woken) = (context.socket(zmq::PAIR)?, context.socket(zmq::PAIR)?);
        woken.bind("inproc://wake")?;
        wake.connect("inproc://wake")?;
        wake.set_linger(0)?;
        let (commands, received) = mpsc::channel();
        let router = Arc::clone(&self.router);
        let work = move || {
            let rooms = Rooms::default();
            let worker =
                Worker { router, options, commands: received, wake: woken, rooms, subscriptions: Vec::new() };
            worker.run();
        };
        let thread = thread::Builder::new().name(format!("kv-events-{number}")).spawn(work)?;
        Ok(Handle { commands, wake: Mutex::new(wake), thread: Some(thread) })
    }

    /// Subscribes to a pod's events. Whether its endpoint answers shows in the [`status`](Self::status); it is tried
    /// again for ever.
    ///
    /// # Errors
    ///
    /// `UnknownPod` if the router does not have it, `Subscribed` if it has a stream already, `Endpoint` if that
    /// is none, or is shared with a stream of the same topics.
    pub fn add(&self, stream: Stream) -> Result<(), SubscribeError> {
        stream.check()?;
        let pod = self.router.pod_by_id(stream.pod);
        let pod = pod.map_err(|error| SubscribeError::UnknownPod(error.to_string()))?;
        let mut streams = self.streams.lock();
        let (name, endpoint) = (pod.name(), stream.endpoint.clone());
        if streams.contains_key(&stream.pod) {
            let rank = pod.dp_rank();
            return Err(SubscribeError::Subscribed(format!(
                "pod \"{name}\", rank {rank}, has a stream already"
            )));
        }
        let prefix = topic_prefix(&stream.topic, name);
        let mut sharing = streams
            .values()
            .filter(|other| other.mode == stream.mode && other.endpoint == endpoint)
            .peekable();
        let shared = sharing.peek().map(|other| (other.worker, Arc::clone(&other.at_endpoint)));
        if sharing.any(|other| other.prefix == prefix) {
            let why = format!("endpoint {endpoint:?} has a stream of topics {prefix:?} already");
            return Err(SubscribeError::Endpoint(why));
        }
        let (worker, at_endpoint) = shared.unwrap_or_else(|| {
            let load = |worker: &usize| streams.values().filter(|other| other.worker == *worker).count();
            ((0..self.workers.len()).min_by_key(load).unwrap_or(0), Arc::default())
        });
        let counters = Arc::default();
        let addition = Addition {
            name: name.to_owned(),
            counters: Arc::clone(&counters),
            endpoint: Arc::clone(&at_endpoint),
            stream,
        };
        let (pod, mode) = (addition.stream.pod, addition.stream.mode);
        self.workers[worker].tell(Command::Add(Box::new(addition)));
        streams.insert(pod, Subscribed { worker, endpoint, mode, prefix, counters, at_endpoint });
        Ok(())
    }

    /// Ends the stream of a pod, if it has one. What it held back is dropped; what the router knows of the pod
    /// stays.
    pub fn remove(&self, pod: PodId) {
        let mut streams = self.streams.lock();
        if let Some(stream) = streams.remove(&pod) {
            self.workers[stream.worker].tell(Command::Remove(pod));
        }
    }

    /// What every stream is at. Costs what the streams are; for a look now and then.
    #[must_use]
    pub fn status(&self) -> SubscriberStatus {
        let streams = self.streams.lock();
        let mut status = SubscriberStatus::default();
        let mut endpoints = BTreeMap::new();
        for (&id, stream) in &*streams {
            let pod = self.router.pod_by_id(id).ok();
            let at_endpoint = stream.at_endpoint.lock().clone();
            status.streams.push(StreamStatus {
                pod: pod.as_ref().map(|pod| pod.name().to_owned()).unwrap_or_default(),
                dp_rank: pod.as_ref().map_or(0, |pod| pod.dp_rank()),
                endpoint: stream.endpoint.clone(),
                connected: at_endpoint.connections > 0,
                counters: *stream.counters.lock(),
                applied: self.router.index().counters(id).unwrap_or_default(),
            });
            endpoints.insert((&stream.endpoint, stream.mode == Mode::Bind), (stream.mode, at_endpoint));
        }
        let endpoints = endpoints.into_iter();
        status.endpoints = endpoints
            .map(|((endpoint, _), (mode, counters))| EndpointStatus {
                endpoint: endpoint.clone(),
                mode,
                counters,
            })
            .collect();
        status
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.tell(Command::Stop);
        }
        for worker in &mut self.workers {
            // One that panicked has stopped as well.
            let _ = worker.thread.take().map(JoinHandle::join);
        }
    }
}

impl Handle {
    fn tell(&self, command: Command) {
        // A worker that is gone needs no commands, and one with a full inbox is awake.
        let _ = self.commands.send(command);
        let _ = self.wake.lock().send(&b""[..], zmq::DONTWAIT);
    }
}
