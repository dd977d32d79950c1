//! A picker for a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kvroute_core::config::read;
use kvroute_epp::Picker;
use kvroute_epp::config::Document;
use kvroute_epp::server::{Listeners, serve, tls};
use kvroute_gateway::outcome::{Observer, RequestOutcome};
use kvroute_gateway::server::Drained;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::envoy::Talk;
use crate::pod::{Pod, completion};

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Vec<RequestOutcome>>>);

impl Observer for Watch {
    fn finished(&self, outcome: &RequestOutcome) {
        self.0.lock().expect("no test panicked here").push(outcome.clone());
    }
}

/// A picker that serves.
pub(crate) struct Running {
    pub(crate) picker: Arc<Picker>,
    pub(crate) address: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) watched: SocketAddr,
    watch: Watch,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Drained, kvroute_core::Error>>,
}

impl Running {
    /// In front of these pods, with other sections, as YAML.
    pub(crate) async fn start(pods: &[&Pod], sections: &str) -> Self {
        let urls: Vec<_> = pods.iter().map(|pod| format!("'{}'", pod.url())).collect();
        Self::with_document(&format!("fleet: {{pods: [{}]}}\n{sections}", urls.join(", ")), pods.len()).await
    }

    pub(crate) async fn with_document(document: &str, pods: usize) -> Self {
        let document: Document = read(document).expect("the document is right");
        let watch = Watch::default();
        let picker = Picker::start(&document, vec![Box::new(watch.clone())]).expect("it starts");
        let bind = async || TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let (requests, health, watching) = (bind().await, bind().await, bind().await);
        let of = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let (address, health_at, watched) = (of(&requests), of(&health), of(&watching));
        let listeners = Listeners { requests, health: Some(health), watch: Some(watching) };
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let with_tls = document.epp.tls.as_ref().map(|config| tls(config).expect("they can be read"));
        let task = tokio::spawn(serve(Arc::clone(&picker), listeners, with_tls, stopped));
        let running = Self { picker, address, health: health_at, watched, watch, stop: Some(stop), task };
        let router = running.picker.gateway().router();
        until("all pods take requests", || {
            router.pods().iter().filter(|pod| pod.is_accepting()).count() == pods
        })
        .await;
        running
    }

    pub(crate) async fn talk(&self) -> Talk {
        Talk::open(self.address).await
    }

    /// Tells it to stop; answers how that went.
    pub(crate) async fn stop(mut self) -> Drained {
        self.begin_stop();
        (&mut self.task).await.expect("it does not panic").expect("it serves to the end")
    }

    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits for the outcomes of so many requests, after which nothing may be booked.
    pub(crate) async fn outcomes(&self, number: usize) -> Vec<RequestOutcome> {
        let seen = || self.watch.0.lock().expect("no test panicked here").clone();
        until("outcomes", || seen().len() >= number).await;
        assert_eq!(seen().len(), number);
        self.nothing_is_booked();
        seen()
    }

    pub(crate) fn nothing_is_booked(&self) {
        let gateway = self.picker.gateway();
        assert_eq!(gateway.router().counters().in_flight, 0);
        for pod in gateway.router().pods() {
            let booked = pod.bookings();
            assert_eq!((booked.requests, booked.prefill_tokens), (0, 0), "{}", pod.name());
        }
        assert_eq!(gateway.buffered_bytes(), 0);
    }

    /// Requests booked on a pod.
    pub(crate) fn booked(&self, pod: &Pod) -> u32 {
        let pod = self.picker.gateway().router().pod(&pod.name(), 0).expect("it is there");
        pod.bookings().requests
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn pod() -> Pod {
    Pod::answering(completion(0)).await
}

/// A completion's request of so many token ids, from this one on.
pub(crate) fn prompt(first: u32, tokens: u32) -> String {
    let token_ids: Vec<String> = (first..first + tokens).map(|id| id.to_string()).collect();
    format!(r#"{{"model":"m","prompt":[{}]}}"#, token_ids.join(","))
}

/// A completion's answer, of which so many tokens were cached.
pub(crate) fn answer(cached: usize) -> String {
    format!(
        r#"{{"choices":[{{"text":"x"}}],"usage":{{"prompt_tokens":400,"completion_tokens":1,"prompt_tokens_details":{{"cached_tokens":{cached}}}}}}}"#
    )
}

/// A folder of its own, gone with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kvroute-epp-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
