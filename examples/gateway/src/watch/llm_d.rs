//! The same figures by the names that llm-d's endpoint picker gives them (llm-d-router ebab687), and the older ones of the
//! Gateway API Inference Extension, for dashboards and alerts made for it. What it has and this has no figure for is left
//! out: sizes of bodies, histograms of token counts, flow control. Times have the label `cache` in place of the model's.

use std::fmt;

use kvroute_core::router::{PodStatus, RouterStatus};

use super::MAX_PODS;
use super::sheet::{Labels, Sheet};
use super::tallies::{CACHES, Tallies};

/// What the label of the pool says: there is one.
const POOL: &str = "kvroute";

/// A mean over pods: its names, and where a pod's value is.
type Mean = ([&'static str; 2], fn(&PodStatus) -> Option<f64>);

const MEANS: [Mean; 3] = [
    (["llm_d_epp_average_kv_cache_utilization", "inference_pool_average_kv_cache_utilization"], |pod| {
        pod.load.map(|load| f64::from(load.kv_usage))
    }),
    (["llm_d_epp_average_queue_size", "inference_pool_average_queue_size"], |pod| {
        pod.load.map(|load| f64::from(load.waiting))
    }),
    (["llm_d_epp_average_running_requests", "inference_pool_average_running_requests"], |pod| {
        pod.load.map(|load| f64::from(load.running))
    }),
];

pub(super) fn encode(sheet: &mut Sheet<'_>, tallies: &Tallies, router: &RouterStatus) -> fmt::Result {
    requests(sheet, tallies)?;
    times(sheet, tallies)?;
    pool(sheet, router)
}

fn requests(sheet: &mut Sheet<'_>, tallies: &Tallies) -> fmt::Result {
    let counts = tallies.counts.lock();
    let mut all: Vec<(&str, u64)> = Vec::new();
    let mut errors: Vec<(&str, String, u64)> = Vec::new();
    for ((_, model, status), count) in &counts.requests {
        match all.iter_mut().find(|(name, _)| *name == &**model) {
            Some((_, sum)) => *sum += count,
            None => all.push((model, *count)),
        }
        if !(200..400).contains(status) {
            errors.push((model, status.to_string(), *count));
        }
    }
    fn of_model(model: &str) -> Labels<'_> {
        vec![("model_name", model), ("target_model_name", model)]
    }
    for name in ["llm_d_epp_request", "inference_objective_request"] {
        let series = all.iter().map(|(model, count)| (of_model(model), *count));
        sheet.counters(name, "Requests that ended, by model.", series)?;
    }
    // Of one model and status there may be several endpoints.
    errors.sort_unstable();
    errors.dedup_by(|next, kept| {
        let is_one = (next.0, &next.1) == (kept.0, &kept.1);
        kept.2 += if is_one { next.2 } else { 0 };
        is_one
    });
    for name in ["llm_d_epp_request_error", "inference_objective_request_error"] {
        let series = errors.iter().map(|(model, status, count)| {
            let mut labels = of_model(model);
            labels.push(("error_code", status));
            (labels, *count)
        });
        sheet.counters(name, "Those without a good answer, by its status; 0: the client left.", series)?;
    }
    for name in ["llm_d_epp_request_running", "inference_objective_running_requests"] {
        sheet.gauge(name, "Requests that began and have not ended.", tallies.in_flight() as f64)?;
    }
    Ok(())
}

fn times(sheet: &mut Sheet<'_>, tallies: &Tallies) -> fmt::Result {
    let by_cache = |histograms| CACHES.iter().map(|cache| vec![("cache", cache.name())]).zip(histograms);
    for name in ["llm_d_epp_request_duration_seconds", "inference_objective_request_duration_seconds"] {
        sheet.histograms(name, "kvroute_request_duration_seconds.", by_cache(&tallies.duration))?;
    }
    for name in ["llm_d_epp_request_ttft_seconds", "inference_objective_request_ttft_seconds"] {
        sheet.histograms(name, "kvroute_first_byte_seconds.", by_cache(&tallies.first_byte))?;
    }
    for name in
        ["llm_d_epp_scheduler_e2e_duration_seconds", "inference_extension_scheduler_e2e_duration_seconds"]
    {
        sheet.histograms(name, "kvroute_overhead_seconds.", [(Vec::new(), &tallies.overhead)])?;
    }
    Ok(())
}

fn pool(sheet: &mut Sheet<'_>, router: &RouterStatus) -> fmt::Result {
    let accepting = router.pods.iter().filter(|pod| pod.accepting).count() as f64;
    for name in ["llm_d_epp_ready_endpoints", "inference_pool_ready_pods"] {
        sheet.gauges(name, "Pods that take requests.", [(vec![("name", POOL)], accepting)])?;
    }
    for (names, value) in MEANS {
        let values: Vec<f64> = router.pods.iter().filter_map(value).collect();
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        for name in names {
            let help = "Mean over the pods that reported their load.";
            sheet.gauges(name, help, [(vec![("name", POOL)], mean)])?;
        }
    }
    for name in ["llm_d_epp_per_endpoint_queue_size", "inference_pool_per_pod_queue_size"] {
        let pods = router.pods.iter().take(MAX_PODS).filter_map(|pod| {
            let labels = vec![("name", POOL), ("model_server_pod", pod.name.as_str())];
            Some((labels, f64::from(pod.load?.waiting)))
        });
        sheet.gauges(name, "Requests that wait in the pod, by its last load report.", pods)?;
    }
    Ok(())
}
