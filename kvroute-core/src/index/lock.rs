//! A lock whose readers do not disturb each other.
//!
//! Whoever reads under an ordinary lock writes to it twice, and each of those writes has to fetch its line from the core
//! that wrote last: sixteen cores then read six times as much as one. Here a reader takes its *seat*, a line of its own,
//! and says there what it reads; only a writer looks at the seats of others. This is BRAVO (Dice and Kogan, "Biased
//! Locking for Reader-Writer Locks", USENIX ATC 2019), with seats that belong to the readers' scratch space.
//!
//! # Why it is sound
//!
//! The value is written only by who holds `inner` alone, and read by who shares `inner`, or sits and has found `open`
//! true since. To be shown: nobody of the latter is there while a writer writes.
//!
//! - A reader takes its seat, then looks at `open`; a writer makes `open` false, then looks at the seats. These four are
//!   sequentially consistent. So, in their one order, either the seat is taken before the writer looks, which then waits
//!   until it is left; or `open` is false before the reader looks, which then leaves and reads nothing.
//! - Which seats a writer looks at is told by `used`. A reader has seen it, or made it, greater than its seat's number
//!   before it took the seat; the writer looks later than that by the same order, and it never shrinks.
//! - `open` becomes true only under `inner`, shared, so not while a writer is there; and the next writer sees it, since
//!   it gets `inner` from who did that. What the last writer wrote is seen by who reads that store, for the same reason.
//! - What a sitting reader reads is read before a writer writes: leaving is a release, which the writer's look acquires.
//! - A seat is taken by compare-and-swap, so no two readers are in one; who cannot have it reads under `inner`.
//! - A lock's readers and writers look at the same seats, for they are the lock's. Its value's address is its name there:
//!   nothing else is at that address while a reader borrows it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::sync::{
    AtomicBool, AtomicU32, AtomicUsize, OPENED_BY, Ordering, RwLock, RwLockReadGuard, RwLockWriteGuard,
    SpinWait,
};

/// Seats of the readers of many locks.
#[derive(Debug)]
pub(super) struct Seats {
    seats: Box<[Seat]>,
    /// Greater than the number of any seat that was ever taken.
    used: AtomicUsize,
    /// How many readers were given a number.
    given: AtomicUsize,
}

/// Address of the value that somebody reads here, or 0. (Processors fetch lines in pairs.)
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seat(AtomicUsize);

/// Which seat is a reader's. Another may have it, too, and then they are in each other's way when they read at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeatNumber(usize);

impl Seats {
    /// `seats` is rounded up to a power of two.
    pub(super) fn new(seats: usize) -> Self {
        let seats = (0..seats.next_power_of_two()).map(|_| Seat::default()).collect();
        Self { seats, used: AtomicUsize::new(0), given: AtomicUsize::new(0) }
    }

    /// The next seat, for a reader that will keep it.
    pub(super) fn give(&self) -> SeatNumber {
        SeatNumber(self.given.fetch_add(1, Ordering::Relaxed))
    }

    fn sit(&self, number: SeatNumber, value: usize) -> Option<Sitting<'_>> {
        let number = number.0 & (self.seats.len() - 1);
        if self.used.load(Ordering::SeqCst) <= number {
            self.used.fetch_max(number + 1, Ordering::SeqCst);
        }
        let seat = &self.seats[number].0;
        seat.compare_exchange(0, value, Ordering::SeqCst, Ordering::Relaxed).ok()?;
        Some(Sitting(seat))
    }

    /// Returns when nobody who sat before reads this.
    fn wait_for(&self, value: usize) {
        for seat in &self.seats[..self.used.load(Ordering::SeqCst)] {
            let mut spin = SpinWait::new();
            while seat.0.load(Ordering::SeqCst) == value {
                spin.spin();
            }
        }
    }
}

/// A taken seat.
#[derive(Debug)]
struct Sitting<'a>(&'a AtomicUsize);

impl Drop for Sitting<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

#[derive(Debug)]
pub(super) struct ReaderLock<T> {
    inner: RwLock<()>,
    /// Whether reading takes a seat and no more.
    open: AtomicBool,
    /// Seated readers that found it closed since the last write.
    reads: AtomicU32,
    seats: Arc<Seats>,
    value: UnsafeCell<T>,
}

// SAFETY: as for any lock, one thread has `&mut T` or several have `&T` (see above).
unsafe impl<T: Send + Sync> Sync for ReaderLock<T> {}

impl<T> ReaderLock<T> {
    pub(super) fn new(value: T, seats: Arc<Seats>) -> Self {
        let (inner, open, reads) = (RwLock::default(), AtomicBool::new(false), AtomicU32::new(0));
        Self { inner, open, reads, seats, value: UnsafeCell::new(value) }
    }

