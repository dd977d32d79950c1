//! `/metrics`: every series, gathered when they are asked for.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::sheet::{Labels, Sheet};
use super::tallies::{CACHES, FORMS, PodKey, PodTally, Tallies};
use super::{llm_d, pods, streams};
use crate::gateway::Gateway;

/// OpenMetrics, which Prometheus reads since 2.5.
pub(super) const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics, as text.
pub(super) fn text(gateway: &Arc<Gateway>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::clone(gateway))));
    let mut page = String::new();
    // A string takes all that is written to it.
    let _ = text::encode(&mut page, &registry);
    page
}

/// One look at everything.
#[derive(Debug)]
struct Scrape(Arc<Gateway>);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (gateway, mut sheet) = (&*self.0, Sheet(encoder));
        let tallies = &gateway.watch().tallies;
        let (router, fleet) = (gateway.router().status(), gateway.fleet().status());
        {
            let names: HashSet<&str> = fleet.pods.iter().map(|pod| pod.name.as_str()).collect();
            tallies.counts.lock().prune(|name| names.contains(name));
        }
        requests(&mut sheet, tallies)?;
        caches(&mut sheet, tallies)?;
        latencies(&mut sheet, tallies)?;
        prompts(&mut sheet, gateway, tallies)?;
        itself(&mut sheet, gateway)?;
        if gateway.watch().config.llm_d_names {
            llm_d::encode(&mut sheet, tallies, &router)?;
        }
        pods::encode(&mut sheet, &router, &fleet)?;
        streams::encode(&mut sheet, &fleet)?;
        if let Some(shared) = gateway.shared() {
            super::shared::encode(&mut sheet, &shared.status())?;
        }
        match gateway.index() {
            Some(index) => super::index::encode(&mut sheet, &index.status(), &tallies.index_lookups),
            None => Ok(()),
        }
    }
}

fn requests(sheet: &mut Sheet<'_>, tallies: &Tallies) -> fmt::Result {
    let counts = tallies.counts.lock();
    let statuses: Vec<_> =
        counts.requests.iter().map(|(key, count)| (key, key.2.to_string(), *count)).collect();
    let series = statuses.iter().map(|((endpoint, model, _), status, count)| {
        (vec![("endpoint", endpoint.name()), ("model", &**model), ("status", status.as_str())], *count)
    });
    let help = "Requests that ended, by the status of their answer; 0: the client left before there was one.";
    sheet.counters("kvroute_requests", help, series)?;
    let help = "Requests that began and have not ended.";
    sheet.gauge("kvroute_requests_in_flight", help, tallies.in_flight() as f64)?;
    let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let help =
        "Times that a pod failed a request before its answer began, so that another one was looked for.";
    sheet.counter("kvroute_retries", help, total(&tallies.retries))?;
    let help = "Requests whose client left before their end.";
    sheet.counter("kvroute_disconnects", help, total(&tallies.disconnects))?;
    let help = "Answers that their pod broke off after they had begun.";
    sheet.counter("kvroute_broken_answers", help, total(&tallies.broken))?;

    let pods = PodLabels::of(counts.pods.iter());
    let series = pods.0.iter().flat_map(|(labels, tally)| {
        tally.routed.iter().map(|((role, reason), count)| {
            ([labels.as_slice(), &[("role", *role), ("reason", *reason)]].concat(), *count)
        })
    });
    let help = "Requests by the pod they went to, its part in them (decode, prefill), and why it (picked, spilled, \
                warm-up; in-turn: nobody decided).";
    sheet.counters("kvroute_routed", help, series)
}

/// Tallies with the labels of their pods.
struct PodLabels<'a>(Vec<(Labels<'a>, &'a PodTally)>);

impl<'a> PodLabels<'a> {
    fn of(pods: impl Iterator<Item = (&'a PodKey, &'a PodTally)>) -> Self {
        Self(
            pods.map(|((name, rank), tally)| (vec![("pod", &**name), ("dp_rank", rank_text(*rank))], tally))
                .collect(),
        )
    }
}

