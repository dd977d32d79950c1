//! Series of the router and its pods, from what they say of themselves when asked.

use std::collections::HashMap;
use std::fmt;

use kvroute_core::index::{IgnoreReason, TrustLevel};
use kvroute_core::router::{PodStatus, RouterStatus};
use kvroute_io::fleet::{FleetStatus, PodState, RankStatus};

use super::MAX_PODS;
use super::exposition::rank_text;
use super::sheet::{Labels, Sheet};

/// A number that each pod of the router has: its metric, and where it is.
type Count = (&'static str, &'static str, fn(&PodStatus) -> u64);

/// A number that a pod may have.
type Level = (&'static str, &'static str, fn(&Pod<'_>) -> Option<f64>);

const COUNTS: [Count; 11] = [
    ("kvroute_event_batches", "Batches of KV events applied.", |pod| pod.stream.batches),
    ("kvroute_events", "KV events in them.", |pod| pod.stream.events),
    ("kvroute_blocks_stored", "Blocks that a pod's events said it stored, copies included.", |pod| {
        pod.stream.blocks_stored
    }),
    ("kvroute_blocks_removed", "Blocks that left a pod's view, copies and clears included.", |pod| {
        pod.stream.blocks_removed
    }),
    ("kvroute_blocks_refused", "Blocks of stores that were left out.", |pod| pod.stream.blocks_refused),
    ("kvroute_blocks_unknown_removals", "Removals of blocks the pod was not known to hold.", |pod| {
        pod.stream.unknown_removals
    }),
    ("kvroute_events_parked", "Events whose blocks had to wait for their parent.", |pod| pod.stream.parked),
    ("kvroute_event_gaps", "Times that batches were found missing.", |pod| pod.stream.gaps),
    ("kvroute_view_clears", "Times that a pod's whole view was dropped, by its engine or by us.", |pod| {
        pod.stream.clears
    }),
    ("kvroute_engine_restarts", "Engine restarts noticed by the stream of events.", |pod| {
        pod.stream.restarts
    }),
    ("kvroute_predicted_refused", "Predicted blocks that were left out at the memory bound.", |pod| {
        pod.predicted.refused
    }),
];

const LEVELS: [Level; 13] = [
    ("kvroute_pod_accepting", "1 if the pod takes new requests.", |pod| Some(one_if(pod.status.accepting))),
    ("kvroute_pod_overloaded", "1 if its load reached the router's bounds.", |pod| {
        Some(one_if(pod.status.overloaded))
    }),
    ("kvroute_pod_failures", "Requests that failed since it last answered one.", |pod| {
        Some(f64::from(pod.status.failures))
    }),
    ("kvroute_pod_blocks", "Blocks that the pod holds as far as its events say, copies included.", |pod| {
        Some(pod.status.stream.blocks_stored.saturating_sub(pod.status.stream.blocks_removed) as f64)
    }),
    ("kvroute_pod_parked_blocks", "Orphans: blocks that wait for their parent.", |pod| {
        Some(pod.status.parked_blocks as f64)
    }),
    (
        "kvroute_pod_predicted_blocks",
        "Blocks that were sent to the pod and are predicted in its cache.",
        |pod| Some(pod.status.predicted.blocks as f64),
    ),
    ("kvroute_pod_booked_requests", "Requests that this router has in flight on the pod.", |pod| {
        Some(f64::from(pod.status.booked.requests))
    }),
    ("kvroute_pod_booked_prefill_tokens", "Tokens of theirs that the pod has yet to prefill.", |pod| {
        Some(pod.status.booked.prefill_tokens as f64)
    }),
    ("kvroute_pod_running_requests", "Requests that the pod computes, by its last load report.", |pod| {
        pod.status.load.map(|load| f64::from(load.running))
    }),
    ("kvroute_pod_waiting_requests", "Requests that wait in the pod, by its last load report.", |pod| {
        pod.status.load.map(|load| f64::from(load.waiting))
    }),
    (
        "kvroute_pod_kv_usage_ratio",
        "Share of the pod's KV cache in use, 0 to 1, by its last load report.",
        |pod| pod.status.load.map(|load| f64::from(load.kv_usage)),
    ),
    ("kvroute_pod_load_age_seconds", "Age of the pod's last load report.", |pod| {
        pod.rank.and_then(|rank| rank.load_seconds_ago)
    }),
    ("kvroute_pod_load_stale", "1 if that is so old that it counts no more.", |pod| {
        pod.rank.map(|rank| one_if(rank.stale))
    }),
];

fn one_if(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// A pod of the router, with what the fleet knows of that rank.
struct Pod<'a> {
    status: &'a PodStatus,
    rank: Option<&'a RankStatus>,
}

impl<'a> Pod<'a> {
    fn labels(&self) -> Labels<'a> {
        vec![("pod", &self.status.name), ("dp_rank", rank_text(self.status.dp_rank))]
    }

    fn labels_and(&self, name: &'static str, value: &'a str) -> Labels<'a> {
        let mut labels = self.labels();
        labels.push((name, value));
        labels
    }
}

