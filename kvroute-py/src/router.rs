//! `Router`: its methods, one after the other, as Python sees them.
//!
//! One block of methods a class is what PyO3 allows, so this file is long and says little: how arguments are
//! read is in `input` and `request`, what is answered in `decision`, `report` and `pod`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kvroute_core as core;
use kvroute_core::config::{EventsConfig, PodConfig};
use kvroute_core::index::{self, HeldCursor, PodId};
use kvroute_core::record::{OutcomeRecord, RecordOptions};
use kvroute_core::{
    AdapterReport, Config, Error, ErrorKind, Finish, PodSpec, Request, Role, Ticket, Workspace,
};
use parking_lot::RwLock;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyString};

use crate::clock::Clock;
use crate::config::{json_text, read_config};
use crate::context::{HashContext, context_or_none};
use crate::decision::{Decision, Dispatch, Extras, Pods};
use crate::domain::CacheDomain;
use crate::error::{call, call_detached, exception, invalid, no_candidate, unknown_domain};
use crate::event::read_batch;
use crate::explanation::Explanation;
use crate::held::{self, HeldChanges};
use crate::input::{
    LONG_BYTES, LONG_PROMPT, argument, argument_or, bytes, one_of, read_token_ids, real, run, seconds,
    text_bytes, texts, utf8, wrong_type,
};
use crate::output::to_python;
use crate::pod::Pod;
use crate::report::{ApplyReport, PodMatch};
use crate::request::Arguments;
use crate::scratch::{Pool, Scratch};
use crate::snapshot;

/// Everything a gateway needs to route: pods, what they hold, and how to choose among them.
///
/// config: a dict (`kvroute.config.Config`), or a YAML or JSON document as str; None is all defaults. Reading
/// files is the caller's.
///
/// A router may be used by any number of threads at once. Pods are named by the ids that `add_pod` answers and
/// that pods and decisions carry. Times are seconds since any moment that is the same for all calls; `now=None`
/// is the system clock, in Unix seconds, held so that it never goes backwards, or the clock of the router's fleet
/// (`kvroute.io.Fleet`). Take one or the other for one router; session tokens want Unix time.
#[pyclass(frozen, module = "kvroute")]
#[derive(Debug, Default)]
pub(crate) struct Router {
    /// Locked for writing only by `reset`.
    core: RwLock<Arc<core::Router>>,
    pool: Pool,
    clock: Clock,
}

#[pymethods]
impl Router {
    #[new]
    #[pyo3(signature = (config = None))]
    fn new(py: Python<'_>, config: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Self::of(py, &read_config(config)?)
    }

