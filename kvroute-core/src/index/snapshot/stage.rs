//! What was read of a snapshot, checked and kept until all of it is there.

use alloc::vec::Vec;
use core::ops::Range;

use super::{MAX_LANES, MAX_PIECE, MAX_PODS, group_kind};
use crate::event::GroupKind;
use crate::frame::{Frame, Kind, Reader};
use crate::hash::ExtraKey;
use crate::index::fleet::MAX_GROUPS;
use crate::index::outcome::Counters;
use crate::sequence::SequenceTracker;
use crate::{Error, Tier};

/// The index's records of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pieces: StagedPieces,
    pods: Vec<StagedPod>,
    lanes: usize,
}

/// A piece of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The block it continues: piece and offset.
    pub(super) parent: Option<(u32, u16)>,
    pub(super) length: u16,
    /// How many of its blocks events announced, and how many of those are found by their keys.
    pub(super) announced: u16,
    pub(super) named: u16,
    /// Where its keys begin among all.
    pub(super) start: usize,
}

/// All pieces, those that others continue before those.
#[derive(Debug, Default)]
pub(in crate::index) struct StagedPieces {
    pub(super) pieces: Vec<Piece>,
    keys: Vec<u64>,
}

impl StagedPieces {
    pub(super) fn keys(&self, piece: Piece) -> &[u64] {
        &self.keys[piece.start..piece.start + usize::from(piece.length)]
    }

    pub(in crate::index) fn key(&self, piece: u32, offset: usize) -> u64 {
        self.keys[self.pieces[piece as usize].start + offset]
    }
}

/// Part of a piece that a lane holds.
#[derive(Clone, Copy, Debug)]
pub(in crate::index) struct Part {
    pub(in crate::index) piece: u32,
    start: u16,
    end: u16,
}

