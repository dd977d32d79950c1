//! The router: hasher, index and profile joined. The only module that knows them all.

mod explain;
mod roster;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::roster::Roster;
use crate::candidate::{Candidates, Facts, LoadReport, Request, RoutedPod};
use crate::decision::Decision;
use crate::index::{ApplyReport, BlockIndex, IndexOptions, MatchTable, PodId, PodOptions};
use crate::pick::Scored;
use crate::profile::Profile;
use crate::snapshot::{Seen, Snapshots};
use crate::{BlockHash, CacheDomain, Error, ErrorKind};

/// Everything a gateway needs to route: pods, what they hold, and how to choose among them.
///
/// Shared by reference between threads. `decide` changes nothing and takes no lock for longer than it
/// reads one shard of the index.
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

/// Room for one decision at a time, reused so that deciding allocates nothing once warm; and what the last
/// decision saw, for [`Router::explain`]. One per thread.
#[derive(Debug, Default)]
pub struct Workspace {
    hashes: Vec<BlockHash>,
    table: MatchTable,
    facts: Vec<Facts>,
    kept: Vec<bool>,
    /// Row -> position of the filter that dropped it.
    dropped_by: Vec<Option<usize>>,
    /// One column a scorer; `[scorers][candidates]`.
    columns: Vec<Vec<f64>>,
    totals: Vec<f64>,
    roster: Option<Seen<Roster>>,
    prompt_tokens: usize,
    picked: Option<usize>,
    /// Domains that the request could not be hashed for, by name.
    unhashed: Vec<(String, Error)>,
}

impl Workspace {
    /// Begins a decision among these pods.
    fn reset(&mut self, roster: &Roster, request: &Request<'_>, scorers: usize) {
        let pods = roster.pods.len();
        self.picked = None;
        self.prompt_tokens = request.token_ids.len();
        self.unhashed.clear();
        self.facts.clear();
        self.facts.extend(roster.pods.iter().map(|pod| Facts {
            load: pod.load(),
            accepting: pod.is_accepting(),
            ..Facts::default()
        }));
        fill(&mut self.kept, pods, true);
        fill(&mut self.dropped_by, pods, None);
        fill(&mut self.totals, pods, 0.0);
        self.columns.resize_with(scorers, Vec::new);
        self.columns.iter_mut().for_each(|column| fill(column, pods, 0.0));
    }
}

fn fill<T: Clone>(values: &mut Vec<T>, count: usize, value: T) {
    values.clear();
    values.resize(count, value);
}

impl Router {
    /// Longest prompt that is routed; tokens. Far beyond any engine's.
    pub const MAX_PROMPT_TOKENS: usize = 1 << 28;

    /// A router without pods.
    #[must_use]
    pub fn new(options: IndexOptions, profile: Profile) -> Self {
        Self { index: BlockIndex::new(options), profile, roster: Snapshots::default() }
    }

    /// The index below. Pods are added and removed through the router, not there.
    #[must_use]
    pub fn index(&self) -> &BlockIndex {
        &self.index
    }

    /// Adds a pod, holding nothing. Each data-parallel rank is a pod of its own, with its own stream of
    /// events.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a pod of this name and rank is there, or if its domain's name belongs to a
    /// domain that hashes differently.
    pub fn add_pod(
        &self,
        name: impl Into<String>,
        dp_rank: u32,
        domain: Arc<CacheDomain>,
        options: PodOptions,
    ) -> Result<PodId, Error> {
        let name = name.into();
        let options = PodOptions { dp_rank: options.dp_rank.or(Some(dp_rank)), ..options };
        self.roster.update(|roster| {
            if roster.pods.iter().any(|pod| pod.name == name && pod.dp_rank == dp_rank) {
                return Err(Error::invalid(format!("pod \"{name}\", rank {dp_rank}, is there already")));
            }
            let domain = roster.domain(&name, domain)?;
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
        let known = self.roster.update(|roster| roster.row(id).map(|row| roster.remove(row)).is_some());
        match self.index.remove_pod(id) {
            Err(error) if !known => Err(error),
            _ => Ok(()),
        }
    }

    /// All pods, in order of slot.
    #[must_use]
    pub fn pods(&self) -> Vec<Arc<RoutedPod>> {
        self.roster.load().pods.clone()
    }

    /// The pod with this id: its name, its load, its domain.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn pod_by_id(&self, id: PodId) -> Result<Arc<RoutedPod>, Error> {
        let pod = self.roster.read(|roster| roster.row(id).map(|row| Arc::clone(&roster.pods[row])));
        pod.ok_or_else(|| Error::new(ErrorKind::UnknownPod, format!("pod {id} is not in this router")))
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
        self.pod_by_id(id)?.set_load(report);
        Ok(())
    }

    /// Lets a pod take new requests, or drains it.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn set_accepting(&self, id: PodId, accepting: bool) -> Result<(), Error> {
        self.pod_by_id(id)?.set_accepting(accepting);
        Ok(())
    }

