//! A pod's task: learn, join, scrape and learn again, leave.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kvroute_core::AdapterReport;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::config::{LearnConfig, ScrapeConfig};
use super::member::{Membership, Shared, leave};
use super::record::{RankRecord, Record};
use super::status::PodState;
use crate::http::{Bounds, HttpClient, Lines};
use crate::load::{Metrics, Scraper, phase};
use crate::pods::learn::{Learnt, learn, read_token};
use crate::pods::{Knowledge, PodConfig, domain};

/// What is wanted of a pod.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// That it is there.
    Stay(Arc<Plan>),
    /// That it goes, when what it computes is done or this time is over.
    Leave(Duration),
}

/// How a pod is treated.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What the configuration says of it, the fleet's `known` included.
    pub(super) pod: PodConfig,
    pub(super) learn: LearnConfig,
    pub(super) scrape: ScrapeConfig,
    pub(super) client: HttpClient,
    pub(super) scraper: Scraper,
    /// Bounds how many pods are learnt at one time; apart from scraping, so that pods that hang at one thing do not
    /// keep others from the other.
    pub(super) learners: Arc<Lines>,
}

impl Plan {
    /// Whether it is the same, by what was configured.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.pod == other.pod && self.learn == other.learn && self.scrape == other.scrape
    }
}

/// How often a draining pod is looked at.
const DRAIN_STEP: Duration = Duration::from_millis(100);

/// Follows a pod until it left; what is noted down is in `record`.
pub(super) async fn follow(
    shared: Arc<Shared>,
    mut wanted: watch::Receiver<Wanted>,
    plan: Arc<Plan>,
    record: Arc<Mutex<Record>>,
) {
    let mut pod = Pod::new(shared, plan, record);
    loop {
        let wish = tokio::select! {
            biased;
            changed = wanted.changed() => changed.map(|()| wanted.borrow_and_update().clone()),
            // All it does can be broken off: nothing is changed before an answer is there.
            end = pod.act() => match end {
                End::NotYet => continue,
                End::Left => break,
            },
        };
        match wish {
            Ok(Wanted::Stay(plan)) => pod.stay(plan),
            Ok(Wanted::Leave(drain)) => pod.drain(drain),
            // Nobody is interested in it any more.
            Err(_) => break,
        }
    }
    pod.leave();
}

enum End {
    NotYet,
    Left,
}

#[derive(Debug)]
struct Pod {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    record: Arc<Mutex<Record>>,
    name: String,
    /// When its intervals are counted from.
    born: Instant,
    membership: Option<Membership>,
    next_learn: Instant,
    next_scrape: Instant,
    /// Of learning, in a row.
    failures: u32,
    /// It did not answer for too long, and has not been learnt anew since it answered again.
    is_silent: bool,
    /// Until when it drains, if it does.
    drained: Option<Instant>,
    /// When its engine started; seconds since 1970.
    started: Option<f64>,
    /// What it said last.
    learnt: Option<Learnt>,
}

impl Pod {
    fn new(shared: Arc<Shared>, plan: Arc<Plan>, record: Arc<Mutex<Record>>) -> Self {
        let born = Instant::now();
        Self {
            shared,
            record,
            name: plan.pod.name(),
            plan,
            born,
            membership: None,
            next_learn: born,
            next_scrape: born,
            failures: 0,
            is_silent: false,
            drained: None,
            started: None,
            learnt: None,
        }
    }

    /// Does what is due next, when it is due.
    async fn act(&mut self) -> End {
        if let Some(end) = self.drained {
            let is_idle = self.record.lock().ranks.iter().all(|rank| {
                self.shared.router.pod_by_id(rank.id).map_or(true, |pod| pod.bookings().requests == 0)
            });
            if is_idle || Instant::now() >= end {
                return End::Left;
            }
            sleep_until(end.min(Instant::now() + DRAIN_STEP)).await;
        } else if self.membership.is_some() && self.next_scrape < self.next_learn {
            self.while_ageing(sleep_until(self.next_scrape)).await;
            self.scrape().await;
        } else {
            self.while_ageing(sleep_until(self.next_learn)).await;
            self.learn().await;
        }
        End::NotYet
    }

