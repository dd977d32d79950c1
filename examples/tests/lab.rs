//! The comparison of policies: complete, the same however it is spread, and readable by those who read it.

use std::collections::BTreeSet;

use kvroute_examples::lab::{
    Baseline, Candidate, LOADS, Lab, Metric, Part, Plan, Verdict, WORKLOADS, Workload, committed_trace,
    default_preset, report,
};

/// Names of the verdict that others read.
const KEYS: [&str; 6] = [
    "default_preset",
    "h200_table_max_error",
    "never_worse_than_least_loaded",
    "worst_hit_rate_gap_to_best",
    "worst_ttft_p50_ratio_to_best",
    "worst_ttft_p99_ratio_to_best",
];

fn plan(workloads: &[&str], candidates: Vec<Candidate>, threads: usize) -> Plan {
    let is_asked = |workload: &Workload| workloads.is_empty() || workloads.contains(&workload.name);
    let busy = |workload: Workload| {
        let rate = workload.rates[1];
        Part { workload, loads: vec![(LOADS[1].to_owned(), rate)] }
    };
    Plan {
        parts: WORKLOADS.into_iter().filter(is_asked).map(busy).collect(),
        candidates,
        seeds: 3,
        size: 0.03,
        threads,
        trace: committed_trace().unwrap(),
        experiment: false,
        logs: None,
    }
}

/// Without the only thing that is measured in real time.
fn timeless(mut lab: Lab) -> Lab {
    let rows = lab.cells.iter_mut().flat_map(|cell| &mut cell.rows);
    for routing in rows.flat_map(|row| &mut row.runs).filter_map(|run| run.routing.as_mut()) {
        (routing.overhead_us_p50, routing.overhead_us_p99) = (0.0, 0.0);
    }
    lab
}

#[test]
fn every_policy_runs_on_every_workload_and_no_request_is_lost() {
    let lab = plan(&[], Candidate::all(), 2).run(|| {}).unwrap();
    assert_eq!(lab.cells.len(), WORKLOADS.len());
    for cell in &lab.cells {
        assert_eq!(cell.rows.len(), Candidate::all().len());
        for row in &cell.rows {
            let name = format!("{} on {}", row.policy, cell.workload);
            assert_eq!((row.runs.len(), row.failed), (3, 0), "{name}");
            for run in &row.runs {
                assert!((0.0..=1.0).contains(&run.hit_rate), "{name}: {}", run.hit_rate);
                assert!(run.ttft_p50 > 0.0 && run.ttft_p50 <= run.ttft_p90 && run.ttft_p90 <= run.ttft_p99);
                assert!(run.busy_spread >= 1.0 && run.request_spread >= 1.0, "{name}");
                assert_eq!(run.routing.is_some(), row.is_kvroute);
            }
        }
        assert!(cell.rows.iter().any(|row| row.is_on_front));
        for metric in Metric::ALL {
            assert!(cell.rows.iter().any(|row| row.figure(metric).is_best));
            assert!(cell.rows.iter().all(|row| row.figure(metric).is_tied || !row.figure(metric).is_best));
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        let mut calls = 0;
        let plan = plan(&["chat", "death", "split"], Candidate::all(), threads);
        let lab = plan.run(|| calls += 1).unwrap();
        assert_eq!(calls, plan.work());
        timeless(lab)
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn the_verdict_has_the_promised_keys_and_null_for_what_did_not_run() {
    let keys = |lab: &Lab| {
        let value = serde_json::to_value(Verdict::of(lab)).unwrap();
        let keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys.iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(KEYS));
        value
    };
    let full = keys(&plan(&["unique", "hot-prefix"], Candidate::all(), 2).run(|| {}).unwrap());
    assert_eq!(full["default_preset"], default_preset().unwrap());
    assert!(full["worst_ttft_p50_ratio_to_best"].as_f64().unwrap() >= 1.0);
    assert!(full["worst_hit_rate_gap_to_best"].as_f64().unwrap() >= 0.0);
    assert!(full["never_worse_than_least_loaded"].is_boolean());
    assert!(full["h200_table_max_error"].is_null());
    let without = vec![Candidate::from(Baseline::Random)];
    let without = keys(&plan(&["hot-prefix"], without, 2).run(|| {}).unwrap());
    assert!(
        without["never_worse_than_least_loaded"].is_null()
            && without["worst_ttft_p99_ratio_to_best"].is_null()
    );
}

#[test]
fn a_configuration_is_a_policy_of_its_own_and_a_bad_one_is_refused() {
    let document = "policy: {decode: {scorers: {load: {weight: 1}}}}";
    let candidates = vec![
        Candidate::from_yaml("load-alone", document).unwrap(),
        Candidate::from(Baseline::LeastLoaded),
        Candidate::from(Baseline::SessionHash),
    ];
    // Where pods are split, the configuration says nothing of pods that prefill.
    let lab = Plan { size: 0.15, ..plan(&["chat", "split"], candidates, 2) }.run(|| {}).unwrap();
    let hits = |policy| lab.cells[0].row(policy).unwrap().mean(Metric::HitRate);
    assert!((hits("load-alone") - hits("least-loaded")).abs() < 0.05, "it knows no caches either");
    assert!(hits("session-hash") > hits("load-alone") + 0.05);
    let error = Candidate::from_yaml("bad", "policy: {decode: {scorers: {laod: {weight: 1}}}}").unwrap_err();
    assert!(error.to_string().contains("laod"), "{error}");
}

#[test]
fn nothing_to_compare_is_an_error() {
    assert!(plan(&[], Vec::new(), 1).run(|| {}).is_err());
    assert!(plan(&["no such workload"], Candidate::all(), 1).run(|| {}).is_err());
}

#[test]
fn the_report_is_one_file_that_loads_nothing() {
    let mut candidates = Candidate::all();
    candidates.push(Candidate::from_yaml("<b>&\"", "{}").unwrap());
    let lab = plan(&["chat", "unique", "trace"], candidates, 2).run(|| {}).unwrap();
    let page = report::html(&lab, "about <this>").unwrap();
    for name in ["chat", "unique", "trace", "least-loaded", "chwbl", "prefers-color-scheme: dark"] {
        assert!(page.contains(name), "{name}");
    }
    // A namespace is a name, not an address.
    let rest = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for loading in ["http:", "https:", "src=", "url(", "@import", "<script", "<link", "<img", "href=\"/"] {
        assert!(!rest.contains(loading), "{loading}");
    }
    assert!(!page.contains("<b>&\"") && page.contains("&lt;b&gt;&amp;&quot;"), "names are escaped");
    assert!(!page.contains("#010203") && page.contains("currentColor"), "text follows the theme");

    let folder = folder();
    let files = report::pictures(&lab, &folder).unwrap();
    assert_eq!(files.len(), 2);
    for file in files {
        assert!(std::fs::read(&file).unwrap().starts_with(b"\x89PNG\r\n"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A folder that nobody else uses.
fn folder() -> std::path::PathBuf {
    std::env::temp_dir().join(format!("kvroute-lab-{}", std::process::id()))
}
