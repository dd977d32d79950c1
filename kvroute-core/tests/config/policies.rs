//! What a document says of a policy is what the code would have been told.

use std::time::Duration;

use kvroute_core::filter::{
    AcceptingFilter, AffinityFilter, HealthFilter, LabelFilter, LoraRoomFilter, ModelFilter, OverloadFilter,
    Requirement, RoleFilter, SubsetFilter,
};
use kvroute_core::guard::{LoadGuard, WarmUp};
use kvroute_core::index::TrustLevel;
use kvroute_core::latency::LatencyModel;
use kvroute_core::load::Overload;
use kvroute_core::pick::{PowerOfTwoPicker, SoftmaxPicker, WeightedRandomPicker};
use kvroute_core::policy::{PrefillPolicy, Sampling};
use kvroute_core::profile::ProfileBuilder;
use kvroute_core::score::{
    CostScorer, ExternalScorer, KvUsageScorer, LatencyScorer, LoraAffinityScorer, NoHitLruScorer,
    PrefixScorer, QueueScorer, RunningScorer, SessionScorer, TokenLoadScorer, TopologyScorer,
};

use super::*;

/// What a document makes of the decode profile of the preset llm-d-demo.
fn decode(yaml: &str) -> String {
    let config = Config::from_yaml(&format!("policy: {{preset: llm-d-demo, decode: {yaml}}}")).unwrap();
    debug(&config.policy().unwrap().decode)
}

/// The profile of the preset llm-d-demo, changed.
fn changed(change: impl FnOnce(ProfileBuilder) -> ProfileBuilder) -> String {
    let like_the_preset = |builder: ProfileBuilder| {
        builder
            .filter(AcceptingFilter)
            .filter(ModelFilter)
            .filter(RoleFilter::new(Role::Decode))
            .filter(SubsetFilter)
            .scorer(KvCacheScorer::default(), 5.0)
            .scorer(PrefixScorer, 3.0)
            .scorer(SessionScorer, 2.0)
            .scorer(LoadScorer::default(), 1.0)
    };
    debug(&change(like_the_preset(Profile::builder("decode"))).build().unwrap())
}

#[test]
fn every_filter_is_built_as_it_is_written_and_in_that_order() {
    let yaml = "{filters: [lora-room, overload, {labels: {match: {b: 1, a: x}, expressions: [
        {label: c, operator: in, values: [y, z]}, {label: d, operator: not-in, values: [y]},
        {label: e, operator: exists}, {label: f, operator: does-not-exist}]}},
      {health: {failures: 5, pause_seconds: 7}},
      {affinity: {share: 0.5, budget_ms: 70, credits: {cpu: 0.25, trust: {approximate: 0}},
        model: {least: 0.25, per_token: 0, per_pair: 0.5, per_request: 1}}},
      subset, {role: prefill}, model, accepting], scorers: {load: {weight: 1}}}";
    let is = |label: &str, values: &[&str]| {
        Requirement::In(label.into(), values.iter().map(|value| value.to_string()).collect())
    };
    let requirements = [
        is("a", &["x"]),
        is("b", &["1"]),
        is("c", &["y", "z"]),
        Requirement::NotIn("d".into(), vec!["y".into()]),
        Requirement::Exists("e".into()),
        Requirement::DoesNotExist("f".into()),
    ];
    let credits = Credits::default().with_tier(Tier::Cpu, 0.25).unwrap();
    let credits = credits.with_trust(TrustLevel::Approximate, 0.0).unwrap();
    let model = LatencyModel { least: 0.25, per_token: 0.0, per_pair: 0.5, per_request: 1.0 };
    let expected = Profile::builder("decode")
        .filter(LoraRoomFilter)
        .filter(OverloadFilter)
        .filter(LabelFilter::new(requirements))
        .filter(HealthFilter { failures: 5, pause: Duration::from_secs(7) })
        .filter(AffinityFilter::new(0.5, Duration::from_millis(70), credits, model).unwrap())
        .filter(SubsetFilter)
        .filter(RoleFilter::new(Role::Prefill))
        .filter(ModelFilter)
        .filter(AcceptingFilter)
        .scorer(LoadScorer::default(), 1.0);
    assert_eq!(decode(yaml), debug(&expected.build().unwrap()));
    // No filter at all is a choice too.
    let none = Profile::builder("decode").scorer(LoadScorer::default(), 1.0).build().unwrap();
    assert_eq!(decode("{filters: [], scorers: {load: {weight: 1}}}"), debug(&none));
}

