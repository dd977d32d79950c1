//! The router: hasher, index and policy joined. The only module that knows them all.
//!
//! `gather` finds what pods have of a prompt, and which are looked at; `decide` asks the policy about them; `board` is
//! one profile's part in that; `dispatch` books what was decided and follows the request to its end; `explain` says
//! why; `peers` is what several routers tell each other; `record` takes a decision down, `replay` makes it again; `snapshot` carries what the
//! router knows over a restart.

mod board;
mod decide;
mod dispatch;
mod explain;
mod gather;
mod peers;
mod record;
mod replay;
mod roster;
mod snapshot;
mod status;
mod workspace;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

pub use self::dispatch::Dispatch;
use self::peers::PeerTable;
pub use self::peers::{PeerOptions, PeerReport, PeerStatus, Telling};
pub use self::replay::{Replay, Replayed};
use self::roster::Roster;
pub use self::snapshot::{Refusal, Restore, RestoreReport, RestoredPod, Snapshot};
pub use self::status::{IndexStatus, PodStatus, RouterStatus};
pub use self::workspace::Workspace;
use crate::event::{EventBatch, decode_trtllm};
use crate::hash::{BlockHasher, OwnScheme};
use crate::index::{ApplyReport, BlockIndex, IndexOptions, PodId};
use crate::load::{AdapterReport, LoadReport, Overload};
use crate::pod::{PodSpec, RoutedPod};
use crate::policy::Policy;
use crate::published::Published;
use crate::request::Prompt;
use crate::session::{Sealer, SessionKey, SessionTable};
use crate::ticket::TicketTable;
use crate::{CacheDomain, Error, ErrorKind};

/// Bounds and sizes of a router. Fill it with `..RouterOptions::default()`: fields may be added.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// The index, with what is predicted.
    pub index: IndexOptions,
    /// Bytes a block of a prompt that is only known as text; a multiple of 4.
    pub text_block_bytes: u32,
    /// How long a session is remembered after its last request, and a session token counts.
    pub session_ttl: Duration,
    /// Most sessions remembered by id; those used longest ago go first.
    pub max_sessions: usize,
    /// Key of session tokens; without one there are none.
    pub session_key: Option<SessionKey>,
    /// How long what was sent to a pod counts as if it were there, where the pod's events do not say so yet, and its
    /// first token did not come before; 0 is not at all.
    pub speculation_ttl: Duration,
    /// From when on a pod counts as overloaded.
    pub overload: Overload,
    /// How long a request may be in flight before it is forgotten and its bookings are given back.
    pub request_ttl: Duration,
    /// Most requests in flight, 262 144 at most. Beyond them requests are still decided, but neither booked
    /// nor tracked ([`RouterCounters::untracked`]).
    pub max_requests: usize,
}

impl Default for RouterOptions {
    /// Text blocks of 256 bytes and sessions of 300 s (llm-d-inference-scheduler 0.1 and llm-d-router ebab687),
    /// 100 000 of them, no session key; speculation of 2 s (llm-d-router ebab687); requests of 600 s, as many as can be.
    fn default() -> Self {
        Self {
            index: IndexOptions::default(),
            text_block_bytes: 256,
            session_ttl: Duration::from_secs(300),
            max_sessions: 100_000,
            session_key: None,
            speculation_ttl: Duration::from_secs(2),
            overload: Overload::default(),
            request_ttl: Duration::from_secs(600),
            max_requests: Router::MAX_REQUESTS,
        }
    }
}

/// What a router has, and what befell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RouterCounters {
    /// Requests in flight.
    pub in_flight: usize,
    /// Sessions remembered by id.
    pub sessions: usize,
    /// Requests forgotten because their time was over.
    pub expired: u64,
    /// Requests that were not tracked because too many were in flight.
    pub untracked: u64,
}

