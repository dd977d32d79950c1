//! Writing the forest, piece by piece, as pods need it.

use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

use crate::Tier;
use crate::frame::{FrameWriter, Kind};
use crate::index::chains::Chains;
use crate::index::run::{Place, RunId};

/// Where a block lies in the snapshot: its piece, and its offset there.
type PiecePlace = (u32, usize);

/// What was written so far.
#[derive(Debug, Default)]
pub(in crate::index) struct Pieces {
    written: HashMap<u32, Written>,
    count: u32,
    /// Runs that were looked at for the pod at hand; while its view is locked they stay as they are, as far as it
    /// needs them.
    current: HashSet<u32>,
    /// Scratch: the runs on the way up from one that is not in `current`.
    way: Vec<(RunId, Option<Place>)>,
}

/// What was written of a run.
#[derive(Debug)]
struct Written {
    parent: Option<PiecePlace>,
    /// The first piece, from offset 0, and where the next ones begin.
    first: u32,
    more: Vec<(usize, u32)>,
    length: usize,
    /// Of its keys up to there: the slot may have another run by now.
    digest: u64,
}

impl Written {
    /// The piece that has this offset, and where it begins.
    fn piece_at(&self, offset: usize) -> (u32, usize) {
        let after = self.more.partition_point(|&(start, _)| start <= offset);
        after.checked_sub(1).map_or((self.first, 0), |at| (self.more[at].1, self.more[at].0))
    }
}

impl Pieces {
    /// Number of pieces written.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Begins another pod.
    pub(in crate::index) fn begin_pod(&mut self) {
        self.current.clear();
    }

    /// Writes what is missing of a run that the pod holds a part of, and of the way to it. A frame of pieces is open.
    pub(in crate::index) fn add(&mut self, chains: &Chains, run: RunId, frames: &mut FrameWriter) {
        let mut next = Some(run);
        while let Some(run) = next.filter(|run| self.current.insert(run.0)) {
            let parent = chains.look_at(run, |run| run.parent).flatten();
            self.way.push((run, parent));
            next = parent.map(|parent| parent.run);
        }
        while let Some((run, parent)) = self.way.pop() {
            self.add_one(chains, run, parent, frames);
        }
    }

    fn add_one(&mut self, chains: &Chains, run: RunId, parent: Option<Place>, frames: &mut FrameWriter) {
        let parent = parent.and_then(|parent| self.place(parent.run, parent.offset));
        let Self { written, count, .. } = self;
        chains.look_at(run, |data| {
            let known = written.get(&run.0).filter(|known| {
                let head = data.keys().get(..known.length);
                known.parent == parent && head.is_some_and(|head| digest(head) == known.digest)
            });
            let (before, start) = match known {
                None => (parent, 0),
                Some(known) => {
                    let last = known.length - 1;
                    let (piece, start) = known.piece_at(last);
                    (Some((piece, last - start)), known.length)
                }
            };
            let keys = &data.keys()[start..];
            if keys.is_empty() {
                return;
            }
            frames.number(before.map_or(0, |(piece, _)| u64::from(piece) + 1));
            if let Some((_, offset)) = before {
                frames.number(offset as u64);
            }
            frames.number(keys.len() as u64);
            frames.number(data.announced().saturating_sub(start) as u64);
            frames.number(data.named().saturating_sub(start) as u64);
            frames.hashes(keys.iter().copied());
            frames.next_record();
            let (length, digest) = (data.keys().len(), digest(data.keys()));
            if start == 0 {
                let first = Written { parent, first: *count, more: Vec::new(), length, digest };
                written.insert(run.0, first);
            } else if let Some(known) = written.get_mut(&run.0) {
                known.more.push((start, *count));
                (known.length, known.digest) = (length, digest);
            }
            *count += 1;
        });
    }

    fn place(&self, run: RunId, offset: usize) -> Option<PiecePlace> {
        let (piece, start) = self.written.get(&run.0).map(|known| known.piece_at(offset))?;
        Some((piece, offset - start))
    }

    /// Adds part of a run, as parts of pieces, to what a lane holds.
    pub(in crate::index) fn split(
        &self,
        run: RunId,
        part: Range<usize>,
        mut add: impl FnMut(u32, Range<usize>),
    ) {
        let Some(known) = self.written.get(&run.0) else { return };
        let mut at = part.start;
        while at < part.end {
            let (piece, start) = known.piece_at(at);
            let next = known.more.iter().map(|&(start, _)| start).find(|&next| next > at);
            let end = part.end.min(next.unwrap_or(usize::MAX));
            add(piece, at - start..end - start);
            at = end;
        }
    }
}

fn digest(keys: &[u64]) -> u64 {
    xxh3_64(bytemuck::cast_slice(keys))
}

/// What a lane holds, gathered run by run and written in order of pieces.
#[derive(Debug, Default)]
pub(in crate::index) struct Held {
    /// Part of a piece, and where its blocks begin.
    parts: Vec<(u32, Range<usize>, usize)>,
    /// Of each block its key and its packed place.
    blocks: Vec<(u64, u64)>,
}

impl Held {
    /// Takes in what a lane holds of a run; its blocks one by one, too, `with_blocks`.
    pub(in crate::index) fn add(
        &mut self,
        chains: &Chains,
        pieces: &Pieces,
        lane: u32,
        run: RunId,
        with_blocks: bool,
    ) {
        chains.look_at(run, |data| {
            let Some(coverage) = data.coverage_of(lane) else { return };
            coverage.ranges(usize::MAX, |range| {
                let mut from = range.start;
                pieces.split(run, range, |piece, part| {
                    let length = part.len();
                    self.parts.push((piece, part, self.blocks.len()));
                    if with_blocks {
                        let keys = data.keys()[from..from + length].iter().zip(from..);
                        self.blocks.extend(keys.map(|(&key, offset)| (key, Place { run, offset }.packed())));
                    }
                    from += length;
                });
            });
        });
    }

    /// Writes it as one lane's, and adds its blocks to `blocks` in the order written.
    ///
    /// Of each piece: how far it is from the last one (the first from -1), less one; the number of parts held; and of
    /// each how many blocks lie before it since the last part, and its length.
    pub(in crate::index) fn write(
        &mut self,
        group: u32,
        tier: Tier,
        frames: &mut FrameWriter,
        blocks: &mut Vec<(u64, u64)>,
    ) {
        let open = |frames: &mut FrameWriter| {
            frames.open(Kind::Lane);
            frames.number(u64::from(group));
            frames.byte(tier as u8);
        };
        self.parts.sort_unstable_by_key(|(piece, part, _)| (*piece, part.start));
        open(frames);
        let mut next_piece = 0;
        for parts in self.parts.chunk_by(|a, b| a.0 == b.0) {
            if frames.is_full() {
                open(frames);
            }
            frames.number(u64::from(parts[0].0 - next_piece));
            next_piece = parts[0].0 + 1;
            frames.number(parts.len() as u64);
            let mut end = 0;
            for (_, part, from) in parts {
                frames.number((part.start - end) as u64);
                frames.number(part.len() as u64);
                end = part.end;
                blocks.extend_from_slice(self.blocks.get(*from..from + part.len()).unwrap_or_default());
            }
        }
        frames.close();
        self.parts.clear();
        self.blocks.clear();
    }
}
