//! A gateway for a test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kvroute_gateway::config::Document;
use kvroute_gateway::gateway::Gateway;
use kvroute_gateway::outcome::{Observer, RequestOutcome};
use kvroute_gateway::server::{Drained, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Vec<RequestOutcome>>>);

impl Observer for Watch {
    fn finished(&self, outcome: &RequestOutcome) {
        self.0.lock().expect("no test panicked here").push(outcome.clone());
    }

    fn wants_explanations(&self) -> bool {
        true
    }
}

/// A gateway that serves.
pub(crate) struct Running {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    watch: Watch,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Drained>,
}

impl Running {
    /// In front of these pods, with what else its section says, as YAML in one line: `retries: 1, ...`.
    pub(crate) async fn start(urls: &[String], section: &str) -> Self {
        Self::with_document(
            &format!("gateway: {{{section}}}\nfleet: {{pods: [{}]}}\n", quoted(urls)),
            urls.len(),
        )
        .await
    }

    pub(crate) async fn with_document(document: &str, pods: usize) -> Self {
        let document = Document::parse(document).expect("the document is right");
        let watch = Watch::default();
        let gateway = Gateway::start(&document, vec![Box::new(watch.clone())]).expect("it starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(Arc::clone(&gateway), listener, None, stopped));
        let running = Self { gateway, address, watch, stop: Some(stop), task };
        running
            .until("all pods take requests", |running| {
                running.gateway.router().pods().iter().filter(|pod| pod.is_accepting()).count() == pods
            })
            .await;
        running
    }

    /// Tells it to stop; answers how that went.
    pub(crate) async fn stop(mut self) -> Drained {
        self.begin_stop();
        (&mut self.task).await.expect("it does not panic")
    }

    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// What became of the requests so far.
    pub(crate) fn outcomes(&self) -> Vec<RequestOutcome> {
        self.watch.0.lock().expect("no test panicked here").clone()
    }

    /// Waits for `number` of them.
    pub(crate) async fn wait_for_outcomes(&self, number: usize) -> Vec<RequestOutcome> {
        self.until("outcomes", |running| running.outcomes().len() >= number).await;
        let outcomes = self.outcomes();
        assert_eq!(outcomes.len(), number);
        outcomes
    }

    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        until(what, || is_so(self)).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until something is so, five seconds at most.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not within 5 s");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn quoted(urls: &[String]) -> String {
    urls.iter().map(|url| format!("'{url}'")).collect::<Vec<_>>().join(", ")
}
