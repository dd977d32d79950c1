//! Random histories: bytes in, the same events applied to the index and to the oracle, every answer compared.
//!
//! A history describes engines, not events: pods store, evict, offload and restart in ways an engine can,
//! and what they publish is encoded as vLLM encodes it, numbered, and sometimes lost, repeated or
//! replayed. So one byte string drives the decoder, the sequence tracker, the views and the forest
//! together. Now and then the index is carried over into a new one by a snapshot; the old one goes on as its *twin*, and
//! the two must answer alike. Property tests and the fuzzer both start here. One file though it is long: engine, wire and
//! check are one story.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rmp::encode::{
    ByteBuf, write_array_len, write_bin, write_f64, write_map_len, write_nil, write_str, write_uint,
};

use super::OraclePod;
use super::held::HeldCopy;
use crate::event::GroupKind;
use crate::hash::{
    BlockHasher, HashContext, HashScheme, HashSeed, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme,
};
use crate::index::{
    ApplyReport, BlockIndex, CopyPolicy, GapPolicy, HeldBlock, IndexOptions, MatchTable, Outcome, PodId,
    PodOptions,
};
use crate::{BlockHash, CacheDomain, EngineHash, Error, Tier};

const PODS: usize = 3;
const BLOCK_SIZE: u32 = 2;
/// Longest prompt, blocks. Longer than a run under test (8), so that chains cross runs.
const DEPTH: usize = 40;
const WINDOW: u32 = 5;

/// Which way a history is indexed.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Engine hashes are opaque and differ from pod to pod; otherwise they are the block hashes.
    pub translated: bool,
    /// Pods have a second group with a sliding window.
    pub hybrid: bool,
    /// Lost batches are replayed; otherwise they clear the view.
    pub replay: bool,
    /// Blocks that are stored again are told from reports by guessing, and memory is short: then answers may
    /// fall below the oracle's, and never rise above them.
    pub guarded: bool,
}

impl Setting {
    fn copies(self) -> CopyPolicy {
        if self.guarded { CopyPolicy::Infer } else { CopyPolicy::Count }
    }

    /// Room for about half of what the prompts need.
    fn max_bytes(self) -> usize {
        if self.guarded { 12_000 } else { usize::MAX }
    }
}

/// The prompts of the history: a few chains that share beginnings. Prompt `variant` is that of its parent
/// up to the fork, and its own after it.
fn token_ids(variant: usize) -> Vec<u32> {
    const FORKS: [(usize, usize); 6] = [(0, 0), (0, 1), (0, 9), (2, 17), (0, 0), (1, 8)];
    let (parent, fork) = FORKS[variant % FORKS.len()];
    let mut tokens = if variant == 0 { Vec::new() } else { token_ids(parent) };
    tokens.truncate(fork * BLOCK_SIZE as usize);
    while tokens.len() < DEPTH * BLOCK_SIZE as usize {
        tokens.push((variant * 1000 + tokens.len()) as u32);
    }
    tokens
}

struct Engine {
    id: PodId,
    /// What the engine really holds, and what the index can know of it.
    truth: OraclePod,
    view: OraclePod,
    /// Every batch of this incarnation, for replay.
    published: Vec<Vec<u8>>,
    /// How many of them the index was offered in order; a lost batch makes the two differ.
    delivered: usize,
    incarnation: u64,
    /// Changes since the last batch: how the view must change when that batch arrives.
    changes: Vec<Change>,
    lost: bool,
    /// What is held in the index, as its journal tells it.
    copy: HeldCopy,
}

#[derive(Clone)]
enum Change {
    Store(u32, Tier, BlockHash),
    Remove(u32, Option<Tier>, BlockHash),
    Clear,
}

struct World {
    setting: Setting,
    domain: Arc<CacheDomain>,
    prompts: Vec<(Vec<u32>, Vec<BlockHash>)>,
    index: BlockIndex,
    engines: Vec<Engine>,
    /// The index that was carried over last, with its pods.
    twin: Option<(BlockIndex, Vec<PodId>)>,
}

