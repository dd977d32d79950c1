//! What each plugin becomes, with its parameters and weight.

use kvroute_core::Config;

use super::{changed, default, flow, read};

/// A document of one profile that refers to `plugins` in their order; what stands behind `|` is added to the reference.
pub(super) fn document(plugins: &[&str]) -> String {
    let (mut list, mut references) = (String::new(), String::new());
    for (at, plugin) in plugins.iter().enumerate() {
        let (plugin, reference) = plugin.split_once('|').unwrap_or((plugin, ""));
        list.push_str(&format!("- {{name: p{at}, type: {plugin}}}\n"));
        if reference != "no" {
            references.push_str(&format!("  - {{pluginRef: p{at}{reference}}}\n"));
        }
    }
    let references = if references.is_empty() { "  []\n".into() } else { references };
    format!(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n{list}schedulingProfiles:\n- name: \
         default\n  plugins:\n{references}"
    )
}

pub(super) fn read_plugins(plugins: &[&str]) -> (Config, Vec<String>) {
    let document = document(plugins);
    let (config, notes) = read(&document).unwrap_or_else(|error| panic!("{error}\n{document}"));
    config.check().unwrap();
    (config, notes)
}

/// What differs from the default, in one line.
fn said(config: &Config) -> String {
    flow(&changed(&serde_json::to_value(config).unwrap(), &default()))
}

/// What of the only profile is there besides the filters that all have.
pub(super) fn decode(config: &Config) -> String {
    let mut config = config.clone();
    let filters = config.policy.decode.filters.as_mut().unwrap();
    let usual: Vec<_> =
        filters.drain(..3).map(|filter| flow(&serde_json::to_value(filter).unwrap())).collect();
    assert_eq!(usual, ["accepting", "model", "subset"]);
    if filters.is_empty() {
        config.policy.decode.filters = None;
    }
    let said = said(&config);
    let said = said.strip_prefix("{policy: {decode: {").unwrap_or_else(|| panic!("{said}"));
    said.strip_suffix("}}}").unwrap_or_else(|| panic!("{said}")).to_string()
}

const CREDITS: &str = "{cpu: 0.8, disk: 0.3, external: 0.6, gpu: 1, trust: {approximate: 0.5, degraded: 0.9, exact: 1, \
                       load-only: 0}}";

#[test]
fn scorers_keep_their_weight() {
    let credits = CREDITS;
    for (plugin, expected) in [
        ("prefix-cache-scorer|, weight: 3", "prefix: {weight: 3}"),
        ("prefix-cache-scorer", "prefix: {weight: 1}"),
        ("prefix-cache-scorer|, weight: 0", "prefix: {weight: 0}"),
        (
            "prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: approx-prefix-cache-producer}",
            "prefix: {weight: 1}",
        ),
        (
            "prefix-cache-scorer, parameters: {matchLengthWeight: 0.5, matchLengthScaleTokens: 4096}",
            "prefix: {weight: 1}",
        ),
        ("session-affinity-scorer|, weight: 2", "session: {weight: 2}"),
        ("load-aware-scorer|, weight: 3", "load: {limit: 128, weight: 1.5}"),
        ("load-aware-scorer, parameters: {threshold: 64}", "load: {limit: 64, weight: 0.5}"),
        ("load-aware-scorer, parameters: {threshold: -1}", "load: {limit: 128, weight: 0.5}"),
        ("queue-scorer|, weight: 2.5", "queue: {weight: 2.5}"),
        ("running-requests-size-scorer", "running: {weight: 1}"),
        ("active-request-scorer", "running: {weight: 1}"),
        ("active-request-scorer, parameters: {idleThreshold: 2, maxBusyScore: 0.5}", "running: {weight: 1}"),
        ("kv-cache-utilization-scorer", "kv-usage: {weight: 1}"),
        ("lora-affinity-scorer", "lora-affinity: {weight: 1}"),
        ("no-hit-lru-scorer, parameters: {lruSize: 2048}", "no-hit-lru: {weight: 1}"),
        ("topology-affinity-scorer", "topology: {near: {}, weight: 1}"),
    ] {
        let (config, _) = read_plugins(&[plugin]);
        assert_eq!(decode(&config), format!("scorers: {{{expected}}}"), "{plugin}");
    }
    let (config, _) =
        read_plugins(&["token-load-scorer, parameters: {queueThresholdTokens: 1000}|, weight: 2"]);
    let expected = format!("scorers: {{token-load: {{credits: {credits}, limit: 1000, weight: 2}}}}");
    assert_eq!(decode(&config), expected);
    let (config, _) = read_plugins(&["token-load-scorer, parameters: {queueThresholdTokens: 0}"]);
    assert!(decode(&config).contains("limit: 4194304"));
    let (config, _) = read_plugins(&["latency-scorer, parameters: {ttftWeight: 0.8}"]);
    assert!(decode(&config).starts_with(&format!("scorers: {{latency: {{credits: {credits}, model: ")));
}