    /// Waits for something else, and forgets reports that become too old meanwhile.
    async fn while_ageing<T>(&self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        loop {
            let Some(stale) = self.next_stale() else { return other.await };
            tokio::select! {
                biased;
                answer = &mut other => return answer,
                () = sleep_until(stale) => self.forget_stale(),
            }
        }
    }

    fn stale_after(&self) -> Duration {
        Duration::from_millis(self.plan.scrape.stale_ms)
    }

    /// When the oldest report that counts becomes too old.
    fn next_stale(&self) -> Option<Instant> {
        let record = self.record.lock();
        let fresh = record.ranks.iter().filter(|rank| !rank.is_stale);
        fresh.filter_map(|rank| rank.load.map(|(_, at)| at + self.stale_after())).min()
    }

    fn forget_stale(&self) {
        let (now, stale_after) = (Instant::now(), self.stale_after());
        for rank in &mut self.record.lock().ranks {
            let is_old = rank.load.is_some_and(|(_, at)| now >= at + stale_after);
            if is_old && !rank.is_stale {
                rank.is_stale = true;
                rank.adapters = None;
                // It may have been removed by the embedder.
                let _ = self.shared.router.forget_load(rank.id);
            }
        }
    }

    /// The next time of an interval, at the place in it that is this pod's.
    fn next(&self, interval: Duration) -> Instant {
        let interval = interval.max(Duration::from_millis(1));
        let since = self.born.elapsed();
        let ahead = phase(&self.name, interval);
        let passed = since.saturating_sub(ahead).as_nanos() / interval.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let next = self.born + ahead + interval * passed;
        if since < ahead { next } else { next + interval }
    }

    fn retry(&self, failures: u32) -> Duration {
        let LearnConfig { retry_ms, max_retry_ms, .. } = self.plan.learn;
        Duration::from_millis(
            retry_ms.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(max_retry_ms),
        )
    }

    async fn learn(&mut self) {
        let plan = Arc::clone(&self.plan);
        let is_suspect = self.failures > 0 || self.is_silent;
        let ask = async {
            let _place = plan.learners.enter(is_suspect).await;
            let token = read_token(plan.learn.token_file.clone()).await.map_err(|error| (false, error))?;
            let bounds = |timeout_ms, max_bytes: u64| Bounds {
                timeout: Duration::from_millis(timeout_ms),
                max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            };
            let LearnConfig { timeout_ms, max_bytes, .. } = plan.learn;
            let metrics = bounds(timeout_ms, plan.scrape.max_bytes);
            let learnt =
                learn(&plan.client, &plan.pod.url, token.as_ref(), bounds(timeout_ms, max_bytes), metrics);
            learnt.await.map_err(|error| (error.is_silence(), error.to_string()))
        };
        match self.while_ageing(ask).await {
            Ok(learnt) => match self.take(learnt) {
                Ok(()) => {
                    self.failures = 0;
                    self.is_silent = false;
                    self.next_learn = self.next(Duration::from_millis(self.plan.learn.interval_ms));
                    self.next_scrape = self.next(Duration::from_millis(self.plan.scrape.interval_ms));
                    self.record.lock().learn_error = None;
                }
                Err(error) => self.failed(false, error),
            },
            Err((is_silence, error)) => self.failed(is_silence, error),
        }
        self.show_state();
    }

