//! Stores with token ids: chains of blocks, placed after their parent or parked until it comes.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use hashbrown::HashSet;

use super::{View, places_of};
use crate::EngineHash;
use crate::event::{BlockStored, GroupKind};
use crate::hash::{ExtraKey, HashScheme};
use crate::index::chains::Stop;
use crate::index::outcome::{IgnoreReason, Outcome};
use crate::index::parked::ParkedBlock;
use crate::index::run::Spot;
use crate::index::{BlockIndex, CopyPolicy};

/// Keys that came to be held in the batch being applied. They are listed as they come; the set that answers
/// questions is only made once one is asked, which few batches do.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    listed: Vec<u64>,
    set: HashSet<u64>,
    in_set: usize,
}

impl Fresh {
    fn push(&mut self, key: u64) {
        self.listed.push(key);
    }

    fn contains(&mut self, key: u64) -> bool {
        if self.listed.is_empty() {
            return false;
        }
        self.set.extend(&self.listed[self.in_set..]);
        self.in_set = self.listed.len();
        self.set.contains(&key)
    }

    pub(super) fn clear(&mut self) {
        self.listed.clear();
        self.set.clear();
        self.in_set = 0;
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.listed.capacity() * size_of::<u64>() + self.set.allocation_size()
    }
}

impl View {
    pub(super) fn store(&mut self, index: &BlockIndex, event: &BlockStored) -> Outcome {
        let Some(tier) = event.tier else { return Outcome::Ignored(IgnoreReason::UnknownTier) };
        if event.block_hashes.is_empty() {
            return Outcome::Applied;
        }
        if event.bigrams {
            self.degraded = true;
            return Outcome::Ignored(IgnoreReason::Bigrams);
        }
        let named_alone = event.token_ids.is_empty();
        if !named_alone && event.block_size != self.domain.block_size() {
            self.degraded = true;
            return Outcome::Ignored(IgnoreReason::BlockSize);
        }
        let tokens = event.block_hashes.len().saturating_mul(self.domain.block_size() as usize);
        // Where masked blocks are left out, neither parents nor tokens can be told apart by counting.
        let sparse = !named_alone && event.token_ids.len() != tokens;
        let parent = if named_alone || sparse { Ok(None) } else { self.keys_of(index, event) };
        let parent = match parent {
            Ok(parent) => parent,
            Err(reason) => {
                self.degraded = true;
                return Outcome::Ignored(reason);
            }
        };
        // Last, so that what is refused leaves no trace.
        let Some(lane) = self.lane(index, event.group, tier) else {
            self.degraded = true;
            return Outcome::Ignored(IgnoreReason::TooManyGroups);
        };
        match parent {
            _ if named_alone => {
                self.store_placed(index, lane, &event.block_hashes, IgnoreReason::UnknownBlock)
            }
            _ if sparse => self.store_placed(index, lane, &event.block_hashes, IgnoreReason::Sparse),
            Some(parent) => self.store_chain(index, lane, event, parent),
            None => self.park(lane, event),
        }
    }

    /// Fills `self.keys`; answers the parent, `Ok(None)` if its name is not known.
    #[expect(clippy::option_option, reason = "outer: is the parent known; inner: is there one")]
    fn keys_of(
        &mut self,
        index: &BlockIndex,
        event: &BlockStored,
    ) -> Result<Option<Option<Spot>>, IgnoreReason> {
        let salt = self.domain.salt();
        self.keys.clear();
        if !self.domain.is_native() {
            // Before the parent is looked for, which takes as long.
            self.translation.fetch(&event.block_hashes);
        }
        let parent = event.parent.map(|hash| self.spot_of(index, hash));
        let HashScheme::Own(scheme) = self.domain.hasher().scheme() else {
            self.keys.extend(event.block_hashes.iter().map(|hash| hash.0 ^ salt));
            return Ok(Some(parent.flatten()));
        };
        // One entry a block or none at all: a block whose keys were lost would match prompts it does not serve.
        if !event.extra_keys.is_empty() && event.extra_keys.len() != event.block_hashes.len() {
            return Err(IgnoreReason::Malformed);
        }
        let adapter = adapter_of(event, &self.options.adapters)?;
        let parent = match parent {
            None => None,
            Some(None) => return Ok(None),
            Some(known) => known,
        };
        let size = self.domain.block_size() as usize;
        let mut before = parent.map(|spot| crate::BlockHash(spot.key ^ salt));
        let blocks = event.token_ids.chunks_exact(size);
        if event.extra_keys.is_empty() && event.cache_salt.is_none() {
            self.keys.extend(scheme.hash_plain_blocks(before, blocks, adapter).map(|hash| hash.0 ^ salt));
        } else {
            for (i, tokens) in blocks.enumerate() {
                let hash = scheme.hash_block(before, tokens, adapter, &extra_keys_of(event, i, adapter));
                self.keys.push(hash.0 ^ salt);
                before = Some(hash);
            }
        }
        // A name for two blocks: the removal of one could not be told from that of the other.
        if self.contradicts(index, &event.block_hashes, &self.keys) {
            return Err(IgnoreReason::Contradiction);
        }
        Ok(Some(parent))
    }

