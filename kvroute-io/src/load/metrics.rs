//! What a page of metrics says of an engine's load.
//!
//! | | waiting | running | KV usage | cache |
//! |---|---|---|---|---|
//! | vLLM | `vllm:num_requests_waiting` | `vllm:num_requests_running` | `vllm:kv_cache_usage_perc` | `vllm:cache_config_info` |
//! | SGLang | `sglang:num_queue_reqs` | `sglang:num_running_reqs` | `sglang:token_usage` | `sglang:cache_config_info` |
//! | trtllm-serve | `trtllm_num_requests_waiting` | `trtllm_num_requests_running` | `trtllm_kv_cache_utilization` | `trtllm_kv_cache_tokens_per_block`, `_max_blocks` |
//! | Triton | `nv_trt_llm_request_metrics` | the same | `nv_trt_llm_kv_cache_block_metrics` | the same |
//!
//! vLLM's names are those of real pods (0.32); `vllm:gpu_cache_usage_perc` is what 0.9 called the KV usage. The others
//! are those that llm-d-router ebab687 scrapes, and have not been tried on running engines.

use std::collections::BTreeMap;

use kvroute_core::LoadReport;
use serde::Serialize;

use super::text::Sample;

/// Whose metrics they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Engine {
    /// vLLM: `vllm:...`.
    Vllm,
    /// SGLang: `sglang:...`.
    Sglang,
    /// TensorRT-LLM's own server, `trtllm-serve`: `trtllm_...`.
    Trtllm,
    /// TensorRT-LLM behind Triton: `nv_trt_llm_...`.
    Triton,
}

/// What a page of metrics says. All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Whose they are; the first that is recognised.
    pub engine: Option<Engine>,
    /// Data-parallel ranks, in order. Metrics that name none are rank 0's.
    pub ranks: Vec<RankMetrics>,
    /// How the KV cache is laid out; rank 0's, as it stands first.
    pub cache: Option<CacheInfo>,
    /// LoRA adapters in use. vLLM keeps old label sets listed, with the time of each: this is the newest.
    pub adapters: Option<AdapterUse>,
    /// When the engine's process started; seconds since 1970.
    pub started: Option<f64>,
    /// Lines of the wanted families that could not be read.
    pub malformed: u32,
}

/// What a page says of one data-parallel rank (the label `engine` of vLLM, `dp_rank` of SGLang).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RankMetrics {
    /// The rank.
    pub rank: u32,
    /// Its load, if running or waiting requests are told; what is not told is 0.
    pub load: Option<LoadReport>,
    /// What its prefix cache was asked for and had.
    pub cache: Option<CacheUse>,
}

/// What a prefix cache was asked for and had, since the engine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheUse {
    /// Tokens it was asked for (`vllm:prefix_cache_queries_total`).
    pub queried_tokens: u64,
    /// Tokens it had (`vllm:prefix_cache_hits_total`).
    pub hit_tokens: u64,
}

/// How a KV cache is laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheInfo {
    /// Tokens a block (`block_size`; SGLang's `page_size`).
    pub block_size: Option<u32>,
    /// Blocks (`num_gpu_blocks`; SGLang's `num_pages`).
    pub blocks: Option<u64>,
    /// `prefix_caching_hash_algo`.
    pub hash_algorithm: Option<String>,
    /// `enable_prefix_caching`.
    pub is_prefix_caching: Option<bool>,
}

/// LoRA adapters in use (`vllm:lora_requests_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AdapterUse {
    /// Adapters that can be in use at one time.
    pub max: u32,
    /// Names of those that running requests use.
    pub running: Vec<String>,
    /// Names of those that waiting requests ask for.
    pub waiting: Vec<String>,
}

impl Metrics {
    /// Most ranks that are read of a page; what it says of higher ones is malformed.
    pub const MAX_RANKS: u32 = 1024;

    /// Reads a page, whatever is in it. Costs one pass; allocates for what it answers, not for lines.
    #[must_use]
    pub fn parse(page: &[u8]) -> Self {
        let page = String::from_utf8_lossy(page);
        let mut reader = Reader::default();
        for line in page.split('\n') {
            let family = Family::of(line);
            if let Some(family) = family
                && Sample::parse(line.trim_end_matches('\r'))
                    .and_then(|sample| reader.take(family, &sample))
                    .is_none()
            {
                reader.metrics.malformed = reader.metrics.malformed.saturating_add(1);
            }
        }
        reader.finish()
    }
}

