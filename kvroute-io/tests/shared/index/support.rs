//! A router that follows events and writes, and one that only asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::event::{BlockRemoved, BlockStored, EventBatch, GroupKind, KvEvent};
use kvroute_core::index::MatchTable;
use kvroute_core::{
    BlockHash, BlockHasher, CacheDomain, EngineHash, HashContext, OwnScheme, PodId, PodSpec, Policy, Router,
    RouterOptions, Tier,
};
use kvroute_io::shared::connection::{Connection, ConnectionOptions};
use kvroute_io::shared::index::{
    IndexOptions, IndexReader, IndexWriter, ReaderOptions, ReaderStatus, Unanswered, WriterStatus,
};

use super::super::server::Server;

pub(crate) const BLOCK_SIZE: u32 = 4;

/// Generous: the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) fn domain(name: &str) -> Arc<CacheDomain> {
    Arc::new(CacheDomain::new(name, BlockHasher::new(OwnScheme::default(), BLOCK_SIZE).unwrap()).unwrap())
}

pub(crate) fn connect(server: &Server) -> Connection {
    let options = ConnectionOptions { urls: vec![server.url()], ..ConnectionOptions::default() };
    Connection::start(options).unwrap()
}

/// Quick to notice and to write.
pub(crate) fn options() -> IndexOptions {
    IndexOptions {
        lease: Duration::from_secs(3),
        interval: Duration::from_millis(5),
        ..IndexOptions::default()
    }
}

/// Patient: tests of what is answered are none of how soon.
pub(crate) fn patient() -> ReaderOptions {
    let second = Duration::from_secs(1);
    ReaderOptions { budget: 5 * second, limit: 5 * second, patience: 1000, ..ReaderOptions::default() }
}

/// Tokens of a prompt of so many blocks; the last is not whole.
pub(crate) fn prompt(variant: u32, blocks: u32) -> Vec<u32> {
    (0..blocks * BLOCK_SIZE + 1).map(|i| variant * 100_000 + i).collect()
}

/// A router with pods, all of one domain.
pub(crate) struct Side {
    pub(crate) router: Arc<Router>,
    pub(crate) domain: Arc<CacheDomain>,
}

impl Side {
    pub(crate) fn new(domain: &Arc<CacheDomain>, pods: &[&str]) -> Self {
        let policy = Policy::preset("cost").unwrap();
        let side = Self {
            router: Arc::new(Router::new(RouterOptions::default(), policy).unwrap()),
            domain: Arc::clone(domain),
        };
        pods.iter().for_each(|pod| _ = side.add(pod));
        side
    }

    pub(crate) fn add(&self, pod: &str) -> PodId {
        self.router.add_pod(PodSpec::new(pod, Arc::clone(&self.domain))).unwrap()
    }

    pub(crate) fn id(&self, pod: &str) -> PodId {
        self.router.pod(pod, 0).unwrap().id()
    }

    pub(crate) fn hashes(&self, token_ids: &[u32]) -> Vec<BlockHash> {
        self.domain.hasher().hash(token_ids, &HashContext::default()).unwrap()
    }

    pub(crate) fn apply(&self, pod: &str, event: KvEvent) {
        let batch = EventBatch { events: vec![event], ..EventBatch::default() };
        self.router.index().apply_events(self.id(pod), &batch).unwrap();
    }

    /// Blocks `from..to` of a prompt; names are the block hashes, which any engine may choose.
    pub(crate) fn store(&self, pod: &str, token_ids: &[u32], from: usize, to: usize) {
        let names = self.names(token_ids);
        let size = BLOCK_SIZE as usize;
        self.apply(
            pod,
            KvEvent::Stored(BlockStored {
                block_hashes: names[from..to].to_vec(),
                parent: from.checked_sub(1).map(|before| names[before]),
                token_ids: token_ids[from * size..to * size].to_vec(),
                block_size: BLOCK_SIZE,
                tier: Some(Tier::Gpu),
                ..BlockStored::default()
            }),
        );
    }

    /// They are announced in host memory.
    pub(crate) fn offload(&self, pod: &str, token_ids: &[u32], from: usize, to: usize) {
        let block_hashes = self.names(token_ids)[from..to].to_vec();
        self.apply(
            pod,
            KvEvent::Stored(BlockStored { block_hashes, tier: Some(Tier::Cpu), ..BlockStored::default() }),
        );
    }

