//! What deciding and dispatching answer.
//!
//! A decision names its pod in three ways, because each is what somebody needs at once: by name, which is where
//! the request is sent; by rank, which goes into a header; and by id, which the router's methods take.

use std::sync::Arc;

use kvroute_core as core;
use kvroute_core::decision::Reason;
use kvroute_core::index;
use kvroute_core::pod::RoutedPod;
use pyo3::prelude::*;

use crate::error::internal;
use crate::explanation::Explanation;
use crate::output::quoted;
use crate::pod::Pod;

/// Leading blocks a pod is expected to take from its cache, by the tier that holds them.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TierBlocks(pub(crate) index::TierBlocks);

#[pymethods]
impl TierBlocks {
    /// In device memory.
    #[getter]
    fn gpu(&self) -> u32 {
        self.0.in_tier(core::Tier::Gpu)
    }

    /// In host memory.
    #[getter]
    fn cpu(&self) -> u32 {
        self.0.in_tier(core::Tier::Cpu)
    }

    /// In local storage.
    #[getter]
    fn disk(&self) -> u32 {
        self.0.in_tier(core::Tier::Disk)
    }

    /// In a store shared with others.
    #[getter]
    fn external(&self) -> u32 {
        self.0.in_tier(core::Tier::External)
    }

    /// In all tiers together: the longest run from block 0.
    #[getter]
    fn total(&self) -> u32 {
        self.0.total()
    }

    pub(crate) fn __repr__(&self) -> String {
        let (gpu, cpu, disk, external) = (self.gpu(), self.cpu(), self.disk(), self.external());
        format!("TierBlocks(gpu={gpu}, cpu={cpu}, disk={disk}, external={external})")
    }
}

/// Where a request should go.
#[pyclass(frozen, module = "kvroute")]
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) decision: core::Decision,
    pub(crate) pods: Pods,
    pub(crate) explanation: Option<Py<Explanation>>,
    pub(crate) record: Option<String>,
}

/// The pods that a decision names.
#[derive(Clone, Debug)]
pub(crate) struct Pods {
    pub(crate) decode: Arc<RoutedPod>,
    pub(crate) prefill: Option<Arc<RoutedPod>>,
    pub(crate) fallbacks: Vec<Arc<RoutedPod>>,
}

/// What may be asked for besides a decision.
#[derive(Debug)]
pub(crate) struct Extras {
    pub(crate) explanation: Option<Py<Explanation>>,
    pub(crate) record: Option<String>,
}

impl Pods {
    /// Those of the last decision made with `workspace`.
    pub(crate) fn of(decision: &core::Decision, workspace: &core::Workspace) -> Option<Self> {
        let decode = Arc::clone(workspace.pod(decision.pod)?);
        let prefill = decision.prefill.and_then(|prefill| workspace.pod(prefill.pod).cloned());
        let fallbacks = workspace.fallbacks().iter().filter_map(|&pod| workspace.pod(pod).cloned());
        Some(Self { decode, prefill, fallbacks: fallbacks.collect() })
    }
}

impl Decision {
    pub(crate) fn new(decision: core::Decision, pods: Option<Pods>, extras: Extras) -> PyResult<Self> {
        // A decision is among the pods that its workspace saw.
        let pods = pods.ok_or_else(|| internal("a decision for a pod that took no part in it".to_owned()))?;
        let Extras { explanation, record } = extras;
        Ok(Self { decision, pods, explanation, record })
    }
}

#[pymethods]
impl Decision {
    /// Name of the pod.
    #[getter]
    fn pod(&self) -> &str {
        self.pods.decode.name()
    }

    /// Its data-parallel rank.
    #[getter]
    fn dp_rank(&self) -> u32 {
        self.pods.decode.dp_rank()
    }

    /// Its id, for the router's methods.
    #[getter]
    fn pod_id(&self) -> u64 {
        self.decision.pod.as_u64()
    }

    /// Its weighted sum of scores.
    #[getter]
    fn total(&self) -> f64 {
        self.decision.total
    }

    /// Leading blocks it is expected to take from its cache, by tier.
    #[getter]
    fn matched(&self) -> TierBlocks {
        TierBlocks(self.decision.matched)
    }

    /// Tokens in those blocks.
    #[getter]
    fn matched_tokens(&self) -> usize {
        self.decision.matched_tokens
    }

    /// Tokens it has to compute, as well as can be told.
    #[getter]
    fn uncached_tokens(&self) -> usize {
        self.decision.uncached_tokens
    }

