//! The environment variables of llm-d's first scheduler (llm-d-inference-scheduler 0.1,
//! `pkg/config/config.go`). The rules are in the documentation of [`Config::from_env_pairs`].

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::policy::{KvCacheConfig, LoadConfig, ScorersConfig, WeightConfig};
use super::problem::{Problem, shown};
use super::{Config, Document, PrefillConfig, Preset};
use crate::request::Prompt;

/// Scorers that are here too, in the order of [`ScorersConfig`]'s fields.
const SCORERS: [&str; 4] =
    ["KVCACHE_AWARE_SCORER", "PREFIX_AWARE_SCORER", "SESSION_AWARE_SCORER", "LOAD_AWARE_SCORER"];

/// Plugins that are not.
const FOREIGN: [&str; 8] = [
    "GIE_KVCACHE_UTILIZATION_SCORER",
    "GIE_LEAST_KVCACHE_FILTER",
    "GIE_LEAST_QUEUE_FILTER",
    "GIE_LORA_AFFINITY_FILTER",
    "GIE_LOW_QUEUE_FILTER",
    "GIE_PREFIX_SCORER",
    "GIE_QUEUE_SCORER",
    "GIE_SHEDDABLE_CAPACITY_FILTER",
];

/// Variables that mean nothing here, whatever their value, and why.
const INERT: [(&str, &str); 6] = [
    ("HF_TOKEN", "kvroute tokenizes nothing"),
    ("KVCACHE_INDEXER_REDIS_ADDR", "the index is fed by the pods' KV events, without Redis"),
    ("PREFILL_KVCACHE_INDEXER_REDIS_ADDR", "the index is fed by the pods' KV events, without Redis"),
    ("PREFIX_CACHE_HASH_BLOCK_SIZE", "it belongs to GIE_PREFIX_SCORER, which kvroute does not have"),
    ("PREFIX_CACHE_LRU_CAPACITY", "it belongs to GIE_PREFIX_SCORER, which kvroute does not have"),
    ("PREFIX_CACHE_MAX_PREFIX_BLOCKS", "it belongs to GIE_PREFIX_SCORER, which kvroute does not have"),
];

const PD_ENABLED: &str = "PD_ENABLED";
const PD_THRESHOLD: &str = "PD_PROMPT_LEN_THRESHOLD";
const BLOCK_SIZE: &str = "PREFIX_SCORER_BLOCK_SIZE";
const QUEUE_THRESHOLD: &str = "LOAD_AWARE_SCORER_QUEUE_THRESHOLD";

/// Default of [`PD_THRESHOLD`]; bytes.
const DEFAULT_THRESHOLD: u32 = 100;

/// Shortest name that a misspelt one is compared with: among shorter ones, strangers are near.
const LEAST_COMPARED: usize = 12;

/// What is set, and what was not used of it.
struct Variables {
    values: BTreeMap<String, String>,
    notes: BTreeMap<String, String>,
}

pub(super) fn read<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<(Config, Vec<String>), Problem>
where
    K: AsRef<str>,
    V: AsRef<str>,
{
    let known = known();
    let mut values = BTreeMap::new();
    for (name, value) in pairs {
        let name = name.as_ref();
        if known.iter().any(|known| known == name) || INERT.iter().any(|(inert, _)| *inert == name) {
            if values.insert(name.to_owned(), value.as_ref().to_owned()).is_some() {
                return Err(Problem::new(format!("{name}: it is given twice")));
            }
        } else if is_misspelt(name, &known) {
            let upper = name.to_ascii_uppercase();
            let near = known.iter().min_by_key(|known| strsim::osa_distance(&upper, known));
            let near = near.map(String::as_str).unwrap_or_default();
            return Err(Problem::new(format!("{name}: no such variable; did you mean `{near}`?")));
        }
    }
    let mut variables = Variables { values, notes: BTreeMap::new() };
    let config = variables.config()?;
    Ok((config, variables.notes.into_iter().map(|(name, why)| format!("{name}: {why}")).collect()))
}

/// All names of the family but the inert ones.
fn known() -> Vec<String> {
    let mut names: Vec<String> =
        [PD_ENABLED, PD_THRESHOLD, BLOCK_SIZE, QUEUE_THRESHOLD].map(String::from).to_vec();
    for plugin in SCORERS.iter().chain(&FOREIGN) {
        for prefill in ["", "PREFILL_"] {
            names.push(format!("{prefill}ENABLE_{plugin}"));
            names.push(format!("{prefill}{plugin}_WEIGHT"));
        }
    }
    names
}

/// Whether a name that is not known was meant to be one that is.
fn is_misspelt(name: &str, known: &[String]) -> bool {
    // The distance of two names costs the product of their lengths.
    if name.len() > 100 {
        return false;
    }
    let name = name.to_ascii_uppercase();
    let bare = name.strip_prefix("PREFILL_").unwrap_or(&name);
    let is_plugin = bare.ends_with("_SCORER") || bare.ends_with("_FILTER");
    let mut long = known.iter().filter(|known| known.len() >= LEAST_COMPARED);
    bare.contains("_AWARE_SCORER")
        || bare.starts_with("ENABLE_") && is_plugin
        || bare.starts_with("GIE_") && (bare.contains("_SCORER") || bare.contains("_FILTER"))
        || bare.starts_with("PD_ENABLE")
        || bare.starts_with("PD_PROMPT")
        || long.any(|known| strsim::osa_distance(&name, known) <= 2)
}

