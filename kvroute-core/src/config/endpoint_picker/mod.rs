//! llm-d's `EndpointPickerConfig` (llm-d-router ebab687, `apix/config/v1alpha1` and the plugins' own packages). What
//! maps to what is in the documentation of [`Config::from_endpoint_picker`].
//!
//! The document is read as a tree; plugins are found in the table of [`types`], and what refers to them is followed
//! from the profile handler down. Whatever is passed over on the way leaves a note.

mod filters;
mod handlers;
mod node;
mod notes;
mod plugins;
mod producers;
mod profile;
mod scorers;
mod sections;
mod tree;
mod types;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::options::OverloadConfig;
use super::policy::{CreditsConfig, PrefillConfig, ProfileConfig, ScorersConfig};
use super::problem::Problem;
use super::{Config, Document as _, parse};
use node::{Mapping, Node};
use notes::Notes;
use plugins::{Plugin, Plugins};
use profile::Draft;
use tree::Document;
use types::Kind;

/// What has been found out so far.
#[derive(Debug)]
struct Translation<'p, 'd> {
    plugins: &'p Plugins<'d>,
    notes: Notes,
    /// Positions of plugins that something refers to.
    used: BTreeSet<usize>,
    /// What blocks of each tier count for, and whether a plugin says so.
    credits: CreditsConfig,
    has_credits: bool,
    // What is the router's, and one plugin's to say.
    max_predicted: Option<u64>,
    text_block_bytes: Option<u32>,
    speculation_ms: Option<u64>,
    session_seconds: Option<u64>,
    overload: Option<OverloadConfig>,
}

pub(super) fn read(text: &str) -> Result<(Config, Vec<String>), Problem> {
    let document = Document::read(text)?;
    let node = Node::root(&document);
    let root = node.clone().mapping(&parse::ENDPOINT_PICKER_KEYS)?;
    let kind = root.need("kind")?;
    if kind.text()? != "EndpointPickerConfig" {
        return Err(kind.unexpected("EndpointPickerConfig"));
    }
    let version = root.need("apiVersion")?;
    if !["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"].contains(&version.text()?) {
        return Err(version.unexpected("llm-d.ai/v1alpha1 or inference.networking.x-k8s.io/v1alpha1"));
    }
    let plugins = Plugins::read(root.items("plugins")?)?;
    let mut t = Translation::new(&plugins);
    for plugin in plugins.iter() {
        t.produce(plugin)?;
    }
    let profiles = profile::read(&mut t, &node, root.items("schedulingProfiles")?)?;
    let plan = handlers::plan(&mut t, &node, &profiles)?;
    let decode = profiles[plan.decode].draft(&mut t)?;
    let prefill = match plan.prefill {
        Some((at, thresholds)) => Some((profiles[at].draft(&mut t)?, thresholds)),
        None => None,
    };
    t.rest(&profiles)?;
    sections::read(&mut t, &root)?;

    let mut config = t.config();
    config.policy.decode = decode.profile();
    config.policy.prefill = prefill.map(|(draft, thresholds)| PrefillConfig {
        min_prompt_tokens: thresholds.min_prompt_tokens,
        ..draft.prefill(thresholds.max_uncached_tokens)
    });
    // Nothing that is read above should be refused; if it is, this names where it ended up.
    config.checked()?;
    Ok((config, t.notes.lines()))
}

impl<'p, 'd> Translation<'p, 'd> {
    fn new(plugins: &'p Plugins<'d>) -> Self {
        Self {
            plugins,
            notes: Notes::default(),
            used: BTreeSet::new(),
            credits: CreditsConfig::default(),
            has_credits: false,
            max_predicted: None,
            text_block_bytes: None,
            speculation_ms: None,
            session_seconds: None,
            overload: None,
        }
    }

    /// Notes something of a plugin.
    fn note(&mut self, plugin: &Plugin<'_>, note: &str) {
        self.notes.add(plugin.path(), &format!(" ({})", plugin.is.name), note);
    }

