//! The ids of segments encoded before, as many as fit into a number of bytes.

use std::fmt;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::CacheCounters;

/// What an entry takes beside its text and ids.
const ENTRY_BYTES: usize = 128;

pub(super) struct Cache {
    max_bytes: usize,
    segments: Mutex<Segments>,
}

struct Segments {
    /// By hash of text and place.
    entries: LruCache<u64, Entry>,
    counters: CacheCounters,
}

struct Entry {
    text: Box<str>,
    ids: Arc<[u32]>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.text.len() + self.ids.len() * size_of::<u32>() + ENTRY_BYTES
    }
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        let segments = Segments { entries: LruCache::unbounded(), counters: CacheCounters::default() };
        Self { max_bytes, segments: Mutex::new(segments) }
    }

    /// Names a segment. Two texts of one name displace each other and are never taken for each other, because
    /// [`Self::append`] compares them; of one text, `behind_sentinel` tells the two kinds apart.
    pub(super) fn key(text: &str, behind_sentinel: bool) -> u64 {
        xxh3_64_with_seed(text.as_bytes(), u64::from(behind_sentinel))
    }

    /// Appends a segment's ids, if they are known.
    pub(super) fn append(&self, key: u64, text: &str, ids: &mut Vec<u32>) -> bool {
        let mut segments = self.segments.lock();
        let found = match segments.entries.get(&key).filter(|entry| *entry.text == *text) {
            Some(entry) => {
                ids.extend_from_slice(&entry.ids);
                true
            }
            None => false,
        };
        let counted =
            if found { &mut segments.counters.hit_bytes } else { &mut segments.counters.miss_bytes };
        *counted += text.len() as u64;
        found
    }

    /// Keeps a segment's ids; the least recently used make room.
    pub(super) fn insert(&self, key: u64, text: &str, ids: Arc<[u32]>) {
        let entry = Entry { text: text.into(), ids };
        let bytes = entry.bytes();
        if bytes > self.max_bytes {
            return;
        }
        // What is displaced is dropped behind the lock.
        let mut displaced = Vec::new();
        let mut segments = self.segments.lock();
        let segments = &mut *segments;
        segments.counters.bytes += bytes as u64;
        if let Some(old) = segments.entries.put(key, entry) {
            segments.counters.bytes -= old.bytes() as u64;
            displaced.push(old);
        }
        while segments.counters.bytes > self.max_bytes as u64 {
            let Some((_, old)) = segments.entries.pop_lru() else { break };
            segments.counters.bytes -= old.bytes() as u64;
            segments.counters.evictions += 1;
            displaced.push(old);
        }
    }

    pub(super) fn counters(&self) -> CacheCounters {
        let segments = self.segments.lock();
        CacheCounters { segments: segments.entries.len() as u64, ..segments.counters }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("max_bytes", &self.max_bytes)
            .field("counters", &self.counters())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(cache: &Cache, text: &str, behind_sentinel: bool) -> Option<Vec<u32>> {
        let mut ids = Vec::new();
        cache.append(Cache::key(text, behind_sentinel), text, &mut ids).then_some(ids)
    }

    #[test]
    fn what_is_kept_fits_into_its_bytes_and_the_least_recently_used_goes_first() {
        let cache = Cache::new(3 * (ENTRY_BYTES + 5));
        for text in ["a", "b", "c"] {
            cache.insert(Cache::key(text, false), text, [1].into());
        }
        assert_eq!(ids(&cache, "a", false), Some(vec![1]));
        cache.insert(Cache::key("d", false), "d", [4].into());
        assert_eq!(ids(&cache, "b", false), None);
        assert_eq!(ids(&cache, "a", false), Some(vec![1]));
        let counters = cache.counters();
        assert_eq!((counters.segments, counters.evictions), (3, 1));
        assert_eq!(counters.bytes, 3 * (ENTRY_BYTES as u64 + 5));
        assert_eq!((counters.hit_bytes, counters.miss_bytes), (2, 1));
    }

    #[test]
    fn texts_of_one_key_are_not_taken_for_each_other() {
        let cache = Cache::new(1 << 20);
        cache.insert(7, "one", [1].into());
        assert!(!cache.append(7, "two", &mut Vec::new()));
        cache.insert(7, "two", [2].into());
        assert_eq!(cache.counters().segments, 1);
        assert_eq!(cache.counters().bytes, ENTRY_BYTES as u64 + 7);
        assert_ne!(Cache::key("one", false), Cache::key("one", true));
    }

    #[test]
    fn what_would_not_fit_at_all_is_not_kept() {
        let cache = Cache::new(ENTRY_BYTES);
        cache.insert(Cache::key("long", false), "long", [1].into());
        assert_eq!(cache.counters().segments, 0);
    }
}
