//! What lookups and writing cost, on loopback; `--nocapture` shows it. Bounds here are far from what is measured: they
//! find what is broken, not what is slow.

use std::time::{Duration, Instant};

use redis::Value;

use super::super::server::Server;
use kvroute_io::shared::index::ReaderOptions;

use super::support::{Asker, Side, domain, patient, prompt, write};

async fn used_memory(server: &Server) -> u64 {
    let Value::BulkString(info) = server.ask(&["INFO", "memory"]).await else { panic!("no answer") };
    let info = String::from_utf8(info).unwrap();
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn lookups_and_writing_cost_what_the_notes_say() {
    let server = Server::start(&[]);
    let domain = domain("model");
    let pods = ["a", "b", "c", "d"];
    let (side, asker) = (Side::new(&domain, &pods), Asker::new(&server, &domain, &pods, patient()));
    let before = used_memory(&server).await;
    let long = prompt(1, 4096);
    let others: Vec<_> = (10..34).map(|variant| prompt(variant, 4096)).collect();
    side.store("a", &long, 0, 4096);
    others.iter().for_each(|token_ids| side.store("a", token_ids, 0, 4096));
    let begun = Instant::now();
    let writer = write(&server, &side);
    let last = others.last().unwrap();
    let blocks = 25 * 4096;
    while writer.status().blocks_added < blocks || writer.status().pods_listed > 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", writer.status());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    asker.agrees(&side, last, "written").await;
    let bytes = used_memory(&server).await.saturating_sub(before) / blocks;
    println!("writer: {blocks} blocks in {took:?}, {:.0} blocks/s", blocks as f64 / took.as_secs_f64());
    println!("memory: {bytes} bytes a block with one holder");
    assert!(bytes < 400, "{bytes} bytes a block");
    for pod in ["b", "c", "d"] {
        side.store(pod, &long, 0, 4096);
    }
    asker.agrees(&side, &long, "four hold the long one").await;
    let hasty = ReaderOptions { budget: Duration::from_millis(5), ..patient() };
    let hasty = Asker::new(&server, &domain, &pods, hasty);
    while hasty.ask(&long[..200]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut in_time = 0;
    for _ in 0..50 {
        in_time += u32::from(hasty.ask(&long).await.is_ok_and(|told| told.len() == pods.len()));
    }
    println!("4096 blocks within a budget of 5 ms: {in_time} of 50 are answered, in part");
    for count in [0_u32, 64, 512, 4096] {
        let token_ids = if count == 0 { prompt(999, 512) } else { long[..(count * 4 + 1) as usize].to_vec() };
        let hashes = asker.side.hashes(&token_ids);
        let mut times = Vec::new();
        for _ in 0..300 {
            let begun = Instant::now();
            let known = asker.reader.known(domain.fingerprint(), hashes.clone()).await.unwrap();
            times.push(begun.elapsed());
            assert_eq!(known.len(), if count == 0 { 0 } else { pods.len() });
        }
        times.sort_unstable();
        println!("lookup of {count} blocks held by four: p50 {:?}, p99 {:?}", times[150], times[296]);
    }
}
