//! Keeps the pods that are followed those that the sources name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Clock;
use super::config::FleetConfig;
use super::member::Shared;
use super::pod::{Plan, Wanted, follow};
use super::record::Record;
use crate::http::{Bounds, HttpClient, Lines};
use crate::load::Scraper;
use crate::pods::source::Sources;
use crate::pods::{PodConfig, SourceStatus};

/// What is seen from outside.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) sources: Vec<SourceStatus>,
    pub(super) records: BTreeMap<String, Arc<Mutex<Record>>>,
}

/// A pod that is followed.
#[derive(Debug)]
struct Followed {
    wanted: watch::Sender<Wanted>,
    record: Arc<Mutex<Record>>,
    task: Id,
}

/// How often requests are expired.
const EXPIRE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Reconciler {
    shared: Arc<Shared>,
    clock: Clock,
    config: Arc<FleetConfig>,
    client: HttpClient,
    scraper: Scraper,
    learners: Arc<Lines>,
    sources: Sources,
    pods: BTreeMap<String, Followed>,
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Seen>>,
}

impl Reconciler {
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        config: Arc<FleetConfig>,
        seen: Arc<Mutex<Seen>>,
    ) -> Self {
        let client = HttpClient::new();
        let (scraper, learners) = bounded(&client, &config);
        let (sources, pods, tasks) = (Sources::default(), BTreeMap::new(), JoinSet::new());
        Self { shared, clock, config, client, scraper, learners, sources, pods, tasks, seen }
    }

    /// Runs until nobody holds the other end of `configs`; then all pods leave.
    pub(super) async fn run(mut self, mut configs: watch::Receiver<Arc<FleetConfig>>) {
        let mut expire = interval(EXPIRE);
        expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.configure(Arc::clone(&self.config));
        let (mut next_file, mut next_dns) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                biased;
                changed = configs.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let config = Arc::clone(&configs.borrow_and_update());
                    self.configure(config);
                    (next_file, next_dns) = (Instant::now(), Instant::now());
                    continue;
                }
                _ = expire.tick() => {
                    self.shared.router.expire(self.clock.now());
                    continue;
                }
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.note_end(ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                () = sleep_until(next_file) => {
                    let router = &self.shared.router;
                    self.sources.read_file(|name| router.domain(name).is_some()).await;
                    let every = self.config.file.as_ref().map_or(u64::from(u32::MAX), |file| file.interval_ms);
                    next_file = Instant::now() + Duration::from_millis(every);
                    if self.sources.has_new_names() {
                        next_dns = Instant::now();
                    }
                }
                () = self.sources.kubernetes_changes() => {}
                () = sleep_until(next_dns) => {
                    self.sources.resolve(self.config.dns.max as usize).await;
                    next_dns = Instant::now() + Duration::from_millis(self.config.dns.interval_ms);
                }
            }
            self.reconcile();
        }
        // With their senders gone the tasks end by themselves, each taking its pod along.
        self.pods.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    fn configure(&mut self, config: Arc<FleetConfig>) {
        (self.scraper, self.learners) = bounded(&self.client, &config);
        let file = config.file.as_ref().map(|file| file.path.clone());
        self.sources.configure(config.pods.clone(), file, config.kubernetes.as_ref());
        self.config = config;
    }

    /// Follows the pods that are named, and lets the others go.
    fn reconcile(&mut self) {
        let named = self.sources.pods();
        for (name, followed) in &self.pods {
            if !named.contains_key(name) {
                let drain = Duration::from_millis(self.config.drain_ms);
                followed.wanted.send_if_modified(|wanted| {
                    let is_new = matches!(wanted, Wanted::Stay(_));
                    *wanted = Wanted::Leave(drain);
                    is_new
                });
            }
        }
        for (name, pod) in named {
            let plan = Arc::new(self.plan(pod));
            match self.pods.get(&name) {
                Some(followed) => {
                    followed.wanted.send_if_modified(|wanted| {
                        let is_new = !matches!(wanted, Wanted::Stay(before) if before.is_like(&plan));
                        if is_new {
                            *wanted = Wanted::Stay(Arc::clone(&plan));
                        }
                        is_new
                    });
                }
                None => self.follow(name, plan),
            }
        }
        self.show();
    }

    fn plan(&self, pod: PodConfig) -> Plan {
        let known = pod.known.or(&self.config.known);
        Plan {
            pod: PodConfig { known, ..pod },
            learn: self.config.learn.clone(),
            scrape: self.config.scrape.clone(),
            client: self.client.clone(),
            scraper: self.scraper.clone(),
            learners: Arc::clone(&self.learners),
        }
    }

    fn follow(&mut self, name: String, plan: Arc<Plan>) {
        let record = Arc::new(Mutex::new(Record::new(plan.pod.url.clone())));
        let (wanted, receiver) = watch::channel(Wanted::Stay(Arc::clone(&plan)));
        let task =
            self.tasks.spawn(follow(Arc::clone(&self.shared), receiver, plan, Arc::clone(&record))).id();
        self.pods.insert(name, Followed { wanted, record, task });
    }

    /// A pod's task ended: it left. One that is named again meanwhile is followed anew by what comes next.
    fn note_end(&mut self, task: Id) {
        self.pods.retain(|_, followed| followed.task != task);
    }

    fn show(&self) {
        let records = self.pods.iter().map(|(name, followed)| (name.clone(), Arc::clone(&followed.record)));
        *self.seen.lock() = Seen { sources: self.sources.status(), records: records.collect() };
    }
}

/// What bounds how many pods are asked at one time.
fn bounded(client: &HttpClient, config: &FleetConfig) -> (Scraper, Arc<Lines>) {
    let bounds = Bounds {
        timeout: Duration::from_millis(config.scrape.timeout_ms),
        max_bytes: usize::try_from(config.scrape.max_bytes).unwrap_or(usize::MAX),
    };
    let concurrency = config.scrape.concurrency as usize;
    (Scraper::with_client(client.clone(), bounds, concurrency), Arc::new(Lines::new(concurrency)))
}