    /// It could not be learnt.
    fn failed(&mut self, is_silence: bool, error: String) {
        self.failures = self.failures.saturating_add(1);
        let wait = match self.membership {
            Some(_) if !self.is_silent => Duration::from_millis(self.plan.learn.interval_ms),
            _ => self.retry(self.failures),
        };
        self.next_learn = Instant::now() + wait;
        let mut record = self.record.lock();
        record.learn_error = Some(error);
        if self.membership.is_none() {
            record.state = if is_silence { PodState::Learning } else { PodState::Unusable };
        }
    }

    /// Takes in what it is: it joins the router, or joins it anew if it is another one than before.
    fn take(&mut self, mut learnt: Learnt) -> Result<(), String> {
        let is_restarted = learnt.metrics.as_ref().is_some_and(|metrics| self.note_start(metrics));
        let metrics = learnt.metrics.clone().unwrap_or_default();
        if let Some(before) = self.learnt.take().filter(|_| !is_restarted && !self.is_silent) {
            learnt.fill(before);
        }
        let pod = &self.plan.pod;
        let mut known = Knowledge::new(&pod.url, &pod.known, &learnt);
        let domain = match &pod.domain {
            Some(name) => {
                let domain =
                    self.shared.router.domain(name).ok_or(format!("no domain is called `{name}`"))?;
                known.compare(&domain);
                domain
            }
            None => domain::of_pod(&pod.known, &mut known).map_err(|error| error.to_string())?,
        };
        let membership = Membership::new(pod, domain, &known);
        self.learnt = Some(learnt);
        // Without events nothing else tells that its cache is empty.
        let is_emptied = is_restarted && membership.streams.is_empty();
        if is_emptied || self.membership.as_ref() != Some(&membership) {
            self.leave();
            let (ids, troubles) = membership.join(&self.shared)?;
            known.notes.extend(troubles);
            let ranks = membership.ranks.iter().zip(ids);
            self.record.lock().ranks = ranks.map(|(&rank, id)| RankRecord::new(rank, id)).collect();
        }
        self.shared.directory.serve(&self.name, known.models.clone());
        {
            let mut record = self.record.lock();
            record.domain = Some(membership.domain.name().into());
            record.known = Some(known);
            record.learnt = Some(Instant::now());
        }
        self.membership = Some(membership);
        self.report(&metrics);
        Ok(())
    }

    /// Notes when its engine started; answers whether that was since it was last asked.
    fn note_start(&mut self, metrics: &Metrics) -> bool {
        let Some(started) = metrics.started else { return false };
        let before = self.started.replace(started);
        let is_restarted = before.is_some_and(|before| (before - started).abs() > 1.0);
        if is_restarted {
            self.record.lock().scrapes.restarts += 1;
        }
        is_restarted
    }

    async fn scrape(&mut self) {
        let (begin, plan) = (Instant::now(), Arc::clone(&self.plan));
        let is_suspect = self.record.lock().scrapes.failures_in_a_row > 0;
        let answer = self.while_ageing(plan.scraper.scrape(&plan.pod.url, is_suspect)).await;
        let mut wait = None;
        {
            let mut record = self.record.lock();
            let scrapes = &mut record.scrapes;
            scrapes.seconds = Some(begin.elapsed().as_secs_f64());
            match &answer {
                Err(error) if !error.is_answer() => {
                    scrapes.failures += 1;
                    scrapes.failures_in_a_row = scrapes.failures_in_a_row.saturating_add(1);
                    let beyond = scrapes.failures_in_a_row.checked_sub(plan.scrape.failures);
                    wait = beyond.map(|beyond| self.retry(beyond + 1));
                    record.scrape_error = Some(error.to_string());
                }
                Err(error) => {
                    scrapes.failures_in_a_row = 0;
                    scrapes.without_report += 1;
                    record.scrape_error = Some(error.to_string());
                }
                Ok(metrics) => {
                    scrapes.failures_in_a_row = 0;
                    scrapes.engine = metrics.engine.or(scrapes.engine);
                    scrapes.malformed_lines += u64::from(metrics.malformed);
                    if metrics.ranks.iter().any(|rank| rank.load.is_some()) {
                        scrapes.reports += 1;
                    } else {
                        scrapes.without_report += 1;
                        record.scrape_error = Some("GET /metrics: no load of a known engine in it".into());
                    }
                }
            }
        }
        match wait {
            Some(wait) => {
                self.is_silent = true;
                self.next_scrape = begin + wait.max(Duration::from_millis(self.plan.scrape.interval_ms));
                // What answers again may be another one: it is learnt anew before it gets requests.
                self.next_learn = self.next_learn.max(self.next_scrape + Duration::from_millis(1));
            }
            None => {
                self.next_scrape = self.next(Duration::from_millis(self.plan.scrape.interval_ms));
                let is_answer = answer.as_ref().map_or_else(|error| error.is_answer(), |_| true);
                if self.is_silent && is_answer {
                    self.next_learn = Instant::now();
                }
            }
        }
        if let Ok(metrics) = answer {
            if self.note_start(&metrics) {
                self.next_learn = Instant::now();
                if self.membership.as_ref().is_some_and(|membership| membership.streams.is_empty()) {
                    self.leave();
                }
            }
            self.report(&metrics);
        }
        self.show_state();
    }

