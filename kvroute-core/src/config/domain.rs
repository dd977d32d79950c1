//! Cache domains: which pods' blocks mean the same, and how they are hashed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::problem::Problem;
use super::value::{from_hex, optional_text, present, texts};
use crate::CacheDomain;
use crate::hash::{
    BlockHasher, HashScheme, HashSeed, MultimodalForm, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme,
};

/// A set of pods whose blocks mean the same: same model weights, same block hashes, same block size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// Tokens a block, as the engines have it.
    #[schemars(range(min = 1, max = 65_536))]
    pub block_size: u32,
    /// How its blocks are hashed.
    #[serde(default)]
    pub scheme: SchemeConfig,
    /// Names of the models its pods serve, as requests give them; none: any.
    #[serde(default, deserialize_with = "texts")]
    pub models: Vec<String>,
}

/// How blocks are hashed: `own`, `{own: {...}}` or `{vllm: {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SchemeConfig {
    /// kvroute's own scheme: events' token ids are hashed again, whatever the engine's own hashes are.
    /// Works with any engine.
    Own(OwnConfig),
    /// vLLM's own hashes: events need no translation.
    Vllm(VllmConfig),
}

impl Default for SchemeConfig {
    fn default() -> Self {
        Self::Own(OwnConfig::default())
    }
}

