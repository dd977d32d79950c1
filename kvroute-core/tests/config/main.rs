//! The configuration: what documents say is what routers are made of, defaults are the code's, mistakes
//! are named (`mistakes`, `policy_mistakes`), hostile documents are harmless (`hostile`), llm-d's configurations
//! (`endpoint_picker`) and first environment variables mean what they meant (`environment`). Of policies `policies`
//! tells more.

mod endpoint_picker;
mod environment;
mod hostile;
mod mistakes;
mod policies;
mod policy_mistakes;

use std::collections::BTreeSet;
use std::sync::Arc;

use kvroute_core::config::{Config, DomainConfig, OwnConfig, SchemeConfig};
use kvroute_core::credits::Credits;
use kvroute_core::event::GroupKind;
use kvroute_core::hash::{
    BlockHasher, HashScheme, HashSeed, MultimodalForm, VllmAlgorithm, VllmEra, VllmScheme,
};
use kvroute_core::index::{CopyPolicy, GapPolicy};
use kvroute_core::record::LogLine;
use kvroute_core::score::{KvCacheScorer, LoadScorer};
use kvroute_core::{
    CacheDomain, OwnScheme, PodOptions, PodSpec, Policy, Profile, Role, Router, RouterOptions, SessionKey,
    Tier,
};

const EXAMPLE: &str = include_str!("example.yaml");

fn example() -> Config {
    Config::from_yaml(EXAMPLE).unwrap()
}

