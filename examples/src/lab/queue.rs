//! Runs that do not depend on each other, spread over threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::capture::Result;

/// Does `work` for 0..`count` on so many threads, and calls `done` on this one after each. Answers are in order of
/// the numbers, whoever was first; so is the error, if there is one.
///
/// # Errors
///
/// The first one of `work`; what was begun meanwhile is finished, and nothing else is begun.
pub(super) fn spread<T: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> std::result::Result<T, String> + Sync,
    mut done: impl FnMut(),
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut answers: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let mut errors = Vec::new();
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || sender.send((number, work(number))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (number, answer) in receiver {
            match answer {
                Ok(answer) => answers[number] = Some(answer),
                Err(error) => {
                    next.store(count, Ordering::Relaxed);
                    errors.push((number, error));
                }
            }
            done();
        }
    });
    errors.sort_by_key(|(number, _)| *number);
    match errors.into_iter().next() {
        Some((_, error)) => Err(error.into()),
        None => Ok(answers.into_iter().flatten().collect()),
    }
}