/// A data-parallel rank as a label's value. Ranks are few: their texts are made once.
pub(super) fn rank_text(rank: u32) -> &'static str {
    static RANKS: LazyLock<Vec<String>> =
        LazyLock::new(|| (0..1024).map(|rank: u32| rank.to_string()).collect());
    RANKS.get(rank as usize).map_or("1024 or more", String::as_str)
}

/// A count of tokens: its metric, and where it is.
type Tokens = (&'static str, &'static str, fn(&PodTally) -> u64);

const TOKENS: [Tokens; 5] = [
    (
        "kvroute_prompt_tokens",
        "Tokens of the prompts that were routed and answered; of texts, estimated.",
        |tally| tally.prompt_tokens,
    ),
    (
        "kvroute_expected_cached_tokens",
        "Those of kvroute_prompt_tokens that were expected in the pod's cache.",
        |tally| tally.expected_tokens,
    ),
    (
        "kvroute_confirmed_prompt_tokens",
        "Tokens of the prompts of which the engine told how many it had cached, by its own count.",
        |tally| tally.confirmed_prompt_tokens,
    ),
    (
        "kvroute_confirmed_expected_tokens",
        "Of those requests, the tokens that were expected in the cache.",
        |tally| tally.confirmed_expected_tokens,
    ),
    (
        "kvroute_confirmed_cached_tokens",
        "Of those requests, the tokens that the engine says it had cached.",
        |tally| tally.confirmed_cached_tokens,
    ),
];

fn caches(sheet: &mut Sheet<'_>, tallies: &Tallies) -> fmt::Result {
    let counts = tallies.counts.lock();
    let pods = PodLabels::of(counts.pods.iter());
    for (name, help, tokens) in TOKENS {
        sheet.counters(name, help, pods.0.iter().map(|(labels, tally)| (labels.clone(), tokens(tally))))?;
    }
    Ok(())
}

fn latencies(sheet: &mut Sheet<'_>, tallies: &Tallies) -> fmt::Result {
    let by_cache = |histograms| CACHES.iter().map(|cache| vec![("cache", cache.name())]).zip(histograms);
    let help = "From a request's last byte to the first byte of its answer's body, by what its prompt found in the \
                cache (hit: nine tenths or more, partial, miss, unknown); successful answers only.";
    sheet.histograms("kvroute_first_byte_seconds", help, by_cache(&tallies.first_byte))?;
    let help = "From a request's last byte to the end of its answer, likewise; whole answers only.";
    sheet.histograms("kvroute_request_duration_seconds", help, by_cache(&tallies.duration))?;
    let help =
        "Reading, tokenizing and routing: from a request's last byte to its being sent; of the last try.";
    sheet.histograms("kvroute_overhead_seconds", help, [(Vec::new(), &tallies.overhead)])?;
    let help = "Weighted sum of the scores of the pod that was taken.";
    sheet.histograms("kvroute_decision_score", help, [(Vec::new(), &tallies.score)])?;
    let help = "How far the best pod's sum of scores was ahead of the next best's; 0: an even choice.";
    sheet.histograms("kvroute_decision_margin", help, [(Vec::new(), &tallies.margin)])
}

