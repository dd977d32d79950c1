//! The list of plugins, and references to them.

use alloc::format;
use alloc::vec::Vec;

use super::super::problem::{Path, Problem, nearest, shown, unknown};
use super::node::{Mapping, Node};
use super::types::{Kind, Type};

/// A plugin of the list.
#[derive(Debug)]
pub(super) struct Plugin<'d> {
    pub(super) at: usize,
    pub(super) name: &'d str,
    pub(super) is: &'static Type,
    spec: Mapping<'d>,
}

impl<'d> Plugin<'d> {
    fn read(at: usize, node: Node<'d>) -> Result<Self, Problem> {
        let spec = node.mapping(&["name", "type", "parameters"])?;
        let name = spec.need("type")?.text()?;
        let Some(is) = Type::find(name) else {
            let found = shown(name);
            let near = nearest(name, &Type::names());
            let end =
                near.map_or("llm-d has none of this name".into(), |near| format!("did you mean `{near}`?"));
            return Err(spec.need("type")?.problem(format!("unknown plugin type `{found}`; {end}")));
        };
        Ok(Self { at, name: spec.text("name")?.unwrap_or(name), is, spec })
    }

    /// What it does.
    pub(super) fn kind(&self) -> Kind {
        self.is.kind
    }

    /// Whether it says how much of a prompt pods have by their events. llm-d's older scorer does so itself.
    pub(super) fn is_precise(&self) -> bool {
        self.kind() == Kind::Precise || self.is.name == "precise-prefix-cache-scorer"
    }

    pub(super) fn path(&self) -> &Path {
        self.spec.node().path()
    }

    /// What is wrong with it as a whole.
    pub(super) fn problem(&self, message: &str) -> Problem {
        self.spec.node().problem(message)
    }

    /// Its parameters, some of these keys.
    pub(super) fn parameters(&self, known: &[&str]) -> Result<Mapping<'d>, Problem> {
        let given = self.spec.mapping("parameters", known)?;
        Ok(given.unwrap_or_else(|| Mapping::none(self.spec.node().clone())))
    }
}

/// The plugins of a document.
#[derive(Debug)]
pub(super) struct Plugins<'d>(Vec<Plugin<'d>>);

impl<'d> Plugins<'d> {
    /// Most plugins, and most profiles: each is compared with the others.
    pub(super) const MAX: usize = 1000;

    pub(super) fn read(items: Vec<Node<'d>>) -> Result<Self, Problem> {
        if let Some(node) = items.get(Self::MAX) {
            return Err(node.problem(format!(
                "found {} plugins, expected {} at most",
                items.len(),
                Self::MAX
            )));
        }
        let mut plugins: Vec<Plugin<'d>> = Vec::with_capacity(items.len());
        for (at, node) in items.into_iter().enumerate() {
            let plugin = Plugin::read(at, node)?;
            if let Some(first) = plugins.iter().find(|other| other.name == plugin.name) {
                let name = shown(plugin.name);
                return Err(plugin.problem(&format!("`{name}` is there already, at {}", first.path())));
            }
            plugins.push(plugin);
        }
        Ok(Self(plugins))
    }

    /// The plugin at a position.
    pub(super) fn get(&self, at: usize) -> &Plugin<'d> {
        &self.0[at]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Plugin<'d>> {
        self.0.iter()
    }

    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Plugin<'d>> {
        self.0.iter().filter(move |plugin| plugin.kind() == kind)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Plugin<'d>> {
        self.0.iter().find(|plugin| plugin.name == name)
    }

    /// The plugin that a reference names.
    pub(super) fn refer(&self, reference: &Node<'_>) -> Result<&Plugin<'d>, Problem> {
        let name = reference.text()?;
        self.find(name).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|plugin| plugin.name).collect();
            reference.problem(unknown("plugin", name, &names))
        })
    }

    /// Checks a reference to a plugin that means nothing here; llm-d adds some by itself.
    pub(super) fn check(&self, reference: &Node<'_>) -> Result<(), Problem> {
        let is_made = Type::find(reference.text()?).is_some_and(Type::is_made_by_default);
        if is_made { Ok(()) } else { self.refer(reference).map(drop) }
    }
}
