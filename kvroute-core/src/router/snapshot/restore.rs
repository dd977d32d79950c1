//! From a snapshot's bytes to what a router knows.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use serde::Serialize;

use super::pods::StagedSpec;
use crate::Error;
use crate::frame::{Frame, FrameReader, Kind, Reader};
use crate::index::snapshot::Staged;
use crate::index::{PodId, PodOptions, RestoredBlocks};
use crate::pod::RoutedPod;
use crate::router::Router;
use crate::session::Home;

/// Takes a snapshot in, in chunks of any size, and then gives it to a router.
///
/// Nothing is given before all of it was read and checked, so an error leaves the router as it was. Until then
/// what was read is kept in memory, in one to two times its size.
#[derive(Debug, Default)]
pub struct Restore {
    frames: FrameReader,
    staged: StagedRouter,
    /// What was wrong; nothing can be read after it.
    failed: Option<Error>,
}

/// What was read.
#[derive(Debug, Default)]
struct StagedRouter {
    pods: Vec<StagedSpec>,
    known: BTreeSet<(String, u32)>,
    index: Staged,
    sessions: Vec<StagedSession>,
}

/// A conversation; pods by number, time in nanoseconds.
#[derive(Debug)]
struct StagedSession {
    key: u128,
    decode: u32,
    prefill: Option<u32>,
    left: u64,
}

/// What became of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Its pods, in its order.
    pub pods: Vec<RestoredPod>,
    /// Sessions the router has from it.
    pub sessions: usize,
    /// Sessions left out: their pod is not here, the router knows a later home, or has no room.
    pub sessions_left_out: usize,
}

/// What became of a pod of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RestoredPod {
    /// Its name.
    pub name: String,
    /// Its data-parallel rank.
    pub dp_rank: u32,
    /// The pod in this router; `None` if there is none.
    #[serde(serialize_with = "as_number")]
    pub id: Option<PodId>,
    /// The snapshot brought it: it was not here before.
    pub added: bool,
    /// What it has again; or why it has nothing, so that nothing wrong is known of it. Serialized as `blocks` and
    /// `refusal`, of which one is null.
    #[serde(flatten, serialize_with = "as_fields")]
    pub blocks: Result<RestoredBlocks, Refusal>,
}

/// Why a pod was given nothing of what a snapshot knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Refusal {
    /// The router knows no cache domain of that name ([`Router::add_domain`]); the pod was not added.
    UnknownDomain,
    /// The pod is here, in another cache domain.
    OtherDomain,
    /// The cache domain of that name hashes differently here, or its blocks have another size.
    OtherHashes,
    /// The pod is here with options by which its stream reads differently: groups, adapters, copies or rank.
    OtherOptions,
    /// Events came to the pod here before: what they said is later.
    InUse,
}

impl Restore {
    /// Takes in what comes next.
    ///
    /// # Errors
    ///
    /// `Decode` if it is no snapshot, one of another version, or damaged: with the offset. Every later call answers
    /// the same.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Self { frames, staged, failed } = self;
        frames.push(chunk, |frame| staged.take(frame)).inspect_err(|error| {
            *failed = Some(error.clone());
            // Of no use any more.
            *staged = StagedRouter::default();
        })
    }

    /// Gives what was read to a router: to pods of the same names and ranks, which are added where they are not
    /// here. A router that knows nothing yet goes on as the one before would; one in use keeps what it has and
    /// gets what it has not. So restore first and apply events then: a pod that had one is left as it is, and one
    /// that has its part again takes the next batch of its stream, or notices what it missed. `now` is the time that [`Router::dispatch`] takes; it need not count from the
    /// same moment as when the snapshot was made.
    ///
    /// Pods that are here keep their ids, options, role, labels and capacity, and a pod that takes no requests, here or there,
    /// takes none.
    ///
    /// # Errors
    ///
    /// `Decode` if the snapshot is not whole; what [`push`](Self::push) answered, if that was an error. Then
    /// nothing was changed.
    pub fn finish(self, router: &Router, now: Duration) -> Result<RestoreReport, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.frames.finish()?;
        let StagedRouter { pods, index, sessions, .. } = self.staged;
        let targets: Vec<_> = pods.iter().map(|pod| Target::of(pod, router)).collect();
        let ids: Vec<_> = targets.iter().map(|target| target.pod.as_ref().ok().map(|pod| pod.id())).collect();
        let blocks = router.index.restore(index, &ids);
        let mut report = RestoreReport::default();
        // Pods that wait for a cold request keep their order, before all that get one from now on.
        let last_turn = pods.iter().map(|pod| pod.cold_turn).max().unwrap_or(0);
        router.cold_turns.fetch_max(last_turn, Ordering::Relaxed);
        for ((staged, target), blocks) in pods.into_iter().zip(targets).zip(blocks) {
            report.pods.push(target.settle(staged, blocks));
        }
        report.restore_sessions(router, &sessions, now);
        Ok(report)
    }
}

/// The pod that a pod's part is for.
struct Target {
    pod: Result<Arc<RoutedPod>, Refusal>,
    id: Option<PodId>,
    added: bool,
}

