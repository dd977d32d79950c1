//! Where pods come from: a list, a file that is read again, names that are resolved again.

use serde::Serialize;

/// Where pods come from, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SourceStatus {
    /// What it is: `list`, `file PATH` or `dns NAME`.
    pub source: String,
    /// Pods it names; the last good answer.
    pub pods: usize,
    /// Why it could not be read last, if it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Seconds since it was last read well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_seconds_ago: Option<f64>,
}
