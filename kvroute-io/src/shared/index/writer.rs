//! Writes what a router's pods hold into the shared index.
//!
//! One task asks the pods' journals what changed and writes it in their order, over one connection. For each pod:
//!
//! ```text
//! waiting -> (lease taken, life begun) -> listing -> following -> (cleared, list again, lost touch) -> waiting
//! ```
//!
//! Where an answer is missing, what Redis has is not known, so the pod's life ends there and then: it begins another
//! and lists all. The exception is a server without memory: removals work there, so what it has is true and only short.

mod pod;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::config::Problem;
use kvroute_core::{PodId, Router};
use parking_lot::Mutex;
use redis::Pipeline;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::pod::{Phase, WrittenPod};
use super::IndexOptions;
use super::command;
use super::keys::{Keys, Life, Named};
use super::status::WriterStatus;
use crate::shared::connection::{Connection, ConnectionError};

/// How often it is looked which pods there are.
const ROSTER: Duration = Duration::from_millis(250);

/// Blocks in a pipeline; two commands each at most.
const PIPELINE: usize = 512;

/// How long a pod is left alone of which something failed.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// How often a block is confirmed within its time to live.
const CONFIRMATIONS: u32 = 3;

/// Writes of the pods of a router, until it is dropped or stopped.
#[derive(Debug)]
pub struct IndexWriter {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    status: Arc<Mutex<WriterStatus>>,
}

impl IndexWriter {
    /// Starts to write of all pods of a router that no other writer writes of; to be called inside a tokio runtime. It turns
    /// on their journals ([`BlockIndex::journal_held`](kvroute_core::index::BlockIndex::journal_held)), which are then its.
    ///
    /// # Errors
    ///
    /// What is wrong with the options.
    pub fn start(
        connection: Connection,
        router: Arc<Router>,
        options: IndexOptions,
    ) -> Result<Self, Problem> {
        options.checked()?;
        let (stop, stopped) = watch::channel(false);
        let status = Arc::<Mutex<WriterStatus>>::default();
        let writer = Writer {
            keys: Keys::new(&options.name),
            owner: format!("{:013x}", Life::draw().0),
            connection,
            router,
            options,
            pods: HashMap::new(),
            server: Server::default(),
            looked_at: None,
            confirming: None,
            tally: WriterStatus::default(),
            status: Arc::clone(&status),
            pipeline: Pipeline::new(),
            pending: 0,
            room: 0,
        };
        let task = tokio::spawn(writer.run(stopped));
        Ok(Self { stop, task, status })
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> WriterStatus {
        self.status.lock().clone()
    }

    /// Stops, and leaves its pods to others at once. Without it they have to wait for the lease to run out.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for IndexWriter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The server that was written to.
#[derive(Debug, Default)]
struct Server {
    /// Number of the connection.
    connection: u64,
    /// Which process it is (`run_id`).
    run: String,
}

/// Pods that are listed at one time. More would keep each other from keeping up their leases.
const LISTED: usize = 16;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) router: Arc<Router>,
    pub(super) keys: Keys,
    pub(super) owner: String,
    pub(super) options: IndexOptions,
    pods: HashMap<PodId, WrittenPod>,
    server: Server,
    looked_at: Option<Instant>,
    /// The pod whose blocks are confirmed now: one at a time, so that confirmations are spread.
    confirming: Option<PodId>,
    pub(super) tally: WriterStatus,
    status: Arc<Mutex<WriterStatus>>,
    pub(super) pipeline: Pipeline,
    /// Blocks in it.
    pub(super) pending: usize,
    /// Pods that may begin to be listed.
    pub(super) room: usize,
}