fn prompts(sheet: &mut Sheet<'_>, gateway: &Gateway, tallies: &Tallies) -> fmt::Result {
    let forms = FORMS.iter().zip(&tallies.prompts);
    let forms = forms.map(|(form, count)| (vec![("form", *form)], count.load(Ordering::Relaxed)));
    let help = "Prompts by how they were known to the router: token-ids, text, none.";
    sheet.counters("kvroute_prompts", help, forms)?;
    {
        let counts = tallies.counts.lock();
        let reasons = counts.untokenized.iter().map(|(reason, count)| (vec![("reason", *reason)], *count));
        let help = "Prompts that were known as text although there is a tokenizer, by why.";
        sheet.counters("kvroute_untokenized", help, reasons)?;
    }
    let help = "What tokenizing a prompt took, waiting included; where a tokenizer was asked.";
    sheet.histograms("kvroute_tokenization_seconds", help, [(Vec::new(), &tallies.tokenization)])?;
    let pools: Vec<_> = gateway
        .tokenizers()
        .iter()
        .map(|(model, pool)| (vec![("model", model)], pool.counters(), pool.tokenizer().cache_counters()))
        .collect();
    let with = |labels: &Labels<'_>, name: &'static str, value: &'static str| {
        let mut labels: Vec<(&'static str, String)> =
            labels.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        labels.push((name, value.to_owned()));
        labels
    };
    let results: Vec<_> = pools
        .iter()
        .flat_map(|(labels, pool, _)| {
            [
                (with(labels, "result", "answered"), pool.answered),
                (with(labels, "result", "queue-full"), pool.queue_full),
                (with(labels, "result", "too-late"), pool.too_late),
                (with(labels, "result", "panicked"), pool.panicked),
            ]
        })
        .collect();
    let help =
        "Requests that a model's tokenizer was asked for, by what came of it; all but answered are text.";
    sheet.counters("kvroute_tokenizer_requests", help, borrowed(&results))?;
    let waiting = pools.iter().map(|(labels, pool, _)| (labels.clone(), pool.waiting as f64));
    sheet.gauges("kvroute_tokenizer_waiting", "Requests that wait to be tokenized.", waiting)?;
    let found: Vec<_> = pools
        .iter()
        .flat_map(|(labels, _, cache)| {
            [(with(labels, "found", "yes"), cache.hit_bytes), (with(labels, "found", "no"), cache.miss_bytes)]
        })
        .collect();
    let help = "Bytes of text that were tokenized, by whether their ids were found in the tokenizer's cache.";
    sheet.counters("kvroute_tokenizer_text_bytes", help, borrowed(&found))?;
    let bytes = pools.iter().map(|(labels, _, cache)| (labels.clone(), cache.bytes as f64));
    sheet.gauges("kvroute_tokenizer_cache_bytes", "Memory of the tokenizer's cache.", bytes)
}

fn borrowed<'a>(series: &'a [(Vec<(&'static str, String)>, u64)]) -> impl Iterator<Item = (Labels<'a>, u64)> {
    series.iter().map(|(labels, value)| (labels.iter().map(|(k, v)| (*k, v.as_str())).collect(), *value))
}

fn itself(sheet: &mut Sheet<'_>, gateway: &Gateway) -> fmt::Result {
    let version = [(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)];
    sheet.gauges("kvroute_build_info", "1, with the gateway's version.", version)?;
    let help = "1 while the gateway ends its last requests and takes no new ones.";
    sheet.gauge("kvroute_draining", help, f64::from(u8::from(gateway.is_draining())))?;
    let help = "Bytes of requests' bodies that are held.";
    sheet.gauge("kvroute_buffered_bytes", help, gateway.buffered_bytes() as f64)?;
    let help = "Lines of the decision log that could not be written.";
    sheet.counter(
        "kvroute_decision_log_dropped",
        help,
        gateway.decision_log().map_or(0, |log| log.dropped()),
    )?;
    let spans = gateway.watch().traces.as_ref().map(|traces| traces.counts()).unwrap_or_default();
    let spans = spans.into_iter().map(|(result, count)| (vec![("result", result)], count));
    let help = "Spans of traces: sent, dropped because too many waited, failed to be sent.";
    sheet.counters("kvroute_trace_spans", help, spans)?;
    match resident_bytes() {
        Some(bytes) => sheet.gauge("process_resident_memory_bytes", "Memory of the process.", bytes),
        None => Ok(()),
    }
}

/// What Linux says; elsewhere nobody is asked.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}
