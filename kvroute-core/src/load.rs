//! How busy a pod is: what it reports, and what this router and its peers have in flight on it.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;

/// What a pod says of its load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
pub struct LoadReport {
    /// Requests being computed (`vllm:num_requests_running`).
    pub running: u32,
    /// Requests that wait (`vllm:num_requests_waiting`).
    pub waiting: u32,
    /// Share of the KV cache in use, 0..=1 (`vllm:kv_cache_usage_perc`).
    pub kv_usage: f32,
}

impl LoadReport {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if (0.0..=1.0).contains(&self.kv_usage) {
            return Ok(());
        }
        Err(Error::invalid(format!("kv_usage is a share, 0 to 1, not {}", self.kv_usage)))
    }
}

/// From when on a pod counts as overloaded: if a load report reaches any of the two.
///
/// The defaults are SMG's (1.13): 8 requests that wait, or 0.8 of the KV cache in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overload {
    /// Requests that wait; 0 is never.
    pub waiting: u32,
    /// Share of the KV cache in use, 0..=1; above 1 is never.
    pub kv_usage: f32,
}

impl Default for Overload {
    fn default() -> Self {
        Self { waiting: 8, kv_usage: 0.8 }
    }
}

impl Overload {
    fn is_reached(&self, report: &LoadReport) -> bool {
        (self.waiting > 0 && report.waiting >= self.waiting) || report.kv_usage >= self.kv_usage
    }
}

/// What a pod says of its LoRA adapters (`vllm:lora_requests_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdapterReport<'a> {
    /// Adapters that can be in use at one time (`max_lora`).
    pub max: u32,
    /// Names of those that running requests use (`running_lora_adapters`).
    pub running: &'a [&'a str],
    /// Names of those that waiting requests ask for (`waiting_lora_adapters`).
    pub waiting: &'a [&'a str],
}

/// How a pod stands to the adapter that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
pub enum AdapterFit {
    /// Running requests use it.
    Running,
    /// Only waiting requests ask for it.
    Waiting,
    /// Nothing uses it, and there is room for one more.
    Room,
    /// Nothing uses it, and there is no room.
    Full,
    /// The pod never reported its adapters.
    Unknown,
}

/// Names as hashes: an entry costs the same however long the name is.
#[derive(Debug)]
struct Adapters {
    max: usize,
    running: Box<[u64]>,
    waiting: Box<[u64]>,
}

impl Adapters {
    fn fit(&self, name: &str) -> AdapterFit {
        let hash = xxh3_64(name.as_bytes());
        if self.running.contains(&hash) {
            AdapterFit::Running
        } else if self.waiting.contains(&hash) {
            AdapterFit::Waiting
        } else if self.running.len() + self.waiting.len() < self.max {
            AdapterFit::Room
        } else {
            AdapterFit::Full
        }
    }
}

/// What routers have in flight on a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
pub struct Bookings {
    /// Requests that are not finished.
    pub requests: u32,
    /// Tokens of their prompts that the pod has to compute before their first tokens; those of requests
    /// whose first token came count no more.
    pub prefill_tokens: u64,
}

impl Bookings {
    const TOKEN_BITS: u32 = 40;
    pub(crate) const MAX_PREFILL_TOKENS: u64 = (1 << Self::TOKEN_BITS) - 1;

    /// One number, so that both change at once: 24 bits of requests, 40 of tokens.
    fn pack(self) -> u64 {
        u64::from(self.requests) << Self::TOKEN_BITS | self.prefill_tokens & Self::MAX_PREFILL_TOKENS
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            prefill_tokens: self.prefill_tokens.saturating_add(other.prefill_tokens),
        }
    }

    fn unpack(packed: u64) -> Self {
        Self {
            requests: (packed >> Self::TOKEN_BITS) as u32,
            prefill_tokens: packed & Self::MAX_PREFILL_TOKENS,
        }
    }
}

const NO_REPORT: u64 = u64::MAX;

/// A pod's load, written by reports and dispatches and read by every decision.
#[derive(Debug)]
pub(crate) struct Load {
    /// running << 32 | waiting; `NO_REPORT` before the first report.
    reported: AtomicU64,
    kv_usage: AtomicU32,
    overloaded: AtomicBool,
    /// Requests booked when the last report came, by this router and by peers.
    booked_at_report: AtomicU32,
    booked: AtomicU64,
    /// What peers said that they have in flight.
    peers: AtomicU64,
    /// All prefill tokens that were ever booked.
    ever_booked: AtomicU64,
    adapters: RwLock<Option<Adapters>>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            reported: AtomicU64::new(NO_REPORT),
            kv_usage: AtomicU32::new(0),
            overloaded: AtomicBool::new(false),
            booked_at_report: AtomicU32::new(0),
            booked: AtomicU64::new(0),
            peers: AtomicU64::new(0),
            ever_booked: AtomicU64::new(0),
            adapters: RwLock::new(None),
        }
    }
}

impl Load {
    pub(crate) fn report(&self) -> Option<LoadReport> {
        let requests = self.reported.load(Ordering::Relaxed);
        let kv_usage = f32::from_bits(self.kv_usage.load(Ordering::Relaxed));
        (requests != NO_REPORT).then_some(LoadReport {
            running: (requests >> 32) as u32,
            waiting: requests as u32,
            kv_usage,
        })
    }

