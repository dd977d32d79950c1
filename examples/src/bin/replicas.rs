//! What several routers in front of one fleet cost, and what sharing state saves of that: hit rate, balance and time to
//! first token on simulated pods, and the real time of a dispatch, for a router that tells peers of it has more to do.
//!
//! ```text
//! cargo run --release -p kvroute-examples --bin replicas -- --pods 32 --replicas 1,2,4,8
//! cargo run --release -p kvroute-examples --bin replicas -- --pods 5000 --replicas 1,8,100 --no-events --requests 60000
//! ```

use std::error::Error;
use std::sync::Arc;

use kvroute_core::{BlockHasher, CacheDomain, OwnScheme, Policy, Role, Router, RouterOptions};
use kvroute_examples::simulated::{BLOCK_SIZE, pod};
use kvroute_sim::fleet::{self, FleetOptions, KvroutePolicy, Replicas, RequestRecord, Summary, percentile};
use kvroute_sim::workload::SharedPrefixLoad;
use lexopt::{Arg, ValueExt};

const HELP: &str = "\
replicas [--pods N] [--replicas N,N,...] [--staleness-ms N,N,...] [--requests N] [--rate N] [--seed N] [--no-events]

  --pods          pods of the fleet (32)
  --replicas      how many routers, each of which gets its share of the requests (1,2,4,8)
  --staleness-ms  at most so old is what they know of each other (10,100,1000)
  --requests      requests of each run (150 a pod)
  --rate          requests a second and pod (5)
  --seed          of the first of three runs, whose mean is shown (1)
  --no-events     pods publish nothing: routers go by what was sent";

/// Runs of each row.
const RUNS: u64 = 3;

/// Moments at which requests in flight are counted.
const MOMENTS: usize = 200;

struct Options {
    pods: usize,
    replicas: Vec<usize>,
    staleness_ms: Vec<u64>,
    requests: Option<u64>,
    rate: f64,
    seed: u64,
    events: bool,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some(options) = options()? else { return Ok(()) };
    println!("pods {}, {} requests/s and pod, mean of {RUNS} runs", options.pods, options.rate);
    println!(
        "routers  shared        hit rate  in flight max/mean  TTFT p50 ms  TTFT p99 ms  dispatch p50 us"
    );
    for &replicas in &options.replicas {
        let shared = options.staleness_ms.iter().map(|&ms| Some(ms)).filter(|_| replicas > 1);
        for staleness in std::iter::once(None).chain(shared) {
            let (mut summaries, mut balance, mut overheads) = (Vec::new(), 0.0, Vec::new());
            for seed in options.seed..options.seed + RUNS {
                let records = play(&options, replicas, staleness, seed, &mut overheads)?;
                // Caches fill in the first fifth.
                let records = &records[records.len() / 5..];
                summaries.push(Summary::of(records));
                balance += in_flight_spread(records, options.pods) / RUNS as f64;
            }
            let mean = Summary::mean(&summaries);
            if mean.failed > 0 {
                return Err(format!("{} requests failed", mean.failed).into());
            }
            overheads.sort_by(f64::total_cmp);
            let shared = staleness.map_or("no".to_owned(), |ms| format!("{ms} ms old"));
            println!(
                "{replicas:>7}  {shared:<12}  {:>8.3}  {balance:>18.2}  {:>11.1}  {:>11.1}  {:>15.1}",
                mean.cached_share,
                mean.ttft_p50 * 1e3,
                mean.ttft_p99 * 1e3,
                percentile(&overheads, 0.5)
            );
        }
    }
    Ok(())
}

fn play(
    options: &Options,
    replicas: usize,
    staleness_ms: Option<u64>,
    seed: u64,
    overheads: &mut Vec<f64>,
) -> Result<Vec<RequestRecord>, Box<dyn Error + Send + Sync>> {
    let pods: Result<Vec<_>, _> = (0..options.pods).map(|n| pod(Role::Both, n)).collect();
    let load = SharedPrefixLoad {
        groups: 15 * options.pods as u64,
        prefix_tokens: 4000,
        own_tokens: 200..=500,
        output_tokens: 64,
        rate: options.rate * options.pods as f64,
        count: options.requests.unwrap_or(150 * options.pods as u64),
        seed,
    };
    let hasher = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE as u32)?;
    let domain = Arc::new(CacheDomain::new("llama-3.1-8b", hasher)?);
    let make = |_: usize| {
        let options = RouterOptions::default();
        Router::new(options, Policy::default()).map(|router| KvroutePolicy::new(router, Arc::clone(&domain)))
    };
    let mut members = (0..replicas).map(make).collect::<Result<Vec<_>, _>>()?.into_iter();
    let staleness = staleness_ms.map(|ms| ms as f64 / 1e3);
    let mut policy = Replicas::new(replicas, staleness, seed, |_| members.next().expect("one for each"));
    if !options.events {
        policy = policy.without_events();
    }
    let records = fleet::run(&FleetOptions::new(pods?), load.requests(), &mut policy)?;
    overheads.extend(policy.routed().map(|routed| routed.overhead.as_secs_f64() * 1e6));
    match policy.errors().next() {
        Some(error) => Err(error.clone().into()),
        None => Ok(records),
    }
}

/// The busiest pod's requests in flight against the mean, on average over the time in which requests arrive.
fn in_flight_spread(records: &[RequestRecord], pods: usize) -> f64 {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return 0.0 };
    let moments = (0..MOMENTS).map(|n| {
        let now = first.arrival + (last.arrival - first.arrival) * (n as f64 + 0.5) / MOMENTS as f64;
        let mut counts = vec![0_u64; pods];
        for record in records {
            if record.arrival <= now
                && record.finished.is_none_or(|end| now < end)
                && let Some(used) = record.decode
            {
                counts[used.pod] += 1;
            }
        }
        let mean = counts.iter().sum::<u64>() as f64 / pods as f64;
        if mean > 0.0 { counts.into_iter().max().unwrap_or(0) as f64 / mean } else { 1.0 }
    });
    moments.sum::<f64>() / MOMENTS as f64
}

fn options() -> Result<Option<Options>, Box<dyn Error + Send + Sync>> {
    let mut options = Options {
        pods: 32,
        replicas: vec![1, 2, 4, 8],
        staleness_ms: vec![10, 100, 1000],
        requests: None,
        rate: 5.0,
        seed: 1,
        events: true,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("pods") => options.pods = arguments.value()?.parse()?,
            Arg::Long("replicas") => options.replicas = list(&arguments.value()?.string()?)?,
            Arg::Long("staleness-ms") => options.staleness_ms = list(&arguments.value()?.string()?)?,
            Arg::Long("requests") => options.requests = Some(arguments.value()?.parse()?),
            Arg::Long("rate") => options.rate = arguments.value()?.parse()?,
            Arg::Long("seed") => options.seed = arguments.value()?.parse()?,
            Arg::Long("no-events") => options.events = false,
            Arg::Long("help") | Arg::Short('h') => {
                println!("{HELP}");
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if options.pods == 0
        || options.replicas.contains(&0)
        || options.staleness_ms.contains(&0)
        || options.rate <= 0.0
    {
        return Err("pods, replicas, staleness and rate are above 0".into());
    }
    Ok(Some(options))
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>, Box<dyn Error + Send + Sync>>
where
    T::Err: Error + Send + Sync + 'static,
{
    text.split(',').map(|item| item.parse().map_err(Into::into)).collect()
}
