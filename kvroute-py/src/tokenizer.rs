//! `Tokenizer`: from requests to the token ids that the engine will compute.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kvroute_io::tokenize::{
    self, Endpoint, PoolOptions, TokenizedPrompt, TokenizerOptions, TokenizerPool, Untokenized,
};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use serde::Serialize;

use crate::config::json_text;
use crate::error::{call, call_detached, invalid, tokenizer_exception, unusable_tokenizer};
use crate::input::{argument_or, one_of, seconds, text_bytes, utf8};
use crate::output::to_python;

/// A model's tokenizer and chat template, and threads that use them.
///
/// folder: has `tokenizer.json`, and what lies beside it of its configuration and chat templates. chat_template: the source
/// of the one that the engines were given by `--chat-template`, in place of the model's. chat_template_kwargs: a dict, what
/// they were given by `--default-chat-template-kwargs`. trust_request_chat_template, exclude_tools_when_tool_choice_none:
/// whether they were started with these. cache_bytes: memory for the ids of text seen before. max_text_bytes: that a text, a
/// request or a rendered chat may have. max_template_steps: that a template may take (instructions of minijinja). threads:
/// that tokenize. queue: requests that may wait for them. wait: seconds after which a request is answered with text if it
/// is not tokenized.
#[pyclass(frozen, module = "kvroute.io")]
#[derive(Debug)]
pub(crate) struct Tokenizer(TokenizerPool);

const ENDPOINTS: [(&str, Endpoint); 3] = [
    ("completions", Endpoint::Completions),
    ("chat.completions", Endpoint::ChatCompletions),
    ("responses", Endpoint::Responses),
];

#[pymethods]
impl Tokenizer {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "options, by keyword")]
    #[pyo3(signature = (folder, *, chat_template = None, chat_template_kwargs = None,
                        trust_request_chat_template = false, exclude_tools_when_tool_choice_none = false,
                        cache_bytes = None, max_text_bytes = None, max_template_steps = None, threads = None,
                        queue = None, wait = None),
           text_signature = "(folder, *, chat_template=None, chat_template_kwargs=None, \
                             trust_request_chat_template=False, exclude_tools_when_tool_choice_none=False, \
                             cache_bytes=268435456, max_text_bytes=16777216, max_template_steps=5000000, \
                             threads=2, queue=256, wait=0.1)")]
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        chat_template: Option<&Bound<'_, PyString>>,
        chat_template_kwargs: Option<&Bound<'_, PyDict>>,
        trust_request_chat_template: bool,
        exclude_tools_when_tool_choice_none: bool,
        cache_bytes: Option<&Bound<'_, PyAny>>,
        max_text_bytes: Option<&Bound<'_, PyAny>>,
        max_template_steps: Option<&Bound<'_, PyAny>>,
        threads: Option<&Bound<'_, PyAny>>,
        queue: Option<&Bound<'_, PyAny>>,
        wait: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (mut options, mut pool) = (TokenizerOptions::default(), PoolOptions::default());
        if let Some(template) = chat_template {
            options.chat_template = Some(utf8("chat_template", template)?.into());
        }
        if let Some(kwargs) = chat_template_kwargs {
            let text = json_text("chat_template_kwargs", kwargs)?;
            options.chat_template_kwargs = serde_json::from_str(&text)
                .map_err(|error| invalid(format!("chat_template_kwargs: {error}")))?;
        }
        options.trust_request_chat_template = trust_request_chat_template;
        options.exclude_tools_when_tool_choice_none = exclude_tools_when_tool_choice_none;
        options.cache_bytes = argument_or("cache_bytes", cache_bytes, options.cache_bytes)?;
        options.max_text_bytes = argument_or("max_text_bytes", max_text_bytes, options.max_text_bytes)?;
        options.max_template_steps =
            argument_or("max_template_steps", max_template_steps, options.max_template_steps)?;
        pool.threads = argument_or("threads", threads, pool.threads)?;
        pool.queue = argument_or("queue", queue, pool.queue)?;
        pool.wait = wait.map_or(Ok(pool.wait), |wait| seconds("wait", wait))?.min(MAX_WAIT);
        let made = call_detached(py, || {
            let tokenizer = tokenize::Tokenizer::from_dir(&folder, &options);
            Ok(tokenizer.and_then(|tokenizer| TokenizerPool::new(Arc::new(tokenizer), &pool)))
        })?;
        made.map(Self).map_err(|error| unusable_tokenizer(&error))
    }

    /// The prompts of a request: one, or as many as a list of prompts has.
    ///
    /// endpoint: "completions", "chat.completions" or "responses". body: the request's, JSON, as bytes or str. Answers
    /// after `wait` seconds at most; what is not tokenized then, or found the queue full, or has images, is one prompt
    /// with its text and the reason. RequestError: an engine would refuse it too. LimitError: a bound was reached.
    #[pyo3(signature = (endpoint, body, /))]
    fn prompts(
        &self,
        py: Python<'_>,
        endpoint: &Bound<'_, PyString>,
        body: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Prompt>> {
        let endpoint = one_of("endpoint", endpoint, &ENDPOINTS)?;
        let body = Bytes::copy_from_slice(&text_bytes("body", body)?);
        let prompts = call_detached(py, || Ok(self.0.answer(endpoint, body)))?;
        let prompts = prompts.map_err(|error| tokenizer_exception(&error))?;
        Ok(prompts.into_iter().map(|prompt| Prompt::of(py, prompt)).collect())
    }

    /// The ids of a text, a numpy array of uint32.
    ///
    /// add_special_tokens: with those around it that the tokenizer has for a single text. Special tokens in the text are
    /// read as such, as engines do. Encoded on the caller's thread.
    #[pyo3(signature = (text, /, *, add_special_tokens))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        text: &Bound<'py, PyString>,
        add_special_tokens: bool,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let text = utf8("text", text)?;
        let ids = call_detached(py, || Ok(self.0.tokenizer().encode(text, add_special_tokens)))?;
        ids.map(|ids| PyArray1::from_vec(py, ids)).map_err(|error| tokenizer_exception(&error))
    }

    /// Whether text that was seen before is encoded again: "pieces" (texts are cut at added tokens, and between them where
    /// no token can reach across), "added-tokens" (only at those), or "full: " and what stands in the way.
    #[getter]
    fn segmentation(&self) -> String {
        self.0.tokenizer().segmentation().to_string()
    }

    /// What it has done so far: `kvroute.io.TokenizerCounters`.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (done, cache) = call(|| Ok((self.0.counters(), self.0.tokenizer().cache_counters())))?;
        let counters = Counters {
            answered: done.answered,
            queue_full: done.queue_full,
            too_late: done.too_late,
            panicked: done.panicked,
            waiting: done.waiting,
            hit_bytes: cache.hit_bytes,
            miss_bytes: cache.miss_bytes,
            segments: cache.segments,
            cache_bytes: cache.bytes,
            evictions: cache.evictions,
        };
        to_python(py, &counters)
    }

    fn __repr__(&self) -> String {
        format!("Tokenizer({}, {} requests answered)", self.segmentation(), self.0.counters().answered)
    }
}