/// Runs one history; an error describes the first answer that differs.
///
/// # Errors
///
/// A message with the pod, the query and both answers. Errors of the index itself are passed on as text.
pub fn run(setting: Setting, bytes: &[u8]) -> Result<(), String> {
    let mut world = World::new(setting).map_err(|error| format!("{error}"))?;
    for op in bytes.chunks_exact(4) {
        world.act([op[0], op[1], op[2], op[3]])?;
        world.check()?;
        world.follow()?;
    }
    world.finish()
}

impl World {
    fn new(setting: Setting) -> Result<Self, Error> {
        let scheme = if setting.translated {
            HashScheme::Own(OwnScheme::default())
        } else {
            let seed = HashSeed::Value(String::from("0"));
            HashScheme::Vllm(VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &seed)?)
        };
        let hasher = BlockHasher::new(scheme, BLOCK_SIZE)?;
        let mut prompts = Vec::new();
        for variant in 0..6 {
            let tokens = token_ids(variant);
            let blocks = hasher.hash(&tokens, &HashContext::default())?;
            prompts.push((tokens, blocks));
        }
        let mut world = Self {
            setting,
            domain: Arc::new(CacheDomain::new("model", hasher)?),
            prompts,
            index: Self::index(setting, 4),
            engines: Vec::new(),
            twin: None,
        };
        for _ in 0..PODS {
            let engine = world.engine();
            world.engines.push(engine);
        }
        Ok(world)
    }

    fn index(setting: Setting, shards: usize) -> BlockIndex {
        BlockIndex::new(IndexOptions { shards, max_bytes: setting.max_bytes(), ..IndexOptions::default() })
    }

    fn engine(&self) -> Engine {
        let groups = self.groups();
        Engine {
            id: self.add_pod(&self.index),
            truth: OraclePod::new(&groups),
            view: OraclePod::new(&groups),
            published: Vec::new(),
            delivered: 0,
            incarnation: 0,
            changes: Vec::new(),
            lost: false,
            copy: HeldCopy::default(),
        }
    }

    fn add_pod(&self, index: &BlockIndex) -> PodId {
        let groups = self.groups();
        let on_gap = if self.setting.replay { GapPolicy::Replay } else { GapPolicy::Clear };
        // A hybrid pod's groups are told beforehand, another's learned from its events.
        let known = if self.setting.hybrid { groups } else { Vec::new() };
        let options =
            PodOptions { copies: self.setting.copies(), on_gap, groups: known, ..PodOptions::default() };
        index.add_pod(Arc::clone(&self.domain), options)
    }

    fn groups(&self) -> Vec<(u32, GroupKind)> {
        let mut groups = alloc::vec![(0, GroupKind::FullAttention)];
        if self.setting.hybrid {
            groups.push((1, GroupKind::SlidingWindow { window: WINDOW }));
        }
        groups
    }

    /// The engine's name for a block.
    fn name(&self, pod: usize, block: BlockHash) -> EngineHash {
        if self.setting.translated {
            EngineHash(block.0.rotate_left(9 + pod as u32) ^ self.engines[pod].incarnation)
        } else {
            EngineHash(block.0)
        }
    }

    /// Whether the index was offered all the engine published: only then can blocks be named without
    /// tokens and be known all the same.
    fn in_step(&self, pod: usize) -> bool {
        let engine = &self.engines[pod];
        engine.delivered == engine.published.len()
    }

    /// One thing an engine does, and what it publishes of it.
    fn act(&mut self, op: [u8; 4]) -> Result<(), String> {
        let [kind, selector, a, b] = op;
        let pod = usize::from(selector) % PODS;
        let group = if self.setting.hybrid { u32::from(selector >> 6 & 1) } else { 0 };
        let variant = usize::from(selector >> 2) % self.prompts.len();
        let start = usize::from(a) % DEPTH;
        let length = 1 + usize::from(b) % (DEPTH - start);
        match kind % 16 {
            // A prompt's blocks, from any block on: holes come from evictions, parents from anywhere.
            0..=4 => {
                let start = if kind % 16 == 0 { 0 } else { start };
                let length = length.min(DEPTH - start);
                let event = self.stored(pod, group, Tier::Gpu, variant, start, length);
                self.publish(pod, &[event])
            }
            5..=8 => {
                let count = 1 + usize::from(b) % 3;
                let mut blocks: Vec<_> =
                    self.prompts[variant].1[start..].iter().copied().take(count).collect();
                blocks.reverse();
                let tier = if kind & 0x10 == 0 { Some(Tier::Gpu) } else { Some(Tier::Cpu) };
                self.removed(pod, group, tier, &blocks)
            }
            // Offload: the block is announced in another tier, without tokens or parent.
            9 | 10 => {
                let block = self.prompts[variant].1[start];
                let engine = &self.engines[pod];
                if !(self.in_step(pod) && engine.view.holds(0, Tier::Gpu, block)) {
                    return Ok(());
                }
                self.placed(pod, group, Tier::Cpu, &[block])
            }
            // Sparse retention: only some of the range's blocks, with the tokens of all.
            11 => self.sparse(pod, group, variant, start, length),
            12 => {
                self.engines[pod].truth.clear();
                self.engines[pod].changes.push(Change::Clear);
                let event = encode(|buffer| {
                    let _ = write_map_len(buffer, 1);
                    let _ = write_str(buffer, "type");
                    let _ = write_str(buffer, "AllBlocksCleared");
                });
                self.publish(pod, &[event])
            }
            13 if b % 4 == 0 => self.restart(pod),
            // A block that leaves by way of a tier nobody knows leaves everywhere.
            13 => {
                let block = self.prompts[variant].1[start];
                self.removed(pod, group, None, &[block])
            }
            14 if b % 8 == 1 => self.replace(pod),
            14 if b % 8 == 3 => self.carry_over(),
            14 => {
                self.engines[pod].lost |= b % 2 == 0;
                Ok(())
            }
            _ => self.repeat(pod),
        }
    }

    fn stored(
        &mut self,
        pod: usize,
        group: u32,
        tier: Tier,
        variant: usize,
        start: usize,
        n: usize,
    ) -> Vec<u8> {
        let (tokens, blocks) = &self.prompts[variant];
        let parent = start.checked_sub(1).map(|i| self.name(pod, blocks[i]));
        let names: Vec<_> = blocks[start..start + n].iter().map(|&block| self.name(pod, block)).collect();
        let size = BLOCK_SIZE as usize;
        let event =
            self.encode_stored(&names, parent, &tokens[start * size..(start + n) * size], tier, group);
        let engine = &mut self.engines[pod];
        for &block in &blocks[start..start + n] {
            engine.truth.store(group, tier, block);
            engine.changes.push(Change::Store(group, tier, block));
        }
        event
    }

    fn removed(
        &mut self,
        pod: usize,
        group: u32,
        tier: Option<Tier>,
        blocks: &[BlockHash],
    ) -> Result<(), String> {
        // An engine only removes what it holds.
        let held = |engine: &Engine, block| {
            Tier::ALL
                .iter()
                .any(|&t| tier.is_none_or(|tier| tier == t) && engine.truth.holds(group, t, block))
        };
        let blocks: Vec<_> = blocks.iter().copied().filter(|&b| held(&self.engines[pod], b)).collect();
        let names: Vec<_> = blocks.iter().map(|&block| self.name(pod, block)).collect();
        let event = encode(|buffer| {
            let _ = write_map_len(buffer, 4);
            let _ = write_str(buffer, "type");
            let _ = write_str(buffer, "BlockRemoved");
            write_hashes(buffer, &names);
            let _ = write_str(buffer, "medium");
            let _ = write_str(buffer, tier.map_or("HOLOGRAM", medium));
            let _ = write_str(buffer, "group_idx");
            let _ = write_uint(buffer, u64::from(group));
        });
        let engine = &mut self.engines[pod];
        for block in blocks {
            engine.truth.remove(group, tier, block);
            engine.changes.push(Change::Remove(group, tier, block));
        }
        self.publish(pod, &[event])
    }

    fn placed(&mut self, pod: usize, group: u32, tier: Tier, blocks: &[BlockHash]) -> Result<(), String> {
        let names: Vec<_> = blocks.iter().map(|&block| self.name(pod, block)).collect();
        let event = self.encode_stored(&names, None, &[], tier, group);
        let engine = &mut self.engines[pod];
        for &block in blocks {
            engine.truth.store(group, tier, block);
            engine.changes.push(Change::Store(group, tier, block));
        }
        self.publish(pod, &[event])
    }

    fn sparse(
        &mut self,
        pod: usize,
        group: u32,
        variant: usize,
        start: usize,
        n: usize,
    ) -> Result<(), String> {
        let (tokens, blocks) = &self.prompts[variant];
        let size = BLOCK_SIZE as usize;
        let range = start * size..(start + n) * size;
        let engine = &self.engines[pod];
        let chosen: Vec<_> = blocks[start..start + n]
            .iter()
            .copied()
            .step_by(2)
            .filter(|&b| engine.view.holds(0, Tier::Gpu, b))
            .collect();
        if !self.in_step(pod) || chosen.is_empty() || chosen.len() == n {
            return Ok(());
        }
        let names: Vec<_> = chosen.iter().map(|&block| self.name(pod, block)).collect();
        let event = self.encode_stored(&names, None, &tokens[range], Tier::Gpu, group);
        let engine = &mut self.engines[pod];
        for block in chosen {
            engine.truth.store(group, Tier::Gpu, block);
            engine.changes.push(Change::Store(group, Tier::Gpu, block));
        }
        self.publish(pod, &[event])
    }

    fn restart(&mut self, pod: usize) -> Result<(), String> {
        let groups = self.groups();
        let engine = &mut self.engines[pod];
        engine.truth = OraclePod::new(&groups);
        engine.incarnation += 1;
        engine.published.clear();
        engine.delivered = 0;
        engine.changes = alloc::vec![Change::Clear];
        engine.lost = false;
        let event = self.stored(pod, 0, Tier::Gpu, 0, 0, 1);
        self.publish(pod, &[event])
    }

    /// The pod leaves and another comes, which holds nothing; the old one is known no more.
    fn replace(&mut self, pod: usize) -> Result<(), String> {
        let old = self.engines[pod].id;
        self.index.remove_pod(old).map_err(|e| format!("{e}"))?;
        self.engines[pod] = self.engine();
        if let Some((twin, mut ids)) = self.twin.take() {
            twin.remove_pod(ids[pod]).map_err(|e| format!("{e}"))?;
            ids[pod] = self.add_pod(&twin);
            self.twin = Some((twin, ids));
        }
        if self.index.trust(old).is_ok() || self.engines[pod].id == old {
            return Err(format!("pod {pod} came back as the one that left"));
        }
        Ok(())
    }

    /// The index goes on as another one, made of its snapshot.
    fn carry_over(&mut self) -> Result<(), String> {
        // More shards or fewer, so that nothing hangs on their number.
        let index = Self::index(self.setting, if self.twin.is_some() { 1 } else { 16 });
        let old: Vec<_> = self.engines.iter().map(|engine| engine.id).collect();
        let new: Vec<_> = old.iter().map(|_| self.add_pod(&index)).collect();
        let restored = self.index.carry_over(&old, &index, &new).map_err(|e| format!("{e}"))?;
        if restored.iter().any(Option::is_none) {
            return Err(format!("a pod was not carried over: {restored:?}"));
        }
        // Tables of other sizes reach a bound at another moment.
        if !self.setting.guarded {
            let known = |index: &BlockIndex| (index.blocks(), index.bytes() > 0);
            if restored.iter().flatten().any(|pod| pod.refused > 0) || known(&index) != known(&self.index) {
                return Err(format!("{:?} became {:?}: {restored:?}", known(&self.index), known(&index)));
            }
        }
        self.engines.iter_mut().zip(new).for_each(|(engine, id)| engine.id = id);
        let twin = core::mem::replace(&mut self.index, index);
        self.twin = (!self.setting.guarded).then_some((twin, old));
        Ok(())
    }

    /// Applies a batch to the index, and to its twin, which must answer the same.
    fn apply(&self, pod: usize, sequence: usize) -> Result<ApplyReport, String> {
        let (engine, sequence) = (&self.engines[pod], sequence as u64);
        let payload = &engine.published[sequence as usize];
        let apply = |index: &BlockIndex, id| -> Result<_, Error> {
            let report = index.apply_batch(id, sequence, payload)?;
            Ok((report, index.counters(id)?, index.trust(id)?, index.parked_blocks(id)?, index.blocks()))
        };
        let answer = apply(&self.index, engine.id).map_err(|e| format!("{e}"))?;
        if let Some((twin, ids)) = &self.twin {
            let twins = apply(twin, ids[pod]).map_err(|e| format!("{e}"))?;
            if twins != answer {
                return Err(format!(
                    "pod {pod}, batch {sequence}: restored {answer:?}, not restored {twins:?}"
                ));
            }
        }
        Ok(answer.0)
    }

    /// The last batch once more.
    fn repeat(&mut self, pod: usize) -> Result<(), String> {
        let count = self.engines[pod].published.len();
        if count == 0 || !self.in_step(pod) {
            return Ok(());
        }
        match self.apply(pod, count - 1)?.outcome {
            Outcome::Ignored(_) => Ok(()),
            other => Err(format!("a repeated batch was {other:?}")),
        }
    }

    /// Sends a batch on its way: it may be lost; a gap before it is noticed now.
    fn publish(&mut self, pod: usize, events: &[Vec<u8>]) -> Result<(), String> {
        let engine = &mut self.engines[pod];
        let incarnation = engine.incarnation;
        let payload = encode(|buffer| {
            let _ = write_array_len(buffer, 3);
            // Different incarnations never send the same bytes: the time differs.
            let _ = write_f64(buffer, incarnation as f64);
            let _ = write_array_len(buffer, events.len() as u32);
            let mut bytes = core::mem::take(buffer).into_vec();
            events.iter().for_each(|event| bytes.extend_from_slice(event));
            *buffer = ByteBuf::from_vec(bytes);
            let _ = write_uint(buffer, 0);
        });
        engine.published.push(payload);
        if core::mem::take(&mut engine.lost) {
            if !self.setting.replay {
                engine.changes.clear();
            }
            return Ok(());
        }
        let last = engine.published.len() - 1;
        let gap = engine.delivered < last;
        let delivered = engine.delivered;
        let first = if gap && self.setting.replay {
            let report = self.apply(pod, last)?;
            if !matches!(report.outcome, Outcome::NeedsResync(_)) {
                return Err(format!("a gap before batch {last} was {:?}", report.outcome));
            }
            delivered.saturating_sub(1)
        } else {
            last
        };
        for sequence in first..=last {
            self.apply(pod, sequence)?;
        }
        let engine = &mut self.engines[pod];
        if gap && !self.setting.replay && delivered > 0 {
            engine.view.clear();
        }
        engine.delivered = last + 1;
        for change in engine.changes.drain(..) {
            match change {
                Change::Store(group, tier, block) => engine.view.store(group, tier, block),
                Change::Remove(group, tier, block) => engine.view.remove(group, tier, block),
                Change::Clear => engine.view.clear(),
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        #[cfg(test)]
        assert_eq!(self.index.bytes(), self.index.recount(), "the byte count is kept");
        let mut table = MatchTable::default();
        for (variant, (_, blocks)) in self.prompts.iter().enumerate() {
            for length in [DEPTH, DEPTH / 2] {
                let query = &blocks[..length];
                self.index.lookup(&self.domain, query, &mut table);
                for (pod, engine) in self.engines.iter().enumerate() {
                    let found = table.blocks(engine.id);
                    let found: Vec<_> = Tier::ALL.iter().map(|&tier| found.in_tier(tier)).collect();
                    let expected = engine.view.usable(query, BLOCK_SIZE);
                    let total = |tiers: &[u32]| tiers.iter().sum::<u32>();
                    let fits = if self.setting.guarded {
                        total(&found) <= total(&expected)
                    } else {
                        found == expected
                    };
                    if !fits {
                        return Err(format!(
                            "pod {pod}, prompt {variant} of {length} blocks: index {found:?}, oracle {expected:?}"
                        ));
                    }
                    let truth: u32 = engine.truth.usable(query, BLOCK_SIZE).iter().sum();
                    // Nobody can know of a lost batch before the next one arrives.
                    if self.in_step(pod) && found.iter().sum::<u32>() > truth {
                        return Err(format!(
                            "pod {pod}, prompt {variant}: credited with {found:?}, the engine has {truth}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// What the index says that pods hold is what they hold, as far as it can know.
    fn follow(&mut self) -> Result<(), String> {
        for (pod, engine) in self.engines.iter_mut().enumerate() {
            engine.copy.follow(&self.index, engine.id)?;
            // It may be behind by a step, and the index by a lost batch.
            let is_current = engine.delivered == engine.published.len() && engine.copy.is_current();
            let wrong = |held: &&HeldBlock| !engine.truth.holds(held.group, held.tier, held.hash);
            if is_current && let Some(block) = engine.copy.blocks().iter().find(wrong) {
                return Err(format!("pod {pod}: {block:?} is not held"));
            }
        }
        Ok(())
    }

    /// Every pod goes; the index must be as it was new.
    fn finish(self) -> Result<(), String> {
        for engine in &self.engines {
            self.index.remove_pod(engine.id).map_err(|error| format!("{error}"))?;
        }
        match (self.index.blocks(), self.index.bytes()) {
            (0, 0) => Ok(()),
            (blocks, bytes) => Err(format!("{blocks} blocks and {bytes} bytes are left of no pod")),
        }
    }

    fn encode_stored(
        &self,
        names: &[EngineHash],
        parent: Option<EngineHash>,
        tokens: &[u32],
        tier: Tier,
        group: u32,
    ) -> Vec<u8> {
        let groups = self.groups();
        encode(|buffer| {
            let _ = write_map_len(buffer, 9);
            let _ = write_str(buffer, "type");
            let _ = write_str(buffer, "BlockStored");
            write_hashes(buffer, names);
            let _ = write_str(buffer, "parent_block_hash");
            match parent {
                Some(hash) => drop(write_uint(buffer, hash.0)),
                None => drop(write_nil(buffer)),
            }
            let _ = write_str(buffer, "token_ids");
            let _ = write_array_len(buffer, tokens.len() as u32);
            for &token in tokens {
                let _ = write_uint(buffer, u64::from(token));
            }
            let _ = write_str(buffer, "block_size");
            let _ = write_uint(buffer, if tokens.is_empty() { 0 } else { u64::from(BLOCK_SIZE) });
            let _ = write_str(buffer, "medium");
            let _ = write_str(buffer, medium(tier));
            let _ = write_str(buffer, "group_idx");
            let _ = write_uint(buffer, u64::from(group));
            let _ = write_str(buffer, "kv_cache_spec_kind");
            match groups[group as usize].1 {
                GroupKind::SlidingWindow { window } => {
                    let _ = write_str(buffer, "sliding_window");
                    let _ = write_str(buffer, "kv_cache_spec_sliding_window");
                    let _ = write_uint(buffer, u64::from(window));
                }
                _ => {
                    let _ = write_str(buffer, "full_attention");
                    let _ = write_str(buffer, "kv_cache_spec_sliding_window");
                    let _ = write_nil(buffer);
                }
            }
        })
    }
}

fn medium(tier: Tier) -> &'static str {
    match tier {
        Tier::Gpu => "GPU",
        Tier::Cpu => "CPU",
        Tier::Disk => "STORAGE",
        Tier::External => "EXTERNAL",
    }
}

fn encode(write: impl FnOnce(&mut ByteBuf)) -> Vec<u8> {
    let mut buffer = ByteBuf::new();
    write(&mut buffer);
    buffer.into_vec()
}

/// Half of the hashes as integers, half as the 32 bytes that end in them.
fn write_hashes(buffer: &mut ByteBuf, names: &[EngineHash]) {
    let _ = write_str(buffer, "block_hashes");
    let _ = write_array_len(buffer, names.len() as u32);
    for (i, name) in names.iter().enumerate() {
        if i % 2 == 0 {
            let _ = write_uint(buffer, name.0);
        } else {
            let mut bytes = [7; 32];
            bytes[24..].copy_from_slice(&name.0.to_be_bytes());
            let _ = write_bin(buffer, &bytes);
        }
    }
}