    /// A router of the environment variables of llm-d's first scheduler, and notes on those that are known but
    /// mean nothing here. It has no cache domains and no pods yet.
    ///
    /// environment: names and values, such as `os.environ`; other names are passed over.
    #[staticmethod]
    #[pyo3(signature = (environment, /))]
    fn from_env(py: Python<'_>, environment: &Bound<'_, PyMapping>) -> PyResult<(Self, Vec<String>)> {
        let text = |value: &Bound<'_, PyAny>| match value.cast::<PyString>() {
            // Values that are not UTF-8, which `os.environ` can hold, are none of those that are read.
            Ok(text) => Ok(text.to_string_lossy().into_owned()),
            Err(_) => Err(wrong_type("environment", "names and values as str", value)),
        };
        let mut pairs = Vec::new();
        for item in environment.items()? {
            let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            pairs.push((text(&name)?, text(&value)?));
        }
        let (config, notes) = call(|| Config::from_env_pairs(pairs))?;
        Ok((Self::of(py, &config)?, notes))
    }

    /// Chooses by another policy from now on. Every decision is made by one policy or the other; pods, what they hold,
    /// sessions and requests in flight stay as they are.
    ///
    /// config: what `Router` takes, a dict (`kvroute.config.Config`), or a YAML or JSON document as str. Its policy is
    /// used, the default one if it has none; all else in it is checked and left aside.
    #[pyo3(signature = (config, /))]
    fn set_policy(&self, config: &Bound<'_, PyAny>) -> PyResult<()> {
        let config = read_config(Some(config))?;
        call(|| {
            self.core.read().set_policy(config.policy()?);
            Ok(())
        })
    }

    /// Makes a cache domain known by its name, for pods that come later; a pod's own becomes known with it.
    #[pyo3(signature = (domain, /))]
    fn add_domain(&self, domain: &Bound<'_, CacheDomain>) -> PyResult<()> {
        call(|| self.core.read().add_domain(Arc::clone(&domain.get().0)))
    }

    /// The cache domain of this name, or None.
    #[pyo3(signature = (name, /))]
    fn domain(&self, name: &Bound<'_, PyString>) -> PyResult<Option<CacheDomain>> {
        let name = utf8("name", name)?;
        call(|| Ok(self.core.read().domain(name).map(CacheDomain)))
    }

    /// Adds a pod, holding nothing, and answers its id.
    ///
    /// name: such as `10.0.0.7:8000`. domain: a CacheDomain, or the name of one that the router knows. dp_rank:
    /// each data-parallel rank is a pod of its own, with its own stream of events. role: "prefill", "decode" or
    /// "both". labels: for filters and scorers. capacity: how fast it computes, as a multiple of an ordinary pod; above
    /// 0. events: how its stream is read (`kvroute.config.EventsConfig`).
    #[expect(clippy::too_many_arguments, reason = "a pod's parts, by keyword")]
    #[pyo3(signature = (name, *, domain, dp_rank = None, role = None, labels = None, capacity = None,
                        events = None),
           text_signature = "($self, name, *, domain, dp_rank=0, role='both', labels=None, capacity=1.0, \
                             events=None)")]
    fn add_pod(
        &self,
        name: &Bound<'_, PyString>,
        domain: &Bound<'_, PyAny>,
        dp_rank: Option<&Bound<'_, PyAny>>,
        role: Option<&Bound<'_, PyString>>,
        labels: Option<&Bound<'_, PyDict>>,
        capacity: Option<&Bound<'_, PyAny>>,
        events: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<u64> {
        const ROLES: [Role; 3] = [Role::Prefill, Role::Decode, Role::Both];
        let domain = self.read_domain(domain)?;
        let capacity = capacity.map_or(Ok(1.0), |capacity| real(|| "capacity".into(), capacity))?;
        let pod = PodConfig {
            name: utf8("name", name)?.into(),
            dp_rank: argument_or("dp_rank", dp_rank, 0)?,
            domain: domain.name().into(),
            role: role
                .map_or(Ok(Role::Both), |r| one_of("role", r, &ROLES.map(|role| (role.name(), role))))?,
            labels: labels.map_or(Ok(BTreeMap::new()), read_labels)?,
            capacity: 1.0,
            events: events.map_or(Ok(EventsConfig::default()), read_events_config)?,
        };
        let domains = BTreeMap::from([(pod.domain.clone(), domain)]);
        let id = call(|| self.core.read().add_pod(PodSpec { capacity, ..pod.spec(&domains)? }))?;
        Ok(id.as_u64())
    }

    /// Removes a pod and all it holds.
    #[pyo3(signature = (pod, /))]
    fn remove_pod(&self, py: Python<'_>, pod: &Bound<'_, PyAny>) -> PyResult<()> {
        let pod = pod_id(pod)?;
        call_detached(py, || self.core.read().remove_pod(pod))
    }

    /// All pods, in order of slot.
    fn pods(&self) -> PyResult<Vec<Pod>> {
        call(|| Ok(self.core.read().pods().into_iter().map(Pod).collect()))
    }

    /// The pod of this name and rank, or None.
    #[pyo3(signature = (name, dp_rank = None), text_signature = "($self, name, dp_rank=0)")]
    fn pod(&self, name: &Bound<'_, PyString>, dp_rank: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Pod>> {
        let (name, dp_rank) = (utf8("name", name)?, argument_or("dp_rank", dp_rank, 0)?);
        call(|| Ok(self.core.read().pod(name, dp_rank).map(Pod)))
    }

    /// Applies one published batch of a pod.
    ///
    /// sequence: its number, frame 2 of the message, which is 8 bytes, big-endian. payload: bytes, bytearray or
    /// memoryview, frame 3. What is wrong with the batch is in the report; only a pod that is not there is an
    /// error. For each message of a ZeroMQ socket:
    ///
    ///     topic, number, payload = socket.recv_multipart()
    ///     router.apply(pod, int.from_bytes(number, "big"), payload)
    #[pyo3(signature = (pod, sequence, payload))]
    fn apply(
        &self,
        py: Python<'_>,
        pod: &Bound<'_, PyAny>,
        sequence: &Bound<'_, PyAny>,
        payload: &Bound<'_, PyAny>,
    ) -> PyResult<ApplyReport> {
        let (pod, sequence) = (pod_id(pod)?, argument("sequence", sequence)?);
        let payload = bytes("payload", payload)?;
        let is_long = payload.len() > LONG_BYTES;
        run(py, is_long, || self.core.read().apply(pod, sequence, &payload)).map(ApplyReport)
    }

    /// Applies one published message by its topic, `kv@<pod>@<model>`, for subscribers that many pods publish to.
    ///
    /// sequence, payload: as in `apply`.
    #[pyo3(signature = (topic, sequence, payload, *, dp_rank = None),
           text_signature = "($self, topic, sequence, payload, *, dp_rank=0)")]
    fn apply_topic(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyString>,
        sequence: &Bound<'_, PyAny>,
        payload: &Bound<'_, PyAny>,
        dp_rank: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<ApplyReport> {
        let (topic, sequence) = (utf8("topic", topic)?, argument("sequence", sequence)?);
        let (payload, dp_rank) = (bytes("payload", payload)?, argument_or("dp_rank", dp_rank, 0)?);
        let is_long = payload.len() > LONG_BYTES;
        run(py, is_long, || self.core.read().apply_topic(topic, dp_rank, sequence, &payload)).map(ApplyReport)
    }

    /// Applies one poll of TensorRT-LLM's events: a JSON array of them, one, or either per line.
    ///
    /// json: str, bytes, bytearray or memoryview. Those of other ranks than the pod's are left out and counted, and
    /// so are those of attention windows other than `window_size`, where one is given (None and 0 are any): only
    /// those of the largest say what a prompt can reuse from its start.
    /// Events lost between polls, and restarts, show in the events' numbers; then the pod's view is dropped first.
    #[pyo3(signature = (pod, json, *, window_size = None))]
    fn apply_trtllm(
        &self,
        py: Python<'_>,
        pod: &Bound<'_, PyAny>,
        json: &Bound<'_, PyAny>,
        window_size: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<ApplyReport> {
        let (pod, json) = (pod_id(pod)?, text_bytes("json", json)?);
        let window_size = argument_or("window_size", window_size, 0)?;
        let window_size = (window_size != 0).then_some(window_size);
        call_detached(py, || self.core.read().apply_trtllm(pod, &json, window_size)).map(ApplyReport)
    }

    /// Applies events that came in another way than as published batches: polled, or made by hand.
    ///
    /// events: an EventBatch, or a sequence of BlockStored, BlockRemoved and AllBlocksCleared. They have no
    /// sequence number, so their completeness is the caller's word.
    #[pyo3(signature = (pod, events))]
    fn apply_events(
        &self,
        py: Python<'_>,
        pod: &Bound<'_, PyAny>,
        events: &Bound<'_, PyAny>,
    ) -> PyResult<ApplyReport> {
        let (pod, batch) = (pod_id(pod)?, read_batch(events)?);
        call_detached(py, || self.core.read().apply_events(pod, &batch)).map(ApplyReport)
    }

    /// Gives up on missing batches: drops what the pod held and expects `sequence` next.
    #[pyo3(signature = (pod, sequence))]
    fn abandon_gap(
        &self,
        py: Python<'_>,
        pod: &Bound<'_, PyAny>,
        sequence: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (pod, sequence) = (pod_id(pod)?, argument("sequence", sequence)?);
        call_detached(py, || self.core.read().index().abandon_gap(pod, sequence))
    }

    /// Forgets what this router sent to the pod: its engine restarted, and no event says so.
    #[pyo3(signature = (pod, /))]
    fn forget_predictions(&self, py: Python<'_>, pod: &Bound<'_, PyAny>) -> PyResult<()> {
        let pod = pod_id(pod)?;
        call_detached(py, || self.core.read().index().forget_predictions(pod))
    }

    /// Keeps a journal of what the pod comes to hold and holds no more, up to so many changes that were not taken; 0
    /// ends it. One that runs over takes nothing in any more, and says so when it is taken.
    #[pyo3(signature = (pod, /, most))]
    fn journal_held(&self, pod: &Bound<'_, PyAny>, most: &Bound<'_, PyAny>) -> PyResult<()> {
        let (pod, most) = (pod_id(pod)?, argument("most", most)?);
        call(|| self.core.read().index().journal_held(pod, most))
    }

    /// Takes so many changes of that journal. Of a pod without a journal there is never anything to go on from.
    #[pyo3(signature = (pod, /, most))]
    fn take_held(&self, pod: &Bound<'_, PyAny>, most: &Bound<'_, PyAny>) -> PyResult<HeldChanges> {
        let (pod, most) = (pod_id(pod)?, argument("most", most)?);
        let mut changes = Vec::new();
        let since = call(|| self.core.read().index().take_held(pod, most, &mut changes))?;
        Ok(HeldChanges { since, changes })
    }

    /// Lists blocks that the pod holds (hash, group, tier), so many at most, in an order of the library's own; and where
    /// the next page begins, None behind the last.
    #[pyo3(signature = (pod, /, most, cursor = None), text_signature = "($self, pod, /, most, cursor=0)")]
    fn list_held(
        &self,
        py: Python<'_>,
        pod: &Bound<'_, PyAny>,
        most: &Bound<'_, PyAny>,
        cursor: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Vec<held::Block>, Option<u64>)> {
        let (pod, most) = (pod_id(pod)?, argument("most", most)?);
        let from = HeldCursor::from_u64(argument_or("cursor", cursor, 0)?);
        let mut page = Vec::new();
        let next = call_detached(py, || self.core.read().index().list_held(pod, from, most, &mut page))?;
        Ok((page.into_iter().map(held::block).collect(), next.map(HeldCursor::as_u64)))
    }

    /// Takes in what a pod says of its load.
    ///
    /// running, waiting: requests. kv_usage: share of the KV cache in use, 0 to 1.
    #[pyo3(signature = (pod, *, running, waiting, kv_usage))]
    fn report_load(
        &self,
        pod: &Bound<'_, PyAny>,
        running: &Bound<'_, PyAny>,
        waiting: &Bound<'_, PyAny>,
        kv_usage: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (pod, kv_usage) = (pod_id(pod)?, real(|| "kv_usage".into(), kv_usage)? as f32);
        let (running, waiting) = (argument("running", running)?, argument("waiting", waiting)?);
        call(|| self.core.read().report_load(pod, core::LoadReport { running, waiting, kv_usage }))
    }

    /// Forgets what a pod said of its load and its adapters, as if it never had: for reports that are too old to be
    /// true. What this router has in flight there still counts.
    #[pyo3(signature = (pod, /))]
    fn forget_load(&self, pod: &Bound<'_, PyAny>) -> PyResult<()> {
        let pod = pod_id(pod)?;
        call(|| self.core.read().forget_load(pod))
    }

    /// Takes in what a pod says of its LoRA adapters (`vllm:lora_requests_info`).
    ///
    /// max: how many can be in use at one time. running: names of those that running requests use. waiting: names of
    /// those that only waiting requests ask for. The names are those of `Lora`.
    #[pyo3(signature = (pod, *, max, running = vec![], waiting = vec![]),
           text_signature = "($self, pod, *, max, running=(), waiting=())")]
    fn report_adapters(
        &self,
        pod: &Bound<'_, PyAny>,
        max: &Bound<'_, PyAny>,
        running: Vec<Bound<'_, PyString>>,
        waiting: Vec<Bound<'_, PyString>>,
    ) -> PyResult<()> {
        let (pod, max) = (pod_id(pod)?, argument("max", max)?);
        let (running, waiting) = (texts("running", &running)?, texts("waiting", &waiting)?);
        let report = AdapterReport { max, running: &running, waiting: &waiting };
        call(|| self.core.read().report_adapters(pod, &report))
    }

    /// Lets a pod take new requests, or drains it.
    #[pyo3(signature = (pod, accepting))]
    fn set_accepting(&self, pod: &Bound<'_, PyAny>, accepting: bool) -> PyResult<()> {
        let pod = pod_id(pod)?;
        call(|| self.core.read().set_accepting(pod, accepting))
    }

    /// What pods of a domain hold of a prompt: those that can use, or were sent, at least one block of it, in
    /// order of slot. The prompt is cut where engines cut it: before its last token.
    ///
    /// domain: a CacheDomain or a name. token_ids: `[n]`.
    #[pyo3(signature = (domain, token_ids, context = None))]
    fn lookup(
        &self,
        py: Python<'_>,
        domain: &Bound<'_, PyAny>,
        token_ids: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, HashContext>>,
    ) -> PyResult<Vec<PodMatch>> {
        let none = core::HashContext::default();
        let (domain, context) = (self.read_domain(domain)?, context_or_none(context, &none));
        self.with_scratch(
            py,
            |ids| read_token_ids(token_ids, ids),
            |(), ids| ids.len() > LONG_PROMPT,
            |(), scratch| {
                let blocks = domain.hasher().hash(&scratch.token_ids, context)?;
                let most = domain.searchable_blocks(scratch.token_ids.len()).min(blocks.len());
                let router = self.core.read();
                router.index().lookup(&domain, &blocks[..most], &mut scratch.table);
                let found = |found: &index::PodMatch| {
                    Some(PodMatch { pod: router.pod_by_id(found.pod).ok()?, found: *found })
                };
                let mut matches: Vec<PodMatch> = scratch.table.matches().iter().filter_map(found).collect();
                matches.sort_unstable_by_key(|found| found.found.pod.slot());
                Ok(matches)
            },
        )
    }

    /// Chooses a pod, or two. Changes nothing.
    ///
    /// token_ids: `[n]`, a numpy array of uint32 (copied, never kept) or a sequence of ints; or text: str, bytes,
    /// bytearray or memoryview, where nobody tokenized it. context: adapter, salt, multimodal items. model: the
    /// served model it asks for; None and "" are content with any. session: an id of the client's choice; or
    /// session_token: one that `session_token` made; "" is none. subset: names of the pods it may go to, all ranks of
    /// each; None is content with any. scores: `{scorer: {pod id: score}}` for the policy's external scorers, scores 0
    /// to 1. known: `{pod id: {tier: blocks}}`, what others know of pods' caches: so many leading blocks of the prompt are
    /// in that tier or nearer. nonce: distinguishes requests where a choice is otherwise even;
    /// None takes it from the prompt. explain: takes down why (`Decision.explanation`), which costs more than
    /// deciding. record: takes down the line of a decision log (`Decision.record`), without the prompt unless
    /// record_prompt is True too; `log_schema` describes it, and `log_replay` makes it again.
    ///
    /// Raises NoCandidateError if there is no pod or the filters drop every one; with explain=True its
    /// `explanation` says which filter dropped which, and with record=True its `record` is the line.
    #[expect(clippy::too_many_arguments, reason = "a request's parts, by keyword")]
    #[pyo3(signature = (token_ids = None, *, text = None, context = None, model = None, session = None,
                        session_token = None, subset = None, scores = None, known = None, nonce = None,
                        now = None,
                        explain = false, record = false, record_prompt = false))]
    fn decide(
        &self,
        py: Python<'_>,
        token_ids: Option<&Bound<'_, PyAny>>,
        text: Option<&Bound<'_, PyAny>>,
        context: Option<&Bound<'_, HashContext>>,
        model: Option<&Bound<'_, PyString>>,
        session: Option<&Bound<'_, PyString>>,
        session_token: Option<&Bound<'_, PyString>>,
        subset: Option<Vec<Bound<'_, PyString>>>,
        scores: Option<&Bound<'_, PyDict>>,
        known: Option<&Bound<'_, PyDict>>,
        nonce: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
        explain: bool,
        record: bool,
        record_prompt: bool,
    ) -> PyResult<Decision> {
        let subset = subset.as_deref();
        let arguments = Arguments {
            token_ids,
            text,
            context,
            model,
            session,
            session_token,
            subset,
            scores,
            known,
            nonce,
        };
        let wanted = Wanted { explain, record, record_prompt };
        let (answer, extras) = self.ask(py, &arguments, now, wanted, |router, request, now, workspace| {
            let decision = router.decide(request, now, workspace)?;
            Ok((None, (decision, Pods::of(&decision, workspace))))
        })?;
        let (decision, pods) = answer;
        Decision::new(decision, pods, extras)
    }

    /// Decides and books: the request counts as load of its pods until `finish`, its blocks are predicted to be
    /// in their caches, and its session is at home there. Arguments are those of `decide`.
    #[expect(clippy::too_many_arguments, reason = "a request's parts, by keyword")]
    #[pyo3(signature = (token_ids = None, *, text = None, context = None, model = None, session = None,
                        session_token = None, subset = None, scores = None, known = None, nonce = None,
                        now = None,
                        explain = false, record = false, record_prompt = false))]
    fn dispatch(
        &self,
        py: Python<'_>,
        token_ids: Option<&Bound<'_, PyAny>>,
        text: Option<&Bound<'_, PyAny>>,
        context: Option<&Bound<'_, HashContext>>,
        model: Option<&Bound<'_, PyString>>,
        session: Option<&Bound<'_, PyString>>,
        session_token: Option<&Bound<'_, PyString>>,
        subset: Option<Vec<Bound<'_, PyString>>>,
        scores: Option<&Bound<'_, PyDict>>,
        known: Option<&Bound<'_, PyDict>>,
        nonce: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
        explain: bool,
        record: bool,
        record_prompt: bool,
    ) -> PyResult<Dispatch> {
        let subset = subset.as_deref();
        let arguments = Arguments {
            token_ids,
            text,
            context,
            model,
            session,
            session_token,
            subset,
            scores,
            known,
            nonce,
        };
        let wanted = Wanted { explain, record, record_prompt };
        let (answer, extras) = self.ask(py, &arguments, now, wanted, |router, request, now, workspace| {
            let dispatch = router.dispatch(request, now, workspace)?;
            Ok((Some(dispatch), (dispatch, Pods::of(&dispatch.decision, workspace))))
        })?;
        let (core::Dispatch { decision, ticket, retries, contended, .. }, pods) = answer;
        let decision = Py::new(py, Decision::new(decision, pods, extras)?)?;
        Ok(Dispatch { decision, ticket, retries, contended })
    }

    /// The engine sent the request's first token: its prompt is computed. Answers whether that was news.
    ///
    /// ticket: a Dispatch, or its `ticket`.
    #[pyo3(signature = (ticket, /))]
    fn first_token(&self, ticket: &Bound<'_, PyAny>) -> PyResult<bool> {
        let ticket = read_ticket(ticket)?;
        call(|| Ok(self.core.read().first_token(ticket)))
    }

    /// The request ended: what was booked for it is given back. Answers whether it was in flight still.
    ///
    /// ticket: a Dispatch, or its `ticket`. how: "completed"; "failed" (the engine did not answer: what was
    /// predicted is taken back); or "cancelled" (the client went away). engine_cached_tokens: what the engine says
    /// it took from its cache (`usage.prompt_tokens_details.cached_tokens`), where the caller has it.
    #[pyo3(signature = (ticket, how = None, *, engine_cached_tokens = None),
           text_signature = "($self, ticket, how='completed', *, engine_cached_tokens=None)")]
    fn finish(
        &self,
        ticket: &Bound<'_, PyAny>,
        how: Option<&Bound<'_, PyString>>,
        engine_cached_tokens: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (ticket, how, cached) = read_end(ticket, how, engine_cached_tokens)?;
        call(|| Ok(self.core.read().finish(ticket, how, cached)))
    }

    /// The line of a decision log about a request's end, as `finish` is told of it.
    #[pyo3(signature = (ticket, how = None, *, engine_cached_tokens = None, now = None),
           text_signature = "($self, ticket, how='completed', *, engine_cached_tokens=None, now=None)")]
    fn log_outcome(
        &self,
        ticket: &Bound<'_, PyAny>,
        how: Option<&Bound<'_, PyString>>,
        engine_cached_tokens: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<String> {
        let (ticket, how, cached) = read_end(ticket, how, engine_cached_tokens)?;
        Ok(OutcomeRecord::new(ticket, how, cached, self.read_now(now)?).to_json())
    }

    /// Forgets requests and sessions whose time is over; answers how many requests. To be called every second,
    /// say.
    #[pyo3(signature = (now = None))]
    fn expire(&self, py: Python<'_>, now: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let now = self.read_now(now)?;
        call_detached(py, || Ok(self.core.read().expire(now)))
    }

    /// A token for the client to send with its next request, so that it comes back to the pods of this decision.
    ///
    /// decision: a Decision or a Dispatch.
    #[pyo3(signature = (decision, now = None))]
    fn session_token(&self, decision: &Bound<'_, PyAny>, now: Option<&Bound<'_, PyAny>>) -> PyResult<String> {
        let core::Decision { pod, prefill, .. } = read_decision(decision)?;
        let now = self.read_now(now)?;
        call(|| self.core.read().session_token(pod, prefill.map(|prefill| prefill.pod), now))
    }

    /// What the router knows, as bytes, so that another one, or the next process, goes on as if this one had never
    /// stopped: pods, what they hold, what was sent to them, where their streams of events stand, and sessions. Not in
    /// it are the configuration, requests in flight, load reports and the router's counters.
    ///
    /// The router may be used meanwhile: each pod is written as it was at one moment, and the pods' moments differ.
    /// Keep it where the configuration is kept: a checksum finds damage, not forgery. LimitError: more than 16 384
    /// pods, or those have more than 65 536 groups and tiers.
    #[pyo3(signature = (now = None))]
    fn snapshot<'py>(
        &self,
        py: Python<'py>,
        now: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        snapshot::to_bytes(py, &self.core, self.read_now(now)?)
    }

    /// Writes a snapshot to a file, a mebibyte or a pod at a time: what `snapshot` answers.
    ///
    /// file: a binary file, or anything with such a `write`. If this fails, or the router is reset meanwhile
    /// (InvalidInputError), what was written is of no use.
    #[pyo3(signature = (file, now = None))]
    fn write_snapshot(&self, file: &Bound<'_, PyAny>, now: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        snapshot::to_file(&self.core, file, self.read_now(now)?)
    }

    /// Gives a snapshot to this router, and answers what became of it: `kvroute.status.RestoreReport`.
    ///
    /// snapshot: bytes, bytearray, memoryview, or a binary file that is read to its end. Pods that are not here are
    /// added, if their cache domain is known; those that are keep their ids, options, role, labels and capacity.
    /// Restore before events are applied: a pod that events came to is left as it is; one that has its part again goes
    /// on with the next batch of its stream, or finds out what it missed. DecodeError: it is no snapshot, one of
    /// another version, damaged, or not whole; then nothing was changed.
    #[pyo3(signature = (snapshot, now = None))]
    fn restore<'py>(
        &self,
        snapshot: &Bound<'py, PyAny>,
        now: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let report = snapshot::restore(&self.core, snapshot, self.read_now(now)?)?;
        to_python(snapshot.py(), &report)
    }

    /// What is in flight, and what befell it: `kvroute.status.RouterCounters`.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let counters = call(|| Ok(self.core.read().counters()))?;
        to_python(py, &counters)
    }

    /// What the router and its pods are at: `kvroute.status.RouterStatus`. For a look now and then.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let status = call_detached(py, || Ok(self.core.read().status()))?;
        to_python(py, &status)
    }

    /// What happened to a pod's stream of events so far: `kvroute.status.StreamCounters`.
    #[pyo3(signature = (pod, /))]
    fn stream<'py>(&self, py: Python<'py>, pod: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let pod = pod_id(pod)?;
        let counters = call_detached(py, || self.core.read().index().counters(pod))?;
        to_python(py, &counters)
    }

    /// How far a pod's view is to be believed: "exact", "degraded", "approximate" or "load-only".
    #[pyo3(signature = (pod, /))]
    fn trust(&self, pod: &Bound<'_, PyAny>) -> PyResult<&'static str> {
        let pod = pod_id(pod)?;
        call(|| Ok(self.core.read().pod_by_id(pod)?.trust().name()))
    }

    /// Forgets what pods hold, what was sent to them, requests in flight, sessions and counters. Pods stay, but
    /// each as a new one, with another id; ids and tickets from before name nothing. InvalidInputError while a fleet
    /// (`kvroute.io.Fleet`) has this router.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let is_reset = call_detached(py, || {
            Ok(Arc::get_mut(&mut self.core.write()).map(core::Router::reset).is_some())
        })?;
        if is_reset { Ok(()) } else { Err(invalid("reset: a fleet has this router; close that first")) }
    }

    fn __repr__(&self) -> PyResult<String> {
        let (pods, in_flight) = call(|| {
            let router = self.core.read();
            Ok((router.pods().len(), router.counters().in_flight))
        })?;
        Ok(format!("Router({pods} pods, {in_flight} requests in flight)"))
    }
}