#[test]
fn prefixes_are_matched_by_what_the_scorer_reads() {
    let reads_p0 = "prefix-cache-scorer, parameters: {prefixMatchInfoProducerName: p0}";
    for (producer, scorer) in [
        ("precise-prefix-cache-producer|no", "kv-cache"),
        ("approx-prefix-cache-producer|no", "prefix"),
        ("burst-prefix-cache-producer|no", "prefix"),
        ("precise-prefix-cache-scorer", "kv-cache"),
    ] {
        let (config, notes) = read_plugins(&[producer, reads_p0]);
        let scorers = serde_json::to_value(config.policy.decode.scorers).unwrap();
        let names: Vec<_> = scorers.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, [scorer], "{producer}");
        assert!(notes.iter().any(|note| note.contains(" (prefix-cache-scorer): ")) == (scorer == "kv-cache"));
    }
    // llm-d's own trap: the precise producer is there, and nobody reads it.
    let (config, notes) = read_plugins(&["precise-prefix-cache-producer|no", "prefix-cache-scorer"]);
    assert!(config.policy.decode.scorers.unwrap().kv_cache.is_none());
    let note = "plugins[0] (precise-prefix-cache-producer): no scorer reads it: name it in a scorer's \
                `prefixMatchInfoProducerName`";
    assert!(notes.iter().any(|other| other == note), "{notes:?}");
}

#[test]
fn scorers_that_mean_the_same_add_up() {
    let (config, _) = read_plugins(&["active-request-scorer|, weight: 2", "running-requests-size-scorer"]);
    assert_eq!(decode(&config), "scorers: {running: {weight: 3}}");
    let (config, notes) =
        read_plugins(&["load-aware-scorer", "load-aware-scorer, parameters: {threshold: 5}|, weight: 9"]);
    assert_eq!(decode(&config), "scorers: {load: {limit: 128, weight: 0.5}}");
    assert_eq!(
        notes.last().unwrap(),
        "plugins[1] (load-aware-scorer): not mapped: the profile has the same scorer already, with other settings"
    );
}

#[test]
fn scorers_that_are_not_here_can_be_brought() {
    let types = [
        "context-length-aware",
        "endpoint-attribute-scorer, parameters: {attributeKey: GPUUtilization}",
        "header-label-affinity-scorer",
        "mm-embeddings-cache-scorer",
        "multicluster-kv-cache-utilization-scorer",
        "multicluster-prefix-cache-scorer",
        "multicluster-queue-scorer",
        "multicluster-topology-scorer",
    ];
    for scorer in types {
        let (config, notes) = read_plugins(&[&format!("{scorer}|, weight: 4")]);
        assert_eq!(decode(&config), "scorers: {external: {p0: {weight: 4}}}");
        let name = scorer.split(',').next().unwrap();
        let note = format!(
            "plugins[0] ({name}): not mapped: kvroute has no such scorer; it counts if the embedder brings its scores \
             with each request, as score column `p0`"
        );
        assert_eq!(notes, [note]);
    }
    // A name that is a scorer's own here gives way.
    let document = "{\"apiVersion\": \"llm-d.ai/v1alpha1\", \"kind\": \"EndpointPickerConfig\", \"plugins\": \
                    [{\"type\": \"context-length-aware\", \"name\": \"load\"}]}";
    let (config, _) = read(document).unwrap();
    assert_eq!(decode(&config), "scorers: {external: {context-length-aware: {weight: 1}}}");
}