    fn store_chain(
        &mut self,
        index: &BlockIndex,
        lane: usize,
        event: &BlockStored,
        parent: Option<Spot>,
    ) -> Outcome {
        let own = &mut self.lanes[lane];
        own.runs.stored.clear();
        self.already.clear();
        let already = &mut self.already;
        let stored = index.chains.store(own.lane.id, parent, &self.keys, &mut own.runs, |i| already.push(i));
        if stored.stopped == Some(Stop::UnknownParent) && stored.held == 0 {
            return self.park(lane, event);
        }
        self.journal_stored(lane, stored.held);
        let refused = self.count_copies(index, lane, event, stored.held);
        self.degraded |= refused > 0;
        self.counters.blocks_refused += refused;
        self.counters.blocks_stored += stored.held as u64 - refused;
        if !self.parked.is_empty() {
            self.unpark(index, &event.block_hashes[..stored.held]);
        }
        match stored.stopped {
            None => Outcome::Applied,
            Some(stop) => {
                self.degraded = true;
                self.counters.blocks_refused += (event.block_hashes.len() - stored.held) as u64;
                Outcome::Ignored(match stop {
                    Stop::Memory => IgnoreReason::Memory,
                    Stop::UnknownParent => IgnoreReason::UnknownBlock,
                })
            }
        }
    }

    /// Notes which of the first `held` blocks of an event are further copies, and their names. Answers how many are held no
    /// more, because the event has their name for another block, too.
    fn count_copies(&mut self, index: &BlockIndex, lane: usize, event: &BlockStored, held: usize) -> u64 {
        let own = &mut self.lanes[lane];
        let parts = mem::take(&mut own.runs.stored);
        let (mut places, mut refused) = (places_of(&parts), 0);
        let lane = own.lane.id;
        let mut again = self.already.iter().copied().peekable();
        // With `kv_cache_report_mode=full` vLLM (0.26 and later) announces blocks it reuses once more,
        // from block 0, without a new copy. A request that really computes held blocks again does so from
        // its first miss or, by the last-token rule, for one last block; never from block 0 through
        // several blocks it held before this step. (Not so where a window miss makes a hybrid model start
        // over.)
        let mut announced = self.options.copies == CopyPolicy::Infer
            && event.parent.is_none()
            && event.block_hashes.len() > 1
            && self.groups.iter().all(|(_, kind)| *kind == GroupKind::FullAttention);
        for (i, &key) in self.keys[..held].iter().enumerate() {
            let place = places.next();
            let new = again.next_if_eq(&i).is_none();
            // A view that lost events may lack any part of what is reported, so there new blocks prove
            // nothing.
            announced = announced && (!new || self.degraded) && !self.fresh.contains(key);
            if new {
                self.fresh.push(key);
            } else if announced || self.options.copies == CopyPolicy::Set {
                continue;
            }
            if let Some(place) = place
                && !self.translation.add_copy(event.block_hashes[i], place)
            {
                // One name for two blocks of an event: what is held must have a name of its own.
                if new {
                    index.chains.remove(lane, Spot { key, place: Some(place) }, &mut own.runs);
                    if let Some(journal) = &mut self.journal {
                        let hash = crate::BlockHash(key ^ self.domain.salt());
                        journal.record(own.lane, false, [hash].into_iter());
                    }
                }
                refused += 1;
            } else if !new {
                *self.more_copies.entry((lane, key)).or_insert(0) += 1;
            }
        }
        drop(places);
        own.runs.stored = parts;
        refused
    }

