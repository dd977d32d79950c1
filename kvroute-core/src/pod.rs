//! Pods as the router knows them: what they are, how busy, and how true their views proved.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::index::{PodId, PodOptions, TrustCell, TrustLevel};
use crate::{CacheDomain, Error};

/// What a pod does for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
pub enum Role {
    /// Computes prompts for decode pods, nothing else.
    Prefill,
    /// Answers requests.
    Decode,
    /// Either.
    #[default]
    Both,
}

impl Role {
    /// Whether a pod of this role can do what `wanted` does.
    #[must_use]
    pub fn serves(self, wanted: Self) -> bool {
        self == Self::Both || self == wanted
    }

    /// Name in explanations and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Both => "both",
        }
    }
}

/// A pod to be added to a router. Fill it with `..PodSpec::new(name, domain)`: fields may be added.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Its name, such as `10.0.0.7:8000`.
    pub name: String,
    /// Its data-parallel rank; each rank is a pod of its own, with its own stream of events.
    pub dp_rank: u32,
    /// What may share KV with it.
    pub domain: Arc<CacheDomain>,
    /// What it does.
    pub role: Role,
    /// Labels, for filters and scorers of the embedder's.
    pub labels: BTreeMap<String, String>,
    /// How its stream of events is read.
    pub options: PodOptions,
}

impl PodSpec {
    /// A pod of rank 0 for any role, without labels.
    #[must_use]
    pub fn new(name: impl Into<String>, domain: Arc<CacheDomain>) -> Self {
        let (labels, options) = (BTreeMap::new(), PodOptions::default());
        Self { name: name.into(), dp_rank: 0, domain, role: Role::Both, labels, options }
    }
}

/// What a pod says of its load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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
        Err(Error::invalid(alloc::format!("kv_usage is a share, 0 to 1, not {}", self.kv_usage)))
    }
}

/// What this router has in flight on a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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

    fn unpack(packed: u64) -> Self {
        Self {
            requests: (packed >> Self::TOKEN_BITS) as u32,
            prefill_tokens: packed & Self::MAX_PREFILL_TOKENS,
        }
    }
}

/// How a pod's view compared with what its engine counted when requests finished. Requests of which nothing was
/// expected and nothing found tell nothing, and are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Requests whose engine had exactly what was expected.
    pub agreed: u64,
    /// Requests whose engine had less than was expected: the view credits what is not there.
    pub overestimated: u64,
    /// Requests whose engine had more; often another request brought it between decision and admission.
    pub underestimated: u64,
}

/// A pod as the router knows it.
#[derive(Debug)]
pub struct RoutedPod {
    pub(crate) id: PodId,
    pub(crate) name: String,
    pub(crate) dp_rank: u32,
    pub(crate) domain: Arc<CacheDomain>,
    role: Role,
    labels: BTreeMap<String, String>,
    options: PodOptions,
    /// What session tokens name it by: the same in every router and after every restart; 0 is no pod's.
    pub(crate) identity: u64,
    trust: Arc<TrustCell>,
    accepting: AtomicBool,
    /// running << 32 | waiting; `NO_REPORT` before the first report.
    reported: AtomicU64,
    kv_usage: AtomicU32,
    /// Requests booked when the last report came.
    booked_at_report: AtomicU32,
    booked: AtomicU64,
    agreed: AtomicU64,
    overestimated: AtomicU64,
    underestimated: AtomicU64,
    /// Overestimates since the engine last had what was expected.
    overestimated_in_a_row: AtomicU32,
}

const NO_REPORT: u64 = u64::MAX;

impl RoutedPod {
    /// Overestimates in a row that lower the trust level by one.
    pub const OVERESTIMATES_PER_LEVEL: u32 = 3;

    pub(crate) fn new(id: PodId, spec: PodSpec, trust: Arc<TrustCell>) -> Self {
        let identity = xxh3_64_with_seed(spec.name.as_bytes(), u64::from(spec.dp_rank)).max(1);
        Self {
            id,
            identity,
            name: spec.name,
            dp_rank: spec.dp_rank,
            domain: spec.domain,
            role: spec.role,
            labels: spec.labels,
            options: spec.options,
            trust,
            accepting: AtomicBool::new(true),
            reported: AtomicU64::new(NO_REPORT),
            kv_usage: AtomicU32::new(0),
            booked_at_report: AtomicU32::new(0),
            booked: AtomicU64::new(0),
            agreed: AtomicU64::new(0),
            overestimated: AtomicU64::new(0),
            underestimated: AtomicU64::new(0),
            overestimated_in_a_row: AtomicU32::new(0),
        }
    }

    /// What it was added as.
    pub(crate) fn spec(&self) -> PodSpec {
        PodSpec {
            name: self.name.clone(),
            dp_rank: self.dp_rank,
            domain: Arc::clone(&self.domain),
            role: self.role,
            labels: self.labels.clone(),
            options: self.options.clone(),
        }
    }