#[test]
fn filters_have_their_place() {
    for (plugin, expected) in [
        ("decode-filter", "{role: decode}"),
        ("prefill-filter", "{role: prefill}"),
        (
            "encode-filter",
            "{labels: {expressions: [{label: \"llm-d.ai/role\", operator: in, values: [encode, encode-prefill, \
             encode-prefill-decode]}], match: {}}}",
        ),
        (
            "by-label, parameters: {label: gpu, validValues: [a, b]}",
            "{labels: {expressions: [{label: gpu, operator: in, values: [a, b]}], match: {}}}",
        ),
        (
            "by-label, parameters: {label: gpu, allowsNoLabel: true}",
            "{labels: {expressions: [{label: gpu, operator: does-not-exist, values: []}], match: {}}}",
        ),
        (
            "label-selector-filter, parameters: {matchLabels: {a: x}, matchExpressions: [{key: b, operator: In, values: \
             [w]}, {key: c, operator: NotIn, values: [z]}, {key: d, operator: Exists}, {key: e, operator: \
             DoesNotExist}]}",
            "{labels: {expressions: [{label: a, operator: in, values: [x]}, {label: b, operator: in, values: [w]}, \
             {label: c, operator: not-in, values: [z]}, {label: d, operator: exists, values: []}, {label: e, operator: \
             does-not-exist, values: []}], match: {}}}",
        ),
        (
            "by-label-selector, parameters: {matchLabels: {a: x}}",
            "{labels: {expressions: [{label: a, operator: in, values: [x]}], match: {}}}",
        ),
    ] {
        let (config, _) = read_plugins(&[plugin, "queue-scorer"]);
        let filters = serde_json::to_value(&config.policy.decode.filters.as_ref().unwrap()[3..]).unwrap();
        assert_eq!(
            flow(&filters),
            format!("[{}]", expected.replace("\"llm-d.ai/role\"", "llm-d.ai/role")),
            "{plugin}"
        );
    }
    // Filters of labels are one.
    let (config, _) = read_plugins(&["by-label, parameters: {label: a, validValues: [x]}", "encode-filter"]);
    assert!(decode(&config).contains("{label: a, operator: in, values: [x]}, {label: llm-d.ai/role, "));
    // What means nothing here.
    for (plugin, note) in [
        (
            "by-label, parameters: {label: a, validValues: [x], allowsNoLabel: true}",
            "not mapped: the filter `labels` cannot keep pods with one of these values or without the label `a`; give \
             all pods the label and leave `allowsNoLabel` out",
        ),
        ("label-selector-filter", "not mapped: a selector without requirements keeps all pods"),
        (
            "slo-headroom-tier-filter",
            "not mapped: kvroute knows no latency objectives; its scorer `latency` prefers the soonest first token",
        ),
        (
            "topology-affinity-filter, parameters: {minAffinity: rack}",
            "not mapped: kvroute only prefers near pods: its scorer `topology`, with more weight than the others \
             together, keeps to the nearest",
        ),
    ] {
        let (config, notes) = read_plugins(&[plugin, "queue-scorer"]);
        assert_eq!(decode(&config), "scorers: {queue: {weight: 1}}");
        let name = plugin.split(',').next().unwrap();
        assert_eq!(notes, [format!("plugins[0] ({name}): {note}")]);
    }
}

#[test]
fn the_affinity_filter_has_llm_d_s_numbers() {
    let affinity = |parameters: &str| {
        let filter = format!("prefix-cache-affinity-filter, parameters: {{{parameters}}}");
        let (config, notes) = read_plugins(&[&filter, "token-load-scorer"]);
        let filters = serde_json::to_value(&config.policy.decode.filters.as_ref().unwrap()[3..]).unwrap();
        (flow(&filters).replace(CREDITS, "_"), notes)
    };
    let per_token = 1.0 / 15_928.0;
    let (filter, notes) = affinity("");
    let expected = format!(
        "[{{affinity: {{budget_ms: 18000, credits: _, model: {{least: 0.000001, per_pair: 0, per_request: 0, per_token: \
         {per_token}}}, share: 0.8}}}}]"
    );
    assert_eq!(filter, expected);
    assert_eq!(
        notes,
        [
            "plugins[0] (prefix-cache-affinity-filter): the filter `affinity` adds the request's own uncached tokens to \
          those in flight, so that it holds on to a pod a little longer"
        ]
    );
    let (filter, _) = affinity("affinityThreshold: 0.99, maxTTFTPenaltyMs: 1.5, peakPrefillThroughput: 1000");
    assert!(
        filter.contains("budget_ms: 2,") && filter.contains("per_token: 0.001}, share: 0.99"),
        "{filter}"
    );
    let (filter, notes) = affinity("maxTTFTPenaltyMs: 0");
    assert!(filter.contains("budget_ms: 4294967295,") && notes.is_empty(), "{filter}, {notes:?}");
    let (filter, notes) = affinity("ttftSource: latencyPredictor, explorationProbability: 0.1");
    assert!(filter.contains("per_request: 0.0015") && notes.len() == 2, "{filter}, {notes:?}");
    let (filter, notes) = affinity("affinityThreshold: 0");
    assert_eq!((filter.as_str(), notes.len()), ("[]", 1));
}

