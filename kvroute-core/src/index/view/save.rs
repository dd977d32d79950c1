//! A view as records of a snapshot.

use alloc::vec::Vec;

use hashbrown::{HashMap, HashTable};

use super::View;
use crate::frame::{FrameWriter, Kind};
use crate::index::BlockIndex;
use crate::index::run::RunId;
use crate::index::shard::spread;
use crate::index::snapshot::{Held, Pieces, group_kind};

/// The names of what a pod holds, still to be written: finding each block's takes longer than a view should be
/// locked for.
#[derive(Debug, Default)]
pub(in crate::index) struct Named {
    /// What is held, in the order in which the lanes were written: key and packed place; empty in a native domain.
    held: Vec<(u64, u64)>,
    /// Names of blocks with copies: name, packed place, copies.
    names: Vec<(u64, u64, u32)>,
}

impl View {
    /// Number of lanes it would be written with, but for that of what is predicted.
    pub(in crate::index) fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// Writes all but the names.
    pub(in crate::index) fn save(
        &self,
        index: &BlockIndex,
        pieces: &mut Pieces,
        frames: &mut FrameWriter,
    ) -> Named {
        // Whoever predicts waits, so that what is predicted is of the same moment.
        let sent = self.sent.lock();
        frames.open(Kind::Stream);
        self.save_stream(frames);
        pieces.begin_pod();
        frames.open(Kind::Pieces);
        for own in &self.lanes {
            own.runs.runs.iter().for_each(|&run| pieces.add(&index.chains, RunId(run), frames));
        }
        sent.predicted.uses().for_each(|(run, _)| pieces.add(&index.chains, run, frames));
        frames.open(Kind::Predicted);
        sent.predicted.save(pieces, frames);
        drop(sent);

        let is_native = self.domain.is_native();
        let (mut held, mut named) = (Held::default(), Named::default());
        for own in &self.lanes {
            for &run in &own.runs.runs {
                held.add(&index.chains, pieces, own.lane.id, RunId(run), !is_native);
            }
            held.write(own.lane.group, own.lane.tier, frames, &mut named.held);
        }
        frames.open(Kind::Copies);
        for (&(lane, key), &copies) in &self.more_copies {
            frames.number(self.lane_number(lane));
            frames.hash(key);
            frames.number(u64::from(copies));
            frames.next_record();
        }
        frames.open(Kind::Lineage);
        self.lineage.save(frames);
        frames.open(Kind::Parked);
        self.parked.save(frames, |lane| self.lane_number(lane));
        frames.open(Kind::Retired);
        self.translation.save_retired(frames);
        frames.close();
        named.names = self.translation.held().collect();
        named
    }

    /// The sequence and what became of it, flags, groups.
    fn save_stream(&self, frames: &mut FrameWriter) {
        let digests = self.tracker.digests();
        frames.number(self.tracker.next());
        frames.number(digests.len() as u64);
        frames.hashes(digests);
        frames.option(self.last_event);
        frames.option(self.dp_rank.map(u64::from));
        for flag in [self.offloads, self.degraded, self.awaiting] {
            frames.byte(u8::from(flag));
        }
        frames.number(self.groups.len() as u64);
        for &(group, kind) in &self.groups {
            frames.number(u64::from(group));
            group_kind::write(kind, frames);
        }
        self.counters.save(frames);
    }

    /// Position of a lane that is named by its number.
    fn lane_number(&self, lane: u32) -> u64 {
        self.lanes.iter().position(|own| own.lane.id == lane).unwrap_or(self.lanes.len()) as u64
    }
}

impl Named {
    /// Writes the names: numbers of blocks, in the order of what is held, with so many copies each under one
    /// name, and their names; 0 copies where a block has none, or has it from another lane. Then what other names
    /// there are.
    pub(in crate::index) fn write(self, frames: &mut FrameWriter) {
        let mut table = HashTable::with_capacity(self.names.len());
        let by_place = |&at: &u32| spread(self.names[at as usize].1);
        for (at, (_, place, _)) in self.names.iter().enumerate() {
            table.insert_unique(spread(*place), at as u32, by_place);
        }
        frames.open(Kind::Names);
        let mut same = Vec::new();
        let mut copies_of_same = 0;
        let mut unnamed: u64 = 0;
        for &(_, place) in &self.held {
            let entry = table.find_entry(spread(place), |&at| self.names[at as usize].1 == place);
            let (name, copies) = match entry {
                Ok(entry) => {
                    let (name, _, copies) = self.names[entry.remove().0 as usize];
                    (Some(name), copies)
                }
                Err(_) => (None, 0),
            };
            if name.is_none() || copies != copies_of_same || same.len() == SAME {
                write_same(&mut same, copies_of_same, frames);
                copies_of_same = copies;
            }
            match name {
                Some(name) => {
                    write_unnamed(&mut unnamed, frames);
                    same.push(name);
                }
                None => unnamed += 1,
            }
        }
        write_same(&mut same, copies_of_same, frames);
        // Blocks with two names; few engines have any.
        let mut keys: HashMap<u64, u64> = table.iter().map(|&at| (self.names[at as usize].1, 0)).collect();
        for (key, place) in self.held.iter().filter(|_| !table.is_empty()) {
            keys.entry(*place).and_modify(|known| *known = *key);
        }
        frames.open(Kind::OtherNames);
        for at in table {
            let (name, place, copies) = self.names[at as usize];
            frames.hash(name);
            frames.hash(keys[&place]);
            frames.number(u64::from(copies));
            frames.next_record();
        }
        frames.close();
    }
}

/// Most names in one record.
const SAME: usize = 4096;

fn write_same(names: &mut Vec<u64>, copies: u32, frames: &mut FrameWriter) {
    if names.is_empty() {
        return;
    }
    frames.next_record();
    frames.number(names.len() as u64);
    frames.number(u64::from(copies));
    frames.hashes(names.drain(..));
}

fn write_unnamed(count: &mut u64, frames: &mut FrameWriter) {
    if *count > 0 {
        frames.next_record();
        frames.number(core::mem::take(count));
        frames.number(0);
    }
}