    /// Why this pod: "picked" (by the picker); "spilled" (the one that was picked is much busier than the others); or
    /// "warm-up" (it is new, and no pod has much of the prompt).
    #[getter]
    fn reason(&self) -> &'static str {
        self.decision.reason.name()
    }

    /// The next best pods, best first, as many as the policy asks for (`fallbacks` of a profile): where to turn if the
    /// pod does not answer.
    #[getter]
    fn fallbacks(&self) -> Vec<Pod> {
        self.pods.fallbacks.iter().map(|pod| Pod(Arc::clone(pod))).collect()
    }

    /// The pod that computes the prompt first, if one does; the decode pod takes the KV from it. Else None.
    #[getter]
    fn prefill(&self) -> Option<Prefill> {
        let (prefill, pod) = (self.decision.prefill?, Arc::clone(self.pods.prefill.as_ref()?));
        Some(Prefill { prefill, pod })
    }

    /// How many pods were considered, before filters.
    #[getter]
    fn candidates(&self) -> usize {
        self.decision.candidates
    }

    /// Why it came out that way, if `explain=True` asked for it. Else None.
    #[getter]
    fn explanation<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, Explanation>> {
        self.explanation.as_ref().map(|explanation| explanation.bind(py))
    }

    /// The line of a decision log about it, if `record=True` asked for it. Else None.
    #[getter]
    fn record(&self) -> Option<&str> {
        self.record.as_deref()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let core::Decision { total, matched_tokens, uncached_tokens, .. } = self.decision;
        let (pod, rank) = (quoted(py, self.pod())?, self.dp_rank());
        let reason = unless_picked(self.decision.reason);
        let prefill = match self.prefill() {
            Some(prefill) => format!(", prefill={}", prefill.__repr__(py)?),
            None => String::new(),
        };
        Ok(format!(
            "Decision({pod}, dp_rank={rank}, total={total:.3}, matched_tokens={matched_tokens}, \
             uncached_tokens={uncached_tokens}{reason}{prefill})"
        ))
    }
}

/// Where a prompt should be computed before it is answered elsewhere.
#[pyclass(frozen, module = "kvroute")]
#[derive(Debug)]
pub(crate) struct Prefill {
    prefill: core::decision::Prefill,
    pod: Arc<RoutedPod>,
}

#[pymethods]
impl Prefill {
    /// Name of the pod.
    #[getter]
    fn pod(&self) -> &str {
        self.pod.name()
    }

    /// Its data-parallel rank.
    #[getter]
    fn dp_rank(&self) -> u32 {
        self.pod.dp_rank()
    }

    /// Its id, for the router's methods.
    #[getter]
    fn pod_id(&self) -> u64 {
        self.prefill.pod.as_u64()
    }

    /// Its weighted sum of scores.
    #[getter]
    fn total(&self) -> f64 {
        self.prefill.total
    }

    /// Leading blocks it is expected to take from its cache, by tier.
    #[getter]
    fn matched(&self) -> TierBlocks {
        TierBlocks(self.prefill.matched)
    }

    /// Tokens in those blocks.
    #[getter]
    fn matched_tokens(&self) -> usize {
        self.prefill.matched_tokens
    }

    /// Tokens it has to compute, as well as can be told.
    #[getter]
    fn uncached_tokens(&self) -> usize {
        self.prefill.uncached_tokens
    }

    /// Why this pod, as in `Decision.reason`.
    #[getter]
    fn reason(&self) -> &'static str {
        self.prefill.reason.name()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let core::decision::Prefill { total, matched_tokens, uncached_tokens, .. } = self.prefill;
        let (pod, rank) = (quoted(py, self.pod.name())?, self.pod.dp_rank());
        let reason = unless_picked(self.prefill.reason);
        Ok(format!(
            "Prefill({pod}, dp_rank={rank}, total={total:.3}, matched_tokens={matched_tokens}, \
             uncached_tokens={uncached_tokens}{reason})"
        ))
    }
}

/// The reason in a `repr`, where it is not the usual one.
fn unless_picked(reason: Reason) -> String {
    if reason == Reason::Picked { String::new() } else { format!(", reason='{}'", reason.name()) }
}

/// A request that was sent on its way.
#[pyclass(frozen, module = "kvroute")]
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) decision: Py<Decision>,
    pub(crate) ticket: core::Ticket,
    pub(crate) retries: u32,
    pub(crate) contended: bool,
}

#[pymethods]
impl Dispatch {
    /// Where it goes.
    #[getter]
    fn decision<'py>(&self, py: Python<'py>) -> &Bound<'py, Decision> {
        self.decision.bind(py)
    }

    /// Names it in `Router.first_token` and `Router.finish`; 0 if it is not tracked, because too many are in
    /// flight.
    #[getter]
    fn ticket(&self) -> u64 {
        self.ticket.as_u64()
    }

    /// How often it was decided again because somebody else booked the same pod meanwhile, 0 to 3.
    #[getter]
    fn retries(&self) -> u32 {
        self.retries
    }

    /// Somebody else still did at the last try, and it was booked all the same.
    #[getter]
    fn contended(&self) -> bool {
        self.contended
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let decision = self.decision.get().__repr__(py)?;
        Ok(format!("Dispatch({decision}, ticket={}, retries={})", self.ticket.as_u64(), self.retries))
    }
}
