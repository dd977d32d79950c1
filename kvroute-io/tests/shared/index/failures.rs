//! Redis gone, hung, emptied, full: routing waits for nothing, and what is told is never more than is true for longer
//! than a lease.

use std::time::{Duration, Instant};

use kvroute_core::Tier;
use kvroute_io::shared::index::{ReaderOptions, Unanswered};
use redis::Value;

use super::super::server::Server;
use super::support::{Asker, SOON, Side, domain, patient, prompt, until, write};

const PODS: [&str; 2] = ["a", "b"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn after_a_crash_that_lost_all_it_is_all_told_anew() {
    let mut server = Server::start(&[]);
    let domain = domain("model");
    let (side, asker) = (Side::new(&domain, &PODS), Asker::new(&server, &domain, &PODS, patient()));
    let writer = write(&server, &side);
    let token_ids = prompt(1, 300);
    side.store("a", &token_ids, 0, 300);
    asker.agrees(&side, &token_ids, "stored").await;
    server.kill();
    side.remove("a", &token_ids, 200, 300, Tier::Gpu);
    side.store("b", &token_ids, 0, 100);
    let begun = Instant::now();
    while !matches!(asker.ask(&token_ids).await, Err(Unanswered::Failed(_))) {
        assert!(begun.elapsed() < SOON);
    }
    server.run();
    asker.agrees(&side, &token_ids, "it is back, and empty").await;
    assert!(writer.status().lives >= 4, "{:?}", writer.status());
    assert_eq!(writer.status().error, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn data_that_is_flushed_under_a_living_writer_comes_back() {
    let server = Server::start(&[]);
    let domain = domain("model");
    let (side, asker) = (Side::new(&domain, &PODS), Asker::new(&server, &domain, &PODS, patient()));
    let _writer = write(&server, &side);
    let token_ids = prompt(1, 100);
    side.store("a", &token_ids, 0, 100);
    asker.agrees(&side, &token_ids, "stored").await;
    server.ask(&["FLUSHALL"]).await;
    assert!(asker.ask(&token_ids).await.unwrap().is_empty());
    asker.agrees(&side, &token_ids, "flushed").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_hangs_costs_nobody_more_than_the_budget_and_soon_nothing() {
    let server = Server::start(&[]);
    let domain = domain("model");
    let side = Side::new(&domain, &PODS);
    let budget = Duration::from_millis(20);
    let impatient = ReaderOptions { budget, max_outstanding: 2, ..ReaderOptions::default() };
    let asker = Asker::new(&server, &domain, &PODS, patient());
    let hasty = Asker::new(&server, &domain, &PODS, impatient);
    let writer = write(&server, &side);
    let token_ids = prompt(1, 300);
    side.store("a", &token_ids, 0, 300);
    asker.agrees(&side, &token_ids, "stored").await;

    server.stop();
    let (mut late, mut at_once) = (0, 0);
    let hashes = hasty.side.hashes(&token_ids);
    let begun = Instant::now();
    for _ in 0..200 {
        let asked = Instant::now();
        let answer = hasty.reader.known(domain.fingerprint(), hashes.clone()).await;
        // One that is paused or refused asks nobody; how long it takes is only the scheduler's.
        match answer {
            Ok(known) => panic!("{known:?}"),
            Err(Unanswered::Late) => late += 1,
            Err(_) => at_once += 1,
        }
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    assert!(late >= 2 && at_once > 150, "{late} late, {at_once} at once, in {:?}", begun.elapsed());
    let status = hasty.status();
    assert!(!status.is_answering && status.skipped > 0 && status.outstanding <= 2, "{status:?}");

    side.remove("a", &token_ids, 100, 300, Tier::Gpu);
    until(&writer, "the writer notices", |status| status.failures > 0).await;
    server.resume();
    asker.agrees(&side, &token_ids, "it goes on").await;
    let begun = Instant::now();
    while hasty.ask(&token_ids).await.is_err() {
        assert!(begun.elapsed() < SOON, "{:?}", hasty.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(hasty.status().is_answering);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_full_server_is_told_less_and_never_more() {
    let server = Server::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let domain = domain("model");
    let (side, asker) = (Side::new(&domain, &PODS), Asker::new(&server, &domain, &PODS, patient()));
    let writer = write(&server, &side);
    let small = prompt(900, 50);
    side.store("a", &small, 0, 50);
    asker.agrees(&side, &small, "there is room").await;
    let prompts: Vec<_> = (0..100).map(|variant| prompt(variant, 400)).collect();
    for token_ids in &prompts {
        side.store("a", token_ids, 0, 400);
    }
    until(&writer, "refused", |status| status.blocks_refused > 0).await;
    // Removals work all the while.
    side.remove("a", &small, 20, 50, Tier::Gpu);
    asker.agrees(&side, &small, "removed").await;
    for token_ids in &prompts {
        let (told, own) = (asker.ask(token_ids).await.unwrap(), side.answers(token_ids));
        let blocks = |answers: &super::support::Answers| answers.get("a").map_or(0, |tiers| tiers[0].1);
        assert!(blocks(&told) <= blocks(&own), "{told:?}, {own:?}");
    }
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    for token_ids in &prompts {
        asker.agrees(&side, token_ids, "there is room again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_evicts_makes_answers_shorter_and_they_heal() {
    let server = Server::start(&["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random"]);
    let domain = domain("model");
    let (side, asker) = (Side::new(&domain, &PODS), Asker::new(&server, &domain, &PODS, patient()));
    let _writer = write(&server, &side);
    let prompts: Vec<_> = (0..60).map(|variant| prompt(variant, 400)).collect();
    for token_ids in &prompts {
        side.store("a", token_ids, 0, 400);
    }
    let until = Instant::now() + SOON;
    while evicted(&server).await == 0 {
        assert!(Instant::now() < until, "something is evicted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for token_ids in &prompts {
        let told = asker.ask(token_ids).await.unwrap();
        assert!(told.values().all(|tiers| tiers[0].1 <= 400));
    }
}

async fn evicted(server: &Server) -> u64 {
    let Value::BulkString(info) = server.ask(&["INFO", "stats"]).await else { return 0 };
    let info = String::from_utf8(info).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap();
    line.parse().unwrap()
}
