//! One pod's stream: what is applied, held, asked for again, and given up. No sockets, and no clock of its own.
//!
//! A follower either applies what comes or waits for a replay; then what comes is held. The index judges every batch
//! (`kvroute_core::index::Outcome`); here is what is done about its answers:
//!
//! | what | while applying | within a replay |
//! | --- | --- | --- |
//! | gap | replay from the last applied batch | if it got any further: replay from there; else give up |
//! | restart, first batches missed | replay from 0 | replay from 0 |
//! | the end without any batch | | the engine restarted and has published less |
//! | no end | | if it got any further: replay from there; else do not ask again for a while, and give up unless its first batch showed that the engine is the same |
//!
//! To give up is to drop the pod's view and go on with the batch at hand. Replays break off in the middle where the
//! engine's `ROUTER` socket drops what its high water mark does not let through, the end marker included.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use kvroute_core::index::{IgnoreReason, Outcome, ResyncReason};
use kvroute_core::{PodId, Router};
use parking_lot::Mutex;

use super::message::Batch;
use super::options::Backoff;
use super::{StreamCounters, SubscriberOptions};

/// Replays in a row that got no further, after which a stream goes on without what is missing.
const MOST_ROUNDS: u32 = 3;

/// A replay that should be asked for now, from this number on.
pub(super) type Ask = Option<u64>;

#[derive(Debug)]
pub(super) struct Follower {
    router: Arc<Router>,
    pod: PodId,
    can_replay: bool,
    max_held: usize,
    max_held_bytes: usize,
    counters: Arc<Mutex<StreamCounters>>,
    replay: Option<Replay>,
    /// Replays asked for since the stream was last whole, or got any further.
    rounds: u32,
    /// After a failed replay: when one may be asked for again.
    pause: Backoff,
    paused_until: Option<Instant>,
    known: Known,
    held: VecDeque<Batch>,
    held_bytes: usize,
    /// Number of the last batch that found no room among those.
    overflow: Option<u64>,
}

/// What is known of the numbers on a connection. They ascend, so a published batch whose number was replayed before is
/// the same batch, unless numbers begin anew. The index itself remembers only the last few hundred batches, and takes
/// what is older for a restart.
#[derive(Debug, Default)]
struct Known {
    published: Option<u64>,
    replayed: Option<u64>,
}

impl Known {
    /// Takes in the number of a published batch; answers whether a replay brought it before.
    fn is_repeated(&mut self, sequence: u64) -> bool {
        if self.published.is_some_and(|last| sequence <= last) {
            self.replayed = None;
        }
        self.published = Some(sequence);
        self.replayed.is_some_and(|last| sequence <= last)
    }
}

/// The replay under way.
#[derive(Clone, Copy, Debug)]
struct Replay {
    from: u64,
    /// Whether any batch of it came.
    began: bool,
}

impl Follower {
    pub(super) fn new(
        router: Arc<Router>,
        pod: PodId,
        can_replay: bool,
        options: &SubscriberOptions,
        counters: Arc<Mutex<StreamCounters>>,
    ) -> Self {
        Self {
            router,
            pod,
            can_replay,
            max_held: options.max_held_batches,
            max_held_bytes: options.max_held_bytes,
            counters,
            replay: None,
            rounds: 0,
            pause: Backoff::new(options.replay_pause_first, options.replay_pause_longest),
            paused_until: None,
            known: Known::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            overflow: None,
        }
    }

    pub(super) fn pod(&self) -> PodId {
        self.pod
    }

    /// There is a connection. Before it (`again`: since the one that was lost) batches may have been missed, and the
    /// engine may be another one whose numbers happen to fit.
    pub(super) fn connected(&mut self, again: bool) -> Ask {
        if again {
            // What is held came from the connection before: it is replayed, or it is another engine's.
            self.known = Known::default();
            self.drop_held();
        }
        if self.can_replay {
            self.rounds = 0;
            return self.ask(self.router.index().replay_from(self.pod).ok()?);
        }
        if again {
            self.give_up(self.expected());
        }
        None
    }

