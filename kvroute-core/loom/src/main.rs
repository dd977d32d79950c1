//! The lock of kvroute's index in every order in which two or three threads can run it, as far as loom knows memory orders.
//!
//! The value is a cell of loom's, which ends the model where a read and a write of it are not one after the other.

extern crate alloc;

#[path = "../../src/index/lock.rs"]
mod lock;
mod sync;

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread;

use lock::{ReaderLock, SeatNumber, Seats};

type Lock = Arc<ReaderLock<UnsafeCell<u32>>>;

fn lock(seats: &Arc<Seats>) -> Lock {
    Arc::new(ReaderLock::new(UnsafeCell::new(0), Arc::clone(seats)))
}

fn read(lock: &Lock, seat: SeatNumber) -> u32 {
    // SAFETY: what is to be shown.
    lock.read_from(seat).with(|value| unsafe { *value })
}

fn write(lock: &Lock) {
    // SAFETY: what is to be shown.
    lock.write().with_mut(|value| unsafe { *value += 1 });
}

fn explore(name: &str, most_preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = most_preemptions;
    builder.check(model);
    println!("ok: {name}");
}

fn main() {
    explore("a reader of an open lock beside a writer", None, || {
        let seats = Arc::new(Seats::new(2));
        let (lock, seat) = (lock(&seats), seats.give());
        read(&lock, seat);
        let writer = thread::spawn({
            let lock = Arc::clone(&lock);
            move || write(&lock)
        });
        let first = read(&lock, seat);
        assert!(read(&lock, seat) >= first);
        writer.join().unwrap();
        assert_eq!(read(&lock, seat), 1);
    });
    explore("a reader who opens the lock between two writes", Some(3), || {
        let seats = Arc::new(Seats::new(2));
        let (lock, seat) = (lock(&seats), seats.give());
        let writer = thread::spawn({
            let lock = Arc::clone(&lock);
            move || (0..2).for_each(|_| write(&lock))
        });
        let first = read(&lock, seat);
        assert!(read(&lock, seat) >= first);
        writer.join().unwrap();
        assert_eq!(read(&lock, seat), 2);
    });
    explore("two readers with one seat, who come after it was opened, beside a writer", Some(2), || {
        let seats = Arc::new(Seats::new(1));
        let lock = lock(&seats);
        read(&lock, seats.give());
        let threads = [0, 1].map(|_| {
            let (lock, seat) = (Arc::clone(&lock), seats.give());
            thread::spawn(move || read(&lock, seat))
        });
        write(&lock);
        threads.into_iter().for_each(|thread| _ = thread.join().unwrap());
        assert_eq!(read(&lock, seats.give()), 1);
    });
    explore("readers of two locks with seats of their own beside a writer of each", Some(2), || {
        let seats = Arc::new(Seats::new(2));
        let locks = [lock(&seats), lock(&seats)];
        locks.iter().for_each(|lock| _ = read(lock, seats.give()));
        let reader = thread::spawn({
            let (locks, seat) = (locks.clone(), seats.give());
            move || locks.each_ref().map(|lock| read(lock, seat))
        });
        locks.iter().for_each(write);
        reader.join().unwrap();
    });
}
