//! How a child measures: processor time of a thread, wall time, memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use serde::{Deserialize, Serialize};

/// One figure of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// What was measured; a name in the workload's list.
    pub measure: String,
    /// In the measure's unit.
    pub value: f64,
}

/// Processor time this thread takes for `act`.
pub fn cpu<R>(act: impl FnOnce() -> R) -> (Duration, R) {
    let start = ThreadTime::now();
    let result = black_box(act());
    (start.elapsed(), result)
}

/// Nanoseconds of processor time `act` takes for one of `items`: the median of `passes` passes over all of them, after
/// one to warm up.
pub fn per_item<T>(items: &[T], passes: usize, mut act: impl FnMut(&T) -> usize) -> f64 {
    let mut pass = || {
        let (time, _) = cpu(|| items.iter().map(|item| act(black_box(item))).sum::<usize>());
        time.as_nanos() as f64 / items.len() as f64
    };
    pass();
    median((0..passes).map(|_| pass()).collect())
}

/// Wall time of each of `items` in nanoseconds, in order of size; the clock's own cost (some 25 ns) is in it.
pub fn each_wall<T>(items: &[T], mut act: impl FnMut(&T) -> usize) -> Vec<f64> {
    let mut times: Vec<f64> = items
        .iter()
        .map(|item| {
            let start = Instant::now();
            black_box(act(black_box(item)));
            start.elapsed().as_nanos() as f64
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times
}

/// The middle one; of an even number, the mean of the two in the middle. 0 of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    f64::midpoint(values[last / 2], values[last.div_ceil(2)])
}

/// The value below which a share of `sorted` lies. 0 of none.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    sorted[(last as f64 * share).round() as usize]
}

/// Bytes of memory the process has resident, where the system tells.
#[must_use]
pub fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles_are_those_of_the_sorted_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.99), 5.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.5), 3.0);
    }

    #[test]
    fn processor_time_is_what_the_thread_works_and_not_what_it_sleeps() {
        let (slept, ()) = cpu(|| std::thread::sleep(Duration::from_millis(30)));
        assert!(slept < Duration::from_millis(20), "{slept:?}");
    }
}
