//! The plugin types of llm-d, what they are, and why those that are not here are not.
//!
//! From llm-d-router ebab687 and what was registered in `cmd/epp/runner` up to September 2026, with the types that
//! older configurations name. Plugins of somebody's own are not among them; llm-d refuses such a type too, unless it was
//! built with it.

use alloc::vec::Vec;

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Filter,
    Scorer,
    Picker,
    /// Says which profiles a request runs.
    Handler,
    /// Says whether a request has a prefill or an encode pod of its own.
    Decider,
    /// Finds out how much of a prompt pods have, from what was sent to them.
    Approximate,
    /// The same from their events.
    Precise,
    /// Limits that saturated pods reach.
    Detector,
    /// Finds out or does something else.
    Other,
}

/// A plugin type.
#[derive(Debug)]
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Why it is not mapped; empty if it is.
    pub(super) missing: &'static str,
}

impl Type {
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        TYPES.iter().find(|known| known.name == name)
    }

    pub(super) fn names() -> Vec<&'static str> {
        TYPES.iter().map(|known| known.name).collect()
    }

    /// Whether llm-d makes a plugin of this type and name by itself where one is referred to.
    pub(super) fn is_made_by_default(&self) -> bool {
        DEFAULTS.contains(&self.name)
    }
}

/// What llm-d adds to a configuration that does not have it.
const DEFAULTS: [&str; 15] = [
    "anthropic-parser",
    "approx-prefix-cache-producer",
    "core-metrics-extractor",
    "fcfs-ordering-policy",
    "global-strict-fairness-policy",
    "inflight-load-producer",
    "metrics-data-source",
    "openai-parser",
    "passthrough-parser",
    "predicted-latency-producer",
    "session-id-producer",
    "static-usage-limit-policy",
    "token-producer",
    "utilization-detector",
    "vllmhttp-parser",
];

const ADMISSION: &str =
    "admission, queues, fairness and eviction are the gateway's; kvroute gives it each pod's load";
const LOADS: &str = "kvroute scrapes nothing: the embedder reports loads (`report_load`) and LoRA adapters \
                     (`report_adapters`)";
const GPUS: &str =
    "kvroute knows no metrics of GPUs; the embedder collects what its own filters and scorers need";
const PODS: &str = "the embedder adds and removes pods (`add_pod`, `remove_pod`) and their labels";
const PARSERS: &str = "kvroute reads no HTTP: the embedder makes requests of what it received";
const HEADERS: &str = "the embedder writes headers: a decision names the pods";
const CLUSTERS: &str = "kvroute has pods, not clusters";
const TOKENS: &str = "kvroute tokenizes nothing: requests bring token ids, or their text";
const IDENTITY: &str = "the embedder reads headers: requests bring what is to be known of them";
const LATENCIES: &str =
    "kvroute's latencies are those of a fixed model, set by `model` of the scorer `latency`";
const TESTS: &str = "it serves llm-d's own tests";
/// A scorer that the embedder can compute; its notes say more.
const ELSEWHERE: &str = "kvroute has no such scorer";

const fn mapped(name: &'static str, kind: Kind) -> Type {
    Type { name, kind, missing: "" }
}

const fn missing(name: &'static str, kind: Kind, missing: &'static str) -> Type {
    Type { name, kind, missing }
}

