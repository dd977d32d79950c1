//! `/metrics`: what is told, and that it is true.

use std::collections::{BTreeMap, BTreeSet};

use super::load::{conversations, failing, fleet, text};
use crate::client::{get, post};
use crate::pod::{Pod, completion};
use crate::setup::Running;

/// A page of metrics, read as Prometheus does, as far as it needs to be.
pub(super) struct Page {
    /// By name: type and help.
    pub(super) metrics: BTreeMap<String, (String, String)>,
    /// Name, labels, value.
    pub(super) samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Page {
    pub(super) async fn of(running: &Running) -> Self {
        let got = get(running.address, "/metrics").await;
        assert_eq!(got.status, 200);
        assert!(got.header("content-type").unwrap().starts_with("application/openmetrics-text"));
        Self::parse(&String::from_utf8(got.body).expect("it is text"))
    }

    fn parse(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"));
        let (mut metrics, mut samples) = (BTreeMap::<String, (String, String)>::new(), Vec::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                let before = metrics.insert(name.into(), (String::new(), help.into()));
                assert!(before.is_none(), "{name} is there twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                metrics.get_mut(name).expect(line).0 = kind.into();
            } else if !line.starts_with('#') {
                samples.push(sample(line));
            }
        }
        let mut series = BTreeSet::new();
        for (name, labels, _) in &samples {
            assert!(series.insert((name, labels)), "{name} {labels:?} is there twice");
        }
        Self { metrics, samples }
    }

    /// The sum of all series of this name that have these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value))
        };
        self.samples
            .iter()
            .filter(|(found, with, _)| found == name && has(with))
            .map(|(_, _, value)| value)
            .sum()
    }

    /// Names of samples: metrics, with the endings that their types give them.
    pub(super) fn sample_names(&self) -> BTreeSet<String> {
        let endings = |kind: &str| match kind {
            "counter" => &["_total"][..],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let names = self.metrics.iter();
        names
            .flat_map(|(name, (kind, _))| endings(kind).iter().map(move |end| format!("{name}{end}")))
            .collect()
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}').expect(line);
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect(line) {
                (_, '\\') => value.push(chars.next().expect(line).1),
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.trim_start_matches(',').to_owned(), value);
        rest = &after[end + 1..];
    }
    (name.to_owned(), labels, value.parse().expect(line))
}

#[tokio::test]
async fn what_engines_had_cached_is_told_beside_what_was_expected() {
    let (pods, running) = fleet(2, "").await;
    let sent = conversations(running.address, 0, 3).await;
    failing(running.address).await;
    running.wait_for_outcomes(sent + 1).await;
    let page = Page::of(&running).await;
    let tokens = |name: &str| page.sum(name, &[]);
    let prompts = 3.0 * (4.0 * 320.0 + 160.0 * 10.0);
    assert_eq!(tokens("kvroute_prompt_tokens_total"), prompts);
    assert_eq!(tokens("kvroute_confirmed_prompt_tokens_total"), prompts);
    let cached = tokens("kvroute_confirmed_cached_tokens_total");
    assert!(cached > 0.5 * prompts, "conversations find their history: {cached} of {prompts}");
    let expected = tokens("kvroute_confirmed_expected_tokens_total");
    assert!(expected > 0.0 && expected <= cached, "events trail the engine: {expected} of {cached}");
    assert_eq!(page.sum("kvroute_requests_total", &[("status", "200"), ("model", "m")]), sent as f64);
    assert_eq!(page.sum("kvroute_requests_total", &[("status", "502"), ("endpoint", "completions")]), 1.0);
    assert_eq!(page.sum("kvroute_retries_total", &[]), 2.0, "each of the two pods failed it");
    assert_eq!(page.sum("kvroute_requests_in_flight", &[]), 0.0);
    assert_eq!(page.sum("kvroute_routed_total", &[("role", "decode")]), sent as f64 + 1.0);
    assert_eq!(page.sum("kvroute_overhead_seconds_count", &[]), sent as f64 + 1.0);
    assert_eq!(page.sum("kvroute_decision_margin_count", &[]), sent as f64, "the last pod had no competitor");
    assert_eq!(page.sum("kvroute_first_byte_seconds_count", &[]), sent as f64);
    assert!(page.sum("kvroute_first_byte_seconds_count", &[("cache", "partial")]) > 0.0);
    let mut told = 0;
    for pod in &pods {
        let name = pod.name();
        let of = |metric: &str, key: &str, value: &str| page.sum(metric, &[("pod", &name), (key, value)]);
        assert_eq!(of("kvroute_pod_state", "state", "ready"), 1.0);
        assert_eq!(of("kvroute_pod_state", "state", "silent"), 0.0);
        // One that nothing was sent to has told nothing yet.
        let has_told = page.sum("kvroute_event_batches_total", &[("pod", &name)]) > 0.0;
        told += usize::from(has_told);
        assert_eq!(of("kvroute_pod_trust", "trust", if has_told { "exact" } else { "approximate" }), 1.0);
        assert_eq!(page.sum("kvroute_pod_blocks", &[("pod", &name)]) > 0.0, has_told);
        assert!(page.sum("kvroute_stream_connected", &[("pod", &name)]) == 1.0);
        let has_lag = page.samples.iter().any(|(metric, labels, lag)| {
            metric == "kvroute_stream_lag_seconds" && labels["pod"] == name && (-1.0..5.0).contains(lag)
        });
        assert!(has_lag || !has_told);
    }
    assert!(told > 0);
}

