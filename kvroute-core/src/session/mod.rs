//! Which pod a conversation is at home on: remembered by its id, or carried by the client in a token.

mod token;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

pub use token::SessionKey;
pub(crate) use token::{Sealed, Sealer};

use crate::index::PodId;

/// The pods that served a conversation last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) decode: PodId,
    pub(crate) prefill: Option<PodId>,
}

/// Locks a table is spread over, from so many entries on.
const SHARDS: usize = 64;
const SHARDED_FROM: usize = 4096;

/// Conversations by id, each forgotten when it was not used for a time, or when there are too many.
///
/// Ids are kept as 128-bit hashes (XXH3): however long they are, an entry costs the same. Crafting two ids
/// of one hash would send one conversation to the other's pod, nothing more.
#[derive(Debug)]
pub(crate) struct SessionTable {
    shards: Box<[Mutex<LruCache<u128, Entry>>]>,
    ttl: Duration,
}

#[derive(Debug)]
struct Entry {
    home: Home,
    expires: Duration,
}

impl SessionTable {
    /// At most `capacity` conversations, each for `ttl` after its last use. Large tables are made of small ones,
    /// each of which forgets the conversation used longest ago when it is full.
    pub(crate) fn new(capacity: usize, ttl: Duration) -> Self {
        let shards = if capacity < SHARDED_FROM { capacity.min(1) } else { SHARDS };
        let each = capacity.checked_div(shards).and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN);
        // Grows as it fills: `new` would allocate all of it at once.
        let shard = || {
            let mut shard = LruCache::unbounded();
            shard.resize(each);
            Mutex::new(shard)
        };
        Self { shards: (0..shards).map(|_| shard()).collect(), ttl }
    }

    /// What a conversation is kept under.
    pub(crate) fn key(id: &str) -> u128 {
        xxh3_128(id.as_bytes())
    }

    /// Where the conversation is at home.
    pub(crate) fn home(&self, key: u128, now: Duration) -> Option<Home> {
        let shard = self.shard(key)?.lock();
        shard.peek(&key).filter(|entry| now < entry.expires).map(|entry| entry.home)
    }

    /// Notes where it is from now on.
    pub(crate) fn bind(&self, key: u128, home: Home, now: Duration) {
        let expires = now.saturating_add(self.ttl);
        if let Some(shard) = self.shard(key) {
            shard.lock().put(key, Entry { home, expires });
        }
    }

    /// Notes where it is since `then`, unless somebody used it later.
    pub(crate) fn bind_if_later(&self, key: u128, home: Home, then: Duration) {
        let expires = then.saturating_add(self.ttl);
        if let Some(mut shard) = self.shard(key).map(Mutex::lock)
            && shard.peek(&key).is_none_or(|entry| entry.expires < expires)
        {
            shard.put(key, Entry { home, expires });
        }
    }

    /// Forgets the conversation if it is at home on this pod.
    pub(crate) fn unbind(&self, key: u128, decode: PodId) {
        if let Some(mut shard) = self.shard(key).map(Mutex::lock)
            && shard.peek(&key).is_some_and(|entry| entry.home.decode == decode)
        {
            shard.pop(&key);
        }
    }

    /// Forgets what was not used for its time; answers how many those were.
    pub(crate) fn expire(&self, now: Duration) -> usize {
        let mut expired = 0;
        for shard in &self.shards {
            let mut shard = shard.lock();
            // Used longest ago and expiring first are the same as long as time goes forward.
            while shard.peek_lru().is_some_and(|(_, entry)| entry.expires <= now) {
                shard.pop_lru();
                expired += 1;
            }
        }
        expired
    }

    /// All conversations whose time is not over, those used longest ago first, each with the time it has left.
    pub(crate) fn remembered(&self, now: Duration) -> Vec<(u128, Home, Duration)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let entries = shard.iter().rev().map(|(&key, entry)| (key, entry.home, entry.expires));
            all.extend(entries.filter(|&(_, _, expires)| now < expires));
        }
        // As long as time goes forward, the order of use. Within a shard it is that where times are equal, too.
        all.sort_by_key(|&(_, _, expires)| expires);
        all.iter_mut().for_each(|(_, _, expires)| *expires = expires.saturating_sub(now));
        all
    }

    /// Takes in a conversation that was used before all that are here, with the time it has left; false if it is
    /// here already, or there is no room.
    pub(crate) fn recall(&self, key: u128, home: Home, left: Duration, now: Duration) -> bool {
        let Some(mut shard) = self.shard(key).map(Mutex::lock) else { return false };
        if shard.len() == shard.cap().get() || shard.contains(&key) {
            return false;
        }
        let expires = now.saturating_add(left.min(self.ttl));
        shard.put(key, Entry { home, expires });
        shard.demote(&key)
    }

    /// Number of conversations remembered.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: u128) -> Option<&Mutex<LruCache<u128, Entry>>> {
        let at = ((key >> 64) as usize).checked_rem(self.shards.len())?;
        self.shards.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn home(slot: u32) -> Home {
        Home { decode: PodId::new(slot, 0), prefill: None }
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_conversation_is_forgotten_when_its_time_is_over_and_each_use_renews_it() {
        let table = SessionTable::new(1000, seconds(300));
        table.bind(SessionTable::key("a"), home(1), seconds(0));
        assert_eq!(table.home(SessionTable::key("a"), seconds(299)), Some(home(1)));
        assert_eq!(table.home(SessionTable::key("a"), seconds(300)), None);
        table.bind(SessionTable::key("a"), home(2), seconds(299));
        assert_eq!(table.home(SessionTable::key("a"), seconds(300)), Some(home(2)));
        assert_eq!(table.home(SessionTable::key("b"), seconds(300)), None);
        assert_eq!((table.expire(seconds(598)), table.len()), (0, 1));
        assert_eq!((table.expire(seconds(599)), table.len()), (1, 0));
    }

    #[test]
    fn too_many_conversations_push_out_the_one_used_longest_ago() {
        for (capacity, kept) in [(0, 0), (1, 1), (100, 100), (6400, 6400)] {
            let table = SessionTable::new(capacity, seconds(300));
            (0..20_000).for_each(|n| table.bind(SessionTable::key(&format!("s{n}")), home(1), seconds(0)));
            assert_eq!(table.len(), kept);
        }
        let table = SessionTable::new(64 * 3, seconds(300));
        for n in 0..10_000 {
            table.bind(SessionTable::key("kept"), home(7), seconds(0));
            table.bind(SessionTable::key(&format!("s{n}")), home(1), seconds(0));
        }
        assert_eq!(table.len(), 64 * 3);
        assert_eq!(table.home(SessionTable::key("kept"), seconds(1)), Some(home(7)));
    }
}
