//! What profiles, their handlers and the other sections become.

use super::plugins::{decode, document, read_plugins};
use super::read;

/// A document of profiles `decode` and `prefill`, and others, with a handler.
fn disaggregated(handler: &str, decider: &str, others: &[&str]) -> String {
    let profile = |name: &str| format!("- {{name: {name}, plugins: [{{pluginRef: queue-scorer}}]}}\n");
    let profiles: String = [&["decode", "prefill"], others].concat().into_iter().map(profile).collect();
    format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: queue-scorer\n- {{name: handler, \
         type: {handler}}}\n- {{name: decider, type: {decider}}}\nschedulingProfiles:\n{profiles}"
    )
}

#[test]
fn deciders_are_thresholds() {
    let disagg = "disagg-profile-handler, parameters: {deciders: {prefill: decider}}";
    let pd = "pd-profile-handler, parameters: {deciderPluginName: decider}";
    for handler in [disagg, pd] {
        let thresholds = |decider: &str| {
            let (config, notes) = read(&disaggregated(handler, decider, &[])).unwrap();
            let prefill = config.policy.prefill.map(|p| (p.max_uncached_tokens, p.min_prompt_tokens));
            let mut others = notes.clone();
            others.retain(|note| !note.contains("the embedder tells the decode pod of the prefill pod"));
            assert_eq!(notes.len() - others.len(), usize::from(prefill.is_some()), "{notes:?}");
            (prefill, others)
        };
        assert_eq!(thresholds("always-disagg-pd-decider"), (Some((0, 0)), vec![]));
        let based = |tokens: &str| thresholds(&format!("prefix-based-pd-decider, parameters: {{{tokens}}}"));
        assert_eq!(based("nonCachedTokens: 16"), (Some((15, 0)), vec![]));
        assert_eq!(based("nonCachedTokens: 1, promptTokens: 100"), (Some((0, 100)), vec![]));
        let (prefill, notes) = based("promptTokens: 100");
        assert_eq!(prefill, None);
        assert_eq!(
            notes,
            [
                "plugins[2] (prefix-based-pd-decider): with `nonCachedTokens` 0, as in llm-d, no prompt goes to a \
                 prefill pod",
                "schedulingProfiles[1]: not mapped: no decider ever asks for a prefill pod"
            ]
        );
    }
    // The old handler finds the decider by its type.
    let document =
        disaggregated("pd-profile-handler", "prefix-based-pd-decider", &[]).replace("name: decider, ", "");
    assert!(read(&document).unwrap().0.policy.prefill.is_none());
}

#[test]
fn handlers_say_what_profiles_are_for() {
    let handler = |parameters: &str, others: &[&str]| {
        let handler = format!("disagg-profile-handler, parameters: {{{parameters}}}");
        let (config, mut notes) = read(&disaggregated(&handler, "always-disagg-pd-decider", others)).unwrap();
        notes.retain(|note| !note.contains("the embedder tells the decode pod of the prefill pod"));
        (config, notes)
    };
    let (config, notes) = handler("", &["encode"]);
    assert!(config.policy.prefill.is_none());
    assert_eq!(
        notes,
        [
            "plugins[2] (always-disagg-pd-decider): not mapped: no profile and no profile handler that is mapped refers \
             to it",
            "schedulingProfiles[1]: not mapped: no decider ever asks for a prefill pod",
            "schedulingProfiles[2]: not mapped: kvroute knows no encode pods; the embedder picks them by other means"
        ]
    );
    let (config, notes) =
        handler("profiles: {decode: prefill, prefill: decode}, deciders: {prefill: decider}", &[]);
    assert!(config.policy.prefill.is_some() && notes.is_empty(), "{notes:?}");
    let (_, notes) = handler("profiles: {fallback: all}, deciders: {prefill: decider}", &["all"]);
    assert!(notes[0].starts_with("schedulingProfiles[2]: not mapped: where no pod is left"), "{notes:?}");
    let (config, notes) = handler("stageOrder: prefill-first", &[]);
    assert_eq!(config.policy.prefill.unwrap().max_uncached_tokens, 0);
    assert!(
        notes[0].starts_with("plugins[1] (disagg-profile-handler): `stageOrder` is not mapped"),
        "{notes:?}"
    );

    let header =
        disaggregated("header-profile-handler, parameters: {headerName: X}", "always-disagg-pd-decider", &[]);
    let (config, notes) = read(&header).unwrap();
    assert!(config.policy.prefill.is_none());
    assert_eq!(notes[2], "schedulingProfiles[1]: not mapped: only the default profile is");
    for (plugin, count) in [("single-profile-handler", 0), ("data-parallel-profile-handler", 1)] {
        let (_, notes) = read_plugins(&["queue-scorer", &format!("{plugin}|no")]);
        assert_eq!(notes.len(), count, "{notes:?}");
    }
}

#[test]
fn without_profiles_all_plugins_make_one() {
    let document = "
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: decode-filter
- type: queue-scorer
- type: weighted-random-picker
- type: single-profile-handler
";
    let (config, _) = read(document).unwrap();
    assert_eq!(
        decode(&config),
        "filters: [{role: decode}], picker: weighted-random, scorers: {queue: {weight: 1}}"
    );
}

#[test]
fn what_surrounds_a_decision_is_noted_once() {
    let sections = "
featureGates: [flowControl, dataLayer=false]
dataLayer:
  sources: [{pluginRef: p1, extractors: [{pluginRef: core-metrics-extractor}]}]
  discovery: {endpoints: {pluginRef: p2}}
flowControl:
  maxBytes: 1Gi
  maxRequests: 100
  priorityBands: [{priority: -1, fairnessPolicyRef: global-strict-fairness-policy, orderingPolicyRef: p3}]
  saturationDetector: {pluginRef: utilization-detector}
requestHandler: {parsers: [{pluginRef: openai-parser}]}
parser: {pluginRef: anthropic-parser}
";
    let plugins = ["queue-scorer", "metrics-data-source|no", "file-discovery|no", "edf-ordering-policy|no"];
    let (_, notes) = read(&format!("{}{sections}", document(&plugins))).unwrap();
    let expected = [
        "dataLayer: not mapped: the embedder finds pods, reports their loads (`report_load`) and applies their KV \
         events (`apply`)",
        "featureGates[0]: not mapped: `flowControl`: kvroute has no feature gates",
        "featureGates[1]: not mapped: `dataLayer=false`: kvroute has no feature gates",
        "flowControl: not mapped: queues, priorities, limits and eviction are the gateway's",
        "parser: not mapped: the embedder reads requests",
        "plugins[1] (metrics-data-source): not mapped: kvroute scrapes nothing: the embedder reports loads \
         (`report_load`) and LoRA adapters (`report_adapters`)",
        "plugins[2] (file-discovery): not mapped: the embedder adds and removes pods (`add_pod`, `remove_pod`) and \
         their labels",
        "plugins[3] (edf-ordering-policy): not mapped: admission, queues, fairness and eviction are the gateway's; \
         kvroute gives it each pod's load",
        "requestHandler: not mapped: the embedder reads requests",
    ];
    assert_eq!(notes, expected);
}
