//! Scorers: what each of llm-d's is here, and how its formula differs.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::super::policy::{
    KvCacheConfig, LatencyConfig, LoadConfig, ScorersConfig, TokenLoadConfig, TopologyConfig, TopologyLevel,
    WeightConfig,
};
use super::super::problem::{Problem, shown};
use super::Translation;
use super::plugins::Plugin;
use super::types::Kind;

const SAME_NAME: &str = "not mapped: the profile has the same scorer already, with other settings";

/// Adds a scorer to a profile; what is there already gains weight.
pub(super) fn add(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    weight: f64,
    scorers: &mut ScorersConfig,
) -> Result<(), Problem> {
    match plugin.is.name {
        "prefix-cache-scorer" => prefix(t, plugin, weight, scorers)?,
        "precise-prefix-cache-scorer" => {
            let note = "its scale between the least and the most matched pod (up to llm-d 0.8) is not mapped: the \
                        scorer `kv-cache` is the share itself";
            t.note(plugin, note);
            kv_cache(t, plugin, weight, scorers);
        }
        "session-affinity-scorer" => {
            t.session(plugin)?;
            plus(&mut scorers.session, weight);
        }
        "load-aware-scorer" => load(t, plugin, weight, scorers)?,
        "queue-scorer" => {
            plugin.parameters(&[])?;
            plus(&mut scorers.queue, weight);
        }
        "running-requests-size-scorer" => {
            plugin.parameters(&[])?;
            t.note(
                plugin,
                "the scorer `running` counts the requests that a pod reported, those that wait too, and what this \
                 router sent there since, by the pod's capacity",
            );
            plus(&mut scorers.running, weight);
        }
        "kv-cache-utilization-scorer" => {
            plugin.parameters(&[])?;
            t.note(plugin, "the scorer `kv-usage` gives a pod that never reported 0.5, not 1");
            plus(&mut scorers.kv_usage, weight);
        }
        "active-request-scorer" => active_request(t, plugin, weight, scorers)?,
        "token-load-scorer" => token_load(t, plugin, weight, scorers)?,
        "lora-affinity-scorer" => {
            plugin.parameters(&[])?;
            plus(&mut scorers.lora_affinity, weight);
        }
        "no-hit-lru-scorer" => {
            let known = ["lruSize", "prefixMatchInfoProducerName", "prefixPluginType", "prefixPluginName"];
            let given = plugin.parameters(&known)?;
            t.reads(&given, &known[1..2])?;
            if given.whole("lruSize")?.is_some() {
                t.note(plugin, "`lruSize` is not mapped: each pod remembers its own turn");
            }
            plus(&mut scorers.no_hit_lru, weight);
        }
        "latency-scorer" => latency(t, plugin, weight, scorers)?,
        "topology-affinity-scorer" => topology(t, plugin, weight, scorers)?,
        _ => external(t, plugin, weight, scorers),
    }
    Ok(())
}

pub(super) fn plus(scorer: &mut Option<WeightConfig>, weight: f64) {
    scorer.get_or_insert(WeightConfig { weight: 0.0 }).weight += weight;
}

fn prefix(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    weight: f64,
    scorers: &mut ScorersConfig,
) -> Result<(), Problem> {
    // The two names of each are those of different versions.
    let lengths = ["matchLengthWeight", "prefixLengthWeight"];
    let scales = ["matchLengthScaleTokens", "maxModelLen"];
    let known = ["prefixMatchInfoProducerName", lengths[0], lengths[1], scales[0], scales[1]];
    let given = plugin.parameters(&known)?;
    for key in scales {
        given.get(key).map(|scale| scale.count(1)).transpose()?;
    }
    for key in lengths {
        let share = given.get(key).map(|share| share.number_in(0.0, 1.0)).transpose()?;
        if share.is_some_and(|share| share > 0.0) {
            t.note(
                plugin,
                &format!("`{key}` is not mapped: the score is the share alone, however long the prompt"),
            );
        }
    }
    let producer = "prefixMatchInfoProducerName";
    // Without a name llm-d asks the approximate producer.
    let Some(name) = given.text(producer)?.filter(|name| *name != "approx-prefix-cache-producer") else {
        plus(&mut scorers.prefix, weight);
        return Ok(());
    };
    let reference = given.need(producer)?;
    let plugins = t.plugins;
    let found = plugins.refer(&reference)?;
    t.used.insert(found.at);
    if found.is_precise() {
        kv_cache(t, plugin, weight, scorers);
    } else if found.kind() == Kind::Approximate {
        plus(&mut scorers.prefix, weight);
    } else {
        let name = shown(name);
        return Err(reference.problem(format!("`{name}` is a {}, which finds no prefixes", found.is.name)));
    }
    Ok(())
}