/// What is asked for besides a decision.
#[derive(Clone, Copy)]
struct Wanted {
    explain: bool,
    record: bool,
    record_prompt: bool,
}

/// A dispatch, if it was more than decided, and the answer.
type Decided<R> = (Option<core::Dispatch>, R);

impl Router {
    fn of(py: Python<'_>, config: &Config) -> PyResult<Self> {
        let router = call_detached(py, || config.build())?;
        Ok(Self { core: RwLock::new(Arc::new(router)), ..Self::default() })
    }

    /// The router of a fleet.
    #[cfg(feature = "io")]
    pub(crate) fn of_fleet(fleet: &kvroute_io::fleet::Fleet) -> Self {
        let (core, clock) = (RwLock::new(Arc::clone(fleet.router())), Clock::Fleet(fleet.clock()));
        Self { core, clock, ..Self::default() }
    }

    /// Reads a request, asks the router about it, and explains what came out if that is wanted.
    fn ask<R: Send>(
        &self,
        py: Python<'_>,
        arguments: &Arguments<'_, '_>,
        now: Option<&Bound<'_, PyAny>>,
        wanted: Wanted,
        decide: impl Fn(&core::Router, &Request<'_>, Duration, &mut Workspace) -> Result<Decided<R>, Error> + Sync,
    ) -> PyResult<(R, Extras)> {
        let now = self.read_now(now)?;
        let (answer, explanation, record) = self.with_scratch(
            py,
            |token_ids| arguments.read(token_ids),
            |parts, token_ids| parts.is_long(token_ids),
            |parts, Scratch { token_ids, workspace, .. }| {
                let router = self.core.read();
                let (answer, record) = parts.with_request(token_ids, |request| {
                    let answer = decide(&router, request, now, workspace);
                    let dispatch = answer.as_ref().ok().and_then(|(dispatch, _)| dispatch.as_ref());
                    let options = RecordOptions { prompt: wanted.record_prompt };
                    let record = wanted.record.then(|| router.record(request, workspace, dispatch, options));
                    let record = record.flatten().map(|record| record.to_json());
                    (answer, record)
                });
                let explanation = wanted.explain.then(|| router.explain(workspace));
                Ok((answer, explanation, record))
            },
        )?;
        let explanation = explanation.map(|of| Py::new(py, Explanation(of))).transpose()?;
        match answer {
            Ok((_, answer)) => Ok((answer, Extras { explanation, record })),
            Err(error) if error.kind() == ErrorKind::NoCandidate => {
                Err(no_candidate(py, &error, explanation, record)?)
            }
            Err(error) => Err(exception(&error)),
        }
    }

    /// Reads arguments and works on them in a room of the pool, with the GIL released if that is long.
    fn with_scratch<A: Send, R: Send>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&mut Vec<u32>) -> PyResult<A>,
        is_long: impl FnOnce(&A, &[u32]) -> bool,
        work: impl FnOnce(&A, &mut Scratch) -> Result<R, Error> + Send,
    ) -> PyResult<R> {
        let mut scratch = self.pool.take();
        scratch.token_ids.clear();
        let arguments = match read(&mut scratch.token_ids) {
            Ok(arguments) => arguments,
            Err(error) => {
                self.pool.give_back(scratch);
                return Err(error);
            }
        };
        let is_long = is_long(&arguments, &scratch.token_ids);
        run(py, is_long, move || {
            let result = work(&arguments, &mut scratch);
            self.pool.give_back(scratch);
            result
        })
    }

    fn read_domain(&self, value: &Bound<'_, PyAny>) -> PyResult<Arc<core::CacheDomain>> {
        if let Ok(domain) = value.cast::<CacheDomain>() {
            return Ok(Arc::clone(&domain.get().0));
        }
        let Ok(name) = value.cast::<PyString>() else {
            return Err(wrong_type("domain", "a CacheDomain or its name", value));
        };
        let name = utf8("domain", name)?;
        call(|| Ok(self.core.read().domain(name)))?.ok_or_else(|| unknown_domain(name))
    }

    fn read_now(&self, now: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
        now.map_or_else(|| Ok(self.clock.now()), |now| seconds("now", now))
    }
}

