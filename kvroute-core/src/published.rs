//! A value that changes rarely and is read on every request.
//!
//! Readers keep what they saw last and look whether it is still current: one load of a counter that nobody
//! writes meanwhile, so that readers on many cores do not disturb each other. Writers replace the value
//! as a whole.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// The value, with the number of times it was replaced.
#[derive(Debug, Default)]
pub(crate) struct Published<T> {
    replaced: AtomicU64,
    current: RwLock<Arc<T>>,
    /// Tells what was seen of one owner from another's.
    owner: Arc<()>,
}

/// What a reader saw last.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    owner: Arc<()>,
    replaced: u64,
    value: Arc<T>,
}

impl<T> Seen<T> {
    /// What was seen.
    pub(crate) fn value(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { replaced: AtomicU64::new(0), current: RwLock::new(Arc::new(value)), owner: Arc::default() }
    }

    /// The current value, for those who need it now and then.
    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    /// Looks something up in the current value.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.current.read())
    }

    /// The current value, kept in `seen` for the next time.
    pub(crate) fn refresh<'a>(&self, seen: &'a mut Option<Seen<T>>) -> &'a Arc<T> {
        if seen.as_ref().is_some_and(|seen| !self.is_current(seen)) {
            *seen = None;
        }
        &seen
            .get_or_insert_with(|| {
                let current = self.current.read();
                let replaced = self.replaced.load(Ordering::Acquire);
                Seen { owner: Arc::clone(&self.owner), replaced, value: Arc::clone(&current) }
            })
            .value
    }

    /// Whether `seen` was refreshed here.
    pub(crate) fn is_owner_of(&self, seen: &Seen<T>) -> bool {
        Arc::ptr_eq(&seen.owner, &self.owner)
    }

    /// Whether nothing was replaced since `seen` was refreshed.
    pub(crate) fn is_current(&self, seen: &Seen<T>) -> bool {
        self.is_owner_of(seen) && seen.replaced == self.replaced.load(Ordering::Acquire)
    }

    /// Replaces the value; readers that hold the old one keep it.
    pub(crate) fn replace(&self, value: T) {
        let mut current = self.current.write();
        *current = Arc::new(value);
        self.replaced.fetch_add(1, Ordering::Release);
    }

    /// Changes the value; readers that hold the old one keep it.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R
    where
        T: Clone,
    {
        let mut current = self.current.write();
        let result = change(Arc::make_mut(&mut current));
        self.replaced.fetch_add(1, Ordering::Release);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_each_replacement_and_keeps_what_it_holds() {
        let value = Published::<u32>::default();
        let mut seen = None;
        let old = Arc::clone(value.refresh(&mut seen));
        value.update(|value| *value = 7);
        assert!(!seen.as_ref().is_some_and(|seen| value.is_current(seen)));
        assert_eq!((*old, **value.refresh(&mut seen)), (0, 7));
    }

    #[test]
    fn what_was_seen_of_one_owner_is_not_taken_for_another_owners() {
        let (one, other) = (Published::<u32>::default(), Published::<u32>::default());
        one.update(|value| *value = 1);
        other.update(|value| *value = 2);
        let mut seen = None;
        assert_eq!(**one.refresh(&mut seen), 1);
        assert_eq!(**other.refresh(&mut seen), 2);
    }
}
