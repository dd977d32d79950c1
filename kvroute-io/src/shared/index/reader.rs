//! Asks the shared index what pods hold of a prompt, and never for longer than one cares to wait.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::{BlockHash, KnownPrefix, PodId, Tier};
use parking_lot::Mutex;
use redis::{Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::command;
use super::keys::{Keys, Life, Named};
use super::llmd::LlmdSource;
use super::lookup::{Question, Reached, steps, walk};
use super::status::ReaderStatus;
use crate::shared::connection::{Connection, ConnectionError};

/// How an index is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderOptions {
    /// How long one waits for an answer. Of a prompt that is too long for that the beginning is asked for.
    pub budget: Duration,
    /// How long a lookup goes on by itself, so that answers which came too late say how late.
    pub limit: Duration,
    /// Lookups under way at most, late ones included. Beyond, none is made.
    pub max_outstanding: usize,
    /// Lookups in a row without an answer after which only one is tried in each `pause`, and all others know nothing at
    /// once.
    pub patience: u32,
    /// See there.
    pub pause: Duration,
    /// Leading blocks of a prompt that are asked for at most.
    pub max_blocks: usize,
    /// Pods that an answer has at most: those with most blocks.
    pub max_pods: usize,
}

impl Default for ReaderOptions {
    /// 2 ms of half a second, 64 at a time, a try every 100 ms after three that failed, 16 384 blocks, 256 pods.
    fn default() -> Self {
        Self {
            budget: Duration::from_millis(2),
            limit: Duration::from_millis(500),
            max_outstanding: 64,
            patience: 3,
            pause: Duration::from_millis(100),
            max_blocks: 16_384,
            max_pods: 256,
        }
    }
}