    /// Everybody who wanted to connect has done so: is there anything that did not come?
    pub(super) fn settled(&mut self) -> Ask {
        if !self.can_replay || self.replay.is_some() || self.paused_until.is_some() {
            return None;
        }
        self.ask(self.router.index().replay_from(self.pod).ok()?)
    }

    /// A batch was published. `lag`: seconds since then, if it says when that was.
    pub(super) fn published(&mut self, batch: Batch, bytes: usize, lag: Option<f64>, now: Instant) -> Ask {
        {
            let mut counters = self.counters.lock();
            counters.batches += 1;
            counters.bytes += bytes as u64;
            counters.lag_seconds = lag.or(counters.lag_seconds);
            counters.longest_lag_seconds =
                lag.into_iter().chain(counters.longest_lag_seconds).reduce(f64::max);
        }
        if self.known.is_repeated(batch.sequence) {
            self.counters.lock().repeated += 1;
            return None;
        }
        if self.replay.is_none() {
            return self.apply(batch, now);
        }
        let bytes = self.held_bytes.saturating_add(batch.payload.len());
        if self.held.len() < self.max_held && bytes <= self.max_held_bytes {
            self.held.push_back(batch);
            self.set_held_bytes(bytes);
        } else {
            self.overflow = Some(batch.sequence);
            self.counters.lock().overflowed += 1;
        }
        None
    }

    /// The replay under way brought a batch.
    pub(super) fn replayed(&mut self, batch: Batch) -> Ask {
        let replay = self.replay.as_mut()?;
        if batch.sequence < replay.from {
            self.counters.lock().malformed_replies += 1;
            return None;
        }
        replay.began = true;
        self.counters.lock().replayed += 1;
        let from = replay.from;
        self.known.replayed = self.known.replayed.max(Some(batch.sequence));
        match self.feed(&batch)? {
            ResyncReason::Gap { replay_from } if replay_from > from => return self.ask(replay_from),
            ResyncReason::Restarted if self.rounds < MOST_ROUNDS => return self.ask(0),
            reason => self.go_on(&batch, reason),
        }
        None
    }

    /// The replay under way brought something else.
    pub(super) fn malformed_reply(&mut self) {
        self.counters.lock().malformed_replies += 1;
    }

    /// The replay under way has ended.
    pub(super) fn replay_ended(&mut self, now: Instant) -> Ask {
        let replay = self.replay.take()?;
        self.counters.lock().replaying = false;
        self.pause.succeeded();
        self.paused_until = None;
        if replay.from > 0 && !replay.began {
            // What was applied last is the newest that an engine's buffer has, if that engine still runs.
            let _ = self.router.index().note_restart(self.pod);
            self.known = Known::default();
            self.counters.lock().last_sequence = None;
        }
        if self.router.index().replay_from(self.pod).is_ok_and(|reached| reached > replay.from) {
            // What was published meanwhile may have gaps of its own.
            self.rounds = 0;
        }
        self.resume(now)
    }

    /// The replay under way was not answered in time, or could not be asked for.
    pub(super) fn replay_failed(&mut self, now: Instant) -> Ask {
        let replay = self.replay.take()?;
        let reached = self.router.index().replay_from(self.pod).ok()?;
        if reached > replay.from {
            self.counters.lock().replay_failures += 1;
            return self.ask(reached);
        }
        {
            let mut counters = self.counters.lock();
            counters.replaying = false;
            counters.replay_failures += 1;
        }
        self.paused_until = Some(now + self.pause.failed());
        if let Some(last) = self.overflow.take() {
            // Behind what is held is another gap.
            self.drop_held();
            self.give_up(last.saturating_add(1));
            return None;
        }
        if !replay.began {
            // It may be another engine.
            self.give_up(self.held.front().map_or_else(|| self.expected(), |first| first.sequence));
        }
        self.resume(now)
    }

