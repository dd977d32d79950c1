//! Readers and writers together. Writers store and remove half of the tree's chains, each those of its pods, as fast as
//! they can; readers ask for the other half until the last writer is done, what waited in channels included.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kvroute_benches::Numbers;

use super::tree::{BLOCK_SIZE, Held, PODS, all_removals, chains, holdings};
use super::{Counts, Job, Measure, Report, Workload, apply, higher};
use crate::change::{Chain, Change, stores};
use crate::subject::{Feed, Kind, Setup, Shared};
use crate::with_subject;

/// Time of readers who are alone.
const READING: Duration = Duration::from_millis(500);
/// How often writers store and remove their half.
const ROUNDS: usize = 3;
const QUERIES: usize = 1024;

/// What is run: names of the figures, readers, writers.
const RUNS: &[(&str, Option<&str>, usize, usize)] = &[
    ("1 reader", None, 1, 0),
    ("2 readers", None, 2, 0),
    ("4 readers", None, 4, 0),
    ("8 readers", None, 8, 0),
    ("16 readers", None, 16, 0),
    ("1 reader beside a writer", None, 1, 1),
    ("3 readers beside a writer", None, 3, 1),
    ("7 readers beside a writer", None, 7, 1),
    ("15 readers beside a writer", None, 15, 1),
    ("2 threads, queries", Some("2 threads, event blocks"), 1, 1),
    ("4 threads, queries", Some("4 threads, event blocks"), 2, 2),
    ("8 threads, queries", Some("8 threads, event blocks"), 4, 4),
    ("16 threads, queries", Some("16 threads, event blocks"), 8, 8),
];

/// How much of one reader's rate beside a writer each reader keeps when they are most; from four threads on.
const KEPT: &str = "each of most readers beside a writer";

/// The figures of [`RUNS`], and [`KEPT`].
const MEASURES: &[Measure] = &[
    higher("1 reader", "queries/s", Some(2.0)),
    higher("2 readers", "queries/s", Some(2.0)),
    higher("4 readers", "queries/s", Some(2.0)),
    higher("8 readers", "queries/s", Some(2.0)),
    higher("16 readers", "queries/s", Some(2.0)),
    higher("1 reader beside a writer", "queries/s", Some(2.0)),
    higher("3 readers beside a writer", "queries/s", Some(2.0)),
    higher("7 readers beside a writer", "queries/s", Some(2.0)),
    higher("15 readers beside a writer", "queries/s", Some(2.0)),
    higher("2 threads, queries", "queries/s", Some(2.0)),
    higher("2 threads, event blocks", "blocks/s", Some(2.0)),
    higher("4 threads, queries", "queries/s", Some(2.0)),
    higher("4 threads, event blocks", "blocks/s", Some(2.0)),
    higher("8 threads, queries", "queries/s", Some(2.0)),
    higher("8 threads, event blocks", "blocks/s", Some(2.0)),
    higher("16 threads, queries", "queries/s", Some(2.0)),
    higher("16 threads, event blocks", "blocks/s", Some(2.0)),
    higher(KEPT, "of 1 alone", None),
];

/// The runs that this machine has threads for.
pub(super) static SCALE: Workload = Workload {
    name: "scale",
    what: "readers and writers of one index at once, from tokens; a third of each length, full, half and no hits 3:1:1",
    subjects: &[Kind::Kvroute, Kind::ChainIndex, Kind::Crtc, Kind::Dashmap],
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| {
        with_subject!(kind, [Kvroute, ChainIndex, Crtc, Dashmap], run(job, report));
        Ok(())
    },
};

fn run<S: Shared>(job: &Job, report: &mut Report) {
    let chains = chains(job.seed, job.size(1_200_000, 240_000));
    let (written, asked): (Vec<_>, Vec<_>) = chains.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let only = |half: Vec<(usize, Held)>| half.into_iter().map(|(_, held)| held).collect::<Vec<_>>();
    let (written, asked) = (only(written), only(asked));
    let mut beside_a_writer = Vec::new();
    for &(queries_name, events_name, readers, writers) in RUNS {
        if readers + writers > job.threads {
            continue;
        }
        let (queries, events) = together::<S>(job, &written, &asked, readers, writers);
        report.put(queries_name, queries);
        if let Some(name) = events_name {
            report.put(name, events);
        } else if writers == 1 {
            beside_a_writer.push(queries / readers as f64);
        }
    }
    if let [one, .., each] = beside_a_writer[..] {
        report.put(KEPT, each / one);
    }
}

