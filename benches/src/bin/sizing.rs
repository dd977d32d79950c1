//! What a router takes by the size of its fleet: memory a block, CPU a request and an event; and what that makes of whole
//! fleets. `cargo run --release -p kvroute-benches --bin sizing` prints the tables of examples/deploy/README.md.
//!
//! Times are of this thread's processor where Linux tells them, so that a busy machine changes them less; memory is what
//! the index counts of itself, which `cargo versus` compares with the heap.

use std::fs;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_benches::{
    BLOCK_SIZE, Numbers, Prompt, native_domain, published_blocks, removed, translated_domain,
};
use kvroute_core::event::EventBatch;
use kvroute_core::hash::{BlockHasher, HashContext};
use kvroute_core::index::PodId;
use kvroute_core::{
    CacheDomain, Error, Finish, LoadReport, OwnScheme, PodSpec, Request, Router, RouterOptions, Workspace,
};

/// Blocks a prompt: 8k tokens.
const CHAIN: usize = 512;
/// Pods that hold each prompt, where prompts are shared.
const HOLDERS: usize = 4;
/// Fleets, in pods.
const FLEETS: [usize; 3] = [10, 100, 1000];
/// Prompts, in tokens.
const PROMPTS: [usize; 3] = [2 * 1024, 8 * 1024, 32 * 1024];

/// Bytes for each block and pod that holds it.
#[derive(Clone, Copy)]
struct Memory {
    /// Of blocks and their holders, which `index.max_bytes` bounds.
    index: f64,
    /// Of the pods' views: what engines call those blocks.
    views: f64,
}

impl Memory {
    fn of(router: &Router) -> Self {
        Self { index: router.index().bytes() as f64, views: router.index().view_bytes() as f64 }
    }

    fn all(self) -> f64 {
        self.index + self.views
    }
}

/// How much is done.
struct Scale {
    /// Blocks in each index whose memory is measured.
    blocks: usize,
    /// How long each time is measured.
    time: Duration,
}

fn main() -> Result<(), Error> {
    print(&Scale { blocks: 4000 * CHAIN, time: Duration::from_millis(500) })
}

/// Measures, and prints the tables as it goes.
fn print(scale: &Scale) -> Result<(), Error> {
    let (translated, native) = (translated_domain()?, native_domain()?);

    println!("| bytes for each block and pod | blocks and holders | views | in all |");
    println!("| --- | --- | --- | --- |");
    let unshared = memory(&translated, 1, scale)?;
    for (name, memory) in [
        ("translated (the default), nothing shared", unshared),
        ("translated, each prompt on 4 pods", memory(&translated, HOLDERS, scale)?),
        ("native, nothing shared", memory(&native, 1, scale)?),
        ("native, each prompt on 4 pods", memory(&native, HOLDERS, scale)?),
    ] {
        println!("| {name} | {:.1} | {:.1} | {:.1} |", memory.index, memory.views, memory.all());
    }
    println!();
    let head = PROMPTS.map(|tokens| format!(" {}k tokens |", tokens / 1024)).concat();
    println!("| microseconds of CPU for each request |{head}");
    println!("| --- |{}", " --- |".repeat(PROMPTS.len()));
    let mut requests = [[0.0; PROMPTS.len()]; FLEETS.len()];
    for (row, pods) in requests.iter_mut().zip(FLEETS) {
        for (cell, tokens) in row.iter_mut().zip(PROMPTS) {
            *cell = request(&translated, pods, tokens, scale)? / 1e3;
        }
        println!("| {pods} pods |{}", row.map(|micros| format!(" {micros:.0} |")).concat());
    }

    println!("\n| nanoseconds of CPU for each event's block | prefills, 32 blocks | decodes, 1 block |");
    println!("| --- | --- | --- |");
    let (stored, removed) = (events(&translated, 32, scale)?, events(&translated, 1, scale)?);
    println!("| stored, from vLLM's bytes | {:.0} | {:.0} |", stored.0, removed.0);
    println!("| removed | {:.0} | {:.0} |", stored.1, removed.1);

    println!("\n| fleet | requests | memory of the index | CPU of the router |");
    println!("| --- | --- | --- | --- |");
    for (row, pods) in FLEETS.into_iter().enumerate() {
        // An 80 GB device with a model of 8B keeps some 30 000 blocks; five requests a second of 8k tokens keep it busy,
        // half of each prompt is new, and what is stored is removed one day.
        let (blocks, rate, new) = (30_000.0, 5.0 * pods as f64, 0.5 * CHAIN as f64);
        let bytes = pods as f64 * blocks * unshared.all();
        let cores = rate * (requests[row][1] * 1e3 + new * (stored.0 + stored.1)) / 1e9;
        println!(
            "| {pods} pods of 30 000 blocks | {rate:.0}/s of 8k tokens | {:.0} MB | {cores:.3} cores |",
            bytes / 1e6
        );
    }
    Ok(())
}