/// Everything a gateway needs to route: pods, what they hold, and how to choose among them.
///
/// Shared by reference between threads. `decide` changes nothing and takes no lock for longer than it
/// reads one shard of the index.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use kvroute_core::{BlockHasher, CacheDomain, Finish, HashContext, LoadReport, OwnScheme, PodSpec, Request};
/// use kvroute_core::{Router, Workspace};
///
/// let hasher = BlockHasher::new(OwnScheme::default(), 16)?;
/// let domain = Arc::new(CacheDomain::new("llama-3.1-8b", hasher)?);
/// let router = Router::default();
/// let idle = router.add_pod(PodSpec::new("pod-a", Arc::clone(&domain)))?;
/// let busy = router.add_pod(PodSpec::new("pod-b", domain))?;
/// router.report_load(idle, LoadReport { running: 1, waiting: 0, kv_usage: 0.1 })?;
/// router.report_load(busy, LoadReport { running: 60, waiting: 9, kv_usage: 0.9 })?;
/// // for each message of a pod's event stream: router.apply(pod, sequence, &payload)?;
///
/// let token_ids: Vec<u32> = (0..100).collect();
/// let context = HashContext::default();
/// let (request, now) = (Request::new(&token_ids, &context), Duration::from_secs(7));
/// let mut workspace = Workspace::default();
/// let dispatch = router.dispatch(&request, now, &mut workspace)?;
/// assert_eq!(dispatch.decision.pod, idle, "nothing is cached anywhere, so load decides");
/// println!("{}", router.explain(&workspace));
///
/// router.first_token(dispatch.ticket);
/// router.finish(dispatch.ticket, Finish::Completed, Some(0));
/// # Ok::<(), kvroute_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Router {
    index: BlockIndex,
    policy: Published<Policy>,
    roster: Published<Roster>,
    /// Hashes prompts that are only known as text.
    text: BlockHasher,
    options: RouterOptions,
    sessions: SessionTable,
    sealer: Option<Sealer>,
    tickets: TicketTable,
    expired: AtomicU64,
    untracked: AtomicU64,
    /// Requests of which no pod had anything.
    cold_turns: AtomicU64,
    /// Other routers of the same fleet.
    peers: Mutex<PeerTable>,
    /// Most blocks of a prompt that they are told; 0: nothing is written down for them.
    told_blocks: AtomicUsize,
}

impl Default for Router {
    /// Default options and policy.
    fn default() -> Self {
        const WORDS: NonZeroU16 = NonZeroU16::new(64).unwrap();
        Self::with_text(RouterOptions::default(), Policy::default(), BlockHasher::own(WORDS))
    }
}

impl Router {
    /// Most requests that can be in flight.
    pub const MAX_REQUESTS: usize = 1 << 18;

    /// A router without pods.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `text_block_bytes` is not a multiple of 4 in 4..=262 144.
    pub fn new(options: RouterOptions, policy: impl Into<Policy>) -> Result<Self, Error> {
        let bytes = options.text_block_bytes;
        let words = bytes / Prompt::BYTES_PER_TOKEN as u32;
        if !bytes.is_multiple_of(Prompt::BYTES_PER_TOKEN as u32) {
            return Err(Error::invalid(format!("text blocks of {bytes} bytes; a multiple of 4 is needed")));
        }
        let text = BlockHasher::new(OwnScheme::default(), words)
            .map_err(|_| Error::invalid(format!("text blocks of {bytes} bytes; 4 to 262144 are possible")))?;
        Ok(Self::with_text(options, policy.into(), text))
    }

    fn with_text(options: RouterOptions, policy: Policy, text: BlockHasher) -> Self {
        Self {
            index: BlockIndex::new(options.index),
            policy: Published::new(policy),
            roster: Published::default(),
            text,
            sessions: SessionTable::new(options.max_sessions, options.session_ttl),
            sealer: options.session_key.as_ref().map(Sealer::new),
            tickets: TicketTable::new(options.max_requests.min(Self::MAX_REQUESTS), options.request_ttl),
            expired: AtomicU64::new(0),
            untracked: AtomicU64::new(0),
            cold_turns: AtomicU64::new(0),
            peers: Mutex::default(),
            told_blocks: AtomicUsize::new(0),
            options,
        }
    }

    /// Forgets what pods hold, what was sent to them, requests in flight, sessions and counters. The policy stays,
    /// and so do the pods with what they last reported, but each as a new one: with another id, waiting for the next
    /// batch of its stream whatever that is. Ids and tickets from before name nothing.
    ///
    /// For an embedder that no longer trusts what is in here.
    pub fn reset(&mut self) {
        let old = self.roster.load();
        self.index = self.index.emptied(self.options.index);
        self.sessions = SessionTable::new(self.options.max_sessions, self.options.session_ttl);
        self.tickets.clear();
        (self.expired, self.untracked) = (AtomicU64::new(0), AtomicU64::new(0));
        self.peers.lock().forget_peers(self);
        self.roster = Published::default();
        for domain in &old.named {
            // They agreed with each other before.
            let _ = self.add_domain(Arc::clone(domain));
        }
        for pod in &old.pods {
            if let Ok(new) = self.add_pod(pod.spec()).and_then(|id| self.pod_by_id(id)) {
                new.set_accepting(pod.is_accepting());
                if let Some(load) = pod.load() {
                    new.load.set_report(load, self.options.overload);
                }
                new.load.take_adapters(&pod.load);
            }
        }
    }