#[test]
fn a_session_that_is_pinned_outweighs_all() {
    let (config, notes) = read_plugins(&[
        "session-affinity-filter",
        "queue-scorer|, weight: 3",
        "load-aware-scorer|, weight: 2",
    ]);
    assert_eq!(
        decode(&config),
        "scorers: {load: {limit: 128, weight: 1}, queue: {weight: 3}, session: {weight: 9}}"
    );
    assert!(
        notes[1].starts_with("plugins[0] (session-affinity-filter): the scorer `session` with more weight")
    );
    let (config, notes) =
        read_plugins(&["session-affinity-filter", "queue-scorer", "weighted-random-picker"]);
    assert_eq!(decode(&config), "picker: weighted-random, scorers: {queue: {weight: 1}}");
    assert!(notes[1].contains("not mapped"), "{notes:?}");

    let id = "strategy: session_id, sessionIdConfig: {sources: [{header: x}], evictionTtlSeconds: 59.5}";
    let (config, _) = read_plugins(&[&format!("session-affinity-scorer, parameters: {{{id}}}")]);
    assert_eq!(config.sessions.ttl_seconds, 60);
    let (config, notes) = read_plugins(&[
        "session-affinity-scorer, parameters: {algorithm: session_id_header, headerName: x-session-token}",
        &format!("session-affinity-scorer, parameters: {{{id}}}"),
    ]);
    assert_eq!(config.sessions.ttl_seconds, 600);
    assert!(
        notes.last().unwrap().contains("another plugin sets it already: `evictionTtlSeconds`"),
        "{notes:?}"
    );
}

#[test]
fn pickers_are_the_same() {
    for (picker, expected) in [
        ("max-score-picker", "scorers: {queue: {weight: 2}}"),
        ("weighted-random-picker", "picker: weighted-random, scorers: {queue: {weight: 2}}"),
        ("random-picker", "picker: weighted-random, scorers: {queue: {weight: 0}}"),
        (
            "max-score-picker, parameters: {maxNumOfEndpoints: 3}",
            "fallbacks: 2, scorers: {queue: {weight: 2}}",
        ),
        ("max-score-picker, parameters: {maxNumOfEndpoints: 0}", "scorers: {queue: {weight: 2}}"),
        (
            "max-score-picker, parameters: {maxNumOfEndpoints: 99}",
            "fallbacks: 16, scorers: {queue: {weight: 2}}",
        ),
    ] {
        let (config, _) = read_plugins(&["queue-scorer|, weight: 2", picker]);
        assert_eq!(decode(&config), expected, "{picker}");
        // llm-d gives any picker that is there to a profile that has none.
        let (config, _) = read_plugins(&["queue-scorer|, weight: 2", &format!("{picker}|no")]);
        assert_eq!(decode(&config), expected, "{picker}");
    }
    let (config, notes) = read_plugins(&["decode-filter"]);
    assert!(decode(&config).ends_with("scorers: {load: {limit: 128, weight: 0}}"));
    assert!(notes[1].starts_with("schedulingProfiles[0]: without a scorer any pod is as good as another"));
}

#[test]
fn producers_set_the_router_s_options() {
    let router = |plugins: &[&str]| {
        let (mut config, notes) = read_plugins(&[plugins, &["queue-scorer"]].concat());
        config.policy = Default::default();
        (said(&config), notes)
    };
    let (said, _) = router(&["approx-prefix-cache-producer, parameters: {lruCapacityPerServer: 5000}|no"]);
    assert_eq!(said, "{index: {max_predicted: 5000}}");
    let sized = "approx-prefix-cache-producer, parameters: {blockSizeTokens: 128, autoTune: false}|no";
    assert_eq!(router(&[sized]).0, "{text_block_bytes: 512}");
    assert_eq!(router(&["approx-prefix-cache-producer, parameters: {blockSizeTokens: 128}|no"]).0, "{}");
    let (said, notes) =
        router(&[sized, "approx-prefix-cache-producer, parameters: {blockSizeTokens: 16}|no"]);
    assert_eq!(said, "{text_block_bytes: 512}");
    assert!(
        notes.last().unwrap().contains("another plugin sets it already: `text_block_bytes`"),
        "{notes:?}"
    );

    let speculation = |parameters: &str| {
        let plugin = format!("precise-prefix-cache-producer, parameters: {{{parameters}}}|no");
        read_plugins(&[&plugin, "queue-scorer"]).0.requests.speculation_ms
    };
    assert_eq!(speculation(""), 0);
    assert_eq!(speculation("speculativeIndexing: true"), 2000);
    assert_eq!(speculation("speculativeIndexing: true, speculativeTTL: 1.5s"), 1500);
    assert_eq!(speculation("speculativeIndexing: true, speculativeTTL: 0s"), 2000);
    assert_eq!(speculation("speculativeTTL: 500ms"), 0);

    let backends = "kvCacheDefaultBackendWeight: 0.4, kvCacheBackendConfigs: [{name: gpu, weight: 0.9}, {name: cpu, \
                    weight: 0.7}, {name: lmcache-l1, weight: 0.5}, {name: disk, weight: 0.2}]";
    let precise = format!("precise-prefix-cache-scorer, parameters: {{indexerConfig: {{{backends}}}}}");
    let (config, notes) = read_plugins(&[&precise, "token-load-scorer"]);
    let scorers = config.policy.decode.scorers.unwrap();
    let credits = scorers.kv_cache.unwrap().credits;
    assert_eq!((credits.gpu, credits.cpu, credits.disk, credits.external), (0.9, 0.7, 0.2, 0.4));
    assert_eq!(scorers.token_load.unwrap().credits, credits);
    let note = "plugins[0] (precise-prefix-cache-scorer): not mapped: backend `lmcache-l1`: tiers are gpu, cpu, disk \
                and external";
    assert!(notes.iter().any(|other| other == note), "{notes:?}");
}

