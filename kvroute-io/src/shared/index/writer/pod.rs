//! One pod, as it is written of.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kvroute_core::PodId;
use kvroute_core::index::{HeldBlock, HeldChange, HeldCursor};
use redis::{Pipeline, Value};

use super::Writer;
use crate::shared::connection::ConnectionError;
use crate::shared::index::command;
use crate::shared::index::keys::{Life, Named};

/// Blocks of a page.
const PAGE: usize = 512;

/// How long a pod is left alone that another writes of, or whose blocks do not say what it can use.
const LATER: Duration = Duration::from_millis(500);

/// How long after a refusal for want of memory blocks are told again.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing is written of it.
    Waiting,
    /// Another writes of it.
    Others,
    /// Its blocks do not say what it can use.
    NotPlain,
    /// What it holds is listed from here on.
    Listing { life: Life, from: HeldCursor },
    /// What it holds is known there, and only changes are told.
    Following { life: Life },
    /// The same while all of it is confirmed, from here on.
    Confirming { life: Life, from: HeldCursor },
}

#[derive(Debug)]
pub(super) struct WrittenPod {
    pub(super) id: PodId,
    pub(super) named: Named,
    pub(super) phase: Phase,
    /// When the last round of confirmations began, or the listing.
    pub(super) confirmed: Instant,
    /// Our last life of it, which the lease may name still.
    last: Option<Life>,
    journals: bool,
    /// Not before.
    next: Instant,
    /// When the lease was last kept up.
    kept: Instant,
    /// Whether that is to be done at once.
    keep_now: bool,
    /// When blocks are told again that there was no room for.
    retry_at: Option<Instant>,
    changes: Vec<HeldChange>,
    page: Vec<HeldBlock>,
}

impl WrittenPod {
    pub(super) fn new(id: PodId, named: Named) -> Self {
        let now = Instant::now();
        Self {
            id,
            named,
            phase: Phase::Waiting,
            confirmed: now,
            last: None,
            journals: false,
            next: now,
            kept: now,
            keep_now: false,
            retry_at: None,
            changes: Vec::new(),
            page: Vec::new(),
        }
    }

    pub(super) fn life(&self) -> Option<Life> {
        match self.phase {
            Phase::Waiting | Phase::Others | Phase::NotPlain => None,
            Phase::Listing { life, .. } | Phase::Following { life } | Phase::Confirming { life, .. } => {
                Some(life)
            }
        }
    }

    pub(super) fn is_listing(&self) -> bool {
        matches!(self.phase, Phase::Listing { .. })
    }

    pub(super) fn is_confirming(&self) -> bool {
        matches!(self.phase, Phase::Confirming { .. })
    }

    /// Whether its blocks should be confirmed again.
    pub(super) fn is_due(&self, every: Duration) -> bool {
        let refused = self.retry_at.is_some_and(|at| Instant::now() >= at);
        matches!(self.phase, Phase::Following { .. }) && (refused || self.confirmed.elapsed() >= every)
    }

    pub(super) fn begin_confirming(&mut self) {
        if let Phase::Following { life } = self.phase {
            self.phase = Phase::Confirming { life, from: HeldCursor::default() };
            (self.confirmed, self.retry_at) = (Instant::now(), None);
        }
    }

    /// Whether the lease is to be kept up now.
    pub(super) fn is_to_keep(&self, every: Duration) -> bool {
        self.life().is_some() && (self.keep_now || self.kept.elapsed() >= every)
    }

    /// Lets the lease be kept up at once: it may be gone.
    pub(super) fn keep_now(&mut self) {
        self.keep_now = true;
    }

    /// Notes that the lease was kept up at this time.
    pub(super) fn was_kept(&mut self, at: Instant) {
        (self.kept, self.keep_now) = (at, false);
    }

    /// What is known of it there is void.
    pub(super) fn lose(&mut self, wait: Duration) {
        self.phase = Phase::Waiting;
        self.next = Instant::now() + wait;
    }
}

impl Writer {
    /// Goes on with a pod; answers whether there is more to do at once.
    pub(super) async fn advance(&mut self, pod: &mut WrittenPod) -> Result<bool, ConnectionError> {
        if Instant::now() < pod.next {
            return Ok(false);
        }
        let router = std::sync::Arc::clone(&self.router);
        let index = router.index();
        if !pod.journals {
            // One that is gone is taken out when pods are looked for.
            pod.journals = index.journal_held(pod.id, self.options.max_changes).is_ok();
        }
        let Ok(since) = index.take_held(pod.id, usize::MAX, &mut pod.changes) else { return Ok(false) };
        if !since.is_plain {
            if let Some(life) = pod.life() {
                let end = command::end(&self.keys, &pod.named, &self.owner, life);
                pod.phase = Phase::NotPlain;
                self.connection.command(&end).await?;
            }
            (pod.phase, pod.next) = (Phase::NotPlain, Instant::now() + LATER);
            return Ok(false);
        }
        let Some(life) = pod.life().filter(|_| !since.cleared && !since.list_again) else {
            // What was taken is all that it holds only if it was cleared; listing it is right in any case.
            return if self.room > 0 || pod.life().is_some() { self.begin(pod).await } else { Ok(false) };
        };
        let mut is_complete = self.tell(pod, life).await?;
        match pod.phase {
            Phase::Listing { from, .. } => {
                let next = self.page(pod, life, from, &mut is_complete).await?;
                pod.phase = match next {
                    Some(from) => Phase::Listing { life, from },
                    None => Phase::Following { life },
                };
            }
            Phase::Confirming { from, .. } => {
                let next = self.page(pod, life, from, &mut is_complete).await?;
                self.sweep(pod).await?;
                pod.phase = match next {
                    Some(from) => Phase::Confirming { life, from },
                    None => Phase::Following { life },
                };
            }
            _ => {}
        }
        if !is_complete {
            pod.retry_at.get_or_insert(Instant::now() + AFTER_REFUSAL);
        }
        Ok(pod.is_listing())
    }

