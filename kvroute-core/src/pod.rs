//! Pods as the router knows them: what they are, how busy, how well they do, and how true their views proved.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::index::{PodId, PodOptions, TrustCell, TrustLevel};
use crate::load::{Bookings, Load, LoadReport};
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
    /// Labels, for filters and scorers.
    pub labels: BTreeMap<String, String>,
    /// How fast it computes, as a multiple of an ordinary pod; above 0. A pod of twice the GPUs has 2, say.
    pub capacity: f64,
    /// How its stream of events is read.
    pub options: PodOptions,
}

impl PodSpec {
    /// A pod of rank 0 for any role, without labels, of capacity 1.
    #[must_use]
    pub fn new(name: impl Into<String>, domain: Arc<CacheDomain>) -> Self {
        let (labels, options) = (BTreeMap::new(), PodOptions::default());
        Self { name: name.into(), dp_rank: 0, domain, role: Role::Both, labels, capacity: 1.0, options }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.capacity.is_finite() && self.capacity > 0.0 {
            return Ok(());
        }
        let (name, capacity) = (&self.name, self.capacity);
        Err(Error::invalid(alloc::format!("pod \"{name}\": capacity is finite and above 0, not {capacity}")))
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
    capacity: f64,
    options: PodOptions,
    /// What session tokens name it by: the same in every router and after every restart; 0 is no pod's.
    pub(crate) identity: u64,
    trust: Arc<TrustCell>,
    accepting: AtomicBool,
    pub(crate) load: Load,
    failures: Failures,
    /// When it last got a request of which no pod held anything, as a number that the router counts up; 0 never.
    cold_turn: AtomicU64,
    agreed: AtomicU64,
    overestimated: AtomicU64,
    underestimated: AtomicU64,
    /// Overestimates since the engine last had what was expected.
    overestimated_in_a_row: AtomicU32,
}

/// Requests that failed since one was answered.
#[derive(Debug, Default)]
struct Failures {
    in_a_row: AtomicU32,
    /// When the last of them was dispatched; milliseconds.
    last: AtomicU64,
}

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
            capacity: spec.capacity,
            options: spec.options,
            trust,
            accepting: AtomicBool::new(true),
            load: Load::default(),
            failures: Failures::default(),
            cold_turn: AtomicU64::new(0),
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
            capacity: self.capacity,
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
        let before = self.accepting.swap(accepting, Ordering::Relaxed);
        if accepting && !before {
            self.note_answer();
        }
    }

    /// How fast it computes, as a multiple of an ordinary pod.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.capacity
    }

    /// Its last load report.
    #[must_use]
    pub fn load(&self) -> Option<LoadReport> {
        self.load.report()
    }

    /// What this router has in flight on it.
    #[must_use]
    pub fn bookings(&self) -> Bookings {
        self.load.bookings()
    }

    /// What this router's peers said that they have in flight on it ([`Router::apply_peer_report`]).
    ///
    /// [`Router::apply_peer_report`]: crate::Router::apply_peer_report
    #[must_use]
    pub fn peer_bookings(&self) -> Bookings {
        self.load.peer_bookings()
    }

    /// Whether its last load report reached the router's bounds ([`Overload`](crate::load::Overload)).
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.load.is_overloaded()
    }

    /// Requests that failed since it last answered one, and when the last of them was dispatched.
    #[must_use]
    pub fn failures(&self) -> (u32, Duration) {
        let last = Duration::from_millis(self.failures.last.load(Ordering::Relaxed));
        (self.failures.in_a_row.load(Ordering::Relaxed), last)
    }

    pub(crate) fn note_failure(&self, dispatched: Duration) {
        let dispatched = u64::try_from(dispatched.as_millis()).unwrap_or(u64::MAX);
        self.failures.last.fetch_max(dispatched, Ordering::Relaxed);
        self.failures.in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    /// It answered, or whoever watches it says that it is well again.
    pub(crate) fn note_answer(&self) {
        self.failures.in_a_row.store(0, Ordering::Relaxed);
    }

    pub(crate) fn cold_turn(&self) -> u64 {
        self.cold_turn.load(Ordering::Relaxed)
    }

    pub(crate) fn set_cold_turn(&self, turn: u64) {
        self.cold_turn.fetch_max(turn, Ordering::Relaxed);
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
        self.trust_if(self.trust.get())
    }

    /// The same of what is believed at this level by itself.
    pub(crate) fn trust_if(&self, trust: TrustLevel) -> TrustLevel {
        let levels = self.overestimated_in_a_row.load(Ordering::Relaxed) / Self::OVERESTIMATES_PER_LEVEL;
        let lowest = TrustLevel::Approximate;
        let proved = match levels {
            0 => return trust,
            1 => TrustLevel::Degraded,
            _ => lowest,
        };
        trust.min(proved)
    }
}