#[test]
fn saturation_is_overload() {
    let overload = |plugins: &[&str]| {
        let (config, notes) = read_plugins(&[plugins, &["queue-scorer"]].concat());
        let steers =
            decode(&Config { overload: Config::default().overload, ..config.clone() }).contains("overload");
        ((config.overload.waiting, config.overload.kv_usage, steers), notes)
    };
    assert_eq!(overload(&["utilization-detector|no"]).0, (5, 0.8, false));
    let given = "queueDepthThreshold: 10, kvCacheUtilThreshold: 0.5, headroom: 0.25";
    let detector = format!("utilization-detector, parameters: {{{given}}}");
    assert_eq!(overload(&[&format!("{detector}|no")]).0, (10, 0.5, false));
    assert_eq!(overload(&[&detector]).0, (13, 0.625, true));
    assert_eq!(
        overload(&["utilization-detector, parameters: {queueDepthThreshold: 9999999999}|no"]).0,
        (u32::MAX, 0.8, false)
    );
    let filter = "utilization-filter, parameters: {conditions: [{metric: waiting-queue, maxValue: 3}]}";
    assert_eq!(overload(&[filter]).0, (4, 2.0_f32, true));
    let both = "utilization-filter, parameters: {fallbackOnEmpty: true, conditions: [{metric: kv-cache-utilization, \
                maxValue: 0.5}, {metric: running, maxValue: 1}]}";
    let ((waiting, kv_usage, _), notes) = overload(&[both]);
    assert_eq!((waiting, kv_usage), (0, 0.5_f32.next_up()));
    assert_eq!(notes.len(), 1, "{notes:?}");
    let (bounds, notes) = overload(&[filter, "utilization-detector|no"]);
    assert_eq!(bounds, (4, 2.0, true));
    assert!(notes.last().unwrap().contains("another plugin sets it already: `overload`"), "{notes:?}");
}

#[test]
fn the_first_versions_have_a_detector_of_their_own() {
    let detector =
        |section: &str| read(&format!("{}saturationDetector: {section}\n", document(&["queue-scorer"])));
    let (config, notes) = detector("{queueDepthThreshold: 7, metricsStalenessThreshold: 150ms}").unwrap();
    assert_eq!((config.overload.waiting, config.overload.kv_usage), (7, 0.8));
    assert_eq!(notes, ["saturationDetector: its thresholds are `overload`; admission is the gateway's"]);
    let (_, notes) = detector("{pluginRef: utilization-detector}").unwrap();
    assert_eq!(notes, ["saturationDetector: not mapped: admission is the gateway's"]);
}

#[test]
fn topology_reads_the_extractor_s_labels() {
    let (config, _) = read_plugins(&[
        "topology-extractor, parameters: {rack: example.com/rack}|no",
        "topology-affinity-scorer",
    ]);
    let levels = config.policy.decode.scorers.unwrap().topology.unwrap().levels.unwrap();
    let labels: Vec<_> = levels.iter().map(|level| (level.label.as_str(), level.distance)).collect();
    assert_eq!(
        labels,
        [
            ("kubernetes.io/hostname", 0.0),
            ("example.com/rack", 0.8),
            ("topology.kubernetes.io/zone", 0.95),
            ("topology.kubernetes.io/region", 0.98)
        ]
    );
    let (config, _) = read_plugins(&["topology-extractor|no", "topology-affinity-scorer"]);
    assert_eq!(config.policy.decode.scorers.unwrap().topology.unwrap().levels, None);
}
