//! What every scheme owes its callers, whatever it hashes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

fn vllm(algorithm: VllmAlgorithm) -> VllmScheme {
    let (era, seed) = (VllmEra::Tagged, HashSeed::Value("42".into()));
    VllmScheme::for_era(algorithm, era, &seed).unwrap()
}

/// One of each, lookahead included.
fn schemes() -> Vec<HashScheme> {
    use VllmAlgorithm::{Sha256, Sha256Cbor, Xxhash, XxhashCbor};
    let mut schemes: Vec<HashScheme> = [Sha256, Sha256Cbor, Xxhash, XxhashCbor]
        .into_iter()
        .map(|algorithm| vllm(algorithm).into())
        .collect();
    schemes.push(OwnScheme::default().into());
    schemes.push(OwnScheme::for_domain("m").with_multimodal(MultimodalForm::Identifier).into());
    schemes.push(HashScheme::LlmdCborFnv(LlmdScheme::new("", "m")));
    schemes.push(HashScheme::LlmdXxh64(LlmdScheme::new("", "m")));
    schemes.push(vllm(Sha256Cbor).with_lookahead(3).unwrap().into());
    schemes.push(vllm(Sha256).with_lookahead(1).unwrap().into());
    schemes
}

fn adapter(name: &str) -> Option<Lora> {
    Some(Lora { name: name.into(), path: format!("/adapters/{name}"), id: 1 })
}

fn item(identifier: &str, start: u32, length: u32) -> MultimodalItem {
    MultimodalItem { identifier: identifier.into(), start, length }
}

prop_compose! {
    /// A context, now and then an empty one, with items that may overlap.
    fn any_context()(
        lora in prop_oneof![Just(None), Just(adapter("a")), Just(adapter("bcd"))],
        cache_salt in prop_oneof![Just(None), Just(Some(String::new())), Just(Some("tenant".to_string()))],
        mut multimodal in prop::collection::vec(("[xy]{1,3}", 0_u32..100, 0_u32..40), 0..4),
    ) -> HashContext {
        multimodal.sort_by_key(|&(_, start, _)| start);
        let multimodal = multimodal.into_iter().map(|(name, start, length)| item(&name, start, length)).collect();
        HashContext { lora, cache_salt, multimodal, prompt_embeds: Vec::new() }
    }
}

proptest! {
    #[test]
    fn hashing_in_pieces_of_a_growing_prompt_is_hashing_at_once(
        token_ids in prop::collection::vec(any::<u32>(), 0..120),
        context in any_context(),
        block_size in 1_u32..20,
        pieces in prop::collection::vec((0_usize..120, 0_usize..5), 0..8),
        scheme in prop::sample::select(schemes()),
    ) {
        let hasher = BlockHasher::new(scheme, block_size).unwrap();
        let at_once = hasher.hash(&token_ids, &context).unwrap();
        prop_assert_eq!(at_once.len(), hasher.block_count(token_ids.len()));

        let mut cursor = hasher.start(&context).unwrap();
        let mut got = Vec::new();
        let mut grown = 0;
        for (growth, max_blocks) in pieces {
            grown = (grown + growth).min(token_ids.len());
            let before = got.len();
            let count = hasher.extend(&mut cursor, &token_ids[..grown], &context, max_blocks, &mut got).unwrap();
            prop_assert_eq!(count, max_blocks.min(hasher.block_count(grown) - before));
            prop_assert_eq!(got.len(), before + count);
            prop_assert_eq!(cursor.blocks(), got.len());
        }
        hasher.extend(&mut cursor, &token_ids, &context, usize::MAX, &mut got).unwrap();
        prop_assert_eq!(got, at_once);
    }

    #[test]
    fn an_event_hashes_like_the_request_it_came_from(
        token_ids in prop::collection::vec(any::<u32>(), 0..120),
        mut context in any_context(),
        embeds in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..4),
        block_size in 1_u32..20,
        identifiers_only in any::<bool>(),
    ) {
        context.prompt_embeds = embeds;
        let form = if identifiers_only { MultimodalForm::Identifier } else { MultimodalForm::Offset };
        let own = OwnScheme::default().with_multimodal(form);
        let of_request = BlockHasher::new(own.clone(), block_size).unwrap().hash(&token_ids, &context).unwrap();
        let lora = context.lora.as_ref().map(|lora| lora.name.as_str());
        let mut parent = None;
        for (index, block) in token_ids.chunks_exact(block_size as usize).enumerate() {
            let hash = own.hash_block(parent, block, lora, &context.extra_keys(index, block_size, form));
            prop_assert_eq!(hash, of_request[index]);
            parent = Some(hash);
        }
    }
}

