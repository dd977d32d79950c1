//! Series of the index that gateways share.

use std::fmt;

use kvroute_io::shared::index::IndexStatus;
use prometheus_client::metrics::histogram::Histogram;

use super::sheet::Sheet;

pub(super) fn encode(sheet: &mut Sheet<'_>, status: &IndexStatus, waits: &Histogram) -> fmt::Result {
    if let Some(reader) = &status.reader {
        let results = [
            ("answered", reader.answered),
            ("late", reader.timeouts),
            ("skipped", reader.skipped),
            ("failed", reader.failures),
        ];
        let help = "Lookups in the shared index, by what came of them.";
        sheet.counters(
            "kvroute_shared_index_lookups",
            help,
            results.map(|(name, n)| (vec![("result", name)], n)),
        )?;
        sheet.counter(
            "kvroute_shared_index_hits",
            "Lookups that found a pod with a block at least.",
            reader.hits,
        )?;
        sheet.counter(
            "kvroute_shared_index_timeouts",
            "Lookups that had no answer in time.",
            reader.timeouts,
        )?;
        let help = "How long decisions waited for the shared index.";
        sheet.histograms("kvroute_shared_index_seconds", help, [(Vec::new(), waits)])?;
        let answering = f64::from(u8::from(reader.is_answering));
        sheet.gauge("kvroute_shared_index_answering", "1 while the shared index answers.", answering)?;
    }
    let Some(writer) = &status.writer else { return Ok(()) };
    let pods = [
        ("written", writer.pods),
        ("of-others", writer.pods_of_others),
        ("not-plain", writer.pods_not_plain),
    ];
    let help = "Pods, by whether this gateway writes of them: another does, or their blocks alone do not say what they can use.";
    let pods = pods.map(|(name, n)| (vec![("state", name)], n as f64));
    sheet.gauges("kvroute_shared_index_pods", help, pods)?;
    let blocks = [
        ("added", writer.blocks_added),
        ("removed", writer.blocks_removed),
        ("refused", writer.blocks_refused),
    ];
    let help = "Blocks told to the shared index, confirmations included; refused: it had no memory.";
    sheet.counters(
        "kvroute_shared_index_blocks",
        help,
        blocks.map(|(name, n)| (vec![("change", name)], n)),
    )?;
    let help = "Commands of the writer that failed, after which pods are told anew.";
    sheet.counter("kvroute_shared_index_write_failures", help, writer.failures)
}
