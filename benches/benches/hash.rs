//! `hash/{scheme}/{tokens}`: one prompt to chained block hashes, blocks of 16. Throughput counts blocks.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kvroute_benches::{BLOCK_SIZE, Numbers};
use kvroute_core::hash::{
    BlockHasher, HashContext, HashScheme, HashSeed, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme,
};
use xxhash_rust::xxh3::xxh3_64;

fn hash(c: &mut Criterion) {
    let vllm = |algorithm| {
        let scheme = VllmScheme::for_era(algorithm, VllmEra::Tagged, &HashSeed::Value("0".into()));
        HashScheme::Vllm(scheme.expect("a seed is given"))
    };
    let schemes = [
        ("own", HashScheme::Own(OwnScheme::default())),
        ("sha256_cbor", vllm(VllmAlgorithm::Sha256Cbor)),
        ("sha256", vllm(VllmAlgorithm::Sha256)),
        ("xxhash_cbor", vllm(VllmAlgorithm::XxhashCbor)),
    ];
    let mut group = c.benchmark_group("hash");
    let context = HashContext::default();
    for tokens in [1024, 8192, 32_768] {
        let token_ids = Numbers::new(1).token_ids(tokens);
        group.throughput(Throughput::Elements(tokens as u64 / u64::from(BLOCK_SIZE)));
        let bytes: Vec<u8> = token_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        group.bench_function(BenchmarkId::new("whole-buffer-xxh3", tokens), |b| b.iter(|| xxh3_64(&bytes)));
        for (name, scheme) in &schemes {
            let hasher = BlockHasher::new(scheme.clone(), BLOCK_SIZE).expect("16 is a block size");
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(*name, tokens), |b| {
                b.iter(|| hasher.hash_into(&token_ids, &context, &mut out).expect("the default context"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, hash);
criterion_main!(benches);
