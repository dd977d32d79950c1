//! The router: hasher, index and profile joined. The only module that knows them all.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::candidate::{Candidates, FactRows, Facts, LoadReport, Request, RoutedPod};
use crate::decision::{Decision, Explanation, PodExplanation, ScoreExplanation};
use crate::index::{
    ApplyReport, BlockIndex, IgnoreReason, IndexOptions, MatchTable, PodId, PodOptions, TierBlocks,
    TrustLevel,
};
use crate::pick::Scored;
use crate::profile::Profile;
use crate::snapshot::{Seen, Snapshots};
use crate::{BlockHash, CacheDomain, Error, ErrorKind, Tier};

/// Everything a gateway needs to route: pods, what they hold, and how to choose among them.
///
/// Shared by reference between threads. `decide` changes nothing and takes no lock for longer than it reads one
/// shard of the index.
///
/// ```
/// use std::sync::Arc;
/// use kvroute_core::hash::{BlockHasher, HashContext, OwnScheme};
/// use kvroute_core::candidate::{LoadReport, Request};
/// use kvroute_core::router::{Router, Workspace};
/// use kvroute_core::CacheDomain;
///
/// let hasher = BlockHasher::new(OwnScheme::default(), 16)?;
/// let domain = Arc::new(CacheDomain::new("llama-3.1-8b", hasher)?);
/// let router = Router::default();
/// let idle = router.add_pod("pod-a", 0, Arc::clone(&domain), Default::default())?;
/// let busy = router.add_pod("pod-b", 0, domain, Default::default())?;
/// router.report_load(idle, LoadReport { running: 1, waiting: 0, kv_usage: 0.1 })?;
/// router.report_load(busy, LoadReport { running: 60, waiting: 9, kv_usage: 0.9 })?;
/// // for each message of a pod's event stream: router.apply(pod, sequence, &payload)?;
///
/// let token_ids: Vec<u32> = (0..100).collect();
/// let mut workspace = Workspace::default();
/// let decision = router.decide(&Request::new(&token_ids, &HashContext::default()), &mut workspace)?;
/// assert_eq!(decision.pod, idle, "nothing is cached anywhere, so load decides");
/// println!("{}", router.explain(&workspace));
/// # Ok::<(), kvroute_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Router {
    index: BlockIndex,
    profile: Profile,
    roster: Snapshots<Roster>,
}

/// The pods at one moment.
#[derive(Clone, Debug, Default)]
struct Roster {
    /// In order of slot.
    pods: Vec<Arc<RoutedPod>>,
    /// Each distinct cache domain once, by name.
    domains: Vec<Arc<CacheDomain>>,
}

impl Roster {
    fn row(&self, id: PodId) -> Option<usize> {
        let row = self.pods.binary_search_by_key(&id.slot, |pod| pod.id.slot).ok()?;
        (self.pods[row].id == id).then_some(row)
    }

    fn insert(&mut self, pod: RoutedPod) {
        if self.domains.iter().all(|domain| !Arc::ptr_eq(domain, &pod.domain)) {
            self.domains.push(Arc::clone(&pod.domain));
        }
        let row = self.pods.partition_point(|other| other.id.slot < pod.id.slot);
        self.pods.insert(row, Arc::new(pod));
    }

    fn remove(&mut self, row: usize) {
        self.pods.remove(row);
        let pods = &self.pods;
        self.domains.retain(|domain| pods.iter().any(|pod| Arc::ptr_eq(&pod.domain, domain)));
    }
}

/// Room for one decision at a time, reused so that deciding allocates nothing once warm; and what the last
/// decision saw, for [`Router::explain`]. One per thread.
#[derive(Debug, Default)]
pub struct Workspace {
    hashes: Vec<BlockHash>,
    table: MatchTable,
    facts: FactRows,
    kept: Vec<bool>,
    /// Row -> position of the filter that dropped it.
    dropped_by: Vec<Option<usize>>,
    /// One column a scorer, `[scorers]`[candidates].
    columns: Vec<Vec<f64>>,
    totals: Vec<f64>,
    roster: Option<Seen<Roster>>,
    prompt_tokens: usize,
    picked: Option<usize>,
}

