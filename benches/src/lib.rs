//! The generated fleet all benchmarks share.
//!
//! 32 pods, blocks of 16 tokens, 64 groups of prompts. A prompt is three quarters its group's prefix and
//! one quarter its own; a group lives on 4 pods. Prompts of 1k tokens x 8192, 8k x 2048 and 32k x 512.
//! Everything follows from a fixed seed.

use std::sync::Arc;

use kvroute_core::event::{BlockRemoved, BlockStored, EventBatch, KvEvent};
use kvroute_core::hash::{BlockHasher, HashContext, HashSeed, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme};
use kvroute_core::index::{BlockIndex, PodId, PodOptions};
use kvroute_core::{BlockHash, CacheDomain, EngineHash, Error, Tier};

/// Tokens a block.
pub const BLOCK_SIZE: u32 = 16;
/// Pods of the fleet.
pub const PODS: usize = 32;
const GROUPS: usize = 64;
const PODS_PER_GROUP: usize = 4;

/// A small generator (splitmix64): the same numbers everywhere.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Numbers that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }

    /// `count` token ids of a vocabulary of 128k.
    pub fn token_ids(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(128_000) as u32).collect()
    }
}

/// A prompt and the pods that hold it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its token ids.
    pub token_ids: Vec<u32>,
    /// Its blocks.
    pub blocks: Vec<BlockHash>,
    /// Position of the pod it was sent to.
    pub pod: usize,
}

/// A fleet with its index.
#[derive(Debug)]
pub struct Fleet {
    /// The index.
    pub index: BlockIndex,
    /// Its cache domain.
    pub domain: Arc<CacheDomain>,
    /// Its pods.
    pub pods: Vec<PodId>,
}

/// A domain whose pods publish block hashes as they are.
///
/// # Errors
///
/// Never in practice: the scheme is fixed.
pub fn native_domain() -> Result<Arc<CacheDomain>, Error> {
    let seed = HashSeed::Value("0".into());
    let scheme = VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &seed)?;
    Ok(Arc::new(CacheDomain::new("bench", BlockHasher::new(scheme, BLOCK_SIZE)?)?))
}

/// A domain whose events are hashed anew.
///
/// # Errors
///
/// Never in practice: the scheme is fixed.
pub fn translated_domain() -> Result<Arc<CacheDomain>, Error> {
    Ok(Arc::new(CacheDomain::new("bench", BlockHasher::new(OwnScheme::default(), BLOCK_SIZE)?)?))
}

impl Fleet {
    /// An empty fleet of [`PODS`] pods.
    #[must_use]
    pub fn new(domain: Arc<CacheDomain>) -> Self {
        let index = BlockIndex::default();
        let pods = (0..PODS).map(|_| index.add_pod(Arc::clone(&domain), PodOptions::default())).collect();
        Self { index, domain, pods }
    }

    /// Lets every prompt be stored by its pod.
    ///
    /// # Errors
    ///
    /// Never in practice: the pods are there.
    pub fn store_all(&self, prompts: &[Prompt]) -> Result<(), Error> {
        for prompt in prompts {
            let batch =
                EventBatch { events: vec![stored(prompt, 0..prompt.blocks.len())], ..EventBatch::default() };
            self.index.apply_events(self.pods[prompt.pod], &batch)?;
        }
        Ok(())
    }
}

/// The workload: `count` prompts of `length` tokens, hashed by the own scheme.
///
/// # Errors
///
/// Never in practice: the scheme is fixed.
pub fn prompts(length: usize, count: usize) -> Result<Vec<Prompt>, Error> {
    let hasher = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE)?;
    let mut numbers = Numbers::new(length as u64);
    let groups: Vec<_> = (0..GROUPS)
        .map(|_| {
            let pods: Vec<_> = (0..PODS_PER_GROUP).map(|_| numbers.below(PODS as u64) as usize).collect();
            (numbers.token_ids(length * 3 / 4), pods)
        })
        .collect();
    (0..count)
        .map(|n| {
            let (prefix, pods) = &groups[n % GROUPS];
            let mut token_ids = prefix.clone();
            token_ids.extend(numbers.token_ids(length - prefix.len()));
            let blocks = hasher.hash(&token_ids, &HashContext::default())?;
            Ok(Prompt { token_ids, blocks, pod: pods[n / GROUPS % PODS_PER_GROUP] })
        })
        .collect()
}