/// As long as anybody may want to wait; what is added to a moment must stay one.
const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(1 << 30);

#[derive(Serialize)]
struct Counters {
    answered: u64,
    queue_full: u64,
    too_late: u64,
    panicked: u64,
    waiting: u64,
    hit_bytes: u64,
    miss_bytes: u64,
    segments: u64,
    cache_bytes: u64,
    evictions: u64,
}

/// A prompt as the engine will see it, or as text and why. Both go into `Router.dispatch` as they are:
/// `router.dispatch(prompt.token_ids, text=prompt.text)`.
#[pyclass(frozen, module = "kvroute.io")]
#[derive(Debug)]
pub(crate) struct Prompt {
    token_ids: Option<Py<PyArray1<u32>>>,
    text: Option<Py<PyBytes>>,
    reason: Option<Untokenized>,
}

impl Prompt {
    fn of(py: Python<'_>, prompt: TokenizedPrompt) -> Self {
        match prompt {
            TokenizedPrompt::TokenIds(ids) => {
                Self { token_ids: Some(PyArray1::from_vec(py, ids).unbind()), text: None, reason: None }
            }
            TokenizedPrompt::Text { text, reason } => {
                Self { token_ids: None, text: Some(PyBytes::new(py, &text).unbind()), reason: Some(reason) }
            }
        }
    }
}

#[pymethods]
impl Prompt {
    /// The engine's token ids, a numpy array of uint32, `[n]`; None if they are not known.
    #[getter]
    fn token_ids(&self, py: Python<'_>) -> Option<Py<PyArray1<u32>>> {
        self.token_ids.as_ref().map(|ids| ids.clone_ref(py))
    }

    /// Without token ids: bytes that begin alike where conversations begin alike.
    #[getter]
    fn text(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.text.as_ref().map(|text| text.clone_ref(py))
    }

    /// Why there are no token ids, None if there are: "overloaded", "media", "stored_conversation", "no_chat_template",
    /// "own_renderer", "not_reproducible"; there may come to be more.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        self.reason.map(Untokenized::name)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        match (&self.token_ids, self.reason) {
            (Some(ids), _) => format!("Prompt({} token ids)", ids.bind(py).len().unwrap_or_default()),
            (None, reason) => format!("Prompt(text, reason='{}')", reason.map_or("", Untokenized::name)),
        }
    }
}