    pub(crate) fn set_report(&self, report: LoadReport, overload: Overload) {
        let requests = u64::from(report.running) << 32 | u64::from(report.waiting);
        self.kv_usage.store(report.kv_usage.to_bits(), Ordering::Relaxed);
        self.booked_at_report.store(self.fleet_bookings().requests, Ordering::Relaxed);
        self.reported.store(requests.min(NO_REPORT - 1), Ordering::Relaxed);
        self.overloaded.store(overload.is_reached(&report), Ordering::Relaxed);
    }

    /// Forgets what was reported.
    pub(crate) fn forget_report(&self) {
        self.reported.store(NO_REPORT, Ordering::Relaxed);
        self.overloaded.store(false, Ordering::Relaxed);
        *self.adapters.write() = None;
    }

    /// Whether the last report reached the bounds.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    pub(crate) fn set_adapters(&self, report: &AdapterReport<'_>) {
        let hashes = |names: &[&str]| {
            let mut hashes: Vec<_> = names.iter().map(|name| xxh3_64(name.as_bytes())).collect();
            hashes.sort_unstable();
            hashes.dedup();
            hashes
        };
        let (running, mut waiting) = (hashes(report.running), hashes(report.waiting));
        // One that runs takes a place already, whoever else waits for it.
        waiting.retain(|name| !running.contains(name));
        let max = usize::try_from(report.max).unwrap_or(usize::MAX);
        let adapters = Adapters { max, running: running.into(), waiting: waiting.into() };
        *self.adapters.write() = Some(adapters);
    }

    /// Takes over what was reported of another's adapters.
    pub(crate) fn take_adapters(&self, other: &Self) {
        let adapters = other.adapters.write().take();
        *self.adapters.write() = adapters;
    }

    pub(crate) fn adapter_fit(&self, name: &str) -> AdapterFit {
        self.adapters.read().as_ref().map_or(AdapterFit::Unknown, |adapters| adapters.fit(name))
    }

    /// What this router has in flight.
    pub(crate) fn bookings(&self) -> Bookings {
        Bookings::unpack(self.booked.load(Ordering::Relaxed))
    }

    /// What its peers have.
    pub(crate) fn peer_bookings(&self) -> Bookings {
        Bookings::unpack(self.peers.load(Ordering::Relaxed))
    }

    /// What it and its peers have.
    pub(crate) fn fleet_bookings(&self) -> Bookings {
        self.bookings().and(self.peer_bookings())
    }

    /// Prefill tokens that were ever booked, given back or not.
    pub(crate) fn ever_booked(&self) -> u64 {
        self.ever_booked.load(Ordering::Relaxed)
    }

    /// Requests it has, as well as can be told: those it reported, and what this router and its peers sent and saw
    /// finish since; never fewer than they have in flight there.
    pub(crate) fn in_flight(&self, booked: Bookings, report: Option<LoadReport>) -> u64 {
        let booked = u64::from(booked.requests);
        let Some(report) = report else { return booked };
        let reported = u64::from(report.running) + u64::from(report.waiting);
        let known = u64::from(self.booked_at_report.load(Ordering::Relaxed));
        (reported + booked).saturating_sub(known).max(booked)
    }

    /// Books a request if the bookings are still `seen`; with `None`, whatever they are.
    pub(crate) fn book(&self, seen: Option<Bookings>, prefill_tokens: u64) -> bool {
        let add = |packed: u64| {
            let mut booked = Bookings::unpack(packed);
            booked.requests += 1;
            booked.prefill_tokens += prefill_tokens;
            booked.pack()
        };
        match seen {
            Some(seen) => {
                let seen = seen.pack();
                self.booked.compare_exchange(seen, add(seen), Ordering::Relaxed, Ordering::Relaxed).is_ok()
            }
            None => self.booked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |p| Some(add(p))).is_ok(),
        }
    }

    /// Counts prefill work that was booked for good: the request is on its way.
    pub(crate) fn note_sent(&self, prefill_tokens: u64) {
        self.ever_booked.fetch_add(prefill_tokens, Ordering::Relaxed);
    }

    /// Takes bookings back that [`book`](Self::book) made.
    pub(crate) fn release(&self, requests: u32, prefill_tokens: u64) {
        let all = Bookings { requests, prefill_tokens }.pack();
        self.booked.fetch_sub(all, Ordering::Relaxed);
    }

    /// Books what a peer has in flight. Who calls it bounds how much that is in all.
    pub(crate) fn book_for_peer(&self, prefill_tokens: u64) {
        self.peers.fetch_add(Bookings { requests: 1, prefill_tokens }.pack(), Ordering::Relaxed);
    }

    /// Takes bookings back that [`book_for_peer`](Self::book_for_peer) made.
    pub(crate) fn release_for_peer(&self, requests: u32, prefill_tokens: u64) {
        self.peers.fetch_sub(Bookings { requests, prefill_tokens }.pack(), Ordering::Relaxed);
    }
}
