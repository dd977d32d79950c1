//! What is said of mistakes: the whole message, for each kind of mistake.

use kvroute_core::{Config, ErrorKind};

/// A document and what is said of it; in documents, `;` stands for a new line.
const MISTAKES: &[(&str, &str)] = &[
    // Documents.
    ("", "an empty document; `{}` is the configuration with all defaults"),
    ("# nothing;---;", "an empty document; `{}` is the configuration with all defaults"),
    ("~", "found nothing, expected a mapping (line 1, column 1)"),
    ("[1]", "found a list, expected a mapping (line 1, column 1)"),
    ("index", "found `index`, expected a mapping (line 1, column 1)"),
    ("index: {};---;index: {}", "found a second document, expected one (line 3, column 1)"),
    ("index: *limits", "cannot read YAML: alias references unknown anchor (line 1, column 8)"),
    ("index: \"", "cannot read YAML: unclosed quote (line 1, column 8)"),
    ("{} {}", "cannot read JSON: trailing characters (line 1, column 4)"),
    ("{\"index\": ", "index: cannot read JSON: EOF while parsing a value (line 1, column 10)"),
    ("index: {shards: !big 1}", "index: cannot read YAML: unsupported tag `!big` (line 1, column 22)"),
    // Keys.
    ("indx: {}", "unknown key `indx`; did you mean `index`? (line 1, column 1)"),
    (
        "router: {}",
        "unknown key `router`; known: policy, index, text_block_bytes, sessions, requests, overload, domains, pods \
         (line 1, column 1)",
    ),
    ("index:;  shrads: 64", "index: unknown key `shrads`; did you mean `shards`? (line 2, column 3)"),
    (
        "{\"index\": {\"shrads\": 64}}",
        "index: unknown key `shrads`; did you mean `shards`? (line 1, column 19)",
    ),
    (
        "policy:;  decode:;    scorers:;      kv-cahce: {weight: 5}",
        "policy.decode.scorers: unknown key `kv-cahce`; did you mean `kv-cache`? (line 4, column 7)",
    ),
    (
        "policy: {decode: {scorers: {kv-cache: {weight: 1, credits: {ram: 1}}}}}",
        "policy.decode.scorers.kv-cache.credits: unknown key `ram`; known: gpu, cpu, disk, external, trust \
         (line 1, column 61)",
    ),
    (
        "policy: {prefill: {max_uncached_tokens: 1, filtres: []}}",
        "policy.prefill: unknown key `filtres`; did you mean `filters`? (line 1, column 44)",
    ),
    (
        "domains: {m: {block_size: 16}};pods:;  - {name: p, domain: m, dp_rnak: 1}",
        "pods[0]: unknown key `dp_rnak`; did you mean `dp_rank`? (line 3, column 26)",
    ),
    ("index: {shards: 1, shards: 2}", "index: duplicate key `shards` (line 1, column 20)"),
    ("{\"index\": {\"shards\": 1, \"shards\": 2}}", "index: duplicate key `shards` (line 1, column 32)"),
    ("domains:;  m: {block_size: 16};  m: {block_size: 16}", "domains: duplicate key `m` (line 3, column 3)"),
    (
        "{\"domains\": {\"m\": {\"block_size\": 16}, \"m\": {\"block_size\": 16}}}",
        "domains: duplicate key `m` (line 1, column 41)",
    ),
    ("domains: {m: {}}", "domains.m: key `block_size` is missing (line 1, column 14)"),
    ("pods:;  - {domain: m}", "pods[0]: key `name` is missing (line 2, column 6)"),
    (
        "policy: {decode: {scorers: {kv-cache: {}}}}",
        "policy.decode.scorers.kv-cache: key `weight` is missing (line 1, column 39)",
    ),
    ("policy: {prefill: {}}", "policy.prefill: key `max_uncached_tokens` is missing (line 1, column 19)"),
    // Values that are not there.
    ("index:", "index: found nothing, expected a mapping (line 1, column 6)"),
    ("{\"index\": null}", "index: found nothing, expected a mapping (line 1, column 14)"),
    ("policy:;  prefill:;index: {}", "policy.prefill: found nothing, expected a mapping (line 2, column 10)"),
    (
        "policy:;  decode:;    scorers:;      kv-cache:",
        "policy.decode.scorers.kv-cache: found nothing, expected a mapping (line 4, column 15)",
    ),
    (
        "index: {shards: ~}",
        "index.shards: found nothing, expected a whole number, 0 to 4294967295 (line 1, column 17)",
    ),
    (
        "domains: {m: {block_size: 16}};pods: [{name: p, domain: m, labels: {zone: }}]",
        "pods[0].labels.zone: found nothing, expected a text (line 2, column 42)",
    ),
    // Values of another type.
    (
        "index: {shards: many}",
        "index.shards: found `many`, expected a whole number, 0 to 4294967295 (line 1, column 17)",
    ),
    (
        "{\"index\": {\"shards\": \"many\"}}",
        "index.shards: found `\"many\"`, expected a whole number, 0 to 4294967295 (line 1, column 27)",
    ),
    (
        "index:;  max_bytes: -1",
        "index.max_bytes: found `-1`, expected a whole number, 0 or more (line 2, column 14)",
    ),
    ("index:;  shards:;  - 4", "index.shards: found a list, expected a single value (line 3, column 5)"),
    (
        "index:;  shards:;    n: 4",
        "index.shards: found a mapping, expected a single value (line 3, column 5)",
    ),
    ("index: [shards]", "index: found a list, expected a mapping (line 1, column 8)"),
    (
        "policy: {decode: {scorers: {prefix: 3}}}",
        "policy.decode.scorers.prefix: found `3`, expected a mapping (line 1, column 37)",
    ),
    (
        "policy:;  decode:;    filters:;      role: decode",
        "policy.decode.filters: found a mapping, expected a list (line 4, column 7)",
    ),
    (
        "{\"pods\": [{\"name\": 7, \"domain\": \"m\"}]}",
        "pods[0].name: found `7`, expected a text (line 1, column 20)",
    ),
    (
        "domains: {m: {block_size: 16, models: llama}}",
        "domains.m.models: found `llama`, expected a list (line 1, column 39)",
    ),
    // Names.
    (
        "policy: {preset: llmd-demo}",
        "policy.preset: unknown value `llmd-demo`; did you mean `llm-d-demo`? (line 1, column 18)",
    ),
    (
        "policy: {decode: {filters: [acepting]}}",
        "policy.decode.filters[0]: unknown value `acepting`; did you mean `accepting`? (line 1, column 29)",
    ),
    (
        "{\"policy\": {\"decode\": {\"filters\": [\"acepting\"]}}}",
        "policy.decode.filters[0]: unknown value `acepting`; did you mean `accepting`? (line 1, column 45)",
    ),
    (
        "policy: {decode: {filters: [role]}}",
        "policy.decode.filters[0].role: found nothing, expected a value (line 1, column 33)",
    ),
    (
        "policy: {decode: {filters: [{role: decode, model: x}]}}",
        "policy.decode.filters[0].role: found a second key, expected one (line 1, column 44)",
    ),
    (
        "policy: {decode: {filters: [{role: decoder}]}}",
        "policy.decode.filters[0].role: unknown value `decoder`; did you mean `decode`? (line 1, column 36)",
    ),
    (
        "policy: {decode: {picker: random}}",
        "policy.decode.picker: unknown value `random`; known: max-score, weighted-random, power-of-two, softmax (line 1, column 27)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: vlm}}",
        "domains.m.scheme: unknown value `vlm`; did you mean `vllm`? (line 1, column 31)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: {vlm: {}}}}",
        "domains.m.scheme: unknown value `vlm`; did you mean `vllm`? (line 1, column 40)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: 5}}",
        "domains.m.scheme: found `5`, expected `own`, {own: ...} or {vllm: ...} (line 1, column 31)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: vllm}}",
        "domains.m.scheme: found `vllm` alone, expected its algorithm too: {vllm: {algorithm: sha256, ...}} \
         (line 1, column 39)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: {own: {}, vllm: {algorithm: sha256}}}}",
        "domains.m.scheme: expected one scheme, `own` or `vllm` (line 1, column 39)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: {vllm: {algorithm: sha265, era: tagged}}}}",
        "domains.m.scheme.vllm.algorithm: unknown value `sha265`; did you mean `sha256`? (line 1, column 47)",
    ),
    (
        "domains: {llama-3.1-8b: {block_size: 16}};pods:;  - {name: p, domain: llama-3.1-8}",
        "pods[0].domain: unknown domain `llama-3.1-8`; did you mean `llama-3.1-8b`? (line 3, column 23)",
    ),
    (
        "{\"pods\": [{\"name\": \"p\",; \"domain\": \"zork\"}]}",
        "pods[0].domain: unknown domain `zork`; there is none (line 2, column 12)",
    ),
    (
        "domains: {m: {block_size: 16}};pods: [{name: p, domain: m, events: {copies: maybe}}]",
        "pods[0].events.copies: unknown value `maybe`; known: infer, count, set (line 2, column 46)",
    ),
    // Numbers out of range.
    ("index: {shards: 0}", "index.shards: found `0`, expected 1 to 4096 (line 1, column 17)"),
    (
        "text_block_bytes: 10",
        "text_block_bytes: found `10`, expected a multiple of 4 from 4 to 262144 (line 1, column 19)",
    ),
    ("sessions: {ttl_seconds: 0}", "sessions.ttl_seconds: found `0`, expected 1 or more (line 1, column 25)"),
    ("requests: {max: 262145}", "requests.max: found `262145`, expected 262144 at most (line 1, column 17)"),
    (
        "policy:;  decode:;    scorers:;      kv-cache: {weight: .nan}",
        "policy.decode.scorers.kv-cache.weight: found `NaN`, expected a finite number, 0 or more \
         (line 4, column 26)",
    ),
    (
        "policy: {decode: {scorers: {prefix: {weight: -1}}}}",
        "policy.decode.scorers.prefix.weight: found `-1`, expected a finite number, 0 or more \
         (line 1, column 46)",
    ),
    (
        "policy: {prefill: {max_uncached_tokens: 1, scorers: {session: {weight: .inf}}}}",
        "policy.prefill.scorers.session.weight: found `inf`, expected a finite number, 0 or more \
         (line 1, column 72)",
    ),
    (
        "policy: {decode: {scorers: {load: {weight: 1, limit: 0}}}}",
        "policy.decode.scorers.load.limit: found `0`, expected 1 or more (line 1, column 54)",
    ),
    (
        "policy: {decode: {scorers: {kv-cache: {weight: 1, credits: {gpu: 2}}}}}",
        "policy.decode.scorers.kv-cache.credits.gpu: found `2`, expected a number from 0 to 1 \
         (line 1, column 66)",
    ),
    (
        "domains: {m: {block_size: 0}}",
        "domains.m.block_size: found `0`, expected 1 to 65536 tokens (line 1, column 27)",
    ),
    (
        "domains: {llama 3.1: {block_size: 65537}}",
        "domains[\"llama 3.1\"].block_size: found `65537`, expected 1 to 65536 tokens (line 1, column 35)",
    ),
    // What contradicts itself.
    (
        "policy: {decode: {scorers: {}}}",
        "policy.decode.scorers: found no scorer, expected one or more of kv-cache, prefix, session, load, cost, latency, token-load, queue, running, kv-usage, lora-affinity, topology, no-hit-lru, external \
         (line 1, column 28)",
    ),
    (
        "policy: {decode: {filters: [accepting, model, accepting]}}",
        "policy.decode.filters[2]: `accepting` is there already, at [0] (line 1, column 47)",
    ),
    (
        "domains: {m: {block_size: 16}};pods:;  - {name: p, domain: m};  - {name: p, domain: m}",
        "pods[1]: pod `p`, rank 0, is there already, at pods[0] (line 4, column 5)",
    ),
    ("domains: {'': {block_size: 16}}", "domains[\"\"]: a domain needs a name (line 1, column 15)"),
    (
        "pods: [{name: '', domain: m}]",
        "pods[0].name: found an empty text, expected a text (line 1, column 15)",
    ),
    (
        "domains: {m: {block_size: 16}};pods:;- name: p;  domain: m;  events:;    groups:;    - \
         {group: 1, kind: {sliding-window: {window: 0}}}",
        "pods[0].events.groups[0].kind.sliding-window.window: found `0`, expected 1 or more \
         (line 7, column 50)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: {vllm: {algorithm: sha256}}}}",
        "domains.m.scheme.vllm: expected `version`, such as \"0.32.0\", or `era` (line 1, column 46)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: {vllm: {algorithm: sha256, version: new}}}}",
        "domains.m.scheme.vllm.version: \"new\" is not a vLLM version such as \"0.32.0\" (line 1, column 75)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: {vllm: {algorithm: sha256, version: 0.32.0, era: tagged}}}}",
        "domains.m.scheme.vllm.era: `version` says it already (line 1, column 88)",
    ),
    (
        "domains: {m: {block_size: 16, scheme: {vllm: {algorithm: sha256, era: tagged, none_hash: 0g}}}}",
        "domains.m.scheme.vllm.none_hash: found something else, expected hexadecimal digits, two a byte \
         (line 1, column 90)",
    ),
    // Secrets are not repeated.
    (
        "sessions: {key: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e}",
        "sessions.key: found something else, expected 64 hexadecimal digits (line 1, column 17)",
    ),
    (
        "{\"sessions\": {\"key\": 12345678}}",
        "sessions.key: found something else, expected 64 hexadecimal digits (line 1, column 29)",
    ),
    (
        "sessions: {key: [12345678]}",
        "sessions.key: found something else, expected 64 hexadecimal digits (line 1, column 17)",
    ),
];

