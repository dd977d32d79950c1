//! The environment variables of llm-d's first scheduler.

use kvroute_core::config::Preset;
use kvroute_core::{Config, Error, Policy, Prompt};

use super::debug;

fn read(pairs: &[(&str, &str)]) -> Result<(Config, Vec<String>), Error> {
    Config::from_env_pairs(pairs.iter().copied())
}

/// A few variables as others would be set beside them.
fn with_load<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("ENABLE_LOAD_AWARE_SCORER", "true")], pairs].concat()
}

/// The variables of llm-d's cache-aware routing demo.
const DEMO: [(&str, &str); 8] = [
    ("ENABLE_KVCACHE_AWARE_SCORER", "true"),
    ("KVCACHE_AWARE_SCORER_WEIGHT", "5"),
    ("ENABLE_PREFIX_AWARE_SCORER", "true"),
    ("PREFIX_AWARE_SCORER_WEIGHT", "3"),
    ("ENABLE_SESSION_AWARE_SCORER", "true"),
    ("SESSION_AWARE_SCORER_WEIGHT", "2"),
    ("ENABLE_LOAD_AWARE_SCORER", "true"),
    ("LOAD_AWARE_SCORER_WEIGHT", "1"),
];

#[test]
fn the_demo_is_the_preset() {
    let strangers =
        [("PATH", "/bin"), ("HOME", "/root"), ("PD_ADDR", "x"), ("GH_TOKEN", "y"), ("UI_ENABLED", "yes")];
    let (config, notes) = read(&[&DEMO[..], &strangers].concat()).unwrap();
    assert_eq!(debug(&config.policy().unwrap()), debug(&Policy::preset("llm-d-demo").unwrap()));
    assert_eq!(notes, [""; 0]);
    let mut without_scorers = config;
    without_scorers.policy.decode.scorers = None;
    without_scorers.policy.preset = Preset::default();
    assert_eq!(without_scorers, Config::default());
}

#[test]
fn prefill_pods_have_variables_of_their_own() {
    let twins: Vec<_> =
        DEMO.iter().map(|(name, value)| (format!("PREFILL_{name}"), String::from(*value))).collect();
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|&(a, b)| (a.into(), b.into())).collect::<Vec<_>>();
    let all =
        [owned(&DEMO), twins, owned(&[("PD_ENABLED", "true"), ("PD_PROMPT_LEN_THRESHOLD", "4096")])].concat();
    let (config, notes) = Config::from_env_pairs(all).unwrap();
    assert_eq!(notes, [""; 0]);
    let prefill = config.policy.prefill.as_ref().unwrap();
    assert_eq!(prefill.scorers, config.policy.decode.scorers);
    assert_eq!(prefill.max_uncached_tokens, 1023);
    config.check().unwrap();
}

#[test]
fn the_threshold_in_bytes_gives_the_same_decisions_in_tokens() {
    for threshold in [0_usize, 1, 2, 3, 4, 5, 99, 100, 101, 102, 103, 104, 4096] {
        let text = threshold.to_string();
        let pd = [
            ("PD_ENABLED", "true"),
            ("PREFILL_ENABLE_LOAD_AWARE_SCORER", "true"),
            ("PD_PROMPT_LEN_THRESHOLD", &text),
        ];
        let (config, _) = read(&with_load(&pd)).unwrap();
        let most = config.policy.prefill.unwrap().max_uncached_tokens as usize;
        for uncached in 1..5_000 {
            let here = Prompt::Text(&vec![b'x'; uncached]).tokens() > most;
            let whole_tokens = uncached.next_multiple_of(4) >= threshold;
            assert_eq!(here, whole_tokens, "{uncached} bytes, threshold {threshold}");
            if uncached % 4 == 0 {
                assert_eq!(here, uncached >= threshold, "{uncached} bytes, threshold {threshold}");
            }
        }
    }
    let pd = [("PD_ENABLED", "true"), ("PREFILL_ENABLE_LOAD_AWARE_SCORER", "true")];
    let (config, _) = read(&with_load(&pd)).unwrap();
    assert_eq!(config.policy.prefill.unwrap().max_uncached_tokens, 24, "100 bytes by default");
}

