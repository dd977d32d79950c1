//! `CacheDomain`.

use std::sync::Arc;

use kvroute_core as core;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::call;
use crate::hash::BlockHasher;
use crate::input::{argument, utf8};
use crate::output::quoted;

/// A set of pods whose blocks mean the same: same model weights, same block hashes, same block size.
///
/// hasher: hashes their requests. With a vLLM scheme the domain is *native*: its pods publish those very
/// hashes. With the own scheme it is *translated*: the events' token ids are hashed again. models: names of the
/// models its pods serve, as requests give them; none: any.
#[pyclass(frozen, module = "kvroute")]
#[derive(Debug)]
pub(crate) struct CacheDomain(pub(crate) Arc<core::CacheDomain>);

#[pymethods]
impl CacheDomain {
    #[new]
    #[pyo3(signature = (name, hasher, *, models = vec![]), text_signature = "(name, hasher, *, models=())")]
    fn new(
        name: &Bound<'_, PyString>,
        hasher: &Bound<'_, BlockHasher>,
        models: Vec<Bound<'_, PyString>>,
    ) -> PyResult<Self> {
        let name = utf8("name", name)?;
        let models = models.iter().map(|model| Ok(utf8("models", model)?.to_string()));
        let models = models.collect::<PyResult<Vec<_>>>()?;
        let domain = call(|| core::CacheDomain::new(name, hasher.get().0.clone()))?;
        Ok(Self(Arc::new(domain.with_models(models))))
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// What hashes its requests.
    #[getter]
    fn hasher(&self) -> BlockHasher {
        BlockHasher(self.0.hasher().clone())
    }

    /// Names of the models its pods serve; empty for any.
    #[getter]
    fn models(&self) -> &[String] {
        self.0.models()
    }

    /// Tokens a block.
    #[getter]
    fn block_size(&self) -> u32 {
        self.0.block_size()
    }

    /// Whether its pods publish the very hashes that requests are hashed to.
    #[getter]
    fn is_native(&self) -> bool {
        self.0.is_native()
    }

    /// Blocks of a prompt of so many tokens that an engine can take from its cache: it always computes the last
    /// token.
    #[pyo3(signature = (tokens, /))]
    fn searchable_blocks(&self, tokens: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(self.0.searchable_blocks(argument("tokens", tokens)?))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (name, scheme) = (quoted(py, self.0.name())?, self.0.hasher().scheme().name());
        Ok(format!("CacheDomain({name}, scheme='{scheme}', block_size={})", self.0.block_size()))
    }
}
