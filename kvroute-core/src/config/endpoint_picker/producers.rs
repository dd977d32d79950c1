//! Plugins whose parameters are the router's options: what is known of pods' caches, sessions, load.

use alloc::format;

use super::super::options::OverloadConfig;
use super::super::policy::CreditsConfig;
use super::super::problem::{Problem, shown};
use super::Translation;
use super::filters::bounded;
use super::node::{Mapping, Node};
use super::plugins::Plugin;
use crate::request::Prompt;

const ANOTHER: &str = "not mapped: it holds for the whole router, and another plugin sets it already:";

impl Translation<'_, '_> {
    /// What was sent where: `approx-prefix-cache-producer`.
    pub(super) fn approximate(&mut self, plugin: &Plugin<'_>) -> Result<(), Problem> {
        /// llm-d's blocks have at least so many tokens.
        const LEAST: u64 = 64;
        const MOST: u64 = 65_536;
        let sizes = ["blockSizeTokens", "blockSize", "autoTune"];
        let limits = ["maxPrefixTokensToMatch", "maxPrefixBlocksToMatch"];
        let known = [sizes[0], sizes[1], sizes[2], limits[0], limits[1], "lruCapacityPerServer"];
        let given = plugin.parameters(&known)?;
        for key in [sizes[1], limits[0], limits[1]] {
            given.whole(key)?;
        }
        let tunes = given.flag("autoTune")?.unwrap_or(true);
        if let Some(capacity) = given.get("lruCapacityPerServer") {
            let blocks = capacity.count(1)?;
            let instead = if tunes { "; with `autoTune` llm-d takes what a pod reports instead" } else { "" };
            let note = format!(
                "`lruCapacityPerServer` is `index.max_predicted`, in blocks of the cache domain (llm-d's have 64 \
                 tokens or more){instead}"
            );
            self.note(plugin, &note);
            if *self.max_predicted.get_or_insert(blocks) != blocks {
                self.note(plugin, &format!("{ANOTHER} `lruCapacityPerServer`"));
            }
        }
        let size = given.get("blockSizeTokens").map_or(Ok(16), |size| match size.count(1)? {
            tokens if tokens <= MOST => Ok(tokens),
            _ => Err(size.unexpected(&format!("{MOST} at most"))),
        })?;
        // With `autoTune` it is the pod's, which mostly is no more than the least.
        let bytes = if tunes { LEAST } else { size.max(LEAST) } as u32 * Prompt::BYTES_PER_TOKEN as u32;
        if let Some(keys) = given.given(&sizes) {
            let note = format!(
                "{keys}: blocks of token ids are the cache domain's; those of prompts that are only known as text are \
                 `text_block_bytes`, {bytes}"
            );
            self.note(plugin, &note);
            if *self.text_block_bytes.get_or_insert(bytes) != bytes {
                self.note(plugin, &format!("{ANOTHER} `text_block_bytes`"));
            }
        }
        if let Some(keys) = given.given(&limits) {
            self.note(plugin, &format!("not mapped: {keys}: prompts are matched to their end"));
        }
        Ok(())
    }

