//! What is known of a pod: what it said, what the configuration says, and what follows.

use kvroute_core::CacheDomain;
use kvroute_core::hash::HashScheme;
use serde::Serialize;

use super::answers::ModelAnswer;
use super::endpoint::{at_pod, at_router, mode};
use super::learn::Learnt;
use super::said::Said;
use super::{Fact, KnownConfig, Origin, PodUrl};
use crate::events::Mode;
use crate::load::Engine;

/// What is known of a pod, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Knowledge {
    /// What computes there.
    pub engine: Fact<Engine>,
    /// Its version.
    pub version: Fact<String>,
    /// Path or name of the weights.
    pub model_root: Fact<String>,
    /// Models and adapters it serves, as it said; `None` if it does not tell, and then it serves any.
    pub models: Option<Vec<ServedModel>>,
    /// Tokens a block.
    pub block_size: Fact<u32>,
    /// Blocks its cache has, in each rank.
    pub blocks: Fact<u64>,
    /// Whether it keeps prefixes at all.
    pub prefix_caching: Fact<bool>,
    /// How it hashes blocks (vLLM's `--prefix-caching-hash-algo`).
    pub hash_algorithm: Fact<String>,
    /// Whether its `PYTHONHASHSEED` is known. No pod tells.
    pub hash_seed: Fact<SeedStatus>,
    /// Its data-parallel ranks.
    pub ranks: Fact<Vec<u32>>,
    /// Rank 0's endpoint of KV events, as it was said.
    pub events_endpoint: Fact<String>,
    /// Who listens there.
    pub events_mode: Fact<Mode>,
    /// Rank 0's endpoint of replays, as it was said.
    pub replay_endpoint: Fact<String>,
    /// Topic of its events.
    pub topic: Fact<String>,
    /// Where its events are subscribed to, by rank.
    pub streams: Vec<EventStream>,
    /// What is odd: why there are no events, say.
    pub notes: Vec<String>,
}

/// A model or adapter that a pod serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServedModel {
    /// The name that requests ask for.
    pub name: String,
    /// Path of the weights, or of the adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Of an adapter, the model that it adapts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Most tokens of prompt and answer together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u64>,
}

/// Where the seed of a pod's hashes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SeedStatus {
    /// It was configured; what it is, is not shown.
    Set,
    /// It is not set, and then a fixed one (vLLM 0.29 and later, SHA-256).
    Fixed,
}

/// Where one rank's events are subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventStream {
    /// The rank.
    pub rank: u32,
    /// The ZeroMQ endpoint, as it is reached from here.
    pub endpoint: String,
    /// Who listens there.
    pub mode: Mode,
    /// The endpoint of replays, as it is reached from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_endpoint: Option<String>,
    /// The topic; empty for any.
    pub topic: String,
}

impl Knowledge {
    /// What is known of the pod at `url` that said this, where the configuration says that.
    pub(crate) fn new(url: &PodUrl, known: &KnownConfig, learnt: &Learnt) -> Self {
        let said = Said::new(learnt);
        let mut all = Self {
            engine: Fact::new(None, said.metrics.engine),
            version: Fact::new(known.version.clone(), learnt.version.clone()),
            model_root: Fact::new(known.model_root.clone(), said.model_root()),
            models: learnt.models.as_ref().map(|models| models.iter().map(ServedModel::from).collect()),
            block_size: Fact::new(known.block_size, said.block_size())
                .or_assume(|| Some(Self::ASSUMED_BLOCK_SIZE)),
            blocks: Fact::new(None, said.metrics.cache.as_ref().and_then(|cache| cache.blocks)),
            prefix_caching: Fact::new(None, said.metrics.cache.as_ref().and_then(|c| c.is_prefix_caching)),
            hash_algorithm: Fact::new(known.hash_algorithm.clone(), said.hash_algorithm()),
            hash_seed: Fact::new(known.hash_seed.as_ref().map(|_| SeedStatus::Set), None),
            ranks: Fact::new(known.ranks.map(|ranks| (0..ranks).collect()), said.ranks())
                .or_assume(|| Some(vec![0])),
            events_endpoint: Fact::new(known.events_endpoint.clone(), said.first(|s| s.endpoint.clone())),
            events_mode: Fact::default(),
            replay_endpoint: Fact::new(
                known.replay_endpoint.clone(),
                said.first(|s| s.replay_endpoint.clone()),
            ),
            topic: Fact::new(known.topic.clone(), said.first(|s| s.topic.clone()))
                .or_assume(|| Some(String::new())),
            streams: Vec::new(),
            notes: Vec::new(),
        };
        all.events_mode =
            Fact::new(known.events_mode, None).or_assume(|| all.events_endpoint.value.as_deref().map(mode));
        if all.prefix_caching.value == Some(false) {
            all.notes.push("prefix caching is off".into());
        }
        all.find_streams(url, &said);
        all
    }