    /// The pod in the index.
    #[must_use]
    pub fn id(&self) -> PodId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data-parallel rank.
    #[must_use]
    pub fn dp_rank(&self) -> u32 {
        self.dp_rank
    }

    /// Its cache domain.
    #[must_use]
    pub fn domain(&self) -> &CacheDomain {
        &self.domain
    }

    /// What it does.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Whether it takes new requests; a draining pod does not.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_accepting(&self, accepting: bool) {
        self.accepting.store(accepting, Ordering::Relaxed);
    }

    /// Its last load report.
    #[must_use]
    pub fn load(&self) -> Option<LoadReport> {
        let requests = self.reported.load(Ordering::Relaxed);
        let kv_usage = f32::from_bits(self.kv_usage.load(Ordering::Relaxed));
        (requests != NO_REPORT).then_some(LoadReport {
            running: (requests >> 32) as u32,
            waiting: requests as u32,
            kv_usage,
        })
    }

    pub(crate) fn set_load(&self, report: LoadReport) {
        let requests = u64::from(report.running) << 32 | u64::from(report.waiting);
        self.kv_usage.store(report.kv_usage.to_bits(), Ordering::Relaxed);
        self.booked_at_report.store(self.bookings().requests, Ordering::Relaxed);
        self.reported.store(requests.min(NO_REPORT - 1), Ordering::Relaxed);
    }

    /// What this router has in flight on it.
    #[must_use]
    pub fn bookings(&self) -> Bookings {
        Bookings::unpack(self.booked.load(Ordering::Relaxed))
    }

    /// Requests it has, as well as can be told: those it reported, and what this router sent and saw
    /// finish since; never fewer than this router has in flight there.
    pub(crate) fn in_flight(&self, booked: Bookings, load: Option<LoadReport>) -> u64 {
        let booked = u64::from(booked.requests);
        let Some(load) = load else { return booked };
        let reported = u64::from(load.running) + u64::from(load.waiting);
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

    /// Takes bookings back that [`book`](Self::book) made.
    pub(crate) fn release(&self, requests: u32, prefill_tokens: u64) {
        let all = Bookings { requests, prefill_tokens }.pack();
        self.booked.fetch_sub(all, Ordering::Relaxed);
    }

    /// How its view compared with what its engine counted.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit {
            agreed: self.agreed.load(Ordering::Relaxed),
            overestimated: self.overestimated.load(Ordering::Relaxed),
            underestimated: self.underestimated.load(Ordering::Relaxed),
        }
    }

    /// Takes in what the engine counted where `expected` tokens were expected to be cached.
    pub(crate) fn compare(&self, expected: usize, counted: usize) {
        if counted < expected {
            self.overestimated.fetch_add(1, Ordering::Relaxed);
            self.overestimated_in_a_row.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if counted > expected {
            self.underestimated.fetch_add(1, Ordering::Relaxed);
        } else if expected > 0 {
            self.agreed.fetch_add(1, Ordering::Relaxed);
        }
        // A view that promised nothing has not been proved right.
        if expected > 0 {
            self.overestimated_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Overestimates since the engine last had what was expected.
    pub(crate) fn overestimated_in_a_row(&self) -> u32 {
        self.overestimated_in_a_row.load(Ordering::Relaxed)
    }

    /// Goes on with an audit of before, if there was none since.
    pub(crate) fn resume_audit(&self, audit: Audit, overestimated_in_a_row: u32) {
        if self.audit() == Audit::default() {
            self.agreed.store(audit.agreed, Ordering::Relaxed);
            self.overestimated.store(audit.overestimated, Ordering::Relaxed);
            self.underestimated.store(audit.underestimated, Ordering::Relaxed);
            self.overestimated_in_a_row.store(overestimated_in_a_row, Ordering::Relaxed);
        }
    }

    /// What its stream of events says of its view.
    pub(crate) fn stream_trust(&self) -> TrustLevel {
        self.trust.get()
    }

    /// How far its view is to be believed: what its stream of events says, lowered by one level for every
    /// [`OVERESTIMATES_PER_LEVEL`](Self::OVERESTIMATES_PER_LEVEL) requests in a row whose engine had less than
    /// the view said, down to approximate. One that had something and all of it restores it.
    #[must_use]
    pub fn trust(&self) -> TrustLevel {
        let levels = self.overestimated_in_a_row.load(Ordering::Relaxed) / Self::OVERESTIMATES_PER_LEVEL;
        let (trust, lowest) = (self.trust.get(), TrustLevel::Approximate);
        let proved = match levels {
            0 => return trust,
            1 => TrustLevel::Degraded,
            _ => lowest,
        };
        trust.min(proved)
    }
}