fn pod_id(value: &Bound<'_, PyAny>) -> PyResult<PodId> {
    argument("pod", value).map(PodId::from_u64)
}

/// A ticket, or the dispatch that has it.
fn read_ticket(value: &Bound<'_, PyAny>) -> PyResult<Ticket> {
    match value.cast::<Dispatch>() {
        Ok(dispatch) => Ok(dispatch.get().ticket),
        Err(_) => argument("ticket", value).map(Ticket::from_u64),
    }
}

/// What `finish` is told.
fn read_end(
    ticket: &Bound<'_, PyAny>,
    how: Option<&Bound<'_, PyString>>,
    engine_cached_tokens: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Ticket, Finish, Option<usize>)> {
    const ENDS: [(&str, Finish); 3] =
        [("completed", Finish::Completed), ("failed", Finish::Failed), ("cancelled", Finish::Cancelled)];
    let ticket = read_ticket(ticket)?;
    let how = how.map_or(Ok(Finish::Completed), |how| one_of("how", how, &ENDS))?;
    let cached = engine_cached_tokens.map(|tokens| argument("engine_cached_tokens", tokens)).transpose()?;
    Ok((ticket, how, cached))
}

/// A decision, or that of a dispatch.
fn read_decision(value: &Bound<'_, PyAny>) -> PyResult<core::Decision> {
    if let Ok(decision) = value.cast::<Decision>() {
        return Ok(decision.get().decision);
    }
    match value.cast::<Dispatch>() {
        Ok(dispatch) => Ok(dispatch.get().decision.get().decision),
        Err(_) => Err(wrong_type("decision", "a Decision or a Dispatch", value)),
    }
}

fn read_labels(labels: &Bound<'_, PyDict>) -> PyResult<BTreeMap<String, String>> {
    let text = |value: &Bound<'_, PyAny>| match value.cast::<PyString>() {
        Ok(text) => Ok(utf8("labels", text)?.to_string()),
        Err(_) => Err(wrong_type("labels", "names and values as str", value)),
    };
    let label = |item: Bound<'_, PyAny>| {
        let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        Ok((text(&name)?, text(&value)?))
    };
    labels.items().iter().map(label).collect()
}

fn read_events_config(events: &Bound<'_, PyDict>) -> PyResult<EventsConfig> {
    let document = json_text("events", events)?;
    serde_json::from_str(&document).map_err(|error| invalid(format!("events: {error}")))
}