    /// Chooses a pod. Changes nothing: the same pods, views, loads and nonce give the same decision.
    ///
    /// A cache domain that the request cannot be hashed for (a native one, and the adapter's path is
    /// missing, say) matches nothing; the explanation says so.
    ///
    /// # Errors
    ///
    /// `NoCandidate` if there is no pod or the filters drop every one; `InvalidInput` if the request can
    /// be hashed for no domain at all, or a scorer or picker breaks its contract; `Limit` if the prompt
    /// has more than [`MAX_PROMPT_TOKENS`](Self::MAX_PROMPT_TOKENS).
    pub fn decide(&self, request: &Request<'_>, workspace: &mut Workspace) -> Result<Decision, Error> {
        let mut seen = workspace.roster.take();
        let decision = self.decide_among(self.roster.refresh(&mut seen), request, workspace);
        workspace.roster = seen;
        decision
    }

    fn decide_among(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        workspace: &mut Workspace,
    ) -> Result<Decision, Error> {
        workspace.reset(roster, request, self.profile.scorers.len());
        if request.token_ids.len() > Self::MAX_PROMPT_TOKENS {
            let (tokens, most) = (request.token_ids.len(), Self::MAX_PROMPT_TOKENS);
            return Err(Error::new(ErrorKind::Limit, format!("a prompt of {tokens} tokens; at most {most}")));
        }
        let fingerprint = self.find_matches(roster, request, workspace)?;
        let candidates = Candidates { request, pods: &roster.pods, facts: &workspace.facts };
        self.filter(&candidates, &mut workspace.kept, &mut workspace.dropped_by);
        self.score(&candidates, &mut workspace.columns, &mut workspace.totals)?;

        let nonce = request.nonce.unwrap_or(fingerprint);
        let draw = xxh3_64_with_seed(&nonce.to_le_bytes(), self.profile.seed);
        let kept = &workspace.kept;
        let mut pods = roster
            .pods
            .iter()
            .enumerate()
            .filter(|&(row, _)| kept[row])
            .map(|(row, pod)| Scored { row, pod: pod.id, total: workspace.totals[row] });
        let Some(row) = self.profile.picker.pick(&mut pods, draw) else {
            return Err(self.no_candidate(roster.pods.len(), &workspace.dropped_by));
        };
        if kept.get(row) != Some(&true) {
            let picker = self.profile.picker.name();
            let message = format!("picker \"{picker}\" picked row {row}, which it was not offered");
            return Err(Error::invalid(message));
        }
        workspace.picked = Some(row);
        let (pod, matched) = (&roster.pods[row], workspace.facts[row].matched);
        Ok(Decision {
            pod: pod.id,
            total: workspace.totals[row],
            matched,
            matched_tokens: matched.total() as usize * pod.domain.block_size() as usize,
            candidates: roster.pods.len(),
        })
    }

    /// Hashes the prompt once for all domains that hash alike and looks it up in each; answers a
    /// fingerprint of the prompt.
    fn find_matches(
        &self,
        roster: &Roster,
        request: &Request<'_>,
        workspace: &mut Workspace,
    ) -> Result<u64, Error> {
        // Prompts of one block or less differ in their tail only.
        let tail = request.token_ids.last().map_or(0, |&token| u64::from(token));
        let mut fingerprint = (request.token_ids.len() as u64) << 32 ^ tail;
        let mut hashed = None;
        for domain in &roster.domains {
            let hasher = domain.hasher();
            if hashed != Some(hasher.identity()) {
                hashed = None;
                if let Err(error) =
                    hasher.hash_into(request.token_ids, request.context, &mut workspace.hashes)
                {
                    workspace.unhashed.push((domain.name().to_string(), error));
                    continue;
                }
                hashed = Some(hasher.identity());
                let last = workspace.hashes.last().map_or(0, |hash| hash.0);
                fingerprint = xxh3_64_with_seed(&last.to_le_bytes(), fingerprint);
            }
            let most = domain.searchable_blocks(request.token_ids.len()).min(workspace.hashes.len());
            self.index.lookup(domain, &workspace.hashes[..most], &mut workspace.table);
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
        match workspace.unhashed.first() {
            Some((_, error)) if workspace.unhashed.len() == roster.domains.len() => Err(error.clone()),
            _ => Ok(fingerprint),
        }
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool], dropped_by: &mut [Option<usize>]) {
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
        columns: &mut [Vec<f64>],
        totals: &mut [f64],
    ) -> Result<(), Error> {
        for ((scorer, weight), column) in self.profile.scorers.iter().zip(columns) {
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
}
