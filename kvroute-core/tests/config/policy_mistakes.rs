//! What is said of mistakes in a policy: names, numbers, and what contradicts itself.

use super::mistakes::assert_told;

/// A document and what is said of it; in documents, `;` stands for a new line.
const MISTAKES: &[(&str, &str)] = &[
    // Filters, scorers, pickers and guards: names.
    (
        "policy: {decode: {filters: [{affinty: {}}]}}",
        "policy.decode.filters[0]: unknown value `affinty`; did you mean `affinity`? (line 1, column 30)",
    ),
    (
        "policy: {decode: {filters: [{health: {failure: 2}}]}}",
        "policy.decode.filters[0].health: unknown key `failure`; did you mean `failures`? (line 1, column 39)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {budget: 3}}]}}",
        "policy.decode.filters[0].affinity: unknown key `budget`; known: share, budget_ms, credits, model (line 1, column 41)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {model: {per_step: 3}}}]}}",
        "policy.decode.filters[0].affinity.model: unknown key `per_step`; known: least, per_token, per_pair, per_request (line 1, column 49)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {credits: {trust: {load_only: 1}}}}]}}",
        "policy.decode.filters[0].affinity.credits.trust: unknown key `load_only`; did you mean `load-only`? (line 1, column 59)",
    ),
    (
        "policy: {decode: {filters: [{labels: {expressions: [{label: a, operator: not_in, values: [b]}]}}]}}",
        "policy.decode.filters[0].labels.expressions[0].operator: unknown value `not_in`; did you mean `not-in`? (line 1, column 74)",
    ),
    (
        "policy: {decode: {filters: [{labels: {expressions: [{label: a}]}}]}}",
        "policy.decode.filters[0].labels.expressions[0]: key `operator` is missing (line 1, column 54)",
    ),
    (
        "policy: {decode: {filters: [{overload: {waiting: 3}}]}}",
        "policy.decode.filters[0].overload: cannot read YAML: unexpected value for unit enum variant (line 1, column 40)",
    ),
    (
        "policy: {decode: {filters: [affinity]}}",
        "policy.decode.filters[0].affinity: found `]`, expected a mapping (line 1, column 37)",
    ),
    (
        "policy: {decode: {picker: {softmax: {temprature: 1}}}}",
        "policy.decode.picker.softmax: unknown key `temprature`; did you mean `temperature`? (line 1, column 38)",
    ),
    (
        "policy: {decode: {picker: softmax}}",
        "policy.decode.picker.softmax: found `}`, expected a mapping (line 1, column 34)",
    ),
    (
        "policy: {decode: {guard: {spil: {}}}}",
        "policy.decode.guard: unknown value `spil`; did you mean `spill`? (line 1, column 27)",
    ),
    (
        "policy: {decode: {guard: {spill: {max_replica: 1}}}}",
        "policy.decode.guard.spill: unknown key `max_replica`; did you mean `max_replicas`? (line 1, column 35)",
    ),
    (
        "policy: {decode: {warm_up: {divert: {shares: 1}}}}",
        "policy.decode.warm_up.divert: unknown key `shares`; did you mean `share`? (line 1, column 38)",
    ),
    (
        "policy: {decode: {warm_up: divert}}",
        "policy.decode.warm_up.divert: found `}`, expected a mapping (line 1, column 34)",
    ),
    (
        "policy: {sampling: {holder: 3}}",
        "policy.sampling: unknown key `holder`; did you mean `holders`? (line 1, column 21)",
    ),
    (
        "policy: {decode: {scorers: {token-laod: {weight: 1}}}}",
        "policy.decode.scorers: unknown key `token-laod`; did you mean `token-load`? (line 1, column 29)",
    ),
    (
        "policy: {decode: {scorers: {topology: {weight: 1, levels: [{label: zone}]}}}}",
        "policy.decode.scorers.topology.levels[0]: key `distance` is missing (line 1, column 61)",
    ),
    (
        "policy: {decode: {scorers: {latency: {weight: 1, model: {leest: 1}}}}}",
        "policy.decode.scorers.latency.model: unknown key `leest`; did you mean `least`? (line 1, column 58)",
    ),
    (
        "policy: {decode: {scorers: {external: {load: {weight: 1}}}}}",
        "policy.decode.scorers.external.load: found a name that is empty or a scorer's own (line 1, column 46)",
    ),
    (
        "policy: {decode: {scorers: {external: {'': {weight: 1}}}}}",
        "policy.decode.scorers.external[\"\"]: found a name that is empty or a scorer's own (line 1, column 44)",
    ),
    ("overload: {waitng: 8}", "overload: unknown key `waitng`; did you mean `waiting`? (line 1, column 12)"),
    (
        "requests: {speculation: 2000}",
        "requests: unknown key `speculation`; did you mean `speculation_ms`? (line 1, column 12)",
    ),
    // Their numbers.
    (
        "policy: {decode: {filters: [{health: {failures: 0}}]}}",
        "policy.decode.filters[0].health.failures: found `0`, expected 1 or more (line 1, column 49)",
    ),
    (
        "policy: {decode: {filters: [{health: {pause_seconds: -1}}]}}",
        "policy.decode.filters[0].health.pause_seconds: found `-1`, expected a whole number, 0 or more (line 1, column 54)",
    ),
    (
        "policy: {decode: {filters: [accepting, {affinity: {share: 1.5}}]}}",
        "policy.decode.filters[1].affinity.share: found `1.5`, expected a number from 0 to 1 (line 1, column 59)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {share: .nan}}]}}",
        "policy.decode.filters[0].affinity.share: found `NaN`, expected a number from 0 to 1 (line 1, column 48)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {budget_ms: 0.5}}]}}",
        "policy.decode.filters[0].affinity.budget_ms: found `0.5`, expected a whole number, 0 or more (line 1, column 52)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {credits: {disk: -0.1}}}]}}",
        "policy.decode.filters[0].affinity.credits.disk: found `-0.1`, expected a number from 0 to 1 (line 1, column 57)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {credits: {trust: {load-only: 2}}}}]}}",
        "policy.decode.filters[0].affinity.credits.trust.load-only: found `2`, expected a number from 0 to 1 (line 1, column 70)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {model: {least: 0}}}]}}",
        "policy.decode.filters[0].affinity.model.least: found `0`, expected a finite number above 0 (line 1, column 56)",
    ),
    (
        "policy: {decode: {filters: [{affinity: {model: {per_pair: -1}}}]}}",
        "policy.decode.filters[0].affinity.model.per_pair: found `-1`, expected a finite number, 0 or more (line 1, column 59)",
    ),
    (
        "policy: {decode: {picker: {softmax: {temperature: 0}}}}",
        "policy.decode.picker.softmax.temperature: found `0`, expected a finite number above 0 (line 1, column 51)",
    ),
    (
        "policy: {decode: {picker: {softmax: {temperature: .inf}}}}",
        "policy.decode.picker.softmax.temperature: found `inf`, expected a finite number above 0 (line 1, column 51)",
    ),
    (
        "policy: {decode: {guard: {spill: {relative: 0.5}}}}",
        "policy.decode.guard.spill.relative: found `0.5`, expected a finite number, 1 or more (line 1, column 45)",
    ),
    (
        "policy: {decode: {guard: {spill: {relative: .nan}}}}",
        "policy.decode.guard.spill.relative: found `NaN`, expected a finite number, 1 or more (line 1, column 45)",
    ),
    (
        "policy: {decode: {guard: {spill: {absolute: 1.5}}}}",
        "policy.decode.guard.spill.absolute: found `1.5`, expected a whole number, 0 to 4294967295 (line 1, column 45)",
    ),
    (
        "policy: {decode: {guard: {spill: {max_replicas: 0}}}}",
        "policy.decode.guard.spill.max_replicas: found `0`, expected 1 or more (line 1, column 49)",
    ),
    (
        "policy: {prefill: {max_uncached_tokens: 1, guard: {spill: {max_replicas: 0}}}}",
        "policy.prefill.guard.spill.max_replicas: found `0`, expected 1 or more (line 1, column 74)",
    ),
    (
        "policy: {decode: {warm_up: {divert: {share: 1.25}}}}",
        "policy.decode.warm_up.divert.share: found `1.25`, expected a number from 0 to 1 (line 1, column 45)",
    ),
    (
        "policy: {decode: {warm_up: {divert: {share: .nan}}}}",
        "policy.decode.warm_up.divert.share: found `NaN`, expected a number from 0 to 1 (line 1, column 45)",
    ),
    (
        "policy: {decode: {warm_up: {divert: {tokens: -1}}}}",
        "policy.decode.warm_up.divert.tokens: found `-1`, expected a whole number, 0 or more (line 1, column 46)",
    ),
    (
        "policy: {decode: {fallbacks: 17}}",
        "policy.decode.fallbacks: found `17`, expected 16 at most (line 1, column 30)",
    ),
    (
        "policy: {prefill: {max_uncached_tokens: 1, fallbacks: 99}}",
        "policy.prefill.fallbacks: found `99`, expected 16 at most (line 1, column 55)",
    ),
    (
        "policy: {sampling: {holders: 0, others: 0}}",
        "policy.sampling: found no pods to look at, expected `holders` or `others` above 0 (line 1, column 20)",
    ),
    (
        "policy: {sampling: {above: -1}}",
        "policy.sampling.above: found `-1`, expected a whole number, 0 or more (line 1, column 28)",
    ),
    (
        "policy: {decode: {scorers: {token-load: {weight: 1, limit: 0}}}}",
        "policy.decode.scorers.token-load.limit: found `0`, expected 1 or more (line 1, column 60)",
    ),
    (
        "policy: {decode: {scorers: {cost: {weight: -1}}}}",
        "policy.decode.scorers.cost.weight: found `-1`, expected a finite number, 0 or more (line 1, column 44)",
    ),
    (
        "policy: {decode: {scorers: {cost: {weight: 1, displacement: -0.1}}}}",
        "policy.decode.scorers.cost.displacement: found `-0.1`, expected a finite number, 0 or more (line 1, column 61)",
    ),
    (
        "policy: {decode: {scorers: {cost: {weight: 1, displacement: .nan}}}}",
        "policy.decode.scorers.cost.displacement: found `NaN`, expected a finite number, 0 or more (line 1, column 61)",
    ),
    (
        "policy: {decode: {scorers: {cost: {weight: 1, displacment: 1}}}}",
        "policy.decode.scorers.cost: unknown key `displacment`; did you mean `displacement`? (line 1, column 47)",
    ),
    (
        "policy: {decode: {scorers: {cost: {weight: 1, credits: {trust: {exact: 1.1}}}}}}",
        "policy.decode.scorers.cost.credits.trust.exact: found `1.1`, expected a number from 0 to 1 (line 1, column 72)",
    ),
    (
        "policy: {decode: {scorers: {latency: {weight: 1, model: {least: 0}}}}}",
        "policy.decode.scorers.latency.model.least: found `0`, expected a finite number above 0 (line 1, column 65)",
    ),
    (
        "policy: {decode: {scorers: {latency: {weight: 1, credits: {gpu: 2}}}}}",
        "policy.decode.scorers.latency.credits.gpu: found `2`, expected a number from 0 to 1 (line 1, column 65)",
    ),
    (
        "policy: {decode: {scorers: {no-hit-lru: {weight: .nan}}}}",
        "policy.decode.scorers.no-hit-lru.weight: found `NaN`, expected a finite number, 0 or more (line 1, column 50)",
    ),
    (
        "policy: {decode: {scorers: {topology: {weight: 1, levels: []}}}}",
        "policy.decode.scorers.topology.levels: found no level, expected one or more (line 1, column 59)",
    ),
    (
        "policy: {decode: {scorers: {topology: {weight: 1, levels: [{label: zone, distance: 2}]}}}}",
        "policy.decode.scorers.topology.levels[0].distance: found `2`, expected a number from 0 to 1 (line 1, column 84)",
    ),
    (
        "policy: {decode: {scorers: {topology: {weight: 1, levels: [{label: '', distance: 0}]}}}}",
        "policy.decode.scorers.topology.levels[0].label: found an empty text, expected a text (line 1, column 68)",
    ),
    (
        "policy: {decode: {scorers: {external: {x: {weight: -2}}}}}",
        "policy.decode.scorers.external.x.weight: found `-2`, expected a finite number, 0 or more (line 1, column 52)",
    ),
    (
        "policy: {decode: {scorers: {queue: {weight: 1.7e308}, running: {weight: 1.7e308}}}}",
        "policy.decode.scorers: found weights without a finite sum (line 1, column 28)",
    ),
    (
        "policy: {prefill: {max_uncached_tokens: 1, min_prompt_tokens: -1}}",
        "policy.prefill.min_prompt_tokens: found `-1`, expected a whole number, 0 or more (line 1, column 63)",
    ),
    (
        "policy: {prefill: {max_uncached_tokens: 1, max_prefill_load: ~}}",
        "policy.prefill.max_prefill_load: found nothing, expected a whole number, 0 or more (line 1, column 62)",
    ),
    (
        "overload: {kv_usage: -0.1}",
        "overload.kv_usage: found `-0.1`, expected a finite number, 0 or more (line 1, column 22)",
    ),
    (
        "overload: {kv_usage: .nan}",
        "overload.kv_usage: found `NaN`, expected a finite number, 0 or more (line 1, column 22)",
    ),
    (
        "overload: {waiting: -1}",
        "overload.waiting: found `-1`, expected a whole number, 0 to 4294967295 (line 1, column 21)",
    ),
    (
        "requests: {speculation_ms: 0.5}",
        "requests.speculation_ms: found `0.5`, expected a whole number, 0 or more (line 1, column 28)",
    ),
    (
        "domains: {m: {block_size: 16}};pods: [{name: p, domain: m, capacity: 0}]",
        "pods[0].capacity: found `0`, expected a finite number above 0 (line 2, column 39)",
    ),
    (
        "domains: {m: {block_size: 16}};pods: [{name: p, domain: m, capacity: .inf}]",
        "pods[0].capacity: found `inf`, expected a finite number above 0 (line 2, column 39)",
    ),
    // Twice, and nothing where something is required.
    (
        "policy: {decode: {filters: [{health: {}}, overload, {health: {failures: 2}}]}}",
        "policy.decode.filters[2]: `health` is there already, at [0] (line 1, column 53)",
    ),
    (
        "policy: {decode: {filters: [{labels: {match: {a: b}}}, {labels: {match: {c: d}}}]}}",
        "policy.decode.filters[1]: `labels` is there already, at [0] (line 1, column 56)",
    ),
    (
        "policy: {decode: {filters: [{labels: {}}]}}",
        "policy.decode.filters[0].labels: found no requirement, expected `match`, `expressions` or both (line 1, column 38)",
    ),
    (
        "policy: {decode: {filters: [{labels: {match: {a: b, a: c}}}]}}",
        "policy.decode.filters[0].labels.match: duplicate key `a` (line 1, column 53)",
    ),
    (
        "policy: {decode: {filters: [{labels: {expressions: [{label: '', operator: exists}]}}]}}",
        "policy.decode.filters[0].labels.expressions[0].label: found an empty text, expected a text (line 1, column 61)",
    ),
    (
        "policy: {decode: {filters: [{labels: {expressions: [{label: a, operator: in}]}}]}}",
        "policy.decode.filters[0].labels.expressions[0]: found no `values`, expected one or more for this operator (line 1, column 53)",
    ),
    (
        "policy: {decode: {filters: [{labels: {expressions: [{label: a, operator: not-in, values: []}]}}]}}",
        "policy.decode.filters[0].labels.expressions[0]: found no `values`, expected one or more for this operator (line 1, column 53)",
    ),
    (
        "policy: {decode: {filters: [{labels: {expressions: [{label: a, operator: exists, values: [b, c]}]}}]}}",
        "policy.decode.filters[0].labels.expressions[0].values: found `b, c`, expected none for this operator (line 1, column 90)",
    ),
    (
        "policy: {decode: {scorers: {topology: {weight: 1, levels: [{label: a, distance: 0}, {label: a, distance: 1}]}}}}",
        "policy.decode.scorers.topology.levels[1].label: `a` is there already, at [0] (line 1, column 93)",
    ),
    (
        "policy: {decode: {scorers: {topology: {weight: 1, near: {a: b, a: c}}}}}",
        "policy.decode.scorers.topology.near: duplicate key `a` (line 1, column 64)",
    ),
    (
        "policy: {decode: {scorers: {queue: {}}}}",
        "policy.decode.scorers.queue: key `weight` is missing (line 1, column 36)",
    ),
    (
        "policy: {decode: {warm_up: ~}}",
        "policy.decode.warm_up: unknown value `~`; known: none, divert (line 1, column 28)",
    ),
    (
        "policy: {decode: {guard: ~}}",
        "policy.decode.guard: unknown value `~`; known: none, spill (line 1, column 26)",
    ),
    (
        "policy: {decode: {guard: {none: {}}}}",
        "policy.decode.guard.none: cannot read YAML: unexpected value for unit enum variant (line 1, column 33)",
    ),
    (
        "policy: {decode: {guard: {spill: {max_replicas: ~}}}}",
        "policy.decode.guard.spill.max_replicas: found nothing, expected a whole number, 0 to 4294967295 (line 1, column 49)",
    ),
    (
        "policy: {decode: {picker: {softmax: ~}}}",
        "policy.decode.picker.softmax: found nothing, expected a mapping (line 1, column 37)",
    ),
];

#[test]
fn every_mistake_in_a_policy_is_named_with_its_place_and_what_was_expected() {
    assert_told(MISTAKES);
}