impl Target {
    fn of(staged: &StagedSpec, router: &Router) -> Self {
        if let Some(pod) = router.pod(&staged.name, staged.dp_rank) {
            let id = Some(pod.id());
            let options = pod.spec().options;
            let refusal = if pod.domain().name() != staged.domain {
                Some(Refusal::OtherDomain)
            } else if pod.domain().hasher().fingerprint() != staged.fingerprint {
                Some(Refusal::OtherHashes)
            } else {
                reads_differently(&options, &staged.options).then_some(Refusal::OtherOptions)
            };
            return Self { pod: refusal.map_or(Ok(pod), Err), id, added: false };
        }
        let refused = |refusal| Self { pod: Err(refusal), id: None, added: false };
        let Some(domain) = router.domain(&staged.domain) else { return refused(Refusal::UnknownDomain) };
        if domain.hasher().fingerprint() != staged.fingerprint {
            return refused(Refusal::OtherHashes);
        }
        // Somebody else may add it at this moment.
        let added = router.add_pod(staged.spec(domain)).and_then(|id| router.pod_by_id(id));
        match added {
            Ok(pod) => Self { id: Some(pod.id()), pod: Ok(pod), added: true },
            Err(_) => refused(Refusal::InUse),
        }
    }

    fn settle(self, staged: StagedSpec, blocks: Option<RestoredBlocks>) -> RestoredPod {
        let blocks = self.pod.and_then(|pod| {
            if !staged.accepting {
                pod.set_accepting(false);
            }
            if blocks.is_some() {
                pod.set_cold_turn(staged.cold_turn);
                pod.resume_audit(staged.audit, staged.overestimated_in_a_row);
            }
            blocks.ok_or(Refusal::InUse)
        });
        RestoredPod { name: staged.name, dp_rank: staged.dp_rank, id: self.id, added: self.added, blocks }
    }
}

/// Whether one pod's stream would say something else with the other's options.
fn reads_differently(one: &PodOptions, other: &PodOptions) -> bool {
    let rules = |options: &PodOptions| (options.dp_rank, options.copies);
    rules(one) != rules(other) || one.groups != other.groups || one.adapters != other.adapters
}

impl RestoreReport {
    fn restore_sessions(&mut self, router: &Router, sessions: &[StagedSession], now: Duration) {
        let pod = |number: u32| self.pods.get(number as usize).and_then(|pod| pod.id);
        // The latest first: each goes behind those that are here.
        let restored = sessions.iter().rev().filter(|session| {
            let Some(decode) = pod(session.decode) else { return false };
            let home = Home { decode, prefill: session.prefill.and_then(pod) };
            router.sessions.recall(session.key, home, Duration::from_nanos(session.left), now)
        });
        self.sessions = restored.count();
        self.sessions_left_out = sessions.len() - self.sessions;
    }
}

impl StagedRouter {
    fn take(&mut self, frame: Frame<'_>) -> Result<(), Error> {
        let Frame { kind, mut payload } = frame;
        match kind {
            Kind::Pod => self.take_pod(&mut payload),
            Kind::Sessions => {
                while !payload.is_empty() {
                    self.take_session(&mut payload)?;
                }
                Ok(())
            }
            Kind::End => self.take_end(&mut payload),
            _ => self.index.take(Frame { kind, payload }),
        }
    }

    fn take_pod(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let pod = StagedSpec::read(reader)?;
        if !self.known.insert((pod.name.clone(), pod.dp_rank)) {
            return Err(reader.fail(format_args!("pod \"{}\", rank {}, came before", pod.name, pod.dp_rank)));
        }
        self.index.begin_pod(reader)?;
        self.pods.push(pod);
        Ok(())
    }

    fn take_session(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let key = reader.wide_hash()?;
        let pods = self.pods.len() as u64;
        let (decode, prefill) = (reader.number()?, reader.at_most(pods, "is a pod")?);
        if decode >= pods {
            return Err(reader.fail(format_args!("pod {decode} did not come")));
        }
        let prefill = prefill.checked_sub(1).map(|number| number as u32);
        let before = self.sessions.last().map_or(0, |session| session.left);
        let Some(left) = before.checked_add(reader.number()?) else {
            return Err(reader.fail("a time of more than 64 bits"));
        };
        self.sessions.push(StagedSession { key, decode: decode as u32, prefill, left });
        Ok(())
    }

    fn take_end(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.index.end_pod(reader)?;
        let said = (reader.number()?, reader.number()?);
        if said == (self.pods.len() as u64, self.index.pieces() as u64) && reader.is_empty() {
            return Ok(());
        }
        Err(reader
            .fail(format_args!("{} pods and {} pieces were announced, and others came", said.0, said.1)))
    }
}

fn as_number<S: serde::Serializer>(id: &Option<PodId>, to: S) -> Result<S::Ok, S::Error> {
    id.map(PodId::as_u64).serialize(to)
}

fn as_fields<S: serde::Serializer>(of: &Result<RestoredBlocks, Refusal>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Fields {
        blocks: Option<RestoredBlocks>,
        refusal: Option<Refusal>,
    }
    Fields { blocks: of.ok(), refusal: of.err() }.serialize(to)
}