    /// Begins a life, in place of the one before.
    async fn begin(&mut self, pod: &mut WrittenPod) -> Result<bool, ConnectionError> {
        let life = Life::draw();
        let options = &self.options;
        let begin = command::begin(&self.keys, &pod.named, &self.owner, pod.last, life, options.lease);
        let was_ours = pod.life().is_some();
        // Unless the answer says otherwise, nothing is known.
        pod.phase = Phase::Waiting;
        let kept = Instant::now();
        if !command::did(&self.connection.command(&begin).await?) {
            self.tally.leases_lost += u64::from(was_ours);
            (pod.phase, pod.next, pod.last) = (Phase::Others, Instant::now() + LATER, None);
            return Ok(false);
        }
        self.tally.lives += 1;
        self.room = self.room.saturating_sub(1);
        self.tally.error = None;
        // The journal of before is in what will be listed; what comes from here on is told after it.
        (pod.last, pod.confirmed, pod.retry_at) = (Some(life), kept, None);
        pod.was_kept(kept);
        pod.phase = Phase::Listing { life, from: HeldCursor::default() };
        Ok(true)
    }

    /// Tells what changed; answers whether all of it was taken.
    async fn tell(&mut self, pod: &mut WrittenPod, life: Life) -> Result<bool, ConnectionError> {
        let mut is_complete = true;
        for HeldChange { block, is_held } in pod.changes.drain(..) {
            let key = self.keys.block(pod.named.domain, block.hash);
            if is_held {
                command::add(&mut self.pipeline, &key, life, block.tier, self.options.ttl);
                self.tally.blocks_added += 1;
            } else {
                command::remove(&mut self.pipeline, &key, life, block.tier);
                self.tally.blocks_removed += 1;
            }
            self.pending += 1;
            if self.is_full() {
                is_complete &= self.send().await?;
            }
        }
        Ok(is_complete & self.send().await?)
    }

    /// Tells a page of what is held; answers where the next begins.
    async fn page(
        &mut self,
        pod: &mut WrittenPod,
        life: Life,
        from: HeldCursor,
        is_complete: &mut bool,
    ) -> Result<Option<HeldCursor>, ConnectionError> {
        let Ok(next) = self.router.index().list_held(pod.id, from, PAGE, &mut pod.page) else {
            return Ok(None);
        };
        for block in &pod.page {
            let key = self.keys.block(pod.named.domain, block.hash);
            command::add(&mut self.pipeline, &key, life, block.tier, self.options.ttl);
        }
        self.pending += pod.page.len();
        self.tally.blocks_added += pod.page.len() as u64;
        *is_complete &= self.send().await?;
        Ok(next)
    }

    /// Takes members of lives that ended out of the blocks of the last page: others keep these blocks alive, and nobody
    /// else would.
    async fn sweep(&mut self, pod: &WrittenPod) -> Result<(), ConnectionError> {
        if pod.page.is_empty() {
            return Ok(());
        }
        let blocks: Vec<_> = pod.page.iter().map(|block| block.hash).collect();
        let answers =
            self.connection.pipeline(&command::holders(&self.keys, pod.named.domain, &blocks)).await?;
        let lives: HashSet<Life> = answers
            .iter()
            .flat_map(command::members)
            .filter_map(|member| Life::of_member(member).map(|(life, _)| life))
            .filter(|life| Some(*life) != pod.last)
            .collect();
        if lives.is_empty() {
            return Ok(());
        }
        let lives: Vec<_> = lives.into_iter().collect();
        let named = self.connection.command(&command::names(&self.keys, &lives)).await?;
        let answered = lives.into_iter().zip(command::list(&named));
        let ended: HashSet<Life> =
            answered.filter(|(_, name)| matches!(name, Value::Nil)).map(|(life, _)| life).collect();
        let mut pipeline = Pipeline::new();
        for (block, answer) in blocks.iter().zip(&answers) {
            let key = self.keys.block(pod.named.domain, *block);
            for (life, tier) in command::members(answer).filter_map(Life::of_member) {
                if ended.contains(&life) {
                    command::remove(&mut pipeline, &key, life, tier);
                    self.tally.members_swept += 1;
                }
            }
        }
        if !pipeline.is_empty() {
            self.connection.pipeline(&pipeline).await?;
        }
        Ok(())
    }
}