impl Part {
    pub(in crate::index) fn offsets(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

#[derive(Debug)]
pub(in crate::index) struct StagedLane {
    pub(in crate::index) group: u32,
    pub(in crate::index) tier: Tier,
    /// No piece before one of a smaller number.
    pub(in crate::index) parts: Vec<Part>,
}

/// Where a pod's stream stands.
#[derive(Debug)]
pub(in crate::index) struct StreamState {
    pub(in crate::index) tracker: SequenceTracker,
    pub(in crate::index) last_event: Option<u64>,
    pub(in crate::index) dp_rank: Option<u32>,
    pub(in crate::index) offloads: bool,
    pub(in crate::index) degraded: bool,
    pub(in crate::index) awaiting: bool,
    pub(in crate::index) groups: Vec<(u32, GroupKind)>,
    pub(in crate::index) counters: Counters,
}

/// A block that waits for its parent; its lane by position.
#[derive(Debug)]
pub(in crate::index) struct StagedBlock {
    pub(in crate::index) parent: u64,
    pub(in crate::index) hash: u64,
    pub(in crate::index) lane: usize,
    pub(in crate::index) copies: u32,
    /// Whether its own children, and removals, find it here.
    pub(in crate::index) is_found: bool,
    pub(in crate::index) token_ids: Vec<u32>,
    pub(in crate::index) extra_keys: Vec<ExtraKey>,
}

/// A pod's part.
#[derive(Debug, Default)]
pub(in crate::index) struct StagedPod {
    /// `None` only until its record came, the first of the pod's.
    pub(in crate::index) stream: Option<StreamState>,
    pub(in crate::index) lanes: Vec<StagedLane>,
    /// Blocks held, in all lanes.
    held: u64,
    /// Numbers of blocks, in the order of `lanes`, with so many copies under one name each.
    pub(in crate::index) same_copies: Vec<(u32, u32)>,
    named: u64,
    /// Their names, but for those without copies.
    pub(in crate::index) names: Vec<u64>,
    /// Name, key, copies.
    pub(in crate::index) other_names: Vec<(u64, u64, u32)>,
    /// Names, oldest first, and the keys of those without copies.
    pub(in crate::index) retired: Vec<(u64, Option<u64>)>,
    /// Position of a lane, key, copies beyond the first.
    pub(in crate::index) copies: Vec<(usize, u64, u32)>,
    /// Keys, oldest first, with those before them.
    pub(in crate::index) lineage: Vec<(u64, Option<u64>)>,
    pub(in crate::index) parked: Vec<StagedBlock>,
    /// Blocks that were not predicted for want of room.
    pub(in crate::index) predictions_refused: u64,
    /// Uses of what is predicted, oldest first: pieces, up to which offset.
    pub(in crate::index) uses: Vec<(u32, u16)>,
}

impl Staged {
    /// Begins the next pod's part.
    ///
    /// # Errors
    ///
    /// `Decode` if the last one is not whole, or there are too many.
    pub(crate) fn begin_pod(&mut self, reader: &Reader<'_>) -> Result<(), Error> {
        self.end_pod(reader)?;
        if self.pods.len() == MAX_PODS {
            return Err(reader.fail(format_args!("more than {MAX_PODS} pods")));
        }
        self.pods.push(StagedPod::default());
        self.add_lane(reader)
    }

    /// Notes that no more of the last pod's part follows.
    ///
    /// # Errors
    ///
    /// `Decode` if it is not whole.
    pub(crate) fn end_pod(&self, reader: &Reader<'_>) -> Result<(), Error> {
        match self.pods.last() {
            Some(StagedPod { stream: None, .. }) => {
                Err(reader.fail("nothing was said of the last pod's stream"))
            }
            _ => Ok(()),
        }
    }

    /// Number of pieces.
    pub(crate) fn pieces(&self) -> usize {
        self.pieces.pieces.len()
    }

    pub(super) fn into_parts(self) -> (StagedPieces, Vec<StagedPod>) {
        (self.pieces, self.pods)
    }

    /// Takes in a frame.
    ///
    /// # Errors
    ///
    /// `Decode` with the offset of what is wrong.
    pub(crate) fn take(&mut self, frame: Frame<'_>) -> Result<(), Error> {
        let Frame { kind, mut payload } = frame;
        let reader = &mut payload;
        if self.pods.is_empty() {
            return Err(reader.fail("a frame of a pod before the first pod"));
        }
        if kind == Kind::Lane {
            return self.take_lane(reader);
        }
        if kind == Kind::Pieces {
            while !reader.is_empty() {
                self.take_piece(reader)?;
            }
            return Ok(());
        }
        let Some(pod) = self.pods.last_mut() else { return Ok(()) };
        if kind == Kind::Stream {
            let stream = StreamState::read(reader)?;
            if pod.stream.replace(stream).is_some() || !reader.is_empty() {
                return Err(reader.fail("a second record of one stream"));
            }
            return Ok(());
        }
        while !reader.is_empty() {
            match kind {
                Kind::Names => pod.take_names(reader)?,
                Kind::OtherNames => pod.other_names.push((reader.hash()?, reader.hash()?, copies(reader)?)),
                Kind::Retired => pod.retired.push((reader.hash()?, hash_or_none(reader)?)),
                Kind::Copies => pod.copies.push((pod.lane(reader)?, reader.hash()?, copies(reader)?)),
                Kind::Lineage => pod.lineage.push((reader.hash()?, hash_or_none(reader)?)),
                Kind::Parked => pod.take_parked(reader)?,
                Kind::Predicted => pod.take_use(&self.pieces, reader)?,
                _ => return Err(reader.fail("a frame of this kind is not a pod's")),
            }
        }
        Ok(())
    }

    fn take_piece(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let StagedPieces { pieces, keys } = &mut self.pieces;
        let parent = match reader.at_most(pieces.len() as u64, "is a piece")?.checked_sub(1) {
            None => None,
            Some(parent) => {
                let offset = reader.at_most(u64::from(pieces[parent].length) - 1, "is an offset")?;
                Some((parent as u32, offset as u16))
            }
        };
        let length = reader.at_most(MAX_PIECE as u64, "blocks in a piece")?;
        let announced = reader.at_most(length as u64, "announced blocks in a piece")?;
        let named = reader.at_most(announced as u64, "named blocks in a piece")?;
        if length == 0 || pieces.len() == u32::MAX as usize {
            return Err(reader.fail("a piece without blocks, or one too many"));
        }
        let (start, length) = (keys.len(), length as u16);
        let (announced, named) = (announced as u16, named as u16);
        keys.extend(reader.hashes(usize::from(length))?);
        pieces.push(Piece { parent, length, announced, named, start });
        Ok(())
    }

    fn take_lane(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let group = reader.number_u32()?;
        let tier = reader.byte()?;
        let Some(&tier) = Tier::ALL.get(usize::from(tier)) else {
            return Err(reader.fail(format_args!("no tier is {tier}")));
        };
        let Some(pod) = self.pods.last_mut() else { return Ok(()) };
        if pod.lanes.last().is_none_or(|last| (last.group, last.tier) != (group, tier)) {
            let is_known = pod.lanes.iter().any(|lane| (lane.group, lane.tier) == (group, tier));
            if is_known || pod.lanes.len() == MAX_GROUPS * Tier::ALL.len() || pod.named > 0 {
                return Err(reader.fail("a lane too many, or one that came before"));
            }
            pod.lanes.push(StagedLane { group, tier, parts: Vec::new() });
            self.add_lane(reader)?;
        }
        let Some(pod) = self.pods.last_mut() else { return Ok(()) };
        let Some(lane) = pod.lanes.last_mut() else { return Ok(()) };
        while !reader.is_empty() {
            let next = lane.parts.last().map_or(0, |part| u64::from(part.piece) + 1);
            let piece = next.saturating_add(reader.number()?);
            let Some(length) = self.pieces.length(piece) else {
                return Err(reader.fail(format_args!("a part of piece {piece}, which did not come")));
            };
            let mut end: u64 = 0;
            let count = reader.number()?;
            if count == 0 {
                return Err(reader.fail("no part of a piece"));
            }
            for _ in 0..count {
                let start = end.saturating_add(reader.number()?);
                let blocks = reader.number()?;
                end = start.saturating_add(blocks);
                if blocks == 0 || end > u64::from(length) {
                    return Err(reader.fail(format_args!("no part {start}..{end} of a piece of {length}")));
                }
                lane.parts.push(Part { piece: piece as u32, start: start as u16, end: end as u16 });
                pod.held += blocks;
            }
        }
        Ok(())
    }

    fn add_lane(&mut self, reader: &Reader<'_>) -> Result<(), Error> {
        self.lanes += 1;
        if self.lanes > MAX_LANES {
            return Err(reader.fail(format_args!("more than {MAX_LANES} lanes")));
        }
        Ok(())
    }
}

impl StagedPieces {
    fn length(&self, piece: u64) -> Option<u16> {
        self.pieces.get(usize::try_from(piece).ok()?).map(|piece| piece.length)
    }
}

impl StagedPod {
    fn take_names(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let (count, copies) = (reader.number_u32()?, reader.at_most(u64::from(MAX_COPIES), "copies")? as u32);
        self.named += u64::from(count);
        if self.named > self.held {
            return Err(reader.fail("names for more blocks than are held"));
        }
        if copies > 0 {
            self.names.extend(reader.hashes(count as usize)?);
        }
        self.same_copies.push((count, copies));
        Ok(())
    }

    fn take_parked(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let (parent, hash) = (reader.hash()?, reader.hash()?);
        let lane = self.lane(reader)?;
        let (copies, is_found) = (copies(reader)?, reader.bool()?);
        let (mut token_ids, mut extra_keys) = (Vec::new(), Vec::new());
        for _ in 0..reader.number()? {
            token_ids.push(reader.number_u32()?);
        }
        for _ in 0..reader.number()? {
            extra_keys.push(match reader.byte()? {
                0 => ExtraKey::Text(reader.text()?),
                1 => ExtraKey::Multimodal { identifier: reader.text()?, offset: reader.hash()? as i64 },
                2 => ExtraKey::Bytes(reader.bytes_with_length()?.to_vec()),
                other => return Err(reader.fail(format_args!("no extra key is of kind {other}"))),
            });
        }
        self.parked.push(StagedBlock { parent, hash, lane, copies, is_found, token_ids, extra_keys });
        Ok(())
    }

    /// A use; or, where no piece is named, how much was refused.
    fn take_use(&mut self, pieces: &StagedPieces, reader: &mut Reader<'_>) -> Result<(), Error> {
        let Some(piece) = reader.number()?.checked_sub(1) else {
            self.predictions_refused = reader.count()?;
            return Ok(());
        };
        let Some(length) = pieces.length(piece) else {
            return Err(reader.fail(format_args!("a use of piece {piece}, which did not come")));
        };
        let end = reader.at_most(u64::from(length), "is an offset")?;
        if end == 0 {
            return Err(reader.fail("a use of no block"));
        }
        self.uses.push((piece as u32, end as u16));
        Ok(())
    }

    /// A lane by its position.
    fn lane(&self, reader: &mut Reader<'_>) -> Result<usize, Error> {
        match reader.number()? {
            at if at < self.lanes.len() as u64 => Ok(at as usize),
            at => Err(reader.fail(format_args!("lane {at} did not come"))),
        }
    }
}

impl StreamState {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let next = reader.number()?;
        let digests = reader.at_most(SequenceTracker::REMEMBERED as u64, "digests")?;
        let Some(tracker) = SequenceTracker::resumed(next, reader.hashes(digests)?) else {
            return Err(reader.fail("digests of more batches than there were"));
        };
        let last_event = reader.option()?;
        let dp_rank = match reader.option()?.map(u32::try_from) {
            None => None,
            Some(Ok(rank)) => Some(rank),
            Some(Err(_)) => return Err(reader.fail("a rank of more than 32 bits")),
        };
        let (offloads, degraded, awaiting) = (reader.bool()?, reader.bool()?, reader.bool()?);
        let mut groups = Vec::new();
        for _ in 0..reader.number()? {
            groups.push((reader.number_u32()?, group_kind::read(reader)?));
        }
        let counters = Counters::load(reader)?;
        Ok(Self { tracker, last_event, dp_rank, offloads, degraded, awaiting, groups, counters })
    }
}

/// Most copies of a block: few enough that adding up does not overflow.
const MAX_COPIES: u32 = 1 << 30;

fn copies(reader: &mut Reader<'_>) -> Result<u32, Error> {
    match reader.number_u32()? {
        copies @ 1..=MAX_COPIES => Ok(copies),
        copies => Err(reader.fail(format_args!("{copies} copies"))),
    }
}

fn hash_or_none(reader: &mut Reader<'_>) -> Result<Option<u64>, Error> {
    if reader.bool()? { reader.hash().map(Some) } else { Ok(None) }
}
