//! Which models and adapters are served, and by which pods.

use kvroute_core::hash::Lora;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

/// A name that requests may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Model {
    /// The name.
    pub name: String,
    /// Of an adapter, the served name of the model it adapts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Of an adapter, what its requests' [`HashContext`](kvroute_core::HashContext) needs. Where pods loaded it from
    /// different paths, it is the path of most of them.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lora")]
    pub lora: Option<Lora>,
    /// Path or name of the weights, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Most tokens of prompt and answer together, if known; the least of all pods'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u64>,
    /// Names of the pods that serve it, sorted.
    pub pods: Vec<String>,
    /// Whether not all pods that serve `base` serve this adapter too. Then requests need `pods` as their
    /// [`subset`](kvroute_core::Request::subset).
    pub is_partial: bool,
}

impl Model {
    /// What requests for it give as [`Request::model`](kvroute_core::Request::model): cache domains list models, not
    /// adapters.
    #[must_use]
    pub fn served(&self) -> &str {
        self.base.as_deref().unwrap_or(&self.name)
    }
}

fn lora<S: Serializer>(lora: &Option<Lora>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(Lora { name, path, id }) = lora else { return serializer.serialize_none() };
    let mut fields = serializer.serialize_struct("Lora", 3)?;
    fields.serialize_field("name", name)?;
    fields.serialize_field("path", path)?;
    fields.serialize_field("id", id)?;
    fields.end()
}

/// A model or adapter, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ModelStatus {
    /// The name.
    pub name: String,
    /// Of an adapter, the model it adapts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Where most pods have it from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Pods that serve it.
    pub pods: usize,
    /// Other paths it was loaded from by some pods. In a native cache domain their blocks are never matched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_roots: Vec<String>,
}