/// What a sample is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Running(Engine),
    Waiting(Engine),
    KvUsage(Engine),
    Queried,
    Hit,
    Adapters,
    Cache(Engine),
    /// Tokens a block, where they are a family of their own.
    BlockSize,
    /// Blocks, likewise.
    Blocks,
    TritonRequests,
    TritonBlocks,
    Started,
}

impl Family {
    fn of(line: &str) -> Option<Self> {
        // Most lines are of no interest; their first letters tell.
        let is_wanted = ["vllm:", "sglang:", "trtllm_", "nv_trt", "process_s"].iter();
        if !is_wanted.clone().any(|prefix| line.starts_with(prefix)) {
            return None;
        }
        let name = &line[..line.find(['{', ' ', '\t', '\r']).unwrap_or(line.len())];
        Some(match name {
            "vllm:num_requests_running" => Self::Running(Engine::Vllm),
            "vllm:num_requests_waiting" => Self::Waiting(Engine::Vllm),
            "vllm:kv_cache_usage_perc" | "vllm:gpu_cache_usage_perc" => Self::KvUsage(Engine::Vllm),
            "vllm:prefix_cache_queries_total" => Self::Queried,
            "vllm:prefix_cache_hits_total" => Self::Hit,
            "vllm:lora_requests_info" => Self::Adapters,
            "vllm:cache_config_info" => Self::Cache(Engine::Vllm),
            "sglang:num_running_reqs" => Self::Running(Engine::Sglang),
            "sglang:num_queue_reqs" => Self::Waiting(Engine::Sglang),
            "sglang:token_usage" => Self::KvUsage(Engine::Sglang),
            "sglang:cache_config_info" => Self::Cache(Engine::Sglang),
            "trtllm_num_requests_running" => Self::Running(Engine::Trtllm),
            "trtllm_num_requests_waiting" => Self::Waiting(Engine::Trtllm),
            "trtllm_kv_cache_utilization" => Self::KvUsage(Engine::Trtllm),
            "trtllm_kv_cache_tokens_per_block" => Self::BlockSize,
            "trtllm_kv_cache_max_blocks" => Self::Blocks,
            "nv_trt_llm_request_metrics" => Self::TritonRequests,
            "nv_trt_llm_kv_cache_block_metrics" => Self::TritonBlocks,
            "process_start_time_seconds" => Self::Started,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Default)]
struct Rank {
    running: Option<u32>,
    waiting: Option<u32>,
    kv_usage: Option<f32>,
    queried: Option<u64>,
    hit: Option<u64>,
}

#[derive(Default)]
struct Reader {
    metrics: Metrics,
    ranks: BTreeMap<u32, Rank>,
    /// When the adapters that are kept were reported.
    adapters_at: f64,
}

impl Reader {
    /// Takes in a sample; `None` if it makes no sense.
    fn take(&mut self, family: Family, sample: &Sample<'_>) -> Option<()> {
        match family {
            Family::Running(engine) => self.take_running(engine, sample)?,
            Family::Waiting(engine) => self.take_waiting(engine, sample)?,
            Family::KvUsage(engine) => self.take_kv_usage(engine, sample)?,
            Family::Queried => self.rank(sample)?.queried = Some(count(sample.value)?),
            Family::Hit => self.rank(sample)?.hit = Some(count(sample.value)?),
            Family::Adapters => self.take_adapters(sample)?,
            Family::Cache(engine) => self.take_cache(engine, sample),
            Family::BlockSize => self.cache().block_size = Some(small(sample.value)?),
            Family::Blocks => self.cache().blocks = Some(count(sample.value)?),
            Family::TritonRequests => match sample.label("request_type").as_deref()? {
                "scheduled" => self.take_running(Engine::Triton, sample)?,
                "waiting" => self.take_waiting(Engine::Triton, sample)?,
                _ => {}
            },
            Family::TritonBlocks => match sample.label("kv_cache_block_type").as_deref()? {
                "fraction" => self.take_kv_usage(Engine::Triton, sample)?,
                "tokens_per" => self.cache().block_size = Some(small(sample.value)?),
                "max" => self.cache().blocks = Some(count(sample.value)?),
                _ => {}
            },
            Family::Started => self.metrics.started = sample.value.is_finite().then_some(sample.value),
        }
        Some(())
    }

    /// What is known so far of the rank that a sample is about.
    fn rank(&mut self, sample: &Sample<'_>) -> Option<&mut Rank> {
        let label = sample.label("engine").or_else(|| sample.label("dp_rank"));
        let rank = label.map_or(Some(0), |label| label.parse().ok())?;
        (rank < Metrics::MAX_RANKS).then(|| self.ranks.entry(rank).or_default())
    }

    // Where a rank has several samples (SGLang has one for each tensor-parallel rank), they tell of the same requests.

    fn take_running(&mut self, engine: Engine, sample: &Sample<'_>) -> Option<()> {
        let running = small(sample.value)?;
        let rank = self.rank(sample)?;
        rank.running = rank.running.max(Some(running));
        self.metrics.engine.get_or_insert(engine);
        Some(())
    }

    fn take_waiting(&mut self, engine: Engine, sample: &Sample<'_>) -> Option<()> {
        let waiting = small(sample.value)?;
        let rank = self.rank(sample)?;
        rank.waiting = rank.waiting.max(Some(waiting));
        self.metrics.engine.get_or_insert(engine);
        Some(())
    }

    fn take_kv_usage(&mut self, engine: Engine, sample: &Sample<'_>) -> Option<()> {
        if !sample.value.is_finite() {
            return None;
        }
        // Rounding, and blocks that are lent twice, may go beyond.
        let usage = sample.value.clamp(0.0, 1.0) as f32;
        let rank = self.rank(sample)?;
        rank.kv_usage = Some(rank.kv_usage.unwrap_or(0.0).max(usage));
        self.metrics.engine.get_or_insert(engine);
        Some(())
    }

    fn take_adapters(&mut self, sample: &Sample<'_>) -> Option<()> {
        if self.metrics.adapters.is_some() && sample.value < self.adapters_at {
            return Some(());
        }
        let names = |label| {
            let names = sample.label(label)?;
            Some(names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect())
        };
        let adapters = AdapterUse {
            max: sample.label("max_lora")?.parse().ok()?,
            running: names("running_lora_adapters")?,
            waiting: names("waiting_lora_adapters")?,
        };
        self.adapters_at = if sample.value.is_finite() { sample.value } else { return None };
        self.metrics.adapters = Some(adapters);
        Some(())
    }

    fn cache(&mut self) -> &mut CacheInfo {
        self.metrics.cache.get_or_insert_default()
    }

    /// The labels are texts of Python's: a number, `None`, `True`.
    fn take_cache(&mut self, engine: Engine, sample: &Sample<'_>) {
        if self.metrics.cache.is_some() {
            return;
        }
        let (block_size, blocks) = match engine {
            Engine::Sglang => ("page_size", "num_pages"),
            _ => ("block_size", "num_gpu_blocks"),
        };
        let number = |label| sample.label(label).and_then(|text| text.parse().ok());
        let cache = CacheInfo {
            block_size: number(block_size).and_then(|size: u64| u32::try_from(size).ok()),
            blocks: number(blocks),
            hash_algorithm: sample
                .label("prefix_caching_hash_algo")
                .filter(|name| !name.is_empty() && name != "None")
                .map(|name| name.into_owned()),
            is_prefix_caching: sample.label("enable_prefix_caching").and_then(|text| match &*text {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            }),
        };
        self.metrics.cache = Some(cache);
    }

    fn finish(self) -> Metrics {
        let ranks = self.ranks.into_iter().map(|(rank, found)| {
            let load = (found.running.is_some() || found.waiting.is_some()).then(|| LoadReport {
                running: found.running.unwrap_or(0),
                waiting: found.waiting.unwrap_or(0),
                kv_usage: found.kv_usage.unwrap_or(0.0),
            });
            let cache = found.queried.zip(found.hit);
            let cache = cache.map(|(queried_tokens, hit_tokens)| CacheUse { queried_tokens, hit_tokens });
            RankMetrics { rank, load, cache }
        });
        Metrics { ranks: ranks.collect(), ..self.metrics }
    }
}

/// A number of things; what is beyond counting saturates.
fn count(value: f64) -> Option<u64> {
    (value >= 0.0).then_some(value as u64)
}

/// A number of things of which there are not so many.
fn small(value: f64) -> Option<u32> {
    (value >= 0.0).then_some(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! page {
        ($name:literal) => {
            include_bytes!(concat!("../../../testdata/pods/", $name)).as_slice()
        };
    }

    fn load(running: u32, waiting: u32, kv_usage: f32) -> Option<LoadReport> {
        Some(LoadReport { running, waiting, kv_usage })
    }

    #[test]
    fn a_real_vllm_page_tells_load_cache_adapters_and_start() {
        let metrics = Metrics::parse(page!("vllm-connect-0/metrics.txt"));
        assert_eq!(metrics.engine, Some(Engine::Vllm));
        let cache = Some(CacheUse { queried_tokens: 14_525, hit_tokens: 5696 });
        assert_eq!(metrics.ranks, [RankMetrics { rank: 0, load: load(0, 0, 0.0), cache }]);
        let info = metrics.cache.unwrap();
        assert_eq!((info.block_size, info.blocks), (Some(32), Some(96)));
        assert_eq!(
            (info.hash_algorithm.as_deref(), info.is_prefix_caching),
            (Some("sha256_cbor"), Some(true))
        );
        let idle = AdapterUse { max: 2, running: Vec::new(), waiting: Vec::new() };
        assert_eq!(metrics.adapters, Some(idle), "the newest of three label sets");
        assert_eq!((metrics.started, metrics.malformed), (Some(1_795_335_601.02), 0));
    }

    #[test]
    fn the_other_engines_are_recognised_by_their_names() {
        let of = |page| {
            let Metrics { engine, ranks, cache, malformed, .. } = Metrics::parse(page);
            let cache = cache.unwrap();
            assert_eq!((ranks.len(), ranks[0].rank, malformed), (1, 0, 0));
            (engine.unwrap(), ranks[0].load, cache.block_size.unwrap(), cache.blocks.unwrap())
        };
        assert_eq!(of(page!("sglang-metrics.txt")), (Engine::Sglang, load(7, 2, 0.35), 64, 2048));
        assert_eq!(of(page!("trtllm-metrics.txt")), (Engine::Trtllm, load(3, 1, 0.125), 32, 4096));
        assert_eq!(of(page!("triton-metrics.txt")), (Engine::Triton, load(9, 4, 0.5), 64, 2200));
    }

    #[test]
    fn each_data_parallel_rank_has_a_report_of_its_own() {
        let page = b"vllm:num_requests_running{engine=\"1\",model_name=\"x\"} 5.0\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"x\"} 3.0\n\
            vllm:num_requests_waiting{engine=\"1\",model_name=\"x\"} 2.0\n\
            vllm:gpu_cache_usage_perc{engine=\"0\",model_name=\"x\"} 0.25\n\
            vllm:prefix_cache_queries_total{engine=\"2\"} 7.0\n";
        let loads: Vec<_> = Metrics::parse(page).ranks.iter().map(|rank| (rank.rank, rank.load)).collect();
        assert_eq!(loads, [(0, load(3, 0, 0.25)), (1, load(5, 2, 0.0)), (2, None)]);
    }

    #[test]
    fn of_the_adapters_label_sets_the_newest_counts_wherever_it_stands() {
        let line = |running: &str, time| {
            format!(
                "vllm:lora_requests_info{{max_lora=\"4\",running_lora_adapters=\"{running}\",waiting_lora_adapters=\"w,\"}} {time}\n"
            )
        };
        let lines = [line("old", 1.5e9), line("a,b", 1.7e9), line("older", 1.4e9)];
        for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
            let page: String = order.iter().map(|&at| &*lines[at]).collect();
            let adapters = Metrics::parse(page.as_bytes()).adapters.unwrap();
            assert_eq!((adapters.max, adapters.running), (4, vec!["a".to_string(), "b".into()]));
            assert_eq!(adapters.waiting, ["w"]);
        }
    }

    #[test]
    fn nonsense_is_counted_and_costs_nothing_else() {
        let page = b"vllm:num_requests_running{engine=\"0\"} -3\n\
            vllm:num_requests_running{engine=\"zero\"} 3\n\
            vllm:num_requests_running{engine=\"1024\"} 3\n\
            vllm:num_requests_running\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} NaN\n\
            vllm:lora_requests_info{max_lora=\"x\"} 1\n\
            vllm:num_requests_runnin{engine=\"0\"} 9\n\
            \xff\xfe\x00 vllm:num_requests_running 8\n\
            vllm:num_requests_waiting{engine=\"0\"} 1e300\r\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 7\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.malformed, 6);
        assert_eq!((metrics.ranks.len(), metrics.ranks[0].load), (1, load(0, u32::MAX, 1.0)));
        assert_eq!(Metrics::parse(b""), Metrics::default());
        assert_eq!(Metrics::parse(b"<html>\n<body>503</body></html>").engine, None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_what_is_reported_is_in_range(
            lines in proptest::collection::vec(("(vllm:num_requests_running|vllm:kv_cache_usage_perc|vllm:lora_requests_info|nv_trt_llm_request_metrics|sglang:cache_config_info)?", "\\PC{0,40}"), 0..20),
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
        ) {
            let mut page: Vec<u8> = lines.iter().flat_map(|(name, rest)| format!("{name}{rest}\n").into_bytes()).collect();
            page.extend(bytes);
            let metrics = Metrics::parse(&page);
            for rank in metrics.ranks {
                proptest::prop_assert!(rank.load.is_none_or(|load| (0.0..=1.0).contains(&load.kv_usage)));
            }
        }
    }
}