/// Queries and event blocks a second.
fn together<S: Shared>(
    job: &Job,
    written: &[Held],
    asked: &[Held],
    readers: usize,
    writers: usize,
) -> (f64, f64) {
    let feed = Feed::Tokens;
    let setup =
        Setup { pods: PODS, block_size: BLOCK_SIZE as u32, feed, writers: writers.max(1), as_set: false };
    let mut subject = S::new(&setup);
    let held = holdings(asked, job.seed);
    let all: Vec<_> = held.iter().flat_map(|&(chain, pod)| stores(pod, chain, 0..chain.len(), 512)).collect();
    apply(&mut subject, &all);
    let queries = queries(job, &subject, asked);
    let mut streams = streams(job, &subject, written, writers);
    let event_blocks: usize = streams.iter().map(|stream| stream.1).sum();

    let start = Barrier::new(readers + writers + 1);
    let (writing, asked) = (AtomicUsize::new(writers), AtomicUsize::new(0));
    let subject = &subject;
    let wall = std::thread::scope(|scope| {
        for (writer, (events, _)) in streams.drain(..).enumerate() {
            let (start, writing) = (&start, &writing);
            scope.spawn(move || {
                subject.write(writer, events, start);
                writing.fetch_sub(1, Ordering::Release);
            });
        }
        let (start, writing, asked, queries) = (&start, &writing, &asked, &queries);
        for reader in 0..readers {
            scope.spawn(move || {
                let (mut scratch, mut count) = (S::Scratch::default(), 0);
                start.wait();
                let began = Instant::now();
                let goes_on = || match writers {
                    0 => began.elapsed() < READING,
                    _ => writing.load(Ordering::Acquire) > 0,
                };
                let mut next = reader * queries.len() / readers;
                while goes_on() {
                    for _ in 0..16 {
                        std::hint::black_box(subject.find(&queries[next % queries.len()], &mut scratch));
                        next += 1;
                    }
                    count += 16;
                }
                asked.fetch_add(count, Ordering::Relaxed);
            });
        }
        start.wait();
        let began = Instant::now();
        while writing.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        if writers == 0 { READING } else { began.elapsed() }
    });
    let a_second = |count: usize| count as f64 / wall.as_secs_f64();
    (a_second(asked.load(Ordering::Relaxed)), a_second(event_blocks))
}

fn queries<S: Shared>(job: &Job, subject: &S, asked: &[Held]) -> Vec<S::Query> {
    let mut numbers = Numbers::new(!job.seed);
    let by_length = [64, 512, 4096]
        .map(|length| asked.iter().filter(|held| held.chain.len() == length).collect::<Vec<_>>());
    (0..QUERIES)
        .map(|n| {
            let known = &by_length[n % 3];
            let chain = &known[numbers.below(known.len() as u64) as usize].chain;
            let kept = match numbers.below(5) {
                0 => 0,
                1 => chain.len() / 2,
                _ => chain.len(),
            };
            let mut query = Chain::new(chain.tokens(0..kept).to_vec(), BLOCK_SIZE);
            query.extend(&numbers.token_ids((chain.len() - kept) * BLOCK_SIZE));
            subject.query(&query)
        })
        .collect()
}

/// What each writer does, and how many blocks that is about.
fn streams<S: Shared>(
    job: &Job,
    subject: &S,
    written: &[Held],
    writers: usize,
) -> Vec<(Vec<S::Event>, usize)> {
    let holdings = holdings(written, job.seed);
    (0..writers)
        .map(|writer| {
            let mine: Vec<_> = holdings.iter().copied().filter(|(_, pod)| pod % writers == writer).collect();
            let stored = mine.iter().flat_map(|&(chain, pod)| stores(pod, chain, 0..chain.len(), 512));
            let round: Vec<Change<'_>> = stored.chain(all_removals(&mine)).collect();
            let blocks: usize = round.iter().map(Change::blocks).sum();
            let events = (0..ROUNDS).flat_map(|_| round.iter().map(|change| subject.event(change)));
            (events.collect(), blocks * ROUNDS)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_its_figures_declared_in_its_order() {
        let declared: Vec<_> = MEASURES.iter().map(|measure| measure.name).collect();
        let run = RUNS.iter().flat_map(|run| [Some(run.0), run.1]).flatten();
        assert_eq!(declared, run.chain([KEPT]).collect::<Vec<_>>());
    }
}
