//! A thousand pods: what scraping them costs, and that those that hang keep no other waiting.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kvroute_io::fleet::{FleetConfig, PodState};
use kvroute_io::pods::PodConfig;

use super::support::*;

/// Processor time that this process's threads of this name took.
#[cfg(target_os = "linux")]
fn cpu(of: impl Fn(&str) -> bool) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let times = std::fs::read_to_string(path.join("schedstat")).ok()?;
        of(name.trim()).then(|| times.split(' ').next()?.parse::<u64>().ok()).flatten()
    });
    Duration::from_nanos(nanoseconds.sum())
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_pods_are_scraped_in_time_and_hanging_ones_disturb_none() {
    const PODS: usize = 1000;
    let servers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("fake-pods")
        .enable_all()
        .build()
        .unwrap();
    let pods: Vec<FakePod> = servers.block_on(async {
        let mut pods = Vec::new();
        for _ in 0..PODS {
            pods.push(FakePod::vllm().await);
        }
        pods
    });
    let scrapers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("fleet")
        .enable_all()
        .build()
        .unwrap();
    scrapers.block_on(async {
        let urls = pods.iter().map(|pod| PodConfig::new(pod.url.clone()));
        let mut config = FleetConfig { pods: urls.collect(), ..FleetConfig::default() };
        config.learn.interval_ms = 60_000;
        let fleet = tokio::spawn(async move { start(config) }).await.unwrap();
        let ready = || {
            let states = fleet.status().pods;
            (states.iter().filter(|pod| pod.state == PodState::Ready).count() == PODS).then_some(())
        };
        tokio::time::timeout(Duration::from_secs(60), async {
            while ready().is_none() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await
        .expect("all pods are learnt");
        let reports = || fleet.status().pods.iter().map(|pod| pod.scrapes.reports).sum::<u64>();
        let measure = || (Instant::now(), reports(), cpu(|name| name == "fleet"));
        let (start, before, cpu_before) = measure();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (end, after, cpu_after) = measure();
        let (scrapes, cpu) = ((after - before) as f64, (cpu_after - cpu_before).as_secs_f64());
        let seconds = (end - start).as_secs_f64();
        println!(
            "{scrapes} scrapes of {} bytes in {seconds:.1} s: {:.0} us of processor time each",
            METRICS.len(),
            cpu / scrapes * 1e6
        );
        // One a second each; generous, since the machine may be busy.
        assert!(scrapes > PODS as f64 * seconds * 0.5, "{scrapes} scrapes in {seconds} s");

        // A third of them hang; the others are asked as before.
        for pod in &pods[..PODS / 3] {
            pod.answer("/metrics", Reply::Hang);
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        let answering: BTreeSet<_> = pods[PODS / 3..].iter().map(FakePod::name).collect();
        let statuses = fleet.status().pods;
        let answering = statuses.iter().filter(|status| answering.contains(&status.name));
        let oldest = answering.filter_map(|status| status.ranks[0].load_seconds_ago).fold(0.0, f64::max);
        println!("with {} that hang, the oldest report of the others is {oldest:.1} s old", PODS / 3);
        assert!(oldest < 3.0, "a pod that answers was asked {oldest} s ago");
        soon("shutting down", fleet.shutdown()).await;
    });
    servers.shutdown_timeout(Duration::from_secs(1));
}

/// A page is read in well under a millisecond.
#[test]
fn a_page_is_read_quickly() {
    let page = METRICS.repeat(2);
    let read = || {
        let start = Instant::now();
        assert!(kvroute_io::load::Metrics::parse(page.as_bytes()).engine.is_some());
        start.elapsed()
    };
    let best = (0..200).map(|_| read()).min().unwrap();
    println!("{} bytes: {best:?}", page.len());
    // Optimised or not, on whatever machine.
    assert!(best < Duration::from_millis(2), "{best:?}");
}
