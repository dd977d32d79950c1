//! The extension module of the Python package `kvroute`; with the feature `io` that of `kvroute-io`, which has all of
//! it and `_io` besides: what `kvroute.io` shows.
//!
//! It converts and delegates, and decides nothing: what it answers is what `kvroute-core` answers. Classes
//! are frozen; every call of the core that may fail or takes a lock goes through `error::call` or
//! `error::call_detached`, which turn its errors and panics into exceptions; without them, what it
//! answered is read and blocks are counted. No lock of the core is ever held while Python is waited for, nor
//! while Python code may run, so that a thread may block on one while it holds the GIL: arguments are read before.
//!
//! Python's documentation is made of the doc comments here, signatures for type checkers are in
//! `python/kvroute/_kvroute.pyi`, and the package's tests compare the two.

mod clock;
mod config;
mod context;
mod decision;
mod domain;
mod error;
mod event;
mod explanation;
#[cfg(feature = "io")]
mod fleet;
mod hash;
mod held;
mod input;
mod output;
mod pod;
mod report;
mod request;
mod router;
mod scratch;
mod snapshot;
#[cfg(feature = "io")]
mod tokenizer;

#[pyo3::pymodule(gil_used = false)]
mod _kvroute {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::config::{check_config, config_from_endpoint_picker, config_schema, log_replay, log_schema};
    #[pymodule_export]
    use crate::context::{HashContext, Lora, MultimodalItem};
    #[pymodule_export]
    use crate::decision::{Decision, Dispatch, Prefill, TierBlocks};
    #[pymodule_export]
    use crate::domain::CacheDomain;
    #[pymodule_export]
    use crate::error::panic_for_test;
    #[pymodule_export]
    use crate::event::{
        AllBlocksCleared, BlockRemoved, BlockStored, EventBatch, NumberedEvent, Skipped, decode_batch,
        decode_trtllm,
    };
    #[pymodule_export]
    use crate::explanation::Explanation;
    #[pymodule_export]
    use crate::hash::{BlockHasher, HashCursor};
    #[pymodule_export]
    use crate::held::HeldChanges;
    #[pymodule_export]
    use crate::pod::{LoadReport, Pod};
    #[pymodule_export]
    use crate::report::{ApplyReport, PodMatch};
    #[pymodule_export]
    use crate::router::Router;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        #[cfg(feature = "io")]
        module.setattr("_io", io(module.py())?)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    /// What only kvroute-io has. An attribute, not added: the names the module exports are the same in both packages.
    #[cfg(feature = "io")]
    fn io(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
        let module = PyModule::new(py, "_io")?;
        module.add_class::<crate::fleet::Fleet>()?;
        module.add_class::<crate::fleet::Target>()?;
        module.add_class::<crate::tokenizer::Prompt>()?;
        module.add_class::<crate::tokenizer::Tokenizer>()?;
        Ok(module)
    }
}
