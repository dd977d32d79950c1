//! Routers that start from what another one stored.

use std::time::Duration;

use kvroute_core::{HashContext, Request, Workspace};
use kvroute_io::shared::config::SnapshotsConfig;
use kvroute_io::shared::{SharedConfig, SharedState};

use super::members::{Member, config, router, until, until_shared};
use super::server::Server;

fn with_snapshots(server: &Server) -> SharedConfig {
    let snapshots = SnapshotsConfig { interval_ms: 300, ..SnapshotsConfig::default() };
    SharedConfig { snapshots: Some(snapshots), ..config(&server.url()) }
}

/// Leading blocks predicted for some pod.
fn known(router: &kvroute_core::Router, seed: u32) -> u32 {
    let token_ids: Vec<u32> = (0..200).map(|at| seed * 1000 + at).collect();
    let (context, mut workspace) = (HashContext::default(), Workspace::default());
    router.decide(&Request::new(&token_ids, &context), Duration::ZERO, &mut workspace).unwrap();
    router.explain(&workspace).pods.iter().map(|pod| pod.predicted_blocks).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn one_of_them_stores_and_whoever_starts_begins_with_it() {
    let server = Server::start(&[]);
    let config = with_snapshots(&server);
    let (mut a, b) = (Member::join(&config), Member::join(&config));
    assert!(a.shared.load_snapshot(Duration::from_secs(20)).await.unwrap().is_none(), "nobody stored any");
    until_shared(&[&a, &b]).await;
    let ticket = a.dispatch(7, Some("conversation"));
    a.finish(ticket);
    until("the other one knows", || known(&b.router, 7) == 12).await;
    a.shared.store_snapshots();
    b.shared.store_snapshots();
    let stored = |member: &Member| member.shared.status().snapshots.stored;
    until("some are stored", || stored(&a) + stored(&b) >= 3).await;
    let (others, stored) = [&a, &b].iter().fold((0, 0), |(others, stored), member| {
        let counters = member.shared.status().snapshots;
        (others + counters.others_turn, stored + counters.stored)
    });
    assert!(others > 0 && stored > 0, "{stored} stored, {others} left to the other one");

    // Without peers, so that what it knows comes from the snapshot.
    let config = SharedConfig { peers: false, ..config };
    let (late, clock) = (router(), kvroute_io::fleet::Clock::new());
    let shared = SharedState::start(late.clone(), clock, &config).unwrap();
    assert_eq!(known(&late, 7), 0);
    let report = shared.load_snapshot(Duration::from_secs(20)).await.unwrap().unwrap();
    assert_eq!((known(&late, 7), report.sessions), (12, 1));
    assert_eq!(report.pods.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_snapshot_that_is_damaged_or_half_gone_changes_nothing_and_is_said() {
    let server = Server::start(&[]);
    let config = with_snapshots(&server);
    let mut a = Member::join(&config);
    let ticket = a.dispatch(7, None);
    a.finish(ticket);
    a.shared.store_snapshots();
    until("one is stored", || a.shared.status().snapshots.stored > 0).await;
    drop(a);
    // What it had sent by then may still be carried out.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = |value| redis::from_redis_value::<String>(value).unwrap();
    let newest = text(server.ask(&["GET", "{kvroute}:snapshot:newest"]).await);
    let number = newest.split(' ').next().unwrap();
    let key = format!("{{kvroute}}:snapshot:{number}:0");
    server.ask(&["SETRANGE", &key, "40", "damage"]).await;
    let start = || {
        let router = router();
        let shared = SharedState::start(router.clone(), kvroute_io::fleet::Clock::new(), &config).unwrap();
        (router, shared)
    };
    let (router, shared) = start();
    let error = shared.load_snapshot(Duration::from_secs(20)).await.unwrap_err().to_string();
    assert!(error.contains("snapshot"), "{error}");
    assert_eq!(known(&router, 7), 0);
    server.ask(&["DEL", &key]).await;
    let (_, shared) = start();
    let error = shared.load_snapshot(Duration::from_secs(20)).await.unwrap_err().to_string();
    assert!(error.contains("chunk 0 of 1 is gone"), "{error}");
}