#[test]
fn every_scorer_is_built_as_it_is_written() {
    let yaml = "{filters: [], scorers: {
      external: {zebra: {weight: 2}, ant: {weight: 0}}, no-hit-lru: {weight: 12},
      topology: {weight: 11, levels: [{label: far, distance: 1}, {label: near, distance: 0.125}], near: {near: here}},
      lora-affinity: {weight: 10}, kv-usage: {weight: 9}, running: {weight: 8}, queue: {weight: 7},
      token-load: {weight: 6, limit: 99, credits: {gpu: 0.5}},
      latency: {weight: 5, credits: {gpu: 0.25}, model: {per_request: 3}},
      cost: {weight: 4, displacement: 7, credits: {external: 1}}, load: {weight: 3, limit: 1},
      session: {weight: 2}, prefix: {weight: 1}, kv-cache: {weight: 0.5}}}";
    let tier = |tier, credit| Credits::default().with_tier(tier, credit).unwrap();
    let levels = [("near".to_string(), 0.125), ("far".to_string(), 1.0)];
    let topology = TopologyScorer::new(levels).unwrap().near([("near".into(), "here".into())].into());
    let model = LatencyModel { per_request: 3.0, ..LatencyModel::default() };
    let expected = Profile::builder("decode")
        .scorer(KvCacheScorer::default(), 0.5)
        .scorer(PrefixScorer, 1.0)
        .scorer(SessionScorer, 2.0)
        .scorer(LoadScorer::new(1).unwrap(), 3.0)
        .scorer(CostScorer::new(7.0, tier(Tier::External, 1.0)).unwrap(), 4.0)
        .scorer(LatencyScorer::new(tier(Tier::Gpu, 0.25), model).unwrap(), 5.0)
        .scorer(TokenLoadScorer::new(99, tier(Tier::Gpu, 0.5)).unwrap(), 6.0)
        .scorer(QueueScorer, 7.0)
        .scorer(RunningScorer, 8.0)
        .scorer(KvUsageScorer, 9.0)
        .scorer(LoraAffinityScorer, 10.0)
        .scorer(topology, 11.0)
        .scorer(NoHitLruScorer, 12.0)
        .scorer(ExternalScorer::new("ant"), 0.0)
        .scorer(ExternalScorer::new("zebra"), 2.0);
    assert_eq!(decode(yaml), debug(&expected.build().unwrap()));
}

#[test]
fn scorers_and_filters_with_nothing_said_of_them_have_the_codes_defaults() {
    let yaml =
        "{filters: [{health: {}}, {affinity: {}}], scorers: {latency: {weight: 1}, token-load: {weight: 1},
      cost: {weight: 1}, topology: {weight: 1}}}";
    let expected = Profile::builder("decode")
        .filter(HealthFilter::default())
        .filter(AffinityFilter::default())
        .scorer(CostScorer::default(), 1.0)
        .scorer(LatencyScorer::default(), 1.0)
        .scorer(TokenLoadScorer::default(), 1.0)
        .scorer(TopologyScorer::default(), 1.0);
    assert_eq!(decode(yaml), debug(&expected.build().unwrap()));
}

#[test]
fn pickers_guards_and_fallbacks_replace_those_of_the_preset() {
    assert_eq!(decode("{picker: weighted-random}"), changed(|profile| profile.picker(WeightedRandomPicker)));
    assert_eq!(decode("{picker: power-of-two}"), changed(|profile| profile.picker(PowerOfTwoPicker)));
    let softmax = |temperature| SoftmaxPicker::new(temperature).unwrap();
    assert_eq!(
        decode("{picker: {softmax: {temperature: 2}}}"),
        changed(|profile| profile.picker(softmax(2.0)))
    );
    assert_eq!(
        decode("{picker: {softmax: {}}}"),
        changed(|profile| profile.picker(SoftmaxPicker::default()))
    );
    assert_eq!(decode("{guard: {spill: {}}}"), changed(|profile| profile.guard(LoadGuard::default())));
    let guard = LoadGuard::new(2.5, 7, 3).unwrap();
    let yaml = "{guard: {spill: {relative: 2.5, absolute: 7, max_replicas: 3}}}";
    assert_eq!(decode(yaml), changed(|profile| profile.guard(guard)));
    assert_eq!(decode("{guard: none, warm_up: none}"), changed(|profile| profile));
    assert_eq!(decode("{warm_up: {divert: {}}}"), changed(|profile| profile.warm_up(WarmUp::default())));
    let warm_up = WarmUp::new(1.0, 0).unwrap();
    let yaml = "{warm_up: {divert: {share: 1, tokens: 0}}}";
    assert_eq!(decode(yaml), changed(|profile| profile.warm_up(warm_up)));
    assert_eq!(decode("{fallbacks: 16, seed: 9}"), changed(|profile| profile.fallbacks(16).seed(9)));
}

