//! What routers learn of each other.

use std::time::{Duration, Instant};

use super::members::{Member, agree, config, until, until_shared};
use super::server::Server;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_one_books_the_others_see_until_it_is_finished() {
    let server = Server::start(&[]);
    let config = config(&server.url());
    let mut members: Vec<_> = (0..3).map(|_| Member::join(&config)).collect();
    until_shared(&members.iter().collect::<Vec<_>>()).await;
    let mut open = Vec::new();
    for (at, member) in members.iter_mut().enumerate() {
        open.push((0..20).map(|n| member.dispatch(at as u32 * 100 + n, Some("one"))).collect::<Vec<_>>());
    }
    let all: Vec<_> = members.iter().collect();
    until("each sees forty", || all.iter().all(|member| member.requests_of_peers() == 40)).await;
    until("to the token", || agree(&all)).await;
    for (member, tickets) in members.iter().zip(&open) {
        tickets.iter().for_each(|&ticket| assert!(member.router.first_token(ticket)));
        tickets.iter().for_each(|&ticket| member.finish(ticket));
    }
    until("nothing is left", || all.iter().all(|member| member.requests_of_peers() == 0)).await;
    assert!(agree(&all));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn one_that_leaves_is_forgotten_at_once_and_one_that_dies_after_its_silence() {
    let server = Server::start(&[]);
    let mut config = config(&server.url());
    config.reports.silence_ms = 3000;
    let (watcher, mut leaves, mut dies) =
        (Member::join(&config), Member::join(&config), Member::join(&config));
    until_shared(&[&watcher, &leaves, &dies]).await;
    leaves.dispatch(1, None);
    dies.dispatch(2, None);
    until("both are seen", || watcher.requests_of_peers() == 2).await;
    leaves.shared.leave().await;
    until("it left", || watcher.requests_of_peers() == 1).await;
    let begun = Instant::now();
    drop(dies);
    until("it is forgotten", || watcher.requests_of_peers() == 0).await;
    assert!(begun.elapsed() > Duration::from_secs(1), "heartbeats come once a second");
    assert_eq!(watcher.shared.status().peers.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn one_that_joins_late_knows_what_is_in_flight_and_the_stream_stays_bounded() {
    let server = Server::start(&[]);
    let mut config = config(&server.url());
    config.reports.max_reports = 64;
    let mut first = Member::join(&config);
    until("it is connected", || first.shared.status().writer.is_connected).await;
    let kept: Vec<_> = (0..30).map(|n| first.dispatch(n, None)).collect();
    for n in 0..300 {
        let ticket = first.dispatch(1000 + n, None);
        first.finish(ticket);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let length: u64 = redis::from_redis_value(server.ask(&["XLEN", "{kvroute}:peers"]).await).unwrap();
    // Redis drops whole nodes of 100 entries.
    assert!(length <= 200, "{length} reports are kept");
    let late = Member::join(&config);
    until("it knows all of it", || late.requests_of_peers() == 30).await;
    until_shared(&[&first, &late]).await;
    assert!(agree(&[&first, &late]));
    kept.iter().for_each(|&ticket| first.finish(ticket));
    until("and its end", || late.requests_of_peers() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_is_known_of_others_is_a_few_milliseconds_old() {
    let server = Server::start(&[]);
    let config = config(&server.url());
    let (mut from, to) = (Member::join(&config), Member::join(&config));
    until_shared(&[&from, &to]).await;
    let mut ages = Vec::new();
    for n in 0..200 {
        let begun = Instant::now();
        let ticket = from.dispatch(n, None);
        while to.requests_of_peers() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        ages.push(begun.elapsed());
        from.finish(ticket);
        until("its end", || to.requests_of_peers() == 0).await;
    }
    ages.sort();
    let at = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize];
    println!("staleness between two routers: p50 {:?}, p99 {:?}", at(0.5), at(0.99));
    assert!(at(0.5) < Duration::from_millis(500), "{:?}", at(0.5));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn routers_with_another_prefix_share_nothing_and_strange_entries_do_no_harm() {
    let server = Server::start(&[]);
    let ours = config(&server.url());
    let mut theirs = ours.clone();
    theirs.prefix = "another".to_owned();
    let (a, mut b, mut c) = (Member::join(&ours), Member::join(&ours), Member::join(&theirs));
    until_shared(&[&a, &b]).await;
    server.ask(&["XADD", "{kvroute}:peers", "*", "report", "no report"]).await;
    server.ask(&["XADD", "{kvroute}:peers", "*", "other", "field"]).await;
    until("both are counted", || a.shared.status().reports.unreadable == 2).await;
    c.dispatch(1, None);
    let ticket = b.dispatch(2, None);
    until("one of ours", || a.requests_of_peers() == 1).await;
    b.finish(ticket);
    until("and no other", || a.requests_of_peers() == 0).await;
}