impl Router {
    /// A router without pods.
    #[must_use]
    pub fn new(options: IndexOptions, profile: Profile) -> Self {
        Self { index: BlockIndex::new(options), profile, roster: Snapshots::default() }
    }

    /// The index below.
    #[must_use]
    pub fn index(&self) -> &BlockIndex {
        &self.index
    }

    /// Adds a pod, holding nothing. Each data-parallel rank is a pod of its own, with its own stream of events.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a pod of this name and rank is there, or if its domain's name belongs to a domain that hashes
    /// differently.
    pub fn add_pod(
        &self,
        name: impl Into<String>,
        dp_rank: u32,
        domain: Arc<CacheDomain>,
        options: PodOptions,
    ) -> Result<PodId, Error> {
        let name = name.into();
        self.roster.update(|roster| {
        if roster.pods.iter().any(|pod| pod.name == name && pod.dp_rank == dp_rank) {
            return Err(Error::invalid(format!("pod \"{name}\", rank {dp_rank}, is there already")));
        }
        if let Some(known) = roster.domains.iter().find(|known| known.name() == domain.name())
            && (known.block_size() != domain.block_size()
                || known.hasher().scheme() != domain.hasher().scheme())
        {
            let (domain, size) = (domain.name(), domain.block_size());
            return Err(Error::invalid(format!(
                "pod \"{name}\": cache domain \"{domain}\" with blocks of {size} is known with another scheme or \
                 block size; pods that hash differently need domains of different names"
            )));
        }
        // Equal domains become one, so that a pod's is found by address.
        let known = roster.domains.iter().find(|known| known.name() == domain.name()).map(Arc::clone);
        let domain = known.unwrap_or(domain);
        let id = self.index.add_pod(Arc::clone(&domain), options);
        roster.insert(RoutedPod::new(id, name, dp_rank, domain));
        Ok(id)
        })
    }

