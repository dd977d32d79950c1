//! A scheduling profile: which plugins it refers to, and the profile that they make here.

use alloc::format;
use alloc::vec::Vec;

use super::super::policy::{FilterConfig, LoadConfig, PickerConfig, ScorersConfig};
use super::super::problem::{Problem, shown};
use super::Translation;
use super::node::Node;
use super::plugins::{Plugin, Plugins};
use super::types::Kind;
use super::{filters, scorers};

/// A profile of the document.
#[derive(Debug)]
pub(super) struct Profile<'d> {
    pub(super) name: &'d str,
    pub(super) node: Node<'d>,
    /// Positions of the plugins it refers to, and their weights.
    plugins: Vec<(usize, f64)>,
}

/// What becomes of it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) filters: Vec<FilterConfig>,
    pub(super) scorers: ScorersConfig,
    pub(super) picker: PickerConfig,
    pub(super) fallbacks: u32,
    /// Positions of filters that keep a session on its pod.
    pub(super) pins: Vec<usize>,
    /// Whether the picker takes any pod.
    is_random: bool,
}

/// Reads the profiles. Without any, all filters, scorers and pickers make one, as llm-d has it.
pub(super) fn read<'d>(
    t: &mut Translation<'_, 'd>,
    root: &Node<'d>,
    items: Vec<Node<'d>>,
) -> Result<Vec<Profile<'d>>, Problem> {
    let mut profiles: Vec<Profile<'d>> = Vec::with_capacity(items.len());
    if items.is_empty() {
        let is_asked = |kind| matches!(kind, Kind::Filter | Kind::Scorer | Kind::Picker);
        let plugins =
            t.plugins.iter().filter(|plugin| is_asked(plugin.kind())).map(|plugin| (plugin.at, 1.0));
        return Ok([Profile { name: "default", node: root.clone(), plugins: plugins.collect() }].into());
    }
    if let Some(node) = items.get(Plugins::MAX) {
        return Err(node.problem(format!(
            "found {} profiles, expected {} at most",
            items.len(),
            Plugins::MAX
        )));
    }
    for node in items {
        let profile = node.clone().mapping(&["name", "plugins"])?;
        let name = profile.need("name")?.text()?;
        if name.is_empty() {
            return Err(profile.need("name")?.unexpected("a text"));
        }
        if let Some(first) = profiles.iter().find(|other| other.name == name) {
            let name = shown(name);
            return Err(node.problem(format!("`{name}` is there already, at {}", first.node.path())));
        }
        let plugins = profile.items("plugins")?.into_iter().map(|item| reference(t, item));
        let plugins = plugins.collect::<Result<_, _>>()?;
        profiles.push(Profile { name, node, plugins });
    }
    Ok(profiles)
}

/// Position and weight of a plugin that a profile refers to.
fn reference<'d>(t: &mut Translation<'_, 'd>, item: Node<'d>) -> Result<(usize, f64), Problem> {
    let item = item.mapping(&["pluginRef", "weight"])?;
    let plugin = t.plugins.refer(&item.need("pluginRef")?)?;
    // Without a weight llm-d takes 1.
    let weight = item.get("weight").map_or(Ok(1.0), |weight| weight.number_in(0.0, f64::MAX))?;
    if item.get("weight").is_some() && plugin.kind() != Kind::Scorer {
        t.notes.add(item.node().path(), "", "`weight` is not mapped: it means nothing for what is no scorer");
    }
    Ok((plugin.at, weight))
}