    /// For who reads now and then, or several at once.
    pub(super) fn read(&self) -> ReadGuard<'_, T> {
        self.guard(Hold::Inner(self.inner.read()))
    }

    /// For who reads all the time, one lock at a time.
    pub(super) fn read_from(&self, seat: SeatNumber) -> ReadGuard<'_, T> {
        if self.open.load(Ordering::Relaxed)
            && let Some(sitting) = self.seats.sit(seat, self.value.get().addr())
            && self.open.load(Ordering::SeqCst)
        {
            return self.guard(Hold::Seat(sitting));
        }
        let inner = self.inner.read();
        let reads = self.reads.load(Ordering::Relaxed) + 1;
        self.reads.store(reads, Ordering::Relaxed);
        if reads >= OPENED_BY {
            self.open.store(true, Ordering::SeqCst);
        }
        self.guard(Hold::Inner(inner))
    }

    pub(super) fn write(&self) -> WriteGuard<'_, T> {
        let inner = self.inner.write();
        self.reads.store(0, Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) {
            self.open.store(false, Ordering::SeqCst);
            self.seats.wait_for(self.value.get().addr());
        }
        WriteGuard { value: self.address(), _inner: inner, lock: PhantomData }
    }

    fn guard<'a>(&'a self, hold: Hold<'a>) -> ReadGuard<'a, T> {
        ReadGuard { value: self.address(), _hold: hold, lock: PhantomData }
    }

    fn address(&self) -> NonNull<T> {
        // SAFETY: it points to a field.
        unsafe { NonNull::new_unchecked(self.value.get()) }
    }
}

/// Why a reader may read.
#[derive(Debug)]
#[expect(dead_code, reason = "they are held, and let go")]
enum Hold<'a> {
    Seat(Sitting<'a>),
    Inner(RwLockReadGuard<'a, ()>),
}

// A pointer, not a reference: that would be a promise for as long as the guard is anywhere, also while it is being dropped.
#[derive(Debug)]
pub(super) struct ReadGuard<'a, T> {
    value: NonNull<T>,
    _hold: Hold<'a>,
    lock: PhantomData<&'a T>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: nobody writes while `_hold` is there (see above), and the lock is borrowed.
        unsafe { self.value.as_ref() }
    }
}

#[derive(Debug)]
pub(super) struct WriteGuard<'a, T> {
    value: NonNull<T>,
    _inner: RwLockWriteGuard<'a, ()>,
    lock: PhantomData<&'a mut T>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: nobody else reads or writes while `_inner` is there and all seats were left (see above).
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this guard is borrowed exclusively.
        unsafe { self.value.as_mut() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::vec::Vec;

    use super::*;

    fn lock(seats: usize) -> ReaderLock<Vec<u64>> {
        ReaderLock::new(Vec::from([0, 0]), Arc::new(Seats::new(seats)))
    }

    /// Readers of all kinds, some of whom share a seat, beside writers: nobody sees half a change.
    fn readers_beside_writers(seats: usize, rounds: u64) {
        let lock = lock(seats);
        let (start, seated) = (Barrier::new(5), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    start.wait();
                    let seat = lock.seats.give();
                    let mut last = 0;
                    for _ in 0..rounds * 40 {
                        let value = lock.read_from(seat);
                        assert_eq!(value[0], value[1]);
                        assert!(value[0] >= last, "an older value than before");
                        last = value[0];
                        seated.fetch_add(u64::from(matches!(value._hold, Hold::Seat(_))), Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..rounds {
                        let mut value = lock.write();
                        // Moves it, so that who still reads what was there would be found out.
                        value.push(0);
                        value.shrink_to_fit();
                        value.pop();
                        value[0] += 1;
                        value[1] += 1;
                        drop(value);
                        for _ in 0..30 {
                            assert_eq!(lock.read().len(), 2);
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        assert_eq!(*lock.read(), [rounds * 2; 2]);
        assert!(seated.into_inner() > 0, "nobody sat");
    }

    #[test]
    fn readers_see_whole_changes_from_seats_of_their_own_and_shared_ones() {
        readers_beside_writers(64, 2000);
        readers_beside_writers(2, 2000);
    }

    #[test]
    fn miri_readers_see_whole_changes() {
        readers_beside_writers(3, 6);
    }

    #[test]
    fn a_lock_opens_once_it_is_read_often_and_closes_when_it_is_written() {
        let lock = lock(4);
        let seat = lock.seats.give();
        let is_seated = || matches!(lock.read_from(seat)._hold, Hold::Seat(_));
        assert!(!(0..OPENED_BY).any(|_| is_seated()));
        assert!(is_seated());
        drop(lock.write());
        assert!(!is_seated());
    }

    #[test]
    fn a_reader_whose_seat_is_taken_reads_all_the_same() {
        let lock = lock(1);
        let (one, other) = (lock.seats.give(), lock.seats.give());
        (0..OPENED_BY).for_each(|_| drop(lock.read_from(one)));
        let first = lock.read_from(one);
        let second = lock.read_from(other);
        assert!(matches!((&first._hold, &second._hold), (Hold::Seat(_), Hold::Inner(_))));
        assert_eq!(*first, *second);
    }
}
