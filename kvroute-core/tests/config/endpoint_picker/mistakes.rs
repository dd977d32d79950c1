//! What is said of mistakes: the whole message.

use kvroute_core::{Config, ErrorKind};

use super::read;

const HEAD: &str = "---\n{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, ";

/// What stands in a document behind its first two keys, in a line of its own, and what is said of it.
const MISTAKES: &[(&str, &str)] = &[
    // The outermost keys.
    ("plugin: []}", "unknown key `plugin`; did you mean `plugins`? (line 3, column 9)"),
    ("plugins: {}}", "plugins: found a mapping, expected a list (line 3, column 10)"),
    ("plugins: [], plugins: []}", "duplicate key `plugins` (line 3, column 14)"),
    ("schedulingProfiles: x}", "schedulingProfiles: found `x`, expected a list (line 3, column 21)"),
    ("plugins: [", "cannot read YAML: unclosed bracket '[' (line 3, column 10)"),
    // Plugins.
    ("plugins: [queue-scorer]}", "plugins[0]: found `queue-scorer`, expected a mapping (line 3, column 11)"),
    ("plugins: [{name: a}]}", "plugins[0]: key `type` is missing (line 3, column 11)"),
    ("plugins: [{type: 7}]}", "plugins[0].type: found `7`, expected a text (line 3, column 18)"),
    (
        "plugins: [{type: a, tpye: b}]}",
        "plugins[0]: unknown key `tpye`; did you mean `type`? (line 3, column 27)",
    ),
    (
        "plugins: [{type: queue-scorrer}]}",
        "plugins[0].type: unknown plugin type `queue-scorrer`; did you mean `queue-scorer`? (line 3, column 18)",
    ),
    (
        "plugins: [{type: my-own}]}",
        "plugins[0].type: unknown plugin type `my-own`; llm-d has none of this name (line 3, column 18)",
    ),
    (
        "plugins: [{type: queue-scorer}, {name: queue-scorer, type: max-score-picker}]}",
        "plugins[1]: `queue-scorer` is there already, at plugins[0] (line 3, column 33)",
    ),
    (
        "plugins: [{type: queue-scorer, parameters: []}]}",
        "plugins[0].parameters: found a list, expected a mapping (line 3, column 44)",
    ),
    // Parameters.
    (
        "plugins: [{type: load-aware-scorer, parameters: {treshold: 1}}]}",
        "plugins[0].parameters: unknown key `treshold`; did you mean `threshold`? (line 3, column 60)",
    ),
    (
        "plugins: [{type: queue-scorer, parameters: {threshold: 1}}]}",
        "plugins[0].parameters: unknown key `threshold`; there is none (line 3, column 56)",
    ),
    (
        "plugins: [{type: load-aware-scorer, parameters: {threshold: many}}]}",
        "plugins[0].parameters.threshold: found `many`, expected a whole number (line 3, column 61)",
    ),
    (
        "plugins: [{type: load-aware-scorer, parameters: {threshold: 1.5}}]}",
        "plugins[0].parameters.threshold: found `1.5`, expected a whole number (line 3, column 61)",
    ),
    (
        "plugins: [{type: load-aware-scorer, parameters: {threshold: .nan}}]}",
        "plugins[0].parameters.threshold: found `NaN`, expected a finite number (line 3, column 61)",
    ),
    (
        "plugins: [{type: prefix-cache-scorer, parameters: {matchLengthWeight: 2}}]}",
        "plugins[0].parameters.matchLengthWeight: found `2`, expected a number from 0 to 1 (line 3, column 71)",
    ),
    (
        "plugins: [{type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: precise}}]}",
        "plugins[0].parameters.prefixMatchInfoProducerName: unknown plugin `precise`; known: prefix-cache-scorer (line \
         3, column 81)",
    ),
    (
        "plugins: [{type: tokenizer}, {type: prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: tokenizer}}]}",
        "plugins[1].parameters.prefixMatchInfoProducerName: `tokenizer` is a tokenizer, which finds no prefixes (line \
         3, column 100)",
    ),
    (
        "plugins: [{type: session-affinity-scorer, parameters: {strategy: cookie}}]}",
        "plugins[0].parameters.strategy: found `cookie`, expected `encoded_endpoint_header`, `session_id` or \
         `session_id_header` (line 3, column 66)",
    ),
    (
        "plugins: [{type: prefix-cache-affinity-filter, parameters: {affinityThreshold: 1.5}}]}",
        "plugins[0].parameters.affinityThreshold: found `1.5`, expected a number from 0 to 1 (line 3, column 80)",
    ),
    (
        "plugins: [{type: prefix-cache-affinity-filter, parameters: {peakPrefillThroughput: 0}}]}",
        "plugins[0].parameters.peakPrefillThroughput: found `0`, expected a number, 1 or more (line 3, column 84)",
    ),
    (
        "plugins: [{type: label-selector-filter, parameters: {matchExpressions: [{key: a, operator: in}]}}]}",
        "plugins[0].parameters.matchExpressions[0].operator: found `in`, expected In, NotIn, Exists or DoesNotExist \
         (line 3, column 92)",
    ),
    (
        "plugins: [{type: label-selector-filter, parameters: {matchExpressions: [{key: a, operator: In}]}}]}",
        "plugins[0].parameters.matchExpressions[0]: expected one value or more (line 3, column 73)",
    ),
    (
        "plugins: [{type: by-label, parameters: {label: a}}]}",
        "plugins[0].parameters: found no `validValues`, so that no pod is kept (line 3, column 40)",
    ),
    (
        "plugins: [{type: approx-prefix-cache-producer, parameters: {lruCapacityPerServer: -1}}]}",
        "plugins[0].parameters.lruCapacityPerServer: found `-1`, expected a whole number, 1 or more (line 3, column 83)",
    ),
    (
        "plugins: [{type: approx-prefix-cache-producer, parameters: {blockSizeTokens: 65537}}]}",
        "plugins[0].parameters.blockSizeTokens: found `65537`, expected 65536 at most (line 3, column 78)",
    ),
    (
        "plugins: [{type: precise-prefix-cache-producer, parameters: {podDiscoveryConfig: {}}}]}",
        "plugins[0].parameters: unknown key `podDiscoveryConfig`; known: tokenProcessorConfig, indexerConfig, \
         kvEventsConfig, speculativeIndexing, speculativeTTL, sessionManager (line 3, column 82)",
    ),
    (
        "plugins: [{type: precise-prefix-cache-producer, parameters: {speculativeTTL: 2}}]}",
        "plugins[0].parameters.speculativeTTL: found `2`, expected a text (line 3, column 78)",
    ),
    (
        "plugins: [{type: precise-prefix-cache-producer, parameters: {speculativeTTL: 2 s}}]}",
        "plugins[0].parameters.speculativeTTL: found `2 s`, expected a time such as `2s` or `500ms` (line 3, column 78)",
    ),
    (
        "plugins: [{type: utilization-detector, parameters: {kvCacheUtilThreshold: 0}}]}",
        "plugins[0].parameters.kvCacheUtilThreshold: found `0`, expected a number above 0 (line 3, column 75)",
    ),
    (
        "plugins: [{type: data-parallel-profile-handler, parameters: {primaryPort: 99999}}]}",
        "plugins[0].parameters.primaryPort: found `99999`, expected a port, 1 to 65535 (line 3, column 75)",
    ),
    (
        "plugins: [{type: prefix-based-pd-decider, parameters: {nonCachedTokens: -1}}]}",
        "plugins[0].parameters.nonCachedTokens: found `-1`, expected a whole number, 0 or more (line 3, column 73)",
    ),
    // Profiles.
    (
        "schedulingProfiles: [{plugins: []}]}",
        "schedulingProfiles[0]: key `name` is missing (line 3, column 22)",
    ),
    (
        "schedulingProfiles: [{name: ''}]}",
        "schedulingProfiles[0].name: found ``, expected a text (line 3, column 29)",
    ),
    (
        "schedulingProfiles: [{name: a}, {name: a}]}",
        "schedulingProfiles[1]: `a` is there already, at schedulingProfiles[0] (line 3, column 33)",
    ),
    (
        "plugins: [{type: queue-scorer}], schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scoerr}]}]}",
        "schedulingProfiles[0].plugins[0].pluginRef: unknown plugin `queue-scoerr`; did you mean `queue-scorer`? (line \
         3, column 87)",
    ),
    (
        "schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer}]}]}",
        "schedulingProfiles[0].plugins[0].pluginRef: unknown plugin `queue-scorer`; there is none (line 3, column 54)",
    ),
    (
        "plugins: [{type: queue-scorer}], schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, weight: \
         -1}]}]}",
        "schedulingProfiles[0].plugins[0].weight: found `-1`, expected a number, 0 or more (line 3, column 109)",
    ),
    (
        "plugins: [{type: queue-scorer}], schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, weight: \
         .inf}]}]}",
        "schedulingProfiles[0].plugins[0].weight: found `inf`, expected a finite number (line 3, column 109)",
    ),
    (
        "plugins: [{type: queue-scorer}, {type: lora-affinity-scorer}], schedulingProfiles: [{name: a, plugins: \
         [{pluginRef: queue-scorer, weight: 1e308}, {pluginRef: lora-affinity-scorer, weight: 1e308}]}]}",
        "schedulingProfiles[0]: the weights are too high to be added up (line 3, column 85)",
    ),
    (
        "plugins: [{type: max-score-picker}, {type: random-picker}]}",
        "found a second picker, `random-picker`, expected one (line 2, column 1)",
    ),
    (
        "plugins: [{type: tokenizer}], schedulingProfiles: [{name: a, plugins: [{pluginRef: tokenizer}]}]}",
        "schedulingProfiles[0]: `tokenizer` is a tokenizer, which is no filter, scorer or picker (line 3, column 52)",
    ),
    // Handlers.
    (
        "schedulingProfiles: [{name: decode}, {name: prefill}]}",
        "found several profiles, expected a profile handler among `plugins` that says what they are for, such as \
         `disagg-profile-handler` (line 2, column 1)",
    ),
    (
        "plugins: [{type: single-profile-handler}], schedulingProfiles: [{name: decode}, {name: prefill}]}",
        "plugins[0]: `single-profile-handler` has one profile, found 2 (line 3, column 11)",
    ),
    (
        "plugins: [{type: single-profile-handler}, {type: disagg-profile-handler}]}",
        "plugins[1]: found a second profile handler, the first is at plugins[0] (line 3, column 43)",
    ),
    (
        "plugins: [{type: disagg-profile-handler}], schedulingProfiles: [{name: decode}, {name: other}]}",
        "schedulingProfiles[1]: found profile `other`, which `disagg-profile-handler` never asks (line 3, column 81)",
    ),
    (
        "plugins: [{type: disagg-profile-handler}], schedulingProfiles: [{name: prefill}]}",
        "plugins[0]: unknown profile `decode`; known: prefill (line 3, column 11)",
    ),
    (
        "plugins: [{type: disagg-profile-handler, parameters: {deciders: {prefill: decider}}}], schedulingProfiles: \
         [{name: decode}]}",
        "plugins[0].parameters.deciders.prefill: unknown plugin `decider`; known: disagg-profile-handler (line 3, \
         column 75)",
    ),
    (
        "plugins: [{type: tokenizer}, {type: disagg-profile-handler, parameters: {deciders: {prefill: tokenizer}}}], \
         schedulingProfiles: [{name: decode}]}",
        "plugins[1].parameters.deciders.prefill: `tokenizer` is a tokenizer, which decides on no prefill (line 3, \
         column 94)",
    ),
    (
        "plugins: [{type: always-disagg-pd-decider}, {type: disagg-profile-handler, parameters: {deciders: {prefill: \
         always-disagg-pd-decider}}}], schedulingProfiles: [{name: decode}]}",
        "plugins[1].parameters: unknown profile `prefill`; known: decode (line 3, column 88)",
    ),
    (
        "plugins: [{type: pd-profile-handler}], schedulingProfiles: [{name: decode}, {name: prefill}]}",
        "plugins[0]: found no `deciderPluginName`, and no plugin `prefix-based-pd-decider` (line 3, column 11)",
    ),
    (
        "plugins: [{type: token-load-scorer, parameters: {inFlightLoadProducerName: load}}]}",
        "plugins[0].parameters.inFlightLoadProducerName: unknown plugin `load`; known: token-load-scorer (line 3, column \
         76)",
    ),
    // Other sections.
    (
        "dataLayer: {source: []}}",
        "dataLayer.source: unknown key; did you mean `sources`? (line 3, column 21)",
    ),
    (
        "dataLayer: {sources: [{pluginRef: dcgm}]}}",
        "dataLayer.sources[0].pluginRef: unknown plugin `dcgm`; there is none (line 3, column 35)",
    ),
    (
        "flowControl: {usageLimitPolicyPluginRef: mine}}",
        "flowControl.usageLimitPolicyPluginRef: unknown plugin `mine`; there is none (line 3, column 42)",
    ),
    ("featureGates: [7]}", "featureGates[0]: found `7`, expected a text (line 3, column 16)"),
];