    /// Gives the router what the pod says of its load.
    fn report(&self, metrics: &Metrics) {
        let now = Instant::now();
        let router = &self.shared.router;
        let mut record = self.record.lock();
        let Record { ranks, scrape_error, .. } = &mut *record;
        for rank in ranks {
            let Some(said) = metrics.ranks.iter().find(|said| said.rank == rank.rank) else { continue };
            rank.cache = said.cache.or(rank.cache);
            let Some(load) = said.load else { continue };
            // It may have been removed by the embedder, and all that is parsed is in range.
            let _ = router.report_load(rank.id, load);
            (rank.load, rank.is_stale) = (Some((load, now)), false);
            *scrape_error = None;
            if let Some(adapters) =
                metrics.adapters.as_ref().filter(|new| rank.adapters.as_ref() != Some(new))
            {
                let running: Vec<_> = adapters.running.iter().map(String::as_str).collect();
                let waiting: Vec<_> = adapters.waiting.iter().map(String::as_str).collect();
                let report = AdapterReport { max: adapters.max, running: &running, waiting: &waiting };
                let _ = router.report_adapters(rank.id, &report);
                rank.adapters = Some(adapters.clone());
            }
        }
    }

    /// Lets the router know whether it takes requests, and the status what it is at.
    fn show_state(&self) {
        let mut record = self.record.lock();
        let state = match (self.drained, &self.membership) {
            (Some(_), _) => PodState::Draining,
            // Learning, or Unusable: as it was noted.
            (None, None) => return,
            (None, Some(_)) if self.is_silent => PodState::Silent,
            (None, Some(_)) => PodState::Ready,
        };
        record.state = state;
        for rank in &record.ranks {
            let _ = self.shared.router.set_accepting(rank.id, state == PodState::Ready);
        }
    }

    fn stay(&mut self, plan: Arc<Plan>) {
        let is_other = plan.pod != self.plan.pod || plan.learn != self.plan.learn;
        if is_other || self.membership.is_none() {
            self.next_learn = Instant::now();
        }
        self.record.lock().url = plan.pod.url.clone();
        self.plan = plan;
        self.drained = None;
        self.show_state();
    }

    fn drain(&mut self, time: Duration) {
        self.drained.get_or_insert(Instant::now() + time);
        self.show_state();
    }

    /// Takes it out of the router, if it is there.
    fn leave(&mut self) {
        if self.membership.take().is_none() {
            return;
        }
        let ranks = std::mem::take(&mut self.record.lock().ranks);
        let ids: Vec<_> = ranks.iter().map(|rank| rank.id).collect();
        leave(&self.shared, &ids);
        self.shared.directory.withdraw(&self.name);
    }
}