#[test]
fn the_prefill_profile_has_the_presets_role_and_its_own_conditions() {
    let config = Config::from_yaml(
        "policy: {preset: affinity, prefill: {max_uncached_tokens: 5, min_prompt_tokens: 6, max_prefill_load: 7, seed: 8}}",
    );
    let prefill = config.unwrap().policy().unwrap().prefill.unwrap();
    assert_eq!((prefill.max_uncached_tokens, prefill.min_prompt_tokens, prefill.max_prefill_load), (5, 6, 7));
    let expected = debug(&Profile::affinity(Role::Prefill)).replacen("seed: 0", "seed: 8", 1);
    assert_eq!(debug(&prefill.profile), expected);
    let config = Config::from_yaml("policy: {prefill: {max_uncached_tokens: 5}}").unwrap();
    let plain = PrefillPolicy::new(Profile::cost(Role::Prefill), 5);
    assert_eq!(debug(&config.policy().unwrap().prefill), debug(&Some(plain)));
}

#[test]
fn sampling_overload_and_speculation_reach_the_router() {
    let config = Config::from_yaml(
        "{policy: {sampling: {above: 3, holders: 0, others: 2}}, overload: {waiting: 0, kv_usage: 1.5}, \
         requests: {speculation_ms: 0}}",
    )
    .unwrap();
    assert_eq!(config.policy().unwrap().sampling, Sampling { above: 3, holders: 0, others: 2 });
    let options = config.router_options().unwrap();
    assert_eq!(options.overload, Overload { waiting: 0, kv_usage: 1.5 });
    assert_eq!(options.speculation_ttl, Duration::ZERO);
    let config = Config::from_yaml("{requests: {speculation_ms: 1500}, overload: {kv_usage: 0}}").unwrap();
    let options = config.router_options().unwrap();
    assert_eq!((options.speculation_ttl, options.overload.kv_usage), (Duration::from_millis(1500), 0.0));
    assert_eq!(options.overload.waiting, 8);
}

#[test]
fn each_bound_may_be_reached() {
    for yaml in [
        "{filters: [{affinity: {share: 0}}]}",
        "{filters: [{affinity: {share: 1, budget_ms: 18446744073709551615}}]}",
        "{filters: [{affinity: {credits: {gpu: 0, cpu: 1, trust: {exact: 0, load-only: 1}}}}]}",
        "{filters: [{health: {failures: 1, pause_seconds: 18446744073709551615}}]}",
        "{picker: {softmax: {temperature: 5.0e-324}}}",
        "{guard: {spill: {relative: 1, absolute: 0, max_replicas: 1}}}",
        "{warm_up: {divert: {share: 0, tokens: 18446744073709551615}}}",
        "{scorers: {token-load: {weight: 0, limit: 1}}}",
        "{scorers: {cost: {weight: 1, displacement: 0}}}",
        "{scorers: {cost: {weight: 1, displacement: 1.7e308}}}",
        "{scorers: {topology: {weight: 1, levels: [{label: a, distance: 0}, {label: b, distance: 1}]}}}",
        "{scorers: {queue: {weight: 1.7e308}}}",
    ] {
        let config = Config::from_yaml(&format!("policy: {{decode: {yaml}}}"));
        config.unwrap_or_else(|error| panic!("{yaml}: {error}")).build().unwrap();
    }
}

#[test]
fn policies_survive_the_way_through_json() {
    let yaml = "policy: {preset: cost, decode: {filters: [overload, {labels: {expressions: [{label: a, operator: exists}]}}],
      scorers: {queue: {weight: 1}}, picker: {softmax: {}}, guard: {spill: {}}, warm_up: none, fallbacks: 3}}";
    let config = Config::from_yaml(yaml).unwrap();
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(Config::from_json(&json).unwrap(), config, "{json}");
}
