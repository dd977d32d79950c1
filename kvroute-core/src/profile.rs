//! Profiles: filters, weighted scorers, one picker and what may overrule it, under a name.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Error;
use crate::filter::Filter;
use crate::guard::{LoadGuard, WarmUp};
use crate::pick::{MaxScorePicker, Picker};
use crate::score::Scorer;

/// How pods are chosen. Checked once, when built.
#[derive(Debug)]
pub struct Profile {
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) filters: Vec<Box<dyn Filter>>,
    pub(crate) scorers: Vec<(Box<dyn Scorer>, f64)>,
    pub(crate) picker: Box<dyn Picker>,
    pub(crate) warm_up: Option<WarmUp>,
    pub(crate) guard: Option<LoadGuard>,
    pub(crate) fallbacks: usize,
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
            warm_up: None,
            guard: None,
            fallbacks: 0,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A profile being put together.
#[derive(Debug)]
pub struct ProfileBuilder(Profile);

impl ProfileBuilder {
    /// As it is, unchecked: for those who fill it.
    pub(crate) fn empty(self) -> Profile {
        self.0
    }

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

    /// Lets new pods warm up.
    #[must_use]
    pub fn warm_up(mut self, warm_up: WarmUp) -> Self {
        self.0.warm_up = Some(warm_up);
        self
    }

    /// Guards against picking a pod that is much busier than the others.
    #[must_use]
    pub fn guard(mut self, guard: LoadGuard) -> Self {
        self.0.guard = Some(guard);
        self
    }

    /// Asks for the next best pods as well, this many at most ([`Workspace::fallbacks`](crate::Workspace::fallbacks)).
    #[must_use]
    pub fn fallbacks(mut self, fallbacks: usize) -> Self {
        self.0.fallbacks = fallbacks;
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
    /// `InvalidInput` for no scorer, a name used twice, a weight that is negative or not finite, or weights without a
    /// finite sum.
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
        if !profile.scorers.iter().map(|scorer| scorer.1).sum::<f64>().is_finite() {
            return fail("the sum of its weights is not finite");
        }
        Ok(profile)
    }
}