    fn park(&mut self, lane: usize, event: &BlockStored) -> Outcome {
        let Some(mut parent) = event.parent else { return Outcome::Ignored(IgnoreReason::UnknownBlock) };
        let translated = !self.domain.is_native();
        let size = self.domain.block_size() as usize;
        let lane = self.lanes[lane].lane.id;
        for (i, &hash) in event.block_hashes.iter().enumerate() {
            let (mut token_ids, mut extra_keys) = (Vec::new(), Vec::new());
            if translated {
                let Ok(adapter) = adapter_of(event, &self.options.adapters) else { break };
                token_ids = event.token_ids[i * size..(i + 1) * size].to_vec();
                extra_keys = extra_keys_of(event, i, adapter);
            }
            let block = ParkedBlock { hash, lane, copies: 1, token_ids, extra_keys };
            if !self.parked.park(parent, block) {
                self.degraded = true;
                self.counters.blocks_refused += (event.block_hashes.len() - i) as u64;
                return Outcome::Ignored(IgnoreReason::ParkedFull);
            }
            parent = hash;
        }
        Outcome::Parked
    }

    /// Places what waited for any of `known`, and what waited for that.
    pub(super) fn unpark(&mut self, index: &BlockIndex, known: &[EngineHash]) {
        let mut known = known.to_vec();
        while let Some(parent) = known.pop() {
            for block in self.parked.take(parent) {
                let Some(before) = self.spot_of(index, parent) else { continue };
                let Some(at) = self.lanes.iter().position(|own| own.lane.id == block.lane) else { continue };
                let key = match self.domain.hasher().scheme() {
                    HashScheme::Own(scheme) => {
                        let parent = crate::BlockHash(before.key ^ self.domain.salt());
                        scheme.hash_block(Some(parent), &block.token_ids, None, &block.extra_keys).0
                            ^ self.domain.salt()
                    }
                    _ => block.hash.0 ^ self.domain.salt(),
                };
                if self.contradicts(index, &[block.hash], &[key]) {
                    self.degraded = true;
                    self.counters.blocks_refused += 1;
                    continue;
                }
                let (own, mut held) = (&mut self.lanes[at], false);
                own.runs.stored.clear();
                let stored =
                    index.chains.store(own.lane.id, Some(before), &[key], &mut own.runs, |_| held = true);
                if stored.held == 0 {
                    self.degraded = true;
                    self.counters.blocks_refused += 1;
                    continue;
                }
                if !held {
                    self.journal_one(at, true, key);
                }
                let new = u32::from(!held);
                // Where events were lost, what brought the parent may be a report that told of this copy too.
                let told = u32::from(self.degraded && self.options.copies == CopyPolicy::Infer);
                let more =
                    if self.options.copies == CopyPolicy::Set { 0 } else { block.copies - new.max(told) };
                if more > 0 {
                    *self.more_copies.entry((block.lane, key)).or_insert(0) += more;
                }
                if let Some(place) = places_of(&self.lanes[at].runs.stored).next() {
                    (0..new + more).for_each(|_| _ = self.translation.add_copy(block.hash, place));
                }
                self.counters.blocks_stored += 1;
                known.push(block.hash);
            }
        }
    }
}

/// The adapter's name, which enters the own scheme's hashes.
fn adapter_of<'a>(
    event: &'a BlockStored,
    adapters: &'a [(i64, String)],
) -> Result<Option<&'a str>, IgnoreReason> {
    let Some(lora) = &event.lora else { return Ok(None) };
    match (&lora.name, lora.id) {
        (Some(name), _) => Ok(Some(name)),
        (None, Some(id)) => match adapters.iter().find(|known| known.0 == id) {
            Some((_, name)) => Ok(Some(name)),
            None => Err(IgnoreReason::UnknownAdapter),
        },
        (None, None) => Ok(None),
    }
}

/// Extra keys of block `i` of an event as the own scheme takes them: without the adapter's name, which
/// stands first where it is present, and with SGLang's salt where vLLM would have put it.
fn extra_keys_of(event: &BlockStored, i: usize, adapter: Option<&str>) -> Vec<ExtraKey> {
    let mut keys = event.extra_keys.get(i).cloned().unwrap_or_default();
    if let (Some(ExtraKey::Text(first)), Some(name)) = (keys.first(), adapter)
        && first == name
    {
        keys.remove(0);
    }
    if i == 0
        && event.parent.is_none()
        && let Some(salt) = &event.cache_salt
    {
        keys.push(ExtraKey::Text(salt.clone()));
    }
    keys
}
