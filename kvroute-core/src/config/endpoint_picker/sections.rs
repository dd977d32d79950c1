//! What is in the document besides plugins and profiles: it configures what surrounds a decision, and is the
//! embedder's here. Keys and references are checked all the same.

use alloc::format;

use super::super::problem::{Problem, nearest, shown};
use super::Translation;
use super::node::{Mapping, Node};
use super::producers;

/// Keys of `dataLayer`, at any depth.
const DATA_LAYER: [&str; 9] = [
    "injectDefaults",
    "sources",
    "pluginRef",
    "extractors",
    "discovery",
    "endpoints",
    "peerDiscovery",
    "crossReplicaSyncerPluginRef",
    "crossReplicaSyncInterval",
];

/// Keys of `flowControl`, at any depth.
const FLOW_CONTROL: [&str; 16] = [
    "maxBytes",
    "maxRequests",
    "defaultRequestTTL",
    "noEndpointRequestTTL",
    "defaultPriorityBand",
    "defaultNegativePriorityBand",
    "priorityBands",
    "priority",
    "fairnessPolicyRef",
    "orderingPolicyRef",
    "queue",
    "usageLimitPolicyPluginRef",
    "bandSelectionPolicyPluginRef",
    "saturationDetector",
    "pluginRef",
    "enableEviction",
];

/// Notes the other sections.
pub(super) fn read(t: &mut Translation<'_, '_>, root: &Mapping<'_>) -> Result<(), Problem> {
    for gate in root.items("featureGates")? {
        let name = shown(gate.text()?);
        t.notes.add(gate.path(), "", &format!("not mapped: `{name}`: kvroute has no feature gates"));
    }
    let sections = [
        (
            "dataLayer",
            &DATA_LAYER[..],
            "the embedder finds pods, reports their loads (`report_load`) and applies their KV events (`apply`)",
        ),
        ("flowControl", &FLOW_CONTROL, "queues, priorities, limits and eviction are the gateway's"),
        ("requestHandler", &["parsers", "pluginRef"], "the embedder reads requests"),
        ("parser", &["pluginRef"], "the embedder reads requests"),
    ];
    for (key, known, why) in sections {
        if let Some(section) = root.get(key) {
            t.notes.add(section.path(), "", &format!("not mapped: {why}"));
            walk(t, section, known)?;
        }
    }
    if let Some(section) = root.get("saturationDetector") {
        detector(t, section)?;
    }
    Ok(())
}

/// Checks keys and references, however deep.
fn walk(t: &Translation<'_, '_>, node: Node<'_>, known: &[&str]) -> Result<(), Problem> {
    if let Ok(items) = node.clone().items() {
        return items.into_iter().try_for_each(|item| walk(t, item, known));
    }
    let Ok(entries) = node.clone().entries() else { return Ok(()) };
    for (key, value) in entries {
        if !known.contains(&key) {
            let end = nearest(key, known)
                .map_or("llm-d has none here".into(), |near| format!("did you mean `{near}`?"));
            return Err(value.problem(format!("unknown key; {end}")));
        }
        let is_reference = key.ends_with("Ref") && value.text().is_ok_and(|name| !name.is_empty());
        if is_reference {
            t.plugins.check(&value)?;
        }
        walk(t, value, known)?;
    }
    Ok(())
}

/// The detector at the outermost level: a reference, or in the first versions its thresholds themselves.
fn detector(t: &mut Translation<'_, '_>, section: Node<'_>) -> Result<(), Problem> {
    let thresholds = ["queueDepthThreshold", "kvCacheUtilThreshold", "metricsStalenessThreshold"];
    let given = section.mapping(&["pluginRef", thresholds[0], thresholds[1], thresholds[2]])?;
    given.get(thresholds[2]).map(|time| time.milliseconds()).transpose()?;
    if let Some(reference) = given.get("pluginRef") {
        t.plugins.check(&reference)?;
    }
    let path = given.node().path();
    if given.given(&thresholds[..2]).is_none() {
        t.notes.add(path, "", "not mapped: admission is the gateway's");
        return Ok(());
    }
    t.notes.add(path, "", "its thresholds are `overload`; admission is the gateway's");
    let bounds = producers::thresholds(&given)?;
    if *t.overload.get_or_insert(bounds.clone()) != bounds {
        t.notes.add(path, "", "not mapped: a plugin sets `overload` already");
    }
    Ok(())
}