#[test]
fn only_full_blocks_are_hashed() {
    for scheme in schemes() {
        let ahead = scheme.lookahead();
        let hasher = BlockHasher::new(scheme, 16).unwrap();
        let token_ids: Vec<u32> = (0..64).collect();
        for (tokens, blocks) in [(0, 0), (15, 0), (16, 1), (17, 1), (31, 1), (32, 2), (33, 2)] {
            let hashes = hasher.hash(&token_ids[..tokens + ahead], &HashContext::default()).unwrap();
            assert_eq!(hashes.len(), blocks, "{} tokens, {}", tokens + ahead, hasher.scheme().name());
        }
        assert_eq!(hasher.block_count(ahead.saturating_sub(1)), 0);
    }
}

#[test]
fn every_part_of_the_context_changes_the_hashes_from_where_it_enters() {
    let token_ids: Vec<u32> = (0..67).collect();
    let contexts = [
        ("none", 4, HashContext::default()),
        ("salt", 0, HashContext { cache_salt: Some("a".into()), ..HashContext::default() }),
        ("other salt", 0, HashContext { cache_salt: Some("b".into()), ..HashContext::default() }),
        ("adapter", 0, HashContext { lora: adapter("a"), ..HashContext::default() }),
        ("other adapter", 0, HashContext { lora: adapter("b"), ..HashContext::default() }),
        ("image", 1, HashContext { multimodal: vec![item("a", 20, 4)], ..HashContext::default() }),
        ("other image", 1, HashContext { multimodal: vec![item("b", 20, 4)], ..HashContext::default() }),
    ];
    for scheme in schemes() {
        let hasher = BlockHasher::new(scheme, 16).unwrap();
        let hash = |context: &HashContext| hasher.hash(&token_ids, context).unwrap();
        for (name, enters, context) in &contexts {
            for (other_name, other_enters, other) in &contexts {
                let differ_from = if name == other_name { 4 } else { *enters.min(other_enters) };
                let (hashes, others) = (hash(context), hash(other));
                for block in 0..4 {
                    let equal = hashes[block] == others[block];
                    let at = format!("{name} and {other_name}, block {block}, {:?}", hasher.scheme());
                    assert_eq!(equal, block < differ_from, "{at}");
                }
            }
        }
    }
}

#[test]
fn embeddings_change_the_hashes_from_their_block_on() {
    let token_ids = [0; 64];
    let context = HashContext { prompt_embeds: vec![vec![], vec![1]], ..HashContext::default() };
    let other = HashContext { prompt_embeds: vec![vec![], vec![2]], ..HashContext::default() };
    for scheme in schemes() {
        let hasher = BlockHasher::new(scheme, 16).unwrap();
        if matches!(hasher.scheme(), HashScheme::LlmdCborFnv(_) | HashScheme::LlmdXxh64(_)) {
            assert_eq!(hasher.hash(&token_ids, &context).unwrap_err().kind(), ErrorKind::InvalidInput);
            continue;
        }
        let hash = |context| hasher.hash(&token_ids, context).unwrap();
        assert_eq!(hash(&context)[0], hash(&other)[0]);
        assert!((1..3).all(|block| hash(&context)[block] != hash(&other)[block]));
        assert_ne!(hash(&context)[0], hash(&HashContext::default())[0], "a key of no bytes is a key");
    }
}