    /// What pods have by their events: `precise-prefix-cache-producer`, and the scorer that was both.
    pub(super) fn precise(&mut self, plugin: &Plugin<'_>) -> Result<(), Problem> {
        let known = [
            "tokenProcessorConfig",
            "indexerConfig",
            "kvEventsConfig",
            "speculativeIndexing",
            "speculativeTTL",
            "sessionManager",
        ];
        let given = plugin.parameters(&known)?;
        self.note(plugin, "the embedder subscribes to the pods' KV events and applies them (`apply`)");
        if given.get("tokenProcessorConfig").is_some() {
            given.mapping(
                "tokenProcessorConfig",
                &["blockSize", "blockSizeTokens", "hashSeed", "hashAlgorithm"],
            )?;
            let note = "not mapped: `tokenProcessorConfig`: block size, seed and hash are those of the pods' cache \
                        domain (`domains`)";
            self.note(plugin, note);
        }
        if let Some(keys) = given.given(&["kvEventsConfig", "sessionManager"]) {
            self.note(plugin, &format!("not mapped: {keys}: sockets and engines are the embedder's"));
        }
        let inner = [
            "kvBlockIndexConfig",
            "tokenizersPoolConfig",
            "prefixStoreConfig",
            "kvBlockScorerConfig",
            "tokenProcessorConfig",
        ];
        let weights = ["kvCacheBackendConfigs", "kvCacheDefaultBackendWeight"];
        let keys = [inner[0], inner[1], inner[2], inner[3], inner[4], weights[0], weights[1]];
        if let Some(indexer) = given.mapping("indexerConfig", &keys)? {
            if let Some(keys) = indexer.given(&inner) {
                let note =
                    format!("not mapped: {keys}: the index is kvroute's own, bounded by `index.max_bytes`");
                self.note(plugin, &note);
            }
            if indexer.given(&weights).is_some() {
                let credits = self.tiers(plugin, &indexer)?;
                if self.has_credits && self.credits != credits {
                    self.note(plugin, &format!("{ANOTHER} `kvCacheBackendConfigs`"));
                } else {
                    (self.credits, self.has_credits) = (credits, true);
                }
            }
        }
        let ttl = given.get("speculativeTTL").map(|ttl| ttl.milliseconds()).transpose()?;
        // 2 s, as llm-d has it, where it is 0.
        let ttl = ttl.filter(|ttl| *ttl > 0).unwrap_or(2000);
        let ttl = if given.flag("speculativeIndexing")?.unwrap_or(false) {
            let note = "`speculativeTTL` is `requests.speculation_ms`: what was just sent counts as cached where work \
                        is estimated, not in the scorer `kv-cache`";
            self.note(plugin, note);
            ttl
        } else {
            self.note(plugin, "without `speculativeIndexing`, `requests.speculation_ms` is 0");
            0
        };
        if *self.speculation_ms.get_or_insert(ttl) != ttl {
            self.note(plugin, &format!("{ANOTHER} `speculativeIndexing`"));
        }
        Ok(())
    }

    fn tiers(&mut self, plugin: &Plugin<'_>, indexer: &Mapping<'_>) -> Result<CreditsConfig, Problem> {
        let mut credits = CreditsConfig::default();
        let share = |node: Node<'_>| node.number_in(0.0, 1.0);
        if let Some(default) = indexer.get("kvCacheDefaultBackendWeight").map(share).transpose()? {
            (credits.disk, credits.external) = (default, default);
        }
        for backend in indexer.items("kvCacheBackendConfigs")? {
            let backend = backend.mapping(&["name", "weight"])?;
            let weight = share(backend.need("weight")?)?;
            match backend.need("name")?.text()? {
                "gpu" => credits.gpu = weight,
                "cpu" => credits.cpu = weight,
                "disk" => credits.disk = weight,
                "external" => credits.external = weight,
                other => {
                    let name = shown(other);
                    let note = format!("not mapped: backend `{name}`: tiers are gpu, cpu, disk and external");
                    self.note(plugin, &note);
                }
            }
        }
        Ok(credits)
    }