    /// Applies what was held, as far as that goes.
    fn resume(&mut self, now: Instant) -> Ask {
        // Those that the replay brought, up to where numbers begin anew.
        let mut known = Known { published: None, replayed: self.known.replayed };
        while let Some(batch) = self.held.pop_front() {
            self.set_held_bytes(self.held_bytes - batch.payload.len());
            let is_repeated = known.is_repeated(batch.sequence);
            self.known.replayed = known.replayed;
            if is_repeated {
                self.counters.lock().repeated += 1;
                continue;
            }
            let ask = self.apply(batch, now);
            if ask.is_some() {
                return ask;
            }
        }
        self.held = VecDeque::new();
        if self.overflow.take().is_some() {
            // These rounds get forward: each has what was published up to its end.
            self.rounds = 0;
            return self.ask(self.router.index().replay_from(self.pod).ok()?);
        }
        self.rounds = 0;
        None
    }

    /// Applies a published batch; where others are missing before it, holds it and asks for them.
    fn apply(&mut self, batch: Batch, now: Instant) -> Ask {
        let reason = self.feed(&batch)?;
        self.counters.lock().gaps += u64::from(matches!(reason, ResyncReason::Gap { .. }));
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        if !self.can_replay || is_paused || self.rounds >= MOST_ROUNDS {
            self.go_on(&batch, reason);
            return None;
        }
        let bytes = self.held_bytes + batch.payload.len();
        self.held.push_front(batch);
        self.set_held_bytes(bytes);
        self.ask(match reason {
            ResyncReason::Gap { replay_from } => replay_from,
            _ => 0,
        })
    }

    /// Lets the index judge a batch; answers why it wants others first.
    fn feed(&self, batch: &Batch) -> Option<ResyncReason> {
        let report = self.router.apply(self.pod, batch.sequence, &batch.payload);
        let mut counters = self.counters.lock();
        match report.map(|report| report.outcome) {
            Err(_) => counters.refused += 1,
            Ok(Outcome::NeedsResync(ResyncReason::Undecodable)) => {
                counters.undecodable += 1;
                counters.last_sequence = Some(batch.sequence);
            }
            Ok(Outcome::NeedsResync(reason)) => return Some(reason),
            Ok(Outcome::Ignored(IgnoreReason::Duplicate | IgnoreReason::OtherRank)) => {}
            Ok(_) => counters.last_sequence = Some(batch.sequence),
        }
        None
    }

    /// Goes on with a batch without those that are missing before it.
    fn go_on(&mut self, batch: &Batch, reason: ResyncReason) {
        if matches!(reason, ResyncReason::Gap { .. }) {
            self.give_up(batch.sequence);
            self.feed(batch);
        } else {
            // It may be an old one that came late, so what it stored may be gone.
            self.give_up(batch.sequence.saturating_add(1));
        }
    }

    /// Drops the view and expects `sequence` next.
    fn give_up(&self, sequence: u64) {
        let missing = sequence.saturating_sub(self.expected());
        let mut counters = self.counters.lock();
        counters.views_dropped += 1;
        counters.lost = counters.lost.saturating_add(missing);
        counters.last_sequence = None;
        drop(counters);
        let _ = self.router.index().abandon_gap(self.pod, sequence);
    }

    fn expected(&self) -> u64 {
        let last = self.counters.lock().last_sequence;
        // A view that was restored has a place in its stream too.
        last.map_or_else(
            || self.router.index().replay_from(self.pod).unwrap_or(0),
            |last| last.saturating_add(1),
        )
    }

    fn ask(&mut self, from: u64) -> Ask {
        self.rounds += 1;
        if from == 0 {
            self.known.replayed = None;
        }
        self.replay = Some(Replay { from, began: false });
        let mut counters = self.counters.lock();
        counters.replays += 1;
        counters.replaying = true;
        Some(from)
    }

    fn drop_held(&mut self) {
        self.held.clear();
        self.overflow = None;
        self.set_held_bytes(0);
    }

    fn set_held_bytes(&mut self, bytes: usize) {
        self.held_bytes = bytes;
        let mut counters = self.counters.lock();
        (counters.held, counters.held_bytes) = (self.held.len(), bytes);
    }
}
