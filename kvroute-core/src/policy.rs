//! Policies: how a request finds its pods. One profile, or one for each of two pods; and the presets.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::filter::{
    AcceptingFilter, AffinityFilter, Filter, HealthFilter, ModelFilter, RoleFilter, SubsetFilter,
};
use crate::pod::Role;
use crate::profile::Profile;
use crate::score::{
    CostScorer, KvCacheScorer, LoadScorer, PrefixScorer, Scorer, SessionScorer, TokenLoadScorer,
};

/// How a request finds its pods: one, or one that prefills and one that answers.
#[derive(Debug)]
pub struct Policy {
    /// Picks the pod that answers.
    pub decode: Profile,
    /// Picks a pod that computes the prompt first, where that is worth it.
    pub prefill: Option<PrefillPolicy>,
    /// Which pods are looked at in a large fleet.
    pub sampling: Sampling,
}

/// When a prompt is computed by a pod of its own, and by which.
///
/// The decode pod is picked first, as in llm-d (llm-d-inference-scheduler 0.1 and later). A prompt goes to a prefill pod
/// if all three hold.
#[derive(Debug)]
pub struct PrefillPolicy {
    /// Picks the pod.
    pub profile: Profile,
    /// The decode pod would have to compute more than this; tokens.
    pub max_uncached_tokens: usize,
    /// The prompt is at least as long as this; tokens.
    pub min_prompt_tokens: usize,
    /// The picked prefill pod has at most this much prefill work in flight by this router; tokens. Beyond it the decode
    /// pod computes the prompt itself.
    pub max_prefill_load: u64,
}

impl PrefillPolicy {
    /// Prompts of which the decode pod would have to compute more than `max_uncached_tokens` go there, however long they
    /// are and however busy the prefill pod is.
    #[must_use]
    pub fn new(profile: Profile, max_uncached_tokens: usize) -> Self {
        Self { profile, max_uncached_tokens, min_prompt_tokens: 0, max_prefill_load: u64::MAX }
    }
}

/// Which pods are looked at for a request where there are many: those that have most of its prompt, the one that its
/// session is at home on, and some others by lot. So a decision costs the same in a fleet of 40 and of 4000.
///
/// The numbers are SMG's (1.13): all of up to 32 pods, else 16 others besides the holders. If the filters keep none of
/// those, all pods are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Fleets of up to so many pods are looked at whole; `usize::MAX` for every fleet.
    pub above: usize,
    /// Most pods that have some of the prompt.
    pub holders: usize,
    /// Others.
    pub others: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { above: 32, holders: 32, others: 16 }
    }
}

impl Policy {
    /// Names that [`preset`](Self::preset) knows, the default first.
    pub const PRESETS: &'static [&'static str] = &["cost", "llm-d-demo", "affinity"];

    /// A policy by name, without prefill pods.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        Profile::preset(name, Role::Decode).map(Self::from)
    }

    /// Whether a scorer reads a request's score column of this name.
    pub(crate) fn reads_column(&self, name: &str) -> bool {
        let profiles = [Some(&self.decode), self.prefill.as_ref().map(|prefill| &prefill.profile)];
        let mut scorers = profiles.into_iter().flatten().flat_map(|profile| &profile.scorers);
        scorers.any(|(scorer, _)| scorer.column() == Some(name))
    }
}

impl Default for Policy {
    /// The preset `cost`: the one that does best over all workloads of `cargo lab`.
    fn default() -> Self {
        Profile::cost(Role::Decode).into()
    }
}

impl From<Profile> for Policy {
    /// One pod a request.
    fn from(decode: Profile) -> Self {
        Self { decode, prefill: None, sampling: Sampling::default() }
    }
}

impl Profile {
    /// The part of a preset for pods of a role: `cost`, `llm-d-demo` or `affinity`.
    #[must_use]
    pub fn preset(name: &str, role: Role) -> Option<Self> {
        match name {
            "cost" => Some(Self::cost(role)),
            "llm-d-demo" => Some(Self::llm_d_demo(role)),
            "affinity" => Some(Self::affinity(role)),
            _ => None,
        }
    }

    /// The four scorers of llm-d's cache-aware routing demo with its weights, over the pods of a role that take
    /// requests and serve the model: KV cache 5, prefix 3, session 2, load 1; the highest total.
    ///
    /// All four are absolute, 0..=1, and add up. Load alone tells pods without hits apart. A prompt that
    /// one pod has whole, as events and this router's own record say, is worth 8, so load (at most 1) turns
    /// only hits down that cover less than an eighth of the prompt; with a session at home on the pod,
    /// none.
    #[must_use]
    pub fn llm_d_demo(role: Role) -> Self {
        let mut profile = Self::of_pods(role, []);
        profile.scorers = alloc::vec![
            scorer(KvCacheScorer::default(), 5.0),
            scorer(PrefixScorer, 3.0),
            scorer(SessionScorer, 2.0),
            scorer(LoadScorer::default(), 1.0)
        ];
        profile
    }

    /// The cheapest pod ([`CostScorer`], 1), with a leaning to those that have much of the prompt
    /// ([`KvCacheScorer`], 0.6), of those that answer: the weights that did best over all workloads of `cargo lab`.
    /// Where two are nearly even, the session's ([`SessionScorer`], 0.02).
    #[must_use]
    pub fn cost(role: Role) -> Self {
        let mut profile = Self::of_pods(role, [Box::new(HealthFilter::default())]);
        profile.scorers = alloc::vec![
            scorer(KvCacheScorer::default(), 0.6),
            scorer(SessionScorer, 0.02),
            scorer(CostScorer::default(), 1.0)
        ];
        profile
    }

    /// A pod that has the prompt, unless it is too busy ([`AffinityFilter`]), and of those the one with the least prefill
    /// work ([`TokenLoadScorer`]): llm-d's default since August 2026.
    #[must_use]
    pub fn affinity(role: Role) -> Self {
        let mut profile =
            Self::of_pods(role, [Box::new(HealthFilter::default()), Box::new(AffinityFilter::default())]);
        profile.scorers = alloc::vec![scorer(TokenLoadScorer::default(), 1.0)];
        profile
    }

    /// A profile over the pods of a role that take requests, serve the model and are among those that the request
    /// names; without scorers.
    fn of_pods<const N: usize>(role: Role, filters: [Box<dyn Filter>; N]) -> Self {
        let mut profile = Self::builder(role.name()).empty();
        let usual: [Box<dyn Filter>; 4] = [
            Box::new(AcceptingFilter),
            Box::new(ModelFilter),
            Box::new(RoleFilter::new(role)),
            Box::new(SubsetFilter),
        ];
        profile.filters = usual.into_iter().chain(filters).collect::<Vec<_>>();
        profile
    }
}

fn scorer(scorer: impl Scorer + 'static, weight: f64) -> (Box<dyn Scorer>, f64) {
    (Box::new(scorer), weight)
}
