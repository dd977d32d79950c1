//! Requests in flight: what was booked for each, until it is finished, or forgotten for its age.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use parking_lot::Mutex;
use slotmap::{DefaultKey, Key, KeyData, SlotMap};

use crate::index::{Prediction, Speculation};
use crate::peer::{Booked, Entry, Journal, Share, Stated};
use crate::pod::RoutedPod;
use crate::request::Finish;

/// Names a dispatched request to the router that dispatched it. Numbers are used again by other routers, and by
/// the same after a restart: give a ticket to no other router than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket of a request that is not tracked: nothing was booked, and whatever is done with it does
    /// nothing.
    pub const UNTRACKED: Self = Self(0);

    /// As one number, for foreign interfaces.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// From [`as_u64`](Self::as_u64). Any other number names no request.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }
}

/// A pod's part in a request.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) pod: Arc<RoutedPod>,
    /// Tokens it has to compute.
    pub(crate) prefill_tokens: u64,
    pub(crate) prediction: Prediction,
    /// Until the first token.
    pub(crate) speculation: Option<Speculation>,
}

impl Leg {
    pub(crate) fn share(&self) -> Share {
        Share { pod: self.pod.identity, prefill_tokens: self.prefill_tokens }
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) decode: Leg,
    /// Until the first token.
    pub(crate) prefill: Option<Leg>,
    /// When it was dispatched.
    pub(crate) since: Duration,
    /// The first token came.
    pub(crate) started: bool,
    /// Cached tokens that the engine's own count can be compared with.
    pub(crate) expected: Option<usize>,
    /// What its session is kept under.
    pub(crate) session: Option<u128>,
}

/// Locks a table is spread over, from so many entries on; their number is in the upper bits of a slot.
const SHARDS: usize = 16;
const SHARDED_FROM: usize = 1024;
const SHARD_SHIFT: u32 = 28;

#[derive(Debug, Default)]
struct Shard {
    requests: SlotMap<DefaultKey, InFlight>,
    /// All of them in order of their coming, with some that are finished.
    order: VecDeque<(Duration, DefaultKey)>,
    /// What peers are to be told of these requests. It is written under the lock that is held anyway, so that it has what
    /// happened to a request in its order.
    journal: Journal,
}

impl Shard {
    fn insert(&mut self, request: InFlight) -> DefaultKey {
        let since = request.since;
        let key = self.requests.insert(request);
        // Rarely enough that it costs each request little.
        if self.order.len() > 2 * self.requests.len() + 16 {
            let requests = &self.requests;
            self.order.retain(|&(_, key)| requests.contains_key(key));
        }
        self.order.push_back((since, key));
        key
    }

    /// The oldest request, if it came at `latest` or before.
    fn take_older(&mut self, latest: Duration) -> Option<(DefaultKey, InFlight)> {
        while let Some(&(since, key)) = self.order.front() {
            if since > latest && self.requests.contains_key(key) {
                return None;
            }
            self.order.pop_front();
            if let Some(request) = self.requests.remove(key) {
                return Some((key, request));
            }
        }
        None
    }
}

/// All requests in flight.
#[derive(Debug)]
pub(crate) struct TicketTable {
    shards: Box<[Mutex<Shard>]>,
    /// Shard of the next request.
    next: AtomicUsize,
    most_per_shard: usize,
    ttl: Duration,
}