    /// Whose session a request is of: the scorer and the filter of sessions.
    pub(super) fn session(&mut self, plugin: &Plugin<'_>) -> Result<(), Problem> {
        let flat = ["headerName", "evictionTtlSeconds", "evictionSweepSeconds", "missThreshold"];
        let known =
            ["strategy", "algorithm", "profileName", "encodedEndpointHeaderConfig", "sessionIdConfig"];
        let known = [known[0], known[1], known[2], known[3], known[4], flat[0], flat[1], flat[2], flat[3]];
        let given = plugin.parameters(&known)?;
        given.text("profileName")?;
        given.mapping("encodedEndpointHeaderConfig", &["header"])?;
        let nested =
            given.mapping("sessionIdConfig", &["sources", "evictionTtlSeconds", "evictionSweepSeconds"])?;
        // The name, and what a session is remembered for without another word; seconds.
        let (key, strategy) = match given.text("strategy")? {
            Some(strategy) => ("strategy", Some(strategy)),
            None => ("algorithm", given.text("algorithm")?),
        };
        let default = match strategy {
            None | Some("encoded_endpoint_header") => {
                let note = "the embedder hands session tokens to clients and reads them back; they are sealed, not \
                            llm-d's, and need a `sessions.key`";
                self.note(plugin, note);
                return Ok(());
            }
            Some("session_id") => 300.0,
            Some("session_id_header") => 600.0,
            Some(_) => {
                let expected = "`encoded_endpoint_header`, `session_id` or `session_id_header`";
                return Err(given.need(key)?.unexpected(expected));
            }
        };
        self.note(plugin, "the embedder reads the session's id from the request");
        let ttl = nested.and_then(|nested| nested.get(flat[1])).or_else(|| given.get(flat[1]));
        let seconds = ttl.map_or(Ok(default), |ttl| ttl.number_in(0.0, f64::MAX))?;
        let seconds = (libm::ceil(seconds) as u64).max(1);
        if *self.session_seconds.get_or_insert(seconds) != seconds {
            self.note(plugin, &format!("{ANOTHER} `evictionTtlSeconds`"));
        }
        Ok(())
    }

    /// From when on a pod is saturated: `utilization-detector`. As a filter it allows for some headroom.
    pub(super) fn detector(&mut self, plugin: &Plugin<'_>, filters: bool) -> Result<(), Problem> {
        let known = [
            "queueDepthThreshold",
            "kvCacheUtilThreshold",
            "headroom",
            "metricsStalenessThreshold",
            "stalenessPolicy",
            "inFlightLoadProducerName",
        ];
        let given = plugin.parameters(&known)?;
        self.reads(&given, &known[5..])?;
        let bounds = thresholds(&given)?;
        let headroom = given.get("headroom").map_or(Ok(0.0), |headroom| headroom.number_in(0.0, f64::MAX))?;
        given.get("metricsStalenessThreshold").map(|time| time.milliseconds()).transpose()?;
        if let Some(keys) = given.given(&known[3..5]) {
            self.note(plugin, &format!("not mapped: {keys}: a load report counts until the next"));
        }
        if filters {
            let more = 1.0 + headroom;
            let waiting = bounded(libm::ceil(f64::from(bounds.waiting) * more));
            let kv_usage = (f64::from(bounds.kv_usage) * more) as f32;
            self.overload(plugin, OverloadConfig { waiting, kv_usage: kv_usage.min(f32::MAX) });
            return Ok(());
        }
        if headroom > 0.0 {
            self.note(plugin, "not mapped: `headroom`: no profile has the detector as a filter");
        }
        self.note(
            plugin,
            "its thresholds are `overload`; admission is the gateway's, and no profile avoids overloaded pods by itself \
             (add the filter `overload` for that)",
        );
        self.overload(plugin, bounds);
        Ok(())
    }

    /// Sets the router's bounds.
    pub(super) fn overload(&mut self, plugin: &Plugin<'_>, bounds: OverloadConfig) {
        if *self.overload.get_or_insert(bounds.clone()) != bounds {
            self.note(plugin, &format!("{ANOTHER} `overload`"));
        }
    }
}

/// The thresholds of a detector, llm-d's where they are left out.
pub(super) fn thresholds(given: &Mapping<'_>) -> Result<OverloadConfig, Problem> {
    let waiting = given.get("queueDepthThreshold").map_or(Ok(5), |depth| depth.count(1))?;
    let kv_usage =
        given.get("kvCacheUtilThreshold").map_or(Ok(0.8), |share| match share.number_in(0.0, 1.0)? {
            0.0 => Err(share.unexpected("a number above 0")),
            share => Ok(share),
        })?;
    Ok(OverloadConfig { waiting: u32::try_from(waiting).unwrap_or(u32::MAX), kv_usage: kv_usage as f32 })
}
