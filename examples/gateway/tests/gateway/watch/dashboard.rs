//! The Grafana dashboard and the alert rules: they ask for nothing that the gateway does not tell.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::load::{conversations, fleet};
use super::metrics::Page;

pub(super) fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "grafana", name].iter().collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).expect(name)
}

/// Every panel's title and expressions.
pub(super) fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&read("kvroute.json")).expect("it is JSON");
    let panels =
        dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    panels
        .map(|panel| {
            let targets = panel["targets"].as_array().expect("targets");
            (text(&panel["title"]), targets.iter().map(|target| text(&target["expr"])).collect())
        })
        .collect()
}

/// Names of series in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_series = |word: &&str| word.starts_with("kvroute_") || word.starts_with("process_");
    words.filter(is_series).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_series_that_is_asked_for_exists() {
    let (_pods, running) = fleet(1, "").await;
    conversations(running.address, 0, 1).await;
    let told = Page::of(&running).await.sample_names();
    for (title, expressions) in panels() {
        assert!(!expressions.is_empty(), "{title}");
        for expression in expressions {
            let names = names(&expression);
            assert!(!names.is_empty(), "{title}: {expression}");
            assert!(names.is_subset(&told), "{title}: {:?}", names.difference(&told));
        }
    }
    let rules = read("kvroute-alerts.yml");
    let asked: BTreeSet<String> =
        rules.lines().filter(|line| !line.starts_with('#')).flat_map(names).collect();
    assert!(asked.len() > 5 && asked.is_subset(&told), "{:?}", asked.difference(&told));
}

#[test]
fn the_founding_panels_come_first_and_panels_have_their_places() {
    let titles: Vec<String> = panels().into_iter().map(|(title, _)| title).collect();
    let founding =
        ["Cache hit rate per pod", "Routing distribution", "Latency by cache status", "Scoring decisions"];
    assert_eq!(titles[..4], founding);
    let dashboard: Value = serde_json::from_str(&read("kvroute.json")).expect("it is JSON");
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64()), "{}", panel["title"]);
        let at = |key: &str| panel["gridPos"][key].as_u64().expect(key);
        for x in at("x")..at("x") + at("w") {
            assert!(x < 24, "{}", panel["title"]);
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
    }
}