/// Reads each document, and compares what is said with what should be.
pub(crate) fn assert_told(mistakes: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (document, expected) in mistakes {
        let document = document.replace(';', "\n");
        let said = match Config::parse(&document) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{document}");
                error.to_string()
            }
        };
        if said != *expected {
            wrong.push(format!("{document}\n  expected {expected}\n  was told {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_mistake_is_named_with_its_place_and_what_was_expected() {
    assert_told(MISTAKES);
}

#[test]
fn hashes_that_cannot_be_reproduced_are_told_apart_from_mistakes() {
    for vllm in ["algorithm: builtin, version: 0.9.0", "algorithm: sha256, version: 0.20.0"] {
        let document = format!("domains: {{m: {{block_size: 16, scheme: {{vllm: {{{vllm}}}}}}}}}");
        let error = Config::from_yaml(&document).unwrap_err();
        assert!(error.to_string().starts_with("domains.m.scheme.vllm"), "{error}");
        assert!(error.to_string().contains("translated mode: scheme \"own\""), "{error}");
    }
}

#[test]
fn control_characters_of_a_document_do_not_reach_a_log() {
    let error = Config::from_yaml("pods: [{name: p, domain: \"\\e[2J\\n\"}]").unwrap_err().to_string();
    assert_eq!(error, "pods[0].domain: unknown domain `\\u{1b}[2J\\n`; there is none (line 1, column 26)");
    let error = Config::from_yaml("\"a\\nb\": 1").unwrap_err().to_string();
    assert!(error.starts_with("unknown key `a\\nb`; known: "), "{error}");
}
