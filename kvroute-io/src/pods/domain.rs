//! The cache domain of a pod: which pods share what hashes mean.

use std::sync::Arc;

use kvroute_core::hash::{HashScheme, HashSeed, VllmAlgorithm, VllmScheme};
use kvroute_core::{BlockHasher, CacheDomain, Error, OwnScheme};

use super::knowledge::SeedStatus;
use super::{Fact, Hashing, Knowledge, KnownConfig, Origin};
use crate::load::Engine;

/// The domain of a pod of which this is known, and notes it. Pods of equal weights, served names, block size and hashes
/// get domains of equal names, so that a router takes them for one.
///
/// Translated, which works with any engine, unless the seed of the engine's hashes is configured, or native hashes are
/// asked for and an unset seed is a fixed one. That vLLM 0.29 and later have a fixed one does not suffice: whether
/// `PYTHONHASHSEED` is set no pod tells, and with a wrong root nothing would ever match.
///
/// # Errors
///
/// `InvalidInput` for a block size that cannot be.
pub(crate) fn of_pod(known: &KnownConfig, knowledge: &mut Knowledge) -> Result<Arc<CacheDomain>, Error> {
    let wants_native = match known.hashing {
        Some(hashing) => hashing == Hashing::Native,
        None => known.hash_seed.is_some(),
    };
    let native = wants_native.then(|| native(known, knowledge)).transpose().unwrap_or_else(|why| {
        knowledge.notes.push(format!("hashes are translated, not native: {why}"));
        None
    });
    let scheme = native.map_or(HashScheme::Own(OwnScheme::default()), HashScheme::Vllm);
    let models = knowledge.base_models();
    let block_size = knowledge.block_size.value.unwrap_or(Knowledge::ASSUMED_BLOCK_SIZE);
    let name = name(knowledge.model_root.value.as_deref(), &models, &scheme, block_size);
    let domain = CacheDomain::new(name, BlockHasher::new(scheme, block_size)?)?;
    Ok(Arc::new(domain.with_models(models)))
}

/// The engine's own hashes, or why they cannot be computed.
fn native(known: &KnownConfig, knowledge: &mut Knowledge) -> Result<VllmScheme, String> {
    if let Some(engine) = knowledge.engine.value.filter(|engine| *engine != Engine::Vllm) {
        return Err(format!("{engine:?} is not vLLM"));
    }
    let algorithm = knowledge.hash_algorithm.value.as_deref().ok_or("its hash algorithm is unknown")?;
    let algorithm = VllmAlgorithm::from_name(algorithm).map_err(|error| error.to_string())?;
    let version = knowledge.version.value.as_deref().ok_or("its version is unknown")?;
    let seed = known.hash_seed.clone().map_or(HashSeed::Unset, HashSeed::Value);
    let scheme = VllmScheme::for_version(algorithm, version, &seed).map_err(|error| error.to_string())?;
    if seed == HashSeed::Unset {
        knowledge.hash_seed =
            Fact { value: Some(SeedStatus::Fixed), origin: Origin::Assumed, disagrees: None };
    }
    Ok(scheme)
}

/// `tiny (/models/tiny-llama), own, 32`: all that tells domains apart, so that equal names are equal domains.
fn name(root: Option<&str>, models: &[String], scheme: &HashScheme, block_size: u32) -> String {
    let models = if models.is_empty() { "any model".into() } else { models.join("+") };
    let root = root.filter(|root| *root != models).map(|root| format!(" ({root})")).unwrap_or_default();
    let scheme = match scheme {
        HashScheme::Vllm(vllm) => {
            let root: String = vllm.none_hash().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("vllm {} {} {root}", vllm.algorithm().name(), vllm.era())
        }
        other => other.name().into(),
    };
    format!("{models}{root}, {scheme}, {block_size}")
}