static TYPES: [Type; 104] = [
    // Filters.
    mapped("decode-filter", Kind::Filter),
    mapped("prefill-filter", Kind::Filter),
    mapped("encode-filter", Kind::Filter),
    mapped("label-selector-filter", Kind::Filter),
    mapped("by-label-selector", Kind::Filter),
    mapped("by-label", Kind::Filter),
    mapped("session-affinity-filter", Kind::Filter),
    mapped("prefix-cache-affinity-filter", Kind::Filter),
    mapped("utilization-filter", Kind::Filter),
    missing(
        "slo-headroom-tier-filter",
        Kind::Filter,
        "kvroute knows no latency objectives; its scorer `latency` prefers the soonest first token",
    ),
    missing(
        "endpoint-attribute-filter",
        Kind::Filter,
        "kvroute knows no such metric of a pod: the embedder can take the pod out (`set_accepting`), or name the pods \
         that may be picked (a request's `subset`)",
    ),
    missing(
        "topology-affinity-filter",
        Kind::Filter,
        "kvroute only prefers near pods: its scorer `topology`, with more weight than the others together, keeps to \
         the nearest",
    ),
    missing("multicluster-session-affinity-filter", Kind::Filter, CLUSTERS),
    missing("header-based-testing-filter", Kind::Filter, TESTS),
    // Scorers.
    mapped("prefix-cache-scorer", Kind::Scorer),
    mapped("precise-prefix-cache-scorer", Kind::Scorer),
    mapped("session-affinity-scorer", Kind::Scorer),
    mapped("load-aware-scorer", Kind::Scorer),
    mapped("queue-scorer", Kind::Scorer),
    mapped("running-requests-size-scorer", Kind::Scorer),
    mapped("kv-cache-utilization-scorer", Kind::Scorer),
    mapped("active-request-scorer", Kind::Scorer),
    mapped("token-load-scorer", Kind::Scorer),
    mapped("lora-affinity-scorer", Kind::Scorer),
    mapped("no-hit-lru-scorer", Kind::Scorer),
    mapped("latency-scorer", Kind::Scorer),
    mapped("topology-affinity-scorer", Kind::Scorer),
    missing("context-length-aware", Kind::Scorer, ELSEWHERE),
    missing("endpoint-attribute-scorer", Kind::Scorer, ELSEWHERE),
    missing("header-label-affinity-scorer", Kind::Scorer, ELSEWHERE),
    missing("mm-embeddings-cache-scorer", Kind::Scorer, ELSEWHERE),
    missing("multicluster-kv-cache-utilization-scorer", Kind::Scorer, ELSEWHERE),
    missing("multicluster-prefix-cache-scorer", Kind::Scorer, ELSEWHERE),
    missing("multicluster-queue-scorer", Kind::Scorer, ELSEWHERE),
    missing("multicluster-topology-scorer", Kind::Scorer, ELSEWHERE),
    // Pickers.
    mapped("max-score-picker", Kind::Picker),
    mapped("weighted-random-picker", Kind::Picker),
    mapped("random-picker", Kind::Picker),
    // Profiles.
    mapped("single-profile-handler", Kind::Handler),
    mapped("disagg-profile-handler", Kind::Handler),
    mapped("pd-profile-handler", Kind::Handler),
    mapped("data-parallel-profile-handler", Kind::Handler),
    mapped("header-profile-handler", Kind::Handler),
    mapped("prefix-based-pd-decider", Kind::Decider),
    mapped("always-disagg-pd-decider", Kind::Decider),
    missing("always-disagg-multimodal-decider", Kind::Decider, "kvroute knows no encode pods"),
    missing("disagg-headers-handler", Kind::Other, HEADERS),
    missing("prefill-header-handler", Kind::Other, HEADERS),
    // Producers.
    mapped("approx-prefix-cache-producer", Kind::Approximate),
    mapped("precise-prefix-cache-producer", Kind::Precise),
    missing(
        "burst-prefix-cache-producer",
        Kind::Approximate,
        "kvroute holds no request back to see what comes with it; what it sends somewhere counts as there at once, so \
         that requests that share a prefix meet anyway",
    ),
    missing("multicluster-approx-prefix-cache-producer", Kind::Approximate, CLUSTERS),
    missing(
        "inflight-load-producer",
        Kind::Other,
        "kvroute books what it sends itself: the embedder tells of first tokens and ends (`first_token`, `finish`)",
    ),
    missing(
        "mm-embeddings-cache-producer",
        Kind::Other,
        "kvroute does not follow caches of multimodal embeddings",
    ),
    missing("p2p-source-producer", Kind::Other, HEADERS),
    missing("predicted-latency-producer", Kind::Other, LATENCIES),
    missing("latency-predictor-producer", Kind::Other, LATENCIES),
    missing("session-id-producer", Kind::Other, IDENTITY),
    missing("token-producer", Kind::Other, TOKENS),
    missing("tokenizer", Kind::Other, TOKENS),
    missing("agent-identity", Kind::Other, IDENTITY),
    missing("outlen-bucket", Kind::Other, IDENTITY),
    missing("request-attribute-reporter", Kind::Other, HEADERS),
    missing("models-responder", Kind::Other, PARSERS),
    missing("destination-endpoint-served-verifier", Kind::Other, TESTS),
    // Admission.
    mapped("utilization-detector", Kind::Detector),
    missing("concurrency-detector", Kind::Detector, ADMISSION),
    missing("latency-slo-admitter", Kind::Other, ADMISSION),
    missing("probabilistic-admitter", Kind::Other, ADMISSION),
    missing(
        "disaggregatedset-rollout-screener",
        Kind::Other,
        "which pods may be picked during a rollout is the embedder's (`set_accepting`, or a request's `subset`)",
    ),
    missing("global-strict-fairness-policy", Kind::Other, ADMISSION),
    missing("round-robin-fairness-policy", Kind::Other, ADMISSION),
    missing("program-aware-fairness", Kind::Other, ADMISSION),
    missing("fcfs-ordering-policy", Kind::Other, ADMISSION),
    missing("edf-ordering-policy", Kind::Other, ADMISSION),
    missing("slo-deadline-ordering-policy", Kind::Other, ADMISSION),
    missing("static-usage-limit-policy", Kind::Other, ADMISSION),
    missing("priority-holdback-policy", Kind::Other, ADMISSION),
    missing("soft-reflective-ceiling-policy", Kind::Other, ADMISSION),
    missing("sheddable-eviction-filter", Kind::Other, ADMISSION),
    missing("eviction-sheddable-filter", Kind::Other, ADMISSION),
    missing("priority-then-time-eviction-order-policy", Kind::Other, ADMISSION),
    missing("eviction-priority-then-time-ordering", Kind::Other, ADMISSION),
    // What is known of pods.
    missing("metrics-data-source", Kind::Other, LOADS),
    missing("core-metrics-extractor", Kind::Other, LOADS),
    missing("dcgm-data-source", Kind::Other, GPUS),
    missing("dcgm-extractor", Kind::Other, GPUS),
    missing("multicluster-metrics-data-source", Kind::Other, CLUSTERS),
    missing("multicluster-metrics-extractor", Kind::Other, CLUSTERS),
    missing("models-data-source", Kind::Other, PODS),
    missing("models-data-extractor", Kind::Other, PODS),
    missing("model-server-protocol-models", Kind::Other, PODS),
    missing("k8s-notification-source", Kind::Other, PODS),
    missing("endpoint-notification-source", Kind::Other, PODS),
    missing("file-discovery", Kind::Other, PODS),
    missing("multicluster-file-discovery", Kind::Other, CLUSTERS),
    missing("topology-extractor", Kind::Other, PODS),
    // Requests.
    missing("openai-parser", Kind::Other, PARSERS),
    missing("anthropic-parser", Kind::Other, PARSERS),
    missing("vllmhttp-parser", Kind::Other, PARSERS),
    missing("sglanghttp-parser", Kind::Other, PARSERS),
    missing("vllmgrpc-parser", Kind::Other, PARSERS),
    missing("vertexai-parser", Kind::Other, PARSERS),
    missing("passthrough-parser", Kind::Other, PARSERS),
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn types_are_there_once() {
        let names = Type::names();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in DEFAULTS {
            assert!(Type::find(name).is_some(), "{name}");
        }
    }
}