pub(super) fn encode(sheet: &mut Sheet<'_>, router: &RouterStatus, fleet: &FleetStatus) -> fmt::Result {
    let ranks: HashMap<u64, &RankStatus> =
        fleet.pods.iter().flat_map(|pod| &pod.ranks).map(|rank| (rank.id, rank)).collect();
    let pods = router.pods.iter().take(MAX_PODS);
    let pods: Vec<Pod<'_>> =
        pods.map(|status| Pod { status, rank: ranks.get(&status.id).copied() }).collect();
    index(sheet, router)?;
    let left_out = router.pods.len() - pods.len();
    let help = "Pods that have no series of their own, because there are more than 1024.";
    sheet.gauge("kvroute_pods_left_out", help, left_out as f64)?;
    kinds(sheet, &pods)?;
    for (name, help, count) in COUNTS {
        sheet.counters(name, help, pods.iter().map(|pod| (pod.labels(), count(pod.status))))?;
    }
    for (name, help, level) in LEVELS {
        let series = pods.iter().filter_map(|pod| Some((pod.labels(), level(pod)?)));
        sheet.gauges(name, help, series)?;
    }
    states(sheet, fleet)?;
    scrapes(sheet, fleet)
}

fn index(sheet: &mut Sheet<'_>, router: &RouterStatus) -> fmt::Result {
    let (index, counters) = (&router.index, &router.counters);
    sheet.gauge("kvroute_index_blocks", "Distinct blocks that events announced.", index.blocks as f64)?;
    let help = "Memory of blocks and their holders, which index.max_bytes bounds.";
    sheet.gauge("kvroute_index_bytes", help, index.bytes as f64)?;
    sheet.gauge("kvroute_index_view_bytes", "Memory of the pods' views.", index.view_bytes as f64)?;
    sheet.gauge("kvroute_sessions", "Sessions remembered by id.", counters.sessions as f64)?;
    let help = "Requests that the router forgot because their time was over.";
    sheet.counter("kvroute_requests_expired", help, counters.expired)?;
    let help = "Requests that the router did not track because too many were in flight.";
    sheet.counter("kvroute_requests_untracked", help, counters.untracked)
}

/// What a pod is, as far as that changes seldom.
fn kinds(sheet: &mut Sheet<'_>, pods: &[Pod<'_>]) -> fmt::Result {
    let info = pods.iter().map(|pod| {
        let mut labels = pod.labels_and("role", pod.status.role);
        labels.push(("domain", &pod.status.domain));
        (labels, 1.0)
    });
    sheet.gauges("kvroute_pod_info", "1, with the pod's role and cache domain.", info)?;
    let trust = pods.iter().flat_map(|pod| {
        TrustLevel::ALL.into_iter().map(|level| {
            let name = level.name();
            (pod.labels_and("trust", name), one_if(name == pod.status.trust))
        })
    });
    let help =
        "1 for how far the pod's view is to be believed (exact, degraded, approximate, load-only), else 0.";
    sheet.gauges("kvroute_pod_trust", help, trust)?;
    let ignored = pods.iter().flat_map(|pod| {
        let counts = IgnoreReason::ALL.into_iter().zip(&pod.status.stream.ignored);
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| (pod.labels_and("reason", reason.name()), *count))
    });
    let help = "KV events and batches that were left out, by why; reasons without any are not shown.";
    sheet.counters("kvroute_events_ignored", help, ignored)?;
    let audit = pods.iter().flat_map(|pod| {
        let audit = &pod.status.audit;
        let results = [
            ("agreed", audit.agreed),
            ("overestimated", audit.overestimated),
            ("underestimated", audit.underestimated),
        ];
        results.map(|(result, count)| (pod.labels_and("result", result), count))
    });
    let help = "Requests whose engine told what it had cached, by how that compares with what was expected.";
    sheet.counters("kvroute_audited_requests", help, audit)
}

const STATES: [(&str, PodState); 5] = [
    ("learning", PodState::Learning),
    ("ready", PodState::Ready),
    ("silent", PodState::Silent),
    ("unusable", PodState::Unusable),
    ("draining", PodState::Draining),
];

fn states(sheet: &mut Sheet<'_>, fleet: &FleetStatus) -> fmt::Result {
    let states = fleet.pods.iter().take(MAX_PODS).flat_map(|pod| {
        STATES.map(|(name, state)| {
            (vec![("pod", pod.name.as_str()), ("state", name)], one_if(state == pod.state))
        })
    });
    let help = "1 for what the pod is at (learning, ready, silent, unusable, draining), else 0.";
    sheet.gauges("kvroute_pod_state", help, states)
}

fn scrapes(sheet: &mut Sheet<'_>, fleet: &FleetStatus) -> fmt::Result {
    let pods = || fleet.pods.iter().take(MAX_PODS);
    let results = pods().flat_map(|pod| {
        let counts = &pod.scrapes;
        [("report", counts.reports), ("no-report", counts.without_report), ("failed", counts.failures)]
            .map(|(result, count)| (vec![("pod", pod.name.as_str()), ("result", result)], count))
    });
    let help = "Scrapes of the pod's metrics: report, no-report (answered without one), failed.";
    sheet.counters("kvroute_scrapes", help, results)?;
    let seconds = pods().filter_map(|pod| Some((vec![("pod", pod.name.as_str())], pod.scrapes.seconds?)));
    sheet.gauges("kvroute_scrape_seconds", "What the last scrape of the pod took.", seconds)
}
