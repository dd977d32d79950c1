//! Filters.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::options::OverloadConfig;
use super::super::policy::{
    AffinityConfig, FilterConfig, LabelsConfig, ModelConfig, Operator, RequirementConfig,
};
use super::super::problem::{Problem, shown};
use super::Translation;
use super::node::Node;
use super::plugins::Plugin;
use super::profile::Draft;
use crate::pod::Role;

/// The label that says what a pod does.
const ROLE: &str = "llm-d.ai/role";

/// Adds a filter to a profile, behind those that are there.
pub(super) fn add(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    draft: &mut Draft,
) -> Result<(), Problem> {
    match plugin.is.name {
        "decode-filter" => role(t, plugin, Role::Decode, draft)?,
        "prefill-filter" => role(t, plugin, Role::Prefill, draft)?,
        "encode-filter" => {
            plugin.parameters(&[])?;
            t.note(
                plugin,
                &format!("the filter `labels`, by the label `{ROLE}`: kvroute knows no encode pods"),
            );
            let roles = ["encode", "encode-prefill", "encode-prefill-decode"];
            require(draft, [requirement(ROLE, Operator::In, roles.map(String::from).to_vec())]);
        }
        "label-selector-filter" | "by-label-selector" => selector(t, plugin, draft)?,
        "by-label" => by_label(t, plugin, draft)?,
        "session-affinity-filter" => {
            t.session(plugin)?;
            draft.pins.push(plugin.at);
        }
        "prefix-cache-affinity-filter" => affinity(t, plugin, draft)?,
        "utilization-filter" => utilization(t, plugin, draft)?,
        "utilization-detector" => {
            t.detector(plugin, true)?;
            overload(draft);
        }
        _ => t.note(plugin, &format!("not mapped: {}", plugin.is.missing)),
    }
    Ok(())
}

fn role(
    t: &mut Translation<'_, '_>,
    plugin: &Plugin<'_>,
    role: Role,
    draft: &mut Draft,
) -> Result<(), Problem> {
    plugin.parameters(&[])?;
    let labelled = match role {
        Role::Decode => "`decode`, or not at all,",
        _ => "`prefill`",
    };
    let name = role.name();
    t.note(
        plugin,
        &format!(
            "the filter `role` goes by the pods' roles, not by the label `{ROLE}`: pods labelled {labelled} are to \
             have the role `{name}`, those that do both `both`"
        ),
    );
    let filter = FilterConfig::Role(role);
    if draft.filters.iter().any(|other| matches!(other, FilterConfig::Role(other) if *other != role)) {
        t.note(plugin, "not mapped: the profile has a filter `role` already, of another role");
    } else if !draft.filters.contains(&filter) {
        draft.filters.push(filter);
    }
    Ok(())
}

fn requirement(label: &str, operator: Operator, values: Vec<String>) -> RequirementConfig {
    RequirementConfig { label: label.into(), operator, values }
}

/// All filters of labels are one here: all of their requirements have to be met.
fn require(draft: &mut Draft, requirements: impl IntoIterator<Item = RequirementConfig>) {
    let at = draft.filters.iter().position(|filter| matches!(filter, FilterConfig::Labels(_)));
    let at = at.unwrap_or_else(|| {
        draft.filters.push(FilterConfig::Labels(LabelsConfig::default()));
        draft.filters.len() - 1
    });
    if let FilterConfig::Labels(labels) = &mut draft.filters[at] {
        labels.expressions.extend(requirements);
    }
}

fn selector(t: &mut Translation<'_, '_>, plugin: &Plugin<'_>, draft: &mut Draft) -> Result<(), Problem> {
    let given = plugin.parameters(&["matchLabels", "matchExpressions"])?;
    let mut requirements = Vec::new();
    for (label, value) in given.get("matchLabels").map_or(Ok(Vec::new()), Node::entries)? {
        requirements.push(requirement(label, Operator::In, [value.text()?.into()].into()));
    }
    for item in given.items("matchExpressions")? {
        let item = item.mapping(&["key", "operator", "values"])?;
        let label = item.need("key")?.text()?;
        let values = item.items("values")?;
        let values: Vec<String> =
            values.iter().map(|v| v.text().map(String::from)).collect::<Result<_, _>>()?;
        let (operator, needs_values) = match item.need("operator")?.text()? {
            "In" => (Operator::In, true),
            "NotIn" => (Operator::NotIn, true),
            "Exists" => (Operator::Exists, false),
            "DoesNotExist" => (Operator::DoesNotExist, false),
            _ => return Err(item.need("operator")?.unexpected("In, NotIn, Exists or DoesNotExist")),
        };
        if needs_values == values.is_empty() {
            let expected = if needs_values { "one value or more" } else { "no values for this operator" };
            return Err(item.node().problem(format!("expected {expected}")));
        }
        requirements.push(requirement(label, operator, values));
    }
    if let Some(empty) = requirements.iter().find(|requirement| requirement.label.is_empty()) {
        let operator = empty.operator;
        return Err(given.node().problem(format!("found an empty label, {operator:?}")));
    }
    if requirements.is_empty() {
        t.note(plugin, "not mapped: a selector without requirements keeps all pods");
        return Ok(());
    }
    require(draft, requirements);
    Ok(())
}

