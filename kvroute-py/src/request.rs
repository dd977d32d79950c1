//! From the arguments of `decide` and `dispatch` to the core's request.

use std::borrow::Cow;

use kvroute_core::index::PodId;
use kvroute_core::{HashContext, KnownPrefix, Prompt, Request, ScoreColumn, Session};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::context;
use crate::error::invalid;
use crate::input::{
    LONG_BYTES, LONG_PROMPT, TierArgument, argument, read_token_ids, real, text_bytes, texts, utf8, whole,
    wrong_type,
};

/// What `decide` and `dispatch` are called with.
pub(crate) struct Arguments<'a, 'py> {
    pub(crate) token_ids: Option<&'a Bound<'py, PyAny>>,
    pub(crate) text: Option<&'a Bound<'py, PyAny>>,
    pub(crate) context: Option<&'a Bound<'py, context::HashContext>>,
    pub(crate) model: Option<&'a Bound<'py, PyString>>,
    pub(crate) session: Option<&'a Bound<'py, PyString>>,
    pub(crate) session_token: Option<&'a Bound<'py, PyString>>,
    pub(crate) subset: Option<&'a [Bound<'py, PyString>]>,
    pub(crate) scores: Option<&'a Bound<'py, PyDict>>,
    pub(crate) known: Option<&'a Bound<'py, PyDict>>,
    pub(crate) nonce: Option<&'a Bound<'py, PyAny>>,
}

/// The same, read: nothing in it needs Python any more. The token ids lie elsewhere.
pub(crate) struct Parts<'a> {
    text: Option<Cow<'a, [u8]>>,
    context: Cow<'a, HashContext>,
    model: Option<&'a str>,
    session: Option<Session<'a>>,
    subset: Option<Vec<&'a str>>,
    columns: Vec<Column>,
    known: Vec<KnownPrefix>,
    nonce: Option<u64>,
}

struct Column {
    scorer: String,
    pods: Vec<PodId>,
    values: Vec<f64>,
}

impl Column {
    fn borrowed(&self) -> ScoreColumn<'_> {
        ScoreColumn { scorer: &self.scorer, pods: &self.pods, values: &self.values }
    }
}

impl<'a> Arguments<'a, '_> {
    pub(crate) fn read(&self, token_ids: &mut Vec<u32>) -> PyResult<Parts<'a>> {
        let text = match (self.token_ids, self.text) {
            (Some(ids), None) => read_token_ids(ids, token_ids).map(|()| None)?,
            (None, Some(text)) => Some(text_bytes("text", text)?),
            _ => return Err(invalid("token_ids, text: exactly one of them is needed")),
        };
        let token = some_text("session_token", self.session_token)?;
        let session = match (some_text("session", self.session)?, token) {
            (None, None) => None,
            (Some(id), None) => Some(Session::Id(id)),
            (None, Some(token)) => Some(Session::Token(token)),
            _ => return Err(invalid("session, session_token: only one of them can be given")),
        };
        Ok(Parts {
            text,
            context: match self.context {
                Some(context) => Cow::Borrowed(&context.get().0),
                None => Cow::Owned(HashContext::default()),
            },
            model: some_text("model", self.model)?,
            session,
            subset: self.subset.map(|names| texts("subset", names)).transpose()?,
            columns: self.scores.map_or(Ok(Vec::new()), read_columns)?,
            known: self.known.map_or(Ok(Vec::new()), read_known)?,
            nonce: self.nonce.map(|nonce| argument("nonce", nonce)).transpose()?,
        })
    }
}

impl Parts<'_> {
    /// Whether the GIL is better released while the request is decided.
    pub(crate) fn is_long(&self, token_ids: &[u32]) -> bool {
        token_ids.len() > LONG_PROMPT || self.text.as_ref().is_some_and(|text| text.len() > LONG_BYTES)
    }

    pub(crate) fn with_request<R>(&self, token_ids: &[u32], act: impl FnOnce(&Request<'_>) -> R) -> R {
        let scores: Vec<ScoreColumn<'_>> = self.columns.iter().map(Column::borrowed).collect();
        act(&Request {
            prompt: self.text.as_ref().map_or(Prompt::TokenIds(token_ids), |text| Prompt::Text(text)),
            context: &self.context,
            model: self.model,
            session: self.session,
            subset: self.subset.as_deref(),
            scores: &scores,
            known: &self.known,
            nonce: self.nonce,
        })
    }
}

/// A text that may be left out; an empty one is none.
fn some_text<'a>(name: &str, text: Option<&'a Bound<'_, PyString>>) -> PyResult<Option<&'a str>> {
    let text = text.map(|text| utf8(name, text)).transpose()?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// `{scorer: {pod id: score}}`. Items are taken as they are now: to read one may run Python code, which may
/// change the dicts.
fn read_columns(scores: &Bound<'_, PyDict>) -> PyResult<Vec<Column>> {
    let column = |item: Bound<'_, PyAny>| {
        let (scorer, values) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let Ok(scorer) = scorer.cast::<PyString>() else {
            return Err(wrong_type("scores", "names of scorers as keys", &scorer));
        };
        let scorer = utf8("scores", scorer)?.to_string();
        let Ok(values) = values.cast::<PyDict>() else {
            return Err(wrong_type(&format!("scores[{scorer:?}]"), "a dict of pod ids and scores", &values));
        };
        let mut column = Column { scorer, pods: Vec::new(), values: Vec::new() };
        for item in values.items() {
            let (pod, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            let name = || format!("scores[{:?}]", column.scorer);
            column.pods.push(PodId::from_u64(whole(name, &pod)?));
            column.values.push(real(name, &value)?);
        }
        Ok(column)
    };
    scores.items().iter().map(column).collect()
}

/// `{pod id: {tier: leading blocks}}`, taken as it is now, as above.
fn read_known(known: &Bound<'_, PyDict>) -> PyResult<Vec<KnownPrefix>> {
    let mut prefixes = Vec::new();
    for item in known.items() {
        let (pod, tiers) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let pod = PodId::from_u64(whole(|| "known".to_string(), &pod)?);
        let Ok(tiers) = tiers.cast::<PyDict>() else {
            return Err(wrong_type(
                &format!("known[{}]", pod.as_u64()),
                "a dict of tiers and blocks",
                &tiers,
            ));
        };
        for item in tiers.items() {
            let (tier, blocks) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            let name = || format!("known[{}]", pod.as_u64());
            let Some(tier) = tier.extract::<TierArgument>()?.0 else {
                return Err(wrong_type(&name(), "names of tiers as keys", &tier));
            };
            prefixes.push(KnownPrefix { pod, tier, blocks: whole(name, &blocks)? });
        }
    }
    Ok(prefixes)
}