    pub(crate) fn remove(&self, pod: &str, token_ids: &[u32], from: usize, to: usize, tier: Tier) {
        let mut block_hashes = self.names(token_ids)[from..to].to_vec();
        block_hashes.reverse();
        self.apply(pod, KvEvent::Removed(BlockRemoved { block_hashes, tier: Some(tier), group: 0 }));
    }

    /// The pod says that it has a sliding window.
    pub(crate) fn become_hybrid(&self, pod: &str, token_ids: &[u32]) {
        let names = self.names(token_ids);
        self.apply(
            pod,
            KvEvent::Stored(BlockStored {
                block_hashes: names[..1].to_vec(),
                token_ids: token_ids[..BLOCK_SIZE as usize].to_vec(),
                block_size: BLOCK_SIZE,
                tier: Some(Tier::Gpu),
                group: 1,
                group_kind: Some(GroupKind::SlidingWindow { window: 8 }),
                ..BlockStored::default()
            }),
        );
    }

    fn names(&self, token_ids: &[u32]) -> Vec<EngineHash> {
        self.hashes(token_ids).into_iter().map(|hash| EngineHash(hash.0)).collect()
    }

    /// What the index answers: of each pod that has some, leading blocks by tier or nearer, where a tier adds any.
    pub(crate) fn answers(&self, token_ids: &[u32]) -> Answers {
        let mut table = MatchTable::default();
        self.router.index().lookup(&self.domain, &self.hashes(token_ids), &mut table);
        let mut answers = Answers::new();
        for found in table.matches() {
            let mut reached = 0;
            let pod = self.router.pod_by_id(found.pod).unwrap().name().to_owned();
            for tier in Tier::ALL {
                if found.blocks.in_tier(tier) > 0 {
                    reached += found.blocks.in_tier(tier);
                    answers.entry(pod.clone()).or_default().push((tier, reached));
                }
            }
        }
        answers
    }
}

pub(crate) type Answers = BTreeMap<String, Vec<(Tier, u32)>>;

/// One that asks, for a router of its own.
pub(crate) struct Asker {
    pub(crate) side: Side,
    pub(crate) reader: IndexReader,
}

impl Asker {
    pub(crate) fn new(
        server: &Server,
        domain: &Arc<CacheDomain>,
        pods: &[&str],
        options: ReaderOptions,
    ) -> Self {
        let side = Side::new(domain, pods);
        let router = Arc::clone(&side.router);
        let find =
            move |name: &str, rank: Option<u32>| router.pod(name, rank.unwrap_or(0)).map(|pod| pod.id());
        Self { reader: IndexReader::new(connect(server), &self::options().name, find, options), side }
    }

    pub(crate) async fn ask(&self, token_ids: &[u32]) -> Result<Answers, Unanswered> {
        let known = self.reader.known(self.side.domain.fingerprint(), self.side.hashes(token_ids)).await?;
        let mut answers = Answers::new();
        for known in known {
            let pod = self.side.router.pod_by_id(known.pod).unwrap().name().to_owned();
            answers.entry(pod).or_default().push((known.tier, known.blocks));
        }
        Ok(answers)
    }

    /// Asks until the answer is the writer's own.
    pub(crate) async fn agrees(&self, writer: &Side, token_ids: &[u32], when: &str) {
        let until = Instant::now() + SOON;
        loop {
            let (told, own) = (self.ask(token_ids).await, writer.answers(token_ids));
            if told.as_ref() == Ok(&own) {
                return;
            }
            assert!(Instant::now() < until, "{when}: {told:?}, and the index has {own:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn status(&self) -> ReaderStatus {
        self.reader.status()
    }
}

pub(crate) fn write(server: &Server, side: &Side) -> IndexWriter {
    IndexWriter::start(connect(server), Arc::clone(&side.router), options()).unwrap()
}

/// Waits until a writer says so.
pub(crate) async fn until(writer: &IndexWriter, what: &str, is: impl Fn(&WriterStatus) -> bool) {
    let until = Instant::now() + SOON;
    while !is(&writer.status()) {
        assert!(Instant::now() < until, "{what}: {:?}", writer.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