fn by_label(t: &mut Translation<'_, '_>, plugin: &Plugin<'_>, draft: &mut Draft) -> Result<(), Problem> {
    let given = plugin.parameters(&["label", "validValues", "allowsNoLabel"])?;
    let label = given.need("label")?.text()?;
    let values = given.items("validValues")?;
    let values: Vec<String> = values.iter().map(|v| v.text().map(String::from)).collect::<Result<_, _>>()?;
    match (given.flag("allowsNoLabel")?.unwrap_or(false), values.is_empty()) {
        (false, false) => require(draft, [requirement(label, Operator::In, values)]),
        (true, true) => require(draft, [requirement(label, Operator::DoesNotExist, values)]),
        (false, true) => return Err(given.node().problem("found no `validValues`, so that no pod is kept")),
        (true, false) => t.note(
            plugin,
            &format!(
                "not mapped: the filter `labels` cannot keep pods with one of these values or without the label \
                 `{}`; give all pods the label and leave `allowsNoLabel` out",
                shown(label)
            ),
        ),
    }
    Ok(())
}

fn affinity(t: &mut Translation<'_, '_>, plugin: &Plugin<'_>, draft: &mut Draft) -> Result<(), Problem> {
    let known = [
        "affinityThreshold",
        "explorationProbability",
        "maxTTFTPenaltyMs",
        "ttftSource",
        "peakPrefillThroughput",
        "prefixMatchInfoProducerName",
        "latencyPredictionInfoProducerName",
        "inFlightLoadProducerName",
        "prefillCalibrationFile",
        "prefillCalibrationFingerprint",
        "prefillCalibrationRequired",
    ];
    let given = plugin.parameters(&known)?;
    t.reads(&given, &known[5..8])?;
    let number = |key: &str, least, most, default| {
        given.get(key).map_or(Ok(default), |number| number.number_in(least, most))
    };
    let share = number("affinityThreshold", 0.0, 1.0, 0.8)?;
    let exploration = number("explorationProbability", 0.0, 1.0, 0.0)?;
    let penalty = number("maxTTFTPenaltyMs", 0.0, f64::MAX, 18_000.0)?;
    let never_breaks = penalty == 0.0;
    let budget_ms = if never_breaks { u64::from(u32::MAX) } else { libm::ceil(penalty) as u64 };
    let slowest = if never_breaks { 0.0 } else { 1.0 };
    let throughput = number("peakPrefillThroughput", slowest, f64::MAX, 15_928.0)?;
    if share == 0.0 {
        t.note(plugin, "not mapped: with `affinityThreshold` 0 it keeps all pods");
        return Ok(());
    }
    if exploration > 0.0 {
        t.note(
            plugin,
            "`explorationProbability` is not mapped: the filter `affinity` is asked for every request",
        );
    }
    if let Some(keys) = given.given(&known[8..]) {
        t.note(plugin, &format!("not mapped: {keys}: kvroute reads no files"));
    }
    let model = match given.text("ttftSource")? {
        // However slow, a pod that has the prompt is kept.
        None | Some("prefillThroughput") if never_breaks => ModelConfig::default(),
        None | Some("prefillThroughput") => {
            t.note(
                plugin,
                "the filter `affinity` adds the request's own uncached tokens to those in flight, so that it holds on \
                 to a pod a little longer",
            );
            // Tokens over a throughput, and nothing else; a step has to take some time.
            ModelConfig { least: 1e-6, per_token: 1.0 / throughput, per_pair: 0.0, per_request: 0.0 }
        }
        Some("latencyPredictor") => {
            t.note(
                plugin,
                "the filter `affinity` expects times by a fixed `model`, not by trained predictions",
            );
            ModelConfig::default()
        }
        Some(_) => {
            return Err(given.need("ttftSource")?.unexpected("`prefillThroughput` or `latencyPredictor`"));
        }
    };
    let new = FilterConfig::Affinity(AffinityConfig { share, budget_ms, credits: t.credits.clone(), model });
    match draft.filters.iter().find(|filter| matches!(filter, FilterConfig::Affinity(_))) {
        None => draft.filters.push(new),
        Some(other) if *other == new => {}
        Some(_) => {
            t.note(plugin, "not mapped: the profile has a filter `affinity` already, with other settings")
        }
    }
    Ok(())
}

/// Steers away from overloaded pods; the bounds are the router's.
fn overload(draft: &mut Draft) {
    if !draft.filters.contains(&FilterConfig::Overload) {
        draft.filters.push(FilterConfig::Overload);
    }
}

fn utilization(t: &mut Translation<'_, '_>, plugin: &Plugin<'_>, draft: &mut Draft) -> Result<(), Problem> {
    let given = plugin.parameters(&["conditions", "fallbackOnEmpty"])?;
    // Both never, unless a condition says otherwise.
    let mut bounds = OverloadConfig { waiting: 0, kv_usage: 2.0 };
    let (mut is_mapped, conditions) = (false, given.items("conditions")?);
    if conditions.is_empty() {
        t.note(plugin, "not mapped: it has no conditions");
    }
    for condition in conditions {
        let condition = condition.mapping(&["metric", "maxValue"])?;
        let most = condition.need("maxValue")?.number_in(0.0, f64::MAX)?;
        match condition.need("metric")?.text()? {
            // At `most` a pod passes; it is overloaded from the next request on.
            "waiting-queue" => bounds.waiting = bounded(libm::trunc(most) + 1.0),
            "kv-cache-utilization" => bounds.kv_usage = (most.min(2.0) as f32).next_up(),
            other => {
                let metric = shown(other);
                t.note(
                    plugin,
                    &format!(
                        "not mapped: the condition of `{metric}`: the filter `overload` knows \
                       requests that wait and the KV cache in use"
                    ),
                );
                continue;
            }
        }
        is_mapped = true;
    }
    let falls_back = given.flag("fallbackOnEmpty")?.unwrap_or(false);
    if !is_mapped {
        return Ok(());
    }
    if !falls_back {
        t.note(plugin, "the filter `overload` keeps all pods where none would be left");
    }
    t.overload(plugin, bounds);
    overload(draft);
    Ok(())
}

/// A number of requests, as far as it goes.
pub(super) fn bounded(requests: f64) -> u32 {
    // Casting saturates.
    requests as u32
}
