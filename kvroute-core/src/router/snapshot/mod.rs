//! What a router knows, as bytes, and back: a router that is started from a snapshot goes on as if the one before
//! had never stopped.
//!
//! [`Router::snapshot`] gives out chunks, [`Restore`] takes them in; who stores them, and how, is the embedder's.
//! Neither needs the router to stand still.
//!
//! # What is in it
//!
//! The pods (name, rank, name of their cache domain, role, labels, capacity,
//! options, whether they accept); of each the
//! blocks it holds by group and tier, copies, the engine's names for them, blocks that wait for their parent,
//! what was learnt of its groups and rank, where its stream stands, with the digests that tell a restarted engine,
//! trust, counters, audit and turn for cold requests; what is predicted for it, in order of use; sessions with the time they have left. (What
//! is predicted of prompts that are only known as text is of use where text blocks have the same size.)
//!
//! # What is not
//!
//! - Policy, options of the router, cache domains and secrets: they are configuration.
//! - Requests in flight and their bookings: whoever dispatched them is gone, too, and nobody would finish them. Their
//!   tickets name nothing, and nothing is speculated for them.
//! - Load reports and requests that failed in a row: they are of their moment.
//! - Counters of the router itself ([`RouterCounters`](super::RouterCounters)).
//!
//! # Trust
//!
//! Checksums keep out damage. They are no signature: who can write a snapshot can make a router believe it, pods and
//! their options included, so keep it where the configuration is kept. Whatever is in it, restoring does not panic and
//! takes time and memory in proportion to its size, and what is restored stays within the router's bounds.

mod pods;
mod restore;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;

pub use self::restore::{Refusal, Restore, RestoreReport, RestoredPod};
use super::Router;
use super::roster::Roster;
use crate::frame::{FrameWriter, Kind};
use crate::index::PodId;
use crate::index::snapshot::{IndexWriter, MAX_PODS};
use crate::pod::RoutedPod;
use crate::published::Seen;
use crate::{Error, ErrorKind};

impl Router {
    /// Begins a snapshot of what this router knows; [`Snapshot::next_chunk`] gives it out. `now` is the time that
    /// [`dispatch`](Self::dispatch) takes.
    #[must_use]
    pub fn snapshot(&self, now: Duration) -> Snapshot {
        let mut seen = None;
        let mut pods: Vec<_> = self.roster.refresh(&mut seen).pods.clone();
        pods.reverse();
        Snapshot {
            seen,
            now,
            pods,
            numbers: HashMap::new(),
            index: IndexWriter::default(),
            frames: FrameWriter::new(),
            given: 0,
            is_ended: false,
        }
    }
}

/// A snapshot in the making: ask for one chunk after the other and put them one behind the other.
///
/// It is written pod by pod, and holds one pod's part in memory at a time. Each part is what the router knew of that
/// pod at one moment, and the pods' moments differ, as long as the caller takes. Only that pod's events wait meanwhile,
/// for some nanoseconds a block. A pod that comes later is not in it; one that goes before its turn is left out.
///
/// ```
/// use std::time::Duration;
/// use kvroute_core::{Restore, Router};
///
/// let (router, now) = (Router::default(), Duration::from_secs(7));
/// let (mut snapshot, mut file) = (router.snapshot(now), Vec::new());
/// while let Some(chunk) = snapshot.next_chunk(&router)? {
///     file.extend_from_slice(chunk);
/// }
///
/// // Another process, with another clock.
/// let (router, now) = (Router::default(), Duration::from_secs(1));
/// let mut restore = Restore::default();
/// for chunk in file.chunks(4096) {
///     restore.push(chunk)?;
/// }
/// let report = restore.finish(&router, now)?;
/// assert_eq!((report.pods.len(), report.sessions), (0, 0));
/// # Ok::<(), kvroute_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Snapshot {
    /// Tells its router.
    seen: Option<Seen<Roster>>,
    now: Duration,
    /// Pods to come, the next one last.
    pods: Vec<Arc<RoutedPod>>,
    /// Their numbers in the snapshot.
    numbers: HashMap<PodId, u32>,
    index: IndexWriter,
    frames: FrameWriter,
    /// Bytes of `frames` that were given out.
    given: usize,
    is_ended: bool,
}

impl Snapshot {
    /// Bytes of a chunk; the last of a pod's part may be shorter.
    pub const CHUNK: usize = 64 << 10;

    /// The next bytes; `None` when there are no more. `router` is the one it was begun on, which may be used
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is another, or was reset since; `Limit` if it has more than 16 384 pods, or those more than
    /// 65 536 lanes (one for each group, each tier, and what is predicted). What was given out so far is of no use then, and
    /// asking on fails again.
    pub fn next_chunk(&mut self, router: &Router) -> Result<Option<&[u8]>, Error> {
        if !self.seen.as_ref().is_some_and(|seen| router.roster.is_owner_of(seen)) {
            return Err(Error::invalid(
                "a snapshot goes on with the router it was begun on, as long as that is not reset",
            ));
        }
        while self.given == self.frames.bytes().len() {
            if self.is_ended {
                return Ok(None);
            }
            self.frames.clear();
            self.given = 0;
            self.write(router)?;
        }
        let start = self.given;
        self.given = self.frames.bytes().len().min(start + Self::CHUNK);
        Ok(Some(&self.frames.bytes()[start..self.given]))
    }

    /// Writes the next part.
    fn write(&mut self, router: &Router) -> Result<(), Error> {
        let Some(pod) = self.pods.pop() else {
            self.write_sessions(router);
            self.write_end();
            return Ok(());
        };
        if self.numbers.len() == MAX_PODS {
            let message = alloc::format!("more than {MAX_PODS} pods do not fit in a snapshot");
            self.pods.push(pod);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.frames.open(Kind::Pod);
        pods::write(&pod, &mut self.frames);
        match self.index.write(&router.index, pod.id(), &mut self.frames) {
            Ok(()) => {
                self.numbers.insert(pod.id(), self.numbers.len() as u32);
                Ok(())
            }
            Err(error) => {
                self.frames.take_back();
                if error.kind() == ErrorKind::UnknownPod {
                    return Ok(());
                }
                // Whoever asks on gets the same answer.
                self.pods.push(pod);
                Err(error)
            }
        }
    }

    /// Conversations, used longest ago first: key, pod that answered, pod that prefilled (0: none; counted from 1), and
    /// how much more time it has left than the one before, nanoseconds.
    fn write_sessions(&mut self, router: &Router) {
        let mut before = 0;
        self.frames.open(Kind::Sessions);
        for (key, home, left) in router.sessions.remembered(self.now) {
            let Some(&decode) = self.numbers.get(&home.decode) else { continue };
            let prefill = home.prefill.and_then(|id| self.numbers.get(&id));
            let left = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
            self.frames.wide_hash(key);
            self.frames.number(u64::from(decode));
            self.frames.number(prefill.map_or(0, |&number| u64::from(number) + 1));
            self.frames.number(left - before);
            self.frames.next_record();
            before = left;
        }
    }

    fn write_end(&mut self) {
        self.frames.open(Kind::End);
        self.frames.number(self.numbers.len() as u64);
        self.frames.number(u64::from(self.index.pieces()));
        self.frames.close();
        self.is_ended = true;
        // What it took to write.
        self.index = IndexWriter::default();
    }
}