#[test]
fn the_path_of_an_adapter_counts_only_where_vllm_hashes_it() {
    let context = |path: &str| HashContext {
        lora: Some(Lora { name: "a".into(), path: path.into(), id: 1 }),
        ..HashContext::default()
    };
    let hash = |scheme: HashScheme, path| {
        BlockHasher::new(scheme, 4).unwrap().hash(&[1, 2, 3, 4], &context(path)).unwrap()
    };
    for (era, counts) in [
        (VllmEra::IntLora, false),
        (VllmEra::MultimodalIdentifier, false),
        (VllmEra::MultimodalOffset, false),
        (VllmEra::Tagged, true),
    ] {
        let seed = HashSeed::Value("0".into());
        let scheme = VllmScheme::for_era(VllmAlgorithm::Sha256Cbor, era, &seed).unwrap();
        assert_eq!(hash(scheme.clone().into(), "/x") != hash(scheme.into(), "/y"), counts, "{era}");
    }
    let own = HashScheme::default();
    assert_eq!(hash(own.clone(), "/x"), hash(own, "/y"), "events do not tell the path");
}

#[test]
fn lookahead_binds_a_block_to_the_tokens_behind_it() {
    let hash = |tokens: &[u32], lookahead| {
        let scheme = vllm(VllmAlgorithm::Sha256Cbor).with_lookahead(lookahead).unwrap();
        BlockHasher::new(scheme, 2).unwrap().hash(tokens, &HashContext::default()).unwrap()
    };
    assert_eq!(hash(&[1, 2, 3, 4], 1).len(), 1);
    assert_eq!(hash(&[1, 2, 3], 1), hash(&[1, 2, 3, 4], 1));
    assert_ne!(hash(&[1, 2, 3], 1), hash(&[1, 2, 4], 1));
    assert_ne!(hash(&[1, 2, 3], 1)[0], hash(&[1, 2, 3], 0)[0]);
    // SHA-256 of the pre-image (root, (1, 2), (None, 3)), written by hand.
    let root = vllm(VllmAlgorithm::Sha256Cbor);
    let preimage = [&[0x83, 0x58, 0x20][..], root.none_hash(), &[0x82, 1, 2, 0x82, 0xf6, 3]].concat();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&preimage);
    assert_eq!(hash(&[1, 2, 3], 1)[0].0.to_be_bytes(), digest[24..]);
}

#[test]
fn a_buffer_is_replaced_and_not_grown_by_the_own_scheme() {
    let hasher = BlockHasher::new(OwnScheme::default(), 16).unwrap();
    let mut out = vec![BlockHash(1); 64];
    out.shrink_to_fit();
    let capacity = out.capacity();
    let context = HashContext {
        cache_salt: Some("s".into()),
        multimodal: vec![item("a", 3, 90)],
        ..HashContext::default()
    };
    let token_ids: Vec<u32> = (0..1024).collect();
    hasher.hash_into(&token_ids, &context, &mut out).unwrap();
    assert_eq!((out.len(), out.capacity()), (64, capacity));
    hasher.hash_into(&[], &context, &mut out).unwrap();
    assert_eq!((out.len(), out.capacity()), (0, capacity));
}

#[test]
fn an_error_leaves_cursor_and_output_as_they_were() {
    // The second block's embeddings make a pickle above one frame.
    let hasher = BlockHasher::new(vllm(VllmAlgorithm::Sha256), 2).unwrap();
    let context = HashContext { prompt_embeds: vec![vec![1], vec![0; 70_000]], ..HashContext::default() };
    let mut cursor = hasher.start(&context).unwrap();
    let (untouched, mut out) = (cursor.clone(), vec![BlockHash(7)]);
    let error = hasher.extend(&mut cursor, &[1, 2, 3, 4], &context, 2, &mut out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("sha256 of block 1: pickle pre-image of 70"), "{error}");
    assert_eq!((&cursor, &out[..]), (&untouched, &[BlockHash(7)][..]));
    assert_eq!(hasher.extend(&mut cursor, &[1, 2, 3, 4], &context, 1, &mut out), Ok(1));
}