/// Prompts of [`CHAIN`] blocks that have nothing in common.
fn prompts(count: usize, blocks: usize) -> Result<Vec<Prompt>, Error> {
    let hasher = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE)?;
    let mut numbers = Numbers::new(blocks as u64);
    (0..count)
        .map(|_| {
            let token_ids = numbers.token_ids(blocks * BLOCK_SIZE as usize);
            let blocks = hasher.hash(&token_ids, &HashContext::default())?;
            Ok(Prompt { token_ids, blocks, pod: 0 })
        })
        .collect()
}

/// A router with pods of a domain that have said how busy they are.
fn router(domain: &Arc<CacheDomain>, pods: usize) -> Result<(Router, Vec<PodId>), Error> {
    let router = Router::new(RouterOptions::default(), kvroute_core::Policy::default())?;
    let pods: Result<Vec<_>, Error> = (0..pods)
        .map(|n| {
            let pod = router.add_pod(PodSpec::new(format!("pod-{n}"), Arc::clone(domain)))?;
            router.report_load(pod, LoadReport { running: n as u32 % 9, waiting: 0, kv_usage: 0.5 })?;
            Ok(pod)
        })
        .collect();
    Ok((router, pods?))
}

/// Of a hundred pods, where each prompt is on so many of them.
fn memory(domain: &Arc<CacheDomain>, holders: usize, scale: &Scale) -> Result<Memory, Error> {
    let (router, pods) = router(domain, 100)?;
    let empty = Memory::of(&router);
    let mut sequences = vec![0; pods.len()];
    let prompts = prompts(scale.blocks / CHAIN / holders, CHAIN)?;
    for (n, prompt) in prompts.iter().enumerate() {
        let payload = published_blocks(prompt, 0..CHAIN);
        for holder in 0..holders {
            let pod = (n * holders + holder) % pods.len();
            router.apply(pods[pod], sequences[pod], &payload)?;
            sequences[pod] += 1;
        }
    }
    let (full, held) = (Memory::of(&router), (prompts.len() * holders * CHAIN) as f64);
    Ok(Memory { index: (full.index - empty.index) / held, views: (full.views - empty.views) / held })
}

/// Nanoseconds from a request's token ids to its end: hashed, looked up, scored, booked, predicted, finished.
fn request(domain: &Arc<CacheDomain>, pods: usize, tokens: usize, scale: &Scale) -> Result<f64, Error> {
    let (router, pods) = router(domain, pods)?;
    let blocks = tokens / BLOCK_SIZE as usize;
    let prompts = prompts(64, blocks)?;
    for (n, prompt) in prompts.iter().enumerate() {
        // Each is on four pods, or on all there are.
        for holder in 0..HOLDERS {
            let pod = pods[(n * HOLDERS + holder) % pods.len()];
            let stored = kvroute_benches::stored(prompt, 0..blocks);
            router.apply_events(pod, &EventBatch { events: vec![stored], ..EventBatch::default() })?;
        }
    }
    let (context, mut workspace) = (HashContext::default(), Workspace::default());
    let mut next = prompts.iter().cycle();
    nanoseconds(scale.time, || {
        let Some(prompt) = next.next() else { return Ok(0) };
        let request = Request::new(&prompt.token_ids, &context);
        let dispatch = black_box(router.dispatch(&request, Duration::ZERO, &mut workspace)?);
        router.first_token(dispatch.ticket);
        router.finish(dispatch.ticket, Finish::Completed, None);
        Ok(1)
    })
}