impl Variables {
    fn config(&mut self) -> Result<Config, Problem> {
        let mut config = Config::default();
        config.policy.preset = Preset::LlmDDemo;
        if let Some(bytes) = self.number(BLOCK_SIZE)? {
            config.text_block_bytes = bytes;
            config.checked().map_err(|_| {
                let expected = "a multiple of 4 from 4 to 262144";
                Problem::new(format!("{BLOCK_SIZE}: found `{bytes}`, expected {expected}"))
            })?;
        }
        let has_prefill = self.boolean(PD_ENABLED)?;
        let threshold = self.number(PD_THRESHOLD)?.unwrap_or(DEFAULT_THRESHOLD);
        let limit = self.number(QUEUE_THRESHOLD)?;
        if limit == Some(0) {
            return Err(Problem::new(format!("{QUEUE_THRESHOLD}: found `0`, expected 1 or more")));
        }
        let decode = self.scorers("", limit)?;
        let prefill = self.scorers("PREFILL_", limit)?;
        self.foreign()?;
        for (name, why) in INERT {
            self.note(name, why);
        }
        let uses_load = decode.load.is_some() || has_prefill && prefill.load.is_some();
        if !uses_load {
            self.note(QUEUE_THRESHOLD, "LOAD_AWARE_SCORER is not enabled");
        }
        if has_prefill {
            let tokens = u64::from(threshold.saturating_sub(1)) / Prompt::BYTES_PER_TOKEN as u64;
            let scorers = Some(some_scorer(prefill, "PREFILL_")?);
            config.policy.prefill = Some(PrefillConfig { scorers, ..PrefillConfig::new(tokens) });
        } else {
            let of_prefill = |name: &&String| name.starts_with("PREFILL_") || *name == PD_THRESHOLD;
            let unused: Vec<String> = self.values.keys().filter(of_prefill).cloned().collect();
            for name in unused {
                self.note(&name, "PD_ENABLED is not `true`");
            }
        }
        config.policy.decode.scorers = Some(some_scorer(decode, "")?);
        Ok(config)
    }

    /// The scorers of a profile; `prefix` is the one of its variables.
    fn scorers(&mut self, prefix: &str, limit: Option<u32>) -> Result<ScorersConfig, Problem> {
        let mut weights = [None; SCORERS.len()];
        for (weight, plugin) in weights.iter_mut().zip(SCORERS) {
            let (enable, weight_name) =
                (format!("{prefix}ENABLE_{plugin}"), format!("{prefix}{plugin}_WEIGHT"));
            let given = self.number(&weight_name)?;
            if self.boolean(&enable)? {
                *weight = Some(f64::from(given.unwrap_or(1)));
            } else if given.is_some() {
                self.note(&weight_name, &format!("{enable} is not `true`"));
            }
        }
        let [kv_cache, prefix, session, load] = weights;
        Ok(ScorersConfig {
            kv_cache: kv_cache.map(|weight| KvCacheConfig { weight, credits: Default::default() }),
            prefix: prefix.map(|weight| WeightConfig { weight }),
            session: session.map(|weight| WeightConfig { weight }),
            load: load
                .map(|weight| LoadConfig { weight, limit: limit.unwrap_or(LoadConfig::default_limit()) }),
            ..ScorersConfig::default()
        })
    }

    /// Refuses plugins that are enabled and not here, notes those that are disabled.
    fn foreign(&mut self) -> Result<(), Problem> {
        for (prefix, plugin) in FOREIGN.iter().flat_map(|plugin| [("", plugin), ("PREFILL_", plugin)]) {
            let (enable, weight) = (format!("{prefix}ENABLE_{plugin}"), format!("{prefix}{plugin}_WEIGHT"));
            self.number(&weight)?;
            if self.boolean(&enable)? {
                let scorers = SCORERS.join(", ");
                return Err(Problem::new(format!(
                    "{enable}: found `true`, but kvroute has no such plugin; its scorers are {scorers}"
                )));
            }
            self.note(&enable, "kvroute has no such plugin");
            self.note(&weight, "kvroute has no such plugin");
        }
        Ok(())
    }

    /// Notes why a variable, if it is set, means nothing; the first reason stays.
    fn note(&mut self, name: &str, why: &str) {
        if self.values.contains_key(name) {
            self.notes.entry(name.to_owned()).or_insert_with(|| why.to_owned());
        }
    }

    fn boolean(&self, name: &str) -> Result<bool, Problem> {
        match self.values.get(name).map(String::as_str) {
            Some("true") => Ok(true),
            None | Some("false") => Ok(false),
            Some(other) => {
                let other = shown(other);
                Err(Problem::new(format!(
                    "{name}: found `{other}`, expected `true` or `false` (llm-d took anything but `true` for \
                     false)"
                )))
            }
        }
    }

    fn number(&self, name: &str) -> Result<Option<u32>, Problem> {
        let Some(value) = self.values.get(name) else { return Ok(None) };
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        value.parse().ok().filter(|_| digits).map(Some).ok_or_else(|| {
            let value = shown(value);
            Problem::new(format!("{name}: found `{value}`, expected a whole number, 0 to {}", u32::MAX))
        })
    }
}

/// A profile needs a scorer.
fn some_scorer(scorers: ScorersConfig, prefix: &str) -> Result<ScorersConfig, Problem> {
    if scorers != ScorersConfig::default() {
        return Ok(scorers);
    }
    let names = SCORERS.map(|plugin| format!("{prefix}ENABLE_{plugin}")).join(", ");
    Err(Problem::new(format!(
        "no scorer is enabled, so that llm-d picked at random; expected `true` for one or more of {names}"
    )))
}
