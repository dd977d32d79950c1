//! What pods hold, as Python sees it.

use kvroute_core::index::{HeldBlock, HeldChange, HeldSince};
use pyo3::prelude::*;

/// A block: hash, group, tier.
pub(crate) type Block = (u64, u32, &'static str);

pub(crate) fn block(held: HeldBlock) -> Block {
    (held.hash.0, held.group, held.tier.name())
}

/// Changes of what a pod holds, and what came before them.
#[pyclass(frozen, module = "kvroute")]
#[derive(Debug)]
pub(crate) struct HeldChanges {
    pub(crate) since: HeldSince,
    pub(crate) changes: Vec<HeldChange>,
}

#[pymethods]
impl HeldChanges {
    /// All that was held is gone; the changes are from nothing on.
    #[getter]
    fn cleared(&self) -> bool {
        self.since.cleared
    }

    /// What changed is not known: the journal began, ran over, or a snapshot was restored. Whoever keeps a copy drops
    /// it and lists all.
    #[getter]
    fn list_again(&self) -> bool {
        self.since.list_again
    }

    /// What the pod can use of a prompt is just the blocks that it holds from the first one on. Not so for pods with
    /// several KV-cache groups, or one whose kind is not full attention.
    #[getter]
    fn is_plain(&self) -> bool {
        self.since.is_plain
    }

    /// There are more changes than were asked for.
    #[getter]
    fn has_more(&self) -> bool {
        self.since.has_more
    }

    /// The changes, in the order in which they happened: whether the block is held now, and the block (hash, group,
    /// tier).
    #[getter]
    fn changes(&self) -> Vec<(bool, Block)> {
        self.changes.iter().map(|change| (change.is_held, block(change.block))).collect()
    }

    fn __repr__(&self) -> String {
        let HeldSince { cleared, list_again, .. } = self.since;
        let python = |is| if is { "True" } else { "False" };
        format!(
            "HeldChanges({} changes, cleared={}, list_again={})",
            self.changes.len(),
            python(cleared),
            python(list_again)
        )
    }
}
