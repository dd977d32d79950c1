//! Requests in flight: what was booked for each, until it is finished, or forgotten for its age.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use slotmap::{DefaultKey, Key, KeyData, SlotMap};

use crate::index::{Prediction, Speculation};
use crate::pod::RoutedPod;

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

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
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
    /// Until the first token.
    pub(crate) speculation: Option<Speculation>,
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
    fn take_older(&mut self, latest: Duration) -> Option<InFlight> {
        while let Some(&(since, key)) = self.order.front() {
            if since > latest && self.requests.contains_key(key) {
                return None;
            }
            self.order.pop_front();
            if let Some(request) = self.requests.remove(key) {
                return Some(request);
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
        now: Duration,
        mut forget: impl FnMut(InFlight),
    ) -> Result<Ticket, InFlight> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        for expired in [false, true] {
            if expired {
                self.expire(now, &mut forget);
            }
            for shard in (first..self.shards.len()).chain(0..first) {
                match self.insert_into(shard, request) {
                    Ok(ticket) => return Ok(ticket),
                    Err(refused) => request = refused,
                }
            }
        }
        Err(request)
    }

    #[expect(clippy::result_large_err, reason = "it is given back whole")]
    fn insert_into(&self, number: usize, request: InFlight) -> Result<Ticket, InFlight> {
        let mut shard = self.shards[number].lock();
        if shard.requests.len() >= self.most_per_shard {
            return Err(request);
        }
        let key = shard.insert(request).data().as_ffi();
        Ok(Ticket(key | (number as u64) << SHARD_SHIFT))
    }

    /// Looks at a request in flight.
    pub(crate) fn with<R>(&self, ticket: Ticket, act: impl FnOnce(&mut InFlight) -> R) -> Option<R> {
        let (shard, key) = self.locate(ticket)?;
        shard.lock().requests.get_mut(key).map(act)
    }

    /// Takes a request out.
    pub(crate) fn remove(&self, ticket: Ticket) -> Option<InFlight> {
        let (shard, key) = self.locate(ticket)?;
        shard.lock().requests.remove(key)
    }

    /// Takes out what is too old, one by one, and hands it to `forget` without a lock. Costs what is taken out.
    pub(crate) fn expire(&self, now: Duration, mut forget: impl FnMut(InFlight)) {
        let Some(latest) = now.checked_sub(self.ttl) else { return };
        for shard in &self.shards {
            loop {
                let old = shard.lock().take_older(latest);
                match old {
                    Some(request) => forget(request),
                    None => break,
                }
            }
        }
    }

    /// Forgets all requests; their tickets name nothing any more.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.requests.clear();
            shard.order.clear();
        }
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
