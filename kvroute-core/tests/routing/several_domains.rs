//! Pods of several cache domains, each matched by its own hashes.

use std::collections::HashMap;

use kvroute_core::event::EventLora;
use kvroute_core::hash::{HashSeed, Lora, VllmAlgorithm, VllmEra, VllmScheme};

use super::*;

/// A domain that hashes as vLLM does.
fn native(name: &str, block_size: u32) -> Arc<CacheDomain> {
    let seed = HashSeed::Value("42".into());
    let scheme = VllmScheme::for_era(VllmAlgorithm::Sha256Cbor, VllmEra::Tagged, &seed).unwrap();
    Arc::new(CacheDomain::new(name, BlockHasher::new(scheme, block_size).unwrap()).unwrap())
}

/// vLLM hashes the adapter's path since 0.31, and this one does not tell it.
fn unhashable() -> HashContext {
    HashContext { lora: Some(Lora { name: "a".into(), ..Lora::default() }), ..HashContext::default() }
}

#[test]
fn pods_of_several_domains_are_compared_and_each_matched_by_its_own_hashes() {
    let router = demo_router();
    let native = native("native", 8);
    let one = router.add_pod(PodSpec::new("translated", domain("model", BLOCK_SIZE))).unwrap();
    let two = router.add_pod(PodSpec::new("native", Arc::clone(&native))).unwrap();
    let token_ids = prompt(1);
    let context = HashContext::default();
    store(&router, one, &token_ids, 4, Tier::Gpu);
    let hashes = native.hasher().hash(&token_ids, &context).unwrap();
    let event = BlockStored {
        block_hashes: hashes[..3].iter().map(|hash| EngineHash(hash.0)).collect(),
        token_ids: token_ids[..24].to_vec(),
        block_size: 8,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    };
    apply(&router, two, KvEvent::Stored(event));
    let mut workspace = Workspace::default();
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((decision.pod, decision.matched_tokens), (two, 24), "3 blocks of 8 beat 4 of 4");
    let explanation = router.explain(&workspace);
    assert_eq!(explanation.pods[0].matched_blocks, [("gpu", 4)]);
    assert_eq!((explanation.pods[0].searchable_blocks, explanation.pods[1].searchable_blocks), (10, 5));
}

#[test]
fn even_choices_spread_whatever_number_of_domains_hash_alike() {
    for domains in 1..=3 {
        let router = demo_router();
        for pod in 0..4 {
            let domain = domain(&format!("model-{}", pod % domains), BLOCK_SIZE);
            router.add_pod(PodSpec::new(format!("pod-{pod}"), domain)).unwrap();
        }
        let context = HashContext::default();
        let mut workspace = Workspace::default();
        let mut picked = HashMap::<PodId, u32>::new();
        for seed in 0..400 {
            // Equal lengths, equal last tokens: only the blocks tell the prompts apart.
            let mut token_ids = prompt(seed);
            token_ids.push(5);
            let decision =
                router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
            *picked.entry(decision.pod).or_default() += 1;
        }
        assert_eq!(picked.len(), 4, "{domains} domains");
        assert!(picked.values().all(|&count| (60..140).contains(&count)), "{domains} domains: {picked:?}");
    }
}

#[test]
fn a_domain_that_cannot_hash_a_request_only_drops_its_own_matches() {
    let router = demo_router();
    router.add_pod(PodSpec::new("native", native("native", BLOCK_SIZE))).unwrap();
    let pod = router.add_pod(PodSpec::new("translated", domain("model", BLOCK_SIZE))).unwrap();
    let context = unhashable();
    let token_ids = prompt(1);
    let hashes = domain("model", BLOCK_SIZE).hasher().hash(&token_ids, &context).unwrap();
    let event = BlockStored {
        block_hashes: hashes[..3].iter().map(|hash| EngineHash(hash.0)).collect(),
        token_ids: token_ids[..12].to_vec(),
        block_size: BLOCK_SIZE,
        tier: Some(Tier::Gpu),
        lora: Some(EventLora { name: Some("a".into()), id: None }),
        ..BlockStored::default()
    };
    apply(&router, pod, KvEvent::Stored(event));
    let mut workspace = Workspace::default();
    let decision =
        router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    assert_eq!((decision.pod, decision.matched.total()), (pod, 3));
    let note = router.explain(&workspace).pods[0].note.clone().unwrap();
    assert!(note.contains("cannot be hashed for its domain \"native\""), "{note}");
}

#[test]
fn what_cannot_be_hashed_is_not_predicted_by_the_hashes_of_an_earlier_request() {
    let router = demo_router();
    let natives: Vec<_> = (4..12)
        .map(|size| {
            let name = format!("native-{size}");
            router.add_pod(PodSpec::new(&name, native(&name, size))).unwrap()
        })
        .collect();
    let translated = router.add_pod(PodSpec::new("translated", domain("model", BLOCK_SIZE))).unwrap();
    let mut workspace = Workspace::default();
    let (token_ids, plain, lora) = (prompt(1), HashContext::default(), unhashable());
    // Leaves hashes of all domains in the workspace.
    router.decide(&Request::new(&token_ids, &plain), Duration::ZERO, &mut workspace).unwrap();
    router.set_accepting(translated, false).unwrap();
    for &pod in &natives {
        natives.iter().for_each(|&other| router.set_accepting(other, other == pod).unwrap());
        router.dispatch(&Request::new(&token_ids, &lora), Duration::ZERO, &mut workspace).unwrap();
        assert_eq!(predicted(&router, pod), 0);
    }
}

#[test]
fn a_domain_is_known_by_its_name_as_long_as_it_has_pods() {
    let (router, pods) = router_of(&["a"]);
    let other_models = CacheDomain::clone(&domain("model", BLOCK_SIZE)).with_models(["x"]);
    let error = router.add_pod(PodSpec::new("b", Arc::new(other_models))).unwrap_err();
    assert!(error.to_string().contains("\"model\""), "{error}");
    router.remove_pod(pods[0]).unwrap();
    router.add_pod(PodSpec::new("a", domain("model", 8))).unwrap();
}