    /// Checks the plugins that another says it reads from, by these keys.
    fn reads(&mut self, given: &Mapping<'_>, keys: &[&str]) -> Result<(), Problem> {
        for key in keys {
            if let Some(name) = given.text(key)? {
                self.plugins.check(&given.need(key)?)?;
                self.used.extend(self.plugins.find(name).map(|plugin| plugin.at));
            }
        }
        Ok(())
    }

    /// Reads what a plugin says of the router, whoever refers to it.
    fn produce(&mut self, plugin: &Plugin<'_>) -> Result<(), Problem> {
        match plugin.kind() {
            _ if plugin.is_precise() => self.precise(plugin),
            Kind::Approximate | Kind::Other if !plugin.is.missing.is_empty() => {
                self.note(plugin, &format!("not mapped: {}", plugin.is.missing));
                Ok(())
            }
            Kind::Approximate => self.approximate(plugin),
            _ => Ok(()),
        }
    }

    /// Sees to the plugins and profiles that nothing referred to: mistakes in them are mistakes still.
    fn rest(&mut self, profiles: &[profile::Profile<'d>]) -> Result<(), Problem> {
        let plugins = self.plugins;
        // Where what is found out and noted goes that nobody asks for.
        let scratch = &mut Self::new(plugins);
        for profile in profiles {
            profile.draft(scratch)?;
        }
        for plugin in plugins.iter().filter(|plugin| plugin.kind() == Kind::Detector) {
            let is_used = self.used.contains(&plugin.at);
            match plugin.is.missing {
                "" if !is_used => self.detector(plugin, false)?,
                "" => {}
                missing => self.note(plugin, &format!("not mapped: {missing}")),
            }
        }
        for plugin in plugins.iter().filter(|plugin| !self.used.contains(&plugin.at)).collect::<Vec<_>>() {
            match plugin.kind() {
                Kind::Filter => filters::add(scratch, plugin, &mut Draft::default())?,
                Kind::Scorer => scorers::add(scratch, plugin, 1.0, &mut ScorersConfig::default())?,
                Kind::Picker => Draft::default().pick(scratch, plugin)?,
                Kind::Decider if plugin.is.missing.is_empty() => {
                    handlers::thresholds(scratch, plugin)?;
                }
                Kind::Precise => {
                    let note = "no scorer reads it: name it in a scorer's `prefixMatchInfoProducerName`";
                    self.note(plugin, note);
                    continue;
                }
                Kind::Decider => {}
                Kind::Handler | Kind::Approximate | Kind::Detector | Kind::Other => continue,
            }
            self.note(plugin, "not mapped: no profile and no profile handler that is mapped refers to it");
        }
        Ok(())
    }

    /// What is the router's.
    fn config(&self) -> Config {
        let mut config = Config::default();
        let set = |place: &mut u64, value: Option<u64>| *place = value.unwrap_or(*place);
        set(&mut config.index.max_predicted, self.max_predicted);
        set(&mut config.requests.speculation_ms, self.speculation_ms);
        set(&mut config.sessions.ttl_seconds, self.session_seconds);
        config.text_block_bytes = self.text_block_bytes.unwrap_or(config.text_block_bytes);
        config.overload = self.overload.clone().unwrap_or(config.overload);
        config
    }
}

impl Draft {
    fn profile(self) -> ProfileConfig {
        let Self { filters, scorers, picker, fallbacks, .. } = self;
        let (filters, scorers) = (Some(filters), Some(scorers));
        ProfileConfig { filters, scorers, picker, fallbacks, ..ProfileConfig::default() }
    }

    fn prefill(self, max_uncached_tokens: u64) -> PrefillConfig {
        let Self { filters, scorers, picker, fallbacks, .. } = self;
        let (filters, scorers) = (Some(filters), Some(scorers));
        PrefillConfig { filters, scorers, picker, fallbacks, ..PrefillConfig::new(max_uncached_tokens) }
    }
}