impl<'d> Profile<'d> {
    /// The profile that its plugins make here.
    pub(super) fn draft(&self, t: &mut Translation<'_, 'd>) -> Result<Draft, Problem> {
        // What llm-d does before any profile: pods that are ready, of the model, and those of Envoy's subset hint.
        let mut draft = Draft {
            filters: [FilterConfig::Accepting, FilterConfig::Model, FilterConfig::Subset].into(),
            ..Draft::default()
        };
        let mut has_picker = false;
        let plugins = t.plugins;
        for &(at, weight) in &self.plugins {
            let plugin = plugins.get(at);
            t.used.insert(at);
            match plugin.kind() {
                Kind::Filter => filters::add(t, plugin, &mut draft)?,
                Kind::Scorer => scorers::add(t, plugin, weight, &mut draft.scorers)?,
                Kind::Picker if has_picker => {
                    let name = shown(plugin.name);
                    return Err(self.node.problem(format!("found a second picker, `{name}`, expected one")));
                }
                Kind::Picker => {
                    has_picker = true;
                    draft.pick(t, plugin)?;
                }
                // Detectors filter, too.
                Kind::Detector => filters::add(t, plugin, &mut draft)?,
                _ => {
                    let message = format!(
                        "`{}` is a {}, which is no filter, scorer or picker",
                        shown(plugin.name),
                        plugin.is.name
                    );
                    return Err(self.node.problem(message));
                }
            }
        }
        // A profile without a picker gets any that there is, or the one with the highest score.
        if !has_picker && let Some(plugin) = plugins.of_kind(Kind::Picker).next() {
            t.used.insert(plugin.at);
            draft.pick(t, plugin)?;
        }
        draft.finish(t, self)?;
        Ok(draft)
    }
}

impl Draft {
    /// Most fallbacks that a profile can have.
    const MAX_FALLBACKS: i64 = 16;

    pub(super) fn pick(&mut self, t: &mut Translation<'_, '_>, plugin: &Plugin<'_>) -> Result<(), Problem> {
        let given = plugin.parameters(&["maxNumOfEndpoints"])?;
        // 1, as llm-d has it, where it is not above 0.
        let others = given.whole("maxNumOfEndpoints")?.unwrap_or(1).max(1) - 1;
        if others > Self::MAX_FALLBACKS {
            let most = Self::MAX_FALLBACKS;
            t.note(
                plugin,
                &format!("`maxNumOfEndpoints` is mapped to {most} `fallbacks`, the most there can be"),
            );
        }
        self.fallbacks = others.min(Self::MAX_FALLBACKS) as u32;
        match plugin.is.name {
            "weighted-random-picker" => self.picker = PickerConfig::WeightedRandom,
            "random-picker" => {
                let note = "the picker `weighted-random` with all weights 0: each pod as often as the others, \
                            whatever its scores";
                t.note(plugin, note);
                self.picker = PickerConfig::WeightedRandom;
                self.is_random = true;
            }
            _ => self.picker = PickerConfig::MaxScore,
        }
        Ok(())
    }

    fn finish(&mut self, t: &mut Translation<'_, '_>, profile: &Profile<'_>) -> Result<(), Problem> {
        self.pin(t, profile)?;
        if self.is_random {
            self.scorers.weights().for_each(|weight| *weight = 0.0);
        }
        if self.scorers.weights().next().is_none() {
            let note =
                "without a scorer any pod is as good as another; here that is the scorer `load` of weight 0";
            t.notes.add(profile.node.path(), "", note);
            let limit = LoadConfig::default_limit();
            self.scorers.load = Some(LoadConfig { weight: 0.0, limit });
        }
        // Each is finite; together they may not be.
        let sum: f64 = self.scorers.weights().map(|weight| *weight).sum();
        if sum.is_finite() {
            Ok(())
        } else {
            Err(profile.node.problem("the weights are too high to be added up"))
        }
    }

    /// A filter that keeps a session on its pod is a scorer that outweighs all others.
    fn pin(&mut self, t: &mut Translation<'_, '_>, profile: &Profile<'_>) -> Result<(), Problem> {
        let plugins = t.plugins;
        let sum: f64 = self.scorers.weights().map(|weight| *weight).sum();
        for plugin in plugins.iter().filter(|plugin| self.pins.contains(&plugin.at)) {
            if self.picker != PickerConfig::MaxScore {
                t.note(
                    plugin,
                    "not mapped: it would be the scorer `session`, which keeps nothing with a random picker",
                );
                continue;
            }
            t.note(
                plugin,
                "the scorer `session` with more weight than the others together; the filters that follow still count",
            );
            let weight = 2.0 * sum + 1.0;
            if !weight.is_finite() {
                return Err(profile.node.problem("the weights are too high to be added up"));
            }
            scorers::plus(&mut self.scorers.session, weight);
        }
        Ok(())
    }
}