impl Writer {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let number = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                number = self.connection.ready() => number,
            };
            let is_busy = self.meet(number).await && self.step().await;
            self.report();
            if !is_busy {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => break,
                    () = tokio::time::sleep(self.options.interval) => {}
                }
            }
        }
        let pods = std::mem::take(&mut self.pods);
        for pod in pods.values() {
            self.release(pod).await;
        }
        self.report();
    }

    /// Finds out whether the connection leads to the server that was written to. Another, or one that was restarted, may
    /// have lost anything, or have something back that was taken out: then all is told anew. Answers whether it is known.
    async fn meet(&mut self, number: u64) -> bool {
        if number == self.server.connection {
            return true;
        }
        let info = match self.connection.command(redis::cmd("INFO").arg("server")).await {
            Ok(info) => info,
            Err(error) => {
                self.fail(&error);
                return false;
            }
        };
        let lines = command::text(&info).unwrap_or_default().lines();
        let run = lines.filter_map(|line| line.strip_prefix("run_id:")).next().unwrap_or_default().to_owned();
        if run.is_empty() || run != self.server.run {
            self.pods.values_mut().for_each(|pod| pod.lose(Duration::ZERO));
        }
        self.server = Server { connection: number, run };
        self.pods.values_mut().for_each(WrittenPod::keep_now);
        true
    }

    /// Keeps up the leases that are due.
    async fn keep_leases(&mut self) {
        let (every, kept) = (self.options.lease / 3, Instant::now());
        let due = self.pods.values().filter(|pod| pod.is_to_keep(every));
        let due: Vec<_> = due.filter_map(|pod| Some((pod.id, pod.life()?))).collect();
        for due in due.chunks(PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(due.len());
            for &(id, life) in due {
                let Some(pod) = self.pods.get(&id) else { continue };
                let keep = command::keep(&self.keys, &pod.named, &self.owner, life, self.options.lease);
                pipeline.add_command(keep);
            }
            let answers = match self.connection.pipeline(&pipeline).await {
                Ok(answers) => answers,
                Err(error) => {
                    self.fail(&error);
                    Vec::new()
                }
            };
            for (at, (id, _)) in due.iter().enumerate() {
                let Some(pod) = self.pods.get_mut(id) else { continue };
                match answers.get(at) {
                    Some(answer) if command::did(answer) => pod.was_kept(kept),
                    Some(_) => {
                        self.tally.leases_lost += 1;
                        pod.lose(Duration::ZERO);
                    }
                    None => pod.lose(AFTER_FAILURE),
                }
            }
        }
    }

    /// Looks at every pod once; answers whether there is more to do at once.
    async fn step(&mut self) -> bool {
        self.look_for_pods().await;
        self.keep_leases().await;
        let ids: Vec<_> = self.pods.keys().copied().collect();
        let mut is_busy = false;
        self.room = LISTED.saturating_sub(self.pods.values().filter(|pod| pod.is_listing()).count());
        for id in ids {
            let Some(mut pod) = self.pods.remove(&id) else { continue };
            let result = self.advance(&mut pod).await;
            match result {
                Ok(more) => is_busy |= more,
                Err(error) => self.lose(&mut pod, &error),
            }
            self.pods.insert(id, pod);
        }
        self.confirm_next();
        is_busy
    }

    /// Which pods there are.
    async fn look_for_pods(&mut self) {
        if self.looked_at.is_some_and(|at| at.elapsed() < ROSTER) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let there = self.router.pods();
        let gone: Vec<_> =
            self.pods.keys().filter(|id| there.iter().all(|pod| pod.id() != **id)).copied().collect();
        for id in gone {
            if let Some(pod) = self.pods.remove(&id) {
                self.release(&pod).await;
            }
        }
        for pod in there {
            self.pods.entry(pod.id()).or_insert_with(|| {
                let domain = pod.domain().fingerprint();
                let named = Named { domain, rank: pod.dp_rank(), name: pod.name().to_owned() };
                WrittenPod::new(pod.id(), named)
            });
        }
    }

    /// Lets the next pod be confirmed, if one is due and no other is at it.
    fn confirm_next(&mut self) {
        if let Some(pod) = self.confirming.and_then(|id| self.pods.get(&id))
            && pod.is_confirming()
        {
            return;
        }
        let every = self.options.ttl / CONFIRMATIONS;
        let due = self.pods.values_mut().filter(|pod| pod.is_due(every)).min_by_key(|pod| pod.confirmed);
        self.confirming = due.map(|pod| {
            pod.begin_confirming();
            pod.id
        });
    }

    /// Gives a pod back to whoever comes.
    async fn release(&mut self, pod: &WrittenPod) {
        let Some(life) = pod.life() else { return };
        let command = command::end(&self.keys, &pod.named, &self.owner, life);
        if let Err(error) = self.connection.command(&command).await {
            // The lease runs out by itself.
            self.fail(&error);
        }
    }

    /// What Redis has of a pod is not known any more.
    fn lose(&mut self, pod: &mut WrittenPod, error: &ConnectionError) {
        self.pipeline.clear();
        self.pending = 0;
        self.fail(error);
        pod.lose(AFTER_FAILURE);
    }

    pub(super) fn fail(&mut self, error: &ConnectionError) {
        self.tally.failures += 1;
        self.tally.error = Some(error.to_string());
    }

    fn report(&mut self) {
        let count = |is: fn(&WrittenPod) -> bool| self.pods.values().filter(|pod| is(pod)).count();
        self.tally.pods = count(|pod| pod.life().is_some());
        self.tally.pods_of_others = count(|pod| matches!(pod.phase, Phase::Others));
        self.tally.pods_not_plain = count(|pod| matches!(pod.phase, Phase::NotPlain));
        self.tally.pods_listed = count(WrittenPod::is_listing);
        (*self.status.lock()).clone_from(&self.tally);
    }

    /// Sends what is in the pipeline. A server without memory refuses additions and carries out the rest.
    pub(super) async fn send(&mut self) -> Result<bool, ConnectionError> {
        if self.pending == 0 {
            return Ok(true);
        }
        let pipeline = std::mem::replace(&mut self.pipeline, Pipeline::with_capacity(2 * PIPELINE));
        let blocks = std::mem::take(&mut self.pending) as u64;
        match self.connection.pipeline(&pipeline).await {
            Ok(_) => {
                self.tally.error = None;
                Ok(true)
            }
            Err(error) if error.is_out_of_memory() => {
                self.tally.blocks_refused += blocks;
                self.fail(&error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending >= PIPELINE
    }
}