impl<'de> Deserialize<'de> for SchemeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const NAMES: &[&str] = &["own", "vllm"];

        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case", variant_identifier)]
        enum Name {
            Own,
            Vllm,
        }

        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = SchemeConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`own`, {own: ...} or {vllm: ...}")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<SchemeConfig, E> {
                match name {
                    "own" => Ok(SchemeConfig::default()),
                    "vllm" => Err(E::custom(
                        "found `vllm` alone, expected its algorithm too: {vllm: {algorithm: sha256, ...}}",
                    )),
                    other => Err(E::unknown_variant(other, NAMES)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<SchemeConfig, A::Error> {
                let one = || de::Error::custom("expected one scheme, `own` or `vllm`");
                let scheme = match entries.next_key()?.ok_or_else(one)? {
                    Name::Own => SchemeConfig::Own(entries.next_value()?),
                    Name::Vllm => SchemeConfig::Vllm(entries.next_value()?),
                };
                match entries.next_key::<Name>()? {
                    None => Ok(scheme),
                    Some(_) => Err(one()),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for SchemeConfig {
    fn schema_name() -> alloc::borrow::Cow<'static, str> {
        "SchemeConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (own, vllm) = (generator.subschema_for::<OwnConfig>(), generator.subschema_for::<VllmConfig>());
        json_schema!({
            "description": "How blocks are hashed: `own`, `{own: {...}}` or `{vllm: {...}}`.",
            "oneOf": [
                { "const": "own" },
                {
                    "type": "object", "properties": { "own": own },
                    "required": ["own"], "additionalProperties": false
                },
                {
                    "type": "object", "properties": { "vllm": vllm },
                    "required": ["vllm"], "additionalProperties": false
                }
            ]
        })
    }
}

/// kvroute's own scheme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OwnConfig {
    /// Seed of all hashes. The default is shared with Dynamo and SMG; a random one that only the routers
    /// know makes it harder to craft prompts that collide.
    pub seed: u64,
    /// The form in which the engines publish multimodal items.
    #[serde(with = "MultimodalForms")]
    #[schemars(with = "MultimodalForms")]
    pub multimodal: MultimodalForm,
}

impl Default for OwnConfig {
    fn default() -> Self {
        Self { seed: OwnScheme::DEFAULT_SEED, multimodal: MultimodalForm::default() }
    }
}

/// The form in which engines publish multimodal items.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "MultimodalForm", rename_all = "kebab-case")]
enum MultimodalForms {
    /// Identifier and offset: vLLM 0.19 and later.
    Offset,
    /// The bare identifier: vLLM before 0.19.
    Identifier,
}

/// vLLM's own hashes. One of `version` and `era` is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VllmConfig {
    /// `--prefix-caching-hash-algo` of the engines.
    #[serde(with = "algorithm")]
    #[schemars(with = "Algorithms")]
    pub algorithm: VllmAlgorithm,
    /// Version of the engines, such as "0.32.0".
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub version: Option<String>,
    /// The range their version is in, where no more is known.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "era")]
    #[schemars(with = "Eras")]
    pub era: Option<VllmEra>,
    /// `PYTHONHASHSEED` of the engines. Absent: it is not set, which only vLLM 0.29 and later can do
    /// with, and only with a SHA-256 algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String")]
    pub python_hash_seed: Option<String>,
    /// vLLM's `NONE_HASH` itself, in place of `python_hash_seed`; hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_text")]
    #[schemars(with = "String", regex(pattern = "^([0-9a-fA-F]{2})+$"))]
    pub none_hash: Option<String>,
    /// Tokens after a block that its hash covers (draft models, vLLM 0.33).
    #[serde(default)]
    pub lookahead: u32,
}

/// vLLM's names of its hash algorithms.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "describes the schema of `algorithm`")]
enum Algorithms {
    Sha256,
    Sha256Cbor,
    Xxhash,
    XxhashCbor,
    #[serde(rename = "sha256_cbor_64bit")]
    Sha256Cbor64bit,
}

mod algorithm {
    use super::*;
    use crate::ErrorKind;

    const NAMES: &[&str] = &["sha256", "sha256_cbor", "xxhash", "xxhash_cbor", "sha256_cbor_64bit"];

    pub(super) fn serialize<S: Serializer>(algorithm: &VllmAlgorithm, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(algorithm.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VllmAlgorithm, D::Error> {
        let name = super::super::value::text(deserializer)?;
        VllmAlgorithm::from_name(&name).map_err(|error| match error.kind() {
            ErrorKind::NotReproducible => de::Error::custom(error),
            _ => de::Error::unknown_variant(&name, NAMES),
        })
    }
}

/// Ranges of vLLM versions whose hashes have one form.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "VllmEra", rename_all = "kebab-case")]
enum Eras {
    /// 0.9 to 0.11.0.
    IntLora,
    /// 0.11.1 to 0.18.
    MultimodalIdentifier,
    /// 0.19 to 0.30.
    MultimodalOffset,
    /// 0.31 and later.
    Tagged,
}

mod era {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Era(#[serde(with = "Eras")] VllmEra);

    pub(super) fn serialize<S: Serializer>(era: &Option<VllmEra>, s: S) -> Result<S::Ok, S::Error> {
        era.map(Era).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<VllmEra>, D::Error> {
        present::<D, Era>(d).map(|era| era.map(|era| era.0))
    }
}

impl DomainConfig {
    pub(super) fn domain(&self, name: &str) -> Result<Arc<CacheDomain>, Problem> {
        if name.is_empty() {
            return Err(Problem::new("a domain needs a name"));
        }
        let scheme = match &self.scheme {
            SchemeConfig::Own(own) => {
                HashScheme::Own(OwnScheme::new(own.seed).with_multimodal(own.multimodal))
            }
            SchemeConfig::Vllm(vllm) => {
                HashScheme::Vllm(vllm.scheme().map_err(|p| p.at("vllm").at("scheme"))?)
            }
        };
        let hasher = BlockHasher::new(scheme, self.block_size).map_err(|_| {
            let expected = format!("1 to {} tokens", BlockHasher::MAX_BLOCK_SIZE);
            Problem::found(self.block_size, expected).at("block_size")
        })?;
        if let Some(at) = self.models.iter().position(String::is_empty) {
            return Err(Problem::new("found an empty text, expected a model's name").at(at).at("models"));
        }
        Ok(Arc::new(CacheDomain::new(name, hasher)?.with_models(&self.models)))
    }
}

impl VllmConfig {
    fn scheme(&self) -> Result<VllmScheme, Problem> {
        let Self { algorithm, version, era, python_hash_seed, none_hash, lookahead } = self;
        let era_of = |version: &str| VllmEra::of_version(version).map_err(|e| Problem::from(e).at("version"));
        let seed = python_hash_seed.clone().map_or(HashSeed::Unset, HashSeed::Value);
        let scheme = match (version, era, none_hash) {
            (None, None, _) => {
                return Err(Problem::new("expected `version`, such as \"0.32.0\", or `era`"));
            }
            (Some(_), Some(_), _) => return Err(Problem::new("`version` says it already").at("era")),
            (_, _, Some(_)) if python_hash_seed.is_some() => {
                return Err(
                    Problem::new("stands in for `python_hash_seed`, which is there too").at("none_hash")
                );
            }
            (version, era, Some(digits)) => {
                let era = match (era, version) {
                    (Some(era), _) => *era,
                    (None, version) => era_of(version.as_deref().unwrap_or_default())?,
                };
                let bytes = from_hex(digits).ok_or_else(|| {
                    Problem::new("found something else, expected hexadecimal digits, two a byte")
                        .at("none_hash")
                })?;
                VllmScheme::from_none_hash(*algorithm, era, &bytes)
                    .map_err(|e| Problem::from(e).at("none_hash"))?
            }
            (Some(version), None, None) => {
                era_of(version)?;
                VllmScheme::for_version(*algorithm, version, &seed)?
            }
            (None, Some(era), None) => VllmScheme::for_era(*algorithm, *era, &seed)?,
        };
        scheme.with_lookahead(*lookahead).map_err(|e| Problem::from(e).at("lookahead"))
    }
}
