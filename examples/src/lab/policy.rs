//! The policies that are compared.

use std::sync::Arc;

use kvroute_core::{BlockHasher, CacheDomain, Config, OwnScheme, Policy, Router, RouterOptions};
use kvroute_sim::fleet::{self, HashRing, KvroutePolicy, LeastInFlight, Prefilled, RandomChoice, RoundRobin};

use crate::capture::Result;
use crate::simulated::{BLOCK_SIZE, MAX_UNCACHED_TOKENS};

/// A policy that can be run any number of times.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name in tables; no two of one comparison share one.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What a candidate is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// kvroute with a preset of this name.
    Preset(&'static str),
    /// kvroute with policy and router options of a configuration.
    Config(Box<Config>),
    /// A policy that knows no caches.
    Baseline(Baseline),
}

/// Policies that know no caches, by their names in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// One pod after the other.
    RoundRobin,
    /// Any pod.
    Random,
    /// The pod with the fewest requests in flight.
    LeastLoaded,
    /// Consistent hashing of the session.
    SessionHash,
    /// Consistent hashing with bounded load of the prompt's first tokens.
    Chwbl,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RoundRobin, Self::Random, Self::LeastLoaded, Self::SessionHash, Self::Chwbl];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::LeastLoaded => "least-loaded",
            Self::SessionHash => "session-hash",
            Self::Chwbl => "chwbl",
        }
    }

    fn policy(self, seed: u64, is_split: bool) -> Box<dyn fleet::Policy> {
        fn boxed<P: fleet::Policy + Clone + 'static>(policy: P, is_split: bool) -> Box<dyn fleet::Policy> {
            if is_split { Box::new(Prefilled::new(policy, MAX_UNCACHED_TOKENS)) } else { Box::new(policy) }
        }
        match self {
            Self::RoundRobin => boxed(RoundRobin::default(), is_split),
            Self::Random => boxed(RandomChoice::seeded(seed), is_split),
            Self::LeastLoaded => boxed(LeastInFlight::seeded(seed), is_split),
            Self::SessionHash => boxed(HashRing::sessions(), is_split),
            Self::Chwbl => boxed(HashRing::bounded(), is_split),
        }
    }
}

/// A candidate's policy for one run.
pub(super) enum Instance {
    Kvroute(Box<KvroutePolicy>),
    Baseline(Box<dyn fleet::Policy>),
}

impl Candidate {
    /// kvroute's presets, then the baselines.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let presets =
            Policy::PRESETS.iter().map(|&name| Self { name: name.into(), kind: Kind::Preset(name) });
        let baselines = Baseline::ALL.map(Self::from);
        presets.chain(baselines).collect()
    }

    /// kvroute as a configuration says: its policy and router options. What it says of domains and pods is of
    /// no account.
    ///
    /// # Errors
    ///
    /// What is wrong with the document.
    pub fn from_yaml(name: &str, document: &str) -> Result<Self> {
        let config = Config::from_yaml(document)?;
        Ok(Self { name: name.into(), kind: Kind::Config(Box::new(config)) })
    }

    /// Whether it is kvroute.
    #[must_use]
    pub fn is_kvroute(&self) -> bool {
        !matches!(self.kind, Kind::Baseline(_))
    }

    /// A policy for one run. Where pods are split in such as answer and such as prefill, long prompts go through
    /// the latter: kvroute's by the threshold of the configuration, else by more than
    /// [`MAX_UNCACHED_TOKENS`] that are not cached; the baselines' by more than that in all.
    pub(super) fn instance(&self, seed: u64, is_split: bool) -> Result<Instance> {
        let (options, policy) = match &self.kind {
            Kind::Baseline(baseline) => return Ok(Instance::Baseline(baseline.policy(seed, is_split))),
            Kind::Preset(name) if !is_split => {
                let policy = Policy::preset(name).ok_or_else(|| format!("no preset is called {name}"))?;
                (RouterOptions::default(), policy)
            }
            Kind::Preset(name) => {
                let config = format!(
                    "policy: {{preset: {name}, prefill: {{max_uncached_tokens: {MAX_UNCACHED_TOKENS}}}}}"
                );
                (RouterOptions::default(), Config::from_yaml(&config)?.policy()?)
            }
            Kind::Config(config) => {
                let mut config = config.as_ref().clone();
                if !is_split {
                    config.policy.prefill = None;
                } else if config.policy.prefill.is_none() {
                    let plain =
                        format!("policy: {{prefill: {{max_uncached_tokens: {MAX_UNCACHED_TOKENS}}}}}");
                    let mut prefill = Config::from_yaml(&plain)?.policy.prefill;
                    if let Some(prefill) = &mut prefill {
                        prefill.scorers = config.policy.decode.scorers.clone();
                    }
                    config.policy.prefill = prefill;
                }
                (config.router_options()?, config.policy()?)
            }
        };
        let hasher = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE as u32)?;
        let domain = Arc::new(CacheDomain::new("llama-3.1-8b", hasher)?);
        let policy = KvroutePolicy::new(Router::new(options, policy)?, domain).with_sessions();
        Ok(Instance::Kvroute(Box::new(policy)))
    }
}

impl From<Baseline> for Candidate {
    fn from(baseline: Baseline) -> Self {
        Self { name: baseline.name().into(), kind: Kind::Baseline(baseline) }
    }
}

/// The name of the preset that a router has without being told; `None` if it is none of them.
#[must_use]
pub fn default_preset() -> Option<&'static str> {
    // Policies cannot be compared, but all that they are made of shows itself.
    let shown = |policy: &Policy| format!("{policy:?}");
    let default = shown(&Policy::default());
    let is_default = |name: &&str| Policy::preset(name).is_some_and(|policy| shown(&policy) == default);
    Policy::PRESETS.iter().copied().find(is_default)
}