#[tokio::test]
async fn clients_that_leave_and_models_that_nobody_serves_are_counted() {
    let pod = Pod::answering(completion(0).after(5_000)).await;
    let running = Running::start(&[pod.url()], "").await;
    let request =
        tokio::spawn(post(running.address, "/v1/completions", r#"{"model": "m", "prompt": [1, 2]}"#));
    crate::setup::until("the pod has it", || pod.seen().len() == 1).await;
    assert_eq!(Page::of(&running).await.sum("kvroute_requests_in_flight", &[]), 1.0);
    request.abort();
    running.wait_for_outcomes(1).await;
    for model in ["made-up-1", "made-up-2"] {
        let body = format!(r#"{{"model": "{model}", "prompt": [1]}}"#);
        assert_eq!(post(running.address, "/v1/completions", &body).await.status, 404);
    }
    running.wait_for_outcomes(3).await;
    let page = Page::of(&running).await;
    assert_eq!(page.sum("kvroute_disconnects_total", &[]), 1.0);
    assert_eq!(page.sum("kvroute_requests_in_flight", &[]), 0.0);
    assert_eq!(page.sum("kvroute_requests_total", &[("status", "404"), ("model", "")]), 2.0);
}

#[tokio::test]
async fn the_readme_lists_every_metric_as_it_is() {
    let (_pods, running) = fleet(1, "").await;
    conversations(running.address, 0, 1).await;
    text(running.address).await;
    let page = Page::of(&running).await;
    let told: BTreeMap<_, _> = page
        .metrics
        .iter()
        .map(|(name, (kind, help))| {
            let name = if kind == "counter" { format!("{name}_total") } else { name.clone() };
            (name, (kind.clone(), help.clone()))
        })
        .collect();
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("there is one");
    let rows = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|row| row.starts_with("kvroute_") || row.starts_with("process_"))
        // Only a gateway that shares has these; the tests with a Redis look at them.
        .filter(|row| !row.starts_with("kvroute_shared_"));
    let listed: BTreeMap<_, _> = rows
        .map(|row| {
            let mut cells = row.trim_end_matches(" |").splitn(4, " | ");
            let mut next = || cells.next().unwrap_or_default().to_owned();
            let (name, kind, labels, help) = (next(), next(), next(), next());
            let name = name.trim_end_matches('`').to_owned();
            let labels: BTreeSet<String> = labels
                .split(", ")
                .map(|label| label.trim_matches('`').to_owned())
                .filter(|label| !label.is_empty())
                .collect();
            (name, (kind, help, labels))
        })
        .collect();
    let names = |keys: Vec<&String>| keys.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(told.keys().collect()), names(listed.keys().collect()));
    for (name, (kind, help)) in &told {
        assert_eq!((kind, help), (&listed[name].0, &listed[name].1), "{name}");
    }
    for (name, labels, _) in &page.samples {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let row = listed.get(name).or_else(|| base.and_then(|base| listed.get(base))).expect(name);
        let found: BTreeSet<String> = labels.keys().filter(|label| *label != "le").cloned().collect();
        assert_eq!(found, row.2, "{name}");
    }
}

#[tokio::test]
async fn what_is_switched_off_is_not_there() {
    let pod = Pod::answering(completion(0)).await;
    let running = Running::start(&[pod.url()], "watch: {metrics: false, page: false}").await;
    for path in ["/metrics", "/", "/page.js", "/status.json", "/decisions/0"] {
        assert_eq!(get(running.address, path).await.status, 404, "{path}");
    }
    let running = Running::start(&[pod.url()], "watch: {page: false}").await;
    assert_eq!(get(running.address, "/metrics").await.status, 200);
    assert_eq!(post(running.address, "/metrics", "").await.status, 405);
}