    /// The index below. Pods are added and removed through the router, not there.
    #[must_use]
    pub fn index(&self) -> &BlockIndex {
        &self.index
    }

    /// How it chooses.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load()
    }

    /// Chooses by another policy from now on. Every decision is made by one policy or the other; pods, views, bookings,
    /// sessions and requests in flight stay as they are.
    pub fn set_policy(&self, policy: impl Into<Policy>) {
        self.policy.replace(policy.into());
    }

    /// What it has in flight, and what befell it.
    #[must_use]
    pub fn counters(&self) -> RouterCounters {
        RouterCounters {
            in_flight: self.tickets.len(),
            sessions: self.sessions.len(),
            expired: self.expired.load(Ordering::Relaxed),
            untracked: self.untracked.load(Ordering::Relaxed),
        }
    }

    /// Makes a cache domain known by its name, for pods that come later; a pod's own becomes known with it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the name belongs to a domain that hashes differently or serves other models.
    pub fn add_domain(&self, domain: Arc<CacheDomain>) -> Result<(), Error> {
        self.roster.update(|roster| {
            let domain = roster.same_domain(domain)?;
            if roster.named.iter().all(|known| !Arc::ptr_eq(known, &domain)) {
                roster.named.push(domain);
            }
            Ok(())
        })
    }

    /// The cache domain of this name: that of a pod, of the configuration, or of
    /// [`add_domain`](Self::add_domain).
    #[must_use]
    pub fn domain(&self, name: &str) -> Option<Arc<CacheDomain>> {
        self.roster.read(|roster| roster.domain(name).cloned())
    }

    /// Adds a pod, holding nothing. Each data-parallel rank is a pod of its own, with its own stream of
    /// events.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a pod of this name and rank is there, if its domain's name belongs to a
    /// domain that hashes differently, or if its capacity is not above 0.
    pub fn add_pod(&self, mut spec: PodSpec) -> Result<PodId, Error> {
        spec.check()?;
        spec.options.dp_rank.get_or_insert(spec.dp_rank);
        self.roster.update(|roster| {
            let PodSpec { name, dp_rank, .. } = &spec;
            if roster.pods.iter().any(|pod| pod.name == *name && pod.dp_rank == *dp_rank) {
                return Err(Error::invalid(format!("pod \"{name}\", rank {dp_rank}, is there already")));
            }
            spec.domain = roster
                .same_domain(Arc::clone(&spec.domain))
                .map_err(|error| Error::new(error.kind(), format!("pod \"{name}\": {error}")))?;
            let id = self.index.add_pod(Arc::clone(&spec.domain), spec.options.clone());
            let trust = self.index.trust_cell(id)?;
            roster.insert(RoutedPod::new(id, spec, trust), &self.text);
            Ok(id)
        })
    }

    /// Removes a pod and all it holds.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn remove_pod(&self, id: PodId) -> Result<(), Error> {
        let known = self.roster.update(|roster| roster.row(id).map(|row| roster.remove(row)).is_some());
        match self.index.remove_pod(id) {
            Err(error) if !known => Err(error),
            _ => Ok(()),
        }
    }

    /// All pods, in order of slot.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<RoutedPod>> {
        self.roster.load().pods.clone()
    }

    /// The pod with this id: its name, its load, its domain.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn pod_by_id(&self, id: PodId) -> Result<Arc<RoutedPod>, Error> {
        let pod = self.roster.read(|roster| roster.row(id).map(|row| Arc::clone(&roster.pods[row])));
        pod.ok_or_else(|| Error::new(ErrorKind::UnknownPod, format!("no pod has the id {id}")))
    }

    /// The pod of this name and rank.
    #[must_use]
    pub fn pod(&self, name: &str, dp_rank: u32) -> Option<Arc<RoutedPod>> {
        let is_it = |pod: &&Arc<RoutedPod>| pod.name == name && pod.dp_rank == dp_rank;
        self.roster.read(|roster| roster.pods.iter().find(is_it).cloned())
    }

    /// Applies one published batch of a pod; see [`BlockIndex::apply_batch`].
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn apply(&self, id: PodId, sequence: u64, payload: &[u8]) -> Result<ApplyReport, Error> {
        self.index.apply_batch(id, sequence, payload)
    }

    /// Applies one published message by its topic, for subscribers that many pods publish to: pods are told
    /// apart by topics of the form `kv@<pod>@<model>` (the convention of llm-d and of vLLM's examples). The topic does
    /// not name the rank: `dp_rank` is that of the port that was subscribed to (`KVEventsConfig.endpoint` of vLLM: base
    /// port + rank). With one socket a pod, [`apply`](Self::apply) is cheaper.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the topic is not of that form; `UnknownPod` if it names no pod of that rank.
    pub fn apply_topic(
        &self,
        topic: &str,
        dp_rank: u32,
        sequence: u64,
        payload: &[u8],
    ) -> Result<ApplyReport, Error> {
        let rest = topic.strip_prefix("kv@").filter(|rest| rest.find('@').is_some_and(|at| at > 0));
        let Some(rest) = rest else {
            return Err(Error::invalid(format!("topic {topic:?} is not of the form `kv@<pod>@<model>`")));
        };
        // Names and models may have an `@` in them: the longest name that fits is meant.
        let named = |pod: &&Arc<RoutedPod>| {
            let rest = rest.strip_prefix(&*pod.name);
            pod.dp_rank == dp_rank && rest.is_some_and(|rest| rest.starts_with('@'))
        };
        let longest = |pod: &&Arc<RoutedPod>| pod.name.len();
        let id =
            self.roster.read(|roster| roster.pods.iter().filter(named).max_by_key(longest).map(|pod| pod.id));
        let Some(id) = id else {
            let message = format!("topic {topic:?} names no pod of rank {dp_rank} in this router");
            return Err(Error::new(ErrorKind::UnknownPod, message));
        };
        self.apply(id, sequence, payload)
    }

    /// Applies events that came in another way than as published batches: polled, or made by the embedder.
    /// They have no sequence number, so their completeness is the caller's word.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn apply_events(&self, id: PodId, batch: &EventBatch) -> Result<ApplyReport, Error> {
        self.index.apply_events(id, batch)
    }

    /// Applies one poll of TensorRT-LLM's events, a JSON array of them, one, or either per line: those of the pod's
    /// rank, and of the attention window `window_size` (`None`: of any; models with several windows announce each block
    /// once per window, and only the events of the largest say what a prompt can reuse from its start). Events that
    /// were lost between polls, and restarts, show in the events' numbers; then the pod's view is dropped first.
    ///
    /// # Errors
    ///
    /// `UnknownPod`; `Decode` if nothing in it is JSON.
    pub fn apply_trtllm(
        &self,
        id: PodId,
        json: &[u8],
        window_size: Option<u64>,
    ) -> Result<ApplyReport, Error> {
        let events = decode_trtllm(json, self.pod_by_id(id)?.domain.block_size())?;
        self.index.apply_numbered(id, &events, window_size)
    }

    /// Takes in what a pod says of its load.
    ///
    /// # Errors
    ///
    /// `UnknownPod`; `InvalidInput` if `kv_usage` is not in 0..=1.
    pub fn report_load(&self, id: PodId, report: LoadReport) -> Result<(), Error> {
        report.check()?;
        self.pod_by_id(id)?.load.set_report(report, self.options.overload);
        Ok(())
    }

    /// Takes in what a pod says of its LoRA adapters. The names are those of
    /// [`HashContext::lora`](crate::HashContext::lora).
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn report_adapters(&self, id: PodId, report: &AdapterReport<'_>) -> Result<(), Error> {
        self.pod_by_id(id)?.load.set_adapters(report);
        Ok(())
    }

    /// Forgets what a pod said of its load and its adapters, as if it never had: for reports that are too old to be
    /// true. What this router has in flight there still counts.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn forget_load(&self, id: PodId) -> Result<(), Error> {
        self.pod_by_id(id)?.load.forget_report();
        Ok(())
    }

    /// Lets a pod take new requests, or drains it. One that did not and does again has no failures to live down.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn set_accepting(&self, id: PodId, accepting: bool) -> Result<(), Error> {
        self.pod_by_id(id)?.set_accepting(accepting);
        Ok(())
    }
}
