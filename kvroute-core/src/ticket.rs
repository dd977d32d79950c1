//! Requests in flight: what was booked for each, until it is finished, or forgotten for its age.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use parking_lot::Mutex;
use slotmap::{DefaultKey, Key, KeyData, SlotMap};

use crate::index::Prediction;
use crate::pod::RoutedPod;

/// Names a dispatched request to the router that dispatched it.
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

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The engine answered it.
    Completed,
    /// The engine did not: what was predicted to be cached by it is taken back.
    Failed,
    /// The client went away. What was predicted stays if a first token had come.
    Cancelled,
}

/// A pod's part in a request.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) pod: Arc<RoutedPod>,
    /// Tokens it has to compute.
    pub(crate) prefill_tokens: u64,
    pub(crate) prediction: Prediction,
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
}

/// Locks the table is spread over; their number is in the upper bits of a slot.
const SHARDS: usize = 16;
const SHARD_SHIFT: u32 = 28;

/// All requests in flight.
#[derive(Debug)]
pub(crate) struct TicketTable {
    shards: Box<[Mutex<SlotMap<DefaultKey, InFlight>>]>,
    /// Shard of the next request.
    next: AtomicUsize,
    most_per_shard: usize,
    ttl: Duration,
}

impl TicketTable {
    /// At most `most` requests (16 at least), each for `ttl` at most.
    pub(crate) fn new(most: usize, ttl: Duration) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            most_per_shard: (most / SHARDS).clamp(1, (1 << SHARD_SHIFT) - 2),
            ttl,
        }
    }

    /// Takes a request in; gives it back if there is no room even after forgetting the old ones, which are
    /// handed to `forget`.
    pub(crate) fn insert(
        &self,
        mut request: InFlight,
        now: Duration,
        mut forget: impl FnMut(InFlight),
    ) -> Result<Ticket, InFlight> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for shard in (first..first + SHARDS).map(|n| n % SHARDS) {
            match self.insert_into(shard, request) {
                Ok(ticket) => return Ok(ticket),
                Err(refused) => request = refused,
            }
        }
        self.expire(now, &mut forget);
        self.insert_into(first % SHARDS, request)
    }

    fn insert_into(&self, shard: usize, request: InFlight) -> Result<Ticket, InFlight> {
        let mut requests = self.shards[shard].lock();
        if requests.len() >= self.most_per_shard {
            return Err(request);
        }
        let key = requests.insert(request).data().as_ffi();
        Ok(Ticket(key | (shard as u64) << SHARD_SHIFT))
    }

    /// Looks at a request in flight.
    pub(crate) fn with<R>(&self, ticket: Ticket, act: impl FnOnce(&mut InFlight) -> R) -> Option<R> {
        let (shard, key) = Self::locate(ticket)?;
        self.shards[shard].lock().get_mut(key).map(act)
    }

    /// Takes a request out.
    pub(crate) fn remove(&self, ticket: Ticket) -> Option<InFlight> {
        let (shard, key) = Self::locate(ticket)?;
        self.shards[shard].lock().remove(key)
    }

    /// Takes out what is too old and hands it to `forget`, without a lock.
    pub(crate) fn expire(&self, now: Duration, mut forget: impl FnMut(InFlight)) {
        for shard in &self.shards {
            let mut requests = shard.lock();
            let is_old = |request: &InFlight| now.saturating_sub(request.since) >= self.ttl;
            let old: Vec<_> = requests.iter().filter(|(_, r)| is_old(r)).map(|(key, _)| key).collect();
            let old: Vec<_> = old.into_iter().filter_map(|key| requests.remove(key)).collect();
            drop(requests);
            old.into_iter().for_each(&mut forget);
        }
    }

    /// Number of requests in flight.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// `None` for a number that is no ticket's.
    fn locate(ticket: Ticket) -> Option<(usize, DefaultKey)> {
        let shard = (ticket.0 >> SHARD_SHIFT) as usize % SHARDS;
        let number = ticket.0 & !((SHARDS as u64 - 1) << SHARD_SHIFT);
        let key = KeyData::from_ffi(number);
        (key.as_ffi() == number).then(|| (shard, key.into()))
    }
}
