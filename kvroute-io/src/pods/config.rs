//! Pods as documents name them.

use std::collections::BTreeMap;
use std::fmt;

use kvroute_core::Role;
use kvroute_core::config::value::{labels, optional_text, present};
use kvroute_core::config::{EventsConfig as StreamConfig, Problem};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::PodUrl;
use crate::events::Mode;

/// A pod, or all those behind a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodConfig {
    /// Where its HTTP interface is, such as `http://10.0.0.7:8000`.
    pub url: PodUrl,
    /// Its name; host and port of the URL if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub name: Option<String>,
    /// Whether each address of the URL's host name (A and AAAA records, such as those of a headless service) is a pod
    /// of its own.
    #[serde(default)]
    pub resolve: bool,
    /// What it does.
    #[serde(default)]
    pub role: Role,
    /// Labels, for filters and scorers.
    #[serde(default, deserialize_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// How fast it computes, as a multiple of an ordinary pod; above 0.
    #[serde(default = "PodConfig::default_capacity")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub capacity: f64,
    /// Name of its cache domain, one of the router's `domains`; absent: made of what is learnt.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub domain: Option<String>,
    /// What it cannot say itself, or says wrongly.
    #[serde(default)]
    pub known: KnownConfig,
    /// How its stream of events is read. With a replay endpoint gaps are replayed, whatever this says.
    #[serde(default)]
    pub stream: StreamConfig,
}

/// What is known of pods without asking them. What is said here counts more than what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KnownConfig {
    /// Path or name of the weights; pods of different ones share no cache domain.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub model_root: Option<String>,
    /// Tokens a block.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "u32", range(min = 1, max = 65_536))]
    pub block_size: Option<u32>,
    /// Version of the engine, such as "0.32.0".
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub version: Option<String>,
    /// vLLM's `--prefix-caching-hash-algo`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub hash_algorithm: Option<String>,
    /// `PYTHONHASHSEED` of the engine, which no pod tells. If it is known, hashes are native: computed as the engine
    /// does, so that its events need no translation.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub hash_seed: Option<String>,
    /// How its blocks are hashed; absent: natively if `hash_seed` is known, else translated.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Hashing")]
    pub hashing: Option<Hashing>,
    /// Data-parallel ranks.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "u32", range(min = 1, max = 1024))]
    pub ranks: Option<u32>,
    /// ZeroMQ endpoint of rank 0's KV events, such as `tcp://*:5557`; rank r's port is r higher. A host that names no
    /// other machine is replaced by the pod's.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub events_endpoint: Option<String>,
    /// Who listens on that endpoint: the pod (`connect`: the router connects) or the router (`bind`); absent: vLLM's
    /// rule.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Mode")]
    pub events_mode: Option<Mode>,
    /// ZeroMQ endpoint of rank 0's replays, such as `tcp://*:5600`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub replay_endpoint: Option<String>,
    /// Topic of its events.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub topic: Option<String>,
}

/// How the blocks of a pod are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hashing {
    /// As the engine does. Needs its algorithm, version and seed; an unset seed is assumed where it is a fixed one
    /// (vLLM 0.29 and later, SHA-256).
    Native,
    /// By kvroute's own scheme, of the token ids in events. Works with any engine.
    Translated,
}

impl PodConfig {
    const fn default_capacity() -> f64 {
        1.0
    }

    /// A pod of which nothing is said but where it is.
    #[must_use]
    pub fn new(url: PodUrl) -> Self {
        Self {
            url,
            name: None,
            resolve: false,
            role: Role::default(),
            labels: BTreeMap::new(),
            capacity: Self::default_capacity(),
            domain: None,
            known: KnownConfig::default(),
            stream: StreamConfig::default(),
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.url.authority())
    }

    /// Finds what is wrong with it that its types do not rule out.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn checked(&self) -> Result<(), Problem> {
        if !self.capacity.is_finite() || self.capacity <= 0.0 {
            return Err(Problem::found(self.capacity, "a finite number above 0").at("capacity"));
        }
        if self.resolve && self.name.is_some() {
            let problem =
                Problem::new("the pods behind a name that is resolved are called by their addresses");
            return Err(problem.at("name"));
        }
        self.known.checked().map_err(|problem| problem.at("known"))
    }
}

impl KnownConfig {
    /// Most data-parallel ranks of a pod.
    pub const MAX_RANKS: u32 = 1024;

    pub(crate) fn checked(&self) -> Result<(), Problem> {
        if let Some(size) = self.block_size.filter(|size| !(1..=65_536).contains(size)) {
            return Err(Problem::found(size, "1 to 65536 tokens").at("block_size"));
        }
        if let Some(ranks) = self.ranks.filter(|ranks| !(1..=Self::MAX_RANKS).contains(ranks)) {
            return Err(Problem::found(ranks, format!("1 to {}", Self::MAX_RANKS)).at("ranks"));
        }
        Ok(())
    }

    /// What this says, and what `other` says where this says nothing.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        macro_rules! first {
            ($($field:ident),*) => {
                Self { $($field: self.$field.clone().or_else(|| other.$field.clone())),* }
            };
        }
        first!(
            model_root,
            block_size,
            version,
            hash_algorithm,
            hash_seed,
            hashing,
            ranks,
            events_endpoint,
            events_mode,
            replay_endpoint,
            topic
        )
    }
}

/// A pod as an item of a list: its URL, or a mapping.
struct Item(PodConfig);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL such as http://10.0.0.7:8000, or a mapping with one")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<Item, E> {
                url.parse().map(|url| Item(PodConfig::new(url))).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Item, A::Error> {
                PodConfig::deserialize(MapAccessDeserializer::new(entries)).map(Item)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Reads a list of pods, each its URL or a mapping.
pub(crate) fn pods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PodConfig>, D::Error> {
    let items = Vec::<Item>::deserialize(deserializer)?;
    Ok(items.into_iter().map(|item| item.0).collect())
}

/// The schema of such a list.
pub(crate) fn pods_schema(generator: &mut SchemaGenerator) -> Schema {
    let (url, pod) = (generator.subschema_for::<PodUrl>(), generator.subschema_for::<PodConfig>());
    json_schema!({ "type": "array", "items": { "anyOf": [url, pod] } })
}