fn kv_cache(t: &mut Translation<'_, '_>, plugin: &Plugin<'_>, weight: f64, scorers: &mut ScorersConfig) {
    t.note(
        plugin,
        "the scorer `kv-cache` also counts how far a pod's events are to be believed (`credits.trust`), where llm-d \
         believes all; for `disk` and `external` it has kvroute's own `credits` unless others are given, where llm-d \
         takes 1",
    );
    let credits = t.credits.clone();
    scorers.kv_cache.get_or_insert(KvCacheConfig { weight: 0.0, credits }).weight += weight;
}

fn load(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    weight: f64,
    scorers: &mut ScorersConfig,
) -> Result<(), Problem> {
    let threshold = plugin.parameters(&["threshold"])?.whole("threshold")?;
    let limit = threshold.filter(|threshold| *threshold > 0).unwrap_or(LoadConfig::default_limit().into());
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    // 0.5 * (1 - waiting / T) is half of 1 - requests / limit.
    let weight = weight / 2.0;
    t.note(
        plugin,
        "the scorer `load` has half the weight, since llm-d's never exceeds 0.5; it counts the requests that run too",
    );
    match &mut scorers.load {
        None => scorers.load = Some(LoadConfig { weight, limit }),
        Some(load) if load.limit == limit => load.weight += weight,
        Some(_) => t.note(plugin, SAME_NAME),
    }
    Ok(())
}

fn active_request(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    weight: f64,
    scorers: &mut ScorersConfig,
) -> Result<(), Problem> {
    let known = ["requestTimeout", "idleThreshold", "maxBusyScore", "inFlightLoadProducerName"];
    let given = plugin.parameters(&known)?;
    t.reads(&given, &known[3..])?;
    t.note(
        plugin,
        "the scorer `running` is (most - requests) / (most - fewest), not (most - requests) / most; it counts the \
         requests that a pod reported and what this router sent there since, by the pod's capacity",
    );
    given.whole("idleThreshold")?;
    given.get("maxBusyScore").map(|score| score.number()).transpose()?;
    if let Some(keys) = given.given(&known[1..3]) {
        t.note(plugin, &format!("not mapped: {keys}: an idle pod scores 1 only where it is the least busy"));
    }
    plus(&mut scorers.running, weight);
    Ok(())
}

fn token_load(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    weight: f64,
    scorers: &mut ScorersConfig,
) -> Result<(), Problem> {
    let known = ["queueThresholdTokens", "inFlightLoadProducerName"];
    let given = plugin.parameters(&known)?;
    t.reads(&given, &known[1..])?;
    let threshold = given.whole("queueThresholdTokens")?.and_then(|threshold| u64::try_from(threshold).ok());
    let limit = threshold.filter(|threshold| *threshold > 0).unwrap_or(TokenLoadConfig::default_limit());
    match &mut scorers.token_load {
        None => {
            scorers.token_load = Some(TokenLoadConfig { weight, limit, credits: t.credits.clone() });
        }
        Some(scorer) if scorer.limit == limit => scorer.weight += weight,
        Some(_) => t.note(plugin, SAME_NAME),
    }
    Ok(())
}

