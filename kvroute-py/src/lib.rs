//! The extension module of the Python package `kvroute`.
//!
//! It converts and delegates, and decides nothing: what it answers is what `kvroute-core` answers. Classes
//! are frozen; every call of the core goes through `error::call` or `error::call_detached`, which turn its
//! errors and panics into exceptions. No lock of the core is ever held while Python is waited for, so that a
//! thread may block on one while it holds the GIL.
//!
//! Python's documentation is made of the doc comments here, signatures for type checkers are in
//! `python/kvroute/_kvroute.pyi`, and the package's tests compare the two.

mod config;
mod context;
mod decision;
mod domain;
mod error;
mod event;
mod explanation;
mod hash;
mod input;
mod output;
mod pod;
mod report;
mod request;
mod router;
mod scratch;

#[pyo3::pymodule(gil_used = false)]
mod _kvroute {
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
    use crate::pod::{LoadReport, Pod};
    #[pymodule_export]
    use crate::report::{ApplyReport, PodMatch};
    #[pymodule_export]
    use crate::router::Router;
}
