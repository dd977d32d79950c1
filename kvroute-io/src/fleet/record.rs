//! What a pod's task notes down, for the status.

use kvroute_core::{LoadReport, PodId};
use tokio::time::Instant;

use super::status::{PodState, PodStatus, RankStatus, ScrapeStatus};
use crate::load::{AdapterUse, CacheUse};
use crate::pods::{Knowledge, PodUrl};

/// What is noted of a pod.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) url: PodUrl,
    pub(super) state: PodState,
    /// Why it could not be learnt, or cannot be used.
    pub(super) learn_error: Option<String>,
    /// Why the last scrape brought no report.
    pub(super) scrape_error: Option<String>,
    pub(super) known: Option<Knowledge>,
    pub(super) domain: Option<String>,
    pub(super) learnt: Option<Instant>,
    pub(super) scrapes: ScrapeStatus,
    pub(super) ranks: Vec<RankRecord>,
}

/// What is noted of a rank in the router.
#[derive(Debug)]
pub(super) struct RankRecord {
    pub(super) rank: u32,
    pub(super) id: PodId,
    pub(super) load: Option<(LoadReport, Instant)>,
    pub(super) is_stale: bool,
    pub(super) cache: Option<CacheUse>,
    pub(super) adapters: Option<AdapterUse>,
}

impl Record {
    pub(super) fn new(url: PodUrl) -> Self {
        Self {
            url,
            state: PodState::Learning,
            learn_error: None,
            scrape_error: None,
            known: None,
            domain: None,
            learnt: None,
            scrapes: ScrapeStatus::default(),
            ranks: Vec::new(),
        }
    }

    pub(super) fn status(&self, name: &str) -> PodStatus {
        PodStatus {
            name: name.into(),
            url: self.url.clone(),
            state: self.state,
            error: self.learn_error.as_ref().or(self.scrape_error.as_ref()).cloned(),
            known: self.known.clone(),
            domain: self.domain.clone(),
            learnt_seconds_ago: self.learnt.map(|learnt| learnt.elapsed().as_secs_f64()),
            scrapes: self.scrapes.clone(),
            ranks: self.ranks.iter().map(RankRecord::status).collect(),
        }
    }
}

impl RankRecord {
    pub(super) fn new(rank: u32, id: PodId) -> Self {
        Self { rank, id, load: None, is_stale: false, cache: None, adapters: None }
    }

    fn status(&self) -> RankStatus {
        RankStatus {
            rank: self.rank,
            id: self.id.as_u64(),
            load: self.load.map(|(load, _)| load),
            load_seconds_ago: self.load.map(|(_, at)| at.elapsed().as_secs_f64()),
            stale: self.is_stale,
            cache: self.cache,
            adapters: self.adapters.clone(),
        }
    }
}