impl TicketTable {
    /// At most `most` requests (rounded down to a multiple of 16 from 1024 on), each for `ttl` at most.
    pub(crate) fn new(most: usize, ttl: Duration) -> Self {
        let shards = if most < SHARDED_FROM { 1 } else { SHARDS };
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            most_per_shard: (most / shards).min((1 << SHARD_SHIFT) - 2),
            ttl,
        }
    }

    /// Takes a request in; gives it back if there is no room even after forgetting the old ones, which are
    /// handed to `forget`.
    #[expect(clippy::result_large_err, reason = "it is given back whole")]
    pub(crate) fn insert(
        &self,
        mut request: InFlight,
        mut news: Option<Booked>,
        now: Duration,
        mut forget: impl FnMut(InFlight),
    ) -> Result<Ticket, InFlight> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        for expired in [false, true] {
            if expired {
                self.expire(now, &mut forget);
            }
            for shard in (first..self.shards.len()).chain(0..first) {
                match self.insert_into(shard, request, &mut news) {
                    Ok(ticket) => return Ok(ticket),
                    Err(refused) => request = refused,
                }
            }
        }
        Err(request)
    }

    #[expect(clippy::result_large_err, reason = "it is given back whole")]
    fn insert_into(
        &self,
        number: usize,
        request: InFlight,
        news: &mut Option<Booked>,
    ) -> Result<Ticket, InFlight> {
        let mut shard = self.shards[number].lock();
        if shard.requests.len() >= self.most_per_shard {
            return Err(request);
        }
        let ticket = ticket(shard.insert(request), number);
        if let Some(booked) = news.take() {
            shard.journal.note(Entry::Booked(ticket.0, booked));
        }
        Ok(ticket)
    }

    /// Notes that a request's first token came, and looks at the request if that was news.
    pub(crate) fn start<R>(&self, ticket: Ticket, act: impl FnOnce(&mut InFlight) -> R) -> Option<R> {
        let (shard, key) = self.locate(ticket)?;
        let mut shard = shard.lock();
        let Shard { requests, journal, .. } = &mut *shard;
        let request = requests.get_mut(key).filter(|request| !request.started)?;
        request.started = true;
        journal.note(Entry::Started(ticket.0));
        Some(act(request))
    }

    /// Takes a request out that ended.
    pub(crate) fn remove(&self, ticket: Ticket, how: Finish) -> Option<InFlight> {
        let (shard, key) = self.locate(ticket)?;
        let mut shard = shard.lock();
        let request = shard.requests.remove(key)?;
        shard.journal.note(Entry::Finished(ticket.0, how));
        Some(request)
    }

    /// Takes out what is too old, one by one, and hands it to `forget` without a lock. Costs what is taken out.
    pub(crate) fn expire(&self, now: Duration, mut forget: impl FnMut(InFlight)) {
        let Some(latest) = now.checked_sub(self.ttl) else { return };
        for (number, shard) in self.shards.iter().enumerate() {
            let take = || {
                let mut shard = shard.lock();
                let (key, request) = shard.take_older(latest)?;
                shard.journal.note(Entry::Finished(ticket(key, number).0, Finish::Cancelled));
                Some(request)
            };
            while let Some(request) = take() {
                forget(request);
            }
        }
    }

    /// Forgets all requests; their tickets name nothing any more.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.requests.clear();
            shard.order.clear();
            shard.journal.forget();
        }
    }

    /// Notes what peers are to be told, within so many bytes; with 0 no more.
    pub(crate) fn keep_journal(&self, bytes: usize) {
        self.shards.iter().for_each(|shard| shard.lock().journal.set_limit(bytes / self.shards.len()));
    }

    /// Something happened that [`tell`](Self::tell) does not know; a statement puts that right.
    pub(crate) fn misses_something(&self) -> bool {
        self.shards.iter().any(|shard| shard.lock().journal.is_incomplete())
    }

    /// Gives out what happened since the last time, and, if that is `stated`, all that is in flight after it.
    pub(crate) fn tell(&self, stated: bool) -> (Vec<Entry>, Option<Vec<Stated>>) {
        let (mut entries, mut statement) = (Vec::new(), stated.then(Vec::new));
        for (number, shard) in self.shards.iter().enumerate() {
            let mut shard = shard.lock();
            // Of one moment, so that what is told next goes on from what is stated now.
            shard.journal.take(&mut entries, stated);
            if let Some(statement) = &mut statement {
                statement.extend(shard.requests.iter().map(|(key, request)| Stated {
                    request: ticket(key, number).0,
                    decode: request.decode.share(),
                    prefill: request.prefill.as_ref().map(Leg::share),
                }));
            }
        }
        (entries, statement)
    }

    /// Number of requests in flight.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().requests.len()).sum()
    }

    /// `None` for a number that is no ticket's.
    fn locate(&self, ticket: Ticket) -> Option<(&Mutex<Shard>, DefaultKey)> {
        let shard = self.shards.get((ticket.0 >> SHARD_SHIFT) as usize % SHARDS)?;
        let number = ticket.0 & !((SHARDS as u64 - 1) << SHARD_SHIFT);
        let key = KeyData::from_ffi(number);
        (key.as_ffi() == number).then(|| (shard, key.into()))
    }
}

fn ticket(key: DefaultKey, shard: usize) -> Ticket {
    Ticket(key.data().as_ffi() | (shard as u64) << SHARD_SHIFT)
}
