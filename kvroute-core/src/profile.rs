//! Profiles: filters, weighted scorers and one picker under a name. A policy is one or two of them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Error;
use crate::filter::{AcceptingFilter, Filter, ModelFilter, RoleFilter};
use crate::pick::{MaxScorePicker, Picker};
use crate::pod::Role;
use crate::score::{KvCacheScorer, LoadScorer, PrefixScorer, Scorer, SessionScorer};

/// How pods are chosen. Checked once, when built.
#[derive(Debug)]
pub struct Profile {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) filters: Vec<Box<dyn Filter>>,
    pub(crate) scorers: Vec<(Box<dyn Scorer>, f64)>,
    pub(crate) picker: Box<dyn Picker>,
}

impl Profile {
    /// Begins a profile without filters or scorers, picking the highest total.
    #[must_use]
    pub fn builder(name: impl Into<String>) -> ProfileBuilder {
        ProfileBuilder(Self {
            name: name.into(),
            seed: 0,
            filters: Vec::new(),
            scorers: Vec::new(),
            picker: Box::new(MaxScorePicker),
        })
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
        Self {
            name: role.name().into(),
            seed: 0,
            filters: alloc::vec![
                Box::new(AcceptingFilter),
                Box::new(ModelFilter),
                Box::new(RoleFilter::new(role))
            ],
            scorers: alloc::vec![
                (Box::new(KvCacheScorer::default()), 5.0),
                (Box::new(PrefixScorer), 3.0),
                (Box::new(SessionScorer), 2.0),
                (Box::new(LoadScorer::default()), 1.0)
            ],
            picker: Box::new(MaxScorePicker),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// How a request finds its pods: one, or one that prefills and one that answers.
#[derive(Debug)]
pub struct Policy {
    /// Picks the pod that answers.
    pub decode: Profile,
    /// Picks a pod that computes the prompt first, where that is worth it.
    pub prefill: Option<PrefillPolicy>,
}

/// When a prompt is computed by a pod of its own, and by which.
///
/// The decode pod is picked first, as in llm-d (llm-d-inference-scheduler 0.1 and later).
#[derive(Debug)]
pub struct PrefillPolicy {
    /// Picks the pod.
    pub profile: Profile,
    /// A prompt goes there if the decode pod would have to compute more than this; tokens.
    pub max_uncached_tokens: usize,
}

impl Policy {
    /// Names that [`preset`](Self::preset) knows.
    pub const PRESETS: &'static [&'static str] = &["llm-d-demo"];

    /// A policy by name, without prefill pods: `llm-d-demo` ([`Profile::llm_d_demo`]).
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        (name == "llm-d-demo").then(Self::default)
    }
}

impl Default for Policy {
    /// The preset `llm-d-demo`.
    fn default() -> Self {
        Profile::llm_d_demo(Role::Decode).into()
    }
}

impl Policy {
    /// Whether a scorer reads a request's score column of this name.
    pub(crate) fn reads_column(&self, name: &str) -> bool {
        let profiles = [Some(&self.decode), self.prefill.as_ref().map(|prefill| &prefill.profile)];
        let mut scorers = profiles.into_iter().flatten().flat_map(|profile| &profile.scorers);
        scorers.any(|(scorer, _)| scorer.column() == Some(name))
    }
}

impl From<Profile> for Policy {
    /// One pod a request.
    fn from(decode: Profile) -> Self {
        Self { decode, prefill: None }
    }
}

/// A profile being put together.
#[derive(Debug)]
pub struct ProfileBuilder(Profile);

impl ProfileBuilder {
    /// Adds a filter; they run in this order.
    #[must_use]
    pub fn filter(mut self, filter: impl Filter + 'static) -> Self {
        self.0.filters.push(Box::new(filter));
        self
    }

    /// Adds a scorer with its weight.
    #[must_use]
    pub fn scorer(mut self, scorer: impl Scorer + 'static, weight: f64) -> Self {
        self.0.scorers.push((Box::new(scorer), weight));
        self
    }

    /// Replaces the picker.
    #[must_use]
    pub fn picker(mut self, picker: impl Picker + 'static) -> Self {
        self.0.picker = Box::new(picker);
        self
    }

    /// Sets the seed of all even choices.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// Checks and finishes the profile.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for no scorer, a name used twice, or a weight that is negative or not finite.
    pub fn build(self) -> Result<Profile, Error> {
        let Self(profile) = self;
        let fail = |what: &str| Err(Error::invalid(alloc::format!("profile \"{}\": {what}", profile.name)));
        if profile.scorers.is_empty() {
            return fail("it has no scorer");
        }
        let filters = profile.filters.iter().map(|filter| filter.name());
        let scorers = profile.scorers.iter().map(|scorer| scorer.0.name());
        let mut names: Vec<_> =
            filters.map(|n| ("filter", n)).chain(scorers.map(|n| ("scorer", n))).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return fail(&alloc::format!("it has two {}s called \"{}\"", twice[0].0, twice[0].1));
        }
        if let Some((scorer, weight)) = profile.scorers.iter().find(|s| !s.1.is_finite() || s.1 < 0.0) {
            let name = scorer.name();
            return fail(&alloc::format!(
                "weight of scorer \"{name}\": finite and not negative, not {weight}"
            ));
        }
        Ok(profile)
    }
}