#[test]
fn sizes_and_limits_have_their_place() {
    let (config, notes) = read(&[
        ("ENABLE_LOAD_AWARE_SCORER", "true"),
        ("LOAD_AWARE_SCORER_QUEUE_THRESHOLD", "64"),
        ("PREFIX_SCORER_BLOCK_SIZE", "512"),
    ])
    .unwrap();
    let load = config.policy.decode.scorers.unwrap().load.unwrap();
    assert_eq!((load.weight, load.limit, config.text_block_bytes), (1.0, 64, 512));
    assert_eq!(notes, [""; 0]);
}

#[test]
fn what_means_nothing_here_is_noted() {
    let secret = "hf_secret";
    let (config, notes) = read(&[
        ("ENABLE_PREFIX_AWARE_SCORER", "true"),
        ("HF_TOKEN", secret),
        ("KVCACHE_INDEXER_REDIS_ADDR", "redis:6379"),
        ("PREFILL_KVCACHE_INDEXER_REDIS_ADDR", "redis:6379"),
        ("PREFIX_CACHE_LRU_CAPACITY", "5000"),
        ("ENABLE_GIE_QUEUE_SCORER", "false"),
        ("GIE_QUEUE_SCORER_WEIGHT", "3"),
        ("ENABLE_LOAD_AWARE_SCORER", "false"),
        ("LOAD_AWARE_SCORER_WEIGHT", "3"),
        ("SESSION_AWARE_SCORER_WEIGHT", "2"),
        ("LOAD_AWARE_SCORER_QUEUE_THRESHOLD", "64"),
        ("PD_PROMPT_LEN_THRESHOLD", "10"),
        ("PREFILL_ENABLE_PREFIX_AWARE_SCORER", "true"),
        ("PREFILL_PREFIX_AWARE_SCORER_WEIGHT", "3"),
    ])
    .unwrap();
    assert_eq!(config.policy.prefill, None);
    let expected = [
        "ENABLE_GIE_QUEUE_SCORER: kvroute has no such plugin",
        "GIE_QUEUE_SCORER_WEIGHT: kvroute has no such plugin",
        "HF_TOKEN: kvroute tokenizes nothing",
        "KVCACHE_INDEXER_REDIS_ADDR: the index is fed by the pods' KV events, without Redis",
        "LOAD_AWARE_SCORER_QUEUE_THRESHOLD: LOAD_AWARE_SCORER is not enabled",
        "LOAD_AWARE_SCORER_WEIGHT: ENABLE_LOAD_AWARE_SCORER is not `true`",
        "PD_PROMPT_LEN_THRESHOLD: PD_ENABLED is not `true`",
        "PREFILL_ENABLE_PREFIX_AWARE_SCORER: PD_ENABLED is not `true`",
        "PREFILL_KVCACHE_INDEXER_REDIS_ADDR: the index is fed by the pods' KV events, without Redis",
        "PREFILL_PREFIX_AWARE_SCORER_WEIGHT: PD_ENABLED is not `true`",
        "PREFIX_CACHE_LRU_CAPACITY: it belongs to GIE_PREFIX_SCORER, which kvroute does not have",
        "SESSION_AWARE_SCORER_WEIGHT: ENABLE_SESSION_AWARE_SCORER is not `true`",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn misspelt_variables_are_errors_with_the_nearest_name() {
    for (name, near) in [
        ("ENABLE_KVCACHE_AWARE_SCORRER", "ENABLE_KVCACHE_AWARE_SCORER"),
        ("ENABLE_KV_CACHE_AWARE_SCORER", "ENABLE_KVCACHE_AWARE_SCORER"),
        ("KVCACHE_AWARE_SCORER_WEIGTH", "KVCACHE_AWARE_SCORER_WEIGHT"),
        ("enable_load_aware_scorer", "ENABLE_LOAD_AWARE_SCORER"),
        ("ENABLE_PREFIX_SCORER", "ENABLE_GIE_PREFIX_SCORER"),
        ("PREFILL_ENABLE_SESION_AWARE_SCORER", "PREFILL_ENABLE_SESSION_AWARE_SCORER"),
        ("PD_ENABLE", "PD_ENABLED"),
        ("PD_PROMPT_THRESHOLD", "PD_PROMPT_LEN_THRESHOLD"),
        ("PREFIX_SCORER_BLOCKSIZE", "PREFIX_SCORER_BLOCK_SIZE"),
        ("GIE_QUEUE_SCORER_WEIGHTS", "GIE_QUEUE_SCORER_WEIGHT"),
    ] {
        let error = read(&with_load(&[(name, "true")])).unwrap_err().to_string();
        assert_eq!(error, format!("{name}: no such variable; did you mean `{near}`?"));
    }
}

#[test]
fn values_are_read_strictly() {
    for (name, value, message) in [
        (
            "ENABLE_LOAD_AWARE_SCORER",
            "True",
            "ENABLE_LOAD_AWARE_SCORER: found `True`, expected `true` or `false` (llm-d took anything but \
             `true` for false)",
        ),
        (
            "PD_ENABLED",
            "1",
            "PD_ENABLED: found `1`, expected `true` or `false` (llm-d took anything but `true` for false)",
        ),
        (
            "PREFILL_ENABLE_LOAD_AWARE_SCORER",
            "",
            "PREFILL_ENABLE_LOAD_AWARE_SCORER: found ``, expected `true` or `false` (llm-d took anything but \
             `true` for false)",
        ),
        (
            "LOAD_AWARE_SCORER_WEIGHT",
            "-1",
            "LOAD_AWARE_SCORER_WEIGHT: found `-1`, expected a whole number, 0 to 4294967295",
        ),
        (
            "PREFILL_GIE_QUEUE_SCORER_WEIGHT",
            "1.5",
            "PREFILL_GIE_QUEUE_SCORER_WEIGHT: found `1.5`, expected a whole number, 0 to 4294967295",
        ),
        (
            "LOAD_AWARE_SCORER_WEIGHT",
            "+1",
            "LOAD_AWARE_SCORER_WEIGHT: found `+1`, expected a whole number, 0 to 4294967295",
        ),
        (
            "PREFIX_SCORER_BLOCK_SIZE",
            "255",
            "PREFIX_SCORER_BLOCK_SIZE: found `255`, expected a multiple of 4 from 4 to 262144",
        ),
        (
            "LOAD_AWARE_SCORER_QUEUE_THRESHOLD",
            "0",
            "LOAD_AWARE_SCORER_QUEUE_THRESHOLD: found `0`, expected 1 or more",
        ),
        (
            "ENABLE_GIE_QUEUE_SCORER",
            "true",
            "ENABLE_GIE_QUEUE_SCORER: found `true`, but kvroute has no such plugin; its scorers are \
             KVCACHE_AWARE_SCORER, PREFIX_AWARE_SCORER, SESSION_AWARE_SCORER, LOAD_AWARE_SCORER",
        ),
    ] {
        let error = read(&[("ENABLE_PREFIX_AWARE_SCORER", "true"), (name, value)]).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let twice = [("PD_ENABLED", "true"), ("PD_ENABLED", "false")];
    assert_eq!(read(&with_load(&twice)).unwrap_err().to_string(), "PD_ENABLED: it is given twice");
}

#[test]
fn a_profile_without_scorers_is_an_error() {
    let message = "no scorer is enabled, so that llm-d picked at random; expected `true` for one or more of \
                   ENABLE_KVCACHE_AWARE_SCORER, ENABLE_PREFIX_AWARE_SCORER, ENABLE_SESSION_AWARE_SCORER, \
                   ENABLE_LOAD_AWARE_SCORER";
    assert_eq!(read(&[]).unwrap_err().to_string(), message);
    let error = read(&with_load(&[("PD_ENABLED", "true")])).unwrap_err().to_string();
    assert_eq!(error, message.replace("ENABLE_", "PREFILL_ENABLE_"));
}
