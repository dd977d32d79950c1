//! What writers and readers of the shared index say of themselves.

use std::time::Duration;

/// How a writer is doing. Counts are since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStatus {
    /// Pods that it writes of.
    pub pods: usize,
    /// Pods that another writes of.
    pub pods_of_others: usize,
    /// Pods whose blocks alone do not say what they can use of a prompt: hybrid models.
    pub pods_not_plain: usize,
    /// Pods whose blocks are being listed.
    pub pods_listed: usize,
    /// Blocks that were told to be held, confirmations included.
    pub blocks_added: u64,
    /// Blocks that were told to be held no more.
    pub blocks_removed: u64,
    /// Blocks in pipelines of which Redis refused a part because it has no memory left.
    pub blocks_refused: u64,
    /// Members of lives that had ended, taken out of their blocks.
    pub members_swept: u64,
    /// Lives begun: a pod came, was cleared, or is told anew because something was lost.
    pub lives: u64,
    /// Leases that were lost to another writer, or ran out.
    pub leases_lost: u64,
    /// Commands and pipelines that failed.
    pub failures: u64,
    /// What was wrong last, if it was not put right since.
    pub error: Option<String>,
}

/// How a reader is doing. Counts are since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderStatus {
    /// Lookups that were asked for.
    pub lookups: u64,
    /// Those that were answered within their budget.
    pub answered: u64,
    /// Those that found a pod with a block at least.
    pub hits: u64,
    /// Those that had no answer within their budget.
    pub timeouts: u64,
    /// Those that were not made: too many were under way, or none had been answered lately.
    pub skipped: u64,
    /// Those that failed: no connection, or refused.
    pub failures: u64,
    /// Lookups under way, late ones included.
    pub outstanding: usize,
    /// Whether answers come: false while Redis is gone or too slow.
    pub is_answering: bool,
    /// Blocks that were asked for.
    pub blocks: u64,
    /// How long answered lookups took, all together.
    pub seconds: Duration,
    /// What was wrong last, if it was not put right since.
    pub error: Option<String>,
}