/// Nanoseconds a block: (stored, removed), in events of so many blocks, engines' tails first.
fn events(domain: &Arc<CacheDomain>, piece: usize, scale: &Scale) -> Result<(f64, f64), Error> {
    let (router, pods) = router(domain, 10)?;
    let prompts = prompts(scale.blocks / CHAIN / 4, CHAIN)?;
    let ranges: Vec<Range<usize>> =
        (0..CHAIN).step_by(piece).map(|start| start..(start + piece).min(CHAIN)).collect();
    let mut sequences = vec![0; pods.len()];
    let (mut store, mut remove) = (0.0, 0.0);
    let mut rounds = 0.0;
    let start = Instant::now();
    while rounds == 0.0 || start.elapsed() < scale.time {
        let payloads: Vec<(usize, Vec<u8>)> = prompts
            .iter()
            .enumerate()
            .flat_map(|(n, prompt)| {
                let pod = n % pods.len();
                ranges.iter().map(move |range| (pod, published_blocks(prompt, range.clone())))
            })
            .collect();
        let before = processor_time();
        for (pod, payload) in &payloads {
            router.apply(pods[*pod], sequences[*pod], payload)?;
            sequences[*pod] += 1;
        }
        let stored = processor_time();
        let removals: Vec<_> = prompts
            .iter()
            .enumerate()
            .flat_map(|(n, prompt)| ranges.iter().rev().map(move |range| (n, removed(prompt, range.clone()))))
            .map(|(n, event)| (n, EventBatch { events: vec![event], ..EventBatch::default() }))
            .collect();
        let made = processor_time();
        for (n, batch) in &removals {
            router.apply_events(pods[n % pods.len()], batch)?;
        }
        store += (stored - before).as_nanos() as f64;
        remove += (processor_time() - made).as_nanos() as f64;
        rounds += 1.0;
    }
    let blocks = rounds * (prompts.len() * CHAIN) as f64;
    Ok((store / blocks, remove / blocks))
}

/// Nanoseconds that a call takes, which answers how much it did; called for as long as told, and before that to warm up.
fn nanoseconds(time: Duration, mut call: impl FnMut() -> Result<u64, Error>) -> Result<f64, Error> {
    let mut measure = |time: Duration| -> Result<f64, Error> {
        let (start, before, mut done) = (Instant::now(), processor_time(), 0);
        while start.elapsed() < time {
            for _ in 0..16 {
                done += call()?;
            }
        }
        Ok((processor_time() - before).as_nanos() as f64 / done.max(1) as f64)
    };
    measure(time / 4)?;
    measure(time)
}

/// What this thread has used of a processor; wall time where the system does not tell.
fn processor_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_at_a_small_scale() {
        print(&Scale { blocks: 40 * CHAIN, time: Duration::from_millis(5) }).unwrap();
    }

    #[test]
    fn shared_blocks_take_less_and_native_ones_less_still() {
        let scale = Scale { blocks: 40 * CHAIN, time: Duration::ZERO };
        let of = |domain: &Arc<CacheDomain>, holders| memory(domain, holders, &scale).unwrap().all();
        let (translated, of_engine) = (translated_domain().unwrap(), native_domain().unwrap());
        let (unshared, shared) = (of(&translated, 1), of(&translated, HOLDERS));
        let (native, native_shared) = (of(&of_engine, 1), of(&of_engine, HOLDERS));
        assert!(shared < unshared && native_shared < native, "{unshared} {shared} {native} {native_shared}");
        assert!(native < unshared && native_shared < shared, "{unshared} {shared} {native} {native_shared}");
        assert!((4.0..200.0).contains(&unshared), "{unshared}");
    }

    #[test]
    fn a_threads_time_goes_on_while_it_works() {
        let (before, start) = (processor_time(), Instant::now());
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(200) {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(1));
        }
        let spent = processor_time() - before;
        assert!(spent > Duration::ZERO && spent < Duration::from_secs(60), "{spent:?}");
    }
}