    /// Tokens a block where nobody says so: vLLM's default on GPUs.
    pub const ASSUMED_BLOCK_SIZE: u32 = 16;

    /// The models it serves that are no adapters, sorted.
    pub(crate) fn base_models(&self) -> Vec<String> {
        let models = self.models.iter().flatten().filter(|model| model.parent.is_none());
        let mut names: Vec<_> = models.map(|model| model.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Notes where the cache domain that was configured for it is not what it says itself.
    pub(crate) fn compare(&mut self, domain: &CacheDomain) {
        let learnt = |fact: &Fact<u32>| matches!(fact.origin, Origin::Learnt).then_some(fact.value).flatten();
        if let Some(size) = learnt(&self.block_size).filter(|size| *size != domain.block_size()) {
            let (name, expected) = (domain.name(), domain.block_size());
            self.notes
                .push(format!("its blocks have {size} tokens, those of cache domain `{name}` {expected}"));
        }
        if let HashScheme::Vllm(scheme) = domain.hasher().scheme()
            && let Some(algorithm) = self.hash_algorithm.value.as_deref()
            && algorithm != scheme.algorithm().name()
        {
            let (name, expected) = (domain.name(), scheme.algorithm().name());
            self.notes.push(format!("it hashes by {algorithm}, cache domain `{name}` by {expected}"));
        }
    }

    fn find_streams(&mut self, url: &PodUrl, said: &Said<'_>) {
        if self.events_endpoint.value.is_none() {
            self.notes.push(said.why_no_events());
            return;
        }
        for rank in self.ranks.value.clone().unwrap_or_default() {
            match self.stream(url, said, rank) {
                Ok(stream) => self.streams.push(stream),
                Err(why) => self.notes.push(format!("no events of rank {rank}: {why}")),
            }
        }
    }

    fn stream(&mut self, url: &PodUrl, said: &Said<'_>, rank: u32) -> Result<EventStream, String> {
        let endpoint = said.of_rank(rank, &self.events_endpoint, |source| source.endpoint.as_deref())?;
        let endpoint = endpoint.ok_or("it has no endpoint")?;
        let mode = self.events_mode.value.unwrap_or_else(|| mode(&endpoint));
        let endpoint = match mode {
            Mode::Connect => at_pod(&endpoint, url)?,
            Mode::Bind => at_router(&endpoint, url)?,
        };
        let replay = said.of_rank(rank, &self.replay_endpoint, |source| source.replay_endpoint.as_deref());
        let replay = replay.and_then(|replay| replay.map(|replay| at_pod(&replay, url)).transpose());
        let replay_endpoint = replay.unwrap_or_else(|why| {
            self.notes.push(format!("no replays of rank {rank}: {why}"));
            None
        });
        let topic = self.topic.value.clone().unwrap_or_default();
        Ok(EventStream { rank, endpoint, mode, replay_endpoint, topic })
    }
}

impl From<&ModelAnswer> for ServedModel {
    fn from(answer: &ModelAnswer) -> Self {
        let ModelAnswer { id, root, parent, max_model_len } = answer.clone();
        Self { name: id, root, parent, max_model_len }
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::SourceAnswer;
    use super::*;
    use crate::load::Metrics;
    use crate::pods::domain;

    fn answer<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
        Some(serde_json::from_str(text).unwrap())
    }

    macro_rules! pod {
        ($name:literal) => {
            Learnt {
                models: answer::<super::super::answers::ModelsAnswer>(include_str!(concat!(
                    "../../../testdata/pods/",
                    $name,
                    "/models.json"
                )))
                .map(|answer| answer.data),
                version: Some("0.32.0".into()),
                sources: answer(include_str!(concat!(
                    "../../../testdata/pods/",
                    $name,
                    "/kv_event_sources.json"
                ))),
                metrics: Some(Metrics::parse(include_bytes!(concat!(
                    "../../../testdata/pods/",
                    $name,
                    "/metrics.txt"
                )))),
            }
        };
    }

    fn url(text: &str) -> PodUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_real_pod_tells_all_but_its_seed() {
        let known =
            Knowledge::new(&url("http://127.0.0.1:8101"), &KnownConfig::default(), &pod!("vllm-connect-0"));
        assert_eq!(
            (known.engine.value, known.version.value.as_deref()),
            (Some(Engine::Vllm), Some("0.32.0"))
        );
        assert_eq!(known.model_root, Fact::new(None, Some("tiny-llama".into())));
        assert_eq!((known.block_size.value, known.block_size.origin), (Some(32), Origin::Learnt));
        assert_eq!((known.blocks.value, known.prefix_caching.value), (Some(96), Some(true)));
        assert_eq!(known.hash_algorithm.value.as_deref(), Some("sha256_cbor"));
        assert_eq!(known.hash_seed, Fact::default());
        assert_eq!(known.ranks.value, Some(vec![0]));
        let models = known.models.unwrap();
        assert_eq!(
            (&*models[0].name, models[0].max_model_len, &models[0].parent),
            ("tiny", Some(2048), &None)
        );
        assert_eq!(models[1].root.as_deref(), Some("tiny-llama/lora-a"));
        assert_eq!(models[1].parent.as_deref(), Some("tiny"));
        let stream = EventStream {
            rank: 0,
            endpoint: "tcp://127.0.0.1:5557".into(),
            mode: Mode::Bind,
            replay_endpoint: Some("tcp://127.0.0.1:5600".into()),
            topic: "kv@pod-0@tiny".into(),
        };
        assert_eq!((known.streams, known.notes.len()), (vec![stream], 0));
    }

    #[test]
    fn what_a_pod_elsewhere_says_of_itself_is_put_into_reach_or_noted() {
        let far = url("http://10.0.0.7:8000");
        let known = Knowledge::new(&far, &KnownConfig::default(), &pod!("vllm-connect-0"));
        assert!(known.streams.is_empty() && known.notes[0].contains("its own loopback"), "{:?}", known.notes);
        let known = Knowledge::new(&far, &KnownConfig::default(), &pod!("vllm-bind"));
        assert!(known.notes[0].contains("on another machine"), "{:?}", known.notes);
        let config = KnownConfig { events_endpoint: Some("tcp://*:5557".into()), ..KnownConfig::default() };
        let known = Knowledge::new(&far, &config, &pod!("vllm-bind"));
        assert_eq!(known.streams[0].endpoint, "tcp://10.0.0.7:5557");
        assert_eq!(known.streams[0].replay_endpoint.as_deref(), Some("tcp://10.0.0.7:5610"));
        assert_eq!(
            known.events_endpoint.disagrees.as_deref(),
            Some("ipc:///tmp/kvroute-kv-events-8111.sock")
        );
    }

    #[test]
    fn ranks_have_their_own_endpoints_or_the_next_ports() {
        let source = |endpoint: &str| SourceAnswer {
            enable_kv_cache_events: true,
            publisher: Some("zmq".into()),
            endpoint: Some(endpoint.into()),
            replay_endpoint: None,
            topic: None,
        };
        let ends = |sources: &[(&str, SourceAnswer)], known: &KnownConfig| {
            let sources =
                sources.iter().map(|(rank, source)| ((*rank).to_string(), source.clone())).collect();
            let learnt = Learnt { sources: Some(sources), ..Learnt::default() };
            let known = Knowledge::new(&url("http://10.0.0.7:8000"), known, &learnt);
            known.streams.iter().map(|stream| (stream.rank, stream.endpoint.clone())).collect::<Vec<_>>()
        };
        let expected = [(0, "tcp://10.0.0.7:5557".to_string()), (1, "tcp://10.0.0.7:5558".into())];
        let none = KnownConfig::default();
        assert_eq!(ends(&[("0", source("tcp://*:5557")), ("1", source("tcp://*:5558"))], &none), expected);
        assert_eq!(ends(&[("0", source("tcp://*:5557")), ("1", source("tcp://*:5557"))], &none), expected);
        let configured =
            KnownConfig { ranks: Some(2), events_endpoint: Some("tcp://*:5557".into()), ..none.clone() };
        assert_eq!(ends(&[], &configured), expected);
        // One of many, whose server knows only itself.
        assert_eq!(ends(&[("3", source("tcp://*:5560"))], &none), [(3, "tcp://10.0.0.7:5560".to_string())]);
        let mut off = source("tcp://*:5557");
        off.publisher = Some("null".into());
        assert_eq!(
            ends(&[("0", off), ("x", source("tcp://*:1")), ("99999", source("tcp://*:1"))], &none),
            []
        );
    }

    #[test]
    fn of_a_pod_that_tells_nothing_the_least_is_assumed() {
        let mut known =
            Knowledge::new(&url("http://10.0.0.7:8000"), &KnownConfig::default(), &Learnt::default());
        assert_eq!((known.block_size.value, known.block_size.origin), (Some(16), Origin::Assumed));
        assert_eq!((known.ranks.value.clone(), known.ranks.origin), (Some(vec![0]), Origin::Assumed));
        assert_eq!((known.models.clone(), known.model_root.origin), (None, Origin::Unknown));
        assert!(known.notes[0].contains("known.events_endpoint"), "{:?}", known.notes);
        let domain = domain::of_pod(&KnownConfig::default(), &mut known).unwrap();
        assert_eq!((domain.name(), domain.serves(Some("anything"))), ("any model, own, 16", true));
    }

    #[test]
    fn hashes_are_translated_unless_the_seed_is_known() {
        let domain = |learnt: &Learnt, known: &KnownConfig| {
            let mut knowledge = Knowledge::new(&url("http://127.0.0.1:8101"), known, learnt);
            let domain = domain::of_pod(known, &mut knowledge).unwrap();
            (domain.name().to_string(), domain.is_native(), knowledge)
        };
        let (pod_0, pod_2, bind) = (pod!("vllm-connect-0"), pod!("vllm-connect-2"), pod!("vllm-bind"));
        let none = KnownConfig::default();
        let (name, native, _) = domain(&pod_0, &none);
        assert_eq!((&*name, native), ("tiny (tiny-llama), own, 32", false));
        assert_eq!(domain(&pod_2, &none).0, name, "algorithms do not matter where hashes are translated");
        assert_ne!(domain(&bind, &none).0, name, "block sizes do");

        let seeded = KnownConfig { hash_seed: Some("42".into()), ..none.clone() };
        let (name, native, known) = domain(&pod_0, &seeded);
        // The root of sha256_cbor with seed 42, of testdata/hashes/vllm.json.
        assert_eq!(
            (&*name, native),
            ("tiny (tiny-llama), vllm sha256_cbor 0.31 and later 9fa6eb00, 32", true)
        );
        assert_eq!(
            (known.hash_seed.value, known.hash_seed.origin),
            (Some(SeedStatus::Set), Origin::Configured)
        );

        let native = KnownConfig { hashing: Some(super::super::Hashing::Native), ..none.clone() };
        let (_, is_native, known) = domain(&pod_2, &native);
        assert!(is_native);
        assert_eq!(
            (known.hash_seed.value, known.hash_seed.origin),
            (Some(SeedStatus::Fixed), Origin::Assumed)
        );
        let (_, is_native, known) = domain(&bind, &native);
        assert!(!is_native && known.notes.iter().any(|note| note.contains("at random")), "{:?}", known.notes);
        let old = Learnt { version: None, ..pod_0.clone() };
        let (_, is_native, known) = domain(&old, &seeded);
        assert!(!is_native && known.notes[0].contains("version is unknown"), "{:?}", known.notes);
        let translated = KnownConfig { hashing: Some(super::super::Hashing::Translated), ..seeded };
        assert!(!domain(&pod_0, &translated).1);
    }

    #[test]
    fn what_is_configured_otherwise_than_learnt_is_used_and_shown() {
        let config =
            KnownConfig { block_size: Some(16), version: Some("0.31.0".into()), ..KnownConfig::default() };
        let known = Knowledge::new(&url("http://127.0.0.1:8101"), &config, &pod!("vllm-connect-0"));
        assert_eq!((known.block_size.value, known.block_size.disagrees), (Some(16), Some(32)));
        assert_eq!(known.version.disagrees.as_deref(), Some("0.32.0"));
    }
}
