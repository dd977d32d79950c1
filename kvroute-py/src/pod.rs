//! Pods as a router knows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvroute_core as core;
use kvroute_core::load::Bookings;
use kvroute_core::pod::RoutedPod;
use pyo3::prelude::*;

use crate::domain::CacheDomain;
use crate::output::quoted;

/// What a pod says of its load.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LoadReport(core::LoadReport);

#[pymethods]
impl LoadReport {
    /// Requests being computed (`vllm:num_requests_running`).
    #[getter]
    fn running(&self) -> u32 {
        self.0.running
    }

    /// Requests that wait (`vllm:num_requests_waiting`).
    #[getter]
    fn waiting(&self) -> u32 {
        self.0.waiting
    }

    /// Share of the KV cache in use, 0 to 1 (`vllm:kv_cache_usage_perc`).
    #[getter]
    fn kv_usage(&self) -> f32 {
        self.0.kv_usage
    }

    fn __repr__(&self) -> String {
        let core::LoadReport { running, waiting, kv_usage } = self.0;
        format!("LoadReport(running={running}, waiting={waiting}, kv_usage={kv_usage})")
    }
}

/// A pod of a router.
///
/// What it is does not change; `accepting`, `trust`, `load`, `overloaded`, `failures` and the bookings are those of the
/// moment when they are read.
#[pyclass(frozen, module = "kvroute")]
#[derive(Debug)]
pub(crate) struct Pod(pub(crate) Arc<RoutedPod>);

#[pymethods]
impl Pod {
    /// What the router's methods name it by. A pod that comes back is a new one, with another id.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id().as_u64()
    }

    /// Its name, such as `10.0.0.7:8000`.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Its data-parallel rank; each rank is a pod of its own.
    #[getter]
    fn dp_rank(&self) -> u32 {
        self.0.dp_rank()
    }

    /// Its cache domain.
    #[getter]
    fn domain(&self) -> CacheDomain {
        CacheDomain(Arc::new(self.0.domain().clone()))
    }

    /// What it does: "prefill", "decode" or "both".
    #[getter]
    fn role(&self) -> &'static str {
        self.0.role().name()
    }

    /// Its labels.
    #[getter]
    fn labels(&self) -> &BTreeMap<String, String> {
        self.0.labels()
    }

    /// How fast it computes, as a multiple of an ordinary pod.
    #[getter]
    fn capacity(&self) -> f64 {
        self.0.capacity()
    }

    /// Whether it takes new requests.
    #[getter]
    fn accepting(&self) -> bool {
        self.0.is_accepting()
    }

    /// How far its view is to be believed: "exact", "degraded", "approximate" or "load-only".
    #[getter]
    fn trust(&self) -> &'static str {
        self.0.trust().name()
    }

    /// What it last said of its load, or None.
    #[getter]
    fn load(&self) -> Option<LoadReport> {
        self.0.load().map(LoadReport)
    }

    /// Whether that reached the bounds of the configuration's `overload`.
    #[getter]
    fn overloaded(&self) -> bool {
        self.0.is_overloaded()
    }

    /// Requests that failed since it last answered one.
    #[getter]
    fn failures(&self) -> u32 {
        self.0.failures().0
    }

    /// Requests that this router has in flight on it.
    #[getter]
    fn booked_requests(&self) -> u32 {
        self.0.bookings().requests
    }

    /// Tokens of their prompts that it has to compute before their first tokens.
    #[getter]
    fn booked_prefill_tokens(&self) -> u64 {
        self.0.bookings().prefill_tokens
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (pod, Bookings { requests, .. }) = (&self.0, self.0.bookings());
        let (name, domain) = (quoted(py, pod.name())?, quoted(py, pod.domain().name())?);
        let (rank, role, trust) = (pod.dp_rank(), pod.role().name(), pod.trust().name());
        let accepting = if pod.is_accepting() { "" } else { ", draining" };
        Ok(format!(
            "Pod({name}, dp_rank={rank}, id={}, domain={domain}, role='{role}', trust='{trust}', \
             booked_requests={requests}{accepting})",
            pod.id().as_u64()
        ))
    }
}
