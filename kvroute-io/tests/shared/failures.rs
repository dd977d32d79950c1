//! What becomes of routing when the server dies, hangs, is full, or is another one: nothing. And what is shared heals.

use std::net::TcpListener;
use std::time::Duration;

use kvroute_io::fleet::Clock;
use kvroute_io::shared::{SharedState, SharedTrust};

use super::members::{Member, agree, config, router, until, until_shared};
use super::proxy::Proxy;
use super::server::Server;

/// Requests come and end at both for a time; a few stay.
async fn traffic(members: [&mut Member; 2], rounds: u32) {
    for member in members {
        for n in 0..rounds {
            let ticket = member.dispatch(n, Some("one"));
            if n % 10 != 0 {
                member.finish(ticket);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn heals(a: &Member, b: &Member) {
    until_shared(&[a, b]).await;
    until("both agree", || agree(&[a, b])).await;
    assert!(a.requests_of_peers() > 0, "there is something to agree on");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_is_killed_and_comes_back_empty_is_missed_by_nobody() {
    let mut server = Server::start(&[]);
    let config = config(&server.url());
    let (mut a, mut b) = (Member::join(&config), Member::join(&config));
    until_shared(&[&a, &b]).await;
    traffic([&mut a, &mut b], 20).await;
    server.kill();
    traffic([&mut a, &mut b], 50).await;
    until("it is said", || a.trust() == SharedTrust::Local && b.trust() == SharedTrust::Local).await;
    until("others are forgotten", || a.requests_of_peers() == 0 && b.requests_of_peers() == 0).await;
    server.run();
    traffic([&mut a, &mut b], 20).await;
    heals(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_hangs_holds_up_nobody() {
    let server = Server::start(&[]);
    let config = config(&server.url());
    let (mut a, mut b) = (Member::join(&config), Member::join(&config));
    until_shared(&[&a, &b]).await;
    server.stop();
    traffic([&mut a, &mut b], 150).await;
    until("it is said", || a.trust() == SharedTrust::Local).await;
    server.resume();
    heals(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_without_memory_refuses_what_is_told_and_is_told_all_of_it_later() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let config = config(&server.url());
    let (mut a, mut b) = (Member::join(&config), Member::join(&config));
    until_shared(&[&a, &b]).await;
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    traffic([&mut a, &mut b], 30).await;
    until("it is said", || {
        let status = a.shared.status();
        status.trust == SharedTrust::Degraded && status.refused.is_some_and(|why| why.contains("OOM"))
    })
    .await;
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    heals(&a, &b).await;
    assert_eq!(a.shared.status().refused, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn when_another_server_becomes_the_primary_all_go_there() {
    let (first, second) = (Server::start(&[]), Server::start(&[]));
    let follow = |server: &Server| server.port.to_string();
    second.ask(&["REPLICAOF", "127.0.0.1", &follow(&first)]).await;
    let mut config = config(&first.url());
    config.urls.push(second.url());
    let (mut a, mut b) = (Member::join(&config), Member::join(&config));
    until_shared(&[&a, &b]).await;
    traffic([&mut a, &mut b], 20).await;
    second.ask(&["REPLICAOF", "NO", "ONE"]).await;
    first.ask(&["REPLICAOF", "127.0.0.1", &follow(&second)]).await;
    traffic([&mut a, &mut b], 50).await;
    let there = second.port.to_string();
    until("both write there", || {
        [&a, &b].iter().all(|member| member.shared.status().writer.server.ends_with(&there))
    })
    .await;
    // What is read from a replica is right, and as old as the replica: the reader may stay.
    heals(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_slow_way_to_the_server_makes_what_is_known_old_and_nothing_else() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(server.port).await;
    let config = config(&format!("redis://127.0.0.1:{}", proxy.port));
    let (mut a, mut b) = (Member::join(&config), Member::join(&config));
    until_shared(&[&a, &b]).await;
    proxy.delay(Duration::from_millis(150));
    traffic([&mut a, &mut b], 50).await;
    until("the lag is said", || a.shared.status().lag >= Some(Duration::from_millis(150))).await;
    heals(&a, &b).await;
    // Slower than any answer is waited for.
    proxy.delay(Duration::from_millis(1500));
    traffic([&mut a, &mut b], 50).await;
    until("it is said", || a.trust() == SharedTrust::Local).await;
    proxy.delay(Duration::ZERO);
    heals(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_server_that_was_not_there_at_the_start_is_found_when_it_comes() {
    let mut server = Server::start(&[]);
    server.kill();
    let config = config(&server.url());
    let (mut a, mut b) = (Member::join(&config), Member::join(&config));
    traffic([&mut a, &mut b], 20).await;
    assert_eq!(a.trust(), SharedTrust::Local);
    until("an error says why", || a.shared.status().writer.error.is_some()).await;
    server.run();
    heals(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_password_and_a_database_come_from_the_url_and_a_wrong_one_is_said() {
    let server = Server::start(&["--requirepass", "secret"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/3", server.port);
    let (a, b) = (Member::join(&config(&url("secret"))), Member::join(&config(&url("secret"))));
    until_shared(&[&a, &b]).await;
    let wrong = Member::join(&config(&url("wrong")));
    until("it is said", || {
        let error = wrong.shared.status().writer.error.unwrap_or_default();
        assert!(!error.contains("secret"));
        error.to_lowercase().contains("password") || error.contains("uthentication")
    })
    .await;
    assert_eq!(wrong.trust(), SharedTrust::Local);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn over_tls_the_server_is_checked_against_the_certificates_that_were_named() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shared/tls");
    let file = |name: &str| format!("{folder}/{name}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = Server::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let mut config = config(&format!("rediss://127.0.0.1:{port}"));
    let stranger = Member::join(&config);
    config.ca_file = Some(file("ca.pem").into());
    let (a, b) = (Member::join(&config), Member::join(&config));
    until_shared(&[&a, &b]).await;
    until("who does not know the CA is told", || {
        stranger.shared.status().writer.error.is_some_and(|error| error.contains("certificate"))
    })
    .await;
    config.ca_file = Some(file("nothing.pem").into());
    let error = SharedState::start(router(), Clock::new(), &config).unwrap_err().to_string();
    assert!(error.contains("nothing.pem"), "{error}");
}