/// Policies and options have no equality; what they print is all they have.
fn debug(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

#[test]
fn every_key_survives_the_way_through_yaml_and_json() {
    let config = example();
    let json = serde_json::to_string_pretty(&config).unwrap();
    assert_eq!(Config::from_json(&json).unwrap(), config);
    assert_eq!(Config::parse(&json).unwrap(), config);
    assert_eq!(Config::parse(EXAMPLE).unwrap(), config);
    // JSON is YAML too.
    assert_eq!(Config::from_yaml(&json).unwrap(), config);

    for default in ["{}", "{ }\n"] {
        assert_eq!(Config::parse(default).unwrap(), Config::default());
        assert_eq!(Config::from_yaml(default).unwrap(), Config::default());
    }
    let json = serde_json::to_string(&Config::default()).unwrap();
    assert_eq!(Config::from_json(&json).unwrap(), Config::default());
}

#[test]
fn the_example_has_every_key_of_the_schema() {
    fn keys(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
        match schema {
            serde_json::Value::Object(object) => {
                if let Some(serde_json::Value::Object(properties)) = object.get("properties") {
                    found.extend(properties.keys().cloned());
                }
                object.values().for_each(|value| keys(value, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    keys(&Config::json_schema(), &mut found);
    assert!(found.len() > 40, "{found:?}");
    for key in found {
        assert!(EXAMPLE.contains(&format!("{key}:")), "`{key}` is not in the example");
    }
}

#[test]
fn the_committed_schema_is_what_the_model_gives() {
    let committed: serde_json::Value =
        serde_json::from_str(include_str!("../../config.schema.json")).unwrap();
    assert!(committed == Config::json_schema(), "out of date: run `cargo xtask schema`");
}

#[test]
fn the_committed_schema_of_the_log_is_what_the_records_give() {
    let committed: serde_json::Value = serde_json::from_str(include_str!("../../log.schema.json")).unwrap();
    assert!(committed == LogLine::json_schema(), "out of date: run `cargo xtask schema`");
}

#[test]
fn defaults_are_those_of_the_code() {
    let (config, router) = (Config::default(), Router::default());
    config.check().unwrap();
    assert_eq!(debug(&config.policy().unwrap()), debug(&Policy::default()));
    assert_eq!(debug(&config.router_options().unwrap()), debug(&RouterOptions::default()));
    let built = config.build().unwrap();
    assert_eq!(debug(&built.policy()), debug(&router.policy()));
    assert_eq!((built.pods().len(), built.counters()), (0, router.counters()));
    assert_eq!(built.index().bytes(), router.index().bytes());

    let config = Config::from_yaml("{domains: {m: {block_size: 16}}, pods: [{name: p, domain: m}]}").unwrap();
    let domain = CacheDomain::new("m", BlockHasher::new(OwnScheme::default(), 16).unwrap()).unwrap();
    let specs = config.pod_specs().unwrap();
    assert_eq!(debug(&specs), debug(&[PodSpec::new("p", Arc::new(domain))]));
}

#[test]
fn the_example_says_the_defaults_where_it_says_so() {
    let mut config = example();
    let pod = config.pods.remove(0);
    assert_eq!(pod.events.copies, CopyPolicy::default());

    config.policy.prefill = None;
    config.sessions.key = None;
    config.domains.clear();
    config.pods.clear();
    assert_eq!(debug(&config.policy().unwrap()), debug(&Policy::default()));
    config.policy = Default::default();
    assert_eq!(config, Config::default());
}

#[test]
fn a_router_has_what_the_example_says() {
    let router = example().build().unwrap();
    assert_eq!(router.policy().prefill.as_ref().map(|prefill| prefill.max_uncached_tokens), Some(1024));
    let pods = router.pods();
    let names: Vec<_> = pods.iter().map(|pod| (pod.name(), pod.dp_rank(), pod.domain().name())).collect();
    let expected = [
        ("10.0.0.7:8000", 0, "llama-3.1-8b"),
        ("10.0.0.7:8000", 1, "llama-3.1-8b"),
        ("10.0.0.8:8000", 0, "qwen3-32b"),
    ];
    assert_eq!(names, expected);
    assert_eq!(
        pods.iter().map(|pod| pod.role()).collect::<Vec<_>>(),
        [Role::Decode, Role::Prefill, Role::Both]
    );
    assert_eq!(pods[0].labels()["zone"], "a");
    assert_eq!(pods[0].domain().models(), ["llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"]);
    assert!(pods[2].domain().is_native() && !pods[0].domain().is_native());
}

#[test]
fn options_of_every_kind_reach_the_router() {
    let config = Config::from_yaml(
        "
index: {shards: 3, max_bytes: 1000, max_predicted: 7}
text_block_bytes: 64
sessions: {ttl_seconds: 5, max: 6, key: 0000000000000000000000000000000000000000000000000000000000000001}
requests: {ttl_seconds: 8, max: 9}
domains: {m: {block_size: 16}}
pods:
  - name: p
    domain: m
    events:
      copies: set
      on_gap: replay
      groups:
        - {group: 2, kind: {sliding-window: {window: 9}}}
        - {group: 1, kind: unknown}
        - {group: 0, kind: full-attention}
      adapters: [{id: -1, name: a}]
      max_parked: 1
      max_parked_bytes: 2
      max_retired: 3
",
    )
    .unwrap();
    let options = config.router_options().unwrap();
    let mut key = [0; 32];
    key[31] = 1;
    assert_eq!((options.index.shards, options.index.max_bytes, options.index.max_predicted), (3, 1000, 7));
    assert_eq!((options.text_block_bytes, options.max_sessions, options.max_requests), (64, 6, 9));
    assert_eq!((options.session_ttl.as_secs(), options.request_ttl.as_secs()), (5, 8));
    assert_eq!(options.session_key, Some(SessionKey::new(key)));
    let expected = PodOptions {
        dp_rank: None,
        copies: CopyPolicy::Set,
        on_gap: GapPolicy::Replay,
        groups: vec![
            (2, GroupKind::SlidingWindow { window: 9 }),
            (1, GroupKind::Unknown),
            (0, GroupKind::FullAttention),
        ],
        adapters: vec![(-1, "a".into())],
        max_parked: 1,
        max_parked_bytes: 2,
        max_retired: 3,
    };
    assert_eq!(config.pod_specs().unwrap()[0].options, expected);
}

#[test]
fn profiles_replace_what_they_name_and_keep_the_rest_of_the_preset() {
    let policy = |yaml: &str| debug(&Config::from_yaml(yaml).unwrap().policy().unwrap());
    let seeded = |seed| debug(&Policy::default()).replacen("seed: 0", seed, 1);
    assert_eq!(policy("policy: {decode: {seed: 7}}"), seeded("seed: 7"));
    assert_eq!(policy("policy: {preset: cost, decode: {picker: max-score}}"), seeded("seed: 0"));

    let config = Config::from_yaml(
        "
policy:
  decode:
    filters: [{role: both}, accepting]
    scorers:
      load: {weight: 0.5, limit: 7}
      kv-cache: {weight: 2, credits: {cpu: 0, disk: 1}}
",
    );
    let credits = Credits::default().with_tier(Tier::Cpu, 0.0).unwrap();
    let expected = Profile::builder("decode")
        .filter(kvroute_core::filter::RoleFilter::new(Role::Both))
        .filter(kvroute_core::filter::AcceptingFilter)
        .scorer(KvCacheScorer::new(credits.with_tier(Tier::Disk, 1.0).unwrap()), 2.0)
        .scorer(LoadScorer::new(7).unwrap(), 0.5)
        .build()
        .unwrap();
    assert_eq!(debug(&config.unwrap().policy().unwrap()), debug(&Policy::from(expected)));
}

#[test]
fn presets_of_the_code_are_presets_here() {
    for name in Policy::PRESETS {
        let config = Config::from_yaml(&format!("policy: {{preset: {name}}}")).unwrap();
        assert_eq!(debug(&config.policy().unwrap()), debug(&Policy::preset(name).unwrap()));
    }
}

#[test]
fn schemes_are_those_of_the_hasher() {
    let scheme = |yaml: &str| {
        let config =
            Config::from_yaml(&format!("domains: {{d: {{block_size: 32, scheme: {yaml}}}}}")).unwrap();
        let domain = &config.domains().unwrap()["d"];
        assert_eq!(domain.block_size(), 32);
        domain.hasher().scheme().clone()
    };
    assert_eq!(scheme("own"), HashScheme::default());
    assert_eq!(scheme("{own: {}}"), HashScheme::default());
    let own = OwnScheme::new(u64::MAX).with_multimodal(MultimodalForm::Identifier);
    assert_eq!(scheme("{own: {seed: 18446744073709551615, multimodal: identifier}}"), own.into());

    let seed = HashSeed::Value("0".into());
    let versions = [
        (VllmAlgorithm::Sha256, "0.32.0"),
        (VllmAlgorithm::Sha256Cbor, "v0.11.1rc2"),
        (VllmAlgorithm::Xxhash, "0.19.1"),
        (VllmAlgorithm::XxhashCbor, "0.13.0"),
        (VllmAlgorithm::Sha256Cbor64bit, "0.10.1"),
    ];
    assert_eq!(versions.map(|(algorithm, _)| algorithm), VllmAlgorithm::ALL);
    for (algorithm, version) in versions {
        let yaml = format!("{{vllm: {{algorithm: {algorithm}, version: {version}, python_hash_seed: 0}}}}");
        assert_eq!(
            scheme(&yaml),
            VllmScheme::for_version(algorithm, version, &seed).unwrap().into(),
            "{yaml}"
        );
    }
    let eras = [
        ("int-lora", VllmEra::IntLora),
        ("multimodal-identifier", VllmEra::MultimodalIdentifier),
        ("multimodal-offset", VllmEra::MultimodalOffset),
        ("tagged", VllmEra::Tagged),
    ];
    for (name, era) in eras {
        let yaml = format!("{{vllm: {{algorithm: sha256_cbor, era: {name}, python_hash_seed: '0'}}}}");
        let expected = VllmScheme::for_era(VllmAlgorithm::Sha256Cbor, era, &seed).unwrap();
        assert_eq!(scheme(&yaml), expected.into());
    }
    let unset = VllmScheme::for_version(VllmAlgorithm::Sha256, "0.33.0", &HashSeed::Unset).unwrap();
    assert_eq!(
        scheme("{vllm: {algorithm: sha256, version: 0.33.0, lookahead: 3}}"),
        unset.with_lookahead(3).unwrap().into()
    );
    let root = VllmScheme::from_none_hash(VllmAlgorithm::Xxhash, VllmEra::Tagged, &[0xa5; 16]).unwrap();
    let digits = "a5".repeat(16);
    for when in ["era: tagged", "version: 0.32.0"] {
        let yaml = format!("{{vllm: {{algorithm: xxhash, {when}, none_hash: {digits}}}}}");
        assert_eq!(scheme(&yaml), root.clone().into());
    }
}

#[test]
fn pods_from_elsewhere_find_their_domain_in_the_file() {
    let config = example();
    let domains = config.domains().unwrap();
    let mut pod = config.pods[0].clone();
    pod.name = "found-by-dns".into();
    let spec = pod.spec(&domains).unwrap();
    assert!(Arc::ptr_eq(&spec.domain, &domains["llama-3.1-8b"]));
    let router = Router::new(config.router_options().unwrap(), config.policy().unwrap()).unwrap();
    router.add_pod(spec).unwrap();
    assert!(router.pod("found-by-dns", 0).is_some());
}

#[test]
fn a_model_put_together_by_hand_is_checked_too() {
    let mut config = Config::default();
    let scheme = SchemeConfig::Own(OwnConfig::default());
    config.domains.insert("m".into(), DomainConfig { block_size: 0, scheme, models: Vec::new() });
    let error = config.check().unwrap_err().to_string();
    assert_eq!(error, "domains.m.block_size: found `0`, expected 1 to 65536 tokens");
    assert_eq!(config.build().unwrap_err().to_string(), error);
    assert_eq!(config.domains().unwrap_err().to_string(), error);
    config.router_options().unwrap();
}

#[test]
fn the_session_key_is_read_and_written_but_never_shown() {
    let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191A1b1c1d1e1f";
    let config = Config::from_yaml(&format!("sessions: {{key: {digits}}}")).unwrap();
    assert_eq!(config, Config::from_yaml(&format!("sessions: {{key: '{digits}'}}")).unwrap());
    assert!(serde_json::to_string(&config).unwrap().contains(&digits.to_lowercase()));
    let shown = debug(&config);
    assert!(
        shown.contains("SessionKey(..)") && !shown.contains("0a0b") && !shown.contains("10, 11"),
        "{shown}"
    );
    // Only digits, so that YAML would make a number of them.
    let config = Config::from_yaml(&format!("sessions: {{key: {}}}", "12345678".repeat(8))).unwrap();
    assert_eq!(
        config.sessions.key,
        Some(SessionKey::new([0x12, 0x34, 0x56, 0x78].repeat(8).try_into().unwrap()))
    );
}
