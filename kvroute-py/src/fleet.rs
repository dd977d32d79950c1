//! `Fleet`: a router in step with its pods.

use std::sync::Arc;
use std::thread;

use kvroute_core::PodId;
use kvroute_io::fleet::{self, FleetDocument, StandaloneFleet, StandaloneOptions};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::config::dict_text;
use crate::error::{call, call_detached, invalid};
use crate::input::{argument, argument_or, utf8};
use crate::output::{quoted, to_python};
use crate::router::Router;

/// A router, and what keeps it in step with reality: pods come from a list, a file and DNS; each is asked what it is
/// before it gets its first request; its KV events are subscribed to, its load is scraped; one that does not answer gets
/// no requests until it does; one that leaves the list is drained and removed.
///
/// document: a dict, or a YAML or JSON document as str. Its `router` is what `kvroute.Router` takes, without pods; its
/// `fleet` says where pods come from and how they are asked, such as `{"pods": ["http://10.0.0.7:8000"]}`. threads: that
/// ask pods and read answers. hold_events: events wait for `release_events`.
///
/// It begins at once, on threads of its own, and ends with `close` or as a context manager. After `fork` it is of no
/// use.
#[pyclass(frozen, module = "kvroute.io")]
#[derive(Debug)]
pub(crate) struct Fleet {
    /// `None` once it is closed. Only locked to look: no call waits for another with the GIL.
    running: Mutex<Option<Arc<StandaloneFleet>>>,
    router: Py<Router>,
    clock: fleet::Clock,
}

#[pymethods]
impl Fleet {
    #[new]
    #[pyo3(signature = (document, *, threads = None, hold_events = false),
           text_signature = "(document, *, threads=2, hold_events=False)")]
    fn new(
        py: Python<'_>,
        document: &Bound<'_, PyAny>,
        threads: Option<&Bound<'_, PyAny>>,
        hold_events: bool,
    ) -> PyResult<Self> {
        let document = read_document(document)?;
        let mut options = StandaloneOptions::default();
        options.threads = argument_or("threads", threads, options.threads)?;
        options.hold_events = hold_events;
        let running = call_detached(py, || StandaloneFleet::start(&document, &options))?;
        let (router, clock) = (Py::new(py, Router::of_fleet(&running))?, running.clock());
        Ok(Self { running: Mutex::new(Some(Arc::new(running))), router, clock })
    }

    /// The router. Adding and removing pods, applying events and expiring requests are the fleet's. It may be used after
    /// `close`, without pods.
    #[getter]
    fn router(&self, py: Python<'_>) -> Py<Router> {
        self.router.clone_ref(py)
    }

    /// The time that the fleet gives to the router, seconds since 1970; what the router's methods take where `now` is left
    /// out.
    fn now(&self) -> f64 {
        self.clock.now().as_secs_f64()
    }

    /// Where a pod of the router is; None if it left, or is joining this very moment.
    #[pyo3(signature = (pod, /))]
    fn target(&self, py: Python<'_>, pod: &Bound<'_, PyAny>) -> PyResult<Option<Target>> {
        let pod = PodId::from_u64(argument("pod", pod)?);
        self.with(py, |fleet| call(|| Ok(fleet.target(pod).map(Target))))
    }

    /// The models and adapters that pods serve, by name: `kvroute.io.Model`.
    fn models<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let models = self.with(py, |fleet| call(|| Ok(fleet.models())))?;
        to_python(py, &models.iter().map(Arc::as_ref).collect::<Vec<_>>())
    }

    /// What sources, pods, models and streams of events are at, a dict. For a look now and then.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = self.with(py, |fleet| call_detached(py, || Ok(fleet.status())))?;
        to_python(py, &status)
    }

    /// Goes on by another document: pods that are no longer named are drained, new ones are asked, those that are described
    /// otherwise join anew, all others stay as they are; and the router chooses by the policy of its `router`. All else in
    /// `router`, and `fleet.events`, counts only at the start. Where anything is wrong, nothing changes.
    #[pyo3(signature = (document, /))]
    fn reconfigure(&self, document: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, document) = (document.py(), read_document(document)?);
        self.with(py, |fleet| call(|| fleet.reconfigure(&document)))
    }

    /// Subscribes to the events of all pods that are there, and from now on to those of others as they come: for fleets with
    /// `hold_events`, once a snapshot was restored.
    fn release_events(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |fleet| {
            call(|| {
                fleet.release_events();
                Ok(())
            })
        })
    }

    /// Stops it after the calls under way, and waits until its pods left the router, five seconds at most. Closing again does nothing; all else
    /// that is asked of it then is an InvalidInputError.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let running = self.running.lock().take();
        running.map_or(Ok(()), |fleet| stop(py, fleet))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (_kind, _value, _traceback, /), text_signature = "($self, kind, value, traceback, /)")]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        let pods = self.running.lock().as_ref().map(|fleet| fleet.router().pods().len());
        pods.map_or("Fleet(closed)".into(), |pods| format!("Fleet({pods} pods)"))
    }
}

impl Fleet {
    fn with<R>(&self, py: Python<'_>, act: impl FnOnce(&StandaloneFleet) -> PyResult<R>) -> PyResult<R> {
        let fleet = self.running.lock().clone().ok_or_else(|| invalid("this fleet is closed"))?;
        let answer = act(&fleet);
        stop(py, fleet)?;
        answer
    }
}

/// Lets a fleet go, and waits for its end if nobody else has it.
fn stop(py: Python<'_>, fleet: Arc<StandaloneFleet>) -> PyResult<()> {
    Arc::into_inner(fleet).map_or(Ok(()), |last| {
        call_detached(py, || {
            drop(last);
            Ok(())
        })
    })
}

impl Drop for Fleet {
    /// Nobody waits for one that is only forgotten: this may be in the middle of anything.
    fn drop(&mut self) {
        if let Some(running) = self.running.get_mut().take() {
            // Without a thread it is dropped right here.
            let _ = thread::Builder::new().name("kvroute-stop".into()).spawn(move || drop(running));
        }
    }
}

/// Where to send a request that was decided for a pod.
#[pyclass(frozen, module = "kvroute.io")]
#[derive(Debug)]
pub(crate) struct Target(Arc<fleet::Target>);

#[pymethods]
impl Target {
    /// The pod's name.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Where its HTTP interface is, such as `http://10.0.0.7:8000`.
    #[getter]
    fn url(&self) -> String {
        self.0.url.to_string()
    }

    /// The data-parallel rank that was picked.
    #[getter]
    fn dp_rank(&self) -> u32 {
        self.0.rank
    }

    /// How many ranks are behind that URL. If more than one, the request has to say which is meant (vLLM: the header
    /// `X-data-parallel-rank`).
    #[getter]
    fn dp_ranks(&self) -> u32 {
        self.0.ranks
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (url, rank, ranks) = (quoted(py, &self.url())?, self.0.rank, self.0.ranks);
        Ok(format!("Target({}, {url}, dp_rank={rank}, dp_ranks={ranks})", quoted(py, &self.0.name)?))
    }
}

fn read_document(value: &Bound<'_, PyAny>) -> PyResult<FleetDocument> {
    if let Ok(document) = value.cast::<PyString>() {
        let document = utf8("document", document)?;
        return call(|| FleetDocument::parse(document));
    }
    let document = dict_text("document", value)?;
    call(|| FleetDocument::parse(&document))
}
