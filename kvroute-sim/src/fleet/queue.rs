//! What is to happen, in order of time.

use core::cmp::Ordering;
use std::collections::BinaryHeap;

/// Events by time; those of one time in the order in which they were put in.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Entry<T>>,
    count: u64,
}

#[derive(Debug)]
struct Entry<T> {
    time: f64,
    order: u64,
    event: T,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), count: 0 }
    }

    pub(super) fn push(&mut self, time: f64, event: T) {
        self.heap.push(Entry { time, order: self.count, event });
        self.count += 1;
    }

    pub(super) fn pop(&mut self) -> Option<(f64, T)> {
        self.heap.pop().map(|entry| (entry.time, entry.event))
    }
}

impl<T> Ord for Entry<T> {
    /// The earliest is the greatest, as `BinaryHeap` gives out the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.time.total_cmp(&self.time).then(other.order.cmp(&self.order))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}
