//! kvroute, as a router: its index alone is asked where peers have no more, whole decisions where they are measured.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use kvroute_benches::{BLOCK_SIZE, native_domain};
use kvroute_core::event::{BlockRemoved, BlockStored, EventBatch, KvEvent};
use kvroute_core::index::{CopyPolicy, MatchTable, PodId, PodOptions};
use kvroute_core::{
    BlockHash, BlockHasher, CacheDomain, EngineHash, HashContext, LoadReport, OwnScheme, PodSpec, Request,
    Router, Tier, Workspace,
};

use super::{Feed, Setup, Shared, Subject, Wire};
use crate::change::{Chain, Change};
use crate::measure::cpu;

/// A router with the pods of a setup.
#[derive(Debug)]
pub struct KvrouteSubject {
    router: Router,
    domain: Arc<CacheDomain>,
    pods: Vec<PodId>,
    context: HashContext,
}

/// What a thread keeps.
#[derive(Debug, Default)]
pub struct Scratch {
    table: MatchTable,
    workspace: Workspace,
}

impl KvrouteSubject {
    /// From token ids to a decision; answers the blocks that the chosen pod has.
    pub fn decide(&self, token_ids: &[u32], scratch: &mut Scratch) -> usize {
        let request = Request::new(token_ids, &self.context);
        let decision = self.router.decide(&request, Duration::ZERO, &mut scratch.workspace);
        decision.expect("there are pods").matched_tokens
    }
}

fn domain(setup: &Setup) -> Arc<CacheDomain> {
    if setup.feed == Feed::Hashes && setup.block_size == BLOCK_SIZE {
        return native_domain().expect("a fixed scheme");
    }
    let hasher = BlockHasher::new(OwnScheme::default(), setup.block_size).expect("a good block size");
    Arc::new(CacheDomain::new("versus", hasher).expect("a good name"))
}

impl Subject for KvrouteSubject {
    type Event = (usize, EventBatch);
    type Query = Vec<BlockHash>;
    type Scratch = Scratch;

    fn new(setup: &Setup) -> Self {
        let (domain, router) = (domain(setup), Router::default());
        let pods = (0..setup.pods)
            .map(|n| {
                let mut spec = PodSpec::new(format!("pod-{n}"), Arc::clone(&domain));
                let copies = if setup.as_set { CopyPolicy::Set } else { CopyPolicy::Infer };
                spec.options = PodOptions { copies, ..PodOptions::default() };
                let pod = router.add_pod(spec).expect("a new name");
                let load = LoadReport { running: n as u32 % 9, waiting: 0, kv_usage: 0.5 };
                router.report_load(pod, load).expect("the pod is there");
                pod
            })
            .collect();
        Self { router, domain, pods, context: HashContext::default() }
    }

    fn event(&self, change: &Change<'_>) -> Self::Event {
        let name = |&hash: &u64| EngineHash(hash);
        let event = match change {
            Change::Store { chain, blocks, .. } => KvEvent::Stored(BlockStored {
                parent: blocks.start.checked_sub(1).map(|before| EngineHash(chain.hashes[before])),
                token_ids: chain.tokens(blocks.clone()).to_vec(),
                block_hashes: chain.hashes[blocks.clone()].iter().map(name).collect(),
                block_size: self.domain.block_size(),
                tier: Some(Tier::Gpu),
                ..BlockStored::default()
            }),
            Change::Remove { hashes, .. } => KvEvent::Removed(BlockRemoved {
                block_hashes: hashes.iter().map(name).collect(),
                tier: Some(Tier::Gpu),
                group: 0,
            }),
        };
        (change.pod(), EventBatch { events: vec![event], ..EventBatch::default() })
    }

    fn apply(&mut self, events: Vec<Self::Event>) -> Duration {
        let index = self.router.index();
        cpu(|| {
            for (pod, batch) in &events {
                index.apply_events(self.pods[*pod], batch).expect("the pod is there");
            }
        })
        .0
    }

    fn query(&self, chain: &Chain) -> Self::Query {
        chain.hashes.iter().map(|&hash| BlockHash(hash)).collect()
    }

    fn hash(&self, token_ids: &[u32], _: &mut Scratch) -> Self::Query {
        self.domain.hasher().hash(token_ids, &self.context).expect("plain tokens")
    }

    fn find(&self, query: &Self::Query, scratch: &mut Scratch) -> usize {
        self.router.index().lookup(&self.domain, query, &mut scratch.table);
        scratch.table.matches().len()
    }

    fn answer(&self, query: &Self::Query) -> Vec<(usize, u32)> {
        let mut table = MatchTable::default();
        self.router.index().lookup(&self.domain, query, &mut table);
        let depth = |pod: &PodId| table.blocks(*pod).total();
        self.pods.iter().map(depth).enumerate().filter(|(_, depth)| *depth > 0).collect()
    }
}

impl Shared for KvrouteSubject {
    fn write(&self, _: usize, events: Vec<Self::Event>, start: &Barrier) {
        start.wait();
        for (pod, batch) in &events {
            self.router.index().apply_events(self.pods[*pod], batch).expect("the pod is there");
        }
    }
}

impl Wire for KvrouteSubject {
    fn apply_published(&mut self, batches: &[(usize, u64, Vec<u8>)]) -> Duration {
        cpu(|| {
            for (pod, number, payload) in batches {
                self.router.apply(self.pods[*pod], *number, payload).expect("the pod is there");
            }
        })
        .0
    }
}
