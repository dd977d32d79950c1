//! `HashContext` and what is in it.

use kvroute_core::hash;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::input::{argument, bytes, signed, utf8};
use crate::output::{quoted, quoted_or_none};

/// A LoRA adapter as the engine knows it.
///
/// name: what requests call it, their `model`. path: where the engine loaded it from (`root` in
/// `/v1/models`), in the hash since vLLM 0.31. id: the engine's integer, in the hash before vLLM 0.11.1.
/// A translated domain hashes the name alone.
#[pyclass(frozen, eq, hash, module = "kvroute")]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lora(pub(crate) hash::Lora);

#[pymethods]
impl Lora {
    #[new]
    #[pyo3(signature = (name, *, path = None, id = None),
           text_signature = "(name, *, path='', id=0)")]
    fn new(
        name: &Bound<'_, PyString>,
        path: Option<&Bound<'_, PyString>>,
        id: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let id = id.map_or(Ok(0), |id| signed(|| "id".into(), id))?;
        let path = path.map_or(Ok(""), |path| utf8("path", path))?;
        let name = utf8("name", name)?;
        Ok(Self(hash::Lora { name: name.into(), path: path.into(), id }))
    }

    /// What requests call it.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Where the engine loaded it from; empty if not given.
    #[getter]
    fn path(&self) -> &str {
        &self.0.path
    }

    /// The engine's integer; 0 if not given.
    #[getter]
    fn id(&self) -> i64 {
        self.0.id
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (name, path) = (quoted(py, &self.0.name)?, quoted(py, &self.0.path)?);
        Ok(format!("Lora({name}, path={path}, id={})", self.0.id))
    }
}

/// One image, video or audio clip in a prompt.
///
/// identifier: the engine's, of its content (vLLM: hex digest of the processed item). start, length: where
/// its placeholder lies; tokens from the start of the prompt.
#[pyclass(frozen, eq, hash, module = "kvroute")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MultimodalItem(hash::MultimodalItem);

#[pymethods]
impl MultimodalItem {
    #[new]
    #[pyo3(signature = (identifier, *, start, length))]
    fn new(
        identifier: &Bound<'_, PyString>,
        start: &Bound<'_, PyAny>,
        length: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        Ok(Self(hash::MultimodalItem {
            identifier: utf8("identifier", identifier)?.into(),
            start: argument("start", start)?,
            length: argument("length", length)?,
        }))
    }

    /// The engine's identifier of the content.
    #[getter]
    fn identifier(&self) -> &str {
        &self.0.identifier
    }

    /// First token of its placeholder.
    #[getter]
    fn start(&self) -> u32 {
        self.0.start
    }

    /// Length of its placeholder, tokens.
    #[getter]
    fn length(&self) -> u32 {
        self.0.length
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let identifier = quoted(py, &self.0.identifier)?;
        Ok(format!("MultimodalItem({identifier}, start={}, length={})", self.0.start, self.0.length))
    }
}

/// The parts of a request that enter its block hashes beside the token ids.
///
/// lora: the adapter it runs with. cache_salt: tenant isolation string, vLLM's `cache_salt`; an empty one is
/// none. multimodal: items in the prompt, ordered by `start`. prompt_embeds: `[blocks]`, the key of each
/// block's prompt embeddings (vLLM 0.17 and later: the SHA-256 of the block's raw embedding bytes).
/// `HashContext()` is what most requests have, and what `context=None` means.
#[pyclass(frozen, eq, module = "kvroute")]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HashContext(pub(crate) hash::HashContext);

#[pymethods]
impl HashContext {
    #[new]
    #[pyo3(signature = (*, lora = None, cache_salt = None, multimodal = vec![], prompt_embeds = vec![]),
           text_signature = "(*, lora=None, cache_salt=None, multimodal=(), prompt_embeds=())")]
    fn new(
        lora: Option<&Bound<'_, Lora>>,
        cache_salt: Option<&Bound<'_, PyString>>,
        multimodal: Vec<Bound<'_, MultimodalItem>>,
        prompt_embeds: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let cache_salt = cache_salt.map(|salt| utf8("cache_salt", salt)).transpose()?;
        let keys = prompt_embeds.iter().enumerate();
        let keys = keys.map(|(at, key)| Ok(bytes(&format!("prompt_embeds[{at}]"), key)?.into_owned()));
        Ok(Self(hash::HashContext {
            lora: lora.map(|lora| lora.get().0.clone()),
            cache_salt: cache_salt.map(ToString::to_string),
            multimodal: multimodal.iter().map(|item| item.get().0.clone()).collect(),
            prompt_embeds: keys.collect::<PyResult<_>>()?,
        }))
    }

    /// The adapter, or None.
    #[getter]
    fn lora(&self) -> Option<Lora> {
        self.0.lora.clone().map(Lora)
    }

    /// The cache salt, or None.
    #[getter]
    fn cache_salt(&self) -> Option<&str> {
        self.0.cache_salt.as_deref()
    }

    /// The multimodal items.
    #[getter]
    fn multimodal(&self) -> Vec<MultimodalItem> {
        self.0.multimodal.iter().cloned().map(MultimodalItem).collect()
    }

    /// Keys of prompt embeddings, one a block.
    #[getter]
    fn prompt_embeds<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.0.prompt_embeds.iter().map(|key| PyBytes::new(py, key)).collect()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let lora = match self.lora() {
            Some(lora) => lora.__repr__(py)?,
            None => "None".into(),
        };
        let salt = quoted_or_none(py, self.cache_salt())?;
        let (items, keys) = (self.0.multimodal.len(), self.0.prompt_embeds.len());
        Ok(format!(
            "HashContext(lora={lora}, cache_salt={salt}, multimodal=[{items}], prompt_embeds=[{keys}])"
        ))
    }
}

/// The core's context of an argument that may be left out.
pub(crate) fn context_or_none<'a>(
    context: Option<&'a Bound<'_, HashContext>>,
    none: &'a hash::HashContext,
) -> &'a hash::HashContext {
    context.map_or(none, |context| &context.get().0)
}
