//! Fleets on a runtime of their own: started, changed and stopped from threads that have none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::config::Preset;
use kvroute_core::{Error, ErrorKind};
use kvroute_io::fleet::{FleetDocument, StandaloneFleet, StandaloneOptions};

use super::support::*;

fn document(pods: &[&FakePod]) -> FleetDocument {
    FleetDocument { fleet: config(pods), ..FleetDocument::default() }
}

fn start(document: &FleetDocument) -> Result<StandaloneFleet, Error> {
    StandaloneFleet::start(document, &StandaloneOptions::default())
}

/// Stops it on a thread that may wait; answers how long that took.
async fn stopped(fleet: StandaloneFleet) -> Duration {
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || drop(fleet)).await.unwrap();
    begun.elapsed()
}

#[tokio::test]
async fn its_pods_leave_the_router_when_it_is_dropped() {
    let fake = FakePod::vllm().await;
    let fleet = start(&document(&[&fake])).unwrap();
    let router = Arc::clone(fleet.router());
    until("the pod is there", || router.pod(&fake.name(), 0)).await;
    assert!(decide(&fleet, 1).is_ok());
    stopped(fleet).await;
    assert!(router.pods().is_empty());
}

#[tokio::test]
async fn pods_that_hang_do_not_keep_it_from_stopping() {
    let fake = FakePod::silent().await;
    fake.answer("/v1/models", Reply::Hang);
    let mut slow = document(&[&fake]);
    slow.fleet.learn.timeout_ms = 60_000;
    let fleet = start(&slow).unwrap();
    until("it is asked", || (fake.asked("/v1/models") > 0).then_some(())).await;
    let took = stopped(fleet).await;
    assert!(took < StandaloneFleet::STOP, "{took:?}");
}

#[tokio::test]
async fn another_document_is_taken_whole_or_not_at_all() {
    let (stays, comes) = (FakePod::vllm().await, FakePod::vllm().await);
    let fleet = start(&document(&[&stays])).unwrap();
    let router = Arc::clone(fleet.router());
    until("the pod is there", || router.pod(&stays.name(), 0)).await;
    let explanation = |fleet: &StandaloneFleet| {
        let mut workspace = kvroute_core::Workspace::default();
        let (prompt, context) = ([1, 2, 3], kvroute_core::HashContext::default());
        let request = kvroute_core::Request::new(&prompt, &context);
        fleet.router().decide(&request, fleet.clock().now(), &mut workspace).unwrap();
        fleet.router().explain(&workspace).to_string()
    };
    let before = explanation(&fleet);

    let mut wrong = document(&[&stays, &comes]);
    wrong.router.policy.preset = Preset::LlmDDemo;
    wrong.fleet.scrape.interval_ms = 0;
    assert_eq!(fleet.reconfigure(&wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((router.pods().len(), explanation(&fleet)), (1, before.clone()));

    let mut right = document(&[&stays, &comes]);
    right.router.policy.preset = Preset::LlmDDemo;
    fleet.reconfigure(&right).unwrap();
    until("the other is there", || router.pod(&comes.name(), 0)).await;
    let after = explanation(&fleet);
    assert!(before.contains("cost") && !after.contains("cost"), "{before}\n{after}");
    stopped(fleet).await;
}

#[tokio::test]
async fn it_may_be_dropped_inside_another_runtime() {
    let fake = FakePod::vllm().await;
    let fleet = start(&document(&[&fake])).unwrap();
    let router = Arc::clone(fleet.router());
    until("the pod is there", || router.pod(&fake.name(), 0)).await;
    drop(fleet);
    assert!(router.pods().is_empty());
}

#[test]
fn threads_have_bounds() {
    for threads in [0, 257] {
        let mut options = StandaloneOptions::default();
        options.threads = threads;
        let refused = StandaloneFleet::start(&FleetDocument::default(), &options).unwrap_err();
        assert_eq!(refused.to_string(), format!("threads: found `{threads}`, expected 1 to 256"));
    }
}