fn latency(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    weight: f64,
    scorers: &mut ScorersConfig,
) -> Result<(), Problem> {
    let known = [
        "ttftWeight",
        "tpotWeight",
        "headroomSelectionStrategy",
        "compositeKVWeight",
        "compositeQueueWeight",
        "compositePrefixWeight",
        "latencyPredictionInfoProducerName",
        "prefixMatchInfoProducerName",
    ];
    let given = plugin.parameters(&known)?;
    t.reads(&given, &known[6..])?;
    t.note(
        plugin,
        "the scorer `latency` is the soonest time to the first token / the pod's, by a fixed `model` that is to be \
         fitted to the pods; llm-d's is the headroom to objectives, by trained predictions",
    );
    if let Some(keys) = given.given(&known) {
        t.note(plugin, &format!("not mapped: {keys}"));
    }
    let (credits, model) = (t.credits.clone(), Default::default());
    scorers.latency.get_or_insert(LatencyConfig { weight: 0.0, credits, model }).weight += weight;
    Ok(())
}

fn topology(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    weight: f64,
    scorers: &mut ScorersConfig,
) -> Result<(), Problem> {
    let given = plugin.parameters(&["topologyProducerName"])?;
    let plugins = t.plugins;
    let extractor = match given.get("topologyProducerName") {
        Some(reference) => Some(plugins.refer(&reference)?),
        None => plugins.iter().find(|plugin| plugin.is.name == "topology-extractor"),
    };
    let levels = match extractor {
        Some(extractor) if extractor.is.name != "topology-extractor" => {
            let message =
                format!("`{}` is a {}, which finds no topology", shown(extractor.name), extractor.is.name);
            return Err(given.node().problem(message));
        }
        Some(extractor) => labels(extractor)?,
        None => None,
    };
    let new = TopologyConfig { weight, levels, near: Default::default() };
    match &mut scorers.topology {
        None => scorers.topology = Some(new),
        Some(scorer) if scorer.levels == new.levels => scorer.weight += weight,
        Some(_) => t.note(plugin, SAME_NAME),
    }
    Ok(())
}

/// The labels that a `topology-extractor` reads, with llm-d's distances, if it names any of them.
fn labels(extractor: &Plugin<'_>) -> Result<Option<Vec<TopologyLevel>>, Problem> {
    let given = extractor.parameters(&["hostname", "hostnameLabel", "rack", "zone", "region"])?;
    let host = given.text("hostname")?.or(given.text("hostnameLabel")?);
    let (rack, zone, region) = (given.text("rack")?, given.text("zone")?, given.text("region")?);
    if [host, rack, zone, region].iter().all(Option::is_none) {
        return Ok(None);
    }
    let level = |label: Option<&str>, default: &str, distance| TopologyLevel {
        label: label.unwrap_or(default).to_string(),
        distance,
    };
    Ok(Some(alloc::vec![
        level(host, "kubernetes.io/hostname", 0.0),
        level(rack, "topology.kubernetes.io/rack", 0.8),
        level(zone, "topology.kubernetes.io/zone", 0.95),
        level(region, "topology.kubernetes.io/region", 0.98),
    ]))
}

/// A scorer that kvroute does not have: the embedder may bring its scores.
fn external(t: &mut Translation<'_, '_>, plugin: &Plugin<'_>, weight: f64, scorers: &mut ScorersConfig) {
    // A name of kvroute's own scorers would be refused; types are none of them.
    let is_taken = ScorersConfig::NAMES.contains(&plugin.name);
    let name = if is_taken { plugin.is.name } else { plugin.name };
    t.note(
        plugin,
        &format!(
            "not mapped: {}; it counts if the embedder brings its scores with each request, as score column `{}`",
            plugin.is.missing,
            shown(name)
        ),
    );
    scorers.external.entry(name.to_string()).or_insert(WeightConfig { weight: 0.0 }).weight += weight;
}
