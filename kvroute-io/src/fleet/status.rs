//! What a fleet is at, for those who watch.

use kvroute_core::LoadReport;
use serde::Serialize;

use super::model::ModelStatus;
use crate::events::SubscriberStatus;
use crate::load::{AdapterUse, CacheUse, Engine};
use crate::pods::{Knowledge, PodUrl, SourceStatus};

/// A fleet at one moment. Its parts are read one after the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FleetStatus {
    /// Where pods come from.
    pub sources: Vec<SourceStatus>,
    /// All pods, by name.
    pub pods: Vec<PodStatus>,
    /// All models and adapters, by name.
    pub models: Vec<ModelStatus>,
    /// The streams of events.
    pub events: SubscriberStatus,
}

/// What a pod is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PodState {
    /// It has not answered yet; it gets no requests.
    Learning,
    /// It gets requests.
    Ready,
    /// It does not answer any more; it gets no requests until it does.
    Silent,
    /// What it answered cannot be used, and `error` says why; it gets no requests.
    Unusable,
    /// It left the list, and goes on with the requests it has.
    Draining,
}

/// A pod at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PodStatus {
    /// Its name.
    pub name: String,
    /// Where its HTTP interface is.
    pub url: PodUrl,
    /// What it is at.
    pub state: PodState,
    /// What went wrong last, if it did not go well since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is known of it, and from where; `None` before it first answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Knowledge>,
    /// Its cache domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Seconds since it last answered what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learnt_seconds_ago: Option<f64>,
    /// How its scrapes went.
    pub scrapes: ScrapeStatus,
    /// Its data-parallel ranks, each a pod of the router; none while it is not there.
    pub ranks: Vec<RankStatus>,
}

/// How a pod's scrapes went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScrapeStatus {
    /// Whose metrics they are, once there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Those that brought a load report.
    pub reports: u64,
    /// Those that were answered without one.
    pub without_report: u64,
    /// Those that were not answered.
    pub failures: u64,
    /// The last of those, in a row.
    pub failures_in_a_row: u32,
    /// Lines about load, or what else is wanted of them, that could not be read.
    pub malformed_lines: u64,
    /// Restarts of the engine that were noticed.
    pub restarts: u64,
    /// Seconds the last one took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// A data-parallel rank at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RankStatus {
    /// The rank.
    pub rank: u32,
    /// Its [`PodId`](kvroute_core::PodId) in the router, as a number.
    pub id: u64,
    /// Its last load report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadReport>,
    /// Seconds since that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_seconds_ago: Option<f64>,
    /// Whether it is so old that it counts no more.
    pub stale: bool,
    /// What its prefix cache was asked for and had, since the engine started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheUse>,
    /// Its adapters in use, as last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapters: Option<AdapterUse>,
}