#[test]
fn every_mistake_is_named_with_its_place() {
    let mut wrong = String::new();
    for (rest, message) in MISTAKES {
        let error = read(&format!("{HEAD}\n{rest}")).map(|(_, notes)| notes);
        let Err(error) = error else { panic!("{rest}: {error:?}") };
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        if error.to_string() != *message {
            wrong.push_str(&format!("{rest}\n  {error}\n  {message}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn only_llm_d_s_own_documents_are_read() {
    for (document, message) in [
        ("", "an empty document, expected an `EndpointPickerConfig`"),
        ("# nothing\n", "an empty document, expected an `EndpointPickerConfig`"),
        ("7", "found `7`, expected a mapping (line 1, column 1)"),
        ("{}", "key `kind` is missing (line 1, column 1)"),
        ("kind: Pod", "kind: found `Pod`, expected EndpointPickerConfig (line 1, column 7)"),
        ("kind: EndpointPickerConfig", "key `apiVersion` is missing (line 1, column 1)"),
        (
            "kind: EndpointPickerConfig\napiVersion: llm-d.ai/v1",
            "apiVersion: found `llm-d.ai/v1`, expected llm-d.ai/v1alpha1 or inference.networking.x-k8s.io/v1alpha1 (line \
             2, column 13)",
        ),
        ("{\"kind\": 1}", "kind: found `1`, expected a text (line 1, column 10)"),
    ] {
        assert_eq!(read(document).unwrap_err().to_string(), message, "{document}");
    }
}

#[test]
fn kvroute_s_own_reader_says_who_reads_them() {
    let message = "unknown key `apiVersion`; llm-d's `EndpointPickerConfig` is read by `from_endpoint_picker` (line 1, \
                   column 1)";
    let error = Config::parse("apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n").unwrap_err();
    assert_eq!(error.to_string(), message);
    let error = Config::parse("{\"kind\": \"EndpointPickerConfig\"}").unwrap_err().to_string();
    assert!(error.contains("`from_endpoint_picker`"), "{error}");
    // Elsewhere these are keys like others.
    let error = Config::parse("index: {plugins: 1}").unwrap_err().to_string();
    assert!(!error.contains("from_endpoint_picker"), "{error}");
}
