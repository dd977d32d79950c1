//! What an index knows, as records of a snapshot, and back.
//!
//! Chains are shared, so they are written once: as *pieces*, each a run or what a run grew by since it was last
//! written, after the block it continues. Pieces are numbered through the whole snapshot. A pod's part comes after the
//! pieces that it is the first to need: in each lane, which offsets of which pieces it holds; in translated domains
//! the engine's names in the same order; then what else its view keeps, and what is predicted.
//!
//! # Consistency
//!
//! Pods are written one after the other, each under the lock of its view, so each part is what the pod had at one
//! moment, and the pods' moments differ. What a pod holds keeps its chain in place meanwhile. Between two
//! pods anything may change: the next pod that holds a run compares it with what was written of it.
//!
//! # Trust
//!
//! Reading believes nothing: [`Staged`] checks every number, and nothing is applied before all of it was read.
//! Memory and time are linear in the bytes read, and the index's and the pods' bounds hold.

mod pieces;
mod place;
mod stage;

use alloc::vec::Vec;

use serde::Serialize;

pub(super) use self::pieces::{Held, Pieces};
pub(super) use self::place::Placed;
pub(crate) use self::stage::Staged;
pub(super) use self::stage::{StagedBlock, StagedPod};
use super::{BlockIndex, PodId};
use crate::frame::FrameWriter;
#[cfg(any(test, feature = "oracle"))]
use crate::frame::{FrameReader, Kind};
use crate::{Error, ErrorKind};

/// Most pods in a snapshot.
pub(crate) const MAX_PODS: usize = 1 << 14;
/// Most lanes of all pods in a snapshot.
const MAX_LANES: usize = 1 << 16;
/// Longest piece, blocks: a run's.
const MAX_PIECE: usize = 1 << super::run::OFFSET_BITS;

/// What became of a pod's part of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestoredBlocks {
    /// Blocks it holds, once for each lane that does.
    pub held: u64,
    /// Blocks predicted for it.
    pub predicted: usize,
    /// Blocks, waiting ones included, that there was no room for.
    pub refused: u64,
}

/// Writes pods' parts of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct IndexWriter {
    pieces: Pieces,
    lanes: usize,
}

impl IndexWriter {
    /// Writes what is known of a pod.
    ///
    /// # Errors
    ///
    /// `UnknownPod`; `Limit` if the pods have too many lanes. Then nothing was written.
    pub(crate) fn write(
        &mut self,
        index: &BlockIndex,
        id: PodId,
        frames: &mut FrameWriter,
    ) -> Result<(), Error> {
        let named = index.with_view(id, |view| {
            self.lanes += view.lane_count() + 1;
            if self.lanes > MAX_LANES {
                let message = alloc::format!("pods of more than {MAX_LANES} lanes do not fit in a snapshot");
                return Err(Error::new(ErrorKind::Limit, message));
            }
            Ok(view.save(index, &mut self.pieces, frames))
        })??;
        // What takes longest needs no lock.
        named.write(frames);
        frames.close();
        Ok(())
    }

    /// Pieces written so far.
    pub(crate) fn pieces(&self) -> u32 {
        self.pieces.count()
    }
}

impl BlockIndex {
    /// Gives pods their parts of a snapshot: `pods[i]` that of the `i`th pod in it, where there is one. A pod that
    /// events came to since it was added keeps what it has; its answer is `None`.
    pub(crate) fn restore(&self, staged: Staged, pods: &[Option<PodId>]) -> Vec<Option<RestoredBlocks>> {
        let _one_at_a_time = self.restoring.lock();
        let (pieces, parts) = staged.into_parts();
        let is_wanted = |at: usize| pods.get(at).copied().flatten().is_some();
        let wanted = parts.iter().enumerate().filter(|(at, _)| is_wanted(*at)).map(|(_, part)| part);
        let (placed, scaffold) = Placed::new(&self.chains, pieces, wanted);
        let restored = parts
            .into_iter()
            .enumerate()
            .map(|(at, part)| {
                let id = pods.get(at).copied().flatten()?;
                self.with_view(id, |view| view.load(self, part, &placed)).ok().flatten()
            })
            .collect();
        self.chains.take_down(scaffold);
        restored
    }
}

#[cfg(any(test, feature = "oracle"))]
impl BlockIndex {
    /// Snapshots these pods and gives what was read back to `pods` of the index `to`.
    pub(crate) fn carry_over(
        &self,
        ids: &[PodId],
        to: &Self,
        pods: &[PodId],
    ) -> Result<Vec<Option<RestoredBlocks>>, Error> {
        let (mut frames, mut writer) = (FrameWriter::new(), IndexWriter::default());
        for &id in ids {
            frames.open(Kind::Pod);
            frames.byte(0);
            writer.write(self, id, &mut frames)?;
        }
        frames.open(Kind::End);
        frames.byte(0);
        frames.close();
        let (mut reader, mut staged) = (FrameReader::default(), Staged::default());
        reader.push(frames.bytes(), |frame| match frame.kind {
            Kind::Pod => staged.begin_pod(&frame.payload),
            Kind::End => staged.end_pod(&frame.payload),
            _ => staged.take(frame),
        })?;
        reader.finish()?;
        let pods: Vec<_> = pods.iter().copied().map(Some).collect();
        Ok(to.restore(staged, &pods))
    }
}

/// A group's kind, as numbers.
pub(crate) mod group_kind {
    use crate::Error;
    use crate::event::GroupKind;
    use crate::frame::{FrameWriter, Reader};

    pub(crate) fn write(kind: GroupKind, frames: &mut FrameWriter) {
        match kind {
            GroupKind::FullAttention => frames.byte(0),
            GroupKind::SlidingWindow { window } => {
                frames.byte(1);
                frames.number(u64::from(window));
            }
            GroupKind::Unknown => frames.byte(2),
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<GroupKind, Error> {
        match reader.byte()? {
            0 => Ok(GroupKind::FullAttention),
            1 => Ok(GroupKind::SlidingWindow { window: reader.number_u32()? }),
            2 => Ok(GroupKind::Unknown),
            other => Err(reader.fail(format_args!("no kind of group is {other}"))),
        }
    }
}