#[test]
fn cursors_of_other_hashers_and_shrunken_prompts_are_refused() {
    let context = HashContext::default();
    let hasher = BlockHasher::new(OwnScheme::default(), 2).unwrap();
    let mut cursor = hasher.start(&context).unwrap();
    let mut out = Vec::new();
    hasher.extend(&mut cursor, &[1, 2, 3, 4], &context, 9, &mut out).unwrap();
    for other in [BlockHasher::new(OwnScheme::new(1), 2), BlockHasher::new(OwnScheme::default(), 4)] {
        let error = other.unwrap().extend(&mut cursor, &[1; 9], &context, 9, &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let error = hasher.extend(&mut cursor, &[1, 2, 3], &context, 9, &mut out).unwrap_err();
    assert!(error.to_string().contains("stands behind block 2"), "{error}");
    assert_eq!(out.len(), 2);
}

#[test]
fn block_sizes_are_checked() {
    for size in [0, BlockHasher::MAX_BLOCK_SIZE + 1, u32::MAX] {
        let error = BlockHasher::new(OwnScheme::default(), size).unwrap_err();
        assert!(error.to_string().contains(&size.to_string()), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(BlockHasher::new(OwnScheme::default(), BlockHasher::MAX_BLOCK_SIZE).is_ok());
}

#[test]
fn contexts_that_cannot_be_hashed_are_refused() {
    let seed = HashSeed::Value("0".into());
    let era = |era| VllmScheme::for_era(VllmAlgorithm::Sha256Cbor, era, &seed).unwrap().into();
    let lora = |name: &str, path: &str, id| HashContext {
        lora: Some(Lora { name: name.into(), path: path.into(), id }),
        ..HashContext::default()
    };
    let unordered =
        HashContext { multimodal: vec![item("a", 5, 1), item("b", 4, 1)], ..HashContext::default() };
    let cases: [(HashScheme, HashContext, &str); 4] = [
        (HashScheme::default(), lora("", "/x", 1), "empty name"),
        (HashScheme::default(), unordered, "item 1 starts at token 4, before item 0 at token 5"),
        (era(VllmEra::Tagged), lora("a", "", 1), "\"a\" has no path"),
        (era(VllmEra::IntLora), lora("a", "/x", 0), "\"a\" has no id"),
    ];
    for (scheme, context, message) in cases {
        let error = BlockHasher::new(scheme, 16).unwrap().hash(&[0; 16], &context).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn versions_map_to_eras() {
    use VllmEra::{IntLora, MultimodalIdentifier, MultimodalOffset, Tagged};
    for (version, era) in [
        ("0.9", IntLora),
        ("0.11.0", IntLora),
        ("0.11.1rc2", MultimodalIdentifier),
        ("v0.18.3", MultimodalIdentifier),
        ("0.19.0+cpu", MultimodalOffset),
        ("0.30", MultimodalOffset),
        ("0.31.0", Tagged),
        ("0.32.1.dev5+g1234", Tagged),
        ("1.0.0", Tagged),
    ] {
        assert_eq!(VllmEra::of_version(version), Ok(era), "{version}");
    }
    for version in ["", "0", "0.", "0.8.5", "0.x", "0.9.x", "latest", "0.99999999999", "-1.2", "0.11rc1.0"] {
        let error = VllmEra::of_version(version).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{version}");
    }
}

#[test]
fn algorithms_have_names_and_versions() {
    for algorithm in VllmAlgorithm::ALL {
        assert_eq!(VllmAlgorithm::from_name(algorithm.name()), Ok(algorithm));
    }
    let builtin = VllmAlgorithm::from_name("builtin").unwrap_err();
    assert_eq!(builtin.kind(), ErrorKind::NotReproducible);
    let unknown = VllmAlgorithm::from_name("md5").unwrap_err().to_string();
    let known = "sha256, sha256_cbor, xxhash, xxhash_cbor, sha256_cbor_64bit";
    assert!(unknown.contains("\"md5\"") && unknown.contains(known), "{unknown}");

    use VllmAlgorithm::{Sha256, Sha256Cbor, Sha256Cbor64bit, Xxhash};
    let with = |algorithm, version| {
        VllmScheme::for_version(algorithm, version, &HashSeed::Value("0".into())).map_err(|e| e.kind())
    };
    assert!(with(Sha256, "0.10.2").is_ok() && with(Xxhash, "0.13.0").is_ok());
    assert!(with(Sha256Cbor64bit, "0.10.1").is_ok());
    assert_eq!(with(Sha256, "0.10.1"), Err(ErrorKind::NotReproducible));
    assert_eq!(with(Sha256Cbor, "0.10.1"), Err(ErrorKind::InvalidInput));
    assert_eq!(with(Sha256Cbor64bit, "0.10.2"), Err(ErrorKind::InvalidInput));
    assert_eq!(with(Xxhash, "0.12.9"), Err(ErrorKind::InvalidInput));
}

#[test]
fn an_unset_seed_is_reproducible_only_where_vllm_fixed_it() {
    use VllmAlgorithm::{Sha256, Sha256Cbor, Xxhash};
    let kind = |scheme: Result<VllmScheme, Error>| scheme.map(|_| ()).map_err(|error| error.kind());
    let version = |algorithm, version| kind(VllmScheme::for_version(algorithm, version, &HashSeed::Unset));
    let era = |algorithm, era| kind(VllmScheme::for_era(algorithm, era, &HashSeed::Unset));
    let refused = Err(ErrorKind::NotReproducible);
    assert_eq!(version(Sha256, "0.29.0"), Ok(()));
    assert_eq!(version(Sha256Cbor, "0.32.0"), Ok(()));
    assert_eq!(version(Sha256, "0.28.9"), refused);
    assert_eq!(version(Xxhash, "0.32.0"), refused);
    assert_eq!(era(Sha256, VllmEra::Tagged), Ok(()));
    assert_eq!(era(Sha256, VllmEra::MultimodalOffset), refused);
    assert_eq!(era(Xxhash, VllmEra::Tagged), refused);
}

#[test]
fn roots_have_the_length_of_their_algorithm() {
    use VllmAlgorithm::{Sha256, Sha256Cbor64bit, Xxhash};
    let root = |algorithm, era, len| VllmScheme::from_none_hash(algorithm, era, &vec![1; len]).is_ok();
    assert!(root(Sha256, VllmEra::Tagged, 32) && !root(Sha256, VllmEra::Tagged, 31));
    assert!(root(Xxhash, VllmEra::Tagged, 16) && root(Xxhash, VllmEra::Tagged, 32));
    assert!(!root(Xxhash, VllmEra::IntLora, 16), "before xxhash");
    assert!(root(Sha256Cbor64bit, VllmEra::IntLora, 8) && !root(Sha256Cbor64bit, VllmEra::Tagged, 8));
    assert!(!root(Sha256, VllmEra::Tagged, 0) && !root(Sha256, VllmEra::Tagged, 300));
}

#[test]
fn lookahead_is_checked() {
    let old =
        VllmScheme::for_era(VllmAlgorithm::Sha256, VllmEra::MultimodalOffset, &HashSeed::Value("0".into()));
    assert!(old.unwrap().with_lookahead(1).is_err());
    assert!(vllm(VllmAlgorithm::Sha256).with_lookahead(BlockHasher::MAX_BLOCK_SIZE + 1).is_err());
    assert_eq!(vllm(VllmAlgorithm::Sha256).with_lookahead(2).unwrap().lookahead(), 2);
}

#[test]
fn hashers_that_hash_otherwise_have_other_fingerprints_and_equal_ones_the_same_for_ever() {
    let mut seen = Vec::new();
    for scheme in schemes() {
        for block_size in [1, 16] {
            let hasher = BlockHasher::new(scheme.clone(), block_size).unwrap();
            assert_eq!(hasher.fingerprint(), hasher.clone().fingerprint());
            seen.push(hasher.fingerprint());
        }
    }
    for era in [VllmEra::IntLora, VllmEra::MultimodalIdentifier, VllmEra::MultimodalOffset] {
        let seed = HashSeed::Value("0".to_string());
        let scheme = VllmScheme::for_era(VllmAlgorithm::Sha256, era, &seed).unwrap();
        seen.push(BlockHasher::new(scheme, 16).unwrap().fingerprint());
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len());
    let own = BlockHasher::new(OwnScheme::default(), 16).unwrap();
    assert_eq!(
        own.fingerprint(),
        1_131_417_106_294_997_424,
        "a snapshot of an older version would not be known again"
    );
}