    /// Removes a pod and all it holds.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn remove_pod(&self, id: PodId) -> Result<(), Error> {
        self.roster.update(|roster| {
            if let Some(row) = roster.row(id) {
                roster.remove(row);
            }
        });
        self.index.remove_pod(id)
    }

    /// The pod of this name and rank.
    #[must_use]
    pub fn pod(&self, name: &str, dp_rank: u32) -> Option<Arc<RoutedPod>> {
        self.roster.load().pods.iter().find(|pod| pod.name == name && pod.dp_rank == dp_rank).cloned()
    }

    /// Applies one published batch of a pod; see [`BlockIndex::apply_batch`].
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn apply(&self, id: PodId, sequence: u64, payload: &[u8]) -> Result<ApplyReport, Error> {
        self.index.apply_batch(id, sequence, payload)
    }

    /// Takes in what a pod says of its load.
    ///
    /// # Errors
    ///
    /// `UnknownPod`; `InvalidInput` if `kv_usage` is not in 0..=1.
    pub fn report_load(&self, id: PodId, report: LoadReport) -> Result<(), Error> {
        report.check()?;
        self.routed(id)?.set_load(report);
        Ok(())
    }

    /// Lets a pod take new requests, or drains it.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn set_accepting(&self, id: PodId, accepting: bool) -> Result<(), Error> {
        self.routed(id)?.set_accepting(accepting);
        Ok(())
    }

    /// Chooses a pod. Changes nothing: the same pods, views, loads and nonce give the same decision.
    ///
    /// # Errors
    ///
    /// `NoCandidate` if there is no pod or the filters drop every one; `InvalidInput` if the request cannot be hashed,
    /// or a scorer answers a value outside 0..=1.
    pub fn decide(&self, request: &Request<'_>, workspace: &mut Workspace) -> Result<Decision, Error> {
        let mut seen = workspace.roster.take();
        let roster = self.roster.refresh(&mut seen);
        workspace.picked = None;
        workspace.prompt_tokens = request.token_ids.len();
        workspace.facts.clear();
        workspace.facts.extend(roster.pods.iter().map(|pod| Facts {
            load: pod.load(),
            accepting: pod.is_accepting(),
            ..Facts::default()
        }));
        let fingerprint = self.find_matches(roster, request, workspace)?;
        let candidates = Candidates { request, pods: &roster.pods, facts: &workspace.facts };

        self.filter(&candidates, &mut workspace.kept, &mut workspace.dropped_by);
        self.score(&candidates, &mut workspace.columns, &mut workspace.totals)?;

        let nonce = request.nonce.unwrap_or(fingerprint);
        let draw = xxh3_64_with_seed(&nonce.to_le_bytes(), self.profile.seed);
        let mut pods = roster
            .pods
            .iter()
            .enumerate()
            .filter(|&(row, _)| workspace.kept[row])
            .map(|(row, pod)| Scored { row, pod: pod.id, total: workspace.totals[row] });
        let picked = self.profile.picker.pick(&mut pods, draw).filter(|&row| row < roster.pods.len());
        let candidates = roster.pods.len();
        let decision = match picked {
            Some(row) => Ok(Decision {
                pod: roster.pods[row].id,
                total: workspace.totals[row],
                matched: workspace.facts[row].matched,
                matched_tokens: workspace.facts[row].matched.total() as usize
                    * roster.pods[row].domain.block_size() as usize,
                candidates,
            }),
            None => Err(self.no_candidate(candidates, &workspace.dropped_by)),
        };
        workspace.picked = picked;
        workspace.roster = seen;
        decision
    }

    /// Hashes the prompt once per domain and looks it up; answers a fingerprint of the prompt.
    fn find_matches(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        workspace: &mut Workspace,
    ) -> Result<u64, Error> {
        let mut fingerprint = request.token_ids.len() as u64;
        for domain in &roster.domains {
            let hasher = domain.hasher();
            hasher.hash_into(request.token_ids, request.context, &mut workspace.hashes)?;
            let most = domain.searchable_blocks(request.token_ids.len()).min(workspace.hashes.len());
            let blocks = &workspace.hashes[..most];
            fingerprint ^= workspace.hashes.last().map_or(0, |hash| hash.0);
            self.index.lookup(domain, blocks, &mut workspace.table);
            for (pod, facts) in roster.pods.iter().zip(&mut workspace.facts) {
                if Arc::ptr_eq(&pod.domain, domain) {
                    facts.searchable = most as u32;
                }
            }
            for found in workspace.table.matches() {
                if let Some(row) = roster.row(found.pod) {
                    workspace.facts[row].matched = found.blocks;
                }
            }
        }
        // Prompts of one block or less differ in their tail only.
        Ok(fingerprint ^ request.token_ids.last().map_or(0, |&token| u64::from(token) << 32))
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut Vec<bool>, dropped_by: &mut Vec<Option<usize>>) {
        kept.clear();
        kept.resize(candidates.len(), true);
        dropped_by.clear();
        dropped_by.resize(candidates.len(), None);
        for (position, filter) in self.profile.filters.iter().enumerate() {
            filter.filter(candidates, kept);
            for (kept, dropped_by) in kept.iter_mut().zip(dropped_by.iter_mut()) {
                *kept &= dropped_by.is_none();
                if !*kept {
                    dropped_by.get_or_insert(position);
                }
            }
        }
    }

    fn score(
        &self,
        candidates: &Candidates<'_>,
        columns: &mut Vec<Vec<f64>>,
        totals: &mut Vec<f64>,
    ) -> Result<(), Error> {
        columns.resize_with(self.profile.scorers.len(), Vec::new);
        totals.clear();
        totals.resize(candidates.len(), 0.0);
        for ((scorer, weight), column) in self.profile.scorers.iter().zip(columns) {
            column.clear();
            column.resize(candidates.len(), 0.0);
            scorer.score(candidates, column);
            for (row, &value) in column.iter().enumerate() {
                if !(0.0..=1.0).contains(&value) {
                    let (scorer, pod) = (scorer.name(), &candidates.pods[row].name);
                    return Err(Error::invalid(format!(
                        "scorer \"{scorer}\" gave pod \"{pod}\" {value}; scores are 0 to 1"
                    )));
                }
                totals[row] += weight * value;
            }
        }
        Ok(())
    }

    fn no_candidate(&self, pods: usize, dropped_by: &[Option<usize>]) -> Error {
        if pods == 0 {
            return Error::new(ErrorKind::NoCandidate, "this router has no pod");
        }
        let mut message = format!("every one of {pods} pods was dropped:");
        for (position, filter) in self.profile.filters.iter().enumerate() {
            let dropped = dropped_by.iter().filter(|by| **by == Some(position)).count();
            if dropped > 0 {
                message += &format!(" {dropped} by filter \"{}\"", filter.name());
            }
        }
        Error::new(ErrorKind::NoCandidate, message)
    }

    /// Explains the last decision made with `workspace` by this router.
    #[must_use]
    pub fn explain(&self, workspace: &Workspace) -> Explanation {
        let rows = workspace.roster.iter().flat_map(|seen| seen.value().pods.iter().enumerate());
        Explanation {
            profile: self.profile.name.clone(),
            picker: self.profile.picker.name().to_string(),
            prompt_tokens: workspace.prompt_tokens,
            picked: workspace.picked,
            pods: rows.map(|(row, pod)| self.explain_pod(workspace, row, pod)).collect(),
        }
    }

    fn explain_pod(&self, workspace: &Workspace, row: usize, pod: &RoutedPod) -> PodExplanation {
        let facts = workspace.facts[row];
        let tiers = Tier::ALL.into_iter().map(|tier| (tier.name(), facts.matched.in_tier(tier)));
        let dropped_by = workspace.dropped_by[row].and_then(|position| self.profile.filters.get(position));
        let scores = self.profile.scorers.iter().zip(&workspace.columns).map(|((scorer, weight), column)| {
            ScoreExplanation { scorer: scorer.name().to_string(), value: column[row], weight: *weight }
        });
        PodExplanation {
            pod: pod.name.clone(),
            dp_rank: pod.dp_rank,
            trust: match self.index.trust(pod.id) {
                Ok(TrustLevel::Exact) => "exact",
                Ok(TrustLevel::Degraded) => "degraded",
                Ok(TrustLevel::LoadOnly) | Err(_) => "load-only",
            },
            block_size: pod.domain.block_size(),
            searchable_blocks: facts.searchable,
            matched_blocks: tiers.filter(|&(_, blocks)| blocks > 0).collect(),
            scores: if dropped_by.is_some() { Vec::new() } else { scores.collect() },
            total: if dropped_by.is_some() { 0.0 } else { workspace.totals[row] },
            dropped_by: dropped_by.map(|filter| filter.name().to_string()),
            note: self.why_nothing(pod, &facts, workspace.prompt_tokens),
        }
    }

    /// The most telling reason why a pod matches nothing.
    fn why_nothing(&self, pod: &RoutedPod, facts: &Facts, prompt_tokens: usize) -> Option<String> {
        if facts.matched != TierBlocks::default() {
            return None;
        }
        let size = pod.domain.block_size();
        if facts.searchable == 0 {
            return Some(format!(
                "{prompt_tokens} tokens have no whole block of {size} before the last token, which engines always \
                 compute"
            ));
        }
        let Ok(counters) = self.index.counters(pod.id) else { return Some("the pod is gone".into()) };
        let trust = self.index.trust(pod.id);
        let wrong_size = counters.ignored_for(IgnoreReason::BlockSize);
        Some(if counters.batches == 0 {
            "no KV events came from this pod yet".into()
        } else if trust == Ok(TrustLevel::LoadOnly) {
            "its events describe a KV-cache group of an unknown kind, which is never credited".into()
        } else if wrong_size > 0 && counters.blocks_stored == 0 {
            format!("its events have blocks of another size than its domain's {size}: {wrong_size} ignored")
        } else if counters.blocks_stored == 0 {
            format!("none of its {} events stored a block", counters.events)
        } else {
            "it does not hold the prompt's first block".into()
        })
    }

    fn routed(&self, id: PodId) -> Result<Arc<RoutedPod>, Error> {
        let roster = self.roster.load();
        let pod = roster.row(id).map(|row| Arc::clone(&roster.pods[row]));
        pod.ok_or_else(|| Error::new(ErrorKind::UnknownPod, format!("pod {} is not in this router", id.slot)))
    }
}