/// The event that stores `range` of a prompt's blocks.
#[must_use]
pub fn stored(prompt: &Prompt, range: std::ops::Range<usize>) -> KvEvent {
    let name = |block: BlockHash| EngineHash(block.0);
    let size = BLOCK_SIZE as usize;
    KvEvent::Stored(BlockStored {
        parent: range.start.checked_sub(1).map(|before| name(prompt.blocks[before])),
        token_ids: prompt.token_ids[range.start * size..range.end * size].to_vec(),
        block_hashes: prompt.blocks[range].iter().copied().map(name).collect(),
        block_size: BLOCK_SIZE,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    })
}

/// The event that removes `range` of a prompt's blocks, last first.
#[must_use]
pub fn removed(prompt: &Prompt, range: std::ops::Range<usize>) -> KvEvent {
    let block_hashes = prompt.blocks[range].iter().rev().map(|block| EngineHash(block.0)).collect();
    KvEvent::Removed(BlockRemoved { block_hashes, tier: Some(Tier::Gpu), group: 0 })
}

/// The batch vLLM 0.32 would publish for storing a whole prompt.
#[must_use]
pub fn published(prompt: &Prompt) -> Vec<u8> {
    published_blocks(prompt, 0..prompt.blocks.len())
}

/// The batch vLLM 0.32 would publish for storing `range` of a prompt's blocks.
#[must_use]
pub fn published_blocks(prompt: &Prompt, range: std::ops::Range<usize>) -> Vec<u8> {
    let size = BLOCK_SIZE as usize;
    let token_ids = &prompt.token_ids[range.start * size..range.end * size];
    let parent = range.start.checked_sub(1).map(|before| prompt.blocks[before]);
    let blocks = &prompt.blocks[range];
    use rmp::encode::{write_array_len, write_f64, write_map_len, write_nil, write_str, write_uint};
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail.
    let _ = write_array_len(&mut bytes, 3);
    let _ = write_f64(&mut bytes, 1.7e9);
    let _ = write_array_len(&mut bytes, 1);
    let _ = write_map_len(&mut bytes, 8);
    let _ = write_str(&mut bytes, "type");
    let _ = write_str(&mut bytes, "BlockStored");
    let _ = write_str(&mut bytes, "block_hashes");
    let _ = write_array_len(&mut bytes, blocks.len() as u32);
    blocks.iter().for_each(|block| drop(write_uint(&mut bytes, block.0)));
    let _ = write_str(&mut bytes, "parent_block_hash");
    match parent {
        Some(block) => drop(write_uint(&mut bytes, block.0)),
        None => drop(write_nil(&mut bytes)),
    }
    let _ = write_str(&mut bytes, "token_ids");
    let _ = write_array_len(&mut bytes, token_ids.len() as u32);
    token_ids.iter().for_each(|&token| drop(write_uint(&mut bytes, u64::from(token))));
    let _ = write_str(&mut bytes, "block_size");
    let _ = write_uint(&mut bytes, u64::from(BLOCK_SIZE));
    let _ = write_str(&mut bytes, "lora_id");
    let _ = write_nil(&mut bytes);
    let _ = write_str(&mut bytes, "medium");
    let _ = write_str(&mut bytes, "GPU");
    let _ = write_str(&mut bytes, "lora_name");
    let _ = write_nil(&mut bytes);
    let _ = write_uint(&mut bytes, 0);
    bytes
}