/// Why nothing is known of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unanswered {
    /// No answer came within the budget.
    Late,
    /// None was asked for: too many lookups are under way.
    Busy,
    /// None was asked for: those before had no answer.
    Paused,
    /// Redis is gone, or refused.
    Failed(ConnectionError),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("no answer in time"),
            Self::Busy => f.write_str("too many lookups are under way"),
            Self::Paused => f.write_str("lookups have had no answers lately"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unanswered {}

/// A pod by its name, and its rank where the index tells ranks apart.
type Find = dyn Fn(&str, Option<u32>) -> Option<PodId> + Send + Sync;

/// What is read.
#[derive(Clone)]
enum Layout {
    Kvroute(Keys),
    Llmd(Arc<LlmdSource>),
}

/// Asks an index. Cheap to clone.
#[derive(Clone)]
pub struct IndexReader(Arc<Shared>);

struct Shared {
    connection: Connection,
    layout: Layout,
    find: Box<Find>,
    options: ReaderOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    status: ReaderStatus,
    /// Lookups without an answer since the last that had one.
    unanswered: u32,
    /// When the next may be tried.
    try_at: Option<Instant>,
}

impl fmt::Debug for IndexReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexReader").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl IndexReader {
    /// Of an index that an [`IndexWriter`](super::IndexWriter) keeps under this name. `find` knows the pods of the router by
    /// name and rank.
    #[must_use]
    pub fn new(
        connection: Connection,
        name: &str,
        find: impl Fn(&str, Option<u32>) -> Option<PodId> + Send + Sync + 'static,
        options: ReaderOptions,
    ) -> Self {
        Self::of(connection, Layout::Kvroute(Keys::new(name)), Box::new(find), options)
    }

    /// Of an index that llm-d keeps. `find` is asked for what llm-d calls pods, `ip:port`, without a rank.
    #[must_use]
    pub fn of_llmd(
        connection: Connection,
        source: LlmdSource,
        find: impl Fn(&str, Option<u32>) -> Option<PodId> + Send + Sync + 'static,
        options: ReaderOptions,
    ) -> Self {
        Self::of(connection, Layout::Llmd(Arc::new(source)), Box::new(find), options)
    }

    fn of(connection: Connection, layout: Layout, find: Box<Find>, options: ReaderOptions) -> Self {
        let status = ReaderStatus { is_answering: true, ..ReaderStatus::default() };
        let state = Mutex::new(State { status, ..State::default() });
        Self(Arc::new(Shared { connection, layout, find, options, state }))
    }

    /// Whose keys it asks for, if they are llm-d's: then blocks are hashed by that.
    #[must_use]
    pub fn llmd(&self) -> Option<&LlmdSource> {
        match &self.0.layout {
            Layout::Kvroute(_) => None,
            Layout::Llmd(source) => Some(source),
        }
    }

    /// What pods are said to hold of a prompt, for [`Request::known`](kvroute_core::Request::known). `blocks`: `[n]`, the
    /// prompt's hashes in the domain of this fingerprint ([`CacheDomain::fingerprint`](kvroute_core::CacheDomain::fingerprint));
    /// for an index of llm-d's its keys, and `domain` is not looked at. To be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// Why nothing is known, after [`ReaderOptions::budget`] at most (and the millisecond that timers are late).
    pub async fn known(
        &self,
        domain: u64,
        mut blocks: Vec<BlockHash>,
    ) -> Result<Vec<KnownPrefix>, Unanswered> {
        let shared = &self.0;
        blocks.truncate(shared.options.max_blocks);
        shared.begin(blocks.len())?;
        let begun = Instant::now();
        let (answer, answered) = oneshot::channel();
        let asked = Arc::clone(shared);
        // It goes on when nobody waits any more: giving up a pipeline half way would cost the connection.
        tokio::spawn(async move {
            let result = asked.look_up(domain, &blocks).await;
            asked.state.lock().status.outstanding -= 1;
            let _ = answer.send(result);
        });
        let result = match timeout(shared.options.budget, answered).await {
            Ok(Ok(Ok(known))) => Ok(known),
            Ok(Ok(Err(error))) => Err(Unanswered::Failed(error)),
            Ok(Err(_)) | Err(_) => Err(Unanswered::Late),
        };
        shared.note(&result, begun);
        result
    }

    /// How long it makes one wait.
    #[must_use]
    pub fn budget(&self) -> Duration {
        self.0.options.budget
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> ReaderStatus {
        self.0.state.lock().status.clone()
    }
}

impl Shared {
    /// Whether to ask now.
    fn begin(&self, blocks: usize) -> Result<(), Unanswered> {
        let mut state = self.state.lock();
        state.status.lookups += 1;
        let why_not = if state.status.outstanding >= self.options.max_outstanding {
            Some(Unanswered::Busy)
        } else if state.try_at.is_some_and(|at| Instant::now() < at) {
            Some(Unanswered::Paused)
        } else {
            None
        };
        if let Some(why_not) = why_not {
            state.status.skipped += 1;
            state.status.is_answering = false;
            return Err(why_not);
        }
        if state.try_at.is_some() {
            // This is the one that is tried; the next comes later.
            state.try_at = Some(Instant::now() + self.options.pause);
        }
        state.status.outstanding += 1;
        state.status.blocks += blocks as u64;
        Ok(())
    }

    fn note(&self, result: &Result<Vec<KnownPrefix>, Unanswered>, begun: Instant) {
        let mut state = self.state.lock();
        match result {
            Ok(known) => {
                state.status.answered += 1;
                state.status.hits += u64::from(!known.is_empty());
                state.status.seconds += begun.elapsed();
                (state.unanswered, state.try_at) = (0, None);
                (state.status.is_answering, state.status.error) = (true, None);
                return;
            }
            Err(Unanswered::Failed(_)) => state.status.failures += 1,
            Err(_) => state.status.timeouts += 1,
        }
        state.status.error = result.as_ref().err().map(ToString::to_string);
        state.unanswered = state.unanswered.saturating_add(1);
        if state.unanswered >= self.options.patience {
            state.status.is_answering = false;
            state.try_at = Some(Instant::now() + self.options.pause);
        }
    }

    async fn look_up(&self, domain: u64, blocks: &[BlockHash]) -> Result<Vec<KnownPrefix>, ConnectionError> {
        // The rest is for finding out whose lives they are.
        let (limit, enough) = (self.options.limit, self.options.budget.mul_f64(0.6));
        match &self.layout {
            Layout::Kvroute(keys) => {
                let question = Asked { keys, domain, blocks };
                let reached = walk(&self.connection, &question, limit, enough).await?.into_reached();
                let named = self.longest(reached);
                self.by_life(keys, domain, named, limit).await
            }
            Layout::Llmd(source) => {
                let question = source.question(blocks);
                let reached = walk(&self.connection, &question, limit, enough).await?.into_reached();
                let pods = LlmdSource::by_pod(reached);
                let found = self
                    .longest(pods.into_iter())
                    .into_iter()
                    .filter_map(|(name, reached)| (self.find)(&name, None).map(|pod| (pod, reached)));
                Ok(prefixes(found))
            }
        }
    }

    /// Those with most blocks.
    fn longest<H>(&self, reached: impl Iterator<Item = (H, Reached)>) -> Vec<(H, Reached)> {
        let mut all: Vec<_> = reached.filter(|(_, reached)| reached.last() != Some(&0)).collect();
        if all.len() > self.options.max_pods {
            all.sort_unstable_by_key(|(_, reached)| std::cmp::Reverse(*reached));
            all.truncate(self.options.max_pods);
        }
        all
    }

    /// The pods of these lives, but for those that ended.
    async fn by_life(
        &self,
        keys: &Keys,
        domain: u64,
        lives: Vec<(Life, Reached)>,
        limit: Duration,
    ) -> Result<Vec<KnownPrefix>, ConnectionError> {
        if lives.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = lives.iter().map(|(life, _)| *life).collect();
        let answer = self.connection.command_within(&command::names(keys, &ids), limit).await?;
        let named = command::list(&answer).iter().zip(lives).filter_map(|(value, (_, reached))| {
            let named = Named::of_value(command::text(value)?).filter(|named| named.domain == domain)?;
            (self.find)(&named.name, Some(named.rank)).map(|pod| (pod, reached))
        });
        Ok(prefixes(named))
    }
}

fn prefixes(found: impl Iterator<Item = (PodId, Reached)>) -> Vec<KnownPrefix> {
    found
        .flat_map(|(pod, reached)| {
            steps(reached).map(move |(tier, blocks)| KnownPrefix { pod, tier, blocks })
        })
        .collect()
}

/// A question about the layout of our own.
struct Asked<'a> {
    keys: &'a Keys,
    domain: u64,
    blocks: &'a [BlockHash],
}

impl Question for Asked<'_> {
    type Holder = Life;

    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn ask(&self, blocks: Range<usize>) -> Pipeline {
        command::holders(self.keys, self.domain, &self.blocks[blocks])
    }

    fn holders(&self, answer: &Value) -> impl Iterator<Item = (Life, Tier)> {
        command::members(answer).filter_map(Life::of_member)
    }
}
